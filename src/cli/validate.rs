//! `trueup validate`: findings of a work tree or a commit. No network, no keys, nothing live.

use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use trueup_core::config::{Loaded, fleets, load};
use trueup_drivers::git::objects::{self, ObjectsError};
use trueup_model::document::{Diagnostic, Severity, Sources, sort};
use trueup_model::tree::{Tree, lies_below};

use super::exit::Exit;
use super::{Failure, show};
use super::render::{Findings, render_github, render_human, render_json};
use crate::app::worktree::{self, WorktreeError};

/// Options of `validate`.
#[derive(Debug, Args)]
pub(super) struct ValidateArgs {
    /// A folder of a work tree; the Fleet at or above it. Default: here.
    path: Option<Utf8PathBuf>,
    /// A local repository, read through its object database.
    #[arg(long, value_name = "DIR", requires = "rev", conflicts_with = "path")]
    git: Option<Utf8PathBuf>,
    /// The commit of that repository.
    #[arg(long, requires = "git")]
    rev: Option<String>,
    /// Only this Fleet. Default: all of them.
    #[arg(long)]
    fleet: Option<String>,
    /// Warnings fail too.
    #[arg(long)]
    strict: bool,
    /// How findings are printed.
    #[arg(short, long, value_enum, default_value = "human")]
    output: Format,
}

/// `trueup validate`.
pub(super) async fn run(args: ValidateArgs) -> Result<Exit, Failure> {
    let subject = match (args.git, args.rev) {
        (Some(dir), Some(rev)) => Subject::Commit { dir, rev },
        _ => Subject::Path(args.path.unwrap_or_else(|| ".".into())),
    };
    let report = validate(&subject, args.fleet.as_deref())
        .await
        .map_err(|error| Failure::new("TU0903", error.to_string()))?;
    show::out(&report.render(args.output, show::is_colored()));
    Ok(if report.fails(args.strict) {
        Exit::Findings
    } else {
        Exit::Done
    })
}

/// Findings of a loaded commit, for people.
pub(crate) fn findings_text(loaded: &Loaded) -> String {
    let findings = Findings {
        all: &loaded.findings,
        sources: &loaded.sources,
        prefix: "",
    };
    render_human(findings, false)
}

/// The forms of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Human,
    /// One JSON object.
    Json,
    /// GitHub workflow commands.
    Github,
}

/// What is to be validated.
#[derive(Debug)]
pub(crate) enum Subject {
    /// A folder or file of a work tree; the Fleet at or above it, or those below.
    Path(Utf8PathBuf),
    /// A commit in a local repository.
    Commit {
        /// The repository.
        dir: Utf8PathBuf,
        /// The revision.
        rev: String,
    },
}

/// Why nothing could be validated.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ValidateError {
    /// The work tree cannot be read.
    #[error(transparent)]
    Worktree(#[from] WorktreeError),
    /// The commit cannot be read.
    #[error(transparent)]
    Objects(#[from] ObjectsError),
}

/// What was found.
#[derive(Debug)]
pub(crate) struct Report {
    findings: Vec<Diagnostic>,
    sources: Sources,
    prefix: String,
}

impl Report {
    /// Whether it fails: errors always do, warnings where `strict`.
    pub(crate) fn fails(&self, strict: bool) -> bool {
        strict && !self.findings.is_empty()
            || self
                .findings
                .iter()
                .any(|finding| finding.severity == Severity::Error)
    }

    /// The output in one of its forms.
    pub(crate) fn render(&self, format: Format, color: bool) -> String {
        let findings = Findings {
            all: &self.findings,
            sources: &self.sources,
            prefix: &self.prefix,
        };
        match format {
            Format::Human => render_human(findings, color),
            Format::Json => render_json(findings),
            Format::Github => render_github(findings),
        }
    }
}

/// Validates all Fleets of the subject, or the one of this name.
///
/// # Errors
/// The subject cannot be read at all; what is wrong inside it is a finding.
pub(crate) async fn validate(
    subject: &Subject,
    fleet: Option<&str>,
) -> Result<Report, ValidateError> {
    match subject {
        Subject::Path(path) => {
            let root = worktree::fleet_root(path)?;
            let tree = worktree::read(&root)?;
            Ok(report(&tree, fleet, prefix(&root, &current_folder())))
        }
        Subject::Commit { dir, rev } => {
            let read = objects::read_tree(dir, rev).await?;
            Ok(report(&read.tree, fleet, String::new()))
        }
    }
}

fn report(tree: &Tree, fleet: Option<&str>, prefix: String) -> Report {
    let found = fleets(tree);
    let names: Vec<&str> = match fleet {
        Some(name) => vec![name],
        None => found.iter().map(|(name, _)| name.as_str()).collect(),
    };
    // With several Fleets each is loaded by its name; a tree without any is loaded for its finding.
    let wanted: Vec<Option<&str>> = if names.is_empty() {
        vec![None]
    } else {
        names.into_iter().map(Some).collect()
    };
    let mut findings = Vec::new();
    let mut sources = Sources::default();
    for name in wanted {
        let loaded = load(tree, name);
        findings.extend(loaded.findings);
        sources = loaded.sources;
    }
    sort(&mut findings);
    Report {
        findings,
        sources,
        prefix,
    }
}

fn current_folder() -> Utf8PathBuf {
    let here = std::env::current_dir()
        .ok()
        .and_then(|dir| Utf8PathBuf::from_path_buf(dir).ok());
    here.unwrap_or_default()
}

/// How the root is called from the current folder: relative below it, absolute elsewhere.
fn prefix(root: &Utf8Path, here: &Utf8Path) -> String {
    match root.strip_prefix(here) {
        Ok(relative) if relative.as_str().is_empty() => String::new(),
        Ok(relative) if lies_below(root.as_str(), here.as_str()) => format!("{relative}/"),
        _ => format!("{root}/"),
    }
}

#[cfg(test)]
mod tests {
    use camino::{Utf8Path, Utf8PathBuf};

    use super::{Format, Subject, prefix, validate};

    #[tokio::test]
    async fn the_example_is_without_findings() {
        let root = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("example-repo");
        let report = validate(&Subject::Path(root), None).await.unwrap();
        assert!(
            !report.fails(true),
            "{}",
            report.render(Format::Human, false)
        );
    }

    #[test]
    fn names_lead_from_where_the_reader_stands() {
        let here = Utf8Path::new("/home/x");
        let cases = [
            ("/home/x", ""),
            ("/home/x/a/b", "a/b/"),
            ("/home/xy", "/home/xy/"),
        ];
        for (root, expected) in cases {
            assert_eq!(prefix(&Utf8PathBuf::from(root), here), expected);
        }
    }
}
