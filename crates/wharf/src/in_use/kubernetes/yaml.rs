//! As much of YAML as tools write kubeconfigs in: block mappings and sequences, scalars of one line. JSON is taken too.
//! What else YAML has (anchors, tags, scalars of several lines, several documents) is refused, never guessed at.

use serde_json::{Map, Value};

/// Mappings and sequences within one another.
const DEPTH: usize = 32;

/// Why a text is not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct YamlError {
    line: usize,
    what: &'static str,
}

/// Reads a document. Scalars are text, except `null`, `~`, nothing, `true` and `false`.
///
/// # Errors
/// If it is not well formed, or has what is not supported.
pub fn parse(text: &str) -> Result<Value, YamlError> {
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(text)
            .map_err(|error| YamlError { line: error.line(), what: "it begins as JSON, and is none" });
    }
    let mut reader = Reader { lines: lines(text)?, at: 0, depth: 0 };
    let Some(first) = reader.lines.first() else { return Ok(Value::Null) };
    let value = reader.block(first.indent)?;
    match reader.line() {
        Some(line) => Err(line.error("it is indented in a way that is not supported")),
        None => Ok(value),
    }
}

/// A line that says something.
#[derive(Clone, Copy)]
struct Line<'a> {
    number: usize,
    indent: usize,
    text: &'a str,
}

impl Line<'_> {
    fn error(&self, what: &'static str) -> YamlError {
        YamlError { line: self.number, what }
    }

    fn is_item(&self) -> bool {
        self.text == "-" || self.text.starts_with("- ")
    }
}

fn lines(text: &str) -> Result<Vec<Line<'_>>, YamlError> {
    let mut found = Vec::new();
    for (number, whole) in text.lines().enumerate() {
        let text = whole.trim_start_matches(' ');
        let line = Line { number: number + 1, indent: whole.len() - text.len(), text: text.trim_end() };
        match line.text {
            "---" if found.is_empty() => {}
            "---" | "..." => return Err(line.error("there is more than one document")),
            text if text.is_empty() || text.starts_with('#') => {}
            text if text.starts_with('\t') => return Err(line.error("it is indented with a tab")),
            _ => found.push(line),
        }
    }
    Ok(found)
}

struct Reader<'a> {
    lines: Vec<Line<'a>>,
    at: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn line(&self) -> Option<Line<'a>> {
        self.lines.get(self.at).copied()
    }

    /// The mapping or sequence that begins with this line.
    fn block(&mut self, indent: usize) -> Result<Value, YamlError> {
        let Some(line) = self.line() else { return Ok(Value::Null) };
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(line.error("it is nested too deeply"));
        }
        let value = if line.is_item() { self.sequence(indent)? } else { self.mapping(indent)? };
        self.depth -= 1;
        Ok(value)
    }

    fn mapping(&mut self, indent: usize) -> Result<Value, YamlError> {
        let mut members = Map::new();
        while let Some(line) = self.line().filter(|line| line.indent == indent && !line.is_item()) {
            let (key, rest) = entry(line)?.ok_or_else(|| line.error("expected `key: value`"))?;
            self.at += 1;
            let value = match (rest, self.line()) {
                ("", Some(next)) if next.indent > indent => self.block(next.indent)?,
                // Items may stand as far left as the key they belong to.
                ("", Some(next)) if next.indent == indent && next.is_item() => self.block(indent)?,
                _ => scalar(line, rest)?,
            };
            if members.insert(key, value).is_some() {
                return Err(line.error("this key is there twice"));
            }
        }
        Ok(Value::Object(members))
    }

    fn sequence(&mut self, indent: usize) -> Result<Value, YamlError> {
        let mut items = Vec::new();
        while let Some(line) = self.line().filter(|line| line.indent == indent && line.is_item()) {
            let rest = line.text[1..].trim_start();
            let inner = Line { indent: indent + line.text.len() - rest.len(), text: rest, ..line };
            if rest.is_empty() || rest.starts_with('#') {
                self.at += 1;
                let deeper = self.line().filter(|next| next.indent > indent);
                items.push(deeper.map_or(Ok(Value::Null), |next| self.block(next.indent))?);
            } else if inner.is_item() || entry(inner)?.is_some() {
                self.lines[self.at] = inner;
                items.push(self.block(inner.indent)?);
            } else {
                self.at += 1;
                items.push(scalar(line, rest)?);
            }
        }
        Ok(Value::Array(items))
    }
}

/// `key: rest`, without a comment; `None` if the line is no such.
fn entry(line: Line<'_>) -> Result<Option<(String, &str)>, YamlError> {
    let (key, rest) = match line.text.chars().next() {
        Some('"' | '\'') => quoted(line, line.text)?,
        Some('{' | '[') => return Ok(None),
        _ => match line.text.find(": ").or_else(|| line.text.ends_with(':').then(|| line.text.len() - 1)) {
            Some(end) => (line.text[..end].to_owned(), &line.text[end..]),
            None => return Ok(None),
        },
    };
    let Some(rest) = rest.strip_prefix(':') else { return Ok(None) };
    let rest = rest.trim_start();
    Ok(Some((key, if rest.starts_with('#') { "" } else { rest })))
}

fn scalar(line: Line<'_>, text: &str) -> Result<Value, YamlError> {
    match text.chars().next() {
        Some('"' | '\'') => {
            let (value, rest) = quoted(line, text)?;
            match rest.trim_start() {
                "" => Ok(Value::String(value)),
                comment if comment.starts_with('#') && rest.starts_with(' ') => Ok(Value::String(value)),
                _ => Err(line.error("there is something behind a quoted text")),
            }
        }
        Some('{' | '[') => serde_json::from_str(text)
            .map_err(|_| line.error("collections within a line are taken if they are JSON")),
        Some('|' | '>') => Err(line.error("texts of several lines are not supported")),
        Some('&' | '*' | '!' | '%' | '@' | '`') => {
            Err(line.error("anchors, aliases and tags are not supported"))
        }
        _ => {
            let plain = text.split(" #").next().unwrap_or_default().trim_end();
            match plain {
                "" | "~" | "null" => Ok(Value::Null),
                "true" => Ok(true.into()),
                "false" => Ok(false.into()),
                _ if plain.contains(": ") => Err(line.error("a text with `: ` must be quoted")),
                _ => Ok(plain.into()),
            }
        }
    }
}

/// A quoted text, and what follows it.
fn quoted<'a>(line: Line<'_>, text: &'a str) -> Result<(String, &'a str), YamlError> {
    let open = || line.error("a quoted text does not end in its line");
    if let Some(mut rest) = text.strip_prefix('\'') {
        let mut value = String::new();
        loop {
            let (piece, after) = rest.split_once('\'').ok_or_else(open)?;
            value.push_str(piece);
            match after.strip_prefix('\'') {
                Some(more) => {
                    value.push('\'');
                    rest = more;
                }
                None => return Ok((value, after)),
            }
        }
    }
    let mut escaped = false;
    let end = text.char_indices().skip(1).find(|(_, letter)| {
        let ends = *letter == '"' && !escaped;
        escaped = *letter == '\\' && !escaped;
        ends
    });
    let (end, _) = end.ok_or_else(open)?;
    // What YAML escapes in other ways than JSON is no part of names, paths and base64.
    let value = serde_json::from_str(&text[..=end])
        .map_err(|_| line.error("a quoted text has an escape that is not supported"))?;
    Ok((value, &text[end + 1..]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const CONFIG: &str = r#"---
# made by hand
apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: LS0tLS1CRUdJTg==   # base64
    server: https://10.0.0.1:6443
  name: "one: \"quoted\" # no comment"
-   name: 'it''s two'
    cluster: {"server": "https://[::1]:6443/k8s"}
contexts: []
current-context: ~
"preferences" : {}
users:
  -
    name: deep
    user:
      exec:
        args:
          - - nested
            - https://host:1/x
          - "-"
        env: null
      insecure: true
      flag: false
      number: 12
"#;

    #[test]
    fn what_tools_write_is_read() {
        let config = CONFIG.replace("\"preferences\" :", "\"preferences\":");
        assert_eq!(
            parse(&config).unwrap(),
            json!({
                "apiVersion": "v1",
                "clusters": [
                    {"cluster": {"certificate-authority-data": "LS0tLS1CRUdJTg==", "server": "https://10.0.0.1:6443"},
                     "name": "one: \"quoted\" # no comment"},
                    {"cluster": {"server": "https://[::1]:6443/k8s"}, "name": "it's two"},
                ],
                "contexts": [], "current-context": null, "preferences": {},
                "users": [{"name": "deep", "user": {
                    "exec": {"args": [["nested", "https://host:1/x"], "-"], "env": null},
                    "insecure": true, "flag": false, "number": "12",
                }}],
            })
        );
        assert_eq!(parse("\r\n a: b\r\n c:\r\n").unwrap(), json!({"a": "b", "c": null}));
        assert_eq!(parse("{\"a\":\n 1}").unwrap(), json!({"a": 1}));
        assert_eq!(parse("# nothing\n").unwrap(), Value::Null);
    }

    #[test]
    fn what_is_not_supported_is_refused_with_its_line() {
        for (text, line, what) in [
            ("a: 1\na: 2", 2, "this key is there twice"),
            ("a: |\n  text", 1, "texts of several lines are not supported"),
            ("a: x\n  y", 2, "it is indented in a way that is not supported"),
            ("a:\n    b: 1\n  c: 2", 3, "it is indented in a way that is not supported"),
            ("a: &anchor b", 1, "anchors, aliases and tags are not supported"),
            ("a: 1\n---\nb: 2", 2, "there is more than one document"),
            ("a:\n\tb: 1", 2, "it is indented with a tab"),
            ("just text", 1, "expected `key: value`"),
            ("a: \"open", 1, "a quoted text does not end in its line"),
            ("a: 'b' c", 1, "there is something behind a quoted text"),
            ("a: \"\\x41\"", 1, "a quoted text has an escape that is not supported"),
            ("a: {b: c}", 1, "collections within a line are taken if they are JSON"),
            ("a: b: c", 1, "a text with `: ` must be quoted"),
            ("{\n\"a\"", 2, "it begins as JSON, and is none"),
        ] {
            assert_eq!(parse(text), Err(YamlError { line, what }), "{text}");
        }
        let deep: String = (0..100).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
        assert_eq!(parse(&deep).unwrap_err().what, "it is nested too deeply");
        assert!(parse(&"- ".repeat(10_000)).is_err());
    }

    #[test]
    fn nothing_cut_off_or_damaged_panics() {
        for end in 0..CONFIG.len() {
            let _ = parse(&CONFIG[..end]);
            for letter in ["\"", "'", "\n", " ", ":", "-", "\u{e9}"] {
                let _ = parse(&format!("{}{letter}{}", &CONFIG[..end], &CONFIG[end + 1..]));
            }
        }
    }
}
