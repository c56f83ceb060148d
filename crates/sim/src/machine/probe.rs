//! What the probe script would say of a machine, in the documented lines
//! (`trueup_model::facts::machine::ProbeReply`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use trueup_model::facts::machine::{CONTENT_BYTES_MAX, Datastore, ProbeReply, ProbeRequest};

use super::unit::Fragment;
use super::{Active, Job, Machine, SERVICES};
use crate::release::version_of;

/// Where k3s' binary lies.
pub(crate) const BINARY: &str = "/usr/local/bin/k3s";
const DROPINS: &str = "/etc/rancher/k3s/config.yaml.d/";

impl Machine {
    /// Everything that is asked for.
    pub(crate) fn probe(&self, asked: &ProbeRequest, now_ms: i64) -> ProbeReply {
        let mut lines: Vec<(String, Vec<u8>)> = Vec::new();
        let mut say = |key: String, value: &[u8]| lines.push((key, value.to_vec()));
        say("script".into(), b"1");
        say("boot".into(), self.boot.as_bytes());
        say("machine-id".into(), self.machine_id.as_bytes());
        say("hostname".into(), self.name.as_bytes());
        say("os".into(), b"debian 12");
        say("init".into(), b"systemd");
        say("now".into(), (now_ms / 1000).to_string().as_bytes());
        if let Some(record) = self.owner_lines() {
            say("owner".into(), record.as_bytes());
        }
        for (path, content) in &asked.files {
            say(format!("file {path}"), self.stat(path).as_bytes());
            if let Some(file) = self.files.get(path).filter(|_| *content)
                && file.content.bytes().len() <= CONTENT_BYTES_MAX
            {
                say(format!("content {path}"), file.content.bytes());
            }
        }
        for key in &asked.sysctls {
            if let Some(value) = self.sysctls.get(key) {
                say(format!("sysctl {key}"), value.as_bytes());
            }
        }
        for unit in &asked.units {
            say(format!("unit {unit}"), self.show(unit).as_bytes());
        }
        for place in &asked.free {
            say(
                format!("free {place}"),
                self.free_bytes.to_string().as_bytes(),
            );
        }
        if let Some(file) = self.files.get(BINARY) {
            let told = version_of(file.content.bytes()).map_or_else(String::new, |version| {
                format!("k3s version {version} (simulated)")
            });
            say(
                "k3s-binary".into(),
                format!("{} {told}", file.content.digest()).as_bytes(),
            );
        }
        let datastore: &[u8] = match self.datastore() {
            Datastore::Etcd => b"etcd",
            Datastore::Sqlite => b"sqlite",
            Datastore::None => b"none",
        };
        say("k3s-datastore".into(), datastore);
        for (path, file) in self.dropins() {
            say(format!("dropin {path}"), file);
        }
        for unit in SERVICES
            .into_iter()
            .filter(|unit| self.unit(unit).active == Active::Up)
        {
            say(
                format!("k3s-started {unit}"),
                self.arguments(unit).as_bytes(),
            );
        }
        for (id, job) in &self.jobs {
            say(format!("job {id}"), self.job_word(job).as_bytes());
        }
        ProbeReply { lines }
    }

    /// Files of `config.yaml.d` in k3s' order.
    pub(crate) fn dropins(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.files
            .range(DROPINS.to_owned()..)
            .take_while(|(path, _)| path.starts_with(DROPINS))
            .filter(|(path, _)| path.ends_with(".yaml") || path.ends_with(".yml"))
            .map(|(path, file)| (path.as_str(), file.content.bytes()))
    }

    fn stat(&self, path: &str) -> String {
        match self.files.get(path) {
            Some(file) => format!(
                "file {} {} {} {} {} {}",
                file.content.digest(),
                file.mode,
                file.owner,
                file.group,
                file.content.bytes().len(),
                file.mtime_s
            ),
            None if self.is_folder(path) => "other directory".to_owned(),
            None => "absent".to_owned(),
        }
    }

    pub(crate) fn is_folder(&self, path: &str) -> bool {
        let below = format!("{path}/");
        let first = self.files.range(below.clone()..).next();
        first.is_some_and(|(path, _)| path.starts_with(&below))
    }

    /// The words of a unit's command line after the sub-command.
    fn arguments(&self, unit: &str) -> String {
        let fragment = self
            .fragment(unit)
            .map(|(_, text)| String::from_utf8_lossy(text));
        let exec = fragment
            .map(|text| Fragment::parse(&text).exec)
            .unwrap_or_default();
        let words = exec.split_whitespace().skip(2);
        words.map(|word| format!("arg\t{word}\n")).collect()
    }

    fn job_word(&self, job: &Job) -> String {
        match job.code {
            Some(code) => format!("ended {code}"),
            None if job.boot == self.boot => "running".to_owned(),
            None => "unknown".to_owned(),
        }
    }

    fn owner_lines(&self) -> Option<String> {
        let claim = self.owner.claim.as_ref()?;
        let mut text = format!(
            "claim\t{}\t{}\n",
            STANDARD.encode(&claim.holder),
            claim.epoch
        );
        for (path, digest) in &self.owner.files {
            text.push_str(&format!("file\t{}\t{digest}\n", STANDARD.encode(path)));
        }
        for (unit, (invocation, digest)) in &self.owner.runs {
            text.push_str(&format!("run\t{unit}\t{invocation}\t{digest}\n"));
        }
        Some(text)
    }
}
