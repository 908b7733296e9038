//! The tables of the README say what the program says. Run with `WHARF_UPDATE_README=1` to write them anew.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

/// What the program prints for a command.
fn printed(command: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_wharf")).arg(command).output().unwrap();
    assert!(output.status.success(), "wharf {command}");
    String::from_utf8(output.stdout).unwrap()
}

/// Replaces what stands between `<!-- NAME: … -->` and `<!-- end NAME -->`.
fn with_section(readme: &str, name: &str, table: &str) -> String {
    let start = readme.find(&format!("<!-- {name}:")).unwrap();
    let start = start + readme[start..].find("-->\n").unwrap() + "-->\n".len();
    let end = start + readme[start..].find(&format!("<!-- end {name} -->")).unwrap();
    format!("{}\n{}\n{}", &readme[..start], table.trim(), &format!("\n{}", &readme[end..])[..])
}

#[test]
fn the_readme_lists_what_the_program_does() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let readme = std::fs::read_to_string(&path).unwrap();
    let mut wanted = readme.clone();
    for name in ["dialect", "operations"] {
        wanted = with_section(&wanted, name, &printed(name));
    }
    if std::env::var_os("WHARF_UPDATE_README").is_some() {
        std::fs::write(&path, &wanted).unwrap();
        return;
    }
    assert!(readme == wanted, "README.md is out of date: run the test `readme` with WHARF_UPDATE_README=1");
}
