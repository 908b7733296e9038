//! Aliases of keys.

use wharf_store::meta::kms::{self, KmsAliasRow};
use wharf_store::meta::{MetaError, Tx};
use wharf_types::{RegistryRef, Timestamp};

use super::name::KeyName;
use super::refusal;
use crate::{Authorized, Page, PageRequest, Registry, RegistryError};

/// Another name of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyAlias {
    /// `alias/…`.
    pub name: String,
    /// `arn:aws:kms:<region>:<account>:alias/…`.
    pub arn: String,
    /// The id of the key it stands for.
    pub key_id: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last pointed at another key.
    pub updated_at: Timestamp,
}

impl Registry {
    /// Gives a key another name.
    ///
    /// # Errors
    /// `InvalidAliasNameException`, `AlreadyExistsException`, `NotFoundException`, `KMSInvalidStateException`.
    pub async fn kms_create_alias(
        &self,
        of: &Authorized<RegistryRef>,
        name: &str,
        target: &str,
    ) -> Result<(), RegistryError> {
        check_name(name)?;
        let target = KeyName::parse(of, target)?;
        if target.is_alias() {
            return Err(refusal("ValidationException", "Aliases must refer to keys. Not aliases"));
        }
        let (registry, name, now) = (of.target().clone(), name.to_owned(), self.inner.clock.now());
        self.inner
            .meta
            .write(move |tx| {
                let key = target.find(tx, &registry, now)?;
                if key.deletion_at.is_some() {
                    return Err(super::invalid_state(&key, "is pending deletion."));
                }
                insert(tx, &registry, &name, &key.id, now)
            })
            .await
    }

    /// Removes an alias; the key stays.
    ///
    /// # Errors
    /// `NotFoundException`, `InvalidAliasNameException`.
    pub async fn kms_delete_alias(
        &self,
        of: &Authorized<RegistryRef>,
        name: &str,
    ) -> Result<(), RegistryError> {
        check_name(name)?;
        let (registry, name) = (of.target().clone(), name.to_owned());
        self.inner
            .meta
            .write(move |tx| match kms::delete_alias(tx, &registry, &name)? {
                true => Ok(()),
                false => Err(refusal(
                    "NotFoundException",
                    format!("Alias {} is not found.", arn(&registry, &name)),
                )),
            })
            .await
    }

    /// The aliases of a registry, or of one key, in the order of their names.
    ///
    /// # Errors
    /// `InvalidMarkerException`, `NotFoundException`, `InvalidArnException`.
    pub async fn kms_list_aliases(
        &self,
        of: &Authorized<RegistryRef>,
        key_id: Option<&str>,
        page: PageRequest,
    ) -> Result<Page<KeyAlias>, RegistryError> {
        let registry = of.target().clone();
        let key = match key_id {
            Some(key_id) => Some(self.kms_describe_key(of, key_id).await?.id),
            None => None,
        };
        let (account, region) = (registry.account.as_str(), registry.region.as_str());
        let query = ["kms:ListAliases", account, region, key.as_deref().unwrap_or("")];
        let [after] = self.open_marker(&query, page.token.as_deref())?;
        let (limit, wanted, of_key) = (page.limit, registry.clone(), key.clone());
        let mut rows = self
            .inner
            .meta
            .read(move |tx| kms::list_aliases(tx, &wanted, of_key.as_deref(), &after, limit + 1))
            .await?;
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = match rows.last() {
            Some(last) if more => Some(self.seal_page(&query, vec![last.name.clone()])?),
            _ => None,
        };
        let alias = |row: KmsAliasRow| KeyAlias {
            arn: arn(&registry, &row.name),
            name: row.name,
            key_id: row.key_id,
            created_at: row.created_at,
            updated_at: row.updated_at,
        };
        Ok(Page { items: rows.into_iter().map(alias).collect(), next })
    }

    /// As `open_page`, with KMS's own error.
    pub(super) fn open_marker<const N: usize>(
        &self,
        query: &[&str],
        token: Option<&str>,
    ) -> Result<[String; N], RegistryError> {
        self.open_page(query, token).map_err(|error| match error {
            RegistryError::InvalidParameter { .. } => {
                refusal("InvalidMarkerException", "The marker is not valid for this listing")
            }
            other => other,
        })
    }
}

/// Adds an alias. Fails with `AlreadyExistsException`.
pub(super) fn insert(
    tx: &mut Tx<'_>,
    registry: &RegistryRef,
    name: &str,
    key_id: &str,
    now: Timestamp,
) -> Result<(), RegistryError> {
    let row =
        KmsAliasRow { name: name.to_owned(), key_id: key_id.to_owned(), created_at: now, updated_at: now };
    kms::insert_alias(tx, registry, &row).map_err(|error: MetaError| match error.is_unique_violation() {
        true => refusal(
            "AlreadyExistsException",
            format!("An alias with the name {} already exists", arn(registry, name)),
        ),
        false => error.into(),
    })
}

fn arn(registry: &RegistryRef, name: &str) -> String {
    format!("arn:aws:kms:{}:{}:{name}", registry.region, registry.account)
}

fn check_name(name: &str) -> Result<(), RegistryError> {
    let rest = name.strip_prefix("alias/").unwrap_or("");
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'_' | b'-');
    if rest.is_empty() || name.len() > 256 || !rest.bytes().all(legal) {
        return Err(refusal(
            "InvalidAliasNameException",
            "Alias must start with the prefix \"alias/\", followed by letters, digits, and any of /_-",
        ));
    }
    if rest.starts_with("aws/") {
        return Err(refusal("NotAuthorizedException", "Aliases that begin with alias/aws/ are reserved"));
    }
    Ok(())
}
