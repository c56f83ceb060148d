//! "Did you mean": the nearest of the names that exist.

/// The known name nearest to `word`, if one is near enough to be meant.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    // A third of the letters may be wrong; a single one in short words.
    let limit = (word.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|name| (distance(&word, &name.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, name)| name)
}

/// `did you mean …?`, or the list of what there is when that is short.
pub(super) fn suggestion<'a>(
    word: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    const LISTED_MAX: usize = 12;
    let known: Vec<&str> = known.into_iter().collect();
    if let Some(name) = nearest(word, known.iter().copied()) {
        return Some(format!("did you mean `{name}`?"));
    }
    if known.is_empty() || known.len() > LISTED_MAX {
        return None;
    }
    let names: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
    Some(format!("there is: {}", names.join(", ")))
}

/// Edits (insert, delete, replace, swap of neighbours) from one word to the other.
pub(super) fn distance(a: &str, b: &str) -> usize {
    /// Longer words are never slips of the other.
    const CHARS_MAX: usize = 64;
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len() > CHARS_MAX || b.len() > CHARS_MAX {
        return usize::MAX;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    let at = |row: &[usize], j: usize| row.get(j).copied().unwrap_or(usize::MAX / 2);
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut cost = (at(&last, j) + usize::from(x != y))
                .min(at(&last, j + 1) + 1)
                .min(at(&row, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            if swapped {
                cost = cost.min(at(&before, j - 1) + 1);
            }
            row.push(cost);
        }
        before = std::mem::replace(&mut last, row);
    }
    at(&last, b.len())
}

#[cfg(test)]
mod tests {
    use super::{distance, nearest};

    #[test]
    fn slips_are_one_edit_away() {
        for (a, b, expected) in [
            ("a", "a", 0),
            ("", "abc", 3),
            ("adress", "address", 1),
            ("lable", "label", 1),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
        let fields = ["connection", "cluster", "role", "labels"];
        assert_eq!(nearest("conection", fields), Some("connection"));
        assert_eq!(nearest("Labels", fields), Some("labels"));
        assert_eq!(nearest("zone", fields), None);
    }
}
