//! Sessions: temporary credentials of STS.
//!
//! Nothing is kept of a session here. Its token is a sealed [`Session`] together with the access key it belongs to, so
//! every node opens it; who it stands for is looked up at every use, so it ends with its principal.

mod assume;
mod credentials;
mod grant;
mod jwks;
mod limits;
mod web_identity;

pub use assume::{AssumeRole, AssumedRole};
pub use credentials::{SessionCredentials, SessionKey};
pub use grant::{FederatedUser, GetFederationToken};
pub(crate) use jwks::IssuerKeys;
use serde::{Deserialize, Serialize};
pub use web_identity::{WebIdentity, WebIdentityRole};
use wharf_types::{AccountId, Timestamp};

/// What temporary credentials say: who, as what, cut down by what, until when. Rights are looked up at every use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The unique id of the user (`AIDA…`) or role (`AROA…`) it stands for; of a root user the account id.
    pub principal_id: String,
    /// How it came to be.
    pub kind: SessionKind,
    /// The role session's or federated user's name; empty for `GetSessionToken`.
    pub name: String,
    /// The account of the principal.
    pub account: AccountId,
    /// Session policies given inline; at most one through the API.
    pub policies: Vec<String>,
    /// ARNs of managed policies that are session policies, at most ten.
    pub policy_arns: Vec<String>,
    /// Session tags, those passed on by the session before it included.
    pub tags: Vec<(String, String)>,
    /// Keys of `tags` that a session assumed from this one gets too.
    pub transitive_keys: Vec<String>,
    /// `aws:SourceIdentity`; a session assumed from this one keeps it.
    pub source_identity: Option<String>,
    /// `aws:FederatedProvider`: the OIDC provider's ARN.
    pub provider: Option<String>,
    /// Whether the role was assumed by a session of a role.
    pub chained: bool,
    /// `aws:TokenIssueTime`.
    pub issued_at: Timestamp,
    /// From when on it is refused.
    pub expires_at: Timestamp,
}

/// How a session came to be, which is how policies name its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionKind {
    /// `AssumeRole` and its kin: `arn:aws:sts::A:assumed-role/Role/name`.
    #[serde(rename = "r")]
    AssumedRole,
    /// `GetFederationToken`: `arn:aws:sts::A:federated-user/name`.
    #[serde(rename = "f")]
    FederatedUser,
    /// `GetSessionToken`: the user (or the account's root) itself.
    #[serde(rename = "u")]
    User,
}

/// The encoding. Tokens travel with every request, so names are one letter and what is empty is left out; a member that
/// is added later is optional, so that tokens outlive an upgrade.
#[derive(Serialize, Deserialize)]
struct Encoded {
    i: String,
    k: SessionKind,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    n: String,
    a: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    p: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    m: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    t: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    c: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    s: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    f: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    h: bool,
    b: i64,
    e: i64,
}

impl Session {
    /// The session as bytes, for a sealed token.
    pub fn encode(&self) -> Vec<u8> {
        let encoded = Encoded {
            i: self.principal_id.clone(),
            k: self.kind,
            n: self.name.clone(),
            a: self.account.to_string(),
            p: self.policies.clone(),
            m: self.policy_arns.clone(),
            t: self.tags.clone(),
            c: self.transitive_keys.clone(),
            s: self.source_identity.clone(),
            f: self.provider.clone(),
            h: self.chained,
            b: self.issued_at.as_micros(),
            e: self.expires_at.as_micros(),
        };
        serde_json::to_vec(&encoded).expect("texts and numbers always encode")
    }

    /// Reads what [`encode`](Self::encode) wrote; `None` for anything else.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let encoded: Encoded = serde_json::from_slice(bytes).ok()?;
        Some(Self {
            principal_id: encoded.i,
            kind: encoded.k,
            name: encoded.n,
            account: encoded.a.parse().ok()?,
            policies: encoded.p,
            policy_arns: encoded.m,
            tags: encoded.t,
            transitive_keys: encoded.c,
            source_identity: encoded.s,
            provider: encoded.f,
            chained: encoded.h,
            issued_at: Timestamp::from_micros(encoded.b),
            expires_at: Timestamp::from_micros(encoded.e),
        })
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod encoding {
    use proptest::prelude::*;

    use super::*;

    fn session() -> Session {
        Session {
            principal_id: "AROAEXAMPLEEXAMPLE234".into(),
            kind: SessionKind::AssumedRole,
            name: "ci".into(),
            account: "123456789012".parse().unwrap(),
            policies: Vec::new(),
            policy_arns: Vec::new(),
            tags: Vec::new(),
            transitive_keys: Vec::new(),
            source_identity: None,
            provider: None,
            chained: false,
            issued_at: Timestamp::from_micros(1_000_000),
            expires_at: Timestamp::from_micros(2_000_000),
        }
    }

    #[test]
    fn a_plain_session_is_short() {
        let bytes = session().encode();
        assert!(bytes.len() < 120, "{}", String::from_utf8_lossy(&bytes));
        assert_eq!(Session::decode(&bytes), Some(session()));
    }

    #[test]
    fn a_cut_encoding_is_refused() {
        let whole = session().encode();
        for cut in 0..whole.len() {
            assert_eq!(Session::decode(&whole[..cut]), None, "cut at {cut}");
        }
    }

    proptest! {
        #[test]
        fn sessions_go_both_ways(
            name in ".{0,64}",
            kind in prop_oneof![
                Just(SessionKind::AssumedRole), Just(SessionKind::FederatedUser), Just(SessionKind::User)
            ],
            policies in proptest::collection::vec(".{0,100}", 0..3),
            tags in proptest::collection::vec((".{1,20}", ".{0,20}"), 0..5),
            source_identity in proptest::option::of(".{2,64}"),
            chained in any::<bool>(),
            expires in any::<i64>(),
        ) {
            let session = Session {
                name,
                kind,
                policy_arns: policies.clone(),
                policies,
                transitive_keys: tags.iter().map(|(key, _)| key.clone()).collect(),
                tags,
                provider: source_identity.clone(),
                source_identity,
                chained,
                expires_at: Timestamp::from_micros(expires),
                ..session()
            };
            prop_assert_eq!(Session::decode(&session.encode()), Some(session));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = Session::decode(&bytes);
        }
    }
}
