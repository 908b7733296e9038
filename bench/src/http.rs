//! HTTP/1.1 over one kept connection, with blocking sockets and as little parsing as the rows need: the load generator
//! shares two cores with what it measures.

use std::io::{ErrorKind, IoSlice, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

/// Read from the socket at a time.
const BUFFER: usize = 256 << 10;
/// Bodies up to here travel in one write with their head.
const ONE_WRITE: usize = 256 << 10;
/// Longest pause of a server that counts as slow and not as dead.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest response head.
const HEAD: usize = 32 << 10;
/// Piece of a body sent with `Transfer-Encoding: chunked`.
const PIECE: usize = 64 << 10;

/// What came back. The body is empty unless it was asked for.
#[derive(Debug, Default)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// `Location`, without scheme and host.
    pub location: Option<String>,
    /// Target of `Link`, without scheme and host.
    pub next: Option<String>,
    /// Bytes of body received.
    pub received: u64,
    /// The body, if it was kept.
    pub body: Vec<u8>,
}

/// What to do with a response body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Count its bytes.
    Nothing,
    /// Keep it.
    Body,
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    scratch: Vec<u8>,
}

enum Length {
    Known(u64),
    Chunked,
}

struct Head {
    answer: Answer,
    length: Length,
    close: bool,
}

impl Connection {
    /// Connects, without delaying small writes.
    ///
    /// # Errors
    /// If nobody listens.
    pub fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).context("cannot connect")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, buffer: vec![0; BUFFER].into(), start: 0, end: 0, scratch: Vec::new() })
    }

    /// Sends a request whose head is complete, and reads the answer. `head_only`: the request is a `HEAD`.
    ///
    /// # Errors
    /// If the connection fails or the answer is not HTTP.
    pub fn exchange(
        &mut self,
        head: &[u8],
        body: &[&[u8]],
        head_only: bool,
        keep: Keep,
    ) -> anyhow::Result<Answer> {
        if body.is_empty() {
            self.stream.write_all(head).context("cannot send")?;
        } else if body.iter().map(|part| part.len()).sum::<usize>() <= ONE_WRITE {
            self.scratch.clear();
            self.scratch.extend_from_slice(head);
            body.iter().for_each(|part| self.scratch.extend_from_slice(part));
            self.stream.write_all(&self.scratch).context("cannot send")?;
        } else {
            let mut parts: Vec<IoSlice<'_>> = vec![IoSlice::new(head)];
            parts.extend(body.iter().map(|part| IoSlice::new(part)));
            self.write_parts(&mut parts)?;
        }
        self.answer(head_only, keep)
    }

    /// Sends a body of which the server does not know the length before its end.
    ///
    /// # Errors
    /// As [`Self::exchange`].
    pub fn exchange_chunked(&mut self, head: &[u8], body: &[&[u8]]) -> anyhow::Result<Answer> {
        self.stream.write_all(head).context("cannot send")?;
        for piece in body.iter().flat_map(|part| part.chunks(PIECE)) {
            let size = format!("{:x}\r\n", piece.len());
            self.write_parts(&mut [
                IoSlice::new(size.as_bytes()),
                IoSlice::new(piece),
                IoSlice::new(b"\r\n"),
            ])?;
        }
        self.stream.write_all(b"0\r\n\r\n").context("cannot send")?;
        self.answer(false, Keep::Nothing)
    }

    fn write_parts(&mut self, mut parts: &mut [IoSlice<'_>]) -> anyhow::Result<()> {
        IoSlice::advance_slices(&mut parts, 0);
        while !parts.is_empty() {
            match self.stream.write_vectored(parts) {
                Ok(0) => bail!("connection closed while sending"),
                Ok(written) => IoSlice::advance_slices(&mut parts, written),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("cannot send"),
            }
        }
        Ok(())
    }

    fn answer(&mut self, head_only: bool, keep: Keep) -> anyhow::Result<Answer> {
        let Head { mut answer, length, close } = self.head()?;
        if !head_only && answer.status != 204 && answer.status != 304 {
            match length {
                Length::Known(length) => self.take(length, keep, &mut answer)?,
                Length::Chunked => self.take_chunks(keep, &mut answer)?,
            }
        }
        if close {
            let address = self.stream.peer_addr()?;
            *self = Self::open(address)?;
        }
        Ok(answer)
    }

    fn head(&mut self) -> anyhow::Result<Head> {
        let mut searched = 0;
        loop {
            let unread = &self.buffer[self.start..self.end];
            let from = searched.min(unread.len());
            if let Some(at) = unread[from..].windows(4).position(|window| window == b"\r\n\r\n") {
                let length = from + at + 4;
                let head = parse(&unread[..length])?;
                self.start += length;
                return Ok(head);
            }
            ensure!(unread.len() < HEAD, "the head of the answer has no end");
            searched = unread.len().saturating_sub(3);
            self.fill()?;
        }
    }

    /// Reads more, behind what is unread.
    fn fill(&mut self) -> anyhow::Result<()> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        loop {
            match self.stream.read(&mut self.buffer[self.end..]) {
                Ok(0) => bail!("connection closed before the end of the answer"),
                Ok(read) => {
                    self.end += read;
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("cannot receive"),
            }
        }
    }

    fn take(&mut self, length: u64, keep: Keep, answer: &mut Answer) -> anyhow::Result<()> {
        let mut rest = length;
        while rest > 0 {
            if self.start == self.end {
                self.fill()?;
            }
            let here = (self.end - self.start).min(usize::try_from(rest).unwrap_or(usize::MAX));
            if keep == Keep::Body {
                answer.body.extend_from_slice(&self.buffer[self.start..self.start + here]);
            }
            self.start += here;
            rest -= here as u64;
        }
        answer.received += length;
        Ok(())
    }

    fn take_chunks(&mut self, keep: Keep, answer: &mut Answer) -> anyhow::Result<()> {
        loop {
            let line = self.line()?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(size, 16).with_context(|| format!("`{line}` is no chunk size"))?;
            self.take(size, keep, answer)?;
            let end = self.line()?;
            ensure!(end.is_empty(), "a chunk is longer than it said");
            if size == 0 {
                return Ok(());
            }
        }
    }

    fn line(&mut self) -> anyhow::Result<String> {
        loop {
            let unread = &self.buffer[self.start..self.end];
            if let Some(at) = unread.windows(2).position(|window| window == b"\r\n") {
                let line = String::from_utf8_lossy(&unread[..at]).into_owned();
                self.start += at + 2;
                return Ok(line);
            }
            ensure!(unread.len() < 1024, "a line has no end");
            self.fill()?;
        }
    }
}

fn parse(head: &[u8]) -> anyhow::Result<Head> {
    let head = std::str::from_utf8(head).context("the answer is not HTTP")?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
    let mut answer = Answer { status: status.context("the answer is not HTTP/1.1")?, ..Answer::default() };
    let (mut length, mut close) = (Length::Known(0), false);
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { continue };
        let value = value.trim_ascii();
        // The length of a name decides nearly always, so that few are compared.
        match name.len() {
            14 if name.eq_ignore_ascii_case("content-length") => length = Length::Known(value.parse()?),
            17 if name.eq_ignore_ascii_case("transfer-encoding") => length = Length::Chunked,
            10 if name.eq_ignore_ascii_case("connection") => close = value.eq_ignore_ascii_case("close"),
            8 if name.eq_ignore_ascii_case("location") => answer.location = Some(target(value)),
            4 if name.eq_ignore_ascii_case("link") => {
                answer.next =
                    value.strip_prefix('<').and_then(|rest| rest.split_once('>')).map(|(url, _)| target(url));
            }
            _ => {}
        }
    }
    Ok(Head { answer, length, close })
}

/// Path and query of an address that may be absolute.
fn target(url: &str) -> String {
    match url.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]).to_owned(),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// Answers each write of `answers` in turn to a client that sends anything.
    fn serve(answers: Vec<Vec<&'static [u8]>>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            for pieces in answers {
                let mut request = [0; 1024];
                assert!(stream.read(&mut request).unwrap() > 0);
                pieces.into_iter().for_each(|piece| stream.write_all(piece).unwrap());
            }
        });
        address
    }

    #[test]
    fn answers_are_read_to_their_end_and_no_further() {
        let address = serve(vec![
            vec![b"HTTP/1.1 200 OK\r\nContent-Le", b"ngth: 5\r\n\r\nhel", b"lo"],
            vec![b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", b"2;x=y\r\nde\r\n0\r\n\r\n"],
            vec![b"HTTP/1.1 404 Not Found\r\ncontent-length: 70\r\n\r\n"],
            vec![b"HTTP/1.1 202 Accepted\r\nLocation: http://a:1/v2/x?y=z\r\nLink: </v2/n>; rel=\"next\"\r\n\r\n"],
        ]);
        let mut connection = Connection::open(address).unwrap();
        let mut ask = |head_only| connection.exchange(b"x", &[], head_only, Keep::Body).unwrap();
        let first = ask(false);
        assert_eq!((first.status, first.received, first.body.as_slice()), (200, 5, &b"hello"[..]));
        assert_eq!(ask(false).body, b"abcde");
        assert_eq!(ask(true).status, 404);
        let last = ask(false);
        assert_eq!((last.location.as_deref(), last.next.as_deref()), (Some("/v2/x?y=z"), Some("/v2/n")));
    }
}
