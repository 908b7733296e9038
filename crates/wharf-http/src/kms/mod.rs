//! KMS's JSON API, as far as encrypted repositories (and those who manage their keys) need it.

mod aliases;
mod keys;

use wharf_iam::decision::Need;
use wharf_registry::PageRequest;
use wharf_types::{Arn, RegistryRef};

use crate::aws::{AwsError, Input, Operation, Pattern, Service, Style, Text, Vocabulary};
use crate::metrics::Face;

/// The service.
pub(crate) static SERVICE: Service = Service {
    name: "kms",
    event_source: "kms.amazonaws.com",
    target_prefix: Some("TrentService."),
    version: None,
    vocabulary: Vocabulary::Kms,
    face: Face::Kms,
    operations: OPERATIONS,
    complete: true,
};

/// Every operation of the model `kms/2014-11-01`.
const OPERATIONS: &[Operation] = &[
    Operation::built::<keys::CancelKeyDeletion>("CancelKeyDeletion"),
    Operation::not_built("ConnectCustomKeyStore", &["kms:ConnectCustomKeyStore"]),
    Operation::built::<aliases::CreateAlias>("CreateAlias"),
    Operation::not_built("CreateCustomKeyStore", &["kms:CreateCustomKeyStore"]),
    Operation::not_built("CreateGrant", &["kms:CreateGrant"]),
    Operation::built::<keys::CreateKey>("CreateKey"),
    Operation::not_built("Decrypt", &["kms:Decrypt"]),
    Operation::built::<aliases::DeleteAlias>("DeleteAlias"),
    Operation::not_built("DeleteCustomKeyStore", &["kms:DeleteCustomKeyStore"]),
    Operation::not_built("DeleteImportedKeyMaterial", &["kms:DeleteImportedKeyMaterial"]),
    Operation::not_built("DeriveSharedSecret", &["kms:DeriveSharedSecret"]),
    Operation::not_built("DescribeCustomKeyStores", &["kms:DescribeCustomKeyStores"]),
    Operation::built::<keys::DescribeKey>("DescribeKey"),
    Operation::built::<keys::DisableKey>("DisableKey"),
    Operation::not_built("DisableKeyRotation", &["kms:DisableKeyRotation"]),
    Operation::not_built("DisconnectCustomKeyStore", &["kms:DisconnectCustomKeyStore"]),
    Operation::built::<keys::EnableKey>("EnableKey"),
    Operation::not_built("EnableKeyRotation", &["kms:EnableKeyRotation"]),
    Operation::not_built("Encrypt", &["kms:Encrypt"]),
    Operation::not_built("GenerateDataKey", &["kms:GenerateDataKey"]),
    Operation::not_built("GenerateDataKeyPair", &["kms:GenerateDataKeyPair"]),
    Operation::not_built("GenerateDataKeyPairWithoutPlaintext", &["kms:GenerateDataKeyPairWithoutPlaintext"]),
    Operation::not_built("GenerateDataKeyWithoutPlaintext", &["kms:GenerateDataKeyWithoutPlaintext"]),
    Operation::not_built("GenerateMac", &["kms:GenerateMac"]),
    Operation::not_built("GenerateRandom", &["kms:GenerateRandom"]),
    Operation::not_built("GetKeyLastUsage", &["kms:GetKeyLastUsage"]),
    Operation::built::<keys::GetKeyPolicy>("GetKeyPolicy"),
    Operation::built::<keys::GetKeyRotationStatus>("GetKeyRotationStatus"),
    Operation::not_built("GetParametersForImport", &["kms:GetParametersForImport"]),
    Operation::not_built("GetPublicKey", &["kms:GetPublicKey"]),
    Operation::not_built("ImportKeyMaterial", &["kms:ImportKeyMaterial"]),
    Operation::built::<aliases::ListAliases>("ListAliases"),
    Operation::not_built("ListGrants", &["kms:ListGrants"]),
    Operation::not_built("ListKeyPolicies", &["kms:ListKeyPolicies"]),
    Operation::not_built("ListKeyRotations", &["kms:ListKeyRotations"]),
    Operation::built::<keys::ListKeys>("ListKeys"),
    Operation::built::<keys::ListResourceTags>("ListResourceTags"),
    Operation::not_built("ListRetirableGrants", &["kms:ListRetirableGrants"]),
    Operation::not_built("PutKeyPolicy", &["kms:PutKeyPolicy"]),
    Operation::not_built("ReEncrypt", &["kms:ReEncryptFrom", "kms:ReEncryptTo"]),
    Operation::not_built("ReplicateKey", &["kms:ReplicateKey"]),
    Operation::not_built("RetireGrant", &["kms:RetireGrant"]),
    Operation::not_built("RevokeGrant", &["kms:RevokeGrant"]),
    Operation::not_built("RotateKeyOnDemand", &["kms:RotateKeyOnDemand"]),
    Operation::built::<keys::ScheduleKeyDeletion>("ScheduleKeyDeletion"),
    Operation::not_built("Sign", &["kms:Sign"]),
    Operation::not_built("TagResource", &["kms:TagResource"]),
    Operation::not_built("UntagResource", &["kms:UntagResource"]),
    Operation::not_built("UpdateAlias", &["kms:UpdateAlias"]),
    Operation::not_built("UpdateCustomKeyStore", &["kms:UpdateCustomKeyStore"]),
    Operation::not_built("UpdateKeyDescription", &["kms:UpdateKeyDescription"]),
    Operation::not_built("UpdatePrimaryRegion", &["kms:UpdatePrimaryRegion"]),
    Operation::not_built("Verify", &["kms:Verify"]),
    Operation::not_built("VerifyMac", &["kms:VerifyMac"]),
];

/// `KeyIdType`: a key's id or ARN, an alias's name or ARN.
const KEY_ID: Text = Text::length(1, 2048);

/// `AliasNameType`.
const ALIAS_NAME: Text = Text::length(1, 256).matching(Pattern {
    text: "^[a-zA-Z0-9:/_-]+$",
    matches: |text| text.bytes().all(|b| b.is_ascii_alphanumeric() || b":/_-".contains(&b)),
});

/// Takes `KeyId`.
fn key_id(input: Input) -> Result<String, AwsError> {
    input.style(Style::Validation).required_text("KeyId", &KEY_ID)
}

/// `Limit` and `Marker`.
fn page(input: &mut Input) -> Result<PageRequest, AwsError> {
    let limit = input.integer("Limit", 1..=1000)?.and_then(|limit| usize::try_from(limit).ok());
    let token = input.text("Marker", &Text::length(1, 1024))?;
    Ok(PageRequest { limit: limit.unwrap_or(100), token })
}

/// The need of an action on a key or alias as a client names it. An ARN tells the account itself.
fn need(action: &'static str, of: &RegistryRef, name: &str) -> Need {
    let RegistryRef { account, region } = of;
    match name.parse::<Arn>() {
        Ok(arn) => {
            let account = arn.account.parse().unwrap_or(*account);
            Need::new(action, name.to_owned(), account)
        }
        Err(_) if name.starts_with("alias/") => {
            Need::new(action, format!("arn:aws:kms:{region}:{account}:{name}"), *account)
        }
        Err(_) => Need::new(action, format!("arn:aws:kms:{region}:{account}:key/{name}"), *account),
    }
}
