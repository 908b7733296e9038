//! `wharf sigv4 verify`: what the server would say of recorded requests.

use std::fs::File;
use std::io::{BufReader, Write as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use wharf_iam::sigv4::cases;

/// Judges every request of a file and prints one line for each. A line that is no request is told on standard error
/// and fails the whole, but does not keep the others from being judged.
///
/// # Errors
/// If a file cannot be read, or the keys have another form.
pub fn verify(keys: &Path, requests: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let keys_json =
        std::fs::read_to_string(keys).with_context(|| format!("cannot read {}", keys.display()))?;
    let file = File::open(requests).with_context(|| format!("cannot read {}", requests.display()))?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut accepted = true;
    for verdict in cases::judged(&keys_json, BufReader::new(file))? {
        let result = match verdict {
            Ok(result) => result,
            Err(error) => {
                accepted = false;
                out.flush()?;
                // Nobody may be reading; the exit status says it too.
                let file = requests.display();
                let _ = writeln!(std::io::stderr(), "wharf: {file}: {:#}", anyhow::Error::from(error));
                continue;
            }
        };
        accepted &= result.ok;
        if json {
            writeln!(out, "{}", serde_json::to_string(&result)?)?;
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
    Ok(if accepted { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
