//! A gate between an import and its source: it counts the blobs that are asked for, and breaks off or holds answers.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

/// What happens to an answer with a blob.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    Pass,
    /// The first so many pass, the others never end.
    HoldAfter(usize),
    /// Every blob's first answer ends after so many bytes.
    CutFirst(usize),
    /// Every second answer is 503.
    BusyEverySecond,
}

#[derive(Default)]
struct State {
    rule: Option<Rule>,
    /// Blobs asked for by GET, in order, each with its `Range`.
    blobs: Vec<(String, Option<String>)>,
    requests: usize,
    held: usize,
}

pub struct Gate {
    pub host: String,
    shared: Arc<(Mutex<State>, Condvar)>,
}

impl Gate {
    /// Opens a gate to a server. Its threads end with the test's process.
    pub fn before(upstream: &str, rule: Rule) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let shared = Arc::new((Mutex::new(State { rule: Some(rule), ..State::default() }), Condvar::new()));
        let (upstream, theirs) = (upstream.to_owned(), Arc::clone(&shared));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (upstream, shared) = (upstream.clone(), Arc::clone(&theirs));
                std::thread::spawn(move || drop(pass(&stream, &upstream, &shared)));
            }
        });
        Self { host, shared }
    }

    pub fn set(&self, rule: Rule) {
        self.shared.0.lock().unwrap().rule = Some(rule);
    }

    /// What was asked for since the last time.
    pub fn take(&self) -> Vec<(String, Option<String>)> {
        std::mem::take(&mut self.shared.0.lock().unwrap().blobs)
    }

    /// Waits until an answer is held.
    pub fn wait_held(&self) {
        let (state, changed) = &*self.shared;
        let mut state = state.lock().unwrap();
        while state.held == 0 {
            let (next, waited) = changed.wait_timeout(state, std::time::Duration::from_secs(60)).unwrap();
            assert!(!waited.timed_out(), "nothing asked for the blob that is held");
            state = next;
        }
    }
}

/// One request and its answer; the connection ends with it.
fn pass(client: &TcpStream, upstream: &str, shared: &(Mutex<State>, Condvar)) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let (mut head, mut length) = (Vec::new(), 0);
    let (mut first, mut range) = (String::new(), None);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().map_err(std::io::Error::other)?;
        }
        if let Some(value) = lower.strip_prefix("range:") {
            range = Some(value.trim().to_owned());
        }
        if lower.starts_with("connection:") {
            continue;
        }
        if first.is_empty() {
            first = line.trim_end().to_owned();
        }
        if line == "\r\n" {
            head.extend_from_slice(b"connection: close\r\n\r\n");
            break;
        }
        head.extend_from_slice(line.as_bytes());
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let limit = match decide(&first, range, shared) {
        Some(limit) => limit,
        None => {
            let busy = b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            return (&*client).write_all(busy);
        }
    };
    let mut server = TcpStream::connect(upstream)?;
    server.write_all(&head)?;
    server.write_all(&body)?;
    let mut piece = vec![0; 64 << 10];
    let (mut sent, mut client) = (0, client);
    loop {
        let read = server.read(&mut piece)?;
        let rest = limit.bytes.map_or(read, |bytes| read.min(bytes.saturating_sub(sent)));
        client.write_all(&piece[..rest])?;
        sent += rest;
        if limit.bytes.is_some_and(|bytes| sent >= bytes) {
            if limit.hold {
                shared.0.lock().unwrap().held += 1;
                shared.1.notify_all();
                // Until the other side goes.
                while reader.read(&mut piece)? > 0 {}
            }
            return Ok(());
        }
        if read == 0 {
            return Ok(());
        }
    }
}

/// How much of an answer passes.
struct Limit {
    bytes: Option<usize>,
    hold: bool,
}

/// `None`: the answer is 503.
fn decide(first: &str, range: Option<String>, shared: &(Mutex<State>, Condvar)) -> Option<Limit> {
    let mut state = shared.0.lock().unwrap();
    state.requests += 1;
    let all = Some(Limit { bytes: None, hold: false });
    let rule = state.rule.unwrap_or(Rule::Pass);
    if rule == Rule::BusyEverySecond && state.requests.is_multiple_of(2) {
        return None;
    }
    let Some((_, digest)) = first.strip_prefix("GET ").and_then(|rest| rest.split_once("/blobs/")) else {
        return all;
    };
    let digest = digest.split(' ').next().unwrap_or_default().to_owned();
    let is_first = state.blobs.iter().all(|(earlier, _)| *earlier != digest);
    state.blobs.push((digest, range));
    match rule {
        Rule::HoldAfter(passing) if state.blobs.len() > passing => {
            Some(Limit { bytes: Some(300), hold: true })
        }
        Rule::CutFirst(bytes) if is_first => Some(Limit { bytes: Some(bytes), hold: false }),
        _ => all,
    }
}
