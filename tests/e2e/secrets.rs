//! No secret in any output: a canary of each kind, at trace level, looked for in
//! everything that trueup wrote, said or started.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context as _, Result, anyhow, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

use crate::rig::{MGMT, ROLL_OUT, Rig, STATE, Shape, story};

/// Where a canary has its place: the file that it is for, and where it was put by hand.
/// In /var/lib/rancher k3s keeps token and data.
const PLACES: [&str; 6] = [
    "/etc/rancher/k3s/trueup-token",
    "/etc/trueup-demo/licence",
    "/etc/trueup/age.key",
    "/etc/trueup/id_ed25519",
    "/var/lib/trueup/host/digest.key",
    "/var/lib/rancher/",
];

#[test]
fn no_secret_in_any_output() -> Result<()> {
    story(Shape::ONE_AND_ONE, |rig| {
        let watch = CommandLines::watch()?;
        let mut evidence = Evidence::new(rig)?;
        rig.machine(MGMT).put_file(
            "/etc/systemd/system/trueup.service.d/trace.conf",
            0o644,
            "[Service]\nEnvironment=TRUEUP_LOG=trace\n",
        )?;
        rig.machine(MGMT).sh("systemctl daemon-reload")?;
        use_everything(rig, &mut evidence)?;
        evidence.collect(rig)?;
        evidence.add("command-lines", &watch.finish()?)?;
        evidence.search(rig)
    })
}

/// Roll-out, drift of a Secret and of a secret file, plans in all forms, failures.
fn use_everything(rig: &Rig, evidence: &mut Evidence) -> Result<()> {
    let host = rig.host();
    let commit = rig.repo.push("the first state")?;
    let plan = host.trueup_ends("--log trace plan --out /root/plan.json", 0)?;
    evidence.add("plan", &(plan.stdout + &plan.stderr))?;
    evidence.add(
        "plan-file",
        &rig.machine(MGMT).read_text("/root/plan.json")?,
    )?;
    host.start()?;
    host.wait_success(&commit, ROLL_OUT)?;

    host.stop()?;
    let drift = |machine: &str| {
        rig.machine(machine)
            .sh("echo drifted >/etc/trueup-demo/licence")
    };
    drift("m2")?;
    rig.api()?.kubectl(&[
        "-n",
        "web",
        "patch",
        "secret",
        "login",
        "--type=merge",
        "-p",
        "{\"stringData\":{\"password\":\"drifted\"}}",
    ])?;
    // A value that the API server refuses is part of what it answers.
    let broken = rig.keys.encrypt(&format!(
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: broken\ntype: kubernetes.io/dockerconfigjson\nstringData:\n  .dockerconfigjson: {}\n",
        rig.keys.password
    ))?;
    rig.repo.write("apps/web/broken.enc.yaml", &broken)?;
    rig.repo.push("a Secret that is refused")?;
    for args in [
        "plan",
        "plan -o json",
        "apply --yes --wait-s 10",
        "status",
        "status -o json",
    ] {
        let end = host.trueup(&format!("--log trace {args}"))?;
        evidence.add(args, &(end.stdout + &end.stderr))?;
    }
    drift("m2")?;
    // Everything at hand, as the message of a panic shows it.
    let panicked = rig.machine(MGMT).exec(
        "TRUEUP_FORCED_PANIC=1 RUST_BACKTRACE=full trueup --log trace apply --yes --wait-s 10 2>&1",
    )?;
    ensure!(
        panicked.stdout.contains("a forced panic"),
        "{}",
        panicked.stdout
    );
    evidence.add("panic", &panicked.stdout)?;
    host.trueup("apply --yes --wait-s 10")?;
    let licence = rig.machine("m2").read_text("/etc/trueup-demo/licence")?;
    ensure!(licence == rig.keys.licence, "the drift was repaired");
    host.start()?;
    host.trueup_ends("status", 0).map(drop)
}

/// Everything that is searched, as files.
struct Evidence {
    folder: PathBuf,
    count: usize,
}

impl Evidence {
    fn new(rig: &Rig) -> Result<Self> {
        let folder = rig.bed.scratch()?.join("evidence");
        fs::create_dir(&folder)?;
        Ok(Self { folder, count: 0 })
    }

    fn add(&mut self, name: &str, text: &str) -> Result<()> {
        self.count += 1;
        let plain: String = name
            .chars()
            .map(|c| if c.is_alphanumeric() { c } else { '-' })
            .collect();
        let path = self.folder.join(format!("{:02}-{plain}", self.count));
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// What is not a file on a machine's disk, or not in a form that can be searched.
    fn collect(&mut self, rig: &Rig) -> Result<()> {
        for machine in rig.bed.machines() {
            let journal = machine.sh("journalctl -o export --all --no-pager")?;
            ensure!(journal.len() > 10_000, "{} has a journal", machine.name());
            self.add(&format!("journal of {}", machine.name()), &journal)?;
            // Folders of the machine's memory: no disk shows them.
            let run = machine.sh(
                "find /run/trueup /run/systemd/transient /run/systemd/system -type f -exec cat {} + 2>/dev/null || true",
            )?;
            self.add(&format!("run of {}", machine.name()), &run)?;
        }
        let traced = rig.host().logs()?;
        ensure!(traced.contains("TRACE"), "the service logs at trace level");
        let mirror = format!("git --git-dir={STATE}/mirror.git");
        let objects = rig.machine(MGMT).sh(&format!(
            "{mirror} for-each-ref; {mirror} cat-file --batch-all-objects --batch"
        ))?;
        self.add("mirror", &objects)?;
        let api = rig.api()?;
        for kind in ["nodes", "configmaps", "events", "deployments", "leases"] {
            let text = api.kubectl(&["get", kind, "-A", "-o", "json", "--show-managed-fields"])?;
            self.add(kind, &text)?;
        }
        let secrets = api.kubectl(&[
            "get",
            "secrets",
            "-A",
            "-o",
            "jsonpath={range .items[*]}{.metadata}{end}",
        ])?;
        self.add("metadata of Secrets", &secrets)
    }

    /// A search that finds nothing is worth something only if it would find something.
    fn finds_what_is_there(&self, rig: &Rig, patterns: &Path) -> Result<()> {
        let control = self.folder.join("control");
        let password = &rig.keys.password;
        for text in [
            format!("a{password}b"),
            STANDARD.encode(format!("{{\"k\":\"{password}\"}}")),
            STANDARD.encode(format!("ab{password}cd")),
            password.bytes().map(percent).collect(),
        ] {
            fs::write(&control, &text)?;
            ensure!(grep(patterns, &control)?.len() == 1, "not found: {text}");
        }
        fs::remove_file(control).map_err(Into::into)
    }

    /// Looks for every canary in every form.
    fn search(&self, rig: &Rig) -> Result<()> {
        let patterns = rig.bed.scratch()?.join("patterns");
        let needles = needles(rig)?;
        fs::write(&patterns, needles.join("\n") + "\n")?;
        self.finds_what_is_there(rig, &patterns)?;
        let mut hits = BTreeSet::new();
        let mut placed = BTreeSet::new();
        for (root, inside) in tops(rig, &self.folder) {
            for hit in grep(&patterns, &root)? {
                let path = match &inside {
                    Some((machine, prefix)) => {
                        let rest = hit.strip_prefix(&root)?.display().to_string();
                        let path = format!("{prefix}/{rest}");
                        if PLACES.iter().any(|place| path.starts_with(place)) {
                            placed.insert(path);
                            continue;
                        }
                        format!("{machine}:{path}")
                    }
                    None => hit.display().to_string(),
                };
                hits.insert(path);
            }
        }
        ensure!(
            placed.len() >= 4,
            "the search finds what is there: {placed:?}"
        );
        ensure!(hits.is_empty(), "secrets in: {hits:#?}");
        eprintln!(
            "{} forms of canaries looked for; found only in {placed:?}",
            needles.len()
        );
        Ok(())
    }
}

/// Folders to search: the evidence, and of each machine's disk what is not in the
/// tree that all share.
fn tops(rig: &Rig, evidence: &Path) -> Vec<(PathBuf, Option<(String, String)>)> {
    let mut tops = vec![(evidence.to_owned(), None)];
    for machine in rig.bed.machines() {
        for folder in [
            "/etc", "/var/lib", "/var/log", "/root", "/srv", "/opt", "/home", "/tmp",
        ] {
            tops.push((
                machine.root_dir().join(folder.trim_start_matches('/')),
                Some((machine.name().to_owned(), folder.to_owned())),
            ));
        }
    }
    tops
}

/// Files below a folder that hold any of the patterns.
fn grep(patterns: &Path, root: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("grep")
        .args([
            "--recursive",
            "--text",
            "--fixed-strings",
            "--files-with-matches",
            "--null",
        ])
        .arg("--file")
        .arg(patterns)
        .arg(root)
        .env("LC_ALL", "C")
        .output()?;
    // 2: a file that went away meanwhile.
    ensure!(output.status.code().is_some(), "grep was killed");
    let text = String::from_utf8(output.stdout)?;
    Ok(text
        .split('\0')
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
        .collect())
}

/// Every secret in every form in which it could leave.
fn needles(rig: &Rig) -> Result<Vec<String>> {
    let keys = &rig.keys;
    let age = keys
        .age_identity
        .lines()
        .find(|line| line.starts_with("AGE-SECRET-KEY-"))
        .context("an age identity")?;
    let ssh = fs::read_to_string(rig.bed.ssh_key_path())?;
    let ssh_line = ssh.lines().nth(3).context("a private key has lines")?;
    let mut needles = Vec::new();
    for secret in [&keys.token, &keys.password, &keys.licence, age, ssh_line] {
        forms(secret.as_bytes(), &mut needles);
        needles.push(secret.to_owned());
        let url: String = secret.bytes().map(percent).collect();
        needles.push(url.to_lowercase());
        needles.push(url);
    }
    let digest_key = rig
        .machine(MGMT)
        .read_file(&format!("{STATE}/digest.key"))?;
    forms(&digest_key, &mut needles);
    needles.sort();
    needles.dedup();
    ensure!(
        needles.iter().all(|needle| needle.len() >= 8),
        "{needles:?}"
    );
    Ok(needles)
}

/// base64 at each of the three alignments, in both alphabets, and hexadecimal.
fn forms(bytes: &[u8], out: &mut Vec<String>) {
    for shift in 0..3 {
        let mut shifted = vec![b'x'; shift];
        shifted.extend_from_slice(bytes);
        for text in [STANDARD.encode(&shifted), URL_SAFE.encode(&shifted)] {
            // The first and the last group depend on what is beside.
            let inner = text.trim_end_matches('=');
            let end = inner.len().saturating_sub(2);
            out.extend(
                inner
                    .get(shift.div_ceil(1).min(1) * 4..end)
                    .map(str::to_owned),
            );
        }
    }
    out.push(bytes.iter().map(|byte| format!("{byte:02x}")).collect());
}

fn percent(byte: u8) -> String {
    if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
        char::from(byte).to_string()
    } else {
        format!("%{byte:02X}")
    }
}

/// Command lines of all processes of this host, which are also those of the machines.
struct CommandLines {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<BTreeSet<String>>,
}

impl CommandLines {
    fn watch() -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&stop);
        let thread = thread::Builder::new().spawn(move || {
            let mut seen = BTreeSet::new();
            while !over.load(Ordering::SeqCst) {
                for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
                    let path = entry.path().join("cmdline");
                    if let Ok(bytes) = fs::read(path)
                        && !bytes.is_empty()
                    {
                        seen.insert(String::from_utf8_lossy(&bytes).replace('\0', " "));
                    }
                }
                thread::sleep(std::time::Duration::from_millis(20));
            }
            seen
        })?;
        Ok(Self { stop, thread })
    }

    fn finish(self) -> Result<String> {
        self.stop.store(true, Ordering::SeqCst);
        let seen = self.thread.join().map_err(|_| anyhow!("it panicked"))?;
        ensure!(
            seen.iter().any(|line| line.contains("systemd-run")),
            "no job was seen"
        );
        Ok(seen.into_iter().collect::<Vec<_>>().join("\n"))
    }
}
