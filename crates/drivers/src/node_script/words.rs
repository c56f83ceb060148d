//! Values that go to a machine, checked before they are sent. The script checks
//! again; two locks, since its other side runs as root.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Why a value cannot be sent.
#[derive(Debug, thiserror::Error)]
#[error("{value:?} is not {wanted}")]
pub(super) struct BadWord {
    value: String,
    wanted: &'static str,
}

type Checked<'a> = Result<&'a str, BadWord>;

fn check<'a>(value: &'a str, wanted: &'static str, ok: bool) -> Checked<'a> {
    if ok {
        Ok(value)
    } else {
        Err(BadWord {
            value: value.chars().take(80).collect(),
            wanted,
        })
    }
}

/// `PATH_MAX` of Linux, with its NUL.
const PATH_BYTES_MAX: usize = 4095;
/// `NAME_MAX` (255) less `.trueup-`, a job's id (up to 66 bytes), `-` and `~` of the staged sibling.
const NAME_BYTES_MAX: usize = 175;

/// An absolute path without empty, `.` or `..` parts and without control characters.
pub(super) fn path(value: &str) -> Checked<'_> {
    let plain = !value.chars().any(char::is_control);
    let parts = value.strip_prefix('/').is_some_and(|rest| {
        rest.split('/')
            .all(|part| !part.is_empty() && part != "." && part != "..")
    });
    check(
        value,
        "an absolute path without '.', '..' and control characters",
        plain && parts && value.len() <= PATH_BYTES_MAX,
    )
}

/// A path that may be staged: its name leaves room for the sibling's.
pub(super) fn file_path(value: &str) -> Checked<'_> {
    let name = value.rsplit('/').next().unwrap_or("");
    check(
        path(value)?,
        "a path whose last part has at most 175 bytes",
        name.len() <= NAME_BYTES_MAX,
    )
}

/// A path or `/` itself, for questions about file systems.
pub(super) fn place(value: &str) -> Checked<'_> {
    if value == "/" { Ok(value) } else { path(value) }
}

/// 64 lower-case hex digits.
pub(super) fn digest(value: &str) -> Checked<'_> {
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    check(
        value,
        "a SHA-256 digest",
        value.len() == 64 && value.bytes().all(hex),
    )
}

/// Three or four octal digits.
pub(super) fn mode(value: &str) -> Checked<'_> {
    check(
        value,
        "a mode of three or four octal digits",
        (3..=4).contains(&value.len()) && value.bytes().all(|b| (b'0'..=b'7').contains(&b)),
    )
}

/// A user or group: a name as `useradd` takes it, or a number.
pub(super) fn account(value: &str) -> Checked<'_> {
    let ok = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'$');
    check(
        value,
        "a user or group name",
        (1..=64).contains(&value.len()) && !value.starts_with('-') && value.bytes().all(ok),
    )
}

/// A systemd unit with its suffix.
pub(super) fn unit(value: &str) -> Checked<'_> {
    let ok =
        |b: u8| b.is_ascii_alphanumeric() || matches!(b, b':' | b'-' | b'_' | b'.' | b'\\' | b'@');
    let suffix = value.rsplit_once('.').is_some_and(|(name, suffix)| {
        !name.is_empty()
            && [
                "service",
                "socket",
                "timer",
                "target",
                "mount",
                "automount",
                "path",
                "slice",
                "swap",
                "device",
                "scope",
            ]
            .contains(&suffix)
    });
    check(
        value,
        "a systemd unit with its suffix",
        value.len() <= 255 && suffix && !value.starts_with('-') && value.bytes().all(ok),
    )
}

/// The path below `/proc/sys` of a dotted setting, by the rule of sysctl(8): `.`
/// and `/` change places, so that `net.ipv4.conf.eth0/10.forwarding` names `eth0.10`.
pub(super) fn sysctl_path(key: &str) -> Result<String, BadWord> {
    let ok = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'/' | b':');
    let parts = key
        .split('.')
        .all(|part| !part.is_empty() && !part.starts_with('/'));
    check(
        key,
        "a kernel setting",
        key.len() <= 255 && parts && !key.contains("//") && key.bytes().all(ok),
    )?;
    Ok(key
        .chars()
        .map(|c| match c {
            '.' => '/',
            '/' => '.',
            other => other,
        })
        .collect())
}

/// A setting's value: one line.
pub(super) fn sysctl_value(value: &str) -> Checked<'_> {
    check(
        value,
        "one line of at most 1024 bytes",
        value.len() <= 1024 && !value.chars().any(|c| c.is_control() && c != '\t'),
    )
}

/// A holder's name: one line.
pub(super) fn holder(value: &str) -> Checked<'_> {
    check(
        value,
        "one line of 1 to 253 bytes",
        (1..=253).contains(&value.len()) && !value.chars().any(char::is_control),
    )
}

/// An epoch that the shell can compare: below 2^63.
pub(super) fn epoch(value: u64) -> Result<String, BadWord> {
    let text = value.to_string();
    check(&text, "an epoch below 2^63", i64::try_from(value).is_ok())?;
    Ok(text)
}

/// Base64 of a text.
pub(super) fn encode(text: &str) -> String {
    STANDARD.encode(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_sent() {
        for good in [
            "/a",
            "/etc/k3s/it's a \"file\"",
            "/etc/sys\\x2d.mount",
            "/ä/$(x)",
        ] {
            assert!(path(good).is_ok(), "{good}");
        }
        for bad in [
            "", "/", "a", "/a/", "//a", "/a/../b", "/a/.", "/a\nb", "/a\tb", "/a\0b",
        ] {
            assert!(path(bad).is_err(), "{bad:?}");
        }
        for good in ["k3s.service", "getty@tty1.service", "mnt-a\\x2db.mount"] {
            assert!(unit(good).is_ok(), "{good}");
        }
        for bad in [
            "k3s",
            "-x.service",
            ".service",
            "a b.service",
            "*.service",
            "a/b.service",
        ] {
            assert!(unit(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "8", "888", "0o644", "00644", "u+x"] {
            assert!(mode(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "-R", "a:b", "a b"] {
            assert!(account(bad).is_err(), "{bad:?}");
        }
        assert!(epoch(u64::MAX).is_err());
        assert!(file_path(&format!("/{}", "x".repeat(176))).is_err());
    }

    #[test]
    fn settings_become_paths() {
        for (key, want) in [
            ("net.core.somaxconn", "net/core/somaxconn"),
            (
                "net.ipv4.conf.eth0/10.rp_filter",
                "net/ipv4/conf/eth0.10/rp_filter",
            ),
        ] {
            assert_eq!(sysctl_path(key).unwrap(), want);
        }
        for bad in [
            "", "net..x", "net.", ".net", "net/../x", "a b", "/../x", "net.//.x",
        ] {
            // `net/../x` would become `net.//.x`: an empty part.
            assert!(sysctl_path(bad).is_err(), "{bad:?}");
        }
    }
}
