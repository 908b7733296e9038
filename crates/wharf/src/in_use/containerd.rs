//! What containerd runs: its tasks, their containers, and the digests of their images, by gRPC over its socket.
//!
//! Three lists are all that is asked, so the calls are made by hand: a gRPC call is an HTTP/2 POST of one message with five
//! bytes before it, answered the same way with the outcome in the trailers.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http2::SendRequest;
use hyper::{HeaderMap, Request};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::UnixStream;

use super::protobuf::{self, ProtobufError};

/// Time for everything.
const TIME: Duration = Duration::from_secs(30);
/// Bytes of an answer: containers come with their whole specification.
const LIMIT: usize = 256 << 20;
/// `STOPPED` of a task's status. All others (created, running, paused) need the image.
const STOPPED: u64 = 3;

/// Why containerd did not answer.
#[derive(Debug, thiserror::Error)]
pub enum ContainerdError {
    /// The socket cannot be reached.
    #[error("the socket cannot be reached")]
    Socket(#[from] std::io::Error),
    /// The connection broke, or speaks something else.
    #[error("the connection failed")]
    Connection(#[from] hyper::Error),
    /// The answer broke off, or is too long.
    #[error("the answer cannot be read")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The namespace cannot be sent.
    #[error("the name of the namespace is not valid")]
    Namespace(#[source] hyper::http::Error),
    /// A refusal.
    #[error("{method} failed with status {status}: {message}")]
    Refused {
        /// What was asked.
        method: &'static str,
        /// gRPC's number.
        status: String,
        /// containerd's words.
        message: String,
    },
    /// An answer of another form.
    #[error("the answer has not the form that was expected")]
    Frame,
    /// The same.
    #[error(transparent)]
    Protobuf(#[from] ProtobufError),
    /// It took too long.
    #[error("no answer within {} seconds", TIME.as_secs())]
    TooSlow,
}

/// The images of the containers of a namespace that have not stopped: by digest, or by name where containerd does not
/// know the image any more.
///
/// # Errors
/// If containerd does not answer.
pub async fn running_images(socket: &Path, namespace: &str) -> Result<Vec<String>, ContainerdError> {
    tokio::time::timeout(TIME, ask(socket, namespace)).await.map_err(|_| ContainerdError::TooSlow)?
}

async fn ask(socket: &Path, namespace: &str) -> Result<Vec<String>, ContainerdError> {
    let stream = UnixStream::connect(socket).await?;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    let driving = tokio::spawn(connection);
    let answers = async {
        let tasks = call(&mut sender, namespace, "/containerd.services.tasks.v1.Tasks/List").await?;
        let containers =
            call(&mut sender, namespace, "/containerd.services.containers.v1.Containers/List").await?;
        let images = call(&mut sender, namespace, "/containerd.services.images.v1.Images/List").await?;
        running(&tasks, &containers, &images)
    };
    let answers = answers.await;
    driving.abort();
    answers
}

/// Calls a method with an empty message.
async fn call(
    sender: &mut SendRequest<Full<Bytes>>,
    namespace: &str,
    method: &'static str,
) -> Result<Bytes, ContainerdError> {
    let request = Request::post(format!("http://localhost{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("containerd-namespace", namespace)
        .body(Full::new(Bytes::from_static(&[0; 5])))
        .map_err(ContainerdError::Namespace)?;
    let (head, body) = sender.send_request(request).await?.into_parts();
    let body = Limited::new(body, LIMIT).collect().await.map_err(ContainerdError::Body)?;
    let none = HeaderMap::new();
    let trailers = body.trailers().unwrap_or(&none);
    let text = |name: &str| {
        let value = trailers.get(name).or_else(|| head.headers.get(name));
        value.and_then(|value| Some(value.to_str().ok()?.to_owned()))
    };
    match text("grpc-status") {
        Some(status) if status == "0" => message(body.to_bytes()),
        Some(status) => {
            let message = text("grpc-message").unwrap_or_default();
            Err(ContainerdError::Refused { method, status, message })
        }
        None => Err(ContainerdError::Frame),
    }
}

/// The message of an answer that is not compressed.
fn message(mut frame: Bytes) -> Result<Bytes, ContainerdError> {
    let head: [u8; 5] = frame.get(..5).and_then(|head| head.try_into().ok()).ok_or(ContainerdError::Frame)?;
    let message = frame.split_off(5);
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    if head[0] != 0 || u32::try_from(message.len()) != Ok(length) {
        return Err(ContainerdError::Frame);
    }
    Ok(message)
}

/// Puts the three lists together.
fn running(tasks: &[u8], containers: &[u8], images: &[u8]) -> Result<Vec<String>, ContainerdError> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut live = HashSet::new();
    for task in protobuf::repeated(tasks, 1)? {
        if protobuf::number(task, 4)? != STOPPED {
            // A task has the name of its container; `container_id` is set in events only.
            live.insert(text(protobuf::single(task, 2)?));
        }
    }
    let mut digests = HashMap::new();
    for image in protobuf::repeated(images, 1)? {
        let target = protobuf::single(image, 3)?;
        digests.insert(text(protobuf::single(image, 1)?), text(protobuf::single(target, 2)?));
    }
    let mut found = Vec::new();
    for container in protobuf::repeated(containers, 1)? {
        if live.contains(&text(protobuf::single(container, 1)?)) {
            let name = text(protobuf::single(container, 3)?);
            found.push(digests.get(&name).cloned().unwrap_or(name));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A field of bytes.
    fn bytes(number: u8, value: &[u8]) -> Vec<u8> {
        let mut field = vec![number << 3 | 2, u8::try_from(value.len()).unwrap()];
        field.extend(value);
        field
    }

    #[test]
    fn images_of_containers_that_have_not_stopped_are_found() {
        let task =
            |name: &str, status: u8| bytes(1, &[bytes(2, name.as_bytes()), vec![4 << 3, status]].concat());
        let container = |name: &str, image: &str| {
            bytes(1, &[bytes(1, name.as_bytes()), bytes(3, image.as_bytes())].concat())
        };
        let image = |name: &str, digest: &str| {
            bytes(1, &[bytes(1, name.as_bytes()), bytes(3, &bytes(2, digest.as_bytes()))].concat())
        };
        let tasks = [task("runs", 2), task("over", 3), task("paused", 4), task("lost", 2)].concat();
        let containers = [
            container("runs", "r/app:v1"),
            container("over", "r/old:v1"),
            container("paused", "r/paused:v1"),
            container("lost", "r/gone@sha256:5"),
            container("never-started", "r/app:v2"),
        ]
        .concat();
        let images = [
            image("r/app:v1", "sha256:1"),
            image("r/old:v1", "sha256:2"),
            image("r/paused:v1", "sha256:3"),
            image("r/app:v2", "sha256:4"),
        ]
        .concat();
        let found = running(&tasks, &containers, &images).unwrap();
        assert_eq!(found, ["sha256:1", "sha256:3", "r/gone@sha256:5"]);
        assert!(running(&[], &[], &[]).unwrap().is_empty());
        assert!(running(&tasks[..tasks.len() - 1], &containers, &images).is_err());
    }

    #[test]
    fn an_answer_is_one_message_that_is_not_compressed() {
        assert_eq!(message(Bytes::from_static(b"\0\0\0\0\x02ab")).unwrap(), "ab");
        for wrong in [&b""[..], b"\0\0\0\0", b"\x01\0\0\0\x02ab", b"\0\0\0\0\x03ab", b"\0\0\0\0\x01ab"] {
            assert!(matches!(message(Bytes::from_static(wrong)), Err(ContainerdError::Frame)), "{wrong:?}");
        }
    }

    #[tokio::test]
    async fn a_socket_that_is_not_there_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let error = running_images(&directory.path().join("sock"), "k8s.io").await.unwrap_err();
        assert!(matches!(error, ContainerdError::Socket(_)), "{error}");
    }
}
