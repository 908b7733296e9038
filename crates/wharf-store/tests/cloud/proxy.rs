//! Stands between a node and the server and lets things go wrong: one request per connection.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Pass,
    /// The connection is closed; the server has not seen the request.
    Drop,
    /// The server has done it, and nobody hears of it.
    LoseAnswer,
    /// The store has too much to do.
    SlowDown,
    /// Passes after a while.
    Late,
    /// Half of the answer arrives.
    CutAnswer,
}

/// Decides by the request's first line.
type Judge = dyn Fn(&str) -> Fate + Send + Sync;

pub struct Proxy {
    pub address: SocketAddr,
    judge: Arc<Mutex<Arc<Judge>>>,
    seen: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    pub async fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let judge: Arc<Mutex<Arc<Judge>>> = Arc::new(Mutex::new(Arc::new(|_: &str| Fate::Pass)));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        let (judging, seeing) = (Arc::clone(&judge), Arc::clone(&seen));
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let judge = Arc::clone(&*judging.lock().unwrap());
                let seen = Arc::clone(&seeing);
                connections.spawn(async move {
                    // Whatever fails here is a connection that breaks.
                    drop(serve(client, server, &*judge, &seen).await);
                });
            }
        });
        Self { address, judge, seen, _tasks: tasks }
    }

    /// From now on.
    pub fn judge_by(&self, judge: impl Fn(&str) -> Fate + Send + Sync + 'static) {
        *self.judge.lock().unwrap() = Arc::new(judge);
    }

    /// The first lines of the requests since the last call.
    pub fn take_seen(&self) -> Vec<String> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

async fn serve(
    mut client: TcpStream,
    server: SocketAddr,
    judge: &Judge,
    seen: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut request = Vec::new();
    let head = loop {
        if let Some(end) = request.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if client.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    };
    let text = String::from_utf8_lossy(&request[..head]).into_owned();
    let first = text.lines().next().unwrap_or_default().to_owned();
    let header = |name: &str| {
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        lines
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim().to_owned())
            .next()
    };
    let body = header("content-length").map_or(0, |len| len.parse::<usize>().unwrap());
    seen.lock().unwrap().push(first.clone());
    let fate = judge(&first);
    if fate == Fate::Drop {
        return Ok(());
    }
    while request.len() < head + body {
        if client.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    match fate {
        Fate::SlowDown => {
            let body = "<?xml version=\"1.0\"?><Error><Code>SlowDown</Code><Message>reduce</Message></Error>";
            let answer = format!(
                "HTTP/1.1 503 Slow Down\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            client.write_all(answer.as_bytes()).await?;
            return client.shutdown().await;
        }
        Fate::Late => tokio::time::sleep(Duration::from_millis(200)).await,
        _ => {}
    }
    let mut upstream = TcpStream::connect(server).await?;
    let line_end = first.len() + 2;
    upstream.write_all(&request[..line_end]).await?;
    upstream.write_all(b"Connection: close\r\n").await?;
    upstream.write_all(&request[line_end..]).await?;
    let mut answer = Vec::new();
    upstream.read_to_end(&mut answer).await?;
    match fate {
        Fate::LoseAnswer => return Ok(()),
        Fate::CutAnswer => answer.truncate(answer.len() / 2),
        _ => {}
    }
    client.write_all(&answer).await?;
    client.shutdown().await
}
