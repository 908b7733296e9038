//! Starting, owning a data directory, stopping.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::server::{Server, eventually, outcome, succeeds, wharf};

#[test]
fn the_first_start_creates_an_account_and_tells_no_secret_to_a_pipe() {
    let parent = tempfile::tempdir().unwrap();
    let data = parent.path().join("data");
    let server = Server::start(&data, &[]);
    assert!(server.url.starts_with("http://127.0.0.1:"), "{}", server.url);
    assert!(server.get("/healthz").starts_with("HTTP/1.1 200 "));

    let path = data.join("root-credentials.json");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let credentials: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(credentials["account_id"], "123456789012");
    let secret = credentials["secret_access_key"].as_str().unwrap();
    assert_eq!(secret.len(), 40);
    let told = server.stop();
    assert!(told.contains("root-credentials.json") && told.contains("docker login"), "{told}");
    assert!(!told.contains(secret), "a secret went to a pipe");

    let again = Server::start(&data, &[]);
    let told = again.stop();
    assert!(!told.contains("docker login"), "only the first start is a first start: {told}");
}

#[test]
fn a_data_directory_has_one_owner() {
    let parent = tempfile::tempdir().unwrap();
    let data = parent.path().join("data");
    let server = Server::start(&data, &[]);
    let (code, stdout, stderr) = outcome(&mut wharf(&data, &["serve", "--listen", "127.0.0.1:0"]));
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(stderr.contains("is in use by another wharf"), "{stderr}");
    server.stop();
}

#[test]
fn a_killed_server_leaves_nothing_in_the_way() {
    let parent = tempfile::tempdir().unwrap();
    let data = parent.path().join("data");
    let server = Server::start(&data, &[]);
    server.signal("KILL");
    assert_eq!(server.wait().0, None);
    assert!(data.join("control.sock").exists(), "the test is about a socket left behind");
    let server = Server::start(&data, &[]);
    assert!(succeeds(&mut wharf(&data, &["account", "list"])).contains("123456789012"));
    server.stop();
}

#[test]
fn a_log_that_cannot_be_written_stops_nothing() {
    let parent = tempfile::tempdir().unwrap();
    let data = parent.path().join("data");
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = wharf(&data, &["serve", "--listen", "127.0.0.1:0", "--log-level", "debug"]);
    let mut child = command.stdout(Stdio::piped()).stderr(full).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    let host = line.trim_end().strip_prefix("listening on http://").unwrap_or_else(|| panic!("{line:?}"));
    for _ in 0..3 {
        let mut stream = TcpStream::connect(host).unwrap();
        write!(stream, "GET /readyz HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:?}");
    }
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn interrupts_drain_and_clients_that_dawdle_are_cut_at_the_limit() {
    let parent = tempfile::tempdir().unwrap();
    let data = parent.path().join("data");
    let server = Server::start(&data, &["--limits-drain", "200ms"]);
    let mut dawdling = TcpStream::connect(server.host()).unwrap();
    dawdling.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n").unwrap();
    assert!(
        server.get("/healthz").contains("200 OK"),
        "the dawdling connection was accepted before this one"
    );
    server.signal("INT");
    let (code, _, errors) = server.wait();
    assert_eq!(code, Some(0), "{errors}");
}

#[test]
fn nobody_else_reads_what_is_kept_in_a_directory_open_to_all() {
    let parent = tempfile::tempdir().unwrap();
    let data = parent.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o755)).unwrap();
    let server = Server::start(&data, &[]);
    let open: Vec<_> = std::fs::read_dir(&data)
        .unwrap()
        .map(Result::unwrap)
        .filter(|entry| entry.metadata().unwrap().permissions().mode() & 0o077 != 0)
        .map(|entry| entry.file_name())
        .collect();
    assert!(data.join("metadata.sqlite-wal").exists(), "there is something to protect");
    assert!(open.is_empty(), "{open:?}");
    server.stop();
}

#[test]
fn a_server_stops_when_told_though_nobody_reads_its_log() {
    let parent = tempfile::tempdir().unwrap();
    let mut command =
        wharf(&parent.path().join("data"), &["serve", "--listen", "127.0.0.1:0", "--log-level", "info"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take());
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("listening on "), "{line}");
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    let code = eventually_ended(&mut child);
    assert_eq!(code, Some(0));
}

/// Waits for a child that may not end, and ends it then.
fn eventually_ended(child: &mut std::process::Child) -> Option<i32> {
    let began = std::time::Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if began.elapsed() > std::time::Duration::from_secs(20) {
            child.kill().unwrap();
        }
        std::thread::yield_now();
    }
}

#[test]
fn further_signals_do_not_spoil_a_drain_that_ends_well() {
    let parent = tempfile::tempdir().unwrap();
    let server = Server::start(&parent.path().join("data"), &[]);
    let pid = server.pid().to_string();
    let signals = std::thread::spawn(move || {
        let kill = || Command::new("kill").arg(&pid).stderr(Stdio::null()).status().unwrap().success();
        std::iter::from_fn(|| kill().then_some(())).take(10_000).count()
    });
    let (code, _, errors) = server.wait();
    assert!(signals.join().unwrap() > 0);
    assert_eq!(code, Some(0), "{errors}");
}

#[test]
fn a_second_signal_ends_a_drain_that_hangs() {
    let parent = tempfile::tempdir().unwrap();
    let server = Server::start(&parent.path().join("data"), &["--limits-drain", "1h"]);
    let mut dawdling = TcpStream::connect(server.host()).unwrap();
    dawdling.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n").unwrap();
    assert!(
        server.get("/healthz").contains("200 OK"),
        "the dawdling connection was accepted before this one"
    );
    server.signal("TERM");
    eventually("the drain", || TcpStream::connect(server.host()).is_err().then_some(()));
    server.signal("INT");
    let (code, _, errors) = server.wait();
    assert_eq!(code, Some(1), "{errors}");
}

#[test]
fn the_service_manager_is_told() {
    let parent = tempfile::tempdir().unwrap();
    let socket = parent.path().join("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut command = wharf(&parent.path().join("data"), &["serve", "--listen", "127.0.0.1:0"]);
    let server = Server::spawn(command.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "50000"));
    let heard = || {
        let mut message = [0; 200];
        let length = manager.recv(&mut message).unwrap();
        String::from_utf8_lossy(&message[..length]).into_owned()
    };
    assert_eq!(heard(), format!("READY=1\nSTATUS=serving on {}", server.url));
    assert_eq!((heard(), heard()), ("WATCHDOG=1".to_owned(), "WATCHDOG=1".to_owned()));
    server.signal("TERM");
    let last = std::iter::repeat_with(heard).find(|message| message != "WATCHDOG=1");
    assert_eq!(last.as_deref(), Some("STOPPING=1\nSTATUS=draining"));
    assert_eq!(server.wait().0, Some(0));
}

#[test]
fn plain_http_stays_on_the_machine_unless_told() {
    let parent = tempfile::tempdir().unwrap();
    let data = parent.path().join("data");
    let (code, _, stderr) = outcome(&mut wharf(&data, &["serve", "--listen", "0.0.0.0:0"]));
    assert_eq!(code, 1);
    assert!(stderr.contains("--insecure-plain-http"), "{stderr}");
    assert!(!data.exists(), "a refused start left something behind");
}

#[test]
fn a_server_goes_on_when_nobody_reads_what_it_says() {
    let parent = tempfile::tempdir().unwrap();
    let data = parent.path().join("data");
    let mut command = wharf(&data, &["serve", "--listen", "127.0.0.1:0", "--log-level", "info"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let log = BufReader::new(child.stderr.take().unwrap());
    let mut lines = log.lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("serving")), "it ended instead of serving");
    let stopped = Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(stopped.success() && child.wait().unwrap().success(), "{:?}", lines.collect::<Vec<_>>());
}
