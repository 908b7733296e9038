//! The servers that are compared: started on loopback in a directory of their own, stopped by their process id.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::ValueEnum;
use serde::Serialize;

use crate::http::{Connection, Keep};
use crate::sigv4::{self, AccessKey};

/// A server that does not answer by then does not start.
const START: Duration = Duration::from_secs(60);
/// A server that was told to stop and has not by then is killed.
const STOP: Duration = Duration::from_secs(30);

/// Which server, set up how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Debian's docker-registry: its own disk storage, no authentication, no access log.
    DockerRegistry,
    /// wharf as it comes: encryption on, authentication on.
    Wharf,
    /// wharf with authentication, without encryption.
    WharfPlain,
}

impl Kind {
    /// All of them, the one that others are compared with first.
    pub const ALL: [Self; 3] = [Self::DockerRegistry, Self::Wharf, Self::WharfPlain];

    /// For the reader of a report.
    pub fn title(self) -> &'static str {
        match self {
            Self::DockerRegistry => "docker-registry",
            Self::Wharf => "wharf",
            Self::WharfPlain => "wharf, encryption off",
        }
    }

    fn directory(self) -> &'static str {
        match self {
            Self::DockerRegistry => "docker-registry",
            Self::Wharf => "wharf",
            Self::WharfPlain => "wharf-plain",
        }
    }
}

/// The two programs.
#[derive(Clone, Debug)]
pub struct Programs {
    /// `docker-registry`.
    pub docker_registry: PathBuf,
    /// `wharf`, a release build.
    pub wharf: PathBuf,
}

/// One running server.
pub struct Server {
    /// Which one.
    pub kind: Kind,
    /// Where it listens.
    pub address: SocketAddr,
    /// What it keeps is below here.
    pub directory: PathBuf,
    /// From its start to its first answer.
    pub started_in: Duration,
    /// The `Authorization` header line, or nothing.
    authorization: String,
    key: Option<AccessKey>,
    child: Child,
    _stdout: Option<BufReader<ChildStdout>>,
}

impl Server {
    /// Starts one below `parent`, on what its directory there holds already.
    ///
    /// # Errors
    /// If it cannot be started or does not answer.
    pub fn start(kind: Kind, programs: &Programs, parent: &Path) -> anyhow::Result<Self> {
        Self::start_with(kind, programs, parent, &[])
    }

    /// As [`Self::start`], a wharf with further settings.
    ///
    /// # Errors
    /// As there.
    pub fn start_with(
        kind: Kind,
        programs: &Programs,
        parent: &Path,
        settings: &[&str],
    ) -> anyhow::Result<Self> {
        let directory = parent.join(kind.directory());
        fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let mut server = match kind {
            Kind::DockerRegistry => start_docker_registry(programs, directory)?,
            Kind::Wharf | Kind::WharfPlain => start_wharf(kind, programs, directory, settings)?,
        };
        if kind != Kind::DockerRegistry {
            server.log_in(programs).with_context(|| format!("cannot log in to {}", kind.title()))?;
        }
        Ok(server)
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The head of a request, complete. `more` is further header lines, each with its end.
    pub fn head(&self, method: &str, target: &str, more: &str) -> Vec<u8> {
        let (host, authorization) = (self.address, &self.authorization);
        format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{authorization}{more}\r\n").into_bytes()
    }

    /// Makes a repository where a push does not make it.
    ///
    /// # Errors
    /// If it is refused.
    pub fn create_repository(&self, name: &str) -> anyhow::Result<()> {
        self.create_repositories(std::iter::once(name.to_owned()))
    }

    /// As [`Self::create_repository`], for many.
    ///
    /// # Errors
    /// If one of them is refused.
    pub fn create_repositories(&self, names: impl Iterator<Item = String>) -> anyhow::Result<()> {
        let Some(key) = &self.key else { return Ok(()) };
        let mut connection = Connection::open(self.address)?;
        let host = self.address.to_string();
        for name in names {
            let body = format!(r#"{{"repositoryName":"{name}"}}"#).into_bytes();
            let head = sigv4::ecr_call(key, &host, "CreateRepository", &body);
            let answer = connection.exchange(head.as_bytes(), &[&body], false, Keep::Body)?;
            let said = String::from_utf8_lossy(&answer.body);
            ensure!(answer.status == 200, "CreateRepository {name}: {} {said}", answer.status);
        }
        Ok(())
    }

    fn log_in(&mut self, programs: &Programs) -> anyhow::Result<()> {
        let path = self.directory.join("data/root-credentials.json");
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let key: AccessKey = serde_json::from_slice(&text)?;
        let issued = wharf(programs)
            .args(["token", "issue", "--account", &key.account_id, "--data-dir"])
            .arg(self.directory.join("data"))
            .output()?;
        let said = String::from_utf8_lossy(&issued.stderr);
        ensure!(issued.status.success(), "wharf token issue: {said}");
        let password = String::from_utf8(issued.stdout)?;
        let basic = STANDARD.encode(format!("AWS:{}", password.trim()));
        self.authorization = format!("Authorization: Basic {basic}\r\n");
        self.key = Some(key);
        Ok(())
    }

    /// Runs an administrator's command of wharf on what this server keeps, and reads the JSON it prints.
    ///
    /// # Errors
    /// If it fails.
    pub fn command(&self, programs: &Programs, arguments: &[&str]) -> anyhow::Result<serde_json::Value> {
        let mut command = wharf(programs);
        let done = command.args(arguments).arg("--data-dir").arg(self.directory.join("data")).output()?;
        let said = String::from_utf8_lossy(&done.stderr);
        // A scrub that finds something tells what it is, and fails.
        serde_json::from_slice(&done.stdout)
            .with_context(|| format!("wharf {}: {} {said}", arguments.join(" "), done.status))
    }

    /// Stops it and waits for its end.
    ///
    /// # Errors
    /// If it had ended by itself, or has to be killed.
    pub fn stop(mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended by itself: {status}; {}", self.kind.title(), tail(&self.directory));
        }
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let told = Instant::now();
        while told.elapsed() < STOP {
            if self.child.try_wait()?.is_some() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(2));
        }
        bail!("{} did not stop within {STOP:?}", self.kind.title())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails only for a process that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start_docker_registry(programs: &Programs, directory: PathBuf) -> anyhow::Result<Server> {
    // It cannot say which port the system chose for it.
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let config = format!(
        "version: 0.1\n\
         log: {{level: error, accesslog: {{disabled: true}}}}\n\
         storage:\n  cache: {{blobdescriptor: inmemory}}\n  filesystem: {{rootdirectory: {}}}\n  \
         delete: {{enabled: true}}\n  maintenance: {{uploadpurging: {{enabled: false}}}}\n\
         http: {{addr: \"{address}\"}}\n",
        directory.join("data").display()
    );
    let path = directory.join("config.yml");
    fs::write(&path, config)?;
    let mut command = Command::new(&programs.docker_registry);
    command.arg("serve").arg(&path).env("OTEL_TRACES_EXPORTER", "none");
    let begun = Instant::now();
    let child = spawn(command, &directory, Stdio::null())?;
    let mut server = Server {
        kind: Kind::DockerRegistry,
        address,
        directory,
        started_in: Duration::ZERO,
        authorization: String::new(),
        key: None,
        child,
        _stdout: None,
    };
    while TcpStream::connect(address).is_err() {
        ensure!(begun.elapsed() < START, "docker-registry does not listen");
        if let Some(status) = server.child.try_wait()? {
            bail!("docker-registry ended: {status}; {}", tail(&server.directory));
        }
        thread::sleep(Duration::from_micros(500));
    }
    server.first_answer(begun)?;
    Ok(server)
}

fn start_wharf(
    kind: Kind,
    programs: &Programs,
    directory: PathBuf,
    settings: &[&str],
) -> anyhow::Result<Server> {
    let mut command = wharf(programs);
    let encryption = if kind == Kind::Wharf { "on" } else { "off" };
    command.args(["serve", "--listen", "127.0.0.1:0", "--encryption", encryption, "--data-dir"]);
    command.arg(directory.join("data")).args(settings);
    let begun = Instant::now();
    let mut child = spawn(command, &directory, Stdio::piped())?;
    let mut stdout = BufReader::new(child.stdout.take().context("no standard output")?);
    let mut line = String::new();
    let read = stdout.read_line(&mut line);
    let address = line.trim().strip_prefix("listening on http://").and_then(|address| address.parse().ok());
    let mut server = Server {
        kind,
        address: SocketAddr::from(([127, 0, 0, 1], 0)),
        directory,
        started_in: Duration::ZERO,
        authorization: String::new(),
        key: None,
        child,
        _stdout: Some(stdout),
    };
    read?;
    server.address = address.with_context(|| {
        format!("wharf does not say where it listens: `{}`; {}", line.trim(), tail(&server.directory))
    })?;
    server.first_answer(begun)?;
    Ok(server)
}

impl Server {
    /// Whatever is answered to `GET /v2/`: 200, or 401 where one has to log in.
    fn first_answer(&mut self, begun: Instant) -> anyhow::Result<()> {
        let head = self.head("GET", "/v2/", "");
        let answer = Connection::open(self.address)?.exchange(&head, &[], false, Keep::Nothing)?;
        self.started_in = begun.elapsed();
        ensure!(matches!(answer.status, 200 | 401), "GET /v2/ is answered with {}", answer.status);
        Ok(())
    }
}

/// `wharf` without settings from our environment.
fn wharf(programs: &Programs) -> Command {
    let mut command = Command::new(&programs.wharf);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("WHARF_") {
            command.env_remove(name);
        }
    }
    command
}

fn spawn(mut command: Command, directory: &Path, stdout: Stdio) -> anyhow::Result<Child> {
    let log = File::create(directory.join("server.log"))?;
    command.current_dir(directory).stdin(Stdio::null()).stdout(stdout).stderr(log);
    command.spawn().with_context(|| format!("cannot start {}", command.get_program().display()))
}

/// The end of what a server logged.
fn tail(directory: &Path) -> String {
    let log = fs::read_to_string(directory.join("server.log")).unwrap_or_default();
    let last: Vec<_> = log.lines().rev().take(3).collect();
    last.into_iter().rev().collect::<Vec<_>>().join(" | ")
}
