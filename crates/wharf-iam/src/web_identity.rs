//! Identity tokens of OpenID Connect: JSON Web Tokens (RFC 7519) signed with RS256 or ES256 by a key of the issuer's
//! set (RFC 7517). Where the keys come from is the caller's business.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use serde::Deserialize;
use serde_json::Value;
use wharf_types::Timestamp;

/// What an issuer's and a server's clock may differ by, in seconds.
const LEEWAY: i64 = 60;

/// Keys of a set that are looked at; no issuer has nearly as many.
const MOST_KEYS: usize = 100;

/// Why an identity token is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityTokenError {
    /// Not three parts of base64url with JSON objects in the first two.
    #[error("The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)")]
    Malformed,
    /// A claim that every identity token has is absent or of the wrong type.
    #[error("Missing a required claim: {0}")]
    Claim(&'static str),
    /// Signed otherwise than with RS256 or ES256, which includes `none`.
    #[error("The signing algorithm of the ID Token is not supported: only RS256 and ES256 are")]
    Algorithm,
    /// No key of the set has the token's key id and can have signed it.
    #[error(
        "Couldn't retrieve verification key from your identity provider, please reference \
         AssumeRoleWithWebIdentity documentation for requirements"
    )]
    UnknownKey,
    /// The signature is not that of the key.
    #[error("The signature of the ID Token is not valid")]
    Signature,
    /// It is over; both times in seconds since 1970.
    #[error("Token expired: current date/time {now} must be before the expiration date/time {end}")]
    Expired {
        /// The server's time.
        now: i64,
        /// `exp`.
        end: i64,
    },
    /// Its time has not come; both times in seconds since 1970.
    #[error("Token is not valid yet: current date/time {now} must not be before the date/time {start}")]
    NotYet {
        /// The server's time.
        now: i64,
        /// `nbf`.
        start: i64,
    },
}

/// The two algorithms. HMAC is not one of them: a public key must never serve as a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Algorithm {
    Rs256,
    Es256,
}

/// An identity token that was read; nothing in it may be believed before [`verify`](Self::verify).
#[derive(Clone, Debug)]
pub struct IdentityToken {
    algorithm: Algorithm,
    key_id: Option<String>,
    signed: Box<[u8]>,
    signature: Box<[u8]>,
    /// `iss`.
    pub issuer: String,
    /// `sub`.
    pub subject: String,
    /// `aud`, one or several.
    pub audiences: Vec<String>,
    /// `amr`: how the user signed in; mostly absent.
    pub methods: Vec<String>,
    /// `exp`, in seconds since 1970.
    pub expires: i64,
    /// `nbf`, in seconds since 1970.
    pub not_before: Option<i64>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Extensions that must be understood; none is.
    crit: Option<Value>,
}

impl IdentityToken {
    /// Reads a token without believing it.
    ///
    /// # Errors
    /// [`IdentityTokenError::Malformed`], `Claim` or `Algorithm`.
    pub fn parse(text: &str) -> Result<Self, IdentityTokenError> {
        let mut parts = text.split('.');
        let (Some(header), Some(claims), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(IdentityTokenError::Malformed);
        };
        let signed = text.as_bytes()[..header.len() + 1 + claims.len()].into();
        let header: Header =
            serde_json::from_slice(&decode(header)?).map_err(|_| IdentityTokenError::Malformed)?;
        let claims: Value =
            serde_json::from_slice(&decode(claims)?).map_err(|_| IdentityTokenError::Malformed)?;
        let algorithm = match header.alg.as_str() {
            "RS256" => Algorithm::Rs256,
            "ES256" => Algorithm::Es256,
            _ => return Err(IdentityTokenError::Algorithm),
        };
        if header.crit.is_some() || !claims.is_object() {
            return Err(IdentityTokenError::Malformed);
        }
        let text_of = |name: &'static str| {
            claims[name].as_str().filter(|text| !text.is_empty()).ok_or(IdentityTokenError::Claim(name))
        };
        let audiences = texts(&claims["aud"]);
        if audiences.is_empty() {
            return Err(IdentityTokenError::Claim("aud"));
        }
        Ok(Self {
            algorithm,
            key_id: header.kid,
            signed,
            signature: decode(signature)?.into(),
            issuer: text_of("iss")?.to_owned(),
            subject: text_of("sub")?.to_owned(),
            audiences,
            methods: texts(&claims["amr"]),
            expires: seconds(&claims["exp"]).ok_or(IdentityTokenError::Claim("exp"))?,
            not_before: seconds(&claims["nbf"]),
        })
    }

    /// Checks `exp` and `nbf`, with a minute of leeway.
    ///
    /// # Errors
    /// [`IdentityTokenError::Expired`] or `NotYet`.
    pub fn check_time(&self, now: Timestamp) -> Result<(), IdentityTokenError> {
        let now = now.as_micros().div_euclid(1_000_000);
        if self.expires.saturating_add(LEEWAY) <= now {
            return Err(IdentityTokenError::Expired { now, end: self.expires });
        }
        match self.not_before {
            Some(start) if start.saturating_sub(LEEWAY) > now => {
                Err(IdentityTokenError::NotYet { now, start })
            }
            _ => Ok(()),
        }
    }

    /// Whether a set has a key that can have signed this; if not, the set may be old.
    pub fn has_key_in(&self, keys: &KeySet) -> bool {
        keys.candidates(self).next().is_some()
    }

    /// Checks the signature.
    ///
    /// # Errors
    /// [`IdentityTokenError::UnknownKey`] or `Signature`.
    pub fn verify(&self, keys: &KeySet) -> Result<(), IdentityTokenError> {
        let mut refused = IdentityTokenError::UnknownKey;
        for key in keys.candidates(self) {
            if key.material.verify(&self.signed, &self.signature) {
                return Ok(());
            }
            refused = IdentityTokenError::Signature;
        }
        Err(refused)
    }
}

/// The public keys of an issuer.
#[derive(Clone, Debug, Default)]
pub struct KeySet(Vec<Key>);

#[derive(Clone, Debug)]
struct Key {
    id: Option<String>,
    material: Material,
}

#[derive(Clone, Debug)]
enum Material {
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
    /// A point of P-256, uncompressed.
    P256(Vec<u8>),
}

#[derive(Deserialize)]
struct RawSet {
    keys: Vec<RawKey>,
}

/// Members of other kinds of keys are left out; a key of another kind is passed over.
#[derive(Deserialize)]
struct RawKey {
    kty: Option<String>,
    kid: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    alg: Option<String>,
    n: Option<String>,
    e: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl KeySet {
    /// Reads a JSON Web Key Set. Keys for other algorithms or for encryption are passed over; `None` if it is no set.
    pub fn parse(json: &[u8]) -> Option<Self> {
        let set: RawSet = serde_json::from_slice(json).ok()?;
        Some(Self(set.keys.into_iter().take(MOST_KEYS).filter_map(Key::from_raw).collect()))
    }

    fn candidates<'a>(&'a self, token: &'a IdentityToken) -> impl Iterator<Item = &'a Key> {
        let named = move |key: &&Key| match (&token.key_id, &key.id) {
            (Some(wanted), Some(id)) => wanted == id,
            // A token that names no key may be any key's, a key without a name may be any token's.
            _ => true,
        };
        self.0.iter().filter(move |key| key.material.algorithm() == token.algorithm).filter(named)
    }
}

impl Key {
    fn from_raw(raw: RawKey) -> Option<Self> {
        if raw.purpose.is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        let bytes = |text: Option<String>| decode(&text?).ok();
        let (material, name) = match raw.kty.as_deref()? {
            "RSA" => (Material::Rsa { modulus: bytes(raw.n)?, exponent: bytes(raw.e)? }, "RS256"),
            "EC" if raw.crv.as_deref() == Some("P-256") => {
                let (x, y) = (bytes(raw.x)?, bytes(raw.y)?);
                (Material::P256([&[4][..], &x, &y].concat()), "ES256")
            }
            _ => return None,
        };
        raw.alg.is_none_or(|alg| alg == name).then_some(Self { id: raw.kid, material })
    }
}

impl Material {
    fn algorithm(&self) -> Algorithm {
        match self {
            Self::Rsa { .. } => Algorithm::Rs256,
            Self::P256(_) => Algorithm::Es256,
        }
    }

    fn verify(&self, signed: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Rsa { modulus, exponent } => {
                let key = RsaPublicKeyComponents { n: modulus, e: exponent };
                key.verify(&RSA_PKCS1_2048_8192_SHA256, signed, signature).is_ok()
            }
            Self::P256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(signed, signature).is_ok()
            }
        }
    }
}

fn decode(part: &str) -> Result<Vec<u8>, IdentityTokenError> {
    BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| IdentityTokenError::Malformed)
}

/// A text, or the texts of a list.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(items) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

/// A NumericDate: seconds, with a fraction at most.
fn seconds(value: &Value) -> Option<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "saturates, which any comparison of times bears")]
    value.as_i64().or_else(|| value.as_f64().map(|seconds| seconds as i64))
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
    };
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

    fn b64(bytes: impl AsRef<[u8]>) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }

    struct Issuer(EcdsaKeyPair);

    impl Issuer {
        fn new() -> Self {
            Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
        }

        fn key(&self, id: &str) -> Value {
            let point = self.0.public_key().as_ref();
            json!({"kty": "EC", "crv": "P-256", "kid": id, "use": "sig", "alg": "ES256",
                   "x": b64(&point[1..33]), "y": b64(&point[33..])})
        }

        fn token(&self, header: &Value, claims: &Value) -> String {
            let signed = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
            let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
            format!("{signed}.{}", b64(signature))
        }
    }

    fn claims() -> Value {
        json!({"iss": "https://idp.example", "sub": "system:serviceaccount:ci:pusher", "aud": "sts.amazonaws.com",
               "exp": 1_700_000_100, "nbf": 1_699_999_990, "amr": ["pwd"]})
    }

    fn set(keys: &[Value]) -> KeySet {
        KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
    }

    #[test]
    fn a_token_of_the_issuer_verifies_and_no_other_does() {
        let (issuer, stranger) = (Issuer::new(), Issuer::new());
        let keys = set(&[issuer.key("one")]);
        let header = json!({"alg": "ES256", "kid": "one", "typ": "JWT"});
        let token = IdentityToken::parse(&issuer.token(&header, &claims())).unwrap();
        assert_eq!(token.verify(&keys), Ok(()));
        assert_eq!((token.issuer.as_str(), token.audiences.len()), ("https://idp.example", 1));
        assert_eq!(token.methods, ["pwd"]);

        let forged = IdentityToken::parse(&stranger.token(&header, &claims())).unwrap();
        assert_eq!(forged.verify(&keys), Err(IdentityTokenError::Signature));
        let renamed = json!({"alg": "ES256", "kid": "two"});
        let other = IdentityToken::parse(&issuer.token(&renamed, &claims())).unwrap();
        assert!(!other.has_key_in(&keys));
        assert_eq!(other.verify(&keys), Err(IdentityTokenError::UnknownKey));
        let nameless = IdentityToken::parse(&issuer.token(&json!({"alg": "ES256"}), &claims())).unwrap();
        assert_eq!(nameless.verify(&set(&[stranger.key("a"), issuer.key("b")])), Ok(()));
    }

    #[test]
    fn rsa_keys_verify_too() {
        let key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        // PKCS #1 in DER: a sequence of the modulus, 257 bytes with its sign, and the exponent.
        let public = key.public_key().as_ref();
        let raw = json!({"kty": "RSA", "kid": "r", "n": b64(&public[9..265]), "e": b64(&public[267..])});
        let signed = format!("{}.{}", b64(r#"{"alg":"RS256","kid":"r"}"#), b64(claims().to_string()));
        let mut signature = vec![0; key.public_modulus_len()];
        key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).unwrap();
        let token = IdentityToken::parse(&format!("{signed}.{}", b64(&signature))).unwrap();
        assert_eq!(token.verify(&set(std::slice::from_ref(&raw))), Ok(()));
        signature[7] ^= 1;
        let changed = IdentityToken::parse(&format!("{signed}.{}", b64(&signature))).unwrap();
        assert_eq!(changed.verify(&set(&[raw])), Err(IdentityTokenError::Signature));
    }

    #[test]
    fn no_public_key_serves_as_a_secret_and_nothing_is_unsigned() {
        let issuer = Issuer::new();
        for alg in ["none", "None", "HS256", "ES384", "RS512", ""] {
            let token = issuer.token(&json!({"alg": alg, "kid": "one"}), &claims());
            assert_eq!(IdentityToken::parse(&token).unwrap_err(), IdentityTokenError::Algorithm, "{alg}");
        }
        let claimed_rsa = issuer.token(&json!({"alg": "RS256", "kid": "one"}), &claims());
        let token = IdentityToken::parse(&claimed_rsa).unwrap();
        assert_eq!(token.verify(&set(&[issuer.key("one")])), Err(IdentityTokenError::UnknownKey));
        let critical = issuer.token(&json!({"alg": "ES256", "crit": ["b64"]}), &claims());
        assert_eq!(IdentityToken::parse(&critical).unwrap_err(), IdentityTokenError::Malformed);
    }

    #[test]
    fn keys_for_something_else_are_passed_over() {
        let issuer = Issuer::new();
        let token = IdentityToken::parse(&issuer.token(&json!({"alg": "ES256"}), &claims())).unwrap();
        for (member, value) in
            [("use", "enc"), ("alg", "ES384"), ("crv", "P-384"), ("kty", "oct"), ("x", "!")]
        {
            let mut key = issuer.key("one");
            key[member] = value.into();
            assert!(!token.has_key_in(&set(&[key])), "{member}={value}");
        }
        assert!(KeySet::parse(b"[]").is_none() && KeySet::parse(b"{}").is_none());
    }

    #[test]
    fn times_have_a_minute_of_leeway() {
        let issuer = Issuer::new();
        let at = |exp: i64, nbf: i64| {
            let mut claims = claims();
            (claims["exp"], claims["nbf"]) = (exp.into(), nbf.into());
            IdentityToken::parse(&issuer.token(&json!({"alg": "ES256"}), &claims)).unwrap().check_time(NOW)
        };
        let now = 1_700_000_000;
        assert_eq!(at(now - 59, now + 60), Ok(()));
        assert_eq!(at(now - 60, now), Err(IdentityTokenError::Expired { now, end: now - 60 }));
        assert_eq!(at(now + 9, now + 61), Err(IdentityTokenError::NotYet { now, start: now + 61 }));
        assert_eq!(
            at(5, 0).unwrap_err().to_string(),
            "Token expired: current date/time 1700000000 must be before the expiration date/time 5"
        );
    }

    #[test]
    fn every_identity_token_says_who_for_whom_and_until_when() {
        let issuer = Issuer::new();
        for claim in ["iss", "sub", "aud", "exp"] {
            let mut claims = claims();
            claims[claim] = Value::Null;
            let refused = IdentityToken::parse(&issuer.token(&json!({"alg": "ES256"}), &claims)).unwrap_err();
            assert_eq!(refused.to_string(), format!("Missing a required claim: {claim}"));
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[a-zA-Z0-9_.{}\" -]{0,200}") {
            let _ = IdentityToken::parse(&text);
            let _ = KeySet::parse(text.as_bytes());
            let _ = IdentityToken::parse(&format!("{}.{}.{}", b64(&text), b64(&text), b64(&text)));
        }
    }
}
