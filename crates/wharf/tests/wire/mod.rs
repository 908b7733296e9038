//! A client that says what it wants byte for byte over one blocking connection, and the credentials it needs.
#![allow(dead_code, reason = "each test program uses its part")]

pub mod random;

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use wharf_iam::sigv4::{SignedRequest, Signer};
use wharf_types::Timestamp;

/// Longer than any answer may take on a busy machine; a server that is slower hangs.
const HANG: Duration = Duration::from_secs(20);

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body[..self.body.len().min(600)]).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The first error's code of an OCI answer, or the type of an AWS one; empty if it is neither.
    pub fn code(&self) -> String {
        let Ok(body) = serde_json::from_slice::<Value>(&self.body) else { return String::new() };
        let code = body["errors"][0]["code"].as_str().or(body["__type"].as_str()).unwrap_or_default();
        code.rsplit('#').next().unwrap_or_default().to_owned()
    }
}

/// One connection, kept open from request to request.
pub struct Client {
    stream: BufReader<TcpStream>,
    /// The `Host` sent unless a request brings its own.
    pub host: String,
    /// The `Authorization` sent unless a request brings its own.
    pub credential: Option<String>,
}

impl Client {
    pub fn connect(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(HANG))?;
        stream.set_write_timeout(Some(HANG))?;
        Ok(Self { stream: BufReader::new(stream), host: address.to_owned(), credential: None })
    }

    #[must_use]
    pub fn with(mut self, credential: &str) -> Self {
        self.credential = Some(credential.to_owned());
        self
    }

    /// Sends a request whole and reads its answer.
    pub fn send(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Answer> {
        let named = |name: &str| headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
        let mut request = format!("{method} {target} HTTP/1.1\r\n");
        let mut line = |name: &str, value: &str| {
            request.push_str(name);
            request.push_str(": ");
            request.push_str(value);
            request.push_str("\r\n");
        };
        if !named("host") {
            line("host", &self.host);
        }
        if let (false, Some(credential)) = (named("authorization"), &self.credential) {
            line("authorization", credential);
        }
        if !named("content-length") && !named("transfer-encoding") {
            line("content-length", &body.len().to_string());
        }
        headers.iter().for_each(|(name, value)| line(name, value));
        let mut bytes = (request + "\r\n").into_bytes();
        bytes.extend_from_slice(body);
        // A refusal may come, and the connection go, before the body is through: the answer counts.
        let written = self.write(&bytes);
        match (self.read_answer(method), written) {
            (Err(_), Err(error)) => Err(error),
            (answer, _) => answer,
        }
    }

    /// Sends bytes as they are.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Says that nothing more will be sent.
    pub fn finish_writing(&self) {
        let _ = self.stream.get_ref().shutdown(Shutdown::Write);
    }

    /// Reads until the server closes.
    pub fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest)?;
        Ok(rest)
    }

    /// Reads one answer to a request with this method.
    pub fn read_answer(&mut self, method: &str) -> io::Result<Answer> {
        let broken = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let status = self.line()?;
        let status = status.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status: u16 = status.ok_or_else(|| broken("no status line"))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or_else(|| broken("no header"))?;
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        let mut answer = Answer { status, headers, body: Vec::new() };
        if status == 100 {
            return self.read_answer(method);
        }
        if method == "HEAD" || matches!(status, 204 | 304) {
            return Ok(answer);
        }
        answer.body = if let Some(length) = answer.header("content-length") {
            let mut body = vec![0; length.parse().map_err(|_| broken("content-length"))?];
            self.stream.read_exact(&mut body)?;
            body
        } else if answer.header("transfer-encoding").is_some() {
            self.chunks()?
        } else {
            self.read_to_end()?
        };
        Ok(answer)
    }

    fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let size = usize::from_str_radix(self.line()?.trim(), 16).map_err(io::Error::other)?;
            let start = body.len();
            body.resize(start + size, 0);
            self.stream.read_exact(&mut body[start..])?;
            self.line()?;
            if size == 0 {
                return Ok(body);
            }
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 || !line.ends_with('\n') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        line.truncate(line.trim_end().len());
        Ok(line)
    }
}

/// The `Authorization` of container clients.
pub fn basic(password: &str) -> String {
    use base64::Engine as _;
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("AWS:{password}")))
}

/// An access key of the AWS APIs.
#[derive(Clone)]
pub struct AwsKey {
    pub account: String,
    pub id: String,
    pub secret: String,
}

impl AwsKey {
    /// As `account create` prints it and `root-credentials.json` holds it.
    pub fn from_json(value: &Value) -> Self {
        let text = |name: &str| value[name].as_str().unwrap().to_owned();
        Self { account: text("account_id"), id: text("access_key_id"), secret: text("secret_access_key") }
    }

    /// The key that the first start made.
    pub fn of(data_dir: &Path) -> Self {
        let text = std::fs::read(data_dir.join("root-credentials.json")).unwrap();
        Self::from_json(&serde_json::from_slice(&text).unwrap())
    }

    /// Calls an operation of ECR's JSON API with this body, signed.
    pub fn call_raw(&self, client: &mut Client, operation: &str, body: &[u8]) -> io::Result<Answer> {
        let host = client.host.clone();
        let target = format!("AmazonEC2ContainerRegistry_V20150921.{operation}");
        let sent = [
            ("host", host.as_str()),
            ("content-type", "application/x-amz-json-1.1"),
            ("x-amz-target", target.as_str()),
        ];
        let signed: Vec<(&str, &[u8])> = sent.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        let request = SignedRequest { method: "POST", target: "/", headers: &signed };
        let signer = Signer::new(&self.id, &self.secret, "us-east-1", "ecr");
        let added = signer.sign(&request, body, Timestamp::now());
        let mut headers = sent.to_vec();
        headers.extend(added.iter().map(|(name, value)| (*name, value.as_str())));
        client.send("POST", "/", &headers, body)
    }

    pub fn call(&self, client: &mut Client, operation: &str, body: &Value) -> Answer {
        self.call_raw(client, operation, body.to_string().as_bytes()).unwrap()
    }
}
