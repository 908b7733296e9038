//! The AWS CLI's files: sections of `key = value`, where a key may have indented lines of its own. Editing keeps every
//! line that is not meant.

use std::fmt;

/// A file, line by line.
#[derive(Clone, Debug, Default)]
pub struct Ini {
    lines: Vec<String>,
}

impl Ini {
    /// Takes a file's text. Lines that are nothing are kept and mean nothing.
    pub fn parse(text: &str) -> Self {
        Self { lines: text.lines().map(str::to_owned).collect() }
    }

    /// Whether there is a section of this name.
    pub fn has(&self, section: &str) -> bool {
        self.body(section).is_some()
    }

    /// The value of a key, without a comment behind it. Where a section or key comes twice, the last one counts.
    pub fn get(&self, section: &str, key: &str) -> Option<&str> {
        let mut found = None;
        self.each(section, |line| {
            if let Some((name, value)) = pair(line)
                && name == key
            {
                found = Some(value);
            }
        });
        found
    }

    /// The value of a key below another: `parent =` and then `  key = value`, indented.
    pub fn get_nested(&self, section: &str, parent: &str, key: &str) -> Option<&str> {
        let (mut inside, mut found) = (false, None);
        self.each(section, |line| {
            if !is_indented(line) {
                inside = pair(line).is_some_and(|(name, _)| name == parent);
            } else if let Some((name, value)) = nested_pair(line)
                && inside
                && name == key
            {
                found = Some(value);
            }
        });
        found
    }

    /// Sets a key, in its line if it has one. Makes the section if there is none.
    pub fn set(&mut self, section: &str, key: &str, value: &str) {
        self.put(section, key, vec![format!("{key} = {value}")]);
    }

    /// Sets a key with one indented line below it; other lines below it stay.
    pub fn set_nested(&mut self, section: &str, parent: &str, key: &str, value: &str) {
        let line = format!("  {key} = {value}");
        let Some(at) = self.find(section, parent) else {
            self.put(section, parent, vec![format!("{parent} ="), line]);
            return;
        };
        let end = self.end_of(at);
        let own = |i: &usize| nested_pair(&self.lines[*i]).is_some_and(|(name, _)| name == key);
        match (at + 1..end).rev().find(own) {
            Some(i) => self.lines[i] = line,
            None => self.lines.insert(end, line),
        }
    }

    /// Removes a key and what is below it.
    pub fn remove(&mut self, section: &str, key: &str) {
        while let Some(at) = self.find(section, key) {
            self.lines.drain(at..self.end_of(at));
        }
    }

    fn put(&mut self, section: &str, key: &str, lines: Vec<String>) {
        if let Some(at) = self.find(section, key) {
            self.lines.splice(at..self.end_of(at), lines);
            return;
        }
        let at = match self.body(section) {
            // Behind the section's last line that says something.
            Some((from, to)) => {
                (from..to).rev().find(|i| !self.lines[*i].trim().is_empty()).map_or(from, |i| i + 1)
            }
            None => {
                if self.lines.last().is_some_and(|line| !line.trim().is_empty()) {
                    self.lines.push(String::new());
                }
                self.lines.push(format!("[{section}]"));
                self.lines.len()
            }
        };
        self.lines.splice(at..at, lines);
    }

    fn each<'a>(&'a self, section: &str, mut see: impl FnMut(&'a str)) {
        let mut inside = false;
        for line in &self.lines {
            match header(line) {
                Some(name) => inside = name == section,
                None if inside && !is_comment(line) => see(line),
                None => {}
            }
        }
    }

    /// The lines of the last section of this name, from behind its header to before the next.
    fn body(&self, section: &str) -> Option<(usize, usize)> {
        let at = self.lines.iter().rposition(|line| header(line).as_deref() == Some(section))?;
        let next = self.lines[at + 1..].iter().position(|line| header(line).is_some());
        Some((at + 1, next.map_or(self.lines.len(), |next| at + 1 + next)))
    }

    fn find(&self, section: &str, key: &str) -> Option<usize> {
        let (from, to) = self.body(section)?;
        let is_key = |i: &usize| {
            let line = &self.lines[*i];
            !is_comment(line) && pair(line).is_some_and(|(name, _)| name == key)
        };
        (from..to).rev().find(is_key)
    }

    /// Behind a key's line and the indented ones below it.
    fn end_of(&self, at: usize) -> usize {
        let below =
            self.lines[at + 1..].iter().take_while(|line| is_indented(line) && header(line).is_none());
        at + 1 + below.count()
    }
}

impl fmt::Display for Ini {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// The name of the section that a line begins: `[profile "x"]` is `profile x`.
fn header(line: &str) -> Option<String> {
    let inner = line.strip_prefix('[')?.split(']').next()?;
    let words: Vec<&str> = inner.split_whitespace().collect();
    Some(words.join(" ").replace(['"', '\''], ""))
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with(['#', ';'])
}

fn is_indented(line: &str) -> bool {
    line.starts_with([' ', '\t']) && !line.trim().is_empty()
}

fn pair(line: &str) -> Option<(&str, &str)> {
    if is_indented(line) { None } else { nested_pair(line) }
}

fn nested_pair(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once('=')?;
    let comment = [" #", " ;", "\t#", "\t;"].iter().filter_map(|mark| value.find(mark)).min();
    Some((name.trim(), value[..comment.unwrap_or(value.len())].trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
# mine
[default]
region = eu-west-1 # home
s3 =
  max_concurrent_requests = 20

[profile \"team x\"]
; a comment
region=us-east-1

[services local]
s3 =
  endpoint_url = http://127.0.0.1:9000
";

    #[test]
    fn values_are_found_where_the_aws_cli_finds_them() {
        let file = Ini::parse(FILE);
        assert_eq!(file.get("default", "region"), Some("eu-west-1"));
        assert_eq!(file.get("profile team x", "region"), Some("us-east-1"));
        assert_eq!(file.get_nested("services local", "s3", "endpoint_url"), Some("http://127.0.0.1:9000"));
        assert_eq!(file.get("default", "max_concurrent_requests"), None);
        assert_eq!(file.get_nested("default", "ecr", "max_concurrent_requests"), None);
        assert!(file.has("profile team x") && !file.has("team x"));
    }

    #[test]
    fn edits_leave_every_other_line_as_it_was() {
        let mut file = Ini::parse(FILE);
        assert_eq!(file.to_string(), FILE);
        file.set("default", "region", "us-east-1");
        file.set("default", "output", "json");
        file.set_nested("services local", "s3", "endpoint_url", "http://127.0.0.1:1");
        file.set_nested("services local", "ecr", "endpoint_url", "http://127.0.0.1:2");
        file.set("profile new", "region", "us-east-1");
        assert_eq!(
            file.to_string(),
            FILE.replace("region = eu-west-1 # home", "region = us-east-1")
                .replace("requests = 20\n", "requests = 20\noutput = json\n")
                .replace("9000\n", "1\necr =\n  endpoint_url = http://127.0.0.1:2\n")
                + "\n[profile new]\nregion = us-east-1\n"
        );
        file.remove("default", "s3");
        assert_eq!(file.get_nested("default", "s3", "max_concurrent_requests"), None);
        assert!(!file.to_string().contains("max_concurrent_requests"));
    }

    #[test]
    fn the_last_of_two_counts() {
        let mut file = Ini::parse("[a]\nx = 1\n[b]\n[a]\nx = 2\nx = 3");
        assert_eq!(file.get("a", "x"), Some("3"));
        file.set("a", "x", "4");
        assert_eq!(file.get("a", "x"), Some("4"));
        assert_eq!(Ini::parse("").to_string(), "");
    }
}
