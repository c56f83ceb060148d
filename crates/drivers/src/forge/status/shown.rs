//! A verdict as it stands on a forge: within the limits of the strictest.

use sha2::{Digest as _, Sha256};
use trueup_model::id::hex;
use trueup_model::verdict::{DESCRIPTION_CHARS_MAX, Verdict, cut};

/// GitHub answers 422 to a longer context.
const CONTEXT_CHARS_MAX: usize = 255;
/// Hex digits of the digest that keeps shortened contexts apart.
const DIGEST_CHARS: usize = 12;

/// The verdict as both forges give it back: Gitea trims texts, GitHub refuses long
/// ones, and control characters have no place on a page.
pub(super) fn verdict(verdict: &Verdict) -> Verdict {
    let plain: String = verdict
        .description
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    Verdict {
        context: context(&verdict.context),
        description: cut(plain.trim(), DESCRIPTION_CHARS_MAX).trim().to_owned(),
        ..verdict.clone()
    }
}

/// The context; a long one keeps its beginning and gets a digest of the whole.
pub(super) fn context(context: &str) -> String {
    if context.chars().count() <= CONTEXT_CHARS_MAX {
        return context.to_owned();
    }
    let digest = hex(&Sha256::digest(context.as_bytes()));
    let short = |text: &str, count| text.chars().take(count).collect::<String>();
    format!(
        "{}-{}",
        short(context, CONTEXT_CHARS_MAX - DIGEST_CHARS - 1),
        short(&digest, DIGEST_CHARS)
    )
}

/// A link is followed by people who click on it.
pub(super) fn check_link(link: &str) -> Result<(), String> {
    let sample = link.replace("{commit}", &"0".repeat(40));
    let wrong = |why: &str| Err(format!("link: {link:?} {why}"));
    match reqwest::Url::parse(&sample) {
        Err(error) => wrong(&error.to_string()),
        Ok(url) if !matches!(url.scheme(), "https" | "http") => {
            wrong("is neither https:// nor http://")
        }
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            wrong("holds a user or password, which everybody would see")
        }
        Ok(_) if sample.contains(['{', '}']) => wrong("has another placeholder than {commit}"),
        Ok(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use trueup_model::verdict::VerdictState;

    use super::*;

    #[test]
    fn long_contexts_stay_apart() {
        let (one, two) = ("a".repeat(300), "a".repeat(301));
        assert_eq!(context(&one).chars().count(), 255);
        assert_ne!(context(&one), context(&two));
        assert_eq!(context("trueup/home/plan"), "trueup/home/plan");
    }

    #[test]
    fn descriptions_are_trimmed_and_plain() {
        let commit: trueup_model::id::CommitId = "a".repeat(40).parse().unwrap();
        let said = Verdict {
            commit,
            context: "c".to_owned(),
            state: VerdictState::Success,
            description: format!(" a\u{1b}[31mb {}", "ü".repeat(200)),
        };
        let shown = verdict(&said);
        assert!(shown.description.starts_with("a [31mb ü"));
        assert_eq!(shown.description.chars().count(), 140);
        assert_eq!(verdict(&shown), shown);
    }

    #[test]
    fn links_are_checked() {
        assert!(check_link("https://ci.example.org/run/{commit}?x=1").is_ok());
        for bad in [
            "",
            "javascript:alert(1)",
            "https://u:p@example.org/",
            "https://example.org/{context}",
        ] {
            assert!(check_link(bad).is_err(), "{bad}");
        }
    }
}
