//! The real program as a child process, on loopback, with its own data directory.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A command of the program without this process's settings.
pub fn wharf(data_dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wharf"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("WHARF_") {
            command.env_remove(name);
        }
    }
    command.current_dir(data_dir.parent().unwrap()).args(arguments).arg("--data-dir").arg(data_dir);
    command.stdin(Stdio::null());
    command
}

/// Runs a command to its end: exit code, standard output, standard error.
pub fn outcome(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// Runs a command that must succeed and returns its standard output.
pub fn succeeds(command: &mut Command) -> String {
    let (code, stdout, stderr) = outcome(command);
    assert_eq!(code, 0, "{stderr}");
    stdout
}

/// `wharf serve`, listening. Killed if a test forgets it.
pub struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
    pub url: String,
}

impl Server {
    pub fn start(data_dir: &Path, arguments: &[&str]) -> Self {
        let mut all = vec!["serve", "--listen", "127.0.0.1:0"];
        all.extend(arguments);
        Self::spawn(&mut wharf(data_dir, &all))
    }

    pub fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let Some(url) = line.strip_prefix("listening on ") else {
            let mut errors = String::new();
            let _ = child.wait();
            child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
            panic!("first line is {line:?}: {errors}");
        };
        let url = url.trim_end().to_owned();
        Self { child, stdout, url }
    }

    pub fn host(&self) -> &str {
        self.url.split_once("://").unwrap().1
    }

    pub fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.host()).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", self.host()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// Waits for the end: exit code (`None` after a signal), the rest of standard output, standard error.
    pub fn wait(mut self) -> (Option<i32>, String, String) {
        let mut stderr = self.child.stderr.take().unwrap();
        let errors = std::thread::spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).unwrap();
            text
        });
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        let code = self.child.wait().unwrap().code();
        (code, rest, errors.join().unwrap())
    }

    /// Stops it as an operator does; it must end well. Returns the rest of its standard output.
    pub fn stop(self) -> String {
        self.signal("TERM");
        let (code, rest, errors) = self.wait();
        assert_eq!(code, Some(0), "{errors}");
        rest
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks again until something is there. What is waited for has no event that another process could see.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "waited too long for {what}");
        std::thread::yield_now();
    }
}
