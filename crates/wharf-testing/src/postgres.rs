//! PostgreSQL for tests: one throw-away cluster per test run, one database per test.
//!
//! The cluster is Debian's package, or whatever `postgres` is found beside `pg_ctl` on the path. The first test that asks
//! for it starts it, on a socket in a directory of its own; a watcher stops it and removes the directory when the test
//! runner, the parent of all test processes, is gone.

use std::{
    fs::{self, File},
    io,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _, chown},
        process::{CommandExt as _, parent_id},
    },
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

/// The superuser of every cluster here.
const USER: &str = "wharf";

/// PostgreSQL refuses to run as root: Debian's `nobody`.
const NOBODY: u32 = 65_534;

/// A database of its own, dropped when this goes.
pub struct Database {
    cluster: Cluster,
    name: String,
}

impl Database {
    /// Makes an empty database on the run's cluster. Where there is no PostgreSQL it says so, and answers `None`: the test
    /// is skipped.
    pub fn create() -> Option<Database> {
        static CLUSTER: OnceLock<Option<Cluster>> = OnceLock::new();
        let cluster = CLUSTER.get_or_init(Cluster::of_this_run).clone()?;
        Some(cluster.create_database())
    }

    /// Where it is, as a URL.
    pub fn url(&self) -> String {
        let socket = self.cluster.directory.display().to_string().replace('/', "%2F");
        format!("postgres://{USER}@{socket}/{}", self.name)
    }

    /// Where it is behind a proxy on a TCP port of this machine, as a URL.
    pub fn url_by_port(&self, port: u16) -> String {
        format!("postgres://{USER}@127.0.0.1:{port}/{}", self.name)
    }

    /// The socket that its server listens on.
    pub fn socket(&self) -> PathBuf {
        self.cluster.directory.join(".s.PGSQL.5432")
    }

    /// Runs SQL in it as the superuser and answers what it prints, bare.
    pub fn run(&self, sql: &str) -> String {
        self.cluster.psql(&self.name, sql)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.cluster.try_psql("postgres", &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
    }
}

/// A server that a test may stop, with a database on it.
pub struct PrivateServer {
    cluster: Cluster,
}

impl PrivateServer {
    /// Starts one, or says that there is no PostgreSQL and answers `None`.
    pub fn start() -> Option<PrivateServer> {
        let bin = programs()?;
        let directory = std::env::temp_dir().join(format!("wharf-pg-{}-{}", process::id(), next()));
        let cluster = Cluster { bin, directory };
        cluster.make(process::id());
        Some(PrivateServer { cluster })
    }

    /// Makes a database on it.
    pub fn create_database(&self) -> Database {
        self.cluster.create_database()
    }

    /// Stops it as a crash would, and starts it again; returns when it takes connections.
    pub fn crash_and_restart(&self) {
        self.cluster.stop();
        self.cluster.start();
    }

    /// Stops it as a crash would.
    pub fn crash(&self) {
        self.cluster.stop();
    }

    /// Starts it again; returns when it takes connections.
    pub fn restart(&self) {
        self.cluster.start();
    }
}

impl Drop for PrivateServer {
    fn drop(&mut self) {
        let _ = self.cluster.control(&["stop", "-m", "immediate"]).output();
        let _ = fs::remove_dir_all(&self.cluster.directory);
    }
}

#[derive(Clone)]
struct Cluster {
    bin: PathBuf,
    directory: PathBuf,
}

impl Cluster {
    fn of_this_run() -> Option<Cluster> {
        let bin = programs()?;
        let parent = parent_id();
        // A process id may come again, its start time does not.
        let born = fs::metadata(format!("/proc/{parent}")).map_or(0, |metadata| metadata.ctime());
        let directory = std::env::temp_dir().join(format!("wharf-pg-{parent}-{born}"));
        let lock = File::create(directory.with_extension("lock")).expect("cannot make the cluster's lock");
        lock.lock().expect("cannot lock the cluster");
        let cluster = Cluster { bin, directory };
        if !cluster.directory.join("ready").exists() {
            cluster.make(parent);
            File::create(cluster.directory.join("ready")).expect("cannot mark the cluster as ready");
        }
        Some(cluster)
    }

    /// Initialises and starts it; it ends with the process `owner`.
    fn make(&self, owner: u32) {
        let _ = fs::remove_dir_all(&self.directory);
        fs::create_dir(&self.directory).expect("cannot make the cluster's directory");
        fs::set_permissions(&self.directory, fs::Permissions::from_mode(0o755)).expect("cannot open it");
        if is_root() {
            chown(&self.directory, Some(NOBODY), Some(NOBODY)).expect("cannot give the directory away");
        }
        // An order that is not that of bytes, where there is one: ours must not depend on the database's.
        let icu = ["--locale-provider=icu", "--icu-locale=en-US", "--locale=C.UTF-8"];
        if !self.initialise(&icu) {
            let _ = fs::remove_dir_all(self.data());
            assert!(self.initialise(&["--locale=C.UTF-8"]), "initdb failed");
        }
        self.watch(owner);
        self.start();
    }

    fn initialise(&self, more: &[&str]) -> bool {
        let mut command = self.program("initdb");
        command.arg("-D").arg(self.data()).args(["-U", USER, "--auth=trust", "-E", "UTF8", "--no-sync"]);
        command.args(more).output().is_ok_and(|output| output.status.success())
    }

    fn start(&self) {
        let settings = format!(
            "-k {} -c listen_addresses= -c unix_socket_permissions=0777 -c fsync=off -c full_page_writes=off \
             -c max_connections=300 -c shared_buffers=48MB -c max_wal_senders=0 -c wal_level=minimal",
            self.directory.display()
        );
        let log = self.directory.join("log");
        let started = self
            .control(&["start", "-w", "-t", "120", "-o", &settings, "-l"])
            .arg(&log)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        let log = fs::read_to_string(&log).unwrap_or_default();
        assert!(started.is_ok_and(|status| status.success()), "PostgreSQL does not start: {log}");
    }

    fn stop(&self) {
        let stopped = self.control(&["stop", "-m", "immediate", "-w"]).output();
        assert!(stopped.is_ok_and(|output| output.status.success()), "PostgreSQL does not stop");
    }

    fn control(&self, arguments: &[&str]) -> Command {
        let mut command = self.program("pg_ctl");
        command.arg("-D").arg(self.data()).args(arguments);
        command
    }

    /// Ends the cluster with its owner, in whatever way that goes.
    #[expect(clippy::zombie_processes, reason = "it is to outlive this process")]
    fn watch(&self, owner: u32) {
        let script = "while kill -0 \"$1\" 2>/dev/null; do sleep 1; done
            [ -e \"$2/data/postmaster.pid\" ] && kill -QUIT \"$(head -n 1 \"$2/data/postmaster.pid\")\"
            sleep 1
            rm -rf \"$2\" \"$2.lock\"";
        Command::new("sh")
            .args(["-c", script, "sh", &owner.to_string()])
            .arg(&self.directory)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("cannot watch the cluster's owner");
    }

    fn create_database(&self) -> Database {
        let name = format!("t{}_{}", process::id(), next());
        self.psql("postgres", &format!("CREATE DATABASE {name} TEMPLATE template0"));
        Database { cluster: self.clone(), name }
    }

    fn psql(&self, database: &str, sql: &str) -> String {
        let output = self.try_psql(database, sql).expect("cannot run psql");
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    fn try_psql(&self, database: &str, sql: &str) -> Option<process::Output> {
        let mut command = Command::new(self.bin.join("psql"));
        command.args([
            "-X",
            "-q",
            "-t",
            "-A",
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            USER,
            "-d",
            database,
            "-c",
            sql,
        ]);
        command
            .arg("-h")
            .arg(&self.directory)
            .env("PGOPTIONS", "-c client_min_messages=warning")
            .output()
            .ok()
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// One of PostgreSQL's programs, run by somebody who is not root.
    fn program(&self, name: &str) -> Command {
        let path = self.bin.join(name);
        let mut command = match is_root() {
            true => {
                let mut command = Command::new("setpriv");
                command.args([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")]);
                command.arg("--clear-groups").arg(path);
                command
            }
            false => Command::new(path),
        };
        command.current_dir("/").env("HOME", &self.directory).stdin(Stdio::null());
        command
    }
}

fn next() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Relaxed)
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

/// The directory of PostgreSQL's programs, the newest of Debian's first.
fn programs() -> Option<PathBuf> {
    let found = debian().or_else(on_path);
    if found.is_none() {
        eprintln!("skipped: there is no PostgreSQL here (Debian's package is `postgresql`)");
    }
    found
}

fn debian() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let version = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = versions
        .filter_map(|entry: io::Result<fs::DirEntry>| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.join("bin/initdb").exists())
        .max_by_key(|path| version(path))?;
    Some(newest.join("bin"))
}

fn on_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).find(|directory| directory.join("pg_ctl").exists())
}
