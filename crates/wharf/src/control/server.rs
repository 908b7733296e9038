//! The owner's end of the socket.

use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::socket;
use crate::admin::{self, AdminOps, AdminReply, AdminRequest, Progress};

/// Longest request line.
const LONGEST_REQUEST: u64 = 64 * 1024;

/// Answers commands on the socket of `directory` until `shutdown`, then waits for those that run.
/// Returns once the socket is bound; the handle ends after the last command.
///
/// # Errors
/// If the socket cannot be bound.
pub fn serve<O: AdminOps>(
    directory: &Path,
    ops: O,
    shutdown: CancellationToken,
) -> io::Result<tokio::task::JoinHandle<()>> {
    let listener = socket::bind(directory)?;
    let ops = Arc::new(ops);
    Ok(tokio::spawn(async move {
        let running = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let (ops, shutdown) = (ops.clone(), shutdown.clone());
                    running.spawn(async move {
                        let answered = tokio::select! {
                            answered = answer(stream, &*ops) => answered,
                            () = shutdown.cancelled() => Ok(()),
                        };
                        if let Err(error) = answered {
                            debug!(%error, "a command's connection broke");
                        }
                    });
                }
                Err(error) => {
                    warn!(%error, "cannot accept a command");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
        running.close();
        running.wait().await;
    }))
}

/// Reads one request, writes progress as it comes, then the outcome.
async fn answer<O: AdminOps>(stream: UnixStream, ops: &O) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    BufReader::new(read.take(LONGEST_REQUEST)).read_line(&mut line).await?;
    let request: AdminRequest = match serde_json::from_str(&line) {
        Ok(request) => request,
        Err(error) => return send(&mut write, &AdminReply::Error(format!("not a command: {error}"))).await,
    };
    let (progress, mut reports) = mpsc::channel(16);
    let progress = Progress::new(progress);
    let mut outcome = std::pin::pin!(admin::run(ops, request, progress));
    let reply = loop {
        tokio::select! {
            biased;
            Some(report) = reports.recv() => send(&mut write, &AdminReply::Progress(report)).await?,
            outcome = outcome.as_mut() => break AdminReply::of(outcome),
        }
    };
    send(&mut write, &reply).await
}

async fn send(write: &mut tokio::net::unix::OwnedWriteHalf, reply: &AdminReply) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    write.write_all(&line).await
}
