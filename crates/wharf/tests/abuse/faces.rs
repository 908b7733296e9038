//! Both faces at once on one repository: one rule, one winner, the same words for the others.

use std::sync::Barrier;

use serde_json::json;
use wharf_types::Digest;

use crate::target::{IMAGE, Target, manifest};
use crate::wire::Answer;

const FIXED: &str = "team/fixed";
const ROUNDS: usize = 25;

/// Puts a manifest through one of the faces, after all have come together.
fn put(target: &Target, face: usize, tag: &str, manifest: &str, barrier: &Barrier) -> Answer {
    let mut client = target.client();
    barrier.wait();
    if face.is_multiple_of(2) {
        let place = format!("/v2/{FIXED}/manifests/{tag}");
        client.send("PUT", &place, &[("content-type", IMAGE)], manifest.as_bytes()).unwrap()
    } else {
        let body = json!({ "repositoryName": FIXED, "imageManifest": manifest, "imageTag": tag });
        target.caller.key.call(&mut client, "PutImage", &body)
    }
}

/// The text of a refusal, whichever face it is from.
fn message(answer: &Answer) -> String {
    let body = answer.json();
    body["errors"][0]["message"].as_str().or(body["message"].as_str()).unwrap().to_owned()
}

/// Has four clients, two on each face, put these manifests under one tag at the same moment.
fn race(target: &Target, tag: &str, manifests: &[String; 4]) -> Vec<Answer> {
    let barrier = Barrier::new(4);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|face| {
                let barrier = &barrier;
                scope.spawn(move || put(target, face, tag, &manifests[face], barrier))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn an_immutable_tag_has_one_winner_and_its_losers_leave_nothing() {
    let target = Target::start(&[]);
    target.create_repository(&target.caller, FIXED, "IMMUTABLE");
    let config = target.push_blob(&target.caller, FIXED, b"{}");
    let mut winners = [0; 2];
    for round in 0..ROUNDS {
        let tag = format!("r{round}");
        let manifests = [0, 1, 2, 3].map(|client| manifest(&config, &format!("{round}-{client}")));
        let answers = race(&target, &tag, &manifests);
        let won: Vec<usize> = (0..4).filter(|client| matches!(answers[*client].status, 200 | 201)).collect();
        assert_eq!(won.len(), 1, "{answers:?}");
        winners[won[0] % 2] += 1;
        let winner = Digest::sha256(manifests[won[0]].as_bytes()).to_string();
        for (client, answer) in answers.iter().enumerate().filter(|(client, _)| *client != won[0]) {
            let code = if client % 2 == 0 { "TAG_INVALID" } else { "ImageTagAlreadyExistsException" };
            assert_eq!((answer.status, answer.code().as_str()), (400, code), "{}", answer.text());
            let expected = format!(
                "The image tag '{tag}' already exists in the '{FIXED}' repository and cannot be overwritten because \
                 the tag is immutable."
            );
            assert_eq!(message(answer), expected);
            let loser = Digest::sha256(manifests[client].as_bytes());
            let got = target.send("GET", &format!("/v2/{FIXED}/manifests/{loser}"), &[], b"");
            assert_eq!(got.status, 404, "a refused manifest was kept");
        }
        let got = target.send("GET", &format!("/v2/{FIXED}/manifests/{tag}"), &[], b"");
        assert_eq!(got.header("docker-content-digest"), Some(winner.as_str()));
        let body = json!({ "repositoryName": FIXED, "imageIds": [{ "imageTag": tag }] });
        let images = target.call("BatchGetImage", &body).json();
        assert_eq!(images["images"][0]["imageId"]["imageDigest"], json!(winner));
    }
    let body = json!({ "repositoryName": FIXED });
    let images = target.call("ListImages", &body).json();
    assert_eq!(images["imageIds"].as_array().unwrap().len(), ROUNDS);
    println!("winners: {} through OCI, {} through the JSON API", winners[0], winners[1]);
}

#[test]
fn the_same_image_under_the_same_immutable_tag_is_no_conflict() {
    let target = Target::start(&[]);
    target.create_repository(&target.caller, FIXED, "IMMUTABLE");
    let config = target.push_blob(&target.caller, FIXED, b"{}");
    for round in 0..ROUNDS {
        let same = manifest(&config, &round.to_string());
        let answers = race(&target, &format!("r{round}"), &[same.clone(), same.clone(), same.clone(), same]);
        for (client, answer) in answers.iter().enumerate() {
            match (client % 2, answer.status) {
                (0, 201) | (1, 200) => {}
                (1, 400) => assert_eq!(answer.code(), "ImageAlreadyExistsException"),
                _ => panic!("{client}: {}", answer.text()),
            }
        }
    }
}

#[test]
fn a_tag_moved_and_deleted_through_both_faces_is_one_thing() {
    let target = Target::start(&[]);
    target.create_repository(&target.caller, FIXED, "MUTABLE");
    let config = target.push_blob(&target.caller, FIXED, b"{}");
    for round in 0..ROUNDS {
        let manifests = [0, 1, 2, 3].map(|client| manifest(&config, &format!("{round}-{client}")));
        let answers = race(&target, "moving", &manifests);
        assert!(answers.iter().all(|answer| matches!(answer.status, 200 | 201)), "{answers:?}");
        let got = target.send("GET", &format!("/v2/{FIXED}/manifests/moving"), &[], b"");
        let body = json!({ "repositoryName": FIXED, "imageIds": [{ "imageTag": "moving" }] });
        let image = target.call("BatchGetImage", &body).json();
        assert_eq!(
            image["images"][0]["imageId"]["imageDigest"].as_str(),
            got.header("docker-content-digest")
        );
        assert!(manifests.iter().any(|manifest| manifest.as_bytes() == got.body));
        let deleted = target.call("BatchDeleteImage", &body).json();
        assert_eq!(deleted["failures"], json!([]), "{deleted}");
        assert_eq!(target.send("GET", &format!("/v2/{FIXED}/manifests/moving"), &[], b"").status, 404);
    }
}
