//! Cases: files in, findings out. Each `cases/*.txt` holds files (`== path`) and, last, what is
//! found in them (`== findings`). `UPDATE_GOLDEN=1 cargo test -p trueup-core config` rewrites the
//! last part; read the diff.

use std::fmt::Write as _;
use std::path::Path;

use trueup_model::document::{Diagnostic, Severity};
use trueup_model::tree::{Tree, TreeEntry};

use super::{Body, Loaded, fleets, load};

const FLEET: &str =
    "apiVersion: trueup.dev/v1alpha1\nkind: Fleet\nmetadata: {name: test}\nspec: {}\n";
const DOCUMENT: &str = "apiVersion: trueup.dev/v1alpha1\nkind: ";

/// The files of a case. A Fleet at the root is added unless the case has one or says `no fleet`.
/// `!Kind name` as a first line stands for the envelope of a document.
fn tree(sections: &[(String, String)]) -> Tree {
    let mut tree = Tree::default();
    let has_fleet = sections.iter().any(|(path, text)| {
        path == "no fleet" || text.contains("kind: Fleet") || text.contains("!Fleet")
    });
    if !has_fleet {
        tree.entries.insert(
            "fleet.yaml".into(),
            TreeEntry::File(FLEET.as_bytes().into()),
        );
    }
    for (path, text) in sections {
        let (path, entry) = match path.split_once(' ') {
            Some(("symlink", path)) => (path, TreeEntry::Symlink),
            Some(("submodule", path)) => (path, TreeEntry::Other),
            Some(("large", path)) => (path, TreeEntry::Unread { bytes: 6_000_000 }),
            Some(("no", _)) => continue,
            _ => (
                path.as_str(),
                TreeEntry::File(expand(text).as_bytes().into()),
            ),
        };
        tree.entries.insert(path.to_owned(), entry);
    }
    tree
}

fn expand(text: &str) -> String {
    let line = |line: &str| match line.strip_prefix('!').and_then(|rest| rest.split_once(' ')) {
        Some((kind, name)) => format!("{DOCUMENT}{kind}\nmetadata: {{name: {name}}}\n"),
        None => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

fn shown(finding: &Diagnostic) -> String {
    let mark = if finding.severity == Severity::Error {
        "error"
    } else {
        "warning"
    };
    let mut line = format!(
        "{mark} {} {} {}",
        finding.code.slug,
        finding.place(),
        finding.message
    );
    for related in &finding.related {
        let (file, span) = (&related.file, related.span);
        _ = write!(
            line,
            " [{} {file}:{}:{}]",
            related.label, span.line, span.column
        );
    }
    if let Some(help) = &finding.help {
        _ = write!(line, "\n    help: {help}");
    }
    line
}

fn outcome(loaded: &Loaded) -> String {
    let mut out: String = loaded.findings.iter().map(|f| shown(f) + "\n").collect();
    let Some(config) = &loaded.config else {
        return out + "no config\n";
    };
    for (name, application) in &config.applications {
        _ = writeln!(out, "application {name}:");
        for manifest in &application.manifests {
            let how = if matches!(manifest.body, Body::Clear(_)) {
                ""
            } else {
                ", encrypted"
            };
            _ = writeln!(
                out,
                "  {} {} {}{how}",
                manifest.origin, manifest.kind, manifest.name
            );
        }
        for broken in &application.broken {
            _ = writeln!(out, "  broken {} {}", broken.origin, broken.why);
        }
    }
    out
}

#[test]
fn cases() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/cases");
    let mut paths: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(paths.len() > 5);
    for path in paths {
        let text = std::fs::read_to_string(&path).unwrap();
        let mut sections: Vec<(String, String)> = Vec::new();
        for line in text.split_inclusive('\n') {
            match line.strip_prefix("== ") {
                Some(name) => sections.push((name.trim().to_owned(), String::new())),
                None => sections
                    .last_mut()
                    .expect("a case begins with ==")
                    .1
                    .push_str(line),
            }
        }
        let expected = match sections.pop_if(|(name, _)| name == "findings") {
            Some((_, expected)) => expected,
            None => String::new(),
        };
        let wanted = sections
            .iter()
            .find_map(|(name, _)| name.strip_prefix("no fleet but "));
        let found = outcome(&load(&tree(&sections), wanted));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            let head = text
                .find("== findings\n")
                .map_or(text.as_str(), |at| &text[..at]);
            std::fs::write(&path, format!("{head}== findings\n{found}")).unwrap();
        } else {
            assert!(found == expected, "{}:\n{found}", path.display());
        }
    }
}

#[test]
fn several_fleets_live_side_by_side() {
    let doc = |kind: &str, name: &str, spec: &str| {
        format!("{DOCUMENT}{kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n")
    };
    let local = "{connection: {local: {}}}";
    let tree = Tree::of([
        ("fleet.yaml", doc("Fleet", "production", "{}")),
        ("one.yaml", doc("Node", "one", local)),
        ("staging/fleet.yaml", doc("Fleet", "staging", "{}")),
        ("staging/deep/one.yaml", doc("Node", "one", local)),
        ("staging/bad.yaml", doc("Node", "bad", "{}")),
    ]);
    let names: Vec<_> = fleets(&tree)
        .into_iter()
        .map(|(name, folder)| (name.to_string(), folder))
        .collect();
    assert_eq!(
        names,
        [
            ("production".into(), String::new()),
            ("staging".into(), "staging".into())
        ]
    );
    let production = load(&tree, Some("production"));
    assert_eq!(
        production.findings,
        [],
        "what is wrong in staging is staging's"
    );
    let config = production.config.unwrap();
    let node = config.nodes.values().next().unwrap();
    assert_eq!((config.nodes.len(), &*node.origin.file), (1, "one.yaml"));
    assert_eq!(node.line_of("/spec/connection").line, 4);
    let staging = load(&tree, Some("staging"));
    assert_eq!(staging.findings.len(), 1);
    assert!(staging.config.is_none());
    assert!(load(&tree, None).config.is_none());
    assert!(
        load(&tree, Some("stagin")).findings[0].help.as_deref() == Some("did you mean `staging`?")
    );
}

/// Damaged input of every sort ends in findings. The generator is a fixed one: a failure repeats.
#[test]
fn damaged_files_never_panic() {
    const ROUNDS: u64 = 100;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../example-repo/c-k3s-proxmox");
    let files = [
        "fleet",
        "cluster",
        "nodes/k3sc1",
        "profiles/base",
        "apps/hello",
        "apps/hello/web",
        "apps/hello/api.enc",
        "secrets/edge.enc",
    ];
    let files: Vec<(String, Vec<u8>)> = files
        .iter()
        .map(|name| {
            (
                format!("{name}.yaml"),
                std::fs::read(root.join(format!("{name}.yaml"))).unwrap(),
            )
        })
        .collect();
    let splices: [&[u8]; 12] = [
        b"&a ",
        b"*a",
        b"<<: *a\n",
        b"---\n",
        b"\t",
        b"[",
        b"{",
        b"\"",
        b"!x ",
        b"\xff",
        b"? ",
        b"|\n",
    ];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below.max(1)
    };
    for _ in 0..ROUNDS {
        let mut damaged = files.clone();
        for _ in 0..=next(4) {
            let (_, bytes) = &mut damaged[next(files.len())];
            let at = next(bytes.len());
            let end = (at + next(30)).min(bytes.len());
            match next(4) {
                0 => drop(bytes.drain(at..end)),
                1 => drop(bytes.splice(at..at, splices[next(splices.len())].iter().copied())),
                2 => bytes.extend_from_within(at..end),
                _ => bytes.truncate(end),
            }
        }
        let loaded = load(&Tree::of(damaged), None);
        assert!(loaded.config.is_some() || !loaded.findings.is_empty());
    }
}
