//! Tells the service manager how far the program is, as `sd_notify(3)` describes: datagrams to the socket that
//! `NOTIFY_SOCKET` names. Without one there is nobody to tell.

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use tracing::warn;

/// Whoever started the program and wants to know.
#[derive(Debug)]
pub struct ServiceManager {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// How long it waits for a sign of life.
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// The one that the environment names, if any.
    pub fn of_process() -> Self {
        Self::find(|name| std::env::var_os(name), std::process::id())
    }

    fn find(variable: impl Fn(&str) -> Option<OsString>, process: u32) -> Self {
        let number = |name| variable(name)?.to_str()?.parse::<u64>().ok();
        let socket = variable("NOTIFY_SOCKET").filter(|name| !name.is_empty()).and_then(|name| {
            let opened = address(name.as_bytes()).and_then(|to| Ok((UnixDatagram::unbound()?, to)));
            opened.inspect_err(|error| warn!(%error, "cannot reach the service manager")).ok()
        });
        // Without an id the watchdog is meant for whoever has the variable.
        let ours = number("WATCHDOG_PID").is_none_or(|id| id == u64::from(process));
        let watchdog = number("WATCHDOG_USEC").filter(|micros| *micros > 0 && ours && socket.is_some());
        Self { socket, watchdog: watchdog.map(Duration::from_micros) }
    }

    /// Requests are answered from now on.
    pub fn ready(&self, status: &str) {
        self.say(&format!("READY=1\nSTATUS={status}"));
    }

    /// The program is about to end by itself.
    pub fn stopping(&self) {
        self.say("STOPPING=1\nSTATUS=draining");
    }

    /// Gives signs of life, twice as often as they are asked for, until dropped. Where none are, waits for ever.
    pub async fn keep_alive(&self) {
        let Some(patience) = self.watchdog else { return std::future::pending().await };
        let mut beat = tokio::time::interval(patience / 2);
        loop {
            beat.tick().await;
            self.say("WATCHDOG=1");
        }
    }

    fn say(&self, state: &str) {
        if let Some((socket, to)) = &self.socket
            && let Err(error) = socket.send_to_addr(state.as_bytes(), to)
        {
            warn!(%error, "cannot tell the service manager");
        }
    }
}

/// A path, or behind `@` the name of an abstract socket.
fn address(name: &[u8]) -> io::Result<SocketAddr> {
    match name.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manager(variables: &[(&str, &str)]) -> ServiceManager {
        let found = |name: &str| Some(OsString::from(variables.iter().find(|(n, _)| *n == name)?.1));
        ServiceManager::find(found, 7)
    }

    #[test]
    fn an_abstract_socket_is_told() {
        let name = format!("wharf-notify-{}", std::process::id());
        let listener = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let manager = manager(&[("NOTIFY_SOCKET", &format!("@{name}"))]);
        manager.ready("serving");
        manager.stopping();
        for expected in ["READY=1\nSTATUS=serving", "STOPPING=1\nSTATUS=draining"] {
            let mut got = [0; 100];
            let length = listener.recv(&mut got).unwrap();
            assert_eq!(std::str::from_utf8(&got[..length]), Ok(expected));
        }
        assert_eq!(manager.watchdog, None);
    }

    #[test]
    fn the_watchdog_is_another_process_s_where_it_says_so() {
        let socket = ("NOTIFY_SOCKET", "/nowhere");
        for (variables, watchdog) in [
            (vec![socket, ("WATCHDOG_USEC", "5000000")], Some(Duration::from_secs(5))),
            (vec![socket, ("WATCHDOG_USEC", "5000000"), ("WATCHDOG_PID", "7")], Some(Duration::from_secs(5))),
            (vec![socket, ("WATCHDOG_USEC", "5000000"), ("WATCHDOG_PID", "8")], None),
            (vec![socket, ("WATCHDOG_USEC", "0")], None),
            (vec![socket, ("WATCHDOG_USEC", "soon")], None),
            (vec![("WATCHDOG_USEC", "5000000")], None),
        ] {
            assert_eq!(manager(&variables).watchdog, watchdog, "{variables:?}");
        }
        manager(&[socket]).ready("nobody hears it, and nothing happens");
    }
}
