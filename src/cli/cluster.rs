//! `trueup cluster …`.

use std::io::IsTerminal as _;

use camino::{Utf8Path, Utf8PathBuf};
use clap::{Args, Subcommand};
use secrecy::ExposeSecret as _;

use super::exit::Exit;
use super::{Failure, show};
use crate::app::first::kubeconfig::{fetch, usual};

/// `trueup cluster`.
#[derive(Debug, Args)]
pub(super) struct ClusterArgs {
    #[command(subcommand)]
    command: ClusterCommand,
}

#[derive(Debug, Subcommand)]
enum ClusterCommand {
    /// Write the administrator's kubeconfig of a cluster, for a person's kubectl.
    Kubeconfig(KubeconfigArgs),
}

/// Options of `cluster kubeconfig`.
#[derive(Debug, Args)]
struct KubeconfigArgs {
    /// The cluster.
    name: String,
    /// Where it is written (0600). Default: ./NAME.kubeconfig
    #[arg(long, value_name = "FILE", conflicts_with_all = ["merge", "stdout"])]
    out: Option<Utf8PathBuf>,
    /// Put it into the first file of KUBECONFIG, or ~/.kube/config, beside what is there.
    #[arg(long, conflicts_with = "stdout")]
    merge: bool,
    /// Print it: it is as good as root on the cluster.
    #[arg(long)]
    stdout: bool,
    /// The API server to write into it. Default: the first server's address.
    #[arg(long, value_name = "URL")]
    server: Option<String>,
}

/// Run a command on clusters.
pub(super) async fn cluster(config: &Utf8Path, args: ClusterArgs) -> Result<Exit, Failure> {
    match args.command {
        ClusterCommand::Kubeconfig(args) => Box::pin(kubeconfig(config, &args)).await,
    }
}

async fn kubeconfig(config: &Utf8Path, args: &KubeconfigArgs) -> Result<Exit, Failure> {
    let is_url = |url: &str| url.starts_with("https://") && url.len() > "https://".len();
    if args.server.as_deref().is_some_and(|url| !is_url(url)) {
        return Err(
            Failure::new("TU0906", "--server is no URL that begins with https://")
                .next(format!("trueup cluster kubeconfig {}", args.name))
                .exit(Exit::Usage),
        );
    }
    let found = fetch(config, &args.name, args.server.as_deref()).await?;
    if args.stdout {
        if std::io::stdout().is_terminal() {
            show::progress("what follows is as good as root on the cluster");
        }
        show::out(found.text()?.expose_secret());
        return Ok(Exit::Done);
    }
    let path = if args.merge {
        let path = usual()?;
        found.merge(&path)?;
        path
    } else {
        let path = args
            .out
            .clone()
            .unwrap_or_else(|| format!("{}.kubeconfig", args.name).into());
        found.write(&path)?;
        path
    };
    show::out(&format!(
        "{path}: context {} for {} (0600)\n  next: kubectl --kubeconfig {path} --context {} get nodes",
        found.context, found.server, found.context
    ));
    Ok(Exit::Done)
}
