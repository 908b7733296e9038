//! A command's end of the socket.

use std::io;
use std::path::Path;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

use super::socket;
use crate::admin::{AdminReply, AdminRequest, Report};

/// A connection to the process that owns a data directory.
#[derive(Debug)]
pub struct Connection(UnixStream);

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// If nobody listens there (yet, or any more).
    pub async fn open(directory: &Path) -> io::Result<Self> {
        socket::connect(directory).await.map(Self)
    }

    /// Has one command run and hands its progress on. The inner result is the command's own.
    ///
    /// # Errors
    /// If the owner went away before it answered.
    pub async fn run(
        self,
        request: &AdminRequest,
        mut progress: impl FnMut(Report),
    ) -> io::Result<Result<serde_json::Value, String>> {
        let (read, mut write) = self.0.into_split();
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        write.write_all(&line).await?;
        let mut lines = BufReader::new(read).lines();
        while let Some(line) = lines.next_line().await? {
            match serde_json::from_str(&line)? {
                AdminReply::Progress(report) => progress(report),
                AdminReply::Ok(value) => return Ok(Ok(value)),
                AdminReply::Error(message) => return Ok(Err(message)),
            }
        }
        Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server stopped before the command was done"))
    }
}
