//! Keys and secrets of a story. Every secret is a canary: a text that exists once,
//! so that it can be searched for everywhere.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use trueup_bed::cache::Cache;

use super::run;

/// Keys and secrets.
#[derive(Debug)]
pub(crate) struct Keys {
    /// The age identity file's text.
    pub(crate) age_identity: String,
    /// Its recipient.
    pub(crate) age_recipient: String,
    /// The cluster's token.
    pub(crate) token: String,
    /// A value in a Secret of the application.
    pub(crate) password: String,
    /// The content of a file that a profile takes from an encrypted file.
    pub(crate) licence: String,
    folder: PathBuf,
}

impl Keys {
    /// Makes them in `scratch`.
    pub(crate) fn make(scratch: &Path) -> Result<Self> {
        let cache = Cache::locate();
        let keygen = cache.program("age-keygen")?;
        let file = scratch.join("age.key");
        run(Command::new(&keygen).arg("-o").arg(&file))?;
        let recipient = run(Command::new(&keygen).arg("-y").arg(&file))?;
        Ok(Self {
            age_identity: fs::read_to_string(&file)?,
            age_recipient: recipient.trim().to_owned(),
            token: canary("token")?,
            password: canary("password/+=")?,
            licence: canary("licence/+=")?,
            folder: scratch.to_owned(),
        })
    }

    /// The text of an identity file that nothing is encrypted to.
    pub(crate) fn other_identity(scratch: &Path) -> Result<String> {
        let file = scratch.join("other.key");
        let keygen = Cache::locate().program("age-keygen")?;
        run(Command::new(keygen).arg("-o").arg(&file))?;
        Ok(fs::read_to_string(&file)?)
    }

    /// A text encrypted by sops as a YAML file.
    pub(crate) fn encrypt(&self, yaml: &str) -> Result<String> {
        let plain = self.folder.join("plain.yaml");
        fs::write(&plain, yaml)?;
        let sops = Cache::locate().program("sops")?;
        let mut command = Command::new(sops);
        command
            .args(["encrypt", "--age", &self.age_recipient])
            .arg(&plain)
            .current_dir(&self.folder);
        let text = run(&mut command)?;
        fs::remove_file(plain)?;
        Ok(text)
    }
}

/// A text with 16 random hexadecimal digits. A kind with `/+=` shows URL encoding.
fn canary(kind: &str) -> Result<String> {
    use std::io::Read as _;
    let mut bytes = [0_u8; 8];
    fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .context("cannot read random bytes")?;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{kind}-CANARY-{hex}"))
}
