//! When k3s was down on each machine, by the machines' own journals.

use anyhow::{Context as _, Result, ensure};
use trueup_bed::Machine;

/// From the stop to READY, in seconds since 1970.
#[derive(Debug, Clone)]
pub(crate) struct Restart {
    pub(crate) machine: String,
    pub(crate) stopped: f64,
    pub(crate) started: f64,
}

/// The present time of the host, which is also the machines'.
pub(crate) fn now() -> Result<f64> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    Ok(now.as_secs_f64())
}

/// Restarts of k3s on these machines that began after `since`, in order of time.
pub(crate) fn restarts(machines: &[&Machine], since: f64) -> Result<Vec<Restart>> {
    let mut all = Vec::new();
    for machine in machines {
        let unit = "k3s.service k3s-agent.service";
        let units: Vec<String> = unit.split(' ').map(|name| format!("-u {name}")).collect();
        let text = machine.sh(&format!(
            "journalctl {} _PID=1 -o short-unix --no-pager -q",
            units.join(" ")
        ))?;
        let mut stopped = None;
        for line in text.lines() {
            let at = line.split_whitespace().next().unwrap_or_default();
            let Ok(at) = at.parse::<f64>() else { continue };
            if line.contains(": Stopping k3s") {
                stopped = Some(at);
            } else if line.contains(": Started k3s")
                && let Some(stopped) = stopped.take()
                && stopped >= since
            {
                all.push(Restart {
                    machine: machine.name().to_owned(),
                    stopped,
                    started: at,
                });
            }
        }
    }
    all.sort_by(|one, other| one.stopped.total_cmp(&other.stopped));
    Ok(all)
}

/// No machine was stopped before the one before it was READY again.
pub(crate) fn one_at_a_time(restarts: &[Restart]) -> Result<()> {
    for pair in restarts.windows(2) {
        let [one, next] = pair else { continue };
        ensure!(
            one.started <= next.stopped,
            "two down at once: {restarts:#?}"
        );
    }
    Ok(())
}

/// The unit's invocation: another one after every start.
pub(crate) fn invocation(machine: &Machine) -> Result<String> {
    let text = machine.sh("systemctl show -p InvocationID --value k3s k3s-agent")?;
    let id = text.split_whitespace().next().context("k3s runs")?;
    Ok(id.to_owned())
}
