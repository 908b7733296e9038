//! Requests that two readers could read differently: either refused, or read in one way only.

use crate::target::{REPOSITORY, Target};

/// Connections that wait for more are closed this soon.
const SHORT: [&str; 4] = ["--limits-header-timeout", "200ms", "--limits-idle-timeout", "200ms"];

/// Sends bytes, each on a connection of its own; gives all that comes back.
fn exchange<T: AsRef<[u8]>>(target: &Target, requests: &[T]) -> Vec<String> {
    let mut clients: Vec<_> = requests.iter().map(|_| target.stranger()).collect();
    for (client, bytes) in clients.iter_mut().zip(requests) {
        // It may be closed before all is written.
        let _ = client.write(bytes.as_ref());
    }
    let answers = clients.into_iter().map(|mut client| match client.read_to_end() {
        Ok(answers) => String::from_utf8_lossy(&answers).into_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => String::new(),
        Err(error) => panic!("neither answered nor closed: {error}"),
    });
    answers.collect()
}

#[test]
fn a_request_hidden_in_anothers_body_is_not_carried_out() {
    let target = Target::start(&SHORT);
    let auth = format!("authorization: {}\r\n", target.caller.credential);
    let hidden = format!(
        "DELETE /v2/{REPOSITORY}/manifests/v1 HTTP/1.1\r\nhost: x\r\n{auth}content-length: 0\r\n\r\n"
    );
    let length = hidden.len();
    for (what, framing) in [
        ("both framings", format!("content-length: {length}\r\ntransfer-encoding: chunked\r\n")),
        ("two lengths", format!("content-length: 0\r\ncontent-length: {length}\r\n")),
        ("a list of lengths", format!("content-length: 0, {length}\r\n")),
        ("a signed length", format!("content-length: +{length}\r\n")),
        ("a negative length", "content-length: -1\r\n".to_owned()),
        ("a hexadecimal length", format!("content-length: {length:#x}\r\n")),
        ("a length too long", "content-length: 99999999999999999999999\r\n".to_owned()),
        ("an unknown coding", "transfer-encoding: xchunked\r\n".to_owned()),
        ("a coding after chunked", "transfer-encoding: chunked, identity\r\n".to_owned()),
        ("a name with a space", "transfer-encoding : chunked\r\n".to_owned()),
        ("a folded line", "transfer-encoding:\r\n chunked\r\n".to_owned()),
        ("a bare carriage return", "x: a\rtransfer-encoding: chunked\r\n".to_owned()),
        ("a null", "x: a\0\r\ncontent-length: 0\r\n".to_owned()),
    ] {
        let request =
            format!("POST /v2/{REPOSITORY}/blobs/uploads/ HTTP/1.1\r\nhost: x\r\n{auth}{framing}\r\n");
        let bodies =
            [hidden.clone(), format!("0\r\n\r\n{hidden}"), format!("{length:x}\r\n{hidden}\r\n0\r\n\r\n")];
        let answers = exchange(&target, &bodies.map(|body| format!("{request}{body}")));
        assert!(answers.iter().all(|answers| !answers.contains("HTTP/1.1 5")), "{what}: {answers:?}");
        let kept = target.send("GET", &format!("/v2/{REPOSITORY}/manifests/v1"), &[], b"");
        assert_eq!(kept.status, 200, "{what}: the hidden request was carried out: {answers:?}");
    }
    target.assert_unharmed();
    // The hidden request is one that works: openly sent behind another, it is carried out.
    let open = format!(
        "POST /v2/{REPOSITORY}/blobs/uploads/ HTTP/1.1\r\nhost: x\r\n{auth}content-length: 0\r\n\r\n{hidden}"
    );
    let answers = exchange(&target, &[open]);
    assert_eq!(answers[0].matches("HTTP/1.1 202 Accepted").count(), 2, "{answers:?}");
}

#[test]
fn malformed_requests_are_refused_or_cut_without_a_failure() {
    let target = Target::start(&SHORT);
    let requests = [
        &b"GET /v2/ HTTP/1.1\r\n\r\n"[..],
        b"GET /v2/ HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nhost: a\r\n\tb: c\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nhost: a b\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nhost: \xff\xfe\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nhost: ]:99999999[\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nhost: x\r\nauthorization: Basic \xff\xff\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nhost: x\r\nauthorization: Basic QVdT\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nhost: x\r\nauthorization: Basic \r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nhost: x\r\nauthorization: Bearer x\r\nauthorization: Basic x\r\n\r\n",
        b"GET http://[::1/v2/ HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET v2 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET * HTTP/1.1\r\nhost: x\r\n\r\n",
        b"CONNECT example.com:443 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"TRACE /v2/ HTTP/1.1\r\nhost: x\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /v2/ HTTP/9.9\r\nhost: x\r\n\r\n",
        b"GET /v2/\xff HTTP/1.1\r\nhost: x\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"POST / HTTP/1.1\r\nhost: x\r\nx-amz-target: AmazonEC2ContainerRegistry_V20150921.\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\nx-amz-target: \xff.\xff\r\ncontent-length: 2\r\n\r\n{}",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: 9\r\n\r\nAction=%f",
        b"POST /?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=%ff HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\nauthorization: AWS4-HMAC-SHA256 Credential=/////,SignedHeaders=;;;,Signature=\r\ncontent-length: 2\r\n\r\n{}",
    ];
    for (request, answer) in requests.iter().zip(exchange(&target, &requests)) {
        let what = String::from_utf8_lossy(request);
        assert!(!answer.contains("HTTP/1.1 5") && !answer.contains("HTTP/1.1 200"), "{what}: {answer}");
    }
    target.assert_unharmed();
}
