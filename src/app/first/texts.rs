//! What `init` writes: small, readable, and valid as it stands.

use camino::Utf8Path;

/// What the host configuration says.
#[derive(Debug)]
pub(super) struct HostWords<'a> {
    pub(super) repo: &'a Utf8Path,
    pub(super) fleet: &'a str,
    pub(super) state_dir: &'a Utf8Path,
    pub(super) age_identity: &'a Utf8Path,
    pub(super) ssh_identity: Option<&'a Utf8Path>,
    pub(super) correct_drift: bool,
    pub(super) roll_out: bool,
}

/// A scalar that YAML reads as this very text.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The host configuration.
pub(super) fn host(words: &HostWords<'_>) -> String {
    let identities = match words.ssh_identity {
        Some(path) => format!("  identities:\n    default: {}\n", quoted(path.as_str())),
        None => "  identities: {}\n".to_owned(),
    };
    format!(
        "# What trueup may do from this host. The config repo can grant itself nothing of this.

# The config repo, and the branch whose commits are carried out.
repo:
  url: {repo}
  branch: main
# The Fleet of it that this host serves.
fleet: {fleet}
# History, outbox, mirror and lock: trueup alone writes here.
stateDir: {state}

# Opens the repo's encrypted files; refused when others can read it.
age:
  identityFile: {age}
# Private keys to log in with, by the name that Node documents use.
ssh:
{identities}
# Nothing is sent anywhere else. `trueup node enroll` adds to it.
allow:
  addresses: []

# The most that trueup may do, whatever the repo says.
switches:
  # Tell what differs.
  reportDrift: true
  # Put back what somebody changed by hand.
  correctDrift: {correct_drift}
  # Carry out what new commits ask for.
  rollOut: {roll_out}
",
        repo = quoted(words.repo.as_str()),
        fleet = quoted(words.fleet),
        state = quoted(words.state_dir.as_str()),
        age = quoted(words.age_identity.as_str()),
        correct_drift = words.correct_drift,
        roll_out = words.roll_out,
    )
}

/// The files of a new config repo.
pub(super) fn repo(fleet: &str, local: Option<&str>, recipient: &str) -> Vec<(String, String)> {
    let mut files = vec![
        ("fleet.yaml".to_owned(), fleet_document(fleet)),
        ("profiles/base.yaml".to_owned(), PROFILE.to_owned()),
        ("README.md".to_owned(), readme(fleet)),
        (
            ".sops.yaml".to_owned(),
            format!("creation_rules:\n  - path_regex: \\.enc\\.ya?ml$\n    age: {recipient}\n"),
        ),
    ];
    files.push(match local {
        Some(name) => (
            format!("nodes/{name}.yaml"),
            format!(
                "apiVersion: trueup.dev/v1alpha1\nkind: Node\nmetadata:\n  name: {}\nspec:\n  connection:\n    local: {{}}\n",
                quoted(name)
            ),
        ),
        None => ("nodes/.gitkeep".to_owned(), String::new()),
    });
    files
}

fn fleet_document(fleet: &str) -> String {
    format!(
        "# What holds for every machine of this folder.
apiVersion: trueup.dev/v1alpha1
kind: Fleet
metadata:
  name: {}
spec:
  # What this repo asks for; the host's trueup.yaml must grant it too.
  switches:
    reportDrift: true
    correctDrift: true
    rollOut: true
  defaults:
    profiles: [base]
",
        quoted(fleet)
    )
}

const PROFILE: &str =
    "# What every machine has. A file named here belongs to trueup; all others are left alone.
apiVersion: trueup.dev/v1alpha1
kind: NodeProfile
metadata:
  name: base
spec:
  files:
    - path: /etc/trueup-hello
      content: |
        This file is kept true by trueup.
";

fn readme(fleet: &str) -> String {
    format!(
        "# The fleet {fleet}

- `fleet.yaml`: what holds for all machines.
- `profiles/`: what machines have in common. Begin in `profiles/base.yaml`.
- `nodes/`: one document per machine; `trueup node enroll HOST` writes them.
- `.sops.yaml`: who can open files named `*.enc.yaml`, which `sops` encrypts.

Commit, then `trueup plan` shows what would be done and changes nothing, and `trueup apply`
does it. `trueup validate` checks these files without network and keys.
"
    )
}

#[cfg(test)]
mod tests {
    use trueup_core::config::load;
    use trueup_model::tree::{Tree, TreeEntry};

    use super::*;
    use crate::app::settings::Settings;

    #[test]
    fn what_is_written_is_read_without_a_finding() {
        for local in [None, Some("desk")] {
            let mut tree = Tree::default();
            for (path, text) in repo("123", local, "age1qqqq") {
                if Tree::wants(&path) {
                    let bytes = text.into_bytes();
                    tree.entries.insert(path, TreeEntry::File(bytes.into()));
                }
            }
            let loaded = load(&tree, Some("123"));
            assert!(loaded.findings.is_empty(), "{:?}", loaded.findings);
            let nodes = loaded.config.unwrap().nodes.len();
            assert_eq!(nodes, usize::from(local.is_some()));
        }
    }

    #[test]
    fn the_host_configuration_is_read_as_it_was_meant() {
        let words = HostWords {
            repo: Utf8Path::new("/srv/it's # a: fleet"),
            fleet: "123",
            state_dir: Utf8Path::new("/var/lib/x"),
            age_identity: Utf8Path::new("/etc/a"),
            ssh_identity: Some(Utf8Path::new("/etc/b")),
            correct_drift: false,
            roll_out: true,
        };
        let read = Settings::parse(Utf8Path::new("t"), &host(&words)).unwrap();
        assert_eq!(read.repo.url, "/srv/it's # a: fleet");
        assert_eq!(read.fleet, "123");
        assert!(read.allow.addresses.is_empty());
        assert_eq!(read.switches.roll_out, Some(true));
        assert_eq!(read.switches.correct_drift, Some(false));
    }
}
