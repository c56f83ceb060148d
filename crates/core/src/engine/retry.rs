//! Steps that failed, and when they may be tried again.

use std::collections::{BTreeMap, BTreeSet};

use trueup_model::id::Digest;

/// First wait after a failure.
const FIRST_S: i64 = 5;
/// Longest wait: an operator who frees a disk should not wait longer than this.
const LONGEST_S: i64 = 300;

#[derive(Debug, Clone)]
struct Failure {
    count: u32,
    why: String,
    not_before_s: i64,
}

/// Failures of steps, by id.
#[derive(Debug, Clone, Default)]
pub struct Retries(BTreeMap<Digest, Failure>);

impl Retries {
    /// A step failed: the next try waits 5 s, then 10, 20 … at most 300.
    pub fn failed(&mut self, id: &Digest, why: String, now_s: i64) {
        let count = self.0.get(id).map_or(0, |failure| failure.count) + 1;
        let wait = FIRST_S
            .saturating_mul(1_i64 << (count - 1).min(10))
            .min(LONGEST_S);
        let failure = Failure {
            count,
            why,
            not_before_s: now_s + wait,
        };
        self.0.insert(id.clone(), failure);
    }

    /// Forget what is not proposed any more.
    pub fn keep(&mut self, proposed: &BTreeSet<&Digest>) {
        self.0.retain(|id, _| proposed.contains(id));
    }

    /// Steps that wait now, with the reason.
    pub fn waiting(&self, now_s: i64) -> BTreeMap<Digest, String> {
        self.0
            .iter()
            .filter(|(_, failure)| failure.not_before_s > now_s)
            .map(|(id, failure)| {
                let wait = failure.not_before_s - now_s;
                let text = format!(
                    "try {} failed: {}; again in {wait} s",
                    failure.count, failure.why
                );
                (id.clone(), text)
            })
            .collect()
    }

    /// When the next waiting step may be tried.
    pub fn next(&self, now_s: i64) -> Option<i64> {
        self.0
            .values()
            .map(|failure| failure.not_before_s)
            .filter(|at| *at > now_s)
            .min()
    }

    /// How often a step failed, and the last reason.
    pub fn of(&self, id: &Digest) -> Option<(u32, &str)> {
        self.0
            .get(id)
            .map(|failure| (failure.count, failure.why.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound() {
        let mut retries = Retries::default();
        let id = Digest::of(b"x");
        let mut waits = Vec::new();
        for _ in 0..9 {
            retries.failed(&id, "no".into(), 1000);
            waits.push(retries.next(1000).unwrap() - 1000);
        }
        assert_eq!(waits, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
        retries.keep(&BTreeSet::new());
        assert_eq!(retries.next(1000), None);
    }
}
