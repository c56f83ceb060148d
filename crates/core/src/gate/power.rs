//! Power: both the host configuration and the config repo must grant what a step
//! does. The host's default is to report only.

use trueup_model::kinds::switches::Powers;
use trueup_model::step::{Cause, Target};

use super::{Case, Hold};

pub(super) fn judge(case: &Case<'_>) -> Option<Hold> {
    let repo = repo_side(case);
    let host = case.context.ceiling;
    let (word, by_host, by_repo) = match case.step.cause {
        Cause::Commit => ("rollOut", host.roll_out, repo.roll_out),
        Cause::Drift => ("correctDrift", host.correct_drift, repo.correct_drift),
        Cause::Follow => (
            "rollOut",
            host.roll_out || host.correct_drift,
            repo.roll_out || repo.correct_drift,
        ),
    };
    let what = if word == "rollOut" {
        "roll-out"
    } else {
        "correction"
    };
    if !by_host {
        return Some(Hold::refuse(
            "power",
            format!("{what} is off in the host configuration"),
            format!("trueup config set switches.{word} true"),
        ));
    }
    if !by_repo {
        return Some(Hold::refuse(
            "power",
            format!("{what} is off in the config repo"),
            format!("commit switches: {{{word}: true}}"),
        ));
    }
    None
}

/// What the repo grants for the step's target: the nearest document decides.
fn repo_side(case: &Case<'_>) -> Powers {
    let nothing = Powers {
        report_drift: true,
        correct_drift: false,
        roll_out: false,
    };
    match &case.step.target {
        Target::Machine(name) => case
            .desired
            .machines
            .get(name)
            .map(|machine| machine.powers),
        Target::Node(_) | Target::Cluster(_) => {
            case.desired.cluster.as_ref().map(|cluster| cluster.powers)
        }
        Target::Object(app, _) => case.desired.apps.get(app).map(|app| app.powers),
    }
    .unwrap_or(nothing)
}
