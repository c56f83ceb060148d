//! What is said of commits: which contexts, and when each is decided.

use std::collections::{BTreeMap, BTreeSet};

use trueup_core::engine::Judgement;
use trueup_core::plan::Round;
use trueup_model::id::{CommitId, UnitId};
use trueup_model::port::store::Store;
use trueup_model::step::Cause;
use trueup_model::verdict::{Verdict, VerdictState};

use super::clock::now_s;
use super::destinations::Couriers;
use super::runtime::seconds;

/// Words on drift per commit and cluster: more is noise, and forges keep only so many.
const DRIFT_WORDS_MAX: u64 = 20;

/// The sum over all units.
const CONVERGED: &str = "converged";

/// Says things of one commit.
#[derive(Debug)]
pub(crate) struct Speaker<'a> {
    pub(crate) store: &'a dyn Store,
    pub(crate) fleet: &'a str,
    pub(crate) commit: &'a CommitId,
    pub(crate) couriers: &'a Couriers,
}

impl Speaker<'_> {
    /// Say something in a context.
    pub(crate) fn say(&self, context: &str, state: VerdictState, description: &str) {
        let context = format!("trueup/{}/{context}", self.fleet);
        let verdict = Verdict::new(self.commit.clone(), context, state, description);
        match self.store.decide(&verdict, seconds(now_s())) {
            Ok(true) => {
                tracing::debug!(context = verdict.context, ?state, "decided");
                self.couriers.wake();
            }
            Ok(false) => {}
            Err(error) => {
                tracing::error!(%error, context = verdict.context, "a verdict is not recorded");
            }
        }
    }

    /// A tip was found, and is looked at: said at once, and never of one that was
    /// spoken of before.
    pub(crate) fn arrived(&self) {
        let context = format!("trueup/{}/{CONVERGED}", self.fleet);
        if let Ok(None) = self.store.newest(self.commit, &context) {
            self.say(CONVERGED, VerdictState::Pending, "the commit is looked at");
        }
    }

    /// The state of `apply/*`: machines without a cluster share one context, and the
    /// worst of them speaks.
    pub(crate) fn apply(&self, all: &BTreeMap<UnitId, Judgement>, units: &[UnitId]) {
        let mut contexts: BTreeMap<&str, Vec<(&UnitId, &Judgement)>> = BTreeMap::new();
        for (unit, judgement) in all {
            contexts
                .entry(unit.context())
                .or_default()
                .push((unit, judgement));
        }
        for (context, judgements) in contexts {
            let Some((unit, worst)) = judgements.iter().max_by_key(|(_, j)| weight(j.state)) else {
                continue;
            };
            let members = units
                .iter()
                .filter(|unit| unit.context() == context)
                .count();
            if members > judgements.len() && worst.state == VerdictState::Success {
                let text = format!("{} of {members} were looked at", judgements.len());
                self.say(&format!("apply/{context}"), VerdictState::Pending, &text);
                continue;
            }
            let description = if judgements.len() > 1 && worst.state != VerdictState::Success {
                format!("{unit}: {}", worst.description)
            } else {
                worst.description.clone()
            };
            self.say(&format!("apply/{context}"), worst.state, &description);
        }
    }

    /// Once every unit is decided: the sum.
    pub(crate) fn converged(&self, all: &BTreeMap<UnitId, Judgement>, units: &[UnitId]) {
        let open = units.iter().any(|unit| {
            all.get(unit)
                .is_none_or(|judgement| !judgement.state.is_final())
        });
        if open {
            return;
        }
        let bad: Vec<(&UnitId, &Judgement)> = all
            .iter()
            .filter(|(_, judgement)| judgement.state != VerdictState::Success)
            .collect();
        match bad.first() {
            None => {
                let text = match units.len() {
                    1 => "true: 1 unit".to_owned(),
                    count => format!("true: {count} units"),
                };
                self.say(CONVERGED, VerdictState::Success, &text);
            }
            Some((unit, judgement)) => {
                let text = format!(
                    "{unit}: {} ({} of {} units)",
                    judgement.description,
                    bad.len(),
                    units.len()
                );
                self.say(CONVERGED, VerdictState::Failure, &text);
            }
        }
    }

    /// Drift after the decision, on change only.
    pub(crate) fn drift(&self, unit: &UnitId, rounds: &[&Round]) {
        let mut subjects = BTreeSet::new();
        let steps = rounds.iter().flat_map(|round| {
            let held = round.held.iter().map(|held| &held.step);
            round.ready.iter().chain(held)
        });
        for step in steps {
            if step.cause == Cause::Drift {
                let subject = step.action.subject();
                subjects.insert(format!("{} {subject}", step.target));
            }
        }
        let context = format!("trueup/{}/drift/{}", self.fleet, unit.context());
        let before = self.store.newest(self.commit, &context).ok().flatten();
        let (state, text) = match subjects.first() {
            None if before.is_none() => return,
            None => (VerdictState::Success, "no drift".to_owned()),
            Some(first) => (
                VerdictState::Failure,
                match subjects.len() {
                    1 => format!("{first} drifted"),
                    count => format!("{first} drifted, and {} more", count - 1),
                },
            ),
        };
        let verdict = Verdict::new(self.commit.clone(), context.clone(), state, &text);
        if before.is_some_and(|before| before.verdict == verdict) {
            return;
        }
        let key = format!("drift-words/{}/{context}", self.commit);
        let count: u64 = self
            .store
            .get(&key)
            .ok()
            .flatten()
            .and_then(|text| text.parse().ok())
            .unwrap_or(0);
        if count >= DRIFT_WORDS_MAX {
            return;
        }
        if let Err(error) = self.store.put(&key, &(count + 1).to_string()) {
            tracing::warn!(%error, "words on drift are not counted");
        }
        self.say(&format!("drift/{}", unit.context()), state, &text);
    }

    /// A newer commit came: what was open will not be decided.
    pub(crate) fn superseded(&self, by: &CommitId) {
        let verdicts = self.store.verdicts_of(self.commit).unwrap_or_default();
        for record in verdicts {
            if record.verdict.state.is_final() {
                continue;
            }
            let prefix = format!("trueup/{}/", self.fleet);
            if let Some(context) = record.verdict.context.strip_prefix(&prefix) {
                self.say(context, VerdictState::Error, &format!("superseded by {by}"));
            }
        }
    }
}

fn weight(state: VerdictState) -> u8 {
    match state {
        VerdictState::Success => 0,
        VerdictState::Pending => 1,
        VerdictState::Error => 2,
        VerdictState::Failure => 3,
    }
}
