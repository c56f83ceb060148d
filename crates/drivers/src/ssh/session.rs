//! One command over one session channel: stdin in pieces, output with caps.

use std::time::Duration;

use russh::client::Msg;
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use trueup_model::port::{Delivery, NodeError};

use crate::node_script::{Call, Output};

/// How a command ended without an answer.
pub(super) enum Ended {
    /// The channel closed, or said what cannot be: the reason, and whether the
    /// command may have begun.
    Broken(String, Delivery),
    /// An error that is an answer already.
    Error(NodeError),
}

/// One write: large enough that window and packets, not calls, set the pace.
const PIECE_BYTES: usize = 256 * 1024;

/// After the exit code, the channel closes at once; sshd frees the session then.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// Runs `command` and waits until its channel is closed.
pub(super) async fn run(
    channel: Channel<Msg>,
    command: &str,
    call: &Call<'_>,
) -> Result<Output, Ended> {
    channel
        .exec(true, command)
        .await
        .map_err(|error| Ended::Broken(error.to_string(), Delivery::NotSent))?;
    let (mut reader, writer) = channel.split();
    let mut listening = Box::pin(listen(&mut reader, call));
    let result = tokio::select! {
        // A command may end before it has read everything; then nobody grants
        // window any more, and writing would wait for ever.
        result = &mut listening => result,
        written = feed(&writer, call.stdin) => match written {
            // Why it could not be written is told by the exit code, if there is one.
            Ok(()) | Err(_) => listening.as_mut().await,
        },
    };
    drop(listening);
    // Sent in any case: where the command flooded us or runs on, sshd ends it.
    drop(writer.close().await);
    if result.is_ok() {
        let drained = async { while reader.wait().await.is_some() {} };
        _ = tokio::time::timeout(CLOSE_LIMIT, drained).await;
    }
    result
}

async fn feed(writer: &ChannelWriteHalf<Msg>, stdin: &[&[u8]]) -> Result<(), russh::Error> {
    for part in stdin {
        for piece in part.chunks(PIECE_BYTES) {
            writer.data_bytes(piece.to_vec()).await?;
        }
    }
    writer.eof().await
}

async fn listen(reader: &mut ChannelReadHalf, call: &Call<'_>) -> Result<Output, Ended> {
    let mut output = Output {
        code: 0,
        stdout: Vec::new(),
        stderr: Vec::new(),
    };
    let mut code = None;
    while let Some(message) = reader.wait().await {
        match message {
            ChannelMsg::Failure => {
                return Err(Ended::Error(NodeError::Failed {
                    what: call.what.to_owned(),
                    code: 255,
                    output: "the SSH server does not run commands".to_owned(),
                }));
            }
            ChannelMsg::Data { data } => {
                if output.stdout.len().saturating_add(data.len()) > call.stdout_max {
                    return Err(Ended::Error(call.flooded()));
                }
                output.stdout.extend_from_slice(&data);
            }
            ChannelMsg::ExtendedData { data, .. } => output.keep_stderr(&data),
            ChannelMsg::ExitStatus { exit_status } => {
                code = Some(i32::try_from(exit_status).unwrap_or(255));
            }
            ChannelMsg::ExitSignal { signal_name, .. } => {
                output.keep_stderr(format!("ended by signal {signal_name:?}\n").as_bytes());
                code = Some(128);
            }
            ChannelMsg::Close => break,
            _ => {}
        }
    }
    match code {
        Some(code) => {
            output.code = code;
            Ok(output)
        }
        // Even where it was not confirmed, the server may have begun.
        None => Err(Ended::Broken(
            "the channel closed without an exit code".to_owned(),
            Delivery::Unknown,
        )),
    }
}
