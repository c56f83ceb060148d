//! A double of the `k3s` program for tests. What it imitates and what not: BEHAVIOUR.md.

mod agent;
mod balancer;
mod certs;
mod child;
mod config_files;
mod control_plane;
mod critical;
mod ending;
mod etcd;
mod flags;
mod join;
mod kube;
mod kubeconfig;
mod layout;
mod log;
mod machine;
mod members;
mod node;
mod node_config;
mod node_password;
mod parts;
mod passwd;
mod pki;
mod pods;
mod preparation;
mod release;
mod remote;
mod server;
mod server_node;
mod settings;
mod supervisor;
mod tls;
mod token;

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use tokio::signal::unix::{SignalKind, signal};

use crate::ending::Ending;
use crate::settings::{Role, Settings};

const USAGE: &str = "a double of k3s for tests\n\
    usage: k3s server|agent [flags] | k3s kubectl … | k3s certificate check | k3s --version | \
    k3s-double stamp VERSION FILE\n";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) = arguments
        .split_first()
        .map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    let result = match command {
        "server" => return run(Role::Server, rest),
        "agent" => return run(Role::Agent, rest),
        "--version" | "-v" => print(&format!(
            "k3s version {} (abcdef12)\ngo version double\n",
            release::running()
        )),
        "kubectl" => kubectl(rest),
        "certificate" if rest.first().is_some_and(|word| word == "check") => {
            certificate_check(rest)
        }
        "stamp" => stamp(rest),
        child::EXEC_PART => child::exec_part(rest),
        "" | "help" | "--help" | "-h" => print(USAGE),
        other => Err(anyhow::anyhow!("No help topic for '{other}'")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::fatal(format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn print(text: &str) -> Result<()> {
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("write to standard output")
}

fn stamp(arguments: &[String]) -> Result<()> {
    let [version, file] = arguments else {
        bail!("usage: stamp VERSION FILE")
    };
    release::stamp(version, Path::new(file))
}

fn kubectl(arguments: &[String]) -> Result<()> {
    let mut command = std::process::Command::new(child::binary("kubectl"));
    if std::env::var_os("KUBECONFIG").is_none() {
        command.env("KUBECONFIG", server::kubeconfig_path());
    }
    Err(command.args(arguments).exec()).context("execute kubectl")
}

/// Tells of each certificate when it expires; exit 0 even for an expired one.
fn certificate_check(arguments: &[String]) -> Result<()> {
    let environment = std::env::vars().collect();
    let settings = Settings::load(
        Role::Server,
        arguments.get(1..).unwrap_or_default(),
        &environment,
    );
    let settings = settings.map_err(anyhow::Error::msg)?;
    let layout = layout::Layout::new(settings.data_dir());
    for directory in [layout.tls(""), layout.tls("etcd"), layout.agent("")] {
        let Ok(entries) = std::fs::read_dir(&directory) else {
            continue;
        };
        let mut files: Vec<_> = entries
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .collect();
        files.sort();
        for file in files
            .iter()
            .filter(|file| file.extension().is_some_and(|end| end == "crt"))
        {
            let facts = pki::facts(&layout::read(file)?)?;
            let expires = jiff::Timestamp::from_second(facts.not_after)?;
            let (name, subject) = (file.display(), &facts.common_name);
            match facts.days_left {
                0 => log::error(format!(
                    "{name}: certificate CN={subject} expired at {expires}"
                )),
                1..=120 => log::warn(format!(
                    "{name}: certificate CN={subject} will expire within 120 days at {expires}"
                )),
                _ => log::info(format!(
                    "{name}: certificate CN={subject} is ok, expires at {expires}"
                )),
            }
        }
    }
    Ok(())
}

fn run(role: Role, arguments: &[String]) -> ExitCode {
    let settings = match Settings::load(role, arguments, &std::env::vars().collect()) {
        Ok(settings) => settings,
        Err(error) => {
            log::fatal(error);
            return ExitCode::FAILURE;
        }
    };
    for warning in &settings.warnings {
        log::warn(warning);
    }
    // reqwest is built without a provider of its own; a second installation is no fault.
    drop(rustls::crypto::ring::default_provider().install_default());
    // One thread: parts must be started on the thread that lives as long as the process.
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return Ending::fatal(error).finish(),
    };
    log::info(format!("Starting k3s {} (abcdef12)", release::running()));
    let local = tokio::task::LocalSet::new();
    let ending = match role {
        Role::Server => local.block_on(&runtime, server::run(settings)),
        Role::Agent => local.block_on(&runtime, agent::run(settings)),
    };
    ending.finish()
}

/// Resolves at SIGTERM or SIGINT.
async fn asked_to_end() {
    let (Ok(mut terminate), Ok(mut interrupt)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        // Without handlers the signals end the process by themselves.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Tells systemd; without NOTIFY_SOCKET nothing happens.
fn say_ready() {
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        log::error(format!("notify systemd: {error}"));
    }
}
