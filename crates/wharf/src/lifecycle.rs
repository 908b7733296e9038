//! `wharf lifecycle …`: the commands, and an explanation as a table.

use std::fmt::Write as _;

use anyhow::Context as _;
use serde_json::Value;

use crate::admin::{AdminRequest, Text};
use crate::cli::LifecycleAction;

/// Characters of a digest that are shown.
const DIGEST: usize = 19;

/// The command behind an action, and whether its result is printed as JSON.
///
/// # Errors
/// If the file of a policy cannot be read.
pub fn request(action: LifecycleAction) -> anyhow::Result<(AdminRequest, bool)> {
    Ok(match action {
        LifecycleAction::Run { repository, registry, output } => {
            let request = AdminRequest::LifecycleRun {
                account: registry.account.map(Text),
                region: registry.region.map(Text),
                repository: repository.map(Text),
            };
            (request, output.json)
        }
        LifecycleAction::Explain { repository, policy, registry, output } => {
            let read = |path: std::path::PathBuf| {
                std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
            };
            let request = AdminRequest::LifecycleExplain {
                account: registry.account.map(Text),
                region: registry.region.map(Text),
                repository: Text(repository),
                policy: policy.map(read).transpose()?,
            };
            (request, output.json)
        }
    })
}

/// An explanation as people read it; `None` for any other result.
pub fn table(result: &Value) -> Option<String> {
    let images = result.get("images")?.as_array()?;
    let rows: Vec<[String; 6]> = images.iter().map(row).collect();
    const HEAD: [&str; 6] = ["image", "tags", "action", "rule", "shielded from", "frees"];
    let mut widths = HEAD.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let mut line = |cells: [&str; 6]| {
        for (cell, width) in cells.iter().zip(widths) {
            let _ = write!(text, "{cell:<width$}  ");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    };
    line(HEAD);
    rows.iter().for_each(|row| line(std::array::from_fn(|place| row[place].as_str())));
    let count = |name: &str| result.get(name).and_then(Value::as_u64).unwrap_or_default();
    let _ = write!(
        text,
        "{} images: {} expire, {} go to the archive; {} freed when the trash is emptied",
        images.len(),
        count("expiring"),
        count("archiving"),
        bytes(count("bytes_freed")),
    );
    Some(text)
}

fn row(image: &Value) -> [String; 6] {
    let text = |name: &str| image.get(name).and_then(Value::as_str).unwrap_or_default();
    let number = |name: &str| image.get(name).and_then(Value::as_u64);
    let names = |value: &Value| {
        let list = value.as_array().into_iter().flatten().filter_map(Value::as_str);
        list.collect::<Vec<_>>().join(",")
    };
    let action = match image.get("action") {
        Some(Value::String(action)) => action.replace('-', " "),
        Some(Value::Object(action)) => {
            format!("untag {}", action.get("untag").map(names).unwrap_or_default())
        }
        _ => String::new(),
    };
    let rule = |name: &str| number(name).map_or_else(String::new, |priority| priority.to_string());
    [
        text("digest").chars().take(DIGEST).collect(),
        image.get("tags").map(names).unwrap_or_default(),
        action,
        rule("rule"),
        rule("shielded_from"),
        number("bytes_freed").filter(|freed| *freed > 0).map_or_else(String::new, bytes),
    ]
}

/// A number of bytes with one digit behind the point.
fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut value = count as f64;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_explanation_is_a_table_with_a_sum() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        let result = json!({
            "images": [
                {"digest": digest, "tags": ["v1", "v2"], "pushed_at": 1, "action": "expire", "rule": 1,
                 "shielded_from": null, "bytes_freed": 2_621_440},
                {"digest": digest, "tags": [], "pushed_at": 1, "action": "keep-in-use", "rule": 10,
                 "shielded_from": 20, "bytes_freed": 0},
                {"digest": digest, "tags": ["a"], "pushed_at": 1, "action": {"untag": ["a"]}, "rule": 1,
                 "shielded_from": null, "bytes_freed": 0},
            ],
            "expiring": 1, "archiving": 0, "bytes_freed": 2_621_440
        });
        assert_eq!(
            table(&result).unwrap(),
            "image                tags   action       rule  shielded from  frees\n\
             sha256:0a0a0a0a0a0a  v1,v2  expire       1                    2.5 MiB\n\
             sha256:0a0a0a0a0a0a         keep in use  10    20\n\
             sha256:0a0a0a0a0a0a  a      untag a      1\n\
             3 images: 1 expire, 0 go to the archive; 2.5 MiB freed when the trash is emptied"
        );
        assert_eq!(table(&json!({"clean": true})), None);
    }
}
