//! STS's query API: who am I, and temporary credentials.

mod assume;
mod caller;
mod parameters;
mod user;
mod web_identity;

use wharf_registry::SessionCredentials;

use crate::aws::{Operation, Service, Vocabulary, Xml};
use crate::metrics::Face;

/// The service.
pub(crate) static SERVICE: Service = Service {
    name: "sts",
    event_source: "sts.amazonaws.com",
    target_prefix: None,
    version: Some("2011-06-15"),
    vocabulary: Vocabulary::Query { namespace: "https://sts.amazonaws.com/doc/2011-06-15/" },
    face: Face::Query,
    operations: OPERATIONS,
    complete: true,
};

const OPERATIONS: &[Operation] = &[
    Operation::built::<assume::Assume>("AssumeRole"),
    Operation::not_built("AssumeRoleWithSAML", &["sts:AssumeRoleWithSAML"]),
    Operation::built::<web_identity::AssumeWithWebIdentity>("AssumeRoleWithWebIdentity").unsigned(),
    Operation::not_built("AssumeRoot", &["sts:AssumeRoot"]),
    Operation::not_built("DecodeAuthorizationMessage", &["sts:DecodeAuthorizationMessage"]),
    Operation::built::<caller::GetAccessKeyInfo>("GetAccessKeyInfo"),
    Operation::built::<caller::GetCallerIdentity>("GetCallerIdentity"),
    Operation::not_built("GetDelegatedAccessToken", &["sts:GetDelegatedAccessToken"]),
    Operation::built::<user::FederationToken>("GetFederationToken"),
    Operation::built::<user::GetSessionToken>("GetSessionToken"),
    Operation::not_built("GetWebIdentityToken", &["sts:GetWebIdentityToken"]),
];

/// Adds `Credentials`.
fn with_credentials(xml: Xml, credentials: &SessionCredentials) -> Xml {
    let inside = Xml::new()
        .text("AccessKeyId", &credentials.access_key_id)
        .text("SecretAccessKey", &credentials.secret_access_key)
        .text("SessionToken", &credentials.session_token)
        .time("Expiration", credentials.expires_at);
    xml.element("Credentials", inside)
}

/// Adds `PackedPolicySize`, if there is anything packed.
fn with_packed_size(xml: Xml, size: Option<u32>) -> Xml {
    match size {
        Some(percent) => xml.number("PackedPolicySize", percent.into()),
        None => xml,
    }
}
