//! A proxy before a PostgreSQL server that loses the answer to a commit, once, when told to.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU32, Ordering::SeqCst},
    },
    thread,
};

/// What happens to the next commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Cut {
    /// Nothing.
    Never = 0,
    /// The server never sees it.
    BeforeTheServer = 1,
    /// The server answers, and the client does not see that.
    AfterTheServer = 2,
}

/// The proxy. Its threads end with their connections, its listener with the process.
pub struct Proxy {
    port: u16,
    state: Arc<State>,
}

struct State {
    cut: AtomicU8,
    cuts: AtomicU32,
}

impl Proxy {
    /// Listens on a port of this machine's, before the server's socket.
    pub fn start(server: PathBuf) -> io::Result<Proxy> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let state = Arc::new(State { cut: AtomicU8::new(0), cuts: AtomicU32::new(0) });
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if let Ok(server) = UnixStream::connect(&server) {
                    let _ = serve(client, server, &shared);
                }
            }
        });
        Ok(Proxy { port, state })
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Says what happens to the next commit.
    pub fn cut_next_commit(&self, cut: Cut) {
        self.state.cut.store(cut as u8, SeqCst);
    }

    /// How many commits have been cut.
    pub fn cuts(&self) -> u32 {
        self.state.cuts.load(SeqCst)
    }
}

fn serve(client: TcpStream, server: UnixStream, state: &Arc<State>) -> io::Result<()> {
    let (mut from_server, mut to_client) = (server.try_clone()?, client.try_clone()?);
    // True once the server's answers are held back.
    let muted = Arc::new(AtomicU8::new(0));
    let mute = Arc::clone(&muted);
    thread::spawn(move || {
        let mut buffer = [0; 64 << 10];
        while let Ok(count @ 1..) = from_server.read(&mut buffer) {
            let answer = &buffer[..count];
            if mute.load(SeqCst) == 0 {
                if to_client.write_all(answer).is_err() {
                    break;
                }
            } else if answer.windows(7).any(|window| window == b"COMMIT\0") {
                // It is committed: the client sees the connection end instead.
                break;
            }
        }
        let _ = to_client.shutdown(Shutdown::Both);
        let _ = from_server.shutdown(Shutdown::Both);
    });
    let state = Arc::clone(state);
    thread::spawn(move || {
        let (mut client, mut server) = (client, server);
        let mut buffer = [0; 64 << 10];
        while let Ok(count @ 1..) = client.read(&mut buffer) {
            let sent = &buffer[..count];
            let commits = sent.windows(7).any(|window| window == b"COMMIT\0");
            let cut = match commits {
                true => state.cut.swap(0, SeqCst),
                false => 0,
            };
            if cut != 0 {
                muted.store(1, SeqCst);
                state.cuts.fetch_add(1, SeqCst);
            }
            if cut == Cut::BeforeTheServer as u8 || server.write_all(sent).is_err() {
                break;
            }
        }
        let _ = client.shutdown(Shutdown::Both);
        let _ = server.shutdown(Shutdown::Both);
    });
    Ok(())
}
