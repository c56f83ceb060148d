//! The command line: a request in, a view out. Nothing is decided here.

pub mod exit;

mod adopt;
mod apply;
mod cluster;
mod config;
mod demo;
mod doctor;
mod init;
mod node;
mod plan;
mod render;
mod run;
mod schema;
mod show;
mod status;
mod validate;
mod word;

use camino::Utf8PathBuf;
use clap::{Args, Parser, Subcommand, ValueEnum};

use exit::Exit;

/// Keeps machines, k3s clusters and everything on them true to a Git repository.
#[derive(Debug, Parser)]
#[command(name = "trueup", version, about, max_term_width = 100)]
pub struct Cli {
    /// The host configuration.
    #[arg(long, global = true, env = "TRUEUP_CONFIG", default_value = crate::app::settings::DEFAULT_PATH)]
    pub config: Utf8PathBuf,
    /// Logs on stderr, as `tracing` directives (`info`, `trueup=debug`).
    #[arg(long, global = true, env = "TRUEUP_LOG", default_value = "warn")]
    pub log: String,
    #[command(subcommand)]
    command: Command,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Human,
    /// For programs.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a host configuration and a config repo: the first command on a host.
    Init(init::InitArgs),
    /// Machines: enroll.
    Node(node::NodeArgs),
    /// Clusters: kubeconfig.
    Cluster(cluster::ClusterArgs),
    /// What is missing on this host and on the way to its machines.
    Doctor(doctor::DoctorArgs),
    /// What the host grants: its switches, and where anything may be sent.
    Config(config::ConfigArgs),
    /// Show everything on a simulated fleet: no machine, no account, no network.
    Demo(demo::DemoArgs),
    /// Check a config repo: no network, no keys, no live access.
    Validate(validate::ValidateArgs),
    /// Show what would be done, and change nothing.
    Plan(plan::PlanArgs),
    /// Do it: a saved plan, or a fresh one after a question.
    Apply(apply::ApplyArgs),
    /// Take over, unchanged, what lives already.
    Adopt(adopt::AdoptArgs),
    /// Keep the fleet true to the branch, for ever.
    Run(run::RunArgs),
    /// What is true, what is not, and what it waits for.
    Status(status::StatusArgs),
    /// Grant named steps, deletions or a held commit.
    Approve(word::ApproveArgs),
    /// Take a unit over from another holder.
    Claim(word::ClaimArgs),
    /// Leave a unit or Application alone.
    Pause(word::PauseArgs),
    /// End a pause.
    Resume(word::ResumeArgs),
    /// Print the JSON Schema of a kind.
    Schema(schema::SchemaArgs),
    /// Print shell completions.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Options of commands that print a result.
#[derive(Debug, Args)]
struct OutputArgs {
    /// How the result is printed.
    #[arg(short, long, value_enum, default_value = "human")]
    output: Output,
}

/// Run a command.
pub async fn main(cli: Cli) -> Exit {
    let config = match &cli.command {
        Command::Init(_) => cli.config,
        _ => crate::app::first::place::config(&cli.config),
    };
    let result = match cli.command {
        Command::Init(args) => Box::pin(init::init(&config, args)).await,
        Command::Node(args) => node::node(&config, args).await,
        Command::Cluster(args) => cluster::cluster(&config, args).await,
        Command::Doctor(args) => Box::pin(doctor::doctor(&config, args)).await,
        Command::Config(args) => config::config(&config, &args),
        Command::Demo(args) => Box::pin(demo::demo(args)).await,
        Command::Validate(args) => validate::validate(args).await,
        Command::Plan(args) => plan::plan(&config, args).await,
        Command::Apply(args) => Box::pin(apply::apply(&config, args)).await,
        Command::Adopt(args) => Box::pin(adopt::adopt(&config, args)).await,
        Command::Run(args) => Box::pin(run::run(&config, args)).await,
        Command::Status(args) => status::status(&config, args).await,
        Command::Approve(args) => word::approve(&config, args).await,
        Command::Claim(args) => word::claim(&config, args).await,
        Command::Pause(args) => word::pause(&config, args).await,
        Command::Resume(args) => word::resume(&config, args).await,
        Command::Schema(args) => schema::schema(&args),
        Command::Completions { shell } => {
            schema::completions(shell);
            Ok(Exit::Done)
        }
    };
    match result {
        Ok(exit) => exit,
        Err(failure) => {
            show::error(&failure);
            failure.exit
        }
    }
}

pub(crate) use plan::human as plan_text;
pub(crate) use status::human as status_text;
pub(crate) use validate::findings_text;

/// An error at the edge: what happened, what to do next, how the program ends.
#[derive(Debug)]
pub struct Failure {
    /// Stable code (`TU0901`).
    pub code: &'static str,
    /// What happened.
    pub message: String,
    /// The one next thing to do.
    pub next: Option<String>,
    /// How the program ends.
    pub exit: Exit,
}

impl Failure {
    /// A failure of the general kind.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            next: None,
            exit: Exit::Error,
        }
    }

    /// With the next thing to do.
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// Ending like this.
    #[must_use]
    pub fn exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }
}
