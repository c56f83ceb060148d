//! Small edits of the host configuration that leave every other byte as it is: an
//! address that may be sent to, a switch. Where a file is written in a way that these do
//! not know, nothing is written, and the person is shown the line.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use camino::Utf8Path;
use trueup_drivers::ssh::AllowList;
use trueup_model::document::{Node, Resolver, Style, Value, parse};

use super::file;
use crate::app::settings::Settings;
use crate::cli::Failure;

/// What came of an edit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Edited {
    /// It says so now.
    Written,
    /// It said so before.
    Already,
    /// Not written; why.
    ByHand(String),
}

/// Allow an address.
pub(crate) fn allow(config: &Utf8Path, address: &str) -> Result<Edited, Failure> {
    edit(config, |text| {
        let settings = Settings::parse(config, text).map_err(|error| error.to_string())?;
        if settings
            .allow
            .addresses
            .iter()
            .any(|known| known == address)
        {
            return Ok(None);
        }
        let new =
            with_address(text, address).ok_or("allow.addresses is written in a way of its own")?;
        let mut wanted = settings.allow.addresses.clone();
        wanted.push(address.to_owned());
        let read = Settings::parse(config, &new).map_err(|error| error.to_string())?;
        if read.allow.addresses == wanted {
            Ok(Some(new))
        } else {
            Err("allow.addresses is written in a way of its own".to_owned())
        }
    })
}

/// Whether a text can stand in `allow.addresses`; why not.
pub(crate) fn is_address(text: &str) -> Result<(), String> {
    AllowList::parse([text])
        .map(drop)
        .map_err(|error| error.to_string())
}

/// Set a switch (`rollOut`).
pub(crate) fn switch(config: &Utf8Path, name: &str, on: bool) -> Result<Edited, Failure> {
    edit(config, |text| {
        let old = switch_of(config, text, name)?;
        if old == Some(on) {
            return Ok(None);
        }
        let odd = || format!("switches.{name} is written in a way of its own");
        let new = with_switch(text, name, on).ok_or_else(odd)?;
        if switch_of(config, &new, name)? == Some(on) {
            Ok(Some(new))
        } else {
            Err(odd())
        }
    })
}

/// What a switch of the host configuration says, where it says anything.
pub(crate) fn switch_of(config: &Utf8Path, text: &str, name: &str) -> Result<Option<bool>, String> {
    let settings = Settings::parse(config, text).map_err(|error| error.to_string())?;
    let switches = settings.switches;
    match name {
        "reportDrift" => Ok(switches.report_drift),
        "correctDrift" => Ok(switches.correct_drift),
        "rollOut" => Ok(switches.roll_out),
        _ => Err(format!("there is no switch {name}")),
    }
}

fn edit(
    config: &Utf8Path,
    change: impl FnOnce(&str) -> Result<Option<String>, String>,
) -> Result<Edited, Failure> {
    // A link keeps pointing where it does.
    let path = config
        .canonicalize_utf8()
        .unwrap_or_else(|_| config.to_owned());
    let text = fs::read_to_string(&path)
        .map_err(|error| Failure::new("TU0901", format!("cannot read {path}: {error}")))?;
    let new = match change(&text) {
        Ok(None) => return Ok(Edited::Already),
        Ok(Some(new)) => new,
        Err(why) => return Ok(Edited::ByHand(why)),
    };
    let mode = fs::metadata(&path).map_or(0o600, |found| found.permissions().mode() & 0o777);
    Ok(match file::replace(&path, mode, new.as_bytes()) {
        Ok(()) => Edited::Written,
        Err(error) => Edited::ByHand(format!("{path}: {error}")),
    })
}

fn root(text: &str) -> Option<Node> {
    let file: Arc<str> = "trueup.yaml".into();
    let mut parsed = parse(&file, text, Resolver::Strict);
    match (parsed.documents.len(), parsed.findings.is_empty()) {
        (1, true) => parsed.documents.pop().map(|document| document.root),
        _ => None,
    }
}

/// The text with a piece put in at a byte.
fn put(text: &str, at: usize, piece: &str) -> Option<String> {
    Some(format!("{}{piece}{}", text.get(..at)?, text.get(at..)?))
}

/// The text with a section at its end.
fn append(text: &str, root: &Node, section: &str) -> Option<String> {
    let gap = if text.ends_with('\n') { "" } else { "\n" };
    (root.style == Style::Block).then(|| format!("{text}{gap}{section}"))
}

/// The white space before the first character of the line of this byte, if there is
/// nothing else but `- ` before it.
fn indent(text: &str, at: usize) -> Option<&str> {
    let line = text.get(..at)?.rsplit('\n').next()?;
    let rest = line.trim_start_matches(' ');
    matches!(rest.trim_end(), "" | "-").then(|| line.get(..line.len() - rest.len()))?
}

fn with_address(text: &str, address: &str) -> Option<String> {
    let root = root(text)?;
    let scalar = serde_json::Value::from(address).to_string();
    let Some(allow) = root.get("allow") else {
        return append(text, &root, &format!("allow:\n  addresses: [{scalar}]\n"));
    };
    let list = allow.get("addresses")?;
    let items = list.as_sequence()?;
    match (list.style, items.last()) {
        (Style::Flow, None) => {
            let open = text.get(list.span.start..)?.starts_with('[');
            open.then(|| put(text, list.span.start + 1, &scalar))?
        }
        (Style::Flow, Some(last)) => put(text, last.span.end, &format!(", {scalar}")),
        (_, Some(last)) => {
            let indent = indent(text, last.span.start)?.to_owned();
            let rest = text.get(last.span.end..)?;
            match rest.find('\n') {
                Some(end) => put(text, last.span.end + end, &format!("\n{indent}- {scalar}")),
                None => put(text, text.len(), &format!("\n{indent}- {scalar}\n")),
            }
        }
        (_, None) => None,
    }
}

fn with_switch(text: &str, name: &str, on: bool) -> Option<String> {
    let root = root(text)?;
    let Some(switches) = root.get("switches") else {
        return append(text, &root, &format!("switches:\n  {name}: {on}\n"));
    };
    if let Some(value) = switches.get(name) {
        matches!(value.value, Value::Bool(_)).then_some(())?;
        let (before, after) = (text.get(..value.span.start)?, text.get(value.span.end..)?);
        return Some(format!("{before}{on}{after}"));
    }
    let pairs = switches.as_mapping()?;
    match (switches.style, pairs.first()) {
        (Style::Flow, first) => {
            let open = text.get(switches.span.start..)?.starts_with('{');
            let comma = if first.is_some() { ", " } else { "" };
            open.then(|| {
                put(
                    text,
                    switches.span.start + 1,
                    &format!("{name}: {on}{comma}"),
                )
            })?
        }
        (_, Some((key, _))) => {
            let indent = indent(text, key.span.start)?.to_owned();
            put(text, key.span.start, &format!("{name}: {on}\n{indent}"))
        }
        (_, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "repo: {url: u} # mine\nfleet: home\n";

    #[test]
    fn addresses_are_added_and_nothing_else_moves() {
        let table = [
            ("", "allow:\n  addresses: [\"::1\"]\n"),
            (
                "allow: {addresses: []}\n",
                "allow: {addresses: [\"::1\"]}\n",
            ),
            (
                "allow:\n  addresses: [10.0.0.0/8, a.example] # nets\nage: {}\n",
                "allow:\n  addresses: [10.0.0.0/8, a.example, \"::1\"] # nets\nage: {}\n",
            ),
            (
                "allow:\n  addresses:\n    - 10.0.0.0/8\n    - a.example # web\n# end\n",
                "allow:\n  addresses:\n    - 10.0.0.0/8\n    - a.example # web\n    - \"::1\"\n# end\n",
            ),
            (
                "allow:\n  addresses:\n  - 10.0.0.1",
                "allow:\n  addresses:\n  - 10.0.0.1\n  - \"::1\"\n",
            ),
        ];
        for (before, after) in table {
            let new = with_address(&format!("{HEAD}{before}"), "::1");
            assert_eq!(new.as_deref(), Some(format!("{HEAD}{after}").as_str()));
        }
        for odd in ["allow: {}\n", "allow:\n  addresses:\n", "allow: [\n"] {
            assert_eq!(with_address(&format!("{HEAD}{odd}"), "::1"), None, "{odd}");
        }
    }

    #[test]
    fn switches_are_set_and_nothing_else_moves() {
        let table = [
            ("", "switches:\n  rollOut: true\n"),
            (
                "switches:\n  # why\n  rollOut: false # never\nage: {}\n",
                "switches:\n  # why\n  rollOut: true # never\nage: {}\n",
            ),
            (
                "switches:\n    correctDrift: true\n",
                "switches:\n    rollOut: true\n    correctDrift: true\n",
            ),
            (
                "switches: {correctDrift: true}\n",
                "switches: {rollOut: true, correctDrift: true}\n",
            ),
            ("switches: {}\n", "switches: {rollOut: true}\n"),
        ];
        for (before, after) in table {
            let new = with_switch(&format!("{HEAD}{before}"), "rollOut", true);
            assert_eq!(new.as_deref(), Some(format!("{HEAD}{after}").as_str()));
        }
    }
}
