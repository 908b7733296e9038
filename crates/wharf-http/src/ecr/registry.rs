//! DescribeRegistry.

use serde_json::json;
use wharf_registry::Authorized;
use wharf_types::RegistryRef;

use super::output::Members;
use crate::aws::{Answer, AwsError, AwsRequest, Call, Input};

/// `DescribeRegistry`
pub(super) struct DescribeRegistry;

impl Call for DescribeRegistry {
    const ACTIONS: &'static [&'static str] = &["ecr:DescribeRegistry"];
    type Target = RegistryRef;

    fn parse(_input: Input, request: &AwsRequest<'_>) -> Result<(Self, RegistryRef), AwsError> {
        Ok((Self, request.registry_of(None)))
    }

    /// Replication is not built yet, so its configuration is the one of a registry that never set any.
    async fn run(
        self,
        _request: &AwsRequest<'_>,
        target: Authorized<RegistryRef>,
    ) -> Result<Answer, AwsError> {
        let replication = json!({"rules": []});
        Ok(Members::default()
            .with("registryId", target.account.as_str())
            .with("replicationConfiguration", replication)
            .answer())
    }
}
