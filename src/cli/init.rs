//! `trueup init`.

use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use serde_json::json;
use trueup_model::id::{FleetName, NodeName};

use super::exit::Exit;
use super::{Failure, Output, OutputArgs, show};
use crate::app::first::init::{Made, Wish, make};
use crate::app::first::place::{self, Place, Surroundings};
use crate::app::first::service::{self, Service};

/// Options of `init`.
#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// The folder of the config repo that is made (or of one that exists).
    #[arg(conflicts_with = "repo")]
    dir: Option<Utf8PathBuf>,
    /// The same, as a flag.
    #[arg(long, value_name = "DIR")]
    repo: Option<Utf8PathBuf>,
    /// Name of the fleet.
    #[arg(long, value_name = "NAME")]
    fleet: Option<FleetName>,
    /// Where history, outbox and mirror lie.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<Utf8PathBuf>,
    /// This machine itself is the first of the fleet.
    #[arg(long)]
    local: bool,
    /// Private key to log in to machines with.
    #[arg(long, value_name = "FILE")]
    ssh_identity: Option<Utf8PathBuf>,
    /// age identity to open secrets with. Default: a new one.
    #[arg(long, value_name = "FILE")]
    age_identity: Option<Utf8PathBuf>,
    /// Grant carrying out what commits ask for.
    #[arg(long)]
    roll_out: bool,
    /// Grant putting drift right.
    #[arg(long)]
    correct_drift: bool,
    /// Ask nothing: the default for everything that is not said.
    #[arg(long)]
    yes: bool,
    /// Install the systemd unit of `trueup run` (as anyone but root: print it).
    #[arg(long)]
    systemd: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// Make a host configuration and a config repo.
pub(super) async fn init(config: &Utf8Path, args: InitArgs) -> Result<Exit, Failure> {
    let around = Surroundings::here();
    let place = place::to_make(config, args.state_dir.as_deref(), &around)?;
    let output = args.output.output;
    let systemd = args.systemd;
    let made = if systemd && place.config.exists() {
        None
    } else {
        refuse_before_asking(&place)?;
        let wish = Asking::new(&args).wish(&args, place.clone(), &around)?;
        Some((make(&wish).await?, wish))
    };
    if let Some((made, wish)) = &made {
        match output {
            Output::Human => show::out(&text(made, wish)),
            Output::Json => show::json(&as_json(made)),
        }
    }
    if systemd {
        match service::install(&place.config).await? {
            Service::Installed(start) => show::progress(&format!(
                "the unit of trueup run is installed\n  next: {start}"
            )),
            Service::Printed(text) => show::out(&text),
        }
    }
    Ok(Exit::Done)
}

/// Questions whose answers are thrown away annoy.
fn refuse_before_asking(place: &Place) -> Result<(), Failure> {
    crate::app::first::init::refuse_existing(&place.config)
}

/// How what was not said is found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asking {
    /// A person is there.
    Person,
    /// `--yes`: by defaults.
    Defaults,
    /// Not at all.
    Nobody,
}

impl Asking {
    fn new(args: &InitArgs) -> Self {
        match (args.yes, show::is_interactive()) {
            (true, _) => Self::Defaults,
            (false, true) => Self::Person,
            (false, false) => Self::Nobody,
        }
    }

    /// Nobody can be asked: everything that is missing is named at once.
    fn check(self, args: &InitArgs, place: &Place, around: &Surroundings) -> Result<(), Failure> {
        let dir = args.dir.as_ref().or(args.repo.as_ref());
        let absent = [
            ("DIR", dir.is_none()),
            ("--fleet NAME", args.fleet.is_none()),
            (
                "--ssh-identity FILE or --local",
                args.ssh_identity.is_none() && !args.local,
            ),
        ];
        let absent: Vec<&str> = absent
            .into_iter()
            .filter(|flag| flag.1)
            .map(|flag| flag.0)
            .collect();
        if self != Self::Nobody || absent.is_empty() {
            return Ok(());
        }
        let identity = args.ssh_identity.clone().or_else(|| around.ssh_identity());
        let machines = match identity {
            _ if args.local => "--local".to_owned(),
            Some(path) => format!("--ssh-identity {path}"),
            None => "--local".to_owned(),
        };
        let mut next = format!(
            "{} init {} --fleet {} {machines}",
            place::making(&place.config),
            dir.cloned().unwrap_or_else(place::own_repo),
            args.fleet.as_ref().map_or("home", FleetName::as_str),
        );
        for (flag, path) in [
            ("--state-dir", &args.state_dir),
            ("--age-identity", &args.age_identity),
        ] {
            if let Some(path) = path {
                next.push_str(&format!(" {flag} {path}"));
            }
        }
        for (flag, on) in [
            ("--roll-out", args.roll_out),
            ("--correct-drift", args.correct_drift),
        ] {
            if on {
                next.push_str(&format!(" {flag}"));
            }
        }
        let message = format!("nobody is there to be asked for {}", absent.join(", "));
        Err(Failure::new("TU0906", message).next(next).exit(Exit::Usage))
    }

    fn text(self, question: &str, default: &str) -> String {
        match self {
            Self::Person => show::answer(question, default),
            Self::Defaults | Self::Nobody => default.to_owned(),
        }
    }

    /// Power is never granted by a default.
    fn grant(self, question: &str, said: bool) -> bool {
        said || (self == Self::Person && show::ask(question))
    }

    fn wish(self, args: &InitArgs, place: Place, around: &Surroundings) -> Result<Wish, Failure> {
        self.check(args, &place, around)?;
        let repo = match args.dir.as_ref().or(args.repo.as_ref()) {
            Some(dir) => dir.clone(),
            None => {
                let default = place::own_repo();
                self.text("Folder of the config repo?", default.as_str())
                    .into()
            }
        };
        let fleet = match &args.fleet {
            Some(fleet) => fleet.clone(),
            None => parsed(&self.text("Name of the fleet?", "home"))?,
        };
        let (local, ssh_identity) = self.machines(args, around)?;
        let correct = "May trueup put back what somebody changes by hand on its machines?";
        Ok(Wish {
            roll_out: self.grant(
                "May trueup carry out commits on machines that you enroll?",
                args.roll_out,
            ),
            correct_drift: self.grant(correct, args.correct_drift),
            place,
            repo: place::absolute(&repo),
            fleet,
            local,
            ssh_identity,
            age_identity: args.age_identity.clone(),
        })
    }

    /// Which machines come first: this one, others over SSH, or both.
    fn machines(
        self,
        args: &InitArgs,
        around: &Surroundings,
    ) -> Result<(Option<NodeName>, Option<Utf8PathBuf>), Failure> {
        let identity = match &args.ssh_identity {
            Some(path) => Some(place::absolute(path)),
            None if args.local => None,
            None => {
                let default = around.ssh_identity();
                let default = default.as_ref().map_or("", |path| path.as_str());
                let question = "Private SSH key to log in with (- for none)?";
                let said = self.text(question, default);
                (!matches!(said.as_str(), "" | "-")).then(|| place::absolute(said.as_str().into()))
            }
        };
        let question = "Is this machine itself to be the first of the fleet?";
        let ask = self == Self::Person && args.ssh_identity.is_none();
        let local = args.local || (ask && show::ask(question));
        if !local {
            return Ok((None, identity));
        }
        let name = place::hostname().ok_or_else(|| {
            Failure::new("TU0906", "this machine's host name is no name of a Node")
                .next("hostnamectl hostname NAME")
                .exit(Exit::Usage)
        })?;
        Ok((Some(name), identity))
    }
}

fn parsed(text: &str) -> Result<FleetName, Failure> {
    text.parse().map_err(|error| {
        Failure::new("TU0906", format!("{error}"))
            .next("trueup init --fleet home")
            .exit(Exit::Usage)
    })
}

fn text(made: &Made, wish: &Wish) -> String {
    let mut out = format!("{}: the host configuration (0600)\n", made.config);
    out.push_str(&format!(
        "{}: the age identity (0600); encrypt secrets for {}\n",
        made.age_identity, made.recipient
    ));
    out.push_str(&if made.repo_kept {
        format!("{}: the config repo, as it was\n", made.repo)
    } else {
        format!("{}: the config repo, with its first commit\n", made.repo)
    });
    if let Some(author) = &made.author {
        out.push_str(&format!(
            "git knew no author: commits there are by {author}\n"
        ));
    }
    if !wish.roll_out {
        out.push_str(
            "trueup may look and tell, and change nothing (switches in the host configuration)\n",
        );
    }
    out.push_str(&format!("  next: {}\n", next(made, wish)));
    out
}

fn next(made: &Made, wish: &Wish) -> String {
    let trueup = place::command(&made.config);
    match (&wish.local, made.repo_kept) {
        (None, false) => format!("{trueup} node enroll HOST"),
        _ => format!("{trueup} plan"),
    }
}

fn as_json(made: &Made) -> serde_json::Value {
    json!({
        "config": made.config,
        "repo": made.repo,
        "repoKept": made.repo_kept,
        "ageIdentity": made.age_identity,
        "recipient": made.recipient,
    })
}
