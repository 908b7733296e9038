//! Every IAM action of ECR, ECR Public and wharf itself, with its access level and the kind of resource it is checked on.
//!
//! The faces register their operations against this table; a test there finds an action that is not in it.

use AccessLevel::{List, Permissions, Read, Tagging, Write};
use ActionResource::{PublicRegistry, Registry, Repository};

/// What using an action amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLevel {
    /// Sees contents.
    Read,
    /// Sees that things exist.
    List,
    /// Changes things.
    Write,
    /// Changes tags only.
    Tagging,
    /// Changes who may do what.
    Permissions,
}

/// What an action is checked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActionResource {
    /// The whole registry: the resource is always `*`.
    Registry,
    /// A repository's ARN.
    Repository,
    /// The ARN of a public registry.
    PublicRegistry,
}

/// One action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Action {
    /// With its prefix, e.g. `ecr:PutImage`.
    pub name: &'static str,
    /// What using it amounts to.
    pub level: AccessLevel,
    /// What it is checked on.
    pub resource: ActionResource,
    /// Whether an API operation of this name can be called; some actions are only ever checked along with others.
    pub callable: bool,
}

/// The action of this name, prefix included; case matters.
pub fn find(name: &str) -> Option<&'static Action> {
    let table = match name.split_once(':')?.0 {
        "ecr-public" => ECR_PUBLIC,
        "wharf" => WHARF,
        _ => ECR,
    };
    table.binary_search_by_key(&name, |action| action.name).ok().map(|index| &table[index])
}

const fn action(name: &'static str, level: AccessLevel, resource: ActionResource) -> Action {
    Action { name, level, resource, callable: true }
}

const fn permission_only(name: &'static str, level: AccessLevel, resource: ActionResource) -> Action {
    Action { name, level, resource, callable: false }
}

/// The actions of private registries, sorted by name.
pub const ECR: &[Action] = &[
    action("ecr:BatchCheckLayerAvailability", Read, Repository),
    action("ecr:BatchDeleteImage", Write, Repository),
    action("ecr:BatchGetImage", Read, Repository),
    action("ecr:BatchGetRepositoryScanningConfiguration", Read, Repository),
    permission_only("ecr:BatchImportUpstreamImage", Write, Repository),
    action("ecr:CompleteLayerUpload", Write, Repository),
    action("ecr:CreatePullThroughCacheRule", Write, Registry),
    action("ecr:CreateRepository", Write, Repository),
    action("ecr:CreateRepositoryCreationTemplate", Write, Registry),
    action("ecr:DeleteLifecyclePolicy", Write, Repository),
    action("ecr:DeletePullThroughCacheRule", Write, Registry),
    action("ecr:DeleteRegistryPolicy", Permissions, Registry),
    action("ecr:DeleteRepository", Write, Repository),
    action("ecr:DeleteRepositoryCreationTemplate", Write, Registry),
    action("ecr:DeleteRepositoryPolicy", Permissions, Repository),
    action("ecr:DeleteSigningConfiguration", Write, Registry),
    action("ecr:DeregisterPullTimeUpdateExclusion", Write, Registry),
    action("ecr:DescribeImageReplicationStatus", Read, Repository),
    action("ecr:DescribeImageScanFindings", Read, Repository),
    action("ecr:DescribeImageSigningStatus", Read, Repository),
    action("ecr:DescribeImages", List, Repository),
    action("ecr:DescribePullThroughCacheRules", List, Registry),
    action("ecr:DescribeRegistry", Read, Registry),
    action("ecr:DescribeReplicationBackfillResults", Read, Registry),
    action("ecr:DescribeRepositories", Read, Repository),
    action("ecr:DescribeRepositoryCreationTemplates", Read, Registry),
    action("ecr:GetAccountSetting", Read, Registry),
    action("ecr:GetAuthorizationToken", Read, Registry),
    action("ecr:GetDownloadUrlForLayer", Read, Repository),
    permission_only("ecr:GetImageCopyStatus", Read, Repository),
    action("ecr:GetLifecyclePolicy", Read, Repository),
    action("ecr:GetLifecyclePolicyPreview", Read, Repository),
    action("ecr:GetRegistryPolicy", Read, Registry),
    action("ecr:GetRegistryScanningConfiguration", Read, Registry),
    action("ecr:GetRepositoryPolicy", Read, Repository),
    action("ecr:GetSigningConfiguration", Read, Registry),
    action("ecr:InitiateLayerUpload", Write, Repository),
    action("ecr:ListImages", List, Repository),
    action("ecr:ListPullTimeUpdateExclusions", List, Registry),
    action("ecr:ListReplicationBackfills", List, Registry),
    action("ecr:ListTagsForResource", Read, Repository),
    action("ecr:PutAccountSetting", Write, Registry),
    action("ecr:PutImage", Write, Repository),
    action("ecr:PutImageScanningConfiguration", Write, Repository),
    action("ecr:PutImageTagMutability", Write, Repository),
    action("ecr:PutLifecyclePolicy", Write, Repository),
    action("ecr:PutRegistryPolicy", Permissions, Registry),
    action("ecr:PutRegistryScanningConfiguration", Write, Registry),
    action("ecr:PutReplicationConfiguration", Write, Registry),
    action("ecr:PutSigningConfiguration", Write, Registry),
    action("ecr:RegisterPullTimeUpdateExclusion", Write, Registry),
    permission_only("ecr:ReplicateImage", Write, Repository),
    action("ecr:SetRepositoryPolicy", Permissions, Repository),
    action("ecr:StartImageScan", Write, Repository),
    action("ecr:StartLifecyclePolicyPreview", Write, Repository),
    action("ecr:StartReplicationBackfill", Write, Registry),
    action("ecr:StopReplicationBackfill", Write, Registry),
    action("ecr:TagResource", Tagging, Repository),
    action("ecr:UntagResource", Tagging, Repository),
    action("ecr:UpdateImageStorageClass", Write, Repository),
    action("ecr:UpdatePullThroughCacheRule", Write, Registry),
    action("ecr:UpdateRepositoryCreationTemplate", Write, Registry),
    action("ecr:UploadLayerPart", Write, Repository),
    action("ecr:ValidatePullThroughCacheRule", Read, Registry),
];

/// The actions of public registries, sorted by name.
pub const ECR_PUBLIC: &[Action] = &[
    action("ecr-public:BatchCheckLayerAvailability", Read, Repository),
    action("ecr-public:BatchDeleteImage", Write, Repository),
    action("ecr-public:CompleteLayerUpload", Write, Repository),
    action("ecr-public:CreateRepository", Write, Repository),
    action("ecr-public:DeleteRepository", Write, Repository),
    action("ecr-public:DeleteRepositoryPolicy", Write, Repository),
    action("ecr-public:DescribeImageTags", List, Repository),
    action("ecr-public:DescribeImages", Read, Repository),
    action("ecr-public:DescribeRegistries", List, PublicRegistry),
    action("ecr-public:DescribeRepositories", List, Repository),
    action("ecr-public:GetAuthorizationToken", Read, Registry),
    action("ecr-public:GetRegistryCatalogData", Read, PublicRegistry),
    action("ecr-public:GetRepositoryCatalogData", Read, Repository),
    action("ecr-public:GetRepositoryPolicy", Read, Repository),
    action("ecr-public:InitiateLayerUpload", Write, Repository),
    action("ecr-public:ListTagsForResource", Read, Repository),
    action("ecr-public:PutImage", Write, Repository),
    action("ecr-public:PutRegistryCatalogData", Write, PublicRegistry),
    action("ecr-public:PutRepositoryCatalogData", Write, Repository),
    action("ecr-public:SetRepositoryPolicy", Permissions, Repository),
    action("ecr-public:TagResource", Tagging, Repository),
    action("ecr-public:UntagResource", Tagging, Repository),
    action("ecr-public:UploadLayerPart", Write, Repository),
];

/// The actions of wharf's own API, sorted by name.
pub const WHARF: &[Action] = &[
    action("wharf:ListImagesInUse", List, Registry),
    action("wharf:ReleaseImagesInUse", Write, Registry),
    action("wharf:ReportImagesInUse", Write, Registry),
];

/// The actions of the companion services that are built, sorted by name: what they act on has its own ARN, or is `*`.
/// Those that assume a role are not among them: the role's trust policy decides, too.
pub const COMPANIONS: &[&str] = &[
    "iam:AddClientIDToOpenIDConnectProvider",
    "iam:AddUserToGroup",
    "iam:AttachGroupPolicy",
    "iam:AttachRolePolicy",
    "iam:AttachUserPolicy",
    "iam:CreateAccessKey",
    "iam:CreateAccountAlias",
    "iam:CreateGroup",
    "iam:CreateOpenIDConnectProvider",
    "iam:CreatePolicy",
    "iam:CreatePolicyVersion",
    "iam:CreateRole",
    "iam:CreateUser",
    "iam:DeleteAccessKey",
    "iam:DeleteAccountAlias",
    "iam:DeleteGroup",
    "iam:DeleteGroupPolicy",
    "iam:DeleteOpenIDConnectProvider",
    "iam:DeletePolicy",
    "iam:DeletePolicyVersion",
    "iam:DeleteRole",
    "iam:DeleteRolePermissionsBoundary",
    "iam:DeleteRolePolicy",
    "iam:DeleteUser",
    "iam:DeleteUserPermissionsBoundary",
    "iam:DeleteUserPolicy",
    "iam:DetachGroupPolicy",
    "iam:DetachRolePolicy",
    "iam:DetachUserPolicy",
    "iam:GetAccessKeyLastUsed",
    "iam:GetAccountSummary",
    "iam:GetContextKeysForCustomPolicy",
    "iam:GetContextKeysForPrincipalPolicy",
    "iam:GetGroup",
    "iam:GetGroupPolicy",
    "iam:GetOpenIDConnectProvider",
    "iam:GetPolicy",
    "iam:GetPolicyVersion",
    "iam:GetRole",
    "iam:GetRolePolicy",
    "iam:GetUser",
    "iam:GetUserPolicy",
    "iam:ListAccessKeys",
    "iam:ListAccountAliases",
    "iam:ListAttachedGroupPolicies",
    "iam:ListAttachedRolePolicies",
    "iam:ListAttachedUserPolicies",
    "iam:ListEntitiesForPolicy",
    "iam:ListGroupPolicies",
    "iam:ListGroups",
    "iam:ListGroupsForUser",
    "iam:ListInstanceProfilesForRole",
    "iam:ListOpenIDConnectProviderTags",
    "iam:ListOpenIDConnectProviders",
    "iam:ListPolicies",
    "iam:ListPolicyTags",
    "iam:ListPolicyVersions",
    "iam:ListRolePolicies",
    "iam:ListRoleTags",
    "iam:ListRoles",
    "iam:ListUserPolicies",
    "iam:ListUserTags",
    "iam:ListUsers",
    "iam:PutGroupPolicy",
    "iam:PutRolePermissionsBoundary",
    "iam:PutRolePolicy",
    "iam:PutUserPermissionsBoundary",
    "iam:PutUserPolicy",
    "iam:RemoveClientIDFromOpenIDConnectProvider",
    "iam:RemoveUserFromGroup",
    "iam:SetDefaultPolicyVersion",
    "iam:SimulateCustomPolicy",
    "iam:SimulatePrincipalPolicy",
    "iam:TagOpenIDConnectProvider",
    "iam:TagPolicy",
    "iam:TagRole",
    "iam:TagUser",
    "iam:UntagOpenIDConnectProvider",
    "iam:UntagPolicy",
    "iam:UntagRole",
    "iam:UntagUser",
    "iam:UpdateAccessKey",
    "iam:UpdateAssumeRolePolicy",
    "iam:UpdateGroup",
    "iam:UpdateOpenIDConnectProviderThumbprint",
    "iam:UpdateRole",
    "iam:UpdateUser",
    "kms:CancelKeyDeletion",
    "kms:CreateAlias",
    "kms:CreateKey",
    "kms:DeleteAlias",
    "kms:DescribeKey",
    "kms:DisableKey",
    "kms:EnableKey",
    "kms:GetKeyPolicy",
    "kms:GetKeyRotationStatus",
    "kms:ListAliases",
    "kms:ListKeys",
    "kms:ListResourceTags",
    "kms:ScheduleKeyDeletion",
    "kms:TagResource",
    "sts:GetAccessKeyInfo",
    "sts:GetCallerIdentity",
    "sts:GetFederationToken",
    "sts:GetSessionToken",
    "sts:SetSourceIdentity",
    "sts:TagSession",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted_and_every_action_is_found() {
        for table in [ECR, ECR_PUBLIC, WHARF] {
            assert!(table.is_sorted_by(|one, next| one.name < next.name));
            for action in table {
                assert_eq!(find(action.name), Some(action));
            }
        }
        assert_eq!((ECR.len(), ECR_PUBLIC.len()), (64, 23));
        assert!(COMPANIONS.is_sorted() && COMPANIONS.contains(&"iam:CreateUser"));
    }

    #[test]
    fn what_is_not_an_action_is_not_found() {
        for name in
            ["", "ecr:", "ecr:ListImageReferrers", "ecr:putimage", "PutImage", "ecr-public:ListImages"]
        {
            assert_eq!(find(name), None, "{name:?}");
        }
    }

    #[test]
    fn levels_and_resources_are_those_of_the_reference() {
        let token = find("ecr:GetAuthorizationToken").unwrap();
        assert_eq!((token.level, token.resource, token.callable), (Read, Registry, true));
        let policy = find("ecr:SetRepositoryPolicy").unwrap();
        assert_eq!((policy.level, policy.resource), (Permissions, Repository));
        assert!(!find("ecr:ReplicateImage").unwrap().callable);
        assert_eq!(find("ecr-public:DescribeRegistries").unwrap().resource, PublicRegistry);
    }
}
