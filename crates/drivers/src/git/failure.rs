//! What git's words mean (2.39, `LC_MESSAGES=C`; ssh's and curl's come through it).

use camino::Utf8Path;
use trueup_model::port::GitError;

use super::url;
use crate::git_process::{GitEnd, one_line};

/// A part of git's words, and what it means.
enum Meaning {
    NotFound,
    NoRepository,
    Authentication,
    HostKey,
    Certificate,
    Unreachable,
    Protocol,
    Sha256,
    Shallow,
    Locked,
    Mirror,
    BadUrl,
}

/// In this order: the more special first.
const WORDS: &[(&str, Meaning)] = &[
    ("mismatched algorithms", Meaning::Sha256),
    ("shallow roots are not allowed", Meaning::Shallow),
    ("shallow update not allowed", Meaning::Shallow),
    ("attempt to fetch/clone from a shallow", Meaning::Shallow),
    ("Host key verification failed", Meaning::HostKey),
    ("REMOTE HOST IDENTIFICATION HAS CHANGED", Meaning::HostKey),
    ("Permission denied (", Meaning::Authentication),
    ("Too many authentication failures", Meaning::Authentication),
    ("Authentication failed", Meaning::Authentication),
    ("could not read Username", Meaning::Authentication),
    ("could not read Password", Meaning::Authentication),
    ("returned error: 401", Meaning::Authentication),
    ("returned error: 403", Meaning::Authentication),
    ("returned error: 404", Meaning::NotFound),
    ("returned error: 4", Meaning::Protocol),
    ("returned error: 5", Meaning::Unreachable),
    ("SSL certificate problem", Meaning::Certificate),
    (
        "server certificate verification failed",
        Meaning::Certificate,
    ),
    ("certificate subject name", Meaning::Certificate),
    ("Could not resolve host", Meaning::Unreachable),
    ("Name or service not known", Meaning::Unreachable),
    ("Temporary failure in name resolution", Meaning::Unreachable),
    ("unable to look up", Meaning::Unreachable),
    ("Connection refused", Meaning::Unreachable),
    ("Couldn't connect to server", Meaning::Unreachable),
    ("Failed to connect to", Meaning::Unreachable),
    ("No route to host", Meaning::Unreachable),
    ("Network is unreachable", Meaning::Unreachable),
    ("timed out", Meaning::Unreachable),
    ("unable to connect to", Meaning::Unreachable),
    ("Connection reset", Meaning::Unreachable),
    ("Connection closed by", Meaning::Unreachable),
    ("Empty reply from server", Meaning::Unreachable),
    (
        "does not appear to be a git repository",
        Meaning::NoRepository,
    ),
    ("not valid: is this a git repository", Meaning::NoRepository),
    ("' not found", Meaning::NotFound),
    ("Repository not found", Meaning::NotFound),
    ("does not exist", Meaning::NotFound),
    ("is not a git command", Meaning::BadUrl),
    ("not allowed", Meaning::BadUrl),
    ("File exists", Meaning::Locked),
    ("not a git repository: ", Meaning::Mirror),
    ("bad object refs/", Meaning::Mirror),
    ("invalid repository", Meaning::Mirror),
    ("attempt to reinitialize", Meaning::Mirror),
    ("remote error", Meaning::Protocol),
    ("early EOF", Meaning::Protocol),
    ("hung up unexpectedly", Meaning::Protocol),
    ("protocol error", Meaning::Protocol),
    ("bad line length", Meaning::Protocol),
    ("RPC failed", Meaning::Protocol),
    ("index-pack failed", Meaning::Protocol),
    ("unpack-objects failed", Meaning::Protocol),
    ("Could not read from remote repository", Meaning::Protocol),
];

/// The error of a command that spoke with the repository at `url`.
pub(super) fn of_remote(what: &str, mirror: &Utf8Path, url: &str, end: &GitEnd) -> GitError {
    let words = end.stderr.as_str();
    let shown = url::shown(url);
    if let Some(error) = of_disk(mirror, words) {
        return error;
    }
    if let Some(directory) = dubious(words) {
        let (url, directory) = (shown, directory.to_owned());
        return GitError::Ownership { url, directory };
    }
    let why = clean(&one_line(words), url);
    let found = WORDS.iter().find(|(part, _)| words.contains(part));
    let Some((_, meaning)) = found else {
        let what = what.to_owned();
        return GitError::Failed { what, why };
    };
    let path = mirror.to_string();
    match meaning {
        Meaning::NotFound => GitError::NotFound { url: shown },
        Meaning::NoRepository => missing_or_other(url),
        Meaning::Authentication => GitError::Authentication { url: shown, why },
        Meaning::HostKey => GitError::HostKey {
            url: shown,
            why: shown_key(words),
        },
        Meaning::Certificate => GitError::Certificate { url: shown, why },
        Meaning::Unreachable => GitError::Unreachable { url: shown, why },
        Meaning::Protocol => GitError::Protocol { url: shown, why },
        Meaning::Sha256 => GitError::Unsupported {
            url: shown,
            why: "its commits are named by SHA-256; use a SHA-1 repository",
        },
        Meaning::Shallow => GitError::Unsupported {
            url: shown,
            why: "it is a shallow clone; run `git fetch --unshallow` there",
        },
        Meaning::Locked => GitError::Locked { path, why },
        Meaning::Mirror => GitError::Mirror { path, why },
        Meaning::BadUrl => GitError::Url {
            why: "git has no way to fetch from it; use a path, ssh://, https:// or git://",
        },
    }
}

/// The error of a command that only touched the mirror.
pub(crate) fn of_mirror(what: &str, mirror: &Utf8Path, end: &GitEnd) -> GitError {
    let words = end.stderr.as_str();
    if let Some(error) = of_disk(mirror, words) {
        return error;
    }
    let (path, why) = (mirror.to_string(), one_line(words));
    for (part, meaning) in WORDS {
        match meaning {
            Meaning::Locked if words.contains(part) => return GitError::Locked { path, why },
            Meaning::Mirror if words.contains(part) => return GitError::Mirror { path, why },
            _ => {}
        }
    }
    let what = what.to_owned();
    GitError::Failed { what, why }
}

fn of_disk(mirror: &Utf8Path, words: &str) -> Option<GitError> {
    let path = mirror.to_string();
    if words.contains("No space left on device") || words.contains("Disk quota exceeded") {
        return Some(GitError::Full { path });
    }
    let read_only = words.contains("Read-only file system");
    let denied = words.contains("Permission denied") && words.contains(mirror.as_str());
    (read_only || denied).then(|| GitError::Mirror {
        path,
        why: one_line(words),
    })
}

/// A path that is there but holds no repository is another mistake than a wrong path.
fn missing_or_other(text: &str) -> GitError {
    let url = url::shown(text);
    if url::local_path(text).is_some_and(|path| path.exists()) {
        GitError::NotARepository { url }
    } else {
        GitError::NotFound { url }
    }
}

/// Out of ssh's banner: the key that the server showed.
fn shown_key(words: &str) -> String {
    let key = words
        .split_whitespace()
        .find(|word| word.starts_with("SHA256:"))
        .map(|word| word.trim_end_matches('.'));
    key.map_or_else(
        || "known_hosts has no key of it".to_owned(),
        |key| format!("it shows {key}, and known_hosts has another"),
    )
}

fn dubious(words: &str) -> Option<&str> {
    let (_, rest) = words.split_once("detected dubious ownership in repository at '")?;
    rest.split('\'').next()
}

/// git repeats URLs; those of ours it repeats without their user.
fn clean(words: &str, url: &str) -> String {
    words.replace(url, &url::shown(url))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning(url: &str, words: &str) -> String {
        let end = GitEnd {
            code: Some(128),
            stdout: Vec::new(),
            stderr: words.to_owned(),
        };
        let error = of_remote("fetch", Utf8Path::new("/m"), url, &end);
        let text = format!("{error:?}");
        text.split([' ', '{']).next().unwrap().to_owned()
    }

    /// Words as git 2.39, OpenSSH 9.2 and curl 7.88 say them.
    #[test]
    fn known_failures_are_told_apart() {
        let no_read = "fatal: Could not read from remote repository.\n\nPlease make sure you have the correct access rights\nand the repository exists.\n";
        let ssh = "ssh://git@h/x";
        let http = "https://h/x.git";
        for (url, words, wanted) in [
            (
                "/nonexistent",
                "fatal: '/nonexistent' does not appear to be a git repository\n",
                "NotFound",
            ),
            (
                "/",
                "fatal: '/' does not appear to be a git repository\n",
                "NotARepository",
            ),
            (
                ssh,
                "fatal: 'x' does not appear to be a git repository\n",
                "NotFound",
            ),
            (
                http,
                "fatal: repository 'https://h/x.git/' not found\n",
                "NotFound",
            ),
            (
                http,
                "fatal: Authentication failed for 'https://h/x.git/'\n",
                "Authentication",
            ),
            (
                http,
                "fatal: unable to access 'https://h/x.git/': The requested URL returned error: 403\n",
                "Authentication",
            ),
            (
                http,
                "fatal: could not read Username for 'https://h': terminal prompts disabled\n",
                "Authentication",
            ),
            (
                ssh,
                "git@h: Permission denied (publickey).\r\n",
                "Authentication",
            ),
            (ssh, "Host key verification failed.\r\n", "HostKey"),
            (
                http,
                "fatal: unable to access 'https://h/x.git/': SSL certificate problem: unable to get local issuer certificate\n",
                "Certificate",
            ),
            (
                http,
                "fatal: unable to access 'https://h/x.git/': server certificate verification failed. CAfile: none CRLfile: none\n",
                "Certificate",
            ),
            (
                http,
                "fatal: unable to access 'https://h/x.git/': Could not resolve host: h\n",
                "Unreachable",
            ),
            (
                http,
                "fatal: unable to access 'https://h/x.git/': Failed to connect to h port 443 after 0 ms: Couldn't connect to server\n",
                "Unreachable",
            ),
            (
                http,
                "fatal: unable to access 'https://h/x.git/': The requested URL returned error: 503\n",
                "Unreachable",
            ),
            (
                ssh,
                "ssh: connect to host h port 22: Connection refused\r\n",
                "Unreachable",
            ),
            (
                ssh,
                "ssh: Could not resolve hostname h: Name or service not known\r\n",
                "Unreachable",
            ),
            (
                "git://h/x",
                "fatal: unable to connect to h:\nh[0: 127.0.0.1]: errno=Connection refused\n",
                "Unreachable",
            ),
            (
                "/srv/x",
                "fatal: mismatched algorithms: client sha1; server sha256\n",
                "Unsupported",
            ),
            (
                "/srv/x",
                "warning: rejected refs/x because shallow roots are not allowed to be updated\n",
                "Unsupported",
            ),
            (
                "/srv/x",
                "fatal: remote error: upload-pack: not our ref 773eed98\n",
                "Protocol",
            ),
            (
                ssh,
                "fatal: early EOF\nfatal: index-pack failed\n",
                "Protocol",
            ),
            (
                "/srv/x",
                "fatal: unable to write loose object file: No space left on device\nfatal: unpack-objects failed\n",
                "Full",
            ),
            (
                "/srv/x",
                "fatal: detected dubious ownership in repository at '/srv/x/.git'\nTo add an exception\n",
                "Ownership",
            ),
            (
                "/srv/x",
                "error: cannot lock ref 'refs/x': Unable to create '/m/refs/x.lock': File exists.\n",
                "Locked",
            ),
            ("/srv/x", "fatal: not a git repository: '/m'\n", "Mirror"),
            (
                "/srv/x",
                "error: cannot lock ref 'refs/x': unable to create directory for /m/refs/x: Read-only file system\n",
                "Mirror",
            ),
            (
                "foo://h",
                "git: 'remote-foo' is not a git command. See 'git --help'.\n",
                "Url",
            ),
            ("/srv/x", "fatal: something new\n", "Protocol"),
        ] {
            assert_eq!(
                meaning(url, &format!("{words}{no_read}")),
                wanted,
                "{words}"
            );
        }
    }

    #[test]
    fn a_changed_host_key_is_shown() {
        let end = GitEnd {
            code: Some(128),
            stdout: Vec::new(),
            stderr: "@@@@@@\n@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nThe fingerprint for the ED25519 key sent by the remote host is\nSHA256:7XhV.\nHost key verification failed.\n".to_owned(),
        };
        let error = of_remote("fetch", Utf8Path::new("/m"), "ssh://h/x", &end).to_string();
        assert!(
            error.contains("shows SHA256:7XhV, and") && !error.contains('@'),
            "{error}"
        );
    }

    #[test]
    fn unknown_words_are_passed_on() {
        assert_eq!(meaning("/srv/x", "fatal: something new\n"), "Failed");
    }

    #[test]
    fn the_user_of_a_url_is_not_repeated() {
        let end = GitEnd {
            code: Some(128),
            stdout: Vec::new(),
            stderr: "fatal: odd 'https://token@h/x'\n".to_owned(),
        };
        let error = of_remote("fetch", Utf8Path::new("/m"), "https://token@h/x", &end);
        assert_eq!(error.to_string(), "git fetch failed: odd 'https://h/x'");
    }
}
