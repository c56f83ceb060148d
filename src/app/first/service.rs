//! `init --systemd`: the loop as a service of this machine.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use camino::Utf8Path;

use super::{file, place};
use crate::cli::Failure;

/// Where the unit lies.
const UNIT: &str = "/etc/systemd/system/trueup.service";
/// systemd answers at once, or something is badly wrong.
const RELOAD_LIMIT: Duration = Duration::from_secs(20);

/// What became of the unit.
#[derive(Debug)]
pub(crate) enum Service {
    /// It is in its place; the command that starts it.
    Installed(String),
    /// We may not: the unit, and the commands for somebody who may.
    Printed(String),
}

/// The unit of `trueup run`.
pub(crate) fn unit(config: &Utf8Path) -> String {
    let program = std::env::current_exe()
        .ok()
        .and_then(|path| path.into_os_string().into_string().ok())
        .unwrap_or_else(|| "/usr/local/bin/trueup".to_owned());
    let uid = rustix::process::geteuid();
    let user = if uid.is_root() {
        String::new()
    } else {
        format!("User={}\n", crate::app::socket::author_of(uid.as_raw()))
    };
    format!(
        "[Unit]
Description=trueup keeps its fleet true to a Git repository
Wants=network-online.target
After=network-online.target

[Service]
Type=notify
{user}ExecStart={program} --config {config} run
WatchdogSec=60
LimitMEMLOCK=64M
Restart=always
RestartSec=5

[Install]
WantedBy=multi-user.target
"
    )
}

/// Install it, or say how.
pub(crate) async fn install(config: &Utf8Path) -> Result<Service, Failure> {
    let unit = unit(config);
    let start = "systemctl enable --now trueup";
    let booted = Utf8Path::new("/run/systemd/system").is_dir();
    if !rustix::process::geteuid().is_root() || !booted {
        return Ok(Service::Printed(format!(
            "sudo tee {UNIT} >/dev/null <<'EOF'\n{unit}EOF\nsudo systemctl daemon-reload\nsudo {start}\n"
        )));
    }
    let path = Utf8Path::new(UNIT);
    match std::fs::read_to_string(path) {
        Ok(there) if there == unit => {}
        Ok(_) => {
            return Err(Failure::new(
                "TU0951",
                format!("{UNIT} exists with other content and is left as it is"),
            )
            .next(format!(
                "mv {UNIT} {UNIT}.old && {} init --systemd",
                place::command(config)
            )));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            file::write_new(path, 0o644, unit.as_bytes()).map_err(|error| {
                Failure::new("TU0944", format!("cannot write {UNIT}: {error}"))
                    .next("findmnt --target /etc/systemd/system")
            })?;
        }
        Err(error) => {
            return Err(
                Failure::new("TU0944", format!("cannot read {UNIT}: {error}"))
                    .next("ls -l /etc/systemd/system"),
            );
        }
    }
    reload().await?;
    Ok(Service::Installed(start.to_owned()))
}

async fn reload() -> Result<(), Failure> {
    let failure = |why: String| {
        Failure::new(
            "TU0951",
            format!("systemd did not read its units again: {why}"),
        )
        .next("systemctl daemon-reload")
    };
    let child = tokio::process::Command::new("systemctl")
        .arg("daemon-reload")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(RELOAD_LIMIT, child)
        .await
        .map_err(|_| failure(format!("not within {} s", RELOAD_LIMIT.as_secs())))?
        .map_err(|error| failure(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(failure(
        String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    ))
}
