//! `trueup config`: what the host grants, changed without touching another byte.

use camino::Utf8Path;
use clap::{Args, Subcommand};

use super::exit::Exit;
use super::{Failure, show};
use crate::app::first::edit::{Edited, allow, is_address, switch, switch_of};

/// `trueup config`.
#[derive(Debug, Args)]
pub(super) struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Show a switch.
    Get {
        /// `switches.reportDrift`, `switches.correctDrift` or `switches.rollOut`.
        key: String,
    },
    /// Set a switch; every other byte of the file stays as it is.
    Set {
        /// `switches.reportDrift`, `switches.correctDrift` or `switches.rollOut`.
        key: String,
        /// `true` or `false`.
        #[arg(action = clap::ArgAction::Set)]
        value: bool,
    },
    /// Add an address, network or name to allow.addresses.
    Allow {
        /// `192.0.2.7`, `192.0.2.0/24` or `web.example.org`.
        address: String,
    },
}

/// Show or set what the host grants.
pub(super) fn config(path: &Utf8Path, args: &ConfigArgs) -> Result<Exit, Failure> {
    match &args.command {
        ConfigCommand::Get { key } => {
            let name = name(key)?;
            let text = std::fs::read_to_string(path).map_err(|error| {
                Failure::new("TU0901", format!("cannot read {path}: {error}")).next("trueup init")
            })?;
            let value = switch_of(path, &text, name)
                .map_err(|why| Failure::new("TU0901", why).next("trueup doctor"))?;
            let default = name == "reportDrift";
            show::out(&value.unwrap_or(default).to_string());
        }
        ConfigCommand::Set { key, value } => {
            let name = name(key)?;
            tell(
                path,
                &format!("{key}: {value}"),
                switch(path, name, *value)?,
            )?;
        }
        ConfigCommand::Allow { address } => {
            is_address(address).map_err(|why| {
                Failure::new("TU0906", why)
                    .next("trueup config allow 192.0.2.0/24")
                    .exit(Exit::Usage)
            })?;
            tell(
                path,
                &format!("allow.addresses: {address}"),
                allow(path, address)?,
            )?;
        }
    }
    Ok(Exit::Done)
}

fn tell(path: &Utf8Path, what: &str, edited: Edited) -> Result<(), Failure> {
    match edited {
        Edited::Written => show::out(&format!(
            "{path}: {what}; a loop that runs reads it at its next start (systemctl restart trueup)"
        )),
        Edited::Already => show::out(&format!("{path}: {what}, as before")),
        Edited::ByHand(why) => {
            return Err(
                Failure::new("TU0953", format!("{what} was not written: {why}"))
                    .next(format!("${{EDITOR:-vi}} {path}")),
            );
        }
    }
    Ok(())
}

fn name(key: &str) -> Result<&str, Failure> {
    key.strip_prefix("switches.")
        .filter(|name| ["reportDrift", "correctDrift", "rollOut"].contains(name))
        .ok_or_else(|| {
            Failure::new("TU0906", format!("there is no switch {key}"))
                .next("trueup config set switches.rollOut true")
                .exit(Exit::Usage)
        })
}
