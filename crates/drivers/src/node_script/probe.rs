//! Probe: what is asked in one round trip, and the documented lines made of what
//! the script answers. The script answers in batches, since a fork per file would
//! cost more than all else; here they are taken apart.

use std::collections::BTreeMap;

use trueup_model::facts::machine::{ProbeReply, ProbeRequest};
use trueup_model::port::NodeError;

use super::reply::Reply;
use super::words::{self, BadWord};

/// Most files, settings, units or places in one observation: far above any
/// profile, and their paths stay far below the 2 MiB that one command may get.
const ITEMS_MAX: usize = 1000;

/// Why a probe cannot be asked for.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadProbe {
    #[error(transparent)]
    Word(#[from] BadWord),
    #[error("more than {ITEMS_MAX} {0} in one observation")]
    TooMany(&'static str),
}

/// What goes to the script's stdin: five sections, each ended by an empty line.
pub(super) fn request(asked: &ProbeRequest) -> Result<String, BadProbe> {
    for (what, count) in [
        ("files", asked.files.len()),
        ("kernel settings", asked.sysctls.len()),
        ("units", asked.units.len()),
        ("places", asked.free.len()),
    ] {
        if count > ITEMS_MAX {
            return Err(BadProbe::TooMany(what));
        }
    }
    let mut lines: Vec<String> = Vec::new();
    for path in asked.files.keys() {
        lines.push(words::path(path)?.to_owned());
    }
    lines.push(String::new());
    for (path, _) in asked.files.iter().filter(|(_, content)| **content) {
        lines.push(path.clone());
    }
    lines.push(String::new());
    for key in &asked.sysctls {
        lines.push(words::sysctl_path(key)?);
    }
    lines.push(String::new());
    for unit in &asked.units {
        lines.push(words::unit(unit)?.to_owned());
    }
    lines.push(String::new());
    for place in &asked.free {
        lines.push(words::place(place)?.to_owned());
    }
    lines.push("\n".to_owned());
    Ok(lines.join("\n"))
}

/// Makes the documented lines of the script's.
pub(super) fn assemble(asked: &ProbeRequest, mut reply: Reply) -> Result<ProbeReply, NodeError> {
    let init = reply.text("init")?;
    if init != "systemd" {
        return Err(NodeError::Lacks {
            what: format!("systemd: its init is {init}, which trueup does not support"),
        });
    }
    let missing = reply.text("missing")?;
    if !missing.is_empty() {
        return Err(NodeError::Lacks {
            what: format!("{missing}; install coreutils, util-linux and systemd"),
        });
    }
    let mut sums = sums(&reply.take("sums").unwrap_or_default());
    let units = units(asked, &reply)?;
    let sysctls = sysctls(asked, &reply.take("sysctls").unwrap_or_default())?;
    let unreadable: Vec<String> = reply
        .lines
        .iter()
        .filter(|(key, _)| key == "stat-error")
        .map(|(_, value)| String::from_utf8_lossy(value).into_owned())
        .collect();
    let mut stats = BTreeMap::new();
    let mut lines = vec![(
        "script".to_owned(),
        super::SCRIPT_VERSION.as_bytes().to_vec(),
    )];
    for (key, value) in reply.lines {
        match key.split_once(' ').unwrap_or((&key, "")) {
            ("stat", path) => drop(stats.insert(path.to_owned(), value)),
            ("sum", path) => drop(sums.insert(path.to_owned(), text(&value))),
            ("missing" | "units" | "stat-error", _) => {}
            _ => lines.push((key, value)),
        }
    }
    for path in asked.files.keys() {
        let told = match stats.get(path) {
            Some(stat) => file(&text(stat), sums.get(path)),
            // An error that names the path: it is there, or may be, and cannot be read.
            None if unreadable.iter().any(|error| error.contains(path.as_str())) => None,
            None => Some("absent".to_owned()),
        };
        if let Some(told) = told {
            lines.push((format!("file {path}"), told.into_bytes()));
        }
    }
    lines.extend(sysctls);
    lines.extend(units);
    Ok(ProbeReply { lines })
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

/// `sha256sum -z`: `<digest>  <path>NUL`.
fn sums(blob: &[u8]) -> BTreeMap<String, String> {
    blob.split(|byte| *byte == 0)
        .filter_map(|entry| {
            let (digest, path) = std::str::from_utf8(entry).ok()?.split_once("  ")?;
            Some((path.to_owned(), digest.to_owned()))
        })
        .collect()
}

/// `stat`'s type, mode, owner, group, size and mtime, by tabs.
fn file(stat: &str, sum: Option<&String>) -> Option<String> {
    let mut fields = stat.split('\t');
    let kind = fields.next()?;
    if !kind.starts_with("regular") {
        let word = match kind {
            "symbolic link" => "symlink",
            "character special file" | "block special file" => "device",
            other => other,
        };
        return Some(format!("other {word}"));
    }
    let mode = fields.next()?;
    let rest: Vec<&str> = fields.collect();
    // Without a digest it went away or could not be read: unknown.
    Some(format!("file {} {mode:0>4} {}", sum?, rest.join(" ")))
}

/// `head -v -n 1`: `==> PATH <==`, the line, an empty line.
fn sysctls(asked: &ProbeRequest, blob: &[u8]) -> Result<Vec<(String, Vec<u8>)>, NodeError> {
    let blob = text(blob);
    let mut values = BTreeMap::new();
    let mut lines = blob.lines();
    while let Some(line) = lines.next() {
        let path = line
            .strip_prefix("==> /proc/sys/")
            .and_then(|rest| rest.strip_suffix(" <=="));
        if let (Some(path), Some(value)) = (path, lines.next()) {
            values.insert(path.to_owned(), value.trim().to_owned());
            lines.next();
        }
    }
    let mut out = Vec::new();
    for key in &asked.sysctls {
        let path = words::sysctl_path(key).map_err(|error| NodeError::Reply {
            what: "probe".to_owned(),
            why: error.to_string(),
        })?;
        if let Some(value) = values.remove(&path) {
            out.push((format!("sysctl {key}"), value.into_bytes()));
        }
    }
    Ok(out)
}

/// `systemctl show A B …`: a block for each, in order, with an empty line between.
fn units(asked: &ProbeRequest, reply: &Reply) -> Result<Vec<(String, Vec<u8>)>, NodeError> {
    if asked.units.is_empty() {
        return Ok(Vec::new());
    }
    let shown = text(reply.get("units").unwrap_or_default());
    let blocks: Vec<&str> = shown.trim_end().split("\n\n").collect();
    if blocks.len() != asked.units.len() {
        return Err(reply.not_understood(&format!(
            "systemctl showed {} units of {}",
            blocks.len(),
            asked.units.len()
        )));
    }
    Ok(asked
        .units
        .iter()
        .zip(blocks)
        .map(|(unit, block)| {
            let block = block.replace("ExecMainStartTimestamp=@", "ExecMainStartTimestamp=");
            (format!("unit {unit}"), block.into_bytes())
        })
        .collect())
}
