//! `wharf serve`: from settings to a drained server.

use std::io::{self, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustls::ServerConfig;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};
use wharf_http::Faces;
use wharf_http::server::{Drained, Server, ServerLimits};
use wharf_registry::Registry;

use crate::app::{self, App};
use crate::control::{self, DataDir};
use crate::notify::ServiceManager;
use crate::settings::{Settings, TlsMode};
use crate::tls::{self, Authority, CertificateFiles, CurrentCertificate};
use crate::welcome::{self, Address};

/// Descriptors that are not connections: stores, open blobs, the socket of commands.
const OWN_DESCRIPTORS: usize = 1024;
/// How long a drain may still take once a second signal has come: one that is all but done ends well.
const LAST_CHANCE: Duration = Duration::from_secs(1);
/// A collector that is told not to run still wants a pause.
const NEVER: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Serves until SIGTERM or SIGINT, then drains. A second signal ends a drain that is not done within a second;
/// nothing acknowledged is lost by that. After the drain further signals change nothing.
///
/// # Errors
/// If the address is not allowed or taken, the data directory is in use, or a store or certificate cannot be opened.
pub async fn serve(settings: Settings) -> anyhow::Result<ExitCode> {
    let listen = resolve(&settings).await?;
    let data = DataDir::take(&settings.data_dir, true).context(
        "one process owns a data directory: stop the other, or choose another one with --data-dir",
    )?;
    let limits = server_limits(&settings);
    let signals = Signals::install()?;
    let app = App::open(&settings, data).await?;
    let outcome = run(&settings, &app, listen, limits, signals).await;
    app.close().await;
    outcome
}

async fn run(
    settings: &Settings,
    app: &App,
    listen: SocketAddr,
    limits: ServerLimits,
    signals: Signals,
) -> anyhow::Result<ExitCode> {
    let server = Server::bind(listen, limits).await.with_context(|| format!("cannot listen on {listen}"))?;
    let listening = server.local_addr()?;
    let shutdown = CancellationToken::new();
    let background = TaskTracker::new();
    let mut tls = Tls::open(settings, app, listening)?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let address = Address { scheme, listening };
    let faces = Faces::new(app.registry.clone(), app::http_config(settings, listening.ip().is_loopback()))
        .context("cannot start the faces")?;
    let commands = control::serve(app.data.path(), app.ops(), shutdown.clone())
        .context("cannot listen for commands in the data directory")?;
    app.registry.start_background(settings.gc_interval.unwrap_or(NEVER));

    let mut server = server;
    if let Some(tls) = &mut tls {
        server = server.with_tls(tls.config.clone());
        if let Some(files) = tls.files.take() {
            background.spawn(files.watch(shutdown.clone()));
        }
    }
    // Whoever read the first line may have gone, as `head -1` does. That is no reason to stop.
    if let Err(error) = announce(settings, app, &address, tls.as_ref()) {
        warn!(%error, "nobody reads standard output");
    }
    info!(address = %address.listening, scheme = address.scheme, "serving");
    let manager = Arc::new(ServiceManager::of_process());
    manager.ready(&format!("serving on {}", address.url()));
    let alive = tokio::spawn({
        let manager = manager.clone();
        async move { manager.keep_alive().await }
    });
    let signals = tokio::spawn(signals.wait(shutdown.clone()));
    let faces = Arc::new(faces);
    let (copying, over) = (faces.clone(), shutdown.clone());
    background.spawn(async move { copying.copy_service_records(over).await });
    background.spawn(begin_drain(faces.clone(), app.registry.clone(), manager, shutdown.clone()));
    let drained = server.serve(faces.clone(), shutdown.clone()).await;
    // What is left is closing the stores: short, and nothing that a second signal could hasten. It stays caught.
    signals.abort();
    alive.abort();
    shutdown.cancel();
    commands.await.context("the command socket failed")?;
    background.close();
    background.wait().await;
    if let Some(faces) = Arc::into_inner(faces) {
        tokio::task::spawn_blocking(|| faces.close()).await.context("the audit log failed")?;
    }
    match drained {
        Drained::Clean => info!("drained, every request in flight was answered"),
        Drained::Cut(connections) => {
            warn!(connections, "drained, some connections were cut at the drain limit")
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Tells load balancers and the service manager from the first moment of a drain, and leaves the machine to the requests
/// that are in flight.
async fn begin_drain(
    faces: Arc<Faces>,
    registry: Registry,
    manager: Arc<ServiceManager>,
    shutdown: CancellationToken,
) {
    shutdown.cancelled().await;
    manager.stopping();
    faces.begin_shutdown();
    registry.stop_background();
}

/// Says that it serves, alone on its line, and on a first start how to go on.
fn announce(settings: &Settings, app: &App, address: &Address, tls: Option<&Tls>) -> io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "listening on {}", address.url())?;
    if let Some(credentials) = &app.first_key {
        let told = std::io::stdout().is_terminal();
        let text = welcome::first_steps(settings, app.data.path(), address, credentials, told);
        write!(out, "{text}")?;
    }
    if let Some(authority) = tls.and_then(|tls| tls.authority.as_ref()) {
        write!(out, "{}", welcome::trust(authority.certificate_path(), address))?;
    }
    out.flush()
}

/// The address to listen on, if it may be listened on.
async fn resolve(settings: &Settings) -> anyhow::Result<SocketAddr> {
    let listen = &settings.listen;
    let mut found = tokio::net::lookup_host(listen.as_str())
        .await
        .with_context(|| format!("cannot listen on `{listen}`: expected an address and a port"))?;
    let Some(addr) = found.next() else { bail!("`{listen}` has no address") };
    if settings.tls == TlsMode::Off && !addr.ip().is_loopback() && !settings.insecure_plain_http {
        bail!(
            "without TLS only this machine may be served: listen on a loopback address instead of `{listen}`, set \
             --tls, or accept passwords in the clear with --insecure-plain-http"
        );
    }
    Ok(addr)
}

fn server_limits(settings: &Settings) -> ServerLimits {
    let limits = &settings.limits;
    ServerLimits {
        header_bytes: limits.header_bytes,
        header_timeout: limits.header_timeout,
        idle_timeout: limits.idle_timeout,
        write_timeout: limits.body_idle_timeout,
        connections: connections(limits.connections),
        drain: limits.drain,
    }
}

/// Raises this process's limit of open files as far as it may, and fits the connections below it.
fn connections(wanted: usize) -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = if setrlimit(Resource::Nofile, raised).is_ok() { raised.current } else { limit.current };
    let files = current.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX));
    let possible = files.saturating_sub(OWN_DESCRIPTORS).max(files / 2).max(1);
    if possible < wanted {
        warn!(wanted, possible, "fewer connections than set: the limit of open files (ulimit -n) is too low");
    }
    wanted.min(possible)
}

/// How TLS is spoken.
struct Tls {
    config: Arc<ServerConfig>,
    files: Option<CertificateFiles>,
    authority: Option<Authority>,
}

impl Tls {
    fn open(settings: &Settings, app: &App, listening: SocketAddr) -> anyhow::Result<Option<Self>> {
        match (settings.tls, &settings.tls_cert, &settings.tls_key) {
            (TlsMode::SelfSigned, ..) => {
                let authority = Authority::open(app.data.path())?;
                let certificate = authority.issue(tls::names(settings, listening))?;
                let config = tls::server_config(CurrentCertificate::new(certificate))?;
                Ok(Some(Self { config, files: None, authority: Some(authority) }))
            }
            (TlsMode::Files, Some(certificate), Some(key)) => {
                let files = CertificateFiles::open(certificate.clone(), key.clone())?;
                Ok(Some(Self {
                    config: tls::server_config(files.current())?,
                    files: Some(files),
                    authority: None,
                }))
            }
            (TlsMode::Off | TlsMode::Files, ..) => Ok(None),
        }
    }
}

/// The signals that end a server, caught from the first moment.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn install() -> anyhow::Result<Self> {
        let catch = |kind| signal(kind).context("cannot catch signals");
        Ok(Self { terminate: catch(SignalKind::terminate())?, interrupt: catch(SignalKind::interrupt())? })
    }

    async fn wait(mut self, shutdown: CancellationToken) {
        self.next().await;
        info!("told to stop, draining");
        shutdown.cancel();
        self.next().await;
        tokio::time::sleep(LAST_CHANCE).await;
        warn!("told to stop again, ending before the drain is done");
        std::process::exit(1);
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
