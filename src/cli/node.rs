//! `trueup node …`.

use camino::{Utf8Path, Utf8PathBuf};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;
use trueup_model::id::{ClusterName, NodeName, ProfileName};
use trueup_model::kinds::Role;

use super::exit::Exit;
use super::{Failure, Output, OutputArgs, show};
use crate::app::first::edit::Edited;
use crate::app::first::enroll::{Enroll, Enrolled, Greeting, greet};
use crate::app::first::place;

/// `trueup node`.
#[derive(Debug, Args)]
pub(super) struct NodeArgs {
    #[command(subcommand)]
    command: NodeCommand,
}

#[derive(Debug, Subcommand)]
enum NodeCommand {
    /// Look at a machine, pin its host key, and write its Node document.
    Enroll(Box<EnrollArgs>),
}

/// Options of `node enroll`.
#[derive(Debug, Args)]
struct EnrollArgs {
    /// IP address or DNS name.
    host: String,
    /// Name of its Node. Default: the first part of its host name.
    #[arg(long)]
    name: Option<NodeName>,
    /// User to log in as. Default: the Fleet's, then root.
    #[arg(long)]
    user: Option<String>,
    /// TCP port. Default: the Fleet's, then 22.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Name of an SSH identity in the host configuration.
    #[arg(long, value_name = "NAME")]
    identity: Option<String>,
    /// The cluster that it is to be a member of.
    #[arg(long, requires = "role")]
    cluster: Option<ClusterName>,
    /// Its role there.
    #[arg(long, value_enum, requires = "cluster")]
    role: Option<RoleArg>,
    /// A Node to go through; the first one first.
    #[arg(long, value_name = "NODE")]
    jump: Vec<NodeName>,
    /// The fingerprint that its host key must have (`SHA256:…`).
    #[arg(long, value_name = "FINGERPRINT", conflicts_with = "accept_key")]
    host_key: Option<String>,
    /// Believe whatever host key it shows: only where nobody can sit in between.
    #[arg(long)]
    accept_key: bool,
    /// A NodeProfile of its own, beside those of the Fleet.
    #[arg(long = "profile", value_name = "PROFILE")]
    profiles: Vec<ProfileName>,
    /// Work tree of the config repo. Default: `repo.url`, or the one you stand in.
    #[arg(long, value_name = "DIR")]
    repo: Option<Utf8PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum RoleArg {
    Server,
    Agent,
}

/// Run a command on machines.
pub(super) async fn node(config: &Utf8Path, args: NodeArgs) -> Result<Exit, Failure> {
    match args.command {
        NodeCommand::Enroll(args) => Box::pin(enroll(config, *args)).await,
    }
}

async fn enroll(config: &Utf8Path, args: EnrollArgs) -> Result<Exit, Failure> {
    let command = command_line(config, &args);
    let (host_key, accept, output) = (args.host_key, args.accept_key, args.output.output);
    let greeting = greet(
        config,
        Enroll {
            host: args.host,
            name: args.name,
            user: args.user,
            port: args.port,
            identity: args.identity,
            cluster: args.cluster,
            role: args.role.map(|role| match role {
                RoleArg::Server => Role::Server,
                RoleArg::Agent => Role::Agent,
            }),
            jump: args.jump,
            profiles: args.profiles,
            repo: args.repo,
        },
    )
    .await?;
    if !believed(&greeting, host_key.as_deref(), accept, &command)? {
        show::progress("nothing was written");
        return Ok(Exit::Blocked);
    }
    let enrolled = greeting.accept().await?;
    match output {
        Output::Human => show::out(&text(config, &enrolled)),
        Output::Json => show::json(&json!({
            "name": enrolled.name,
            "document": enrolled.document,
            "seen": enrolled.seen,
            "allowed": !matches!(enrolled.allowed, Edited::ByHand(_)),
        })),
    }
    Ok(Exit::Done)
}

/// What was typed, but for the key.
fn command_line(config: &Utf8Path, args: &EnrollArgs) -> String {
    let mut words = vec![
        place::command(config),
        "node enroll".to_owned(),
        args.host.clone(),
    ];
    words.extend(args.name.iter().map(|name| format!("--name {name}")));
    words.extend(args.user.iter().map(|user| format!("--user {user}")));
    words.extend(args.port.iter().map(|port| format!("--port {port}")));
    words.extend(
        args.identity
            .iter()
            .map(|name| format!("--identity {name}")),
    );
    words.extend(args.cluster.iter().map(|name| format!("--cluster {name}")));
    words.extend(args.role.iter().map(|role| match role {
        RoleArg::Server => "--role server".to_owned(),
        RoleArg::Agent => "--role agent".to_owned(),
    }));
    words.extend(args.jump.iter().map(|name| format!("--jump {name}")));
    words.extend(args.profiles.iter().map(|name| format!("--profile {name}")));
    words.extend(
        args.repo
            .iter()
            .map(|dir| format!("--repo {}", place::word(dir.as_str()))),
    );
    words.join(" ")
}

/// Whether the shown key is the machine's: by its fingerprint, or by a person's word.
fn believed(
    greeting: &Greeting,
    wanted: Option<&str>,
    accept: bool,
    command: &str,
) -> Result<bool, Failure> {
    let key = &greeting.key;
    let place = greeting.place();
    let shown = format!(
        "{place} shows the host key {} {}",
        key.kind, key.fingerprint
    );
    if let Some(wanted) = wanted {
        let bare = |text: &str| {
            text.trim()
                .trim_start_matches("SHA256:")
                .trim_end_matches('=')
                .to_owned()
        };
        if bare(wanted) == bare(&key.fingerprint) {
            return Ok(true);
        }
        return Err(Failure::new(
            "TU0950",
            format!("{shown}, not {wanted}; go on only if the machine's own console shows it too"),
        )
        .next(format!("{command} --host-key {}", key.fingerprint))
        .exit(Exit::HostKey));
    }
    if accept {
        show::progress(&format!("{shown}; it is pinned as it is"));
        return Ok(true);
    }
    if show::is_interactive() {
        show::progress(&format!(
            "{shown}\ncompare it with: ssh-keygen -lf /etc/ssh/ssh_host_{}_key.pub on the machine's own console",
            key.kind
                .trim_start_matches("ssh-")
                .split('-')
                .next()
                .unwrap_or("ed25519")
        ));
        return Ok(show::ask("Is it the same?"));
    }
    Err(Failure::new(
        "TU0952",
        format!("{shown}, and nobody is there to compare it"),
    )
    .next(format!("{command} --host-key {}", key.fingerprint))
    .exit(Exit::Usage))
}

fn text(config: &Utf8Path, enrolled: &Enrolled) -> String {
    let mut out = String::new();
    for line in &enrolled.seen {
        out.push_str(&format!("{}: {line}\n", enrolled.name));
    }
    out.push_str(&format!(
        "{}: written, with the key pinned\n",
        enrolled.document
    ));
    let document = enrolled
        .document
        .strip_prefix(&enrolled.root)
        .unwrap_or(&enrolled.document);
    let root = place::word(enrolled.root.as_str());
    let commit = format!(
        "git -C {root} add {document} && git -C {root} commit -m \"enroll {}\"",
        enrolled.name
    );
    match &enrolled.allowed {
        Edited::Written => {
            out.push_str(&format!(
                "{config}: {} added to allow.addresses\n",
                enrolled.address
            ));
        }
        Edited::Already => {}
        Edited::ByHand(why) => out.push_str(&format!(
            "add to allow.addresses in {config} ({why}):\n  - \"{}\"\n",
            enrolled.address
        )),
    }
    out.push_str(&format!(
        "  next: {commit}\n  then: {} plan\n",
        place::command(config)
    ));
    out
}
