//! A prober: writes through the API all the while, remembers what was acknowledged,
//! and at the end looks for it.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Api, Rig};

/// A server that does not answer in this time is passed over.
const ANSWER_S: u32 = 3;
/// Between two writes.
const PAUSE: Duration = Duration::from_millis(100);

/// A prober at work. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Prober {
    api: Api,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Record>>,
}

/// What it saw.
#[derive(Debug, Default)]
pub(crate) struct Record {
    acknowledged: Vec<String>,
    refused: usize,
    longest_gap: Duration,
}

struct Client {
    key: PathBuf,
    servers: Vec<String>,
}

impl Prober {
    /// Begins to write.
    pub(crate) fn start(rig: &Rig) -> Result<Self> {
        let api = rig.api()?;
        let text = api.kubeconfig()?;
        let scratch = rig.bed.scratch()?;
        let mut pem = Vec::new();
        for field in ["client-certificate-data", "client-key-data"] {
            let line = text
                .lines()
                .find_map(|line| line.trim().strip_prefix(field));
            let value = line.with_context(|| format!("the kubeconfig has no {field}"))?;
            pem.extend(STANDARD.decode(value.trim_start_matches(':').trim())?);
        }
        let key = scratch.join("prober.pem");
        fs::write(&key, pem)?;
        let client = Client {
            key,
            servers: api.servers.clone(),
        };
        let stop = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("prober".to_owned())
            .spawn(move || client.write_until(&over))?;
        Ok(Self {
            api,
            stop,
            thread: Some(thread),
        })
    }

    /// Ends it, looks for every acknowledged write, and tells what it measured.
    pub(crate) fn finish(mut self) -> Result<Record> {
        self.stop.store(true, Ordering::SeqCst);
        let thread = self.thread.take().context("it runs")?;
        let record = thread.join().map_err(|_| anyhow!("the prober panicked"))?;
        let text = self
            .api
            .kubectl(&["get", "configmaps", "-n", "default", "-o", "name"])?;
        let there: BTreeSet<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("configmap/"))
            .collect();
        let lost: Vec<&String> = record
            .acknowledged
            .iter()
            .filter(|name| !there.contains(name.as_str()))
            .collect();
        ensure!(lost.is_empty(), "acknowledged and lost: {lost:?}");
        ensure!(
            !record.acknowledged.is_empty(),
            "nothing was ever acknowledged"
        );
        eprintln!(
            "prober: {} writes acknowledged and none lost, {} refused, longest gap {:.1} s",
            record.acknowledged.len(),
            record.refused,
            record.longest_gap.as_secs_f32()
        );
        Ok(record)
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

impl Client {
    fn write_until(mut self, over: &AtomicBool) -> Record {
        let mut record = Record::default();
        let mut last = Instant::now();
        let begun = std::process::id();
        for number in 0_u64.. {
            if over.load(Ordering::SeqCst) {
                break;
            }
            let name = format!("probe-{begun}-{number}-{}", record.refused);
            if self.write(&name).unwrap_or(false) {
                record.longest_gap = record.longest_gap.max(last.elapsed());
                last = Instant::now();
                record.acknowledged.push(name);
            } else {
                record.refused += 1;
                // The next server, as a load balancer would.
                self.servers.rotate_left(1);
            }
            thread::sleep(PAUSE);
        }
        record
    }

    /// One write; true if it was acknowledged.
    fn write(&self, name: &str) -> Result<bool> {
        let server = self.servers.first().context("there is a server")?;
        let mut child = Command::new("curl")
            .args([
                "-sk",
                "--max-time",
                &ANSWER_S.to_string(),
                "-o",
                "/dev/null",
            ])
            .args(["-w", "%{http_code}", "-H", "content-type: application/json"])
            .arg("--cert")
            .arg(&self.key)
            .args(["--data-binary", "@-"])
            .arg(format!("{server}/api/v1/namespaces/default/configmaps"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let body = format!(
            "{{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{{\"name\":\"{name}\"}}}}"
        );
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(body.as_bytes())?;
        }
        let output = child.wait_with_output()?;
        Ok(output.stdout == b"201")
    }
}
