//! One record per call, CloudTrail-shaped: who did what to which resource, from where, and how it ended. What the registry
//! does by itself it records in its store; from there it is copied here.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use wharf_iam::decision::{Identity, Need};
use wharf_types::Timestamp;

use crate::config::AuditSink;

/// Records that may wait for the disk; then calls wait, because a record must not get lost.
const QUEUE: usize = 4096;
/// Bytes that are written at once, if so much waits.
const BATCH: usize = 64 * 1024;
/// Bytes of records that are kept while the file cannot be written; further ones are lost, and counted.
const KEPT: usize = 1 << 20;

/// A call that has been answered.
#[derive(Debug)]
pub struct AuditRecord<'a> {
    /// When it began.
    pub at: Timestamp,
    /// E.g. `ecr.amazonaws.com`.
    pub source: &'static str,
    /// CloudTrail's name of the call, e.g. `PutImage`.
    pub event: &'a str,
    /// The region, where there is one.
    pub region: &'a str,
    /// The client's address.
    pub address: IpAddr,
    /// `User-Agent`.
    pub user_agent: &'a str,
    /// The request's id, as the client was told it.
    pub request_id: &'a str,
    /// The caller, if one was authenticated.
    pub identity: Option<&'a Identity>,
    /// What the call needed permission for.
    pub needs: &'a [Need],
    /// What allowed or denied the first of them, where that is known.
    pub decided: Option<&'a str>,
    /// HTTP status.
    pub status: u16,
    /// Code and text of the error.
    pub error: Option<(&'a str, &'a str)>,
    /// Time to the response's head.
    pub took: Duration,
}

/// What the thread writes.
#[derive(Debug)]
pub enum Entry {
    /// A record of a call.
    Call(Vec<u8>),
    /// Records that are somewhere else until they are durable here, and whoever waits for that.
    Kept(Vec<u8>, oneshot::Sender<io::Result<()>>),
}

/// Where records go.
#[derive(Debug)]
pub enum Audit {
    /// Nowhere.
    Off,
    /// To the log.
    Log,
    /// To a file, through a thread that writes.
    File {
        /// Lines to write.
        queue: mpsc::Sender<Entry>,
        /// The thread; it ends when the queue is closed.
        writer: JoinHandle<()>,
    },
}

impl Audit {
    /// Opens the sink. A file that cannot be written (a full disk) stops no request: what waits too long is lost, and
    /// counted in `lost`.
    ///
    /// # Errors
    /// If the file cannot be opened for appending.
    pub fn open(sink: &AuditSink, lost: Counter) -> io::Result<Self> {
        let path = match sink {
            AuditSink::Off => return Ok(Self::Off),
            AuditSink::Log => return Ok(Self::Log),
            AuditSink::File(path) => path.clone(),
        };
        let file = OpenOptions::new().create(true).append(true).open(&path)?;
        let (queue, lines) = mpsc::channel(QUEUE);
        let writer = std::thread::Builder::new()
            .name("audit".into())
            .spawn(move || write_lines(Lines { file, waiting: Vec::new(), lost }, &path, lines))?;
        Ok(Self::File { queue, writer })
    }

    /// Whether anybody reads records; if not, there is no need to gather what they hold.
    pub fn is_on(&self) -> bool {
        !matches!(self, Self::Off)
    }

    /// Writes a record. Waits when the disk is far behind.
    pub async fn write(&self, record: AuditRecord<'_>) {
        match self {
            Self::Off => {}
            Self::Log => tracing::info!(target: "wharf_http::audit", record = %record.to_json(), "call"),
            Self::File { queue, .. } => {
                let mut line = record.to_json().to_string().into_bytes();
                line.push(b'\n');
                // The thread ends only after the queue; a failed send means that the process is ending.
                let _ = queue.send(Entry::Call(line)).await;
            }
        }
    }

    /// Writes records that are kept elsewhere until this has succeeded: JSON without line breaks, each.
    ///
    /// # Errors
    /// If they are not durable in the file. Some may be there all the same.
    pub async fn write_kept(&self, records: &[String]) -> io::Result<()> {
        match self {
            _ if records.is_empty() => {}
            Self::Off => {}
            Self::Log => {
                for record in records {
                    tracing::info!(target: "wharf_http::audit", record, "service event");
                }
            }
            Self::File { queue, .. } => {
                let lines = records.iter().flat_map(|record| [record.as_bytes(), b"\n"]).flatten();
                let (done, written) = oneshot::channel();
                let entry = Entry::Kept(lines.copied().collect(), done);
                let over = || io::Error::other("the audit writer has ended");
                queue.send(entry).await.map_err(|_| over())?;
                written.await.map_err(|_| over())??;
            }
        }
        Ok(())
    }

    /// Ends the sink: all records written before are in the file when this returns. Blocks.
    pub fn close(self) {
        if let Self::File { queue, writer } = self {
            drop(queue);
            if writer.join().is_err() {
                tracing::error!("the audit writer has failed");
            }
        }
    }
}

impl AuditRecord<'_> {
    /// The record as CloudTrail writes it, with wharf's `additionalEventData`.
    fn to_json(&self) -> Value {
        let identity = match self.identity {
            Some(identity) => json!({
                "type": "Root",
                "principalId": identity.principal_id,
                "arn": identity.arn,
                "accountId": identity.account.as_str(),
                "accessKeyId": identity.access_key_id,
            }),
            None => json!({"type": "Anonymous"}),
        };
        let resources: Vec<Value> = self
            .needs
            .iter()
            .filter(|need| need.resource != "*")
            .map(|need| json!({"ARN": need.resource, "accountId": need.resource_account.as_str()}))
            .collect();
        let mut record = json!({
            "eventVersion": "1.08",
            "eventTime": self.at.to_rfc3339(),
            "eventSource": self.source,
            "eventName": self.event,
            "eventType": "AwsApiCall",
            "awsRegion": self.region,
            "sourceIPAddress": self.address.to_string(),
            "userAgent": self.user_agent,
            "requestID": self.request_id,
            "eventID": uuid::Uuid::new_v4().to_string(),
            "userIdentity": identity,
            "additionalEventData": {
                "actions": self.needs.iter().map(|need| need.action).collect::<Vec<_>>(),
                "status": self.status,
                "microseconds": u64::try_from(self.took.as_micros()).unwrap_or(u64::MAX),
            },
        });
        if let Some(decided) = self.decided {
            record["additionalEventData"]["decidedBy"] = decided.into();
        }
        if !resources.is_empty() {
            record["resources"] = resources.into();
        }
        if let Some(need) = self.needs.first() {
            record["recipientAccountId"] = need.resource_account.as_str().into();
        }
        if let Some((code, message)) = self.error {
            record["errorCode"] = code.into();
            record["errorMessage"] = message.into();
        }
        record
    }
}

/// The file, and the lines that wait for it.
struct Lines<W> {
    file: W,
    waiting: Vec<u8>,
    lost: Counter,
}

impl<W: Write> Lines<W> {
    /// Writes what waits. What a failure leaves waits on, from the very byte, so that no line is torn.
    fn flush(&mut self) -> io::Result<()> {
        let (mut done, mut outcome) = (0, Ok(()));
        while outcome.is_ok() && done < self.waiting.len() {
            match self.file.write(&self.waiting[done..]) {
                Ok(0) => outcome = Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => done += written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => outcome = Err(error),
            }
        }
        self.waiting.drain(..done);
        outcome
    }

    /// Adds a line, unless too many wait that cannot be written.
    fn add(&mut self, line: &[u8]) {
        let fits = |waiting: &[u8]| waiting.len() + line.len() <= KEPT;
        if !fits(&self.waiting) {
            // Its failure is told by the flush that follows.
            let _ = self.flush();
        }
        if fits(&self.waiting) {
            self.waiting.extend_from_slice(line);
        } else {
            self.lost.inc();
        }
    }

    /// Writes lines that are kept elsewhere if this fails. One that was begun then is ended later, so that none is torn;
    /// the others come again.
    fn write_kept(&mut self, lines: &[u8]) -> io::Result<()> {
        self.flush()?;
        self.waiting.extend_from_slice(lines);
        let outcome = self.flush();
        if outcome.is_err() {
            let written = lines.len() - self.waiting.len();
            let begun = written > 0 && lines[written - 1] != b'\n';
            let end = self.waiting.iter().position(|byte| *byte == b'\n').map_or(0, |place| place + 1);
            self.waiting.truncate(if begun { end } else { 0 });
        }
        outcome
    }

    /// Counts what waits as lost.
    fn give_up(&mut self) {
        self.lost.inc_by(self.waiting.iter().filter(|byte| **byte == b'\n').count() as u64);
    }
}

/// Writes what is queued, at the latest whenever the queue is empty.
fn write_lines(mut file: Lines<File>, path: &Path, mut entries: mpsc::Receiver<Entry>) {
    let mut failing = false;
    while let Some(entry) = entries.blocking_recv() {
        let result = match entry {
            Entry::Call(line) => {
                file.add(&line);
                if !entries.is_empty() && file.waiting.len() < BATCH {
                    continue;
                }
                file.flush()
            }
            Entry::Kept(lines, done) => {
                let result = file.write_kept(&lines).and_then(|()| sync(&file.file));
                let told = match &result {
                    Ok(()) => Ok(()),
                    Err(error) => Err(io::Error::from(error.kind())),
                };
                // Whoever asked may have gone.
                let _ = done.send(told);
                result
            }
        };
        if let Err(error) = &result
            && !failing
        {
            tracing::error!(%error, path = %path.display(), "audit records cannot be written");
        }
        failing = result.is_err();
    }
    if let Err(error) = file.flush() {
        tracing::error!(%error, path = %path.display(), "audit records cannot be written");
        file.give_up();
    }
}

/// Makes durable what was written.
fn sync(file: &File) -> io::Result<()> {
    match file.sync_data() {
        // A pipe or a device has nothing to make durable.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn records_are_in_the_file_after_close() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        let audit = Audit::open(&AuditSink::File(path.clone()), Counter::default()).unwrap();
        let identity = Identity::root("123456789012".parse().unwrap(), "AKIDEXAMPLE");
        let arn = "arn:aws:ecr:us-east-1:123456789012:repository/a";
        let needs = [Need::new("ecr:PutImage", arn, identity.account)];
        for position in 0..3 {
            audit
                .write(AuditRecord {
                    at: Timestamp::from_micros(1_700_000_000_000_000),
                    source: "ecr.amazonaws.com",
                    event: "PutImage",
                    region: "us-east-1",
                    address: "127.0.0.1".parse().unwrap(),
                    user_agent: "line\nbreak",
                    request_id: &position.to_string(),
                    identity: Some(&identity),
                    needs: &needs,
                    decided: Some("an identity-based policy allows the action: push, statement 0"),
                    status: 400,
                    error: Some(("LayersNotFoundException", "no")),
                    took: Duration::from_millis(3),
                })
                .await;
        }
        audit.close();
        let text = std::fs::read_to_string(path).unwrap();
        let records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(records.len(), 3);
        assert_eq!(records[2]["requestID"], "2");
        assert_eq!(records[0]["resources"], json!([{"ARN": arn, "accountId": "123456789012"}]));
        assert_eq!(records[0]["errorCode"], "LayersNotFoundException");
        assert_eq!(records[0]["userIdentity"]["accountId"], "123456789012");
    }

    /// Takes a few bytes at a time, and none once it is full.
    struct Disk {
        written: Vec<u8>,
        room: usize,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(7).min(self.room);
            if taken == 0 && !bytes.is_empty() {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.room -= taken;
            self.written.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_tears_no_line_and_what_is_lost_is_counted() {
        let disk = Disk { written: Vec::new(), room: 100 };
        let mut lines = Lines { file: disk, waiting: Vec::new(), lost: Counter::default() };
        let line = |number: usize| format!("{number:0>1022}\n").into_bytes();
        for number in 0..1030 {
            lines.add(&line(number));
            lines.flush().unwrap_err();
        }
        // A little was written, so one more than fits was kept.
        let kept = 1030 - lines.lost.get();
        assert_eq!(kept, (KEPT as u64 + 100) / 1023);
        lines.file.room = usize::MAX;
        lines.add(&line(5000));
        lines.flush().unwrap();
        let expected: Vec<u8> = (0..kept as usize).chain([5000]).flat_map(line).collect();
        assert!(lines.file.written == expected, "every kept line whole, in order");
        lines.file.room = 0;
        lines.add(&line(1));
        lines.add(&line(2));
        lines.flush().unwrap_err();
        lines.give_up();
        assert_eq!(lines.lost.get(), 1030 - kept + 2);
    }

    #[test]
    fn what_is_kept_elsewhere_is_refused_by_a_full_disk_and_torn_by_none() {
        let disk = Disk { written: Vec::new(), room: 5 };
        let mut lines = Lines { file: disk, waiting: Vec::new(), lost: Counter::default() };
        assert_eq!(lines.write_kept(b"one\ntwo\nthree\n").unwrap_err().kind(), io::ErrorKind::StorageFull);
        lines.add(b"call\n");
        lines.file.room = usize::MAX;
        lines.write_kept(b"one\ntwo\nthree\n").unwrap();
        lines.file.room = 4;
        lines.write_kept(b"six\nten\n").unwrap_err();
        lines.file.room = usize::MAX;
        lines.write_kept(b"ten\n").unwrap();
        let text = String::from_utf8(lines.file.written).unwrap();
        assert_eq!(text, "one\ntwo\ncall\none\ntwo\nthree\nsix\nten\n");
        assert_eq!(lines.lost.get(), 0);
    }

    #[tokio::test]
    async fn whoever_keeps_records_is_told_whether_they_are_durable() {
        let kept = ["{}".to_owned()];
        let full = Audit::open(&AuditSink::File("/dev/full".into()), Counter::default()).unwrap();
        assert_eq!(full.write_kept(&kept).await.unwrap_err().kind(), io::ErrorKind::StorageFull);
        full.close();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        let audit = Audit::open(&AuditSink::File(path.clone()), Counter::default()).unwrap();
        audit.write_kept(&kept).await.unwrap();
        assert_eq!(std::fs::read_to_string(path).unwrap(), "{}\n", "before it is closed");
        audit.close();
    }
}
