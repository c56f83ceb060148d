//! The node script as a child process of ours.

use std::process::Stdio;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, Command};
use trueup_model::port::{Delivery, NodeError};

use crate::node_script::{Call, Output, SCRIPT, loader};

/// Runs the script on this machine; through sudo where we are not root.
pub(super) async fn run(sudo: bool, call: &Call<'_>) -> Result<Output, NodeError> {
    let mut command = Command::new(if sudo { "sudo" } else { "/bin/sh" });
    if sudo {
        command.args(["-n", "/bin/sh"]);
    }
    let stdin: Vec<&[u8]> = [SCRIPT.as_bytes()]
        .into_iter()
        .chain(call.stdin.iter().copied())
        .collect();
    let call = &Call {
        stdin: &stdin,
        ..call.clone()
    };
    command
        .args(["-c", &loader(), "trueup"])
        .args(call.args)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let child = command.spawn().map_err(|error| NodeError::Lacks {
        what: format!("/bin/sh or sudo: {error}"),
    })?;
    tokio::time::timeout(call.limit, attend(child, call))
        .await
        .map_err(|_| call.timed_out(Delivery::Unknown))?
}

async fn attend(mut child: Child, call: &Call<'_>) -> Result<Output, NodeError> {
    let broken = |error: std::io::Error| NodeError::Broken {
        address: "this machine".to_owned(),
        why: error.to_string(),
        delivery: Delivery::Unknown,
    };
    let mut output = Output {
        code: 0,
        stdout: Vec::new(),
        stderr: Vec::new(),
    };
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(stdin), Some(stdout), Some(mut stderr)) = (stdin, stdout, stderr) else {
        return Err(broken(std::io::Error::other("a pipe is missing")));
    };
    let most = u64::try_from(call.stdout_max).unwrap_or(u64::MAX);
    let mut capped = stdout.take(most.saturating_add(1));
    let mut errors = Vec::new();
    // Dropped with what was read, the pipes end a flood by SIGPIPE.
    let listen = async {
        let said = capped.read_to_end(&mut output.stdout).await;
        drop(capped);
        said
    };
    let heed = async {
        let mut piece = [0; 4096];
        loop {
            match stderr.read(&mut piece).await {
                Ok(0) | Err(_) => break,
                Ok(n) => errors.push(piece.get(..n).unwrap_or_default().to_vec()),
            }
            // Enough for any message; the rest is dropped.
            if errors.len() > 64 {
                errors.truncate(64);
            }
        }
    };
    let (fed, said, ()) = tokio::join!(feed(stdin, call.stdin), listen, heed);
    // The script may end before it has read everything; its exit code says why.
    drop(fed);
    said.map_err(broken)?;
    for piece in errors {
        output.keep_stderr(&piece);
    }
    if output.stdout.len() > call.stdout_max {
        return Err(call.flooded());
    }
    let status = child.wait().await.map_err(broken)?;
    output.code = status.code().unwrap_or(128);
    Ok(output)
}

async fn feed(mut stdin: ChildStdin, parts: &[&[u8]]) -> Result<(), std::io::Error> {
    for part in parts {
        stdin.write_all(part).await?;
    }
    stdin.shutdown().await
}
