//! The bed by hand.
//!
//! `bed up N [--control-plane] [--k3s | --python]` starts machines and prints how to
//! reach them until Ctrl-C. Meanwhile a line on its standard input hurts or heals one:
//! `cut m1` (power), `on m1`, `reboot m1`, `part m1` (its link goes down), `join m1`.
//! `bed sweep` removes what killed owners left.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that talks to people"
)]

use std::{
    io::{BufRead, Write},
    process::ExitCode,
    sync::Arc,
    thread,
    time::Instant,
};

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};
use trueup_bed::cache::Cache;
use trueup_bed::{Bed, BedSpec, ControlPlane, ControlSpec, sweep};

const USAGE: &str = "usage: bed up [N] [--control-plane] [--k3s | --python] | bed sweep";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["up", rest @ ..] => up(rest),
        ["sweep"] => sweep_all(),
        _ => Err(anyhow::anyhow!(USAGE)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn sweep_all() -> Result<()> {
    let removed = sweep::sweep_dead()?;
    println!("{} runs removed {}", removed.len(), removed.join(" "));
    Ok(())
}

fn up(args: &[&str]) -> Result<()> {
    let (mut count, mut control_plane, mut k3s, mut python) = (1, false, false, false);
    for arg in args {
        match *arg {
            "--control-plane" => control_plane = true,
            "--k3s" => k3s = true,
            "--python" => python = true,
            number => count = number.parse().ok().context(USAGE)?,
        }
    }
    // The handlers stand before the first machine does: Ctrl-C must never skip the removal.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let entered = runtime.enter();
    let (mut interrupt, mut terminate) = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
    );
    drop(entered);
    // Where the k3s double looks for the control plane's programs.
    let mut spec = BedSpec::with_machines(count).bind_ro(Cache::locate().bin()?, "/opt/k8s");
    spec.k3s_ready = k3s;
    spec.python = python;
    let bed = Arc::new(Bed::start(spec)?);
    println!("run {}", bed.id());
    for machine in bed.machines() {
        let (key, hosts) = (bed.ssh_key_path(), bed.known_hosts_path());
        println!(
            "ssh -i {} -o UserKnownHostsFile={} root@{}",
            key.display(),
            hosts.display(),
            machine.ip()
        );
    }
    let plane = if control_plane {
        Some(ControlPlane::start(ControlSpec::full())?)
    } else {
        None
    };
    if let Some(plane) = &plane {
        println!("run {}", plane.id());
        println!(
            "export KUBECONFIG={}",
            plane.kubeconfig_path("admin").display()
        );
    }
    println!("ready; Ctrl-C removes everything");
    std::io::stdout().flush()?;
    let orders = Arc::downgrade(&bed);
    thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let Some(bed) = orders.upgrade() else { return };
            let begun = Instant::now();
            match obey(&bed, &line) {
                Ok(()) => println!("{line}: done in {:.1} s", begun.elapsed().as_secs_f64()),
                Err(error) => println!("{line}: {error:#}"),
            }
        }
    });
    runtime.block_on(async {
        tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
    });
    Ok(())
}

/// One line of the standard input.
fn obey(bed: &Bed, line: &str) -> Result<()> {
    let Some((order, name)) = line.trim().split_once(' ') else {
        anyhow::bail!("wants an order and a machine")
    };
    let machine = bed
        .machines()
        .iter()
        .find(|machine| machine.name() == name)
        .with_context(|| format!("no machine {name}"))?;
    match order {
        "cut" => machine.power_cut(),
        "on" => machine.power_on(),
        "reboot" => machine.reboot(),
        "part" => machine.link_down(),
        "join" => machine.link_up(),
        _ => anyhow::bail!("orders are cut, on, reboot, part and join"),
    }
}
