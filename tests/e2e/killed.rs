//! kill -9 of trueup at random instants of a roll-out from blank machines: it goes on
//! where the machines are, and ends in the state of the undisturbed run.
//!
//! Three kills of one roll-out; with `TRUEUP_LONG=1` fifty roll-outs with a kill each.
//! `TRUEUP_SEED` repeats the instants of an earlier run, `TRUEUP_KILL_ROUNDS` asks for
//! another number of roll-outs.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::rig::{ROLL_OUT, Rig, Shape, state, story};

const LONG_ROUNDS: u32 = 50;

#[test]
fn killed_at_any_instant() -> Result<()> {
    story(Shape::THREE_AND_TWO, |rig| {
        let mut random = Random::seeded()?;
        rig.keep("blank")?;
        let begun = Instant::now();
        rig.converge()?;
        let whole = begun.elapsed();
        let undisturbed = state::of(rig)?;
        eprintln!("undisturbed: {:.1} s", whole.as_secs_f32());
        let (rounds, kills) = match std::env::var("TRUEUP_KILL_ROUNDS") {
            Ok(text) => (text.parse().context("TRUEUP_KILL_ROUNDS is a number")?, 1),
            Err(_) if std::env::var_os("TRUEUP_LONG").is_some() => (LONG_ROUNDS, 1),
            Err(_) => (1, 3),
        };
        for round in 1..=rounds {
            let mut instants: Vec<Duration> =
                (0..kills).map(|_| whole.mul_f64(random.next())).collect();
            instants.sort();
            let result = one_round(rig, &instants, &undisturbed);
            eprintln!("round {round}: kill -9 after {instants:.1?}: {result:?}");
            result?;
        }
        Ok(())
    })
}

/// From blank machines, with kills at these times after the start; how long it took.
fn one_round(rig: &Rig, instants: &[Duration], undisturbed: &state::State) -> Result<Duration> {
    rig.put_back("blank")?;
    rig.repo
        .git(&["push", "-q", "origin", "HEAD:refs/heads/main"])?;
    let commit = rig.repo.git(&["rev-parse", "HEAD"])?;
    let begun = Instant::now();
    // Not waited for: the first kill may come before it is ready.
    let mgmt = rig.host().machine();
    mgmt.sh("systemctl start --no-block trueup")?;
    for instant in instants {
        std::thread::sleep(instant.saturating_sub(begun.elapsed()));
        mgmt.sh("systemctl kill -s KILL trueup || true")?;
    }
    rig.host().wait_success(&commit, ROLL_OUT)?;
    let took = begun.elapsed();
    state::ensure_equal(undisturbed, &state::of(rig)?)?;
    for machine in rig.members() {
        let journal = machine.sh("journalctl -b _PID=1 -u k3s -u k3s-agent -o cat --no-pager")?;
        let starts = journal
            .lines()
            .filter(|line| line.starts_with("Started k3s"))
            .count();
        ensure!(
            starts == 1,
            "{}: k3s was started {starts} times",
            machine.name()
        );
    }
    Ok(took)
}

/// A generator that a seed repeats (splitmix64).
struct Random(u64);

impl Random {
    fn seeded() -> Result<Self> {
        let seed = match std::env::var("TRUEUP_SEED") {
            Ok(text) => text.parse().context("TRUEUP_SEED is a number")?,
            Err(_) => std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)?
                .as_secs(),
        };
        eprintln!("TRUEUP_SEED={seed}");
        Ok(Self(seed))
    }

    /// From 0 to 1.
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        f64::from(u32::try_from(z >> 32).unwrap_or(0)) / f64::from(u32::MAX)
    }
}
