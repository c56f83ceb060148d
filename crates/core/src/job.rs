//! From a step on a machine to its job: operations and the files to stage first.
//! Pure, so that what runs can be read without running it.

use trueup_model::job::{Operation, SystemctlVerb};
use trueup_model::step::{Action, Content, FileSpec, Step};

use crate::desired::DesiredMachine;

/// What one step on a machine comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// Files whose bytes are staged before the job starts.
    pub stage: Vec<FileSpec>,
    /// The job.
    pub operations: Vec<Operation>,
    /// Seconds after which systemd ends it.
    pub timeout_s: u32,
}

/// Writing files and settings takes a moment; a minute is a hung disk.
const QUICK_S: u32 = 60;
/// k3s itself waits 15 minutes for its cluster before it gives up (util/api.go); a
/// little more, so that its own message is seen first.
const K3S_START_S: u32 = 16 * 60;

/// The job of a step; `None` for steps that are not on a machine.
pub fn work(step: &Step, machine: &DesiredMachine) -> Option<Work> {
    let quick = |operations| Work {
        stage: Vec::new(),
        operations,
        timeout_s: QUICK_S,
    };
    Some(match &step.action {
        // The claim itself is part of every job.
        Action::ClaimMachine => quick(Vec::new()),
        Action::AdoptMachine { equal } => quick(
            equal
                .iter()
                .filter_map(|path| machine.files.get(path))
                .map(|(file, _)| adopt(file))
                .collect(),
        ),
        Action::AdoptFile { file } => quick(vec![adopt(file)]),
        Action::WriteFile { file, reload } => {
            let mut operations = vec![install(file)];
            operations.extend(reload.then_some(Operation::DaemonReload));
            Work {
                stage: vec![file.clone()],
                ..quick(operations)
            }
        }
        Action::RemoveFile { path } => quick(vec![Operation::RemoveFile { path: path.clone() }]),
        Action::SetSysctls { values } => quick(
            values
                .iter()
                .map(|(key, value)| Operation::Sysctl {
                    key: key.clone(),
                    value: value.clone(),
                })
                .collect(),
        ),
        Action::SetUnit {
            unit,
            enable,
            run,
            restart,
        } => quick(unit_operations(unit, *enable, *run, *restart)),
        Action::InstallK3s { binary, .. } => Work {
            stage: vec![binary.clone()],
            operations: vec![install(binary)],
            timeout_s: QUICK_S,
        },
        Action::StartK3s {
            unit,
            files,
            inputs,
            ..
        } => k3s(unit, files, inputs, SystemctlVerb::Start),
        Action::RestartK3s {
            unit,
            files,
            inputs,
        } => k3s(unit, files, inputs, SystemctlVerb::Restart),
        Action::ClaimCluster
        | Action::SetLabels { .. }
        | Action::SetTaints { .. }
        | Action::ApplyObject { .. }
        | Action::AdoptObject { .. }
        | Action::DeleteObject { .. } => return None,
    })
}

fn adopt(file: &FileSpec) -> Operation {
    Operation::AdoptFile {
        path: file.path.clone(),
        sha256: file.sha256.clone(),
    }
}

fn install(file: &FileSpec) -> Operation {
    Operation::InstallFile {
        path: file.path.clone(),
        sha256: file.sha256.clone(),
        mode: file.mode.clone(),
        owner: file.owner.clone(),
        group: file.group.clone(),
    }
}

fn systemctl(verb: SystemctlVerb, unit: &str) -> Operation {
    Operation::Systemctl {
        verb,
        unit: unit.to_owned(),
    }
}

fn unit_operations(
    unit: &str,
    enable: Option<bool>,
    run: Option<bool>,
    restart: bool,
) -> Vec<Operation> {
    let mut operations = vec![Operation::DaemonReload];
    operations.extend(enable.map(|on| {
        let verb = if on {
            SystemctlVerb::Enable
        } else {
            SystemctlVerb::Disable
        };
        systemctl(verb, unit)
    }));
    match (run, restart) {
        (Some(true), _) => operations.push(systemctl(SystemctlVerb::Start, unit)),
        (Some(false), _) => operations.push(systemctl(SystemctlVerb::Stop, unit)),
        (None, true) => operations.push(systemctl(SystemctlVerb::Restart, unit)),
        (None, false) => {}
    }
    operations
}

/// Files that k3s reads. Its binary is large, and no other writer's habit.
fn unchanged(files: &[FileSpec]) -> impl Iterator<Item = Operation> {
    let read = files
        .iter()
        .filter(|file| !matches!(file.content, Content::K3sBinary(_)));
    read.map(|file| Operation::Unchanged {
        path: file.path.clone(),
        sha256: file.sha256.clone(),
    })
}

fn k3s(
    unit: &str,
    files: &[FileSpec],
    inputs: &trueup_model::id::Digest,
    verb: SystemctlVerb,
) -> Work {
    let mut operations: Vec<Operation> = files.iter().map(install).collect();
    operations.push(Operation::DaemonReload);
    operations.push(systemctl(SystemctlVerb::Enable, unit));
    // Before: a server is not stopped for somebody else's content. After: what its
    // process read may be that content, and then nothing is recorded of it.
    operations.extend(unchanged(files));
    operations.push(systemctl(verb, unit));
    operations.extend(unchanged(files));
    operations.push(Operation::RecordRun {
        unit: unit.to_owned(),
        inputs: inputs.clone(),
    });
    Work {
        stage: files.to_vec(),
        operations,
        timeout_s: K3S_START_S,
    }
}

#[cfg(test)]
mod tests {
    use trueup_model::id::Digest;
    use trueup_model::job::Operation;

    use super::*;

    /// Whoever writes between our write and k3s' start would be read as if it were ours.
    #[test]
    fn what_k3s_reads_is_looked_at_before_and_after_its_restart() {
        let file = FileSpec {
            path: "/etc/rancher/k3s/config.yaml".into(),
            mode: "0600".into(),
            owner: "root".into(),
            group: "root".into(),
            sha256: Digest::of(b"x"),
            content: Content::Text("x".into()),
        };
        let inputs = Digest::of(b"all");
        let work = k3s("k3s.service", &[file], &inputs, SystemctlVerb::Restart);
        let words: Vec<&str> = work
            .operations
            .iter()
            .map(|operation| match operation {
                Operation::InstallFile { .. } => "install",
                Operation::Unchanged { .. } => "unchanged",
                Operation::Systemctl { verb, .. } => verb.as_str(),
                Operation::RecordRun { .. } => "record",
                _ => "",
            })
            .collect();
        assert_eq!(
            words,
            [
                "install",
                "",
                "enable",
                "unchanged",
                "restart",
                "unchanged",
                "record"
            ]
        );
    }
}
