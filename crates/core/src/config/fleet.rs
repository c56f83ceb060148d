//! Which Fleet a document belongs to: the one of its folder, or of the nearest folder above.

use std::collections::BTreeMap;
use std::sync::Arc;

use trueup_model::document::{Diagnostic, Document, codes};
use trueup_model::id::FleetName;
use trueup_model::kinds;
use trueup_model::tree::{folder_of, lies_below};

use super::entry::Entry;
use super::kind::Kind;
use super::names::typed;
use super::spelling;
use super::survey::{Survey, has_error};

/// A Fleet with its folder.
pub(super) struct OwnFleet {
    pub name: FleetName,
    pub folder: String,
    pub entry: Entry<kinds::Fleet>,
}

/// All Fleets, and what is wrong with them.
pub(super) fn all(survey: &Survey) -> (Vec<OwnFleet>, Vec<Diagnostic>) {
    let mut fleets: Vec<OwnFleet> = Vec::new();
    let mut findings = Vec::new();
    for (path, surveyed) in &survey.files {
        for (kind, document) in &surveyed.ours {
            if *kind != Kind::Fleet {
                continue;
            }
            let Some((name, entry)) =
                typed::<FleetName, kinds::Fleet>(*kind, document, &mut findings)
            else {
                continue;
            };
            let folder = folder_of(path).to_owned();
            let clash = fleets
                .iter()
                .find(|other| other.folder == folder || other.name == name);
            if let Some(other) = clash {
                findings.push(clashing(document, other, &name, &folder));
                continue;
            }
            fleets.push(OwnFleet {
                name,
                folder,
                entry,
            });
        }
    }
    (fleets, findings)
}

fn clashing(document: &Document, other: &OwnFleet, name: &FleetName, folder: &str) -> Diagnostic {
    let why = if other.folder == folder {
        format!("the folder has a Fleet already, `{}`", other.name)
    } else {
        format!("another Fleet is called `{name}`")
    };
    let root = &document.root;
    let span = root
        .at_pointer("/metadata/name")
        .map_or(root.span, |found| found.node.span);
    Diagnostic::error(codes::CONFIG_FLEETS, &document.file, why)
        .at(span)
        .related(
            other.entry.file(),
            other.entry.place("/metadata/name"),
            "the other one",
        )
}

/// The Fleet that is asked for.
pub(super) fn choose<'a>(
    fleets: &'a [OwnFleet],
    wanted: Option<&str>,
    survey: &Survey,
    findings: &mut Vec<Diagnostic>,
) -> Option<&'a OwnFleet> {
    let root: Arc<str> = Arc::from(".");
    let names: Vec<&str> = fleets.iter().map(|fleet| fleet.name.as_str()).collect();
    let (code, message, help) = match (wanted, fleets) {
        (Some(wanted), _) => {
            if let Some(fleet) = fleets.iter().find(|fleet| fleet.name.as_str() == wanted) {
                return Some(fleet);
            }
            let help = spelling::suggestion(wanted, names);
            (
                codes::CONFIG_NO_FLEET,
                format!("there is no Fleet `{wanted}`"),
                help,
            )
        }
        (None, [only]) => return Some(only),
        (None, []) => {
            // Broken documents say more than "there is none".
            for surveyed in survey.files.values() {
                findings.extend(surveyed.strange.iter().cloned());
                if surveyed.concerns_us() {
                    findings.extend(surveyed.syntax.iter().cloned());
                }
            }
            if has_error(findings) {
                return None;
            }
            let help = "a folder becomes a fleet by a document with `kind: Fleet`".to_owned();
            (
                codes::CONFIG_NO_FLEET,
                "there is no Fleet here".to_owned(),
                Some(help),
            )
        }
        (None, _) => {
            let message = format!("there are several Fleets: {}", names.join(", "));
            (
                codes::CONFIG_FLEETS,
                message,
                Some("say which one is meant".to_owned()),
            )
        }
    };
    let mut finding = Diagnostic::error(code, &root, message);
    finding.help = help;
    findings.push(finding);
    None
}

/// What belongs to one Fleet: its folder less the folders of Fleets nested in it.
pub(super) struct Scope<'a> {
    folder: &'a str,
    nested: Vec<&'a str>,
    /// Whether anything lies in no Fleet at all is only this Fleet's business when it is the only
    /// one; the others would repeat it.
    others: Vec<&'a str>,
}

impl<'a> Scope<'a> {
    pub(super) fn new(own: &'a OwnFleet, fleets: &'a [OwnFleet]) -> Self {
        let others: Vec<&str> = fleets
            .iter()
            .map(|fleet| fleet.folder.as_str())
            .filter(|f| *f != own.folder)
            .collect();
        let nested = others
            .iter()
            .copied()
            .filter(|f| lies_below(f, &own.folder))
            .collect();
        Self {
            folder: &own.folder,
            nested,
            others,
        }
    }

    /// Whether a path belongs to the Fleet.
    pub(super) fn owns(&self, path: &str) -> bool {
        lies_below(path, self.folder) && !self.nested.iter().any(|f| lies_below(path, f))
    }

    /// Whether a path lies in no Fleet's folder.
    pub(super) fn is_outside_all(&self, path: &str) -> bool {
        !lies_below(path, self.folder) && !self.others.iter().any(|f| lies_below(path, f))
    }

    /// A path relative to the Fleet's folder, from the root; `None` where it leads outside.
    pub(super) fn resolve(&self, relative: &str) -> Option<String> {
        let mut parts: Vec<&str> = self
            .folder
            .split('/')
            .filter(|part| !part.is_empty())
            .collect();
        if relative.starts_with('/') {
            return None;
        }
        for part in relative.split('/') {
            match part {
                "" | "." => {}
                ".." => return None,
                part => parts.push(part),
            }
        }
        Some(parts.join("/"))
    }
}

/// Documents of ours in no Fleet's folder.
pub(super) fn strays(survey: &Survey, scope: &Scope<'_>, findings: &mut Vec<Diagnostic>) {
    let outside: BTreeMap<_, _> = survey
        .files
        .iter()
        .filter(|(path, _)| scope.is_outside_all(path))
        .collect();
    for surveyed in outside.values() {
        for (kind, document) in &surveyed.ours {
            let message = format!("this {} lies in no Fleet's folder", kind.name());
            let root = &document.root;
            let span = root.entry("kind").map_or(root.span, |(_, node)| node.span);
            let finding = Diagnostic::warning(codes::CONFIG_OUTSIDE_FLEET, &document.file, message);
            findings.push(
                finding
                    .at(span)
                    .help("move it below a Fleet, or add a Fleet above it"),
            );
        }
    }
}
