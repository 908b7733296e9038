//! Clients that are refused while they are still sending must get to read why.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use wharf_types::{Digest, UploadId};

use super::wharf::{REPOSITORY, Wharf};

const PIECE: usize = 64 * 1024;

/// Sends a head and then `pieces` of a body that is announced to be as long, reading nothing before; then reads.
async fn stubborn(wharf: &Wharf, head: &str, pieces: usize) -> String {
    let mut client = TcpStream::connect(wharf.addr).await.unwrap();
    let length = pieces * PIECE;
    let head = format!("{head}host: x\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
    client.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..pieces {
        client.write_all(&vec![0; PIECE]).await.unwrap();
    }
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_client_that_sends_first_and_reads_then_gets_its_answer() {
    let wharf = Wharf::start().await;
    let credential = wharf.credential().await;
    let upload = UploadId::random();
    for (authorization, status) in [
        ("authorization: Basic bad\r\n".to_owned(), "401 Unauthorized"),
        (format!("authorization: {credential}\r\n"), "404 Not Found"),
    ] {
        let head = format!("PATCH /v2/team/api/blobs/uploads/{upload} HTTP/1.1\r\n{authorization}");
        let answer = stubborn(&wharf, &head, 256).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{answer}");
    }
}

#[tokio::test]
async fn a_client_that_asks_first_is_refused_without_being_asked_to_go_on() {
    let wharf = Wharf::start().await;
    let credential = wharf.credential().await;
    let send = async |target: String| {
        let mut client = TcpStream::connect(wharf.addr).await.unwrap();
        let head = format!(
            "PATCH {target} HTTP/1.1\r\nhost: x\r\nauthorization: {credential}\r\nexpect: 100-continue\r\n\
             content-length: 5\r\n\r\n"
        );
        client.write_all(head.as_bytes()).await.unwrap();
        let mut first = vec![0; 12];
        tokio::time::timeout(Duration::from_secs(10), client.read_exact(&mut first)).await.unwrap().unwrap();
        (String::from_utf8(first).unwrap(), client)
    };
    let (refused, _) = send(format!("/v2/team/api/blobs/uploads/{}", UploadId::random())).await;
    assert_eq!(refused, "HTTP/1.1 404");

    let started = wharf.send("POST", "/v2/team/api/blobs/uploads/", &[], "").await;
    let (asked, mut client) = send(started.text("location").to_owned()).await;
    assert_eq!(asked, "HTTP/1.1 100");
    client.write_all(b"12345").await.unwrap();
    let mut rest = String::new();
    while !rest.contains("HTTP/1.1 202 ") {
        let mut piece = [0; 256];
        let read =
            tokio::time::timeout(Duration::from_secs(10), client.read(&mut piece)).await.unwrap().unwrap();
        assert_ne!(read, 0, "{rest}");
        rest.push_str(&String::from_utf8_lossy(&piece[..read]));
    }
}

#[tokio::test]
async fn http2_clients_are_told_as_well_and_keep_their_connection() {
    let wharf = Wharf::start().await;
    let credential = wharf.credential().await;
    let stream = TcpStream::connect(wharf.addr).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut send = async |method: &str, target: String, body: usize| {
        // The host comes as `:authority`.
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{}{target}", wharf.addr))
            .header("authorization", &credential)
            .body(Full::new(Bytes::from(vec![0; body])))
            .unwrap();
        sender.send_request(request).await.unwrap().status().as_u16()
    };
    let upload = format!("/v2/team/api/blobs/uploads/{}", UploadId::random());
    assert_eq!(send("PATCH", upload, 4 << 20).await, 404);
    assert_eq!(send("GET", "/v2/".into(), 0).await, 200);
}

/// A frame of data in answer to HEAD is a broken stream to HTTP/2 clients, and every push asks for blobs by HEAD.
#[tokio::test]
async fn http2_clients_get_no_content_in_answer_to_head() {
    let wharf = Wharf::start().await;
    let credential = wharf.credential().await;
    let stream = TcpStream::connect(wharf.addr).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let missing = Digest::sha256(b"missing");
    for (target, status) in [
        ("/v2/".to_owned(), 200),
        (format!("/v2/{REPOSITORY}/blobs/{missing}"), 404),
        (format!("/v2/{REPOSITORY}/manifests/none"), 404),
        ("/v2/".to_owned() + "nothing", 404),
        ("/healthz".to_owned(), 200),
    ] {
        let request = Request::head(format!("http://{}{target}", wharf.addr))
            .header("authorization", &credential)
            .body(Full::new(Bytes::new()))
            .unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.status(), status, "{target}");
        let length: usize = answer.headers()["content-length"].to_str().unwrap().parse().unwrap();
        assert!(length > 0, "{target}: the length a GET would have");
        let content = answer.into_body().collect().await.unwrap().to_bytes();
        assert!(content.is_empty(), "{target}: {content:?}");
    }
}
