//! Who the client is when a proxy stands between: `X-Forwarded-For` and `X-Forwarded-Proto`, believed from configured
//! proxies only.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use http::HeaderMap;

use crate::server::Peer;

/// A block of addresses, such as `10.0.0.0/8`; a single address is a block of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    /// How many leading bits count.
    prefix: u32,
}

impl Network {
    /// Whether an address is in it. An IPv4 address in IPv6 clothes counts as what it is.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (own.to_bits() ^ other.to_bits()).leading_zeros() >= self.prefix
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                (own.to_bits() ^ other.to_bits()).leading_zeros() >= self.prefix
            }
            _ => false,
        }
    }
}

/// Text that is no block of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected an address or a block such as 10.0.0.0/8")]
pub struct NetworkError;

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(text, bits)| (text, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| NetworkError)?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => width,
            Some(bits) if bits.bytes().all(|b| b.is_ascii_digit()) => {
                bits.parse().ok().filter(|bits| *bits <= width).ok_or(NetworkError)?
            }
            Some(_) => return Err(NetworkError),
        };
        Ok(Self { address, prefix })
    }
}

/// The client a request comes from, as far as the proxies between are trusted: the last address of `X-Forwarded-For`
/// that no trusted proxy has, and whether the client spoke TLS to the outermost of them.
pub(crate) fn client(trusted: &[Network], headers: &HeaderMap, peer: Peer) -> Peer {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    if trusted.is_empty() || !is_trusted(peer.addr.ip()) {
        return peer;
    }
    let mut client = peer.addr;
    let lines = headers.get_all("x-forwarded-for").iter().rev();
    let hops = lines.flat_map(|line| line.to_str().unwrap_or_default().rsplit(','));
    for hop in hops {
        // What a trusted proxy could not read itself, nobody before it can vouch for.
        let Some(address) = address(hop) else { break };
        client = SocketAddr::new(address, 0);
        if !is_trusted(address) {
            break;
        }
    }
    // A proxy that appends puts its own word last; most replace what the client sent.
    let proto = headers.get_all("x-forwarded-proto").iter().next_back();
    let proto = proto.and_then(|value| value.to_str().ok()?.rsplit(',').next().map(str::trim));
    let tls = proto.map_or(peer.tls, |proto| proto.eq_ignore_ascii_case("https"));
    Peer { addr: client, tls }
}

/// An address with or without a port.
fn address(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim();
    let bare = hop.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(hop);
    let address = bare.parse().ok().or_else(|| Some(hop.parse::<SocketAddr>().ok()?.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn seen(peer: &str, lines: &[&'static str], proto: Option<&'static str>) -> (String, bool) {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("x-forwarded-for", HeaderValue::from_static(line));
        }
        if let Some(proto) = proto {
            headers.insert("x-forwarded-proto", HeaderValue::from_static(proto));
        }
        let peer = Peer { addr: SocketAddr::new(peer.parse().unwrap(), 9), tls: false };
        let client = client(&trusted, &headers, peer);
        (client.addr.ip().to_string(), client.tls)
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let table = [
            ("192.0.2.1", &["203.0.113.9"][..], Some("https"), ("192.0.2.1", false)),
            ("10.0.0.1", &[], None, ("10.0.0.1", false)),
            ("10.0.0.1", &["203.0.113.9"], Some("https"), ("203.0.113.9", true)),
            ("10.0.0.1", &["1.1.1.1, 203.0.113.9"], Some("http"), ("203.0.113.9", false)),
            ("10.0.0.1", &["1.1.1.1, 203.0.113.9, 10.9.9.9"], None, ("203.0.113.9", false)),
            ("10.0.0.1", &["1.1.1.1", "203.0.113.9"], Some("http, https"), ("203.0.113.9", true)),
            ("10.0.0.1", &["10.1.1.1, 10.2.2.2"], None, ("10.1.1.1", false)),
            ("10.0.0.1", &["203.0.113.9, junk"], None, ("10.0.0.1", false)),
            ("10.0.0.1", &["203.0.113.9:4711"], None, ("203.0.113.9", false)),
            ("::ffff:10.0.0.1", &["[2001:db9::1]:80"], None, ("2001:db9::1", false)),
            ("2001:db8::1", &["2001:db9::1"], None, ("2001:db9::1", false)),
        ];
        for (peer, lines, proto, (address, tls)) in table {
            assert_eq!(seen(peer, lines, proto), (address.to_owned(), tls), "{peer} {lines:?}");
        }
    }

    #[test]
    fn blocks_are_read_strictly() {
        for bad in ["", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "10.0/8", "::/129", "host"] {
            assert_eq!(bad.parse::<Network>(), Err(NetworkError), "{bad}");
        }
        assert!("0.0.0.0/0".parse::<Network>().unwrap().contains([1, 2, 3, 4].into()));
    }
}
