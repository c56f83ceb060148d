//! Where things lie on this host: for root below `/etc` and `/var/lib`, for anyone else
//! below the home directory.

use camino::{Utf8Path, Utf8PathBuf};

use crate::app::settings::DEFAULT_PATH;
use crate::cli::Failure;
use crate::cli::exit::Exit;

/// Where `init` puts things.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// The host configuration.
    pub(crate) config: Utf8PathBuf,
    /// The state directory.
    pub(crate) state_dir: Utf8PathBuf,
}

/// What is asked of the surroundings, so that it can be tested without them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Surroundings {
    pub(crate) root: bool,
    pub(crate) home: Option<String>,
    pub(crate) config_home: Option<String>,
    pub(crate) state_home: Option<String>,
}

impl Surroundings {
    /// Those of this process.
    pub(crate) fn here() -> Self {
        let set = |name| {
            std::env::var(name)
                .ok()
                .filter(|value| value.starts_with('/'))
        };
        Self {
            root: rustix::process::geteuid().is_root(),
            home: set("HOME"),
            config_home: set("XDG_CONFIG_HOME"),
            state_home: set("XDG_STATE_HOME"),
        }
    }

    /// A user's host configuration, where the user has a home.
    fn own_config(&self) -> Option<Utf8PathBuf> {
        let base = match (&self.config_home, &self.home) {
            (Some(base), _) => Utf8PathBuf::from(base),
            (None, Some(home)) => Utf8Path::new(home).join(".config"),
            (None, None) => return None,
        };
        Some(base.join("trueup/trueup.yaml"))
    }

    /// The key that `ssh` itself would take.
    pub(crate) fn ssh_identity(&self) -> Option<Utf8PathBuf> {
        let folder = Utf8Path::new(self.home.as_ref()?).join(".ssh");
        ["id_ed25519", "id_ecdsa", "id_rsa"]
            .into_iter()
            .map(|name| folder.join(name))
            .find(|path| path.exists())
    }

    fn own_state(&self) -> Option<Utf8PathBuf> {
        let base = match (&self.state_home, &self.home) {
            (Some(base), _) => Utf8PathBuf::from(base),
            (None, Some(home)) => Utf8Path::new(home).join(".local/state"),
            (None, None) => return None,
        };
        Some(base.join("trueup"))
    }
}

/// The host configuration to read: the named one; where nobody named one and there is
/// none below `/etc`, the user's own.
pub(crate) fn config(given: &Utf8Path) -> Utf8PathBuf {
    if given == DEFAULT_PATH
        && !given.exists()
        && let Some(own) = Surroundings::here().own_config()
        && own.exists()
    {
        return own;
    }
    given.to_owned()
}

/// Where a new host configuration and state directory are to lie.
pub(crate) fn to_make(
    given: &Utf8Path,
    state_dir: Option<&Utf8Path>,
    around: &Surroundings,
) -> Result<Place, Failure> {
    let config = if given != DEFAULT_PATH || around.root {
        Some(given.to_owned())
    } else {
        around.own_config()
    };
    let state_dir = match state_dir {
        Some(named) => Some(named.to_owned()),
        None if around.root => Some("/var/lib/trueup/host".into()),
        None => around.own_state(),
    };
    match (config, state_dir) {
        (Some(config), Some(state_dir)) => Ok(Place {
            config: absolute(&config),
            state_dir: absolute(&state_dir),
        }),
        _ => Err(Failure::new(
            "TU0940",
            "HOME is not set, so that there is no place for the host configuration and the state",
        )
        .next("HOME=/path/to/your/home trueup init")
        .exit(Exit::Usage)),
    }
}

/// How trueup is called so that it reads this host configuration.
pub(crate) fn command(path: &Utf8Path) -> String {
    if config(Utf8Path::new(DEFAULT_PATH)) == path {
        "trueup".to_owned()
    } else {
        format!("trueup --config {}", word(path.as_str()))
    }
}

/// How trueup is called so that `init` makes this host configuration.
pub(crate) fn making(path: &Utf8Path) -> String {
    let own = to_make(Utf8Path::new(DEFAULT_PATH), None, &Surroundings::here());
    if own.is_ok_and(|place| place.config == path) {
        "trueup".to_owned()
    } else {
        format!("trueup --config {}", word(path.as_str()))
    }
}

/// A word of a command that a person can type as it stands.
pub(crate) fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,=".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// Where a config repo can be put, wherever a person stands.
pub(crate) fn own_repo() -> Utf8PathBuf {
    let home = Surroundings::here()
        .home
        .unwrap_or_else(|| "/srv".to_owned());
    Utf8Path::new(&home).join("fleet")
}

/// A path as seen from anywhere; it need not exist.
pub(crate) fn absolute(path: &Utf8Path) -> Utf8PathBuf {
    camino::absolute_utf8(path).unwrap_or_else(|_| path.to_owned())
}

/// The name of this machine, as far as it can be one of a Node.
pub(crate) fn hostname() -> Option<trueup_model::id::NodeName> {
    let uname = rustix::system::uname();
    node_name(&uname.nodename().to_string_lossy())
}

/// A Node's name made of a host name: its first label, in lower case.
pub(crate) fn node_name(host: &str) -> Option<trueup_model::id::NodeName> {
    let label = host.split('.').next().unwrap_or_default();
    label.to_ascii_lowercase().replace('_', "-").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around(root: bool, home: Option<&str>) -> Surroundings {
        Surroundings {
            root,
            home: home.map(str::to_owned),
            ..Surroundings::default()
        }
    }

    #[test]
    fn root_has_the_system_and_others_their_home() {
        let default = Utf8Path::new(DEFAULT_PATH);
        let of = |around| to_make(default, None, &around).map(|place| place.config);
        assert_eq!(of(around(true, None)).unwrap(), DEFAULT_PATH);
        assert_eq!(
            of(around(false, Some("/home/kim"))).unwrap(),
            "/home/kim/.config/trueup/trueup.yaml"
        );
        let lost = of(around(false, None)).unwrap_err();
        assert_eq!((lost.code, lost.exit), ("TU0940", Exit::Usage));
        // Both named: nothing of the home is needed.
        let named = to_make(
            Utf8Path::new("/srv/t.yaml"),
            Some(Utf8Path::new("/srv/state")),
            &around(false, None),
        );
        assert_eq!(named.unwrap().state_dir, "/srv/state");
    }

    #[test]
    fn words_are_typed_as_they_stand() {
        assert_eq!(word("/root/fleet"), "/root/fleet");
        assert_eq!(word("my fleet"), "'my fleet'");
        assert_eq!(word("it's $x"), r"'it'\''s $x'");
    }

    #[test]
    fn host_names_become_names_of_nodes() {
        let name = |text| node_name(text).map(|name| name.to_string());
        assert_eq!(name("Web_1.example.org").as_deref(), Some("web-1"));
        assert_eq!(name("-"), None);
    }
}
