//! The real program, started to be killed.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use crate::server::wharf;

/// A server that listens. Killed when it is dropped.
pub struct Process {
    child: Child,
    /// Kept, for what follows the first line.
    _stdout: Option<BufReader<ChildStdout>>,
    log: PathBuf,
    pub address: String,
}

impl Process {
    pub fn start(data: &Path, settings: &[&str]) -> Self {
        let (mut child, log) = spawn(data, settings);
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        let Some(address) = line.trim_end().strip_prefix("listening on http://") else {
            let _ = child.kill();
            panic!("the first line is {line:?}: {}", std::fs::read_to_string(&log).unwrap());
        };
        Self { child, _stdout: Some(stdout), log, address: address.to_owned() }
    }

    /// Starts the server and kills it a moment later, listening or not.
    pub fn start_and_kill(data: &Path, settings: &[&str], after: Duration) {
        let (child, log) = spawn(data, settings);
        std::thread::park_timeout(after);
        Self { child, _stdout: None, log, address: String::new() }.kill();
    }

    /// SIGKILL, unless it ended by itself, which it must not.
    pub fn kill(mut self) {
        assert_eq!(self.child.try_wait().unwrap(), None, "the server ended by itself");
        self.child.kill().unwrap();
        assert_eq!(self.child.wait().unwrap().code(), None, "not ended by a signal");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the server's log:\n{}", std::fs::read_to_string(&self.log).unwrap_or_default());
        }
    }
}

fn spawn(data: &Path, settings: &[&str]) -> (Child, PathBuf) {
    let log = data.with_extension("log");
    let mut all = vec!["serve", "--listen", "127.0.0.1:0", "--log-level", "warn"];
    all.extend(settings);
    let mut command: Command = wharf(data, &all);
    command.stdout(Stdio::piped()).stderr(File::options().create(true).append(true).open(&log).unwrap());
    (command.spawn().unwrap(), log)
}

/// Every file below the directory of blobs.
pub fn blob_files(data: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut directories = vec![data.join("objects/objects")];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                directories.push(entry.path());
            } else {
                files.push(entry.path());
            }
        }
    }
    files
}
