//! Whatever a client sends, the verifier answers; and what our signer signs, it accepts.

// Helpers of tests are tests too, but clippy exempts only functions marked as such.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use proptest::prelude::*;
use wharf_iam::sigv4::{
    AcceptedRegions, Endpoint, KeyRecord, Presented, SignatureError, SignedRequest, Signer, VerifyOptions,
    body_sha256,
};
use wharf_types::Timestamp;

const NOW: Timestamp = Timestamp::from_micros(1_440_938_160_000_000);
const ENDPOINT: Endpoint<'static> =
    Endpoint { service: "ecr", regions: AcceptedRegions::Exactly("us-east-1"), now: NOW };

fn verify(request: &SignedRequest<'_>, body: &[u8]) -> Result<(), SignatureError> {
    let options = VerifyOptions { explain: true, cache: None };
    Presented::parse(request, &ENDPOINT)?.verify(
        Some(&KeyRecord::active("secret")),
        &body_sha256(body),
        &options,
    )
}

fn signer() -> Signer {
    Signer::new("AKIDEXAMPLE", "secret", "us-east-1", "ecr")
}

/// Values near enough to real ones to get past the first checks.
fn authorization() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..80),
        "AWS4-HMAC-SHA256 .{0,80}".prop_map(String::into_bytes),
        "AWS4-HMAC-SHA256 Credential=[a-z/0-9]{0,60},SignedHeaders=[a-z;:A-Z]{0,30},? Signature=.{0,10}"
            .prop_map(String::into_bytes),
        "AWS4-HMAC-SHA256 Credential=A/20150830/us-east-1/ecr/aws4_request,SignedHeaders=host[;a-z:-]{0,30}, Signature=[0-9a-f]{64}"
            .prop_map(String::into_bytes),
    ]
}

fn target() -> impl Strategy<Value = String> {
    prop_oneof![
        ".{0,60}",
        "/[a-z./%]{0,20}(\\?[a-zA-Z%&=+2-5]{0,30})?",
        "/?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=A(%2F|/)20150830/us-east-1/ecr/aws4_request\
         &X-Amz-Date=[0-9TZ]{14,17}&X-Amz-Expires=[0-9]{0,7}&X-Amz-SignedHeaders=host[;a-z%]{0,9}&X-Amz-Signature=.{0,9}",
    ]
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(
        method in ".{0,8}",
        target in target(),
        authorization in proptest::option::of(authorization()),
        headers in proptest::collection::vec(("[a-zA-Z-]{0,12}", proptest::collection::vec(any::<u8>(), 0..20)), 0..6),
    ) {
        let mut list: Vec<(&str, &[u8])> = headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        list.push(("x-amz-date", b"20150830T123600Z"));
        if let Some(value) = &authorization {
            list.push(("Authorization", value));
        }
        let error = verify(&SignedRequest { method: &method, target: &target, headers: &list }, b"").unwrap_err();
        prop_assert!(!error.to_string().is_empty());
    }

    #[test]
    fn what_our_signer_signs_is_accepted_and_a_changed_body_is_not(
        path in "(/[a-zA-Z0-9 %./~:@é-]{0,8}){1,4}",
        query in "([a-z%+/ ]{1,4}=[a-z%+/=é]{0,4}&?){0,4}",
        values in proptest::collection::vec("[ -~]{0,12}", 0..4),
        body in proptest::collection::vec(any::<u8>(), 0..50),
    ) {
        let target = format!("{path}?{query}");
        let mut headers: Vec<(&str, &[u8])> = vec![("Host", b"127.0.0.1:5050")];
        headers.extend(values.iter().map(|value| ("X-Note", value.as_bytes())));
        let plain = SignedRequest { method: "POST", target: &target, headers: &headers };

        let added = signer().sign(&plain, &body, NOW);
        let mut signed = headers.clone();
        signed.extend(added.iter().map(|(name, value)| (*name, value.as_bytes())));
        let signed = SignedRequest { headers: &signed, ..plain };
        prop_assert_eq!(verify(&signed, &body), Ok(()));

        let presigned_target = signer().presign(&plain, &body, NOW, Duration::from_secs(60));
        let presigned = SignedRequest { target: &presigned_target, ..plain };
        prop_assert_eq!(verify(&presigned, &body), Ok(()));

        let other = [&body[..], b"."].concat();
        let refused = verify(&signed, &other);
        prop_assert!(matches!(refused, Err(SignatureError::Mismatch { .. })), "{:?}", refused);
        let refused = verify(&presigned, &other);
        prop_assert!(matches!(refused, Err(SignatureError::Mismatch { .. })), "{:?}", refused);
    }
}
