//! What a demo leaves behind, used as a person would.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The program with a clean environment.
pub(crate) fn trueup() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trueup"));
    command.env_remove("TRUEUP_CONFIG").env_remove("TRUEUP_LOG");
    command
}

/// `trueup demo` in a folder below `dir`.
pub(crate) fn demo(dir: &Path, args: &[&str]) -> Output {
    let folder = dir.join("d");
    let mut command = trueup();
    command.arg("demo").arg("--dir").arg(folder).args(args);
    command.output().unwrap()
}

/// What a command said.
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) text: String,
}

/// A demo's folder after the demo.
pub(crate) struct Left {
    dir: PathBuf,
}

impl Left {
    pub(crate) fn of(dir: &Path) -> Self {
        Self { dir: dir.join("d") }
    }

    pub(crate) fn trueup(&self, args: &[&str]) -> Said {
        let mut command = trueup();
        command
            .arg("--config")
            .arg(self.dir.join("trueup.yaml"))
            .args(args);
        let output = command.output().unwrap();
        let mut text = String::from_utf8(output.stdout).unwrap();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        Said {
            code: output.status.code(),
            text,
        }
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.dir.join("repo").join(path)
    }

    pub(crate) fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.path(path)).unwrap()
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        std::fs::write(self.path(path), text).unwrap();
    }

    pub(crate) fn replace(&self, path: &str, old: &str, new: &str) {
        let text = self.read(path);
        assert!(text.contains(old), "{path} holds no {old:?}");
        self.write(path, &text.replace(old, new));
    }

    pub(crate) fn commit(&self, message: &str) {
        for args in [
            ["add", "--all"].as_slice(),
            &["commit", "-q", "-m", message],
        ] {
            let status = Command::new("git")
                .args(args)
                .current_dir(self.path(""))
                .status();
            assert!(status.unwrap().success(), "{args:?}");
        }
    }

    /// A plan finds nothing to do.
    pub(crate) fn is_true(&self) {
        let plan = self.trueup(&["plan", "--detailed-exitcode"]);
        assert_eq!(plan.code, Some(0), "{}", plan.text);
        assert!(plan.text.contains("no changes"), "{}", plan.text);
    }
}
