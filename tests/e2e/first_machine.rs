//! A newcomer: from an empty host to a machine that is kept true, typed as the README
//! says; and what is said to those who take a wrong turn.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use trueup_bed::{Bed, BedSpec, ExecOutput, Machine};

use crate::rig::{Keys, MGMT, program};

/// What the first commands put on a machine.
const HELLO: &str = "/etc/trueup-hello";
/// One command: a login, a look, a job.
const COMMAND: Duration = Duration::from_secs(150);

/// An empty host and machines that know its key.
struct Newcomer {
    bed: Bed,
}

impl Newcomer {
    fn arrive(machines: &[&str]) -> Result<Self> {
        let mut names = vec![MGMT];
        names.extend(machines);
        let bed = Bed::build(&BedSpec::named(&names))?;
        let host = bed.machine(MGMT);
        host.put_file("/usr/local/bin/trueup", 0o755, program(&bed)?)?;
        let key = std::fs::read(bed.ssh_key_path())?;
        host.put_file("/root/.ssh/id_ed25519", 0o600, key)?;
        bed.power_on_all()?;
        Ok(Self { bed })
    }

    fn host(&self) -> &Machine {
        self.bed.machine(MGMT)
    }

    /// Types a line where nobody answers questions.
    fn runs(&self, line: &str) -> Result<ExecOutput> {
        self.host().exec_with(line, b"", COMMAND)
    }

    /// Types a line that must end with this code.
    fn ends(&self, line: &str, code: i32) -> Result<ExecOutput> {
        let end = self.runs(line)?;
        ensure!(
            end.code == Some(code),
            "`{line}` ended with {:?}, not {code}:\n{}\n{}",
            end.code,
            end.stdout,
            end.stderr
        );
        Ok(end)
    }

    /// Types a line on a terminal, and answers; what the terminal showed.
    fn types(&self, line: &str, answers: &str, code: i32) -> Result<String> {
        let line = line.replace('\'', r"'\''");
        let script = format!("script -qec '{line}' /dev/null");
        let end = self
            .host()
            .exec_with(&script, answers.as_bytes(), COMMAND)?;
        ensure!(
            end.code == Some(code),
            "on a terminal, `{line}` ended with {:?}, not {code}:\n{}",
            end.code,
            end.stdout
        );
        Ok(end.stdout)
    }

    /// A refusal; the one command that it proposes.
    fn refused(&self, line: &str, code: i32) -> Result<String> {
        let end = self.ends(line, code)?;
        next(&end.stderr).with_context(|| format!("`{line}`"))
    }

    /// A machine has the file that the first profile declares.
    fn says_hello(&self, machine: &str) -> Result<()> {
        let text = self.bed.machine(machine).sh(&format!("cat {HELLO}"))?;
        ensure!(text.contains("kept true by trueup"), "{text}");
        Ok(())
    }

    /// Forgets everything that `init` made.
    fn leaves(&self) -> Result<()> {
        self.host()
            .sh("rm -rf /etc/trueup /var/lib/trueup /root/fleet /srv/fleet")
            .map(drop)
    }

    fn ip(&self, machine: &str) -> String {
        self.bed.machine(machine).ip().to_string()
    }

    fn fingerprint(&self, machine: &str) -> Result<String> {
        let said = self
            .bed
            .machine(machine)
            .sh("ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub")?;
        let print = said.split_whitespace().nth(1);
        Ok(print.context("a fingerprint")?.to_owned())
    }
}

/// The one `next:` of an output.
fn next(said: &str) -> Result<String> {
    let lines: Vec<&str> = said
        .lines()
        .filter_map(|line| line.trim().strip_prefix("next: "))
        .collect();
    ensure!(lines.len() == 1, "not one next command:\n{said}");
    Ok(lines[0].to_owned())
}

/// The commands of the README's section, for a machine at this address.
fn commands_of_the_readme(address: &str) -> Result<Vec<String>> {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md"))?;
    let section = readme
        .split("## Five minutes to your own machine")
        .nth(1)
        .context("the README's section")?;
    let block = section
        .split("```sh\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .context("its commands")?;
    Ok(block
        .lines()
        .map(|line| line.replace("192.0.2.10", address))
        .collect())
}

#[test]
fn a_stranger_comes_to_a_first_machine() -> Result<()> {
    let newcomer = Newcomer::arrive(&["m1", "m2", "m3"])?;
    five_commands(&newcomer)?;
    newcomer.leaves()?;
    every_refusal_leads_on(&newcomer)?;
    keys_that_are_not_right(&newcomer)?;
    what_lives_is_taken_over(&newcomer)?;
    a_kubeconfig_beside_others(&newcomer)?;
    a_doctor_for_a_broken_host(&newcomer)?;
    hosts_that_are_not_as_they_should_be(&newcomer)
}

/// At most five lines from nothing to the first converged file.
fn five_commands(newcomer: &Newcomer) -> Result<()> {
    let commands = commands_of_the_readme(&newcomer.ip("m1"))?;
    ensure!(commands.len() <= 5, "{commands:#?}");
    let shown = newcomer.fingerprint("m1")?;
    for command in &commands {
        let said = newcomer.types(command, "yes\n", 0)?;
        if command.contains("enroll 1") {
            ensure!(said.contains(&shown), "no fingerprint: {said}");
        }
    }
    newcomer.says_hello("m1")?;
    let modes = newcomer
        .host()
        .sh("stat -c %a /etc/trueup/trueup.yaml /etc/trueup/age.key /var/lib/trueup/host")?;
    ensure!(modes == "600\n600\n700\n", "{modes}");
    // What stands is left as it is.
    let before = newcomer.host().sh("cat /etc/trueup/* | sha256sum")?;
    let proposed = newcomer.refused("trueup init fleet2 --fleet x --local", 1)?;
    newcomer.ends(&proposed, 0)?;
    ensure!(before == newcomer.host().sh("cat /etc/trueup/* | sha256sum")?);
    newcomer.ends("test ! -e fleet2", 0).map(drop)
}

/// Nobody answers, nothing is said on the line: each refusal's one command is typed as it
/// stands, and leads on.
fn every_refusal_leads_on(newcomer: &Newcomer) -> Result<()> {
    let init = newcomer.refused("trueup plan", 1)?;
    ensure!(init == "trueup init", "{init}");
    let init = newcomer.refused(&init, 64)?;
    let made = newcomer.ends(&init, 0)?.stdout;
    let enroll = next(&made)?.replace("HOST", &newcomer.ip("m2"));
    let enroll = newcomer.refused(&enroll, 64)?;
    ensure!(enroll.contains(&newcomer.fingerprint("m2")?), "{enroll}");
    let enrolled = newcomer.ends(&enroll, 0)?.stdout;
    newcomer.ends(&next(&enrolled)?, 0)?;
    let plan = newcomer.ends("trueup plan", 0)?.stdout;
    let grant = next(&plan)?;
    newcomer.ends(&grant, 0)?;
    let plan = newcomer.ends("trueup plan", 0)?.stdout;
    ensure!(plan.contains(HELLO) && !plan.contains("next:"), "{plan}");
    newcomer
        .bed
        .machine("m2")
        .sh(&format!("test ! -e {HELLO}"))?;
    let apply = newcomer.refused("trueup apply", 64)?;
    newcomer.ends(&apply, 0)?;
    newcomer.says_hello("m2")
}

/// A fingerprint that is not the machine's, a machine installed anew, a login that is
/// not taken, an identity that others can read.
fn keys_that_are_not_right(newcomer: &Newcomer) -> Result<()> {
    let (m2, m3) = (newcomer.ip("m2"), newcomer.ip("m3"));
    let wrong = newcomer.fingerprint("m2")?;
    let end = newcomer.ends(&format!("trueup node enroll {m3} --host-key {wrong}"), 8)?;
    let right = newcomer.fingerprint("m3")?;
    ensure!(end.stderr.contains(&wrong) && end.stderr.contains(&right));
    newcomer.ends("test ! -e fleet/nodes/m3.yaml", 0)?;

    let end = newcomer.ends(&format!("trueup node enroll {m2} --accept-key"), 1)?;
    ensure!(end.stderr.contains("enrolled already"), "{}", end.stderr);
    newcomer.bed.machine("m2").sh(
        "rm /etc/ssh/ssh_host_ed25519_key*; ssh-keygen -qt ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key; systemctl restart ssh",
    )?;
    let now = newcomer.fingerprint("m2")?;
    let end = newcomer.ends(&format!("trueup node enroll {m2} --accept-key"), 8)?;
    ensure!(
        end.stderr.contains(&wrong) && end.stderr.contains(&now),
        "{}",
        end.stderr
    );
    let said = newcomer.ends("trueup apply --yes --wait-s 5", 8)?.stdout;
    let said = newcomer.ends(&next(&said)?, 1)?.stdout;
    ensure!(said.contains(&wrong) && said.contains(&now), "{said}");
    ensure!(
        said.contains(&format!("repair: trueup node enroll {m2}")),
        "{said}"
    );
    newcomer.ends(&next(&end.stderr)?, 0)?;
    newcomer.ends("git -C fleet commit -qam 'm2 was installed anew'", 0)?;
    newcomer.ends("trueup apply --yes", 0)?;

    newcomer.host().sh("chmod 644 /root/.ssh/id_ed25519")?;
    newcomer.bed.machine("m3").sh(
        "useradd -m plain && cp -r /root/.ssh /home/plain/ && chown -R plain: /home/plain/.ssh",
    )?;
    let enroll = format!("trueup node enroll {m3} --host-key {right}");
    let repair = newcomer.refused(&enroll, 1)?;
    newcomer.ends(&repair, 0)?;
    let nobody = format!("{enroll} --user games");
    let repair = newcomer.refused(&nobody, 1)?;
    ensure!(repair.starts_with("ssh-copy-id"), "{repair}");
    let end = newcomer.ends(&format!("{enroll} --user plain"), 1)?;
    ensure!(
        end.stderr.contains("lacks sudo without a password"),
        "{}",
        end.stderr
    );
    next(&end.stderr)?;
    let end = newcomer.ends("trueup node enroll 192.0.2.1 --accept-key", 1)?;
    ensure!(next(&end.stderr)?.starts_with("ssh -v"), "{}", end.stderr);
    newcomer.ends("test ! -e fleet/nodes/m3.yaml", 0).map(drop)
}

/// A machine with a file of its own at a declared path, enrolled through another one.
fn what_lives_is_taken_over(newcomer: &Newcomer) -> Result<()> {
    let m3 = newcomer.bed.machine("m3");
    m3.put_file(HELLO, 0o644, "somebody's own words\n")?;
    let look = format!("sha256sum {HELLO}; stat -c '%i %Y' {HELLO}");
    let before = m3.sh(&look)?;
    let enroll = format!(
        "trueup node enroll {} --name lab --user ops --jump m2 --host-key {}",
        newcomer.ip("m3"),
        newcomer.fingerprint("m3")?
    );
    let enrolled = newcomer.ends(&enroll, 0)?.stdout;
    newcomer.ends(&next(&enrolled)?, 0)?;
    let document = newcomer.host().sh("cat fleet/nodes/lab.yaml")?;
    ensure!(
        document.contains("jump") && document.contains("ops"),
        "{document}"
    );

    let listed = newcomer.ends("trueup adopt", 0)?.stdout;
    for part in [
        "-somebody's own words",
        "+This file is kept true by trueup.",
    ] {
        ensure!(listed.contains(part), "{listed}");
    }
    ensure!(m3.sh("test ! -e /var/lib/trueup/owner")?.is_empty());
    let take = next(&listed)?;
    let take = newcomer.refused(&take, 64)?;
    newcomer.ends("trueup config set switches.rollOut false", 0)?;
    let grant = next(&newcomer.ends(&take, 4)?.stdout)?;
    ensure!(m3.sh("test ! -e /var/lib/trueup/owner")?.is_empty());
    newcomer.ends(&grant, 0)?;
    let end = newcomer.ends(&take, 4)?;
    ensure!(m3.sh("cat /var/lib/trueup/owner")?.contains("claim"));
    ensure!(m3.sh(&look)? == before, "the file was touched");
    newcomer.ends("trueup apply --yes", 4)?;
    ensure!(m3.sh(&look)? == before, "--yes covered other content");
    let approve = end
        .stdout
        .split("to overwrite it: ")
        .nth(1)
        .and_then(|rest| rest.lines().next())
        .context("the command that overwrites")?;
    newcomer.ends(approve, 0)?;
    newcomer.ends("trueup apply --yes", 0)?;
    newcomer.says_hello("m3")?;

    // Nobody's machine with exactly what is declared: a record, and not one byte more.
    let m1 = newcomer.bed.machine("m1");
    m1.sh("rm -rf /var/lib/trueup")?;
    let before = m1.sh(&look)?;
    let enroll = format!("trueup node enroll {} --accept-key", newcomer.ip("m1"));
    let enrolled = newcomer.ends(&enroll, 0)?.stdout;
    newcomer.ends(&next(&enrolled)?, 0)?;
    let end = newcomer.ends("trueup adopt machine/m1 --yes", 0)?;
    let record = m1.sh("cat /var/lib/trueup/owner")?;
    // Paths are written in base64 there.
    ensure!(
        record.contains("file"),
        "{record}{}{}",
        end.stdout,
        end.stderr
    );
    ensure!(m1.sh(&look)? == before, "an equal file was touched");
    let plan = newcomer.ends("trueup plan --detailed-exitcode", 0)?.stdout;
    ensure!(plan.contains("no changes"), "{plan}");
    Ok(())
}

/// A cluster's credential goes into a file with others, whose entries stay; the server
/// itself is played by the one file that is read of it.
fn a_kubeconfig_beside_others(newcomer: &Newcomer) -> Result<()> {
    let keys = Keys::make(&newcomer.bed.scratch()?)?;
    let secret = keys.encrypt("token: some-token\n")?;
    let host = newcomer.host();
    host.put_file("/root/fleet/secrets/edge.enc.yaml", 0o644, secret)?;
    host.put_file("/root/fleet/edge.yaml", 0o644, CLUSTER)?;
    host.sh("sed -i 's/^spec:/spec:\\n  cluster: edge\\n  role: server/' fleet/nodes/m2.yaml")?;
    newcomer.ends("trueup validate fleet", 0)?;
    let end = newcomer.ends("trueup cluster kubeconfig edge", 1)?;
    ensure!(end.stderr.contains("does not exist"), "{}", end.stderr);
    let m2 = newcomer.bed.machine("m2");
    m2.put_file("/etc/rancher/k3s/k3s.yaml", 0o600, K3S_YAML)?;
    newcomer.ends("trueup cluster kubeconfig edge", 0)?;
    let own = host.sh("stat -c %a edge.kubeconfig; cat edge.kubeconfig")?;
    ensure!(
        own.starts_with("600\n") && own.contains(&newcomer.ip("m2")),
        "{own}"
    );
    ensure!(own.contains("S0VZ") && !own.contains("127.0.0.1"), "{own}");
    host.put_file("/root/.kube/config", 0o644, THEIRS)?;
    newcomer.ends("trueup cluster kubeconfig edge --merge", 0)?;
    let merged = host.sh("stat -c %a .kube/config; cat .kube/config")?;
    for part in [
        "600\n",
        "current-context: work",
        "https://work.example",
        "trueup-edge",
        "0644",
    ] {
        ensure!(merged.contains(part), "{part}: {merged}");
    }
    host.put_file("/root/.kube/config", 0o600, "clusters: [")?;
    let end = newcomer.ends("trueup cluster kubeconfig edge --merge", 1)?;
    next(&end.stderr)?;
    ensure!(host.sh("cat .kube/config")? == "clusters: [");
    host.sh("git -C fleet checkout -q . && git -C fleet clean -qfd")
        .map(drop)
}

const CLUSTER: &str = "apiVersion: trueup.dev/v1alpha1
kind: Cluster
metadata: {name: edge}
spec:
  k3s:
    version: v1.36.3+k3s1
    tokenFrom: {secret: secrets/edge, key: token}
";

const K3S_YAML: &str = "apiVersion: v1
kind: Config
clusters: [{name: default, cluster: {server: 'https://127.0.0.1:6443', certificate-authority-data: Q0E=}}]
contexts: [{name: default, context: {cluster: default, user: default}}]
current-context: default
users: [{name: default, user: {client-key-data: S0VZ}}]
";

const THEIRS: &str = "apiVersion: v1
kind: Config
clusters: [{name: w, cluster: {server: 'https://work.example'}}]
contexts: [{name: work, context: {cluster: w, user: w}}]
current-context: work
users: [{name: w, user: {token: '0644'}}]
";

/// Everything that is ill is told at once, each with its repair; the repairs work.
fn a_doctor_for_a_broken_host(newcomer: &Newcomer) -> Result<()> {
    newcomer.ends("trueup doctor", 0)?;
    let host = newcomer.host();
    host.sh("chmod 644 /etc/trueup/age.key; chmod 640 .ssh/id_ed25519; chmod 777 /var/lib/trueup/host; mv fleet/.git fleet/.away")?;
    let said = newcomer.ends("trueup doctor", 1)?.stdout;
    let repairs: Vec<&str> = said
        .lines()
        .filter_map(|line| line.trim().strip_prefix("repair: "))
        .collect();
    let ill = said.lines().filter(|line| line.starts_with("ILL")).count();
    ensure!(ill == repairs.len() && ill >= 4, "{said}");
    for repair in repairs.iter().filter(|repair| repair.starts_with("chmod")) {
        newcomer.ends(repair, 0)?;
    }
    host.sh("mv fleet/.away fleet/.git")?;
    newcomer.ends("trueup doctor", 0)?;

    newcomer.bed.machine("m2").link_down()?;
    let said = newcomer.ends("trueup doctor -o json", 1)?.stdout;
    let report: serde_json::Value = serde_json::from_str(&said)?;
    let found = report["findings"].as_array().context("findings")?;
    let ill: Vec<&str> = found
        .iter()
        .filter(|finding| finding["health"] == "ill")
        .filter_map(|finding| finding["subject"].as_str())
        .collect();
    // One is reached through the other.
    ensure!(ill == ["machine lab", "machine m2"], "{said}");
    newcomer.bed.machine("m2").link_up()?;
    host.sh("mv /etc/trueup /etc/trueup.away")?;
    let said = newcomer.ends("trueup doctor", 1)?.stdout;
    ensure!(said.contains("repair: trueup init"), "{said}");
    host.sh("mv /etc/trueup.away /etc/trueup").map(drop)
}

/// No home, nobody's rights, a folder that cannot be written: one message each, and
/// nothing half-made.
fn hosts_that_are_not_as_they_should_be(newcomer: &Newcomer) -> Result<()> {
    newcomer.leaves()?;
    let nobody = "setpriv --reuid nobody --regid nogroup --clear-groups env -u HOME";
    let end = newcomer.ends(&format!("{nobody} trueup init --yes"), 64)?;
    ensure!(end.stderr.contains("HOME is not set"), "{}", end.stderr);
    next(&end.stderr)?;
    newcomer
        .host()
        .sh("mkdir /tmp/ro && mount -t tmpfs -o ro tmpfs /tmp/ro")?;
    let init = "trueup init /tmp/ro/fleet --fleet home --local";
    let proposed = newcomer.refused(init, 1)?;
    newcomer.ends(
        "test ! -e /etc/trueup/trueup.yaml && test ! -e /etc/trueup/age.key",
        0,
    )?;
    newcomer.ends(&proposed, 0)?;
    newcomer.leaves()?;
    let init = "trueup init fleet --fleet home --local --state-dir /tmp/ro/state";
    let proposed = newcomer.refused(init, 1)?;
    newcomer.ends("test ! -e fleet && test ! -e /etc/trueup", 0)?;
    newcomer.ends(&proposed, 0)?;
    newcomer.ends("test -e trueup.yaml && rm -r trueup.yaml age.key state", 0)?;
    newcomer.leaves()?;
    newcomer.host().sh("mkdir -p -m 700 /var/lib/trueup/host")?;
    let locked = "flock /var/lib/trueup/host/lock trueup init fleet --fleet home --local";
    newcomer.refused(locked, 7)?;
    newcomer.ends("test ! -e fleet && test ! -e /etc/trueup", 0)?;
    newcomer.leaves()?;
    let git = newcomer.host().sh("command -v git")?;
    newcomer
        .host()
        .sh(&format!("mv {0} {0}.away", git.trim()))?;
    let end = newcomer.ends("trueup init fleet --fleet home --local", 1)?;
    ensure!(
        next(&end.stderr)? == "apt-get install -y git",
        "{}",
        end.stderr
    );
    newcomer.ends("test ! -e fleet && test ! -e /etc/trueup/age.key", 0)?;
    newcomer
        .host()
        .sh(&format!("mv {0}.away {0}", git.trim()))?;

    // Asked on a terminal: folder, fleet, key, this machine, two grants.
    let said = newcomer.types("trueup init", "\nlab\n-\nyes\nyes\nno\n", 0)?;
    ensure!(said.contains("Name of the fleet? [home]"), "{said}");
    let config = newcomer.host().sh("cat /etc/trueup/trueup.yaml")?;
    ensure!(
        config.contains("fleet: \"lab\"") && config.contains("rollOut: true"),
        "{config}"
    );
    newcomer.ends("trueup apply --yes", 0)?;
    newcomer.says_hello(MGMT)?;
    newcomer.ends("trueup init --systemd", 0)?;
    newcomer.ends("systemctl enable --now trueup && trueup status", 0)?;
    let said = newcomer.ends("trueup doctor", 0)?.stdout;
    ensure!(said.contains("held by the loop"), "{said}");
    let said = newcomer.ends("trueup adopt", 0)?.stdout;
    ensure!(said.contains("nothing to adopt"), "{said}");
    newcomer.refused("trueup apply --yes", 7)?;
    newcomer.ends("systemctl disable --now trueup", 0)?;

    // A repo that stands is served as it is, by a host that is set up anew.
    newcomer.ends("rm /etc/trueup/trueup.yaml", 0)?;
    let said = newcomer
        .ends("trueup init fleet --fleet home --local", 0)?
        .stdout;
    ensure!(said.contains("as it was"), "{said}");
    let plan = newcomer.ends("trueup plan", 0)?.stdout;
    ensure!(plan.contains("fleet lab"), "{plan}");
    Ok(())
}
