//! JSON that is deep, wide, or none: manifests and API calls.

use crate::target::{REPOSITORY, Target, assert_refused, manifest};

fn hostile_documents() -> Vec<(&'static str, Vec<u8>)> {
    let deep = 200_000;
    let text = |text: &str| text.as_bytes().to_vec();
    vec![
        ("deep arrays", "[".repeat(deep).into_bytes()),
        ("deep closed arrays", ("[".repeat(deep) + &"]".repeat(deep)).into_bytes()),
        ("deep objects", "{\"a\":".repeat(deep).into_bytes()),
        ("a deep member", format!("{{\"layers\":{}{}}}", "[".repeat(deep), "]".repeat(deep)).into_bytes()),
        ("a deep unknown member", format!("{{\"x\":{}{}}}", "[".repeat(deep), "]".repeat(deep)).into_bytes()),
        ("nothing", Vec::new()),
        ("no JSON", text("<html>")),
        ("a string", text("\"x\"")),
        ("null", text("null")),
        ("an array", text("[]")),
        ("rubbish behind", text("{} {}")),
        ("a byte order mark", text("\u{feff}{}")),
        ("not UTF-8", b"{\"schemaVersion\":2,\"x\":\"\xff\xfe\"}".to_vec()),
        ("half a surrogate", text("{\"repositoryName\":\"\\ud800\",\"mediaType\":\"\\ud800\"}")),
        ("a huge number", text("{\"schemaVersion\":1e999999,\"maxResults\":1e999999}")),
        (
            "a long number",
            format!("{{\"schemaVersion\":{},\"maxResults\":1}}", "9".repeat(100_000)).into_bytes(),
        ),
        ("a null byte", text("{\"repositoryName\":\"aa\\u0000bb\",\"mediaType\":\"a\\u0000\"}")),
        ("cut off", text("{\"schemaVersion\":2,\"layers\":[{\"digest\":\"sha256:")),
        (
            "a member twice",
            text(
                "{\"repositoryName\":\"aa\",\"repositoryName\":\"../x\",\"schemaVersion\":2,\"schemaVersion\":1}",
            ),
        ),
    ]
}

#[test]
fn hostile_documents_are_no_manifests() {
    let target = Target::start(&[]);
    for (what, document) in hostile_documents() {
        for media_type in [
            crate::target::IMAGE,
            "application/vnd.oci.image.index.v1+json",
            "application/vnd.docker.distribution.manifest.v2+json",
            "application/json",
        ] {
            let place = format!("/v2/{REPOSITORY}/manifests/hostile");
            let answer = target.send("PUT", &place, &[("content-type", media_type)], &document);
            assert_refused(what, &answer);
        }
    }
    target.assert_unharmed();
}

#[test]
fn hostile_documents_are_no_calls() {
    let target = Target::start(&[]);
    for (what, document) in hostile_documents() {
        for operation in
            ["CreateRepository", "PutImage", "BatchDeleteImage", "TagResource", "PutAccountSetting"]
        {
            let mut stranger = target.stranger();
            let answer = target.caller.key.call_raw(&mut stranger, operation, &document);
            assert_refused(&format!("{operation}: {what}"), &answer.unwrap());
        }
    }
    target.assert_unharmed();
}

#[test]
fn manifests_that_lie_about_what_they_name_are_refused() {
    let target = Target::start(&[]);
    let good = target.image("lie");
    let config = wharf_types::Digest::sha256(b"{}").to_string();
    let place = format!("/v2/{REPOSITORY}/manifests/lie");
    for (what, from, to) in [
        ("a negative size", "\"size\":2", "\"size\":-1"),
        ("a size that is none", "\"size\":2", "\"size\":2.5"),
        ("a size beyond all", "\"size\":2", "\"size\":18446744073709551616"),
        ("no size", "\"size\":2", "\"x\":2"),
        ("a digest in capitals", config.as_str(), &config.to_uppercase()),
        ("a path as digest", config.as_str(), "sha256:../../../../etc/passwd"),
        ("what was never pushed", config.as_str(), &format!("sha256:{}", "0".repeat(64))),
        (
            "another media type",
            "\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\"",
            "\"mediaType\":\"application/vnd.oci.image.index.v1+json\"",
        ),
        ("another version", "\"schemaVersion\":2", "\"schemaVersion\":1"),
        ("layers that are none", "\"layers\":[]", "\"layers\":{}"),
        ("layers of nothing", "\"layers\":[]", "\"layers\":[null]"),
    ] {
        assert!(good.contains(from), "{from} is not in {good}");
        let answer = target.send(
            "PUT",
            &place,
            &[("content-type", crate::target::IMAGE)],
            good.replacen(from, to, 1).as_bytes(),
        );
        assert_refused(what, &answer);
    }
    // A hundred thousand layers, all there: the same one.
    let layer = format!("{{\"mediaType\":\"application/x\",\"digest\":\"{config}\",\"size\":2}},");
    let layers = layer.repeat(35_000);
    let many = manifest(&config, "many")
        .replace("\"layers\":[]", &format!("\"layers\":[{}]", layers.trim_end_matches(',')));
    let answer = target.send("PUT", &place, &[("content-type", crate::target::IMAGE)], many.as_bytes());
    assert_refused("a manifest over the limit", &answer);
    target.assert_unharmed();
}
