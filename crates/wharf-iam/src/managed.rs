//! AWS's managed policies as far as registries need them, by their ARNs.

use std::sync::{Arc, LazyLock};

use crate::evaluate::NamedPolicy;
use crate::policy::{Policy, PolicyKind};

/// A policy that every account has and nobody can change.
#[derive(Clone, Debug)]
pub struct ManagedPolicy {
    /// Its name, e.g. `AmazonEC2ContainerRegistryReadOnly`.
    pub name: &'static str,
    /// Its path: `/`, or `/aws-service-role/` of those that only AWS's own roles have.
    pub path: &'static str,
    /// The version in force, e.g. `v3`.
    pub version: &'static str,
    /// Its ARN (as name) and document.
    pub policy: NamedPolicy,
}

/// All of them.
pub fn all() -> &'static [ManagedPolicy] {
    &POLICIES
}

/// The managed policy with this ARN.
pub fn find(arn: &str) -> Option<&'static ManagedPolicy> {
    POLICIES.iter().find(|managed| *managed.policy.name == *arn)
}

/// `AdministratorAccess`: everything on everything. What a root user brings along when it acts in another account.
pub fn administrator_access() -> &'static NamedPolicy {
    &POLICIES[0].policy
}

static POLICIES: LazyLock<Vec<ManagedPolicy>> = LazyLock::new(|| {
    TABLE
        .iter()
        .map(|&(name, path, version, statements)| {
            let text = format!(
                "{{\n  \"Version\": \"2012-10-17\",\n  \"Statement\": [\n    {}\n  ]\n}}",
                statements.join(",\n    ")
            );
            let policy = Policy::parse(PolicyKind::Identity, &text).expect("our own documents are sound");
            let policy = NamedPolicy {
                name: format!("arn:aws:iam::aws:policy{path}{name}").into(),
                policy: Arc::new(policy),
            };
            ManagedPolicy { name, path, version, policy }
        })
        .collect()
});

const SERVICE_ROLE: &str = "/aws-service-role/";

/// Name, path, version, statements; the first is `AdministratorAccess`.
const TABLE: &[(&str, &str, &str, &[&str])] = &[
    ("AdministratorAccess", "/", "v1", &[r#"{ "Effect": "Allow", "Action": "*", "Resource": "*" }"#]),
    (
        "AmazonEC2ContainerRegistryPullOnly",
        "/",
        "v1",
        &[
            r#"{ "Effect": "Allow", "Action": ["ecr:GetAuthorizationToken", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", "ecr:BatchImportUpstreamImage"], "Resource": "*" }"#,
        ],
    ),
    (
        "AmazonEC2ContainerRegistryReadOnly",
        "/",
        "v3",
        &[
            r#"{ "Effect": "Allow", "Action": ["ecr:GetAuthorizationToken", "ecr:BatchCheckLayerAvailability", "ecr:GetDownloadUrlForLayer", "ecr:GetRepositoryPolicy", "ecr:DescribeRepositories", "ecr:ListImages", "ecr:DescribeImages", "ecr:BatchGetImage", "ecr:GetLifecyclePolicy", "ecr:GetLifecyclePolicyPreview", "ecr:ListTagsForResource", "ecr:DescribeImageScanFindings"], "Resource": "*" }"#,
        ],
    ),
    (
        "AmazonEC2ContainerRegistryPowerUser",
        "/",
        "v3",
        &[
            r#"{ "Effect": "Allow", "Action": ["ecr:GetAuthorizationToken", "ecr:BatchCheckLayerAvailability", "ecr:GetDownloadUrlForLayer", "ecr:GetRepositoryPolicy", "ecr:DescribeRepositories", "ecr:ListImages", "ecr:DescribeImages", "ecr:BatchGetImage", "ecr:GetLifecyclePolicy", "ecr:GetLifecyclePolicyPreview", "ecr:ListTagsForResource", "ecr:DescribeImageScanFindings", "ecr:InitiateLayerUpload", "ecr:UploadLayerPart", "ecr:CompleteLayerUpload", "ecr:PutImage"], "Resource": "*" }"#,
        ],
    ),
    (
        "AmazonEC2ContainerRegistryFullAccess",
        "/",
        "v3",
        &[
            r#"{ "Effect": "Allow", "Action": ["ecr:*", "cloudtrail:LookupEvents"], "Resource": "*" }"#,
            r#"{ "Effect": "Allow", "Action": ["iam:CreateServiceLinkedRole"], "Resource": "*", "Condition": { "StringEquals": { "iam:AWSServiceName": ["replication.ecr.amazonaws.com"] } } }"#,
        ],
    ),
    (
        "AWSECRPullThroughCache_ServiceRolePolicy",
        SERVICE_ROLE,
        "v1",
        &[
            r#"{ "Sid": "ECR", "Effect": "Allow", "Action": ["ecr:GetAuthorizationToken", "ecr:BatchCheckLayerAvailability", "ecr:InitiateLayerUpload", "ecr:UploadLayerPart", "ecr:CompleteLayerUpload", "ecr:PutImage", "ecr:BatchGetImage", "ecr:BatchImportUpstreamImage", "ecr:GetDownloadUrlForLayer", "ecr:GetImageCopyStatus"], "Resource": "*", "Condition": { "StringEquals": { "aws:ResourceAccount": "${aws:PrincipalAccount}" } } }"#,
            r#"{ "Sid": "SecretsManager", "Effect": "Allow", "Action": ["secretsmanager:GetSecretValue"], "Resource": "arn:aws:secretsmanager:*:*:secret:ecr-pullthroughcache/*", "Condition": { "StringEquals": { "aws:ResourceAccount": "${aws:PrincipalAccount}" } } }"#,
        ],
    ),
    (
        "ECRReplicationServiceRolePolicy",
        SERVICE_ROLE,
        "v1",
        &[
            r#"{ "Effect": "Allow", "Action": ["ecr:CreateRepository", "ecr:ReplicateImage"], "Resource": "*" }"#,
        ],
    ),
    (
        "ECRTemplateServiceRolePolicy",
        SERVICE_ROLE,
        "v1",
        &[r#"{ "Effect": "Allow", "Action": ["ecr:CreateRepository"], "Resource": "*" }"#],
    ),
    (
        "AmazonElasticContainerRegistryPublicReadOnly",
        "/",
        "v1",
        &[
            r#"{ "Effect": "Allow", "Action": ["ecr-public:GetAuthorizationToken", "sts:GetServiceBearerToken", "ecr-public:BatchCheckLayerAvailability", "ecr-public:GetRepositoryPolicy", "ecr-public:DescribeRepositories", "ecr-public:DescribeRegistries", "ecr-public:DescribeImages", "ecr-public:DescribeImageTags", "ecr-public:GetRepositoryCatalogData", "ecr-public:GetRegistryCatalogData"], "Resource": "*" }"#,
        ],
    ),
    (
        "AmazonElasticContainerRegistryPublicPowerUser",
        "/",
        "v1",
        &[
            r#"{ "Effect": "Allow", "Action": ["ecr-public:GetAuthorizationToken", "sts:GetServiceBearerToken", "ecr-public:BatchCheckLayerAvailability", "ecr-public:GetRepositoryPolicy", "ecr-public:DescribeRepositories", "ecr-public:DescribeRegistries", "ecr-public:DescribeImages", "ecr-public:DescribeImageTags", "ecr-public:GetRepositoryCatalogData", "ecr-public:GetRegistryCatalogData", "ecr-public:InitiateLayerUpload", "ecr-public:UploadLayerPart", "ecr-public:CompleteLayerUpload", "ecr-public:PutImage"], "Resource": "*" }"#,
        ],
    ),
    (
        "AmazonElasticContainerRegistryPublicFullAccess",
        "/",
        "v1",
        &[
            r#"{ "Effect": "Allow", "Action": ["ecr-public:*", "sts:GetServiceBearerToken"], "Resource": "*" }"#,
        ],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions;
    use crate::policy::validate_for_write;

    #[test]
    fn every_document_is_one_that_could_be_written() {
        for managed in all() {
            validate_for_write(PolicyKind::Identity, managed.policy.policy.text()).unwrap();
            assert_eq!(find(&managed.policy.name).map(|found| found.name), Some(managed.name));
        }
        assert_eq!(&*administrator_access().name, "arn:aws:iam::aws:policy/AdministratorAccess");
        assert!(find("arn:aws:iam::aws:policy/ReadOnlyAccess").is_none());
    }

    #[test]
    fn every_registry_action_exists() {
        let mut checked = 0;
        for (_, _, _, statements) in TABLE {
            for word in statements.iter().flat_map(|text| text.split('"')) {
                if (word.starts_with("ecr:") || word.starts_with("ecr-public:")) && !word.ends_with('*') {
                    assert!(actions::find(word).is_some(), "{word}");
                    checked += 1;
                }
            }
        }
        assert!(checked > 60, "{checked}");
    }
}
