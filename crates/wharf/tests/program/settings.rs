//! What is refused before anything starts, and what is shown.

use crate::server::{outcome, succeeds, wharf};

#[test]
fn unknown_settings_are_refused_with_the_nearest_known_one() {
    let parent = tempfile::tempdir().unwrap();
    let data = parent.path().join("data");
    let (code, _, stderr) = outcome(wharf(&data, &["serve"]).env("WHARF_LISTN", "127.0.0.1:0"));
    assert_eq!(code, 2);
    assert!(stderr.contains("did you mean `WHARF_LISTEN`?"), "{stderr}");

    std::fs::write(parent.path().join("wharf.toml"), "\n[limits]\nmanifest_byte = \"1MiB\"\n").unwrap();
    let (code, _, stderr) = outcome(&mut wharf(&data, &["account", "list"]));
    assert_eq!(code, 2);
    assert!(
        stderr.contains("wharf.toml:3: ") && stderr.contains("did you mean `limits.manifest_bytes`?"),
        "{stderr}"
    );
    std::fs::remove_file(parent.path().join("wharf.toml")).unwrap();

    let (code, _, stderr) = outcome(&mut wharf(&data, &["serve", "--listn", "x"]));
    assert_eq!(code, 2);
    assert!(stderr.contains("--listen"), "{stderr}");
    assert!(!data.exists());
}

#[test]
fn effective_settings_are_shown_with_their_origin() {
    let parent = tempfile::tempdir().unwrap();
    let data = parent.path().join("data");
    std::fs::write(parent.path().join("other.toml"), "domain = \"r.example\"\n").unwrap();
    let mut command = wharf(&data, &["config", "--config", "other.toml", "--oci-dialect", "ecr"]);
    let shown = succeeds(command.env("WHARF_LIMITS_DRAIN", "5s"));
    for line in [
        "domain = \"r.example\"  # other.toml:1",
        "dialect = \"ecr\"  # --oci-dialect",
        "drain = \"5s\"  # WHARF_LIMITS_DRAIN",
        "listen = \"127.0.0.1:5050\"  # default",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line} is not in:\n{shown}");
    }
}

#[test]
fn every_command_explains_itself() {
    let parent = tempfile::tempdir().unwrap();
    let data = parent.path().join("data");
    for command in [
        "serve", "account", "key", "token", "gc", "scrub", "undelete", "key-ring", "config", "sigv4",
        "policy",
    ] {
        let help = succeeds(&mut wharf(&data, &[command, "--help"]));
        assert!(help.contains("Usage: wharf"), "{command}: {help}");
    }
    let help = succeeds(&mut wharf(&data, &["--help"]));
    assert!(help.contains("Examples:") && help.contains("wharf.toml"), "{help}");
    assert!(succeeds(&mut wharf(&data, &["version"])).starts_with("wharf "));
    assert!(succeeds(&mut wharf(&data, &["dialect"])).lines().count() > 3);
    assert!(succeeds(&mut wharf(&data, &["operations"])).contains("CreateRepository"));
}
