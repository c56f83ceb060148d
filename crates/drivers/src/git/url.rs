//! What may be fetched from, how it is shown, and whether it lies on this machine.

use camino::Utf8PathBuf;
use trueup_model::port::GitError;

/// `scheme://user@host/…`: the three parts around the user.
fn split(url: &str) -> Option<(&str, Option<&str>, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let (authority, _) = rest.split_once('/').unwrap_or((rest, ""));
    match authority.rsplit_once('@') {
        Some((user, _)) => Some((scheme, Some(user), rest.get(user.len() + 1..)?)),
        None => Some((scheme, None, rest)),
    }
}

/// The URL without user and password: what may be logged and printed.
pub fn shown(url: &str) -> String {
    match split(url) {
        Some((scheme, Some(_), rest)) => format!("{scheme}://{rest}"),
        _ => url.to_owned(),
    }
}

/// Refuses what would put a secret into the arguments of a process, where every
/// user of the machine reads it (git hands the URL to its helpers that way).
pub(super) fn check(url: &str) -> Result<(), GitError> {
    let why = if url.trim().is_empty() {
        "it is empty"
    } else if url.starts_with('-') {
        "it begins with a dash"
    } else if url.contains(['\n', '\r', '\0']) {
        "it holds a line break"
    } else if url.split_once("::").is_some_and(|(helper, _)| {
        !helper.is_empty()
            && helper
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '-')
    }) {
        "remote helpers (`NAME::…`) run commands and are not used"
    } else if split(url).is_some_and(|(_, user, _)| user.is_some_and(|user| user.contains(':'))) {
        "it holds a password; give it to git by a credential helper instead"
    } else {
        return Ok(());
    };
    Err(GitError::Url { why })
}

/// The path, where the repository lies on this machine.
pub(super) fn local_path(url: &str) -> Option<Utf8PathBuf> {
    if let Some(path) = url.strip_prefix("file://") {
        // file://localhost/srv/x is the same as file:///srv/x.
        let path = path.strip_prefix("localhost").unwrap_or(path);
        return path.starts_with('/').then(|| path.into());
    }
    if url.contains("://") {
        return None;
    }
    // As git reads it: `host:path` is SSH, unless a slash stands before the colon.
    let colon = url.find(':');
    let slash = url.find('/');
    match (colon, slash) {
        (Some(colon), Some(slash)) if colon < slash => None,
        (Some(_), None) => None,
        _ => Some(url.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_passed_on_or_shown() {
        for (url, shows) in [
            ("https://x:secret@h/r.git", "https://h/r.git"),
            ("https://secret@h:8443/r.git", "https://h:8443/r.git"),
            ("https://a@b:secret@h", "https://h"),
            ("https://h/a@b", "https://h/a@b"),
            ("git@h:r.git", "git@h:r.git"),
            ("/srv/r.git", "/srv/r.git"),
        ] {
            assert_eq!(shown(url), shows);
        }
        for url in [
            "https://x:secret@h/r.git",
            "ssh://git:secret@h/r",
            "",
            " ",
            "--upload-pack=touch x",
            "ext::sh -c x",
            "a\nb",
        ] {
            let error = check(url).unwrap_err();
            assert!(!error.to_string().contains("secret@"), "{error}");
        }
        for url in [
            "https://h/r.git",
            "https://user@h/r.git",
            "git@h:r.git",
            "ssh://git@h:22/r",
            "/srv/a::b",
            "file:///srv/x",
            "./r",
        ] {
            check(url).unwrap();
        }
    }

    #[test]
    fn local_is_told_from_remote() {
        for (url, path) in [
            ("/srv/r.git", Some("/srv/r.git")),
            ("r", Some("r")),
            ("./a:b", Some("./a:b")),
            ("file:///srv/r", Some("/srv/r")),
            ("file://localhost/srv/r", Some("/srv/r")),
            ("file://other/srv/r", None),
            ("h:r.git", None),
            ("git@h:a/b", None),
            ("https://h/r", None),
        ] {
            assert_eq!(
                local_path(url).as_deref().map(|p| p.as_str()),
                path,
                "{url}"
            );
        }
    }
}
