//! `wharf in-use …`: finds out what runs, and tells a registry.

mod arguments;
mod containerd;
mod kubernetes;
mod protobuf;
mod references;
mod target;

use std::io::{BufRead as _, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep_until};
use wharf_types::Digest;

pub use self::arguments::InUseAction;
use self::arguments::{List, Release, Report};
use self::references::Found;
use self::target::Target;
use crate::command;
use crate::settings::Settings;

/// Digests of one call: the API takes a thousand, the socket lines of 64 KiB.
const BATCH: usize = 500;
/// Bytes of a line of standard input that are looked at.
const LINE: usize = 4096;

/// Runs a command.
///
/// # Errors
/// If what runs cannot be found out, or the registry does not take it. An agent tries again instead.
pub async fn run(action: InUseAction, settings: &Settings) -> anyhow::Result<ExitCode> {
    match action {
        InUseAction::Report(report) => self::report(&report, settings).await,
        InUseAction::Release(Release { holder, digests, registry, output }) => {
            let target = Target::of(settings, &registry)?;
            let mut released = 0;
            if digests.is_empty() {
                released = target.release(&holder, None).await?;
            }
            for batch in digests.chunks(BATCH) {
                released += target.release(&holder, Some(batch)).await?;
            }
            command::print(&json!({ "holder": holder, "released": released }), output.json)?;
            Ok(ExitCode::SUCCESS)
        }
        InUseAction::List(List { registry, output }) => {
            let images = Target::of(settings, &registry)?.list().await?;
            command::print(&images, output.json)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn report(report: &Report, settings: &Settings) -> anyhow::Result<ExitCode> {
    let target = Target::of(settings, &report.registry)?;
    let Some(every) = report.every else {
        let done = round(report, &target).await?;
        command::print(&done, report.output.json)?;
        return Ok(ExitCode::SUCCESS);
    };
    ensure!(
        every < report.lifetime,
        "--every must be shorter than --lifetime, or reports run out in between"
    );
    ensure!(!every.is_zero(), "--every must be more than nothing");
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    loop {
        let next = Instant::now() + every;
        let stopped = tokio::select! {
            done = round(report, &target) => {
                tell(report, done)?;
                false
            }
            _ = terminate.recv() => true,
            _ = interrupt.recv() => true,
        };
        if stopped {
            return Ok(ExitCode::SUCCESS);
        }
        tokio::select! {
            () = sleep_until(next) => {}
            _ = terminate.recv() => return Ok(ExitCode::SUCCESS),
            _ = interrupt.recv() => return Ok(ExitCode::SUCCESS),
        }
    }
}

/// What an agent says of a round; a failure is for the next round to make good.
fn tell(report: &Report, done: anyhow::Result<Value>) -> anyhow::Result<()> {
    match done {
        Ok(done) => command::print(&done, report.output.json),
        Err(error) => Ok(writeln!(std::io::stderr(), "wharf: {error:#}")?),
    }
}

/// Finds out what runs, and reports it.
async fn round(report: &Report, target: &Target<'_>) -> anyhow::Result<Value> {
    let mut found = Found::default();
    if report.stdin {
        found = tokio::task::spawn_blocking(read_stdin).await.context("standard input")??;
    }
    if let Some(socket) = &report.containerd {
        let running = containerd::running_images(socket, &report.namespace)
            .await
            .with_context(|| format!("cannot ask containerd on {}", socket.display()))?;
        running.iter().for_each(|reference| found.add(reference));
    }
    if report.kubernetes {
        kubernetes::running_images(&report.cluster, &mut found).await.context("cannot ask Kubernetes")?;
    }
    let digests: Vec<Digest> = found.digests.into_iter().collect();
    let mut expires_at = Value::Null;
    for batch in digests.chunks(BATCH) {
        expires_at = target.report(&report.holder, batch, report.lifetime).await?;
    }
    Ok(json!({
        "holder": report.holder, "images": digests.len(), "ignored": found.ignored, "expires_at": expires_at,
    }))
}

fn read_stdin() -> std::io::Result<Found> {
    let mut found = Found::default();
    let mut input = std::io::stdin().lock();
    let mut line = Vec::new();
    while input.read_until(b'\n', &mut line)? > 0 {
        line.truncate(LINE);
        found.add(&String::from_utf8_lossy(&line));
        line.clear();
    }
    Ok(found)
}
