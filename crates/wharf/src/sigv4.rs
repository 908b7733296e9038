//! `wharf sigv4 verify`: what the server would say of recorded requests.

use std::fs::File;
use std::io::{BufReader, Write as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use wharf_iam::sigv4::cases;

/// Judges every request of a file and prints one line for each.
///
/// # Errors
/// If a file cannot be read or has another form.
pub fn verify(keys: &Path, requests: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let keys_json =
        std::fs::read_to_string(keys).with_context(|| format!("cannot read {}", keys.display()))?;
    let file = File::open(requests).with_context(|| format!("cannot read {}", requests.display()))?;
    let results = cases::run(&keys_json, BufReader::new(file))?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for result in &results {
        if json {
            writeln!(out, "{}", serde_json::to_string(result)?)?;
        } else {
            let verdict = match (&result.access_key_id, result.code, &result.message) {
                (Some(key), ..) if result.ok => format!("signed with {key}"),
                (_, code, message) => {
                    let (code, message) = (code.unwrap_or("refused"), message.as_deref().unwrap_or_default());
                    format!("{code}: {message}")
                }
            };
            writeln!(out, "{}: {verdict}", result.name)?;
        }
    }
    out.flush()?;
    let accepted = results.iter().all(|result| result.ok);
    Ok(if accepted { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
