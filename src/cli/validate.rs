//! `trueup validate`: findings of a work tree or a commit. No network, no keys, nothing live.

use camino::{Utf8Path, Utf8PathBuf};
use clap::{Args, ValueEnum};
use trueup_core::config::{Loaded, fleets, load};
use trueup_drivers::git::batch::{self, BatchError};
use trueup_model::document::{Diagnostic, Severity, Sources, sort};
use trueup_model::tree::{Tree, lies_below};

use super::exit::Exit;
use super::render::{Findings, render_github, render_human, render_json};
use super::{Failure, show};
use crate::app::worktree::{self, WorktreeError};

/// Options of `validate`.
#[derive(Debug, Args)]
pub(super) struct ValidateArgs {
    /// A folder or file of a config repo: the Fleet at or above it, or those below.
    #[arg(default_value = ".")]
    path: Utf8PathBuf,
    /// A commit of this local repository instead of a folder; nothing is fetched.
    #[arg(long, value_name = "DIR", conflicts_with = "path", requires = "rev")]
    git: Option<Utf8PathBuf>,
    /// The revision to read there.
    #[arg(long, value_name = "REV", requires = "git")]
    rev: Option<String>,
    /// Only the Fleet of this name.
    #[arg(long, value_name = "NAME")]
    fleet: Option<String>,
    /// Warnings fail too.
    #[arg(long)]
    strict: bool,
    /// How findings are printed.
    #[arg(short, long, value_enum, default_value = "human")]
    output: Format,
}

/// The forms of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Human,
    /// For programs.
    Json,
    /// GitHub workflow commands: annotations on the lines of a pull request.
    Github,
}

/// Check a config repo.
pub(super) async fn validate(args: ValidateArgs) -> Result<Exit, Failure> {
    let fleet = args.fleet.as_deref();
    let report = match (&args.git, &args.rev) {
        (Some(dir), Some(rev)) => commit(dir, rev, fleet).await?,
        _ => folder(&args.path, fleet)?,
    };
    show::out(&report.render(args.output, show::is_colored()));
    Ok(if report.fails(args.strict) {
        Exit::Findings
    } else {
        Exit::Done
    })
}

/// Findings for people.
pub(crate) fn findings_text(loaded: &Loaded) -> String {
    let findings = Findings {
        all: &loaded.findings,
        sources: &loaded.sources,
        prefix: "",
    };
    render_human(findings, false)
}

impl From<WorktreeError> for Failure {
    fn from(error: WorktreeError) -> Self {
        let next = match &error {
            WorktreeError::TooLarge { .. } => Some("name the folder of the Fleet"),
            WorktreeError::Read { .. } => None,
        };
        Self {
            next: next.map(str::to_owned),
            ..Self::new(CANNOT_READ, chain(&error))
        }
    }
}

impl From<BatchError> for Failure {
    fn from(error: BatchError) -> Self {
        Self::new(CANNOT_READ, chain(&error))
    }
}

/// Nothing could be validated, since nothing could be read.
const CANNOT_READ: &str = "TU0921";

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// What was found.
#[derive(Debug)]
struct Report {
    findings: Vec<Diagnostic>,
    sources: Sources,
    prefix: String,
}

impl Report {
    /// Whether it fails: errors always do, warnings where `strict`.
    fn fails(&self, strict: bool) -> bool {
        strict && !self.findings.is_empty()
            || self
                .findings
                .iter()
                .any(|finding| finding.severity == Severity::Error)
    }

    /// The output in one of its forms.
    fn render(&self, format: Format, color: bool) -> String {
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

fn folder(path: &Utf8Path, fleet: Option<&str>) -> Result<Report, WorktreeError> {
    let root = worktree::fleet_root(path)?;
    let tree = worktree::read(&root)?;
    Ok(report(&tree, fleet, prefix(&root, &current_folder())))
}

async fn commit(dir: &Utf8Path, rev: &str, fleet: Option<&str>) -> Result<Report, BatchError> {
    let read = batch::read_commit(dir, rev).await?;
    Ok(report(&read.tree, fleet, String::new()))
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

    use super::{Format, folder, prefix};

    #[test]
    fn the_example_is_without_findings() {
        let root = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("example-repo");
        let report = folder(&root, None).unwrap();
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
