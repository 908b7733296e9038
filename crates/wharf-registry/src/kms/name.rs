//! The four ways to name a key: id, key ARN, alias name, alias ARN.

use wharf_store::meta::Tx;
use wharf_store::meta::kms::{self, KmsKeyRow};
use wharf_types::{Arn, RegistryRef, Timestamp};

use super::{is_due, refusal};
use crate::RegistryError;
use crate::key_ring::key_arn;

/// A name within one registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KeyName {
    Id(String),
    Alias(String),
}

impl KeyName {
    /// Parses a name as a client of `registry` uses it.
    ///
    /// # Errors
    /// `InvalidArnException` for text that only looks like an ARN, `NotFoundException` for a key elsewhere.
    pub(super) fn parse(registry: &RegistryRef, text: &str) -> Result<Self, RegistryError> {
        if !text.starts_with("arn:") {
            return Ok(match text.starts_with("alias/") {
                true => Self::Alias(text.to_owned()),
                false => Self::Id(text.to_owned()),
            });
        }
        let malformed = || refusal("InvalidArnException", format!("Invalid arn {text}"));
        let arn: Arn = text.parse().map_err(|_| malformed())?;
        let name = match arn.resource.strip_prefix("key/") {
            Some(id) => Self::Id(id.to_owned()),
            None if arn.resource.starts_with("alias/") => Self::Alias(arn.resource.clone()),
            None => return Err(malformed()),
        };
        if arn.service != "kms" {
            return Err(malformed());
        }
        if arn.region != registry.region.as_str() || arn.account != registry.account.as_str() {
            return Err(match name {
                Self::Id(_) => refusal("NotFoundException", format!("Key '{text}' does not exist")),
                Self::Alias(_) => refusal("NotFoundException", format!("Alias {text} is not found.")),
            });
        }
        Ok(name)
    }

    pub(super) fn is_alias(&self) -> bool {
        matches!(self, Self::Alias(_))
    }

    /// The key, unless its planned end has come.
    pub(super) fn find(
        &self,
        tx: &mut Tx<'_>,
        registry: &RegistryRef,
        now: Timestamp,
    ) -> Result<KmsKeyRow, RegistryError> {
        let id = match self {
            Self::Id(id) => Some(id.clone()),
            Self::Alias(name) => kms::find_alias(tx, registry, name)?,
        };
        let found = id.map(|id| kms::find_key(tx, registry, &id)).transpose()?.flatten();
        found.filter(|row| !is_due(row, now)).ok_or_else(|| self.not_found(registry))
    }

    fn not_found(&self, registry: &RegistryRef) -> RegistryError {
        let message = match self {
            Self::Id(id) => format!("Key '{}' does not exist", key_arn(registry, id)),
            Self::Alias(name) => {
                format!("Alias arn:aws:kms:{}:{}:{name} is not found.", registry.region, registry.account)
            }
        };
        refusal("NotFoundException", message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<KeyName, &'static str> {
        let registry = RegistryRef::new("123456789012".parse().unwrap(), "us-east-1".parse().unwrap());
        KeyName::parse(&registry, text).map_err(|error| match error {
            RegistryError::Kms { code, .. } => code,
            other => panic!("{other}"),
        })
    }

    #[test]
    fn a_key_has_four_names() {
        for id in ["1234", "arn:aws:kms:us-east-1:123456789012:key/1234"] {
            assert_eq!(parse(id), Ok(KeyName::Id("1234".into())), "{id}");
        }
        for alias in ["alias/app", "arn:aws:kms:us-east-1:123456789012:alias/app"] {
            assert_eq!(parse(alias), Ok(KeyName::Alias("alias/app".into())), "{alias}");
        }
    }

    #[test]
    fn what_is_elsewhere_is_not_found() {
        assert_eq!(parse("arn:aws:kms:eu-west-1:123456789012:key/1234"), Err("NotFoundException"));
        assert_eq!(parse("arn:aws:kms:us-east-1:210987654321:alias/app"), Err("NotFoundException"));
        for bad in
            ["arn:aws:s3:us-east-1:123456789012:key/1", "arn:aws:kms", "arn:aws:kms:us-east-1:123456789012:x"]
        {
            assert_eq!(parse(bad), Err("InvalidArnException"), "{bad}");
        }
    }
}
