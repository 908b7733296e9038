//! ECR's JSON API: the shapes of its operations. One file per family; the rules are in `wharf-registry`, in files of
//! the same names.

mod authorization_token;
mod images;
mod layers;
mod lifecycle;
pub(crate) mod output;
mod policies;
mod pull_time;
mod registry;
mod repositories;
mod settings;
pub(crate) mod shape;
mod storage_class;
mod tags;

use crate::aws::{Operation, Service, Vocabulary};
use crate::metrics::Face;

/// `UploadLayerPart`: the largest part (20,971,520 bytes) in base64, and the other members.
const PART_BODY: usize = 28 << 20;

/// `PutImage`: a manifest of 4 MiB as a JSON string, in the worst case six bytes for each, and the other members.
const MANIFEST_BODY: usize = (6 * 4 + 1) << 20;

/// The service.
pub(crate) static SERVICE: Service = Service {
    name: "ecr",
    event_source: "ecr.amazonaws.com",
    target_prefix: Some("AmazonEC2ContainerRegistry_V20150921."),
    version: None,
    vocabulary: Vocabulary::Ecr,
    face: Face::Ecr,
    operations: OPERATIONS,
    complete: true,
};

/// Every operation of the model `ecr/2015-09-21`.
const OPERATIONS: &[Operation] = &[
    Operation::built::<layers::BatchCheckLayerAvailability>("BatchCheckLayerAvailability"),
    Operation::built::<images::BatchDeleteImage>("BatchDeleteImage"),
    Operation::built::<images::BatchGetImage>("BatchGetImage"),
    Operation::not_built(
        "BatchGetRepositoryScanningConfiguration",
        &["ecr:BatchGetRepositoryScanningConfiguration"],
    ),
    Operation::built::<layers::CompleteLayerUpload>("CompleteLayerUpload"),
    Operation::not_built("CreatePullThroughCacheRule", &["ecr:CreatePullThroughCacheRule"]),
    Operation::built::<repositories::CreateRepository>("CreateRepository"),
    Operation::not_built("CreateRepositoryCreationTemplate", &["ecr:CreateRepositoryCreationTemplate"]),
    Operation::built::<lifecycle::DeleteLifecyclePolicy>("DeleteLifecyclePolicy"),
    Operation::not_built("DeletePullThroughCacheRule", &["ecr:DeletePullThroughCacheRule"]),
    Operation::built::<policies::DeleteRegistryPolicy>("DeleteRegistryPolicy"),
    Operation::built::<repositories::DeleteRepository>("DeleteRepository"),
    Operation::not_built("DeleteRepositoryCreationTemplate", &["ecr:DeleteRepositoryCreationTemplate"]),
    Operation::built::<policies::DeleteRepositoryPolicy>("DeleteRepositoryPolicy"),
    Operation::not_built("DeleteSigningConfiguration", &["ecr:DeleteSigningConfiguration"]),
    Operation::built::<pull_time::DeregisterPullTimeUpdateExclusion>("DeregisterPullTimeUpdateExclusion"),
    Operation::not_built("DescribeImageReplicationStatus", &["ecr:DescribeImageReplicationStatus"]),
    Operation::not_built("DescribeImageScanFindings", &["ecr:DescribeImageScanFindings"]),
    Operation::not_built("DescribeImageSigningStatus", &["ecr:DescribeImageSigningStatus"]),
    Operation::built::<images::DescribeImages>("DescribeImages"),
    Operation::not_built("DescribePullThroughCacheRules", &["ecr:DescribePullThroughCacheRules"]),
    Operation::built::<registry::DescribeRegistry>("DescribeRegistry"),
    Operation::not_built("DescribeReplicationBackfillResults", &["ecr:DescribeReplicationBackfillResults"]),
    Operation::built::<repositories::DescribeRepositories>("DescribeRepositories"),
    Operation::not_built("DescribeRepositoryCreationTemplates", &["ecr:DescribeRepositoryCreationTemplates"]),
    Operation::built::<settings::GetAccountSetting>("GetAccountSetting"),
    Operation::built::<authorization_token::GetAuthorizationToken>("GetAuthorizationToken"),
    Operation::built::<layers::GetDownloadUrlForLayer>("GetDownloadUrlForLayer"),
    Operation::built::<lifecycle::GetLifecyclePolicy>("GetLifecyclePolicy"),
    Operation::built::<lifecycle::GetLifecyclePolicyPreview>("GetLifecyclePolicyPreview"),
    Operation::built::<policies::GetRegistryPolicy>("GetRegistryPolicy"),
    Operation::not_built("GetRegistryScanningConfiguration", &["ecr:GetRegistryScanningConfiguration"]),
    Operation::built::<policies::GetRepositoryPolicy>("GetRepositoryPolicy"),
    Operation::not_built("GetSigningConfiguration", &["ecr:GetSigningConfiguration"]),
    Operation::built::<layers::InitiateLayerUpload>("InitiateLayerUpload"),
    Operation::built::<images::ListImageReferrers>("ListImageReferrers"),
    Operation::built::<images::ListImages>("ListImages"),
    Operation::built::<pull_time::ListPullTimeUpdateExclusions>("ListPullTimeUpdateExclusions"),
    Operation::not_built("ListReplicationBackfills", &["ecr:ListReplicationBackfills"]),
    Operation::built::<tags::ListTagsForResource>("ListTagsForResource"),
    Operation::built::<settings::PutAccountSetting>("PutAccountSetting"),
    Operation::built::<images::PutImage>("PutImage").with_body_limit(MANIFEST_BODY),
    Operation::not_built("PutImageScanningConfiguration", &["ecr:PutImageScanningConfiguration"]),
    Operation::built::<repositories::PutImageTagMutability>("PutImageTagMutability"),
    Operation::built::<lifecycle::PutLifecyclePolicy>("PutLifecyclePolicy"),
    Operation::built::<policies::PutRegistryPolicy>("PutRegistryPolicy"),
    Operation::not_built("PutRegistryScanningConfiguration", &["ecr:PutRegistryScanningConfiguration"]),
    Operation::not_built("PutReplicationConfiguration", &["ecr:PutReplicationConfiguration"]),
    Operation::not_built("PutSigningConfiguration", &["ecr:PutSigningConfiguration"]),
    Operation::built::<pull_time::RegisterPullTimeUpdateExclusion>("RegisterPullTimeUpdateExclusion"),
    Operation::built::<policies::SetRepositoryPolicy>("SetRepositoryPolicy"),
    Operation::not_built("StartImageScan", &["ecr:StartImageScan"]),
    Operation::built::<lifecycle::StartLifecyclePolicyPreview>("StartLifecyclePolicyPreview"),
    Operation::not_built("StartReplicationBackfill", &["ecr:StartReplicationBackfill"]),
    Operation::not_built("StopReplicationBackfill", &["ecr:StopReplicationBackfill"]),
    Operation::built::<tags::TagResource>("TagResource"),
    Operation::built::<tags::UntagResource>("UntagResource"),
    Operation::built::<storage_class::UpdateImageStorageClass>("UpdateImageStorageClass"),
    Operation::not_built("UpdatePullThroughCacheRule", &["ecr:UpdatePullThroughCacheRule"]),
    Operation::not_built("UpdateRepositoryCreationTemplate", &["ecr:UpdateRepositoryCreationTemplate"]),
    Operation::built::<layers::UploadLayerPart>("UploadLayerPart").with_body_limit(PART_BODY),
    Operation::not_built("ValidatePullThroughCacheRule", &["ecr:ValidatePullThroughCacheRule"]),
];
