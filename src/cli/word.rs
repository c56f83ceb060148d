//! `approve`, `claim`, `pause`, `resume`: words of a person.

use camino::Utf8Path;
use clap::Args;

use super::exit::Exit;
use super::{Failure, show};
use crate::app::office::{Desk, Request, open};

/// Options of `approve`.
#[derive(Debug, Args)]
pub(super) struct ApproveArgs {
    /// Ids of steps, as `plan` and `status` show them.
    steps: Vec<String>,
    /// All deletions of this Application that wait now.
    #[arg(long, value_name = "APPLICATION")]
    deletions: Option<String>,
    /// A commit that is held: a rewound branch.
    #[arg(long, value_name = "SHA")]
    commit: Option<String>,
    /// Why.
    #[arg(long)]
    reason: String,
    /// Seconds until the grant expires.
    #[arg(long, default_value_t = 24 * 3600)]
    expires_s: u64,
}

/// Options of `claim`.
#[derive(Debug, Args)]
pub(super) struct ClaimArgs {
    /// The unit to take over from another holder.
    #[arg(long, value_name = "UNIT")]
    take_over: String,
    /// Why.
    #[arg(long)]
    reason: String,
}

/// Options of `pause`.
#[derive(Debug, Args)]
pub(super) struct PauseArgs {
    /// `cluster/NAME`, `machine/NAME` or `app/NAME`.
    target: String,
    /// Why.
    #[arg(long)]
    reason: String,
    /// Seconds until it ends by itself. Default: until `resume`.
    #[arg(long)]
    for_s: Option<u64>,
}

/// Options of `resume`.
#[derive(Debug, Args)]
pub(super) struct ResumeArgs {
    /// What was paused.
    target: String,
}

async fn say(config: &Utf8Path, request: Request) -> Result<Exit, Failure> {
    let answer = match open(config).await? {
        Desk::Loop(client) => client.ask(&request).await?,
        Desk::Own(mut office) => {
            let author = crate::app::socket::author_of(rustix::process::getuid().as_raw());
            Box::pin(office.answer(request, &author)).await?
        }
    };
    show::out(&answer.text);
    Ok(Exit::Done)
}

/// Grant named steps, deletions, or a held commit.
pub(super) async fn approve(config: &Utf8Path, args: ApproveArgs) -> Result<Exit, Failure> {
    if args.steps.is_empty() && args.deletions.is_none() && args.commit.is_none() {
        return Err(
            Failure::new("TU0906", "name steps, --deletions or --commit")
                .next("trueup plan shows the ids")
                .exit(Exit::Usage),
        );
    }
    let request = Request::Approve {
        steps: args.steps,
        deletions: args.deletions,
        commit: args.commit,
        reason: args.reason,
        expires_s: args.expires_s,
    };
    say(config, request).await
}

/// Take a unit over.
pub(super) async fn claim(config: &Utf8Path, args: ClaimArgs) -> Result<Exit, Failure> {
    let request = Request::Claim {
        unit: args.take_over,
        reason: args.reason,
    };
    say(config, request).await
}

/// Leave something alone.
pub(super) async fn pause(config: &Utf8Path, args: PauseArgs) -> Result<Exit, Failure> {
    let request = Request::Pause {
        target: args.target,
        reason: args.reason,
        for_s: args.for_s,
    };
    say(config, request).await
}

/// End a pause.
pub(super) async fn resume(config: &Utf8Path, args: ResumeArgs) -> Result<Exit, Failure> {
    say(
        config,
        Request::Resume {
            target: args.target,
        },
    )
    .await
}
