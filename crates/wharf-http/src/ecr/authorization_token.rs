//! GetAuthorizationToken.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use wharf_registry::Authorized;
use wharf_types::{AccountId, RegistryRef};

use super::output::{self, Members};
use super::shape;
use crate::aws::{Answer, AwsError, AwsRequest, Call, Input};

/// `GetAuthorizationToken`
pub(super) struct GetAuthorizationToken {
    /// Empty: the caller's own.
    registries: Vec<AccountId>,
}

impl Call for GetAuthorizationToken {
    const ACTIONS: &'static [&'static str] = &["ecr:GetAuthorizationToken"];
    type Target = RegistryRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, RegistryRef), AwsError> {
        let ids = input.texts("registryIds", 1..=10, &shape::REGISTRY_ID)?.unwrap_or_default();
        // The pattern has been checked, so that every id parses.
        let registries = ids.iter().filter_map(|id| id.parse().ok()).collect();
        Ok((Self { registries }, request.registry_of(None)))
    }

    /// One entry for each registry, all with the same token: it says who the caller is, not what it may do.
    async fn run(
        self,
        request: &AwsRequest<'_>,
        target: Authorized<RegistryRef>,
    ) -> Result<Answer, AwsError> {
        let (password, expires_at) = request.registry().issue_token(target.caller(), &target.region, None);
        let token = STANDARD.encode(format!("AWS:{password}"));
        let registries = match self.registries.as_slice() {
            [] => vec![target.account],
            named => named.to_vec(),
        };
        let data: Vec<Value> = registries
            .into_iter()
            .map(|account| {
                let host = request.host_of(&request.registry_of(Some(account)));
                Members::default()
                    .with("authorizationToken", token.as_str())
                    .with("expiresAt", output::time(expires_at))
                    .with("proxyEndpoint", format!("{}://{host}", request.scheme()))
                    .into()
            })
            .collect();
        Ok(Members::default().with("authorizationData", data).answer())
    }
}
