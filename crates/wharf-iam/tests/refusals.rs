//! One refusal per row of the error table, with its codes, status and exact text; and the order of checks.

// Helpers of tests are tests too, but clippy exempts only functions marked as such.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use wharf_iam::sigv4::{
    AcceptedRegions, Endpoint, Form, KeyRecord, KeyStatus, Presented, Protocol, Secret, SignatureError,
    SignedRequest, Signer, SigningKeyCache, VerifyOptions, body_sha256,
};
use wharf_types::{Region, Timestamp};

/// 2015-08-30T12:36:00Z.
const NOW: Timestamp = Timestamp::from_micros(1_440_938_160_000_000);
const MISMATCH: &str = "The request signature we calculated does not match the signature you provided. Check your AWS \
                        Secret Access Key and signing method. Consult the service documentation for details.";
const WRONG_TOKEN: &str = "The security token included in the request is invalid.";

/// A request that can be taken apart; the body is `{}`.
#[derive(Clone)]
struct Request {
    target: String,
    headers: Vec<(String, String)>,
}

impl Request {
    fn plain() -> Self {
        let headers =
            [("Host", "127.0.0.1:5050"), ("X-Amz-Target", "AmazonEC2ContainerRegistry_V20150921.X")];
        Self { target: "/".into(), headers: headers.map(|(name, value)| (name.into(), value.into())).into() }
    }

    fn signed() -> Self {
        Self::plain().sign(&signer())
    }

    fn presigned() -> Self {
        let plain = Self::plain();
        let target =
            plain.with_wire(|request| signer().presign(request, b"{}", NOW, Duration::from_secs(60)));
        Self { target, ..plain }
    }

    fn sign(mut self, signer: &Signer) -> Self {
        let added = self.with_wire(|request| signer.sign(request, b"{}", NOW));
        self.headers.extend(added.into_iter().map(|(name, value)| (name.to_owned(), value)));
        self
    }

    fn with_wire<T>(&self, use_it: impl FnOnce(&SignedRequest<'_>) -> T) -> T {
        let headers: Vec<(&str, &[u8])> =
            self.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        use_it(&SignedRequest { method: "POST", target: &self.target, headers: &headers })
    }

    fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(key, _)| !key.eq_ignore_ascii_case(name));
        self
    }

    fn replace(mut self, name: &str, from: &str, to: &str) -> Self {
        let (_, value) = self.headers.iter_mut().find(|(key, _)| key.eq_ignore_ascii_case(name)).unwrap();
        assert!(value.contains(from), "{value:?} has no {from:?}");
        *value = value.replace(from, to);
        self
    }

    fn retarget(mut self, from: &str, to: &str) -> Self {
        assert!(self.target.contains(from), "{:?} has no {from:?}", self.target);
        self.target = self.target.replace(from, to);
        self
    }

    fn authorization(&self) -> &str {
        &self.headers.iter().find(|(name, _)| name == "authorization").unwrap().1
    }

    fn parse(&self, service: &str, now: Timestamp) -> Result<Presented, SignatureError> {
        let endpoint = Endpoint { service, regions: AcceptedRegions::Exactly("us-east-1"), now };
        self.with_wire(|request| Presented::parse(request, &endpoint))
    }

    fn verify_with(&self, key: Option<&KeyRecord>) -> Result<(), SignatureError> {
        self.parse("ecr", NOW)?.verify(key, &body_sha256(b"{}"), &VerifyOptions::default())
    }

    fn verify(&self) -> Result<(), SignatureError> {
        self.verify_with(Some(&KeyRecord::active("secret")))
    }
}

fn signer() -> Signer {
    Signer::new("AKIDEXAMPLE", "secret", "us-east-1", "ecr")
}

fn later(seconds: i64) -> Timestamp {
    Timestamp::from_micros(NOW.as_micros() + seconds * 1_000_000)
}

fn session(token: &str) -> KeyRecord {
    KeyRecord { session_token: Some(Secret::new(token)), ..KeyRecord::active("secret") }
}

const INCOMPLETE: (&str, &str, u16) = ("IncompleteSignatureException", "IncompleteSignature", 400);
const INVALID: (&str, &str, u16) = ("InvalidSignatureException", "SignatureDoesNotMatch", 403);
const UNRECOGNIZED: (&str, &str, u16) = ("UnrecognizedClientException", "InvalidClientTokenId", 403);

#[track_caller]
fn assert_refused(result: Result<(), SignatureError>, codes: (&str, &str, u16), text: &str) {
    let error = result.unwrap_err();
    assert_eq!(error.message(Protocol::Json), text);
    assert_eq!((error.json_code(), error.query_code(), error.query_status()), codes);
    assert_eq!(error.json_status(), 400);
}

#[test]
fn both_forms_of_our_signer_are_accepted() {
    assert_eq!(Request::signed().verify(), Ok(()));
    assert_eq!(Request::presigned().verify(), Ok(()));
    let presented = Request::presigned().parse("ecr", NOW).unwrap();
    assert_eq!(presented.form(), Form::Presigned { expires_seconds: 60 });
    assert_eq!((presented.access_key_id(), presented.scope().region.as_str()), ("AKIDEXAMPLE", "us-east-1"));
}

#[test]
fn no_credentials() {
    for request in [Request::plain(), Request::plain().header("Authorization", "Basic QVdTOng=")] {
        let error = request.verify().unwrap_err();
        assert_eq!(error.query_status(), 403);
        assert_eq!(
            (error.json_code(), error.query_code()),
            ("MissingAuthenticationTokenException", "MissingAuthenticationToken")
        );
        assert_eq!(error.message(Protocol::Json), "Missing Authentication Token");
        assert_eq!(error.message(Protocol::Query), "Request is missing Authentication Token");
    }
}

#[test]
fn missing_parts_are_named_and_the_signature_is_not_repeated() {
    let all = "Authorization header requires 'Credential' parameter. Authorization header requires 'Signature' \
               parameter. Authorization header requires 'SignedHeaders' parameter. Authorization=AWS4-HMAC-SHA256";
    for header in ["AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256 ", "AWS4-HMAC-SHA256 Unknown=x"] {
        let request = Request::signed().without("authorization").header("Authorization", header);
        assert_refused(request.verify(), INCOMPLETE, all);
    }
    let one = Request::signed().replace("authorization", "SignedHeaders=", "SH=");
    let text = "Authorization header requires 'SignedHeaders' parameter. Authorization=AWS4-HMAC-SHA256";
    assert_refused(one.verify(), INCOMPLETE, text);
    let undated = Request::plain().header("Authorization", "AWS4-HMAC-SHA256 Credential=a, Signature=b");
    let text = "Authorization header requires 'SignedHeaders' parameter. Authorization header requires existence of \
                either a 'X-Amz-Date' or a 'Date' header. Authorization=AWS4-HMAC-SHA256";
    assert_refused(undated.verify(), INCOMPLETE, text);
}

#[test]
fn dates() {
    let none = Request::signed().without("x-amz-date");
    let text = "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. \
                Authorization=AWS4-HMAC-SHA256";
    assert_refused(none.verify(), INCOMPLETE, text);

    let bad = "Date must be in ISO-8601 'basic format'. Got '2015-08-30T12:36:00Z'. See http://en.wikipedia.org/wiki/ISO_8601";
    let header = Request::signed().replace("x-amz-date", "20150830T123600Z", "2015-08-30T12:36:00Z");
    assert_refused(header.verify(), INCOMPLETE, bad);
    let presigned = Request::presigned().retarget("20150830T123600Z", "2015-08-30T12%3A36%3A00Z");
    assert_refused(presigned.verify(), INCOMPLETE, bad);
    let twice = Request::signed().header("x-amz-date", "20150830T123600Z");
    let text = "Date must be in ISO-8601 'basic format'. Got '20150830T123600Z,20150830T123600Z'. See \
                http://en.wikipedia.org/wiki/ISO_8601";
    assert_refused(twice.verify(), INCOMPLETE, text);

    // `X-Amz-Date` wins over `Date`, which is read when it is alone.
    let both = Request::signed().header("Date", "Mon, 01 Jan 1990 00:00:00 GMT");
    assert_eq!(both.verify(), Ok(()));
    let alone = Request::signed().without("x-amz-date").header("Date", "Sun, 30 Aug 2015 12:36:00 GMT");
    assert_eq!(alone.parse("ecr", NOW).map(|_| ()), Ok(()));
    let other_day = Request::signed().without("x-amz-date").header("Date", "Sat, 29 Aug 2015 12:36:00 GMT");
    let text = "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: \
                '20150830' != '20150829', from '20150829T123600Z'.";
    assert_refused(other_day.verify(), INVALID, text);
}

#[test]
fn algorithms() {
    let text = "Unsupported AWS 'algorithm': 'AWS4-ECDSA-P256-SHA256'.";
    let header = Request::signed().replace("authorization", "AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256");
    assert_refused(header.verify(), INCOMPLETE, text);
    let presigned = Request::presigned().retarget("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256");
    assert_refused(presigned.verify(), INCOMPLETE, text);
}

#[test]
fn presigned_parameters() {
    let without = |name: &str| Request::presigned().retarget(&format!("&{name}="), "&Other=");
    for name in ["X-Amz-Credential", "X-Amz-Signature", "X-Amz-SignedHeaders", "X-Amz-Date", "X-Amz-Expires"]
    {
        let text = format!(
            "AWS query-string parameters must include '{name}'. Re-examine the query-string parameters."
        );
        assert_refused(without(name).verify(), INCOMPLETE, &text);
    }
    for expires in ["0", "604801", "", "+60", "-1", "1e3", "99999999999999999999999"] {
        let request = Request::presigned()
            .retarget("Expires=60&", &format!("Expires={}&", expires.replace('+', "%2B")));
        let text = format!(
            "'X-Amz-Expires' must be a number of seconds from 1 to 604800, not '{expires}'. Re-examine the \
             query-string parameters."
        );
        assert_refused(request.verify(), INCOMPLETE, &text);
    }
    let twice = Request::presigned().retarget("&X-Amz-Expires=60", "&X-Amz-Expires=60&X%2DAmz-Expires=61");
    let text = "AWS query-string parameters must include 'X-Amz-Expires' only once. Re-examine the query-string \
                parameters.";
    assert_refused(twice.verify(), INCOMPLETE, text);
}

#[test]
fn credential_shapes() {
    let shape = |credential: &str| {
        format!(
            "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '{credential}'"
        )
    };
    let whole = "AKIDEXAMPLE/20150830/us-east-1/ecr/aws4_request";
    for bad in [
        "",
        "AKIDEXAMPLE",
        "AKIDEXAMPLE/20150830/us-east-1/ecr",
        "a/AKIDEXAMPLE/20150830/us-east-1/ecr/aws4_request",
    ] {
        let request = Request::signed().replace("authorization", whole, bad);
        assert_refused(request.verify(), INCOMPLETE, &shape(bad));
    }
    let presigned = Request::presigned().retarget("%2Faws4%5Frequest", "");
    assert_refused(presigned.verify(), INCOMPLETE, &shape("AKIDEXAMPLE/20150830/us-east-1/ecr"));
}

#[test]
fn junk_in_the_header() {
    let header = "AWS4-HMAC-SHA256 Credential=a, junk, Signature=abc";
    let request = Request::signed().without("authorization").header("Authorization", header);
    let text = "'junk' not a valid key=value pair (missing equal-sign) in Authorization header: 'AWS4-HMAC-SHA256 \
                Credential=a, junk, Signature='";
    assert_refused(request.verify(), INCOMPLETE, text);
}

#[test]
fn the_header_may_be_spaced_and_ordered_freely() {
    let signed = Request::signed();
    let (_, parts) = signed.authorization().split_once(' ').unwrap();
    let mut parts: Vec<&str> = parts.split(", ").collect();
    parts.reverse();
    for joint in [",", " ,  ", ", ", ",Unknown=1,"] {
        let header = format!("AWS4-HMAC-SHA256   {}", parts.join(joint));
        if joint == ",Unknown=1," {
            // Twice the same unknown key is a repeated key too.
            assert_refused(
                signed.clone().without("authorization").header("Authorization", &header).verify(),
                INCOMPLETE,
                "Authorization header must have one 'Unknown' parameter, not several.",
            );
        } else {
            let request = signed.clone().without("authorization").header("Authorization", &header);
            assert_eq!(request.verify(), Ok(()), "{header}");
        }
    }
    let unknown = signed.clone().replace("authorization", "Signature=", "Unknown=1,Signature=");
    assert_eq!(unknown.verify(), Ok(()));
}

#[test]
fn ambiguous_requests() {
    let repeated = Request::signed().replace("authorization", "Signature=", "Credential=b, Signature=");
    let text = "Authorization header must have one 'Credential' parameter, not several.";
    assert_refused(repeated.verify(), INCOMPLETE, text);

    let signed = Request::signed();
    let two = signed.clone().header("Authorization", signed.authorization());
    assert_refused(two.verify(), INCOMPLETE, "There must be one Authorization header, not several.");

    let both = Request { target: Request::presigned().target, ..Request::signed() };
    let error = both.verify().unwrap_err();
    assert_eq!(error, SignatureError::BothForms);
    assert_eq!((error.json_code(), error.query_code(), error.query_status()), INCOMPLETE);
}

#[test]
fn scopes() {
    let scope = |from: &str, to: &str| Request::signed().replace("authorization", from, to).verify();
    let text = "Credential should be scoped with a valid terminator: 'aws4_request', not 'aws4'.";
    assert_refused(scope("aws4_request", "aws4"), INVALID, text);
    let text = "Credential should be scoped to correct service: 'ecr'. ";
    assert_refused(scope("/ecr/", "/ec2/"), INVALID, text);
    let text = "Credential should be scoped to a valid region, not 'eu-west-1'. ";
    assert_refused(scope("us-east-1", "eu-west-1"), INVALID, text);
    let text = "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: \
                '20150831' != '20150830', from '20150830T123600Z'.";
    assert_refused(scope("/20150830/", "/20150831/"), INVALID, text);
}

#[test]
fn accepted_regions() {
    let list: Vec<Region> = vec!["eu-west-1".parse().unwrap(), "us-east-1".parse().unwrap()];
    let accepted = |service: &str, region: &str, regions: AcceptedRegions<'_>| {
        let request = Request::plain().sign(&Signer::new("A", "secret", region, service));
        let endpoint = Endpoint { service, regions, now: NOW };
        request.with_wire(|wire| Presented::parse(wire, &endpoint)).is_ok()
    };
    assert!(accepted("ecr", "eu-west-1", AcceptedRegions::OneOf(&list)));
    assert!(!accepted("ecr", "eu-west-2", AcceptedRegions::OneOf(&list)));
    assert!(accepted("ecr", "eu-west-2", AcceptedRegions::Any));
    assert!(!accepted("ecr", "EU west", AcceptedRegions::Any));
    assert!(accepted("iam", "us-east-1", AcceptedRegions::Exactly("eu-west-1")));
    assert!(!accepted("sts", "us-east-1", AcceptedRegions::Exactly("eu-west-1")));
}

#[test]
fn clocks() {
    let at = |request: Request, now| request.parse("ecr", now).map(|_| ());
    assert_eq!(at(Request::signed(), later(900)), Ok(()));
    assert_eq!(at(Request::signed(), later(-900)), Ok(()));
    let text = "Signature expired: 20150830T123600Z is now earlier than 20150830T123601Z (20150830T125101Z - 15 min.)";
    assert_refused(at(Request::signed(), later(901)), INVALID, text);
    let text = "Signature not yet current: 20150830T123600Z is still later than 20150830T123559Z (20150830T122059Z + 15 min.)";
    assert_refused(at(Request::signed(), later(-901)), INVALID, text);
    assert_refused(at(Request::presigned(), later(-901)), INVALID, text);

    assert_eq!(at(Request::presigned(), later(60)), Ok(()));
    let text = "Signature expired: 20150830T123600Z is now earlier than 20150830T123601Z (20150830T123701Z - 1 min.)";
    assert_refused(at(Request::presigned(), later(61)), INVALID, text);
}

#[test]
fn headers_that_must_be_signed() {
    let unsigned = |name: &str| Request::signed().replace("authorization", name, "x-a").verify();
    let text = "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.";
    assert_refused(unsigned("host"), INVALID, text);
    let text = "'X-Amz-Target' must be a 'SignedHeader' in the AWS Authorization.";
    assert_refused(unsigned("x-amz-target"), INVALID, text);
    let text = "'X-Amz-Date' must be a 'SignedHeader' in the AWS Authorization.";
    assert_refused(unsigned("x-amz-date"), INVALID, text);
    // What a proxy adds need not be signed.
    assert_eq!(Request::signed().header("X-Forwarded-For", "::1").verify(), Ok(()));
}

#[test]
fn payload_hashes() {
    let hash = hex::encode(body_sha256(b"{}"));
    let with = |value: &str| Request::plain().header("X-Amz-Content-Sha256", value).sign(&signer()).verify();
    assert_eq!(with(&hash), Ok(()));
    assert_refused(with(&hash.replace('a', "b")), INVALID, MISMATCH);
    assert_refused(Request::signed().header("X-Amz-Content-Sha256", "x").verify(), INVALID, MISMATCH);
    for form in ["UNSIGNED-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"] {
        let text =
            format!("The value of 'x-amz-content-sha256' must be the SHA-256 of the body. Got '{form}'.");
        assert_refused(with(form), INVALID, &text);
    }
    let other_body = Request::signed().parse("ecr", NOW).unwrap().verify(
        Some(&KeyRecord::active("secret")),
        &body_sha256(b"{} "),
        &VerifyOptions::default(),
    );
    assert_refused(other_body, INVALID, MISMATCH);
}

#[test]
fn mismatches() {
    let other = KeyRecord::active("other");
    assert_refused(Request::signed().verify_with(Some(&other)), INVALID, MISMATCH);
    assert_refused(Request::presigned().verify_with(Some(&other)), INVALID, MISMATCH);

    let signed = Request::signed();
    let (_, signature) = signed.authorization().rsplit_once("Signature=").unwrap();
    for bad in [&signature.to_uppercase(), "", &signature[..63], &format!("{signature}0")] {
        assert_ne!(bad, signature);
        assert_refused(signed.clone().replace("authorization", signature, bad).verify(), INVALID, MISMATCH);
    }
    for list in
        ["Host;x-amz-date;x-amz-target", "x-amz-date;host;x-amz-target", "host;host;x-amz-date;x-amz-target"]
    {
        let request = signed.clone().replace("authorization", "host;x-amz-date;x-amz-target", list);
        assert_refused(request.verify(), INVALID, MISMATCH);
    }
}

#[test]
fn a_mismatch_is_explained_on_request_only() {
    let presented = Request::signed().parse("ecr", NOW).unwrap();
    let options = VerifyOptions { explain: true, cache: None };
    let error =
        presented.verify(Some(&KeyRecord::active("other")), &body_sha256(b"{}"), &options).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with(MISMATCH), "{text}");
    let canonical = "The Canonical String for this request should have been\n'POST\n/\n\nhost:127.0.0.1:5050\n\
                     x-amz-date:20150830T123600Z\nx-amz-target:AmazonEC2ContainerRegistry_V20150921.X\n\n\
                     host;x-amz-date;x-amz-target\n44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a'";
    assert!(text.contains(canonical), "{text}");
    let to_sign = "The String-to-Sign should have been\n'AWS4-HMAC-SHA256\n20150830T123600Z\n\
                   20150830/us-east-1/ecr/aws4_request\n";
    assert!(text.contains(to_sign), "{text}");
}

#[test]
fn keys_and_tokens() {
    let with_token = || Request::plain().sign(&signer().with_token("tok+/="));
    assert_refused(Request::signed().verify_with(None), UNRECOGNIZED, WRONG_TOKEN);
    let inactive = KeyRecord { status: KeyStatus::Inactive, ..KeyRecord::active("secret") };
    assert_refused(Request::signed().verify_with(Some(&inactive)), UNRECOGNIZED, WRONG_TOKEN);

    assert_eq!(with_token().verify_with(Some(&session("tok+/="))), Ok(()));
    assert_refused(with_token().verify(), UNRECOGNIZED, WRONG_TOKEN);
    assert_refused(with_token().verify_with(Some(&session("tok"))), UNRECOGNIZED, WRONG_TOKEN);
    assert_refused(Request::signed().verify_with(Some(&session("tok"))), UNRECOGNIZED, WRONG_TOKEN);

    let plain = Request::plain();
    let signer = signer().with_token("tok+/=");
    let target = plain.with_wire(|request| signer.presign(request, b"{}", NOW, Duration::from_secs(60)));
    let presigned = Request { target, ..plain };
    assert_eq!(presigned.verify_with(Some(&session("tok+/="))), Ok(()));
    assert_refused(presigned.verify(), UNRECOGNIZED, WRONG_TOKEN);
}

#[test]
fn a_token_added_after_signing_is_refused() {
    let header = Request::signed().header("X-Amz-Security-Token", "tok");
    assert_refused(header.verify_with(Some(&session("tok"))), UNRECOGNIZED, WRONG_TOKEN);
    assert_refused(header.verify(), UNRECOGNIZED, WRONG_TOKEN);
    let mut presigned = Request::presigned();
    presigned.target.push_str("&X-Amz-Security-Token=tok");
    assert_refused(presigned.verify_with(Some(&session("tok"))), INVALID, MISMATCH);
    let twice = Request::plain().sign(&signer().with_token("tok")).header("X-Amz-Security-Token", "tok");
    assert_refused(twice.verify_with(Some(&session("tok"))), UNRECOGNIZED, WRONG_TOKEN);
}

#[test]
fn an_expired_token() {
    let request = Request::plain().sign(&signer().with_token("tok"));
    let until = |expires| KeyRecord { expires: Some(expires), ..session("tok") };
    assert_eq!(request.verify_with(Some(&until(later(1)))), Ok(()));
    let codes = ("ExpiredTokenException", "ExpiredToken", 403);
    let text = "The security token included in the request is expired";
    assert_refused(request.verify_with(Some(&until(NOW))), codes, text);
}

#[test]
fn checks_keep_their_order() {
    let wrong_everything = |request: Request| request.replace("authorization", "Signature=", "Signature=0");
    // Before the key look-up: terminator, service, region, date, clock.
    let bad_scope = Request::signed().replace(
        "authorization",
        "/20150830/us-east-1/ecr/aws4_request",
        "/20150829/eu-west-1/ec2/aws4",
    );
    let error = |request: &Request| request.parse("ecr", later(10_000)).unwrap_err();
    assert!(matches!(error(&bad_scope), SignatureError::Terminator(_)));
    let bad_scope = bad_scope.replace("authorization", "/aws4,", "/aws4_request,");
    assert!(matches!(error(&bad_scope), SignatureError::Service(_)));
    let bad_scope = bad_scope.replace("authorization", "/ec2/", "/ecr/");
    assert!(matches!(error(&bad_scope), SignatureError::Region(_)));
    let bad_scope = bad_scope.replace("authorization", "/eu-west-1/", "/us-east-1/");
    assert!(matches!(error(&bad_scope), SignatureError::ScopeDate { .. }));
    let bad_scope = bad_scope.replace("authorization", "/20150829/", "/20150830/");
    assert!(matches!(error(&bad_scope), SignatureError::TooOld { .. }));

    // After it: key, token, signature, token expiry, key status.
    let request = wrong_everything(Request::plain().sign(&signer().with_token("tok")));
    let mut record = KeyRecord { status: KeyStatus::Inactive, expires: Some(NOW), ..session("other") };
    assert_eq!(request.verify_with(None), Err(SignatureError::UnknownKey));
    assert_eq!(request.verify_with(Some(&record)), Err(SignatureError::WrongToken));
    record.session_token = Some(Secret::new("tok"));
    assert_eq!(request.verify_with(Some(&record)), Err(SignatureError::Mismatch { explanation: None }));
    let request = request.replace("authorization", "Signature=0", "Signature=");
    assert_eq!(request.verify_with(Some(&record)), Err(SignatureError::TokenExpired));
    record.expires = None;
    assert_eq!(request.verify_with(Some(&record)), Err(SignatureError::InactiveKey));
    record.status = KeyStatus::Active;
    assert_eq!(request.verify_with(Some(&record)), Ok(()));
}

#[test]
fn a_cache_changes_nothing_but_the_time() {
    let cache = SigningKeyCache::new(4);
    let options = VerifyOptions { explain: false, cache: Some(&cache) };
    let presented = Request::signed().parse("ecr", NOW).unwrap();
    let hash = body_sha256(b"{}");
    for _ in 0..2 {
        assert_eq!(presented.verify(Some(&KeyRecord::active("secret")), &hash, &options), Ok(()));
        let wrong = presented.verify(Some(&KeyRecord::active("other")), &hash, &options);
        assert_eq!(wrong, Err(SignatureError::Mismatch { explanation: None }));
        assert_eq!(presented.verify(None, &hash, &options), Err(SignatureError::UnknownKey));
    }
}
