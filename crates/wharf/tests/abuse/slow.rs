//! Clients that dawdle: cut at the limits that are set, while others are served, and what they began is not lost.

use std::io;
use std::time::{Duration, Instant};

use crate::target::{REPOSITORY, Target};
use crate::wire::Client;

const SHORT: [&str; 6] = [
    "--limits-header-timeout",
    "300ms",
    "--limits-body-idle-timeout",
    "300ms",
    "--limits-idle-timeout",
    "300ms",
];
/// Far longer than the limits, on any machine.
const PATIENCE: Duration = Duration::from_secs(15);

/// Sends a byte now and then until the server has had enough.
fn drip(client: &mut Client, byte: &[u8]) {
    let began = Instant::now();
    while client.write(byte).is_ok() {
        assert!(began.elapsed() < PATIENCE, "a client that drips is served for ever");
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

#[test]
fn heads_that_drip_or_stall_are_cut_while_others_are_served() {
    let target = Target::start(&SHORT);
    let mut dawdlers: Vec<Client> = (0..60).map(|_| target.stranger()).collect();
    for (number, client) in dawdlers.iter_mut().enumerate() {
        let begun: &[u8] = match number % 3 {
            0 => b"",
            1 => b"GET /v2/ HTTP/1.1\r\nhost: x\r\nx-slow: ",
            _ => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        };
        client.write(begun).unwrap();
    }
    let mut good = target.client();
    assert_eq!(good.send("GET", "/v2/", &[], b"").unwrap().status, 200);
    drip(&mut dawdlers[1], b"a");
    for mut client in dawdlers {
        // Closed, in whatever way; the read has its own, longer limit.
        let ended = client.read_to_end();
        let timed_out = ended
            .is_err_and(|error| matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut));
        assert!(!timed_out, "a silent client was not cut");
    }
    target.assert_unharmed();
}

#[test]
fn bodies_that_stall_or_drip_are_cut_and_the_upload_goes_on_from_what_was_acknowledged() {
    let target = Target::start(&SHORT);
    let content = vec![5_u8; 100_000];
    let started = target.send("POST", &format!("/v2/{REPOSITORY}/blobs/uploads/"), &[], b"");
    let location = started.header("location").unwrap().to_owned();
    assert_eq!(target.send("PATCH", &location, &[], &content[..70_000]).status, 202);
    for dripping in [false, true] {
        for (method, place) in [
            ("PATCH", location.clone()),
            ("PUT", format!("{location}?digest=sha256:{}", "0".repeat(64))),
            ("PUT", format!("/v2/{REPOSITORY}/manifests/slow")),
        ] {
            let mut client = target.client();
            let credential = &target.caller.credential;
            let head = format!(
                "{method} {place} HTTP/1.1\r\nhost: x\r\nauthorization: {credential}\r\ncontent-length: 30000\r\n\r\nabc"
            );
            client.write(head.as_bytes()).unwrap();
            if dripping {
                drip(&mut client, b"x");
            }
            match client.read_answer(method) {
                Ok(answer) => assert!((400..500).contains(&answer.status), "{method}: {}", answer.text()),
                Err(error) => {
                    let hung = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
                    assert!(!hung, "{method} {place} hangs, dripping: {dripping}");
                }
            }
            let status = crate::server::eventually("the upload to be free again", || {
                let status = target.send("GET", &location, &[], b"");
                (status.status == 204).then_some(status)
            });
            assert_eq!(status.header("range"), Some("0-69999"), "unacknowledged bytes of {method} were kept");
        }
    }
    let digest = wharf_types::Digest::sha256(&content);
    let answer = target.send("PUT", &format!("{location}?digest={digest}"), &[], &content[70_000..]);
    assert_eq!(answer.status, 201, "{}", answer.text());
    let got = target.send("GET", &format!("/v2/{REPOSITORY}/blobs/{digest}"), &[], b"");
    assert!(got.body == content);
    target.assert_unharmed();
}

#[test]
fn api_calls_that_stall_are_cut() {
    let target = Target::start(&SHORT);
    for target_header in ["", "x-amz-target: AmazonEC2ContainerRegistry_V20150921.PutImage\r\n"] {
        for dripping in [false, true] {
            let mut client = target.stranger();
            let head = format!(
                "POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-amz-json-1.1\r\n{target_header}\
                 authorization: AWS4-HMAC-SHA256 Credential={}/20260101/us-east-1/ecr/aws4_request, \
                 SignedHeaders=host, Signature={}\r\ncontent-length: 30000\r\n\r\n{{",
                target.caller.key.id,
                "0".repeat(64)
            );
            client.write(head.as_bytes()).unwrap();
            if dripping {
                drip(&mut client, b" ");
            }
            match client.read_answer("POST") {
                Ok(answer) => assert!((400..500).contains(&answer.status), "{}", answer.text()),
                Err(error) => {
                    let hung = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
                    assert!(!hung, "the call hangs, dripping: {dripping}");
                }
            }
        }
    }
    target.assert_unharmed();
}
