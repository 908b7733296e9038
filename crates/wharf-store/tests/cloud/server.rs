//! An S3 server of this test's own: on loopback, on a free port, gone with the test.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use wharf_store::object::{CloudObjects, CloudUrl};

const BUCKET: &str = "wharf-tests";
const MOTO: &str = "
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address='127.0.0.1', port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
";

/// A running server. Stopped when dropped.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    region: &'static str,
    key: (String, String),
    _directory: tempfile::TempDir,
}

impl Server {
    /// Starts the server that the environment asks for; `None`, in words, where it is not installed.
    pub fn start() -> Option<Self> {
        let server = match std::env::var("WHARF_TEST_S3").as_deref() {
            Ok("garage") => Self::garage(),
            _ => Self::moto(),
        };
        if server.is_none() {
            eprintln!("SKIPPED: no S3 server here; ./test installs moto, ./test s3 builds Garage");
        }
        server
    }

    fn moto() -> Option<Self> {
        let in_cache = root().join(".cache/venv/bin/python");
        let candidates = std::env::var_os("WHARF_PYTHON").map(PathBuf::from).into_iter();
        let python = candidates.chain([in_cache, "python3".into()]).find(|python| {
            let found =
                Command::new(python).args(["-c", "import moto.server, flask"]).stderr(Stdio::null()).status();
            found.is_ok_and(|status| status.success())
        })?;
        let mut child = Command::new(python)
            .args(["-c", MOTO])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], line.trim().parse().unwrap()));
        let server = Self {
            child,
            address,
            region: "us-east-1",
            key: ("key".to_owned(), "secret".to_owned()),
            _directory: tempfile::tempdir().unwrap(),
        };
        assert!(server.ask("PUT", "").starts_with("HTTP/1.1 200"), "moto makes the bucket");
        Some(server)
    }

    fn garage() -> Option<Self> {
        let in_cache = root().join(".cache/garage/bin/garage");
        let program = std::env::var_os("WHARF_GARAGE").map(PathBuf::from).unwrap_or(in_cache);
        if !program.exists() {
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let [api, rpc] = [free_port(), free_port()];
        let secret = "ab".repeat(32);
        let file = directory.path().join("garage.toml");
        let config = format!(
            "metadata_dir = {meta:?}\ndata_dir = {data:?}\ndb_engine = \"sqlite\"\nreplication_factor = 1\n\
             rpc_bind_addr = \"127.0.0.1:{rpc}\"\nrpc_public_addr = \"127.0.0.1:{rpc}\"\nrpc_secret = \"{secret}\"\n\
             [s3_api]\ns3_region = \"garage\"\napi_bind_addr = \"127.0.0.1:{api}\"\n",
            meta = directory.path().join("meta"),
            data = directory.path().join("data"),
        );
        std::fs::write(&file, config).unwrap();
        let key = (format!("GK{}", "c0".repeat(12)), "cd".repeat(32));
        let log = std::fs::File::create(directory.path().join("log")).unwrap();
        let child = Command::new(program)
            .arg("-c")
            .arg(&file)
            .args(["server", "--single-node", "--default-bucket"])
            .env("GARAGE_DEFAULT_ACCESS_KEY", &key.0)
            .env("GARAGE_DEFAULT_SECRET_KEY", &key.1)
            .env("GARAGE_DEFAULT_BUCKET", BUCKET)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], api));
        let server = Self { child, address, region: "garage", key, _directory: directory };
        let started = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(started.elapsed() < Duration::from_secs(60), "Garage starts");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(server)
    }

    /// The bucket, reached at `address`.
    pub fn url_at(&self, address: SocketAddr) -> CloudUrl {
        let url: CloudUrl =
            format!("s3://{BUCKET}/some/prefix?endpoint=http://{address}&region={}", self.region)
                .parse()
                .unwrap();
        url.with_access_key(&self.key.0, &self.key.1)
    }

    /// A store in the bucket, as a node of its own sees it.
    pub async fn node(&self) -> CloudObjects {
        self.patient_node(Duration::from_secs(60)).await
    }

    /// The same, which repeats failing requests for so long. (moto answers 500 to what S3 and Garage answer 404.)
    pub async fn patient_node(&self, patience: Duration) -> CloudObjects {
        let started = Instant::now();
        loop {
            match CloudObjects::open(&self.url_at(self.address).with_patience(patience)).await {
                Ok(objects) => return objects,
                // Garage makes its bucket after it has begun to listen.
                Err(error) if started.elapsed() > Duration::from_secs(60) => panic!("{error:?}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Keys in the bucket that are neither finished objects nor markers, and multipart uploads that are open. Known of
    /// moto only, which answers requests without a signature.
    pub fn leftovers(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (query, tag) in [("?list-type=2", "Key"), ("?uploads", "UploadId")] {
            let answer = self.ask("GET", query);
            let tag = format!("<{tag}>");
            let texts = answer.split(&tag).skip(1);
            found.extend(texts.filter_map(|text| text.split_once('<')).map(|(text, _)| text.to_owned()));
        }
        found.retain(|key| !["/layout", "/deployment"].iter().any(|name| key.ends_with(name)));
        found.retain(|key| !key.contains("/objects/"));
        found
    }

    /// Waits until nothing of unfinished objects is left.
    pub async fn nothing_left(&self) {
        if self.region == "garage" {
            return;
        }
        let started = Instant::now();
        while !self.leftovers().is_empty() {
            assert!(started.elapsed() < Duration::from_secs(30), "left: {:?}", self.leftovers());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn ask(&self, method: &str, query: &str) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        write!(
            stream,
            "{method} /{BUCKET}{query} HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            self.address
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}
