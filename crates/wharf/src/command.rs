//! Runs an administrator's command wherever the data directory's owner is, and prints the result.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::admin::{self, AdminRequest, Progress, Report};
use crate::app::App;
use crate::control::{Connection, DataDir, LockError};
use crate::settings::Settings;

/// How long to wait for an owner that is just starting or stopping.
const OWNER_PATIENCE: Duration = Duration::from_secs(5);
const RETRY_EVERY: Duration = Duration::from_millis(50);

/// Has `request` run by the server that owns the data directory, or here if there is none.
///
/// # Errors
/// If the command fails, or the directory's owner cannot be reached.
pub async fn run(settings: &Settings, request: AdminRequest, bar: Bar) -> anyhow::Result<Value> {
    let create = matches!(
        request,
        AdminRequest::AccountCreate { .. } | AdminRequest::KeyCreate { .. } | AdminRequest::TokenIssue { .. }
    );
    let began = Instant::now();
    loop {
        match DataDir::take(&settings.data_dir, create) {
            Ok(data) => return run_here(settings, data, request, bar).await,
            Err(LockError::Busy(path)) => match Connection::open(&path).await {
                Ok(connection) => {
                    let outcome = connection.run(&request, |report| bar.show(&report)).await;
                    bar.clear();
                    return outcome.context("cannot talk to the running wharf")?.map_err(anyhow::Error::msg);
                }
                Err(error) if began.elapsed() >= OWNER_PATIENCE => {
                    return Err(error).with_context(|| {
                        format!("data directory {} is in use, but its owner does not answer", path.display())
                    });
                }
                Err(_) => tokio::time::sleep(RETRY_EVERY).await,
            },
            Err(error) => return Err(error.into()),
        }
    }
}

async fn run_here(
    settings: &Settings,
    data: DataDir,
    request: AdminRequest,
    bar: Bar,
) -> anyhow::Result<Value> {
    let app = App::open(settings, data).await?;
    let (progress, mut reports) = mpsc::channel(16);
    let drawing = tokio::spawn(async move {
        while let Some(report) = reports.recv().await {
            bar.show(&report);
        }
        bar.clear();
    });
    let outcome = admin::run(&app.ops(), request, Progress::new(progress)).await;
    drawing.await.context("progress display failed")?;
    app.close().await;
    outcome.map_err(anyhow::Error::new)
}

/// A progress bar on standard error, if that is a terminal.
#[derive(Clone, Debug)]
pub struct Bar(Option<ProgressBar>);

impl Bar {
    /// A bar, unless nobody looks or the output is for machines.
    pub fn new(wanted: bool) -> Self {
        if !wanted || !std::io::stderr().is_terminal() {
            return Self(None);
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
        if let Ok(style) = ProgressStyle::with_template("{msg}: {human_pos} {wide_bar} {elapsed}") {
            bar.set_style(style);
        }
        Self(Some(bar))
    }

    fn show(&self, report: &Report) {
        if let Some(bar) = &self.0 {
            if report.total > 0 {
                bar.set_length(report.total);
            }
            bar.set_message(report.what.clone());
            bar.set_position(report.done);
        }
    }

    fn clear(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

/// Prints a result: one line of JSON for machines, or lines of names and values for people.
///
/// # Errors
/// If standard output is closed.
pub fn print(result: &Value, json: bool) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{result}")?;
        return Ok(());
    }
    match result {
        Value::Array(rows) => {
            for row in rows {
                writeln!(out, "{}", line(row))?;
            }
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                writeln!(out, "{}: {}", name.replace('_', " "), line(value))?;
            }
        }
        other => writeln!(out, "{}", line(other))?,
    }
    Ok(())
}

/// Prints one member of a result by itself.
///
/// # Errors
/// If it is not there, or standard output is closed.
pub fn print_member(result: &Value, member: &str) -> anyhow::Result<()> {
    let Some(text) = result[member].as_str() else { bail!("the answer has no `{member}`") };
    writeln!(std::io::stdout().lock(), "{text}")?;
    Ok(())
}

fn line(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) if values.is_empty() => "none".to_owned(),
        Value::Array(values) => values.iter().map(line).collect::<Vec<_>>().join("\n  "),
        Value::Object(fields) => fields.values().map(line).collect::<Vec<_>>().join("  "),
        other => other.to_string(),
    }
}
