//! The local key provider, as far as clients of ECR need it: named keys, their states and aliases.
//!
//! A key's state is in the metadata and in memory; [`KeyRing::check_key`](crate::key_ring::KeyRing::check_key) looks
//! only at the memory, so a change of state commits, moves the memory, and only then is answered.

mod alias;
mod name;

use wharf_store::meta::iam::epochs;
use wharf_store::meta::kms::{self, KmsKeyRow};
use wharf_store::meta::{Tx, keys};
use wharf_types::{RegistryRef, Timestamp};

pub use self::alias::KeyAlias;
use self::name::KeyName;
use crate::key_ring::{KeyRing, KeyState, key_arn, kms_scope};
use crate::uninterrupted::uninterrupted;
use crate::{Authorized, Page, PageRequest, Registry, RegistryError};

/// The alias of the key that ECR uses when a repository names none.
const ECR_ALIAS: &str = "alias/aws/ecr";
/// Days a key may be kept before it is deleted, and how many when nothing is said (KMS API, ScheduleKeyDeletion).
const PENDING_DAYS: std::ops::RangeInclusive<u32> = 7..=30;
/// Tags of a key.
const TAGS: usize = 50;

/// A key of the local provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KmsKey {
    /// Its id, a UUID.
    pub id: String,
    /// `arn:aws:kms:<region>:<account>:key/<id>`.
    pub arn: String,
    /// Whose.
    pub account: wharf_types::AccountId,
    /// Where.
    pub region: wharf_types::Region,
    /// Free text.
    pub description: String,
    /// `Enabled`, `Disabled` or `PendingDeletion`.
    pub state: &'static str,
    /// `CUSTOMER` or `AWS`.
    pub manager: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it will be deleted; only while that is pending.
    pub deletion_at: Option<Timestamp>,
    /// The key policy.
    pub policy: String,
    /// Its tags in the order given.
    pub tags: Vec<(String, String)>,
}

/// What a new key shall be.
#[derive(Clone, Debug, Default)]
pub struct NewKey {
    /// Free text; may be empty.
    pub description: String,
    /// A key policy in JSON; `None` for the one that leaves the decision to the account's own policies.
    pub policy: Option<String>,
    /// At most 50 tags, keys unique.
    pub tags: Vec<(String, String)>,
}

impl Registry {
    /// Makes a customer's key.
    ///
    /// # Errors
    /// `MalformedPolicyDocumentException`, `TagException`.
    pub async fn kms_create_key(
        &self,
        of: &Authorized<RegistryRef>,
        new: NewKey,
    ) -> Result<KmsKey, RegistryError> {
        check_tags(&new.tags)?;
        let policy = match new.policy {
            None => default_policy(of),
            Some(text) => match serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&text) {
                Ok(_) => text,
                Err(_) => {
                    return Err(refusal(
                        "MalformedPolicyDocumentException",
                        "The key policy is not valid JSON",
                    ));
                }
            },
        };
        let tags =
            serde_json::to_string(&new.tags).map_err(|error| RegistryError::Internal(error.to_string()))?;
        let row = self.new_row(of.target(), new.description, "CUSTOMER", policy, tags);
        let (keys, meta) = (self.inner.keys.clone(), self.inner.meta.clone());
        uninterrupted(async move {
            let _states = keys.lock_states().await;
            let material = keys.new_material(&kms_scope(&row.registry, &row.id), 1)?;
            let inserted = row.clone();
            let work = move |tx: &mut Tx<'_>| {
                epochs::move_on(tx, epochs::KMS_KEYS)?;
                insert(tx, &inserted, &material)
            };
            meta.write(work).await?;
            keys.set_state(&key_arn(&row.registry, &row.id), Some(KeyState::Enabled));
            key(row)
        })
        .await
    }

    /// The key that an id, ARN, alias name or alias ARN names.
    ///
    /// # Errors
    /// `NotFoundException`, `InvalidArnException`.
    pub async fn kms_describe_key(
        &self,
        of: &Authorized<RegistryRef>,
        key_id: &str,
    ) -> Result<KmsKey, RegistryError> {
        let (registry, name, now) =
            (of.target().clone(), KeyName::parse(of, key_id)?, self.inner.clock.now());
        self.inner.meta.read(move |tx| name.find(tx, &registry, now)).await.and_then(key)
    }

    /// The keys of a registry in the order of their ids.
    ///
    /// # Errors
    /// `InvalidMarkerException`.
    pub async fn kms_list_keys(
        &self,
        of: &Authorized<RegistryRef>,
        page: PageRequest,
    ) -> Result<Page<KmsKey>, RegistryError> {
        let (registry, now) = (of.target().clone(), self.inner.clock.now());
        let query = ["kms:ListKeys", registry.account.as_str(), registry.region.as_str()];
        let [after] = self.open_marker(&query, page.token.as_deref())?;
        let (limit, wanted) = (page.limit, registry.clone());
        let mut rows = self.inner.meta.read(move |tx| kms::list_keys(tx, &wanted, &after, limit + 1)).await?;
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = match rows.last() {
            Some(last) if more => Some(self.seal_page(&query, vec![last.id.clone()])?),
            _ => None,
        };
        rows.retain(|row| !is_due(row, now));
        Ok(Page { items: rows.into_iter().map(key).collect::<Result<_, _>>()?, next })
    }

    /// Switches a key on or off. A disabled key stops the images under it before this returns.
    ///
    /// # Errors
    /// `NotFoundException`, `KMSInvalidStateException` while its deletion is pending.
    pub async fn kms_set_enabled(
        &self,
        of: &Authorized<RegistryRef>,
        key_id: &str,
        enabled: bool,
    ) -> Result<(), RegistryError> {
        let state = if enabled { KeyState::Enabled } else { KeyState::Disabled };
        self.change_state(of, key_id, move |row| {
            if row.state == KeyState::PendingDeletion.as_str() {
                return Err(invalid_state(row, "is pending deletion."));
            }
            Ok((state, None))
        })
        .await
        .map(|_| ())
    }

    /// Plans a key's deletion in 7 to 30 days; until then it cannot be used but the deletion can be cancelled.
    ///
    /// # Errors
    /// `NotFoundException`, `ValidationException`, `KMSInvalidStateException` when it is planned already.
    pub async fn kms_schedule_deletion(
        &self,
        of: &Authorized<RegistryRef>,
        key_id: &str,
        days: u32,
    ) -> Result<KmsKey, RegistryError> {
        if !PENDING_DAYS.contains(&days) {
            return Err(refusal("ValidationException", "PendingWindowInDays must be between 7 and 30"));
        }
        let due = self.inner.clock.now().plus(std::time::Duration::from_secs(u64::from(days) * 86_400));
        self.change_state(of, key_id, move |row| {
            if row.state == KeyState::PendingDeletion.as_str() {
                return Err(invalid_state(row, "is pending deletion."));
            }
            Ok((KeyState::PendingDeletion, Some(due)))
        })
        .await
    }

    /// Keeps a key whose deletion was planned. It is disabled afterwards, as in AWS.
    ///
    /// # Errors
    /// `NotFoundException`, `KMSInvalidStateException` when no deletion is pending.
    pub async fn kms_cancel_deletion(
        &self,
        of: &Authorized<RegistryRef>,
        key_id: &str,
    ) -> Result<KmsKey, RegistryError> {
        self.change_state(of, key_id, |row| {
            if row.state != KeyState::PendingDeletion.as_str() {
                return Err(invalid_state(row, "is not pending deletion."));
            }
            Ok((KeyState::Disabled, None))
        })
        .await
    }

    /// The key's policy.
    ///
    /// # Errors
    /// `NotFoundException`.
    pub async fn kms_key_policy(
        &self,
        of: &Authorized<RegistryRef>,
        key_id: &str,
    ) -> Result<String, RegistryError> {
        Ok(self.kms_describe_key(of, key_id).await?.policy)
    }

    /// The key's tags in the order of their keys.
    ///
    /// # Errors
    /// `NotFoundException`, `InvalidMarkerException`.
    pub async fn kms_key_tags(
        &self,
        of: &Authorized<RegistryRef>,
        key_id: &str,
        page: PageRequest,
    ) -> Result<Page<(String, String)>, RegistryError> {
        let KmsKey { arn, mut tags, .. } = self.kms_describe_key(of, key_id).await?;
        let query = ["kms:ListResourceTags", arn.as_str()];
        let [after] = self.open_marker(&query, page.token.as_deref())?;
        // A tag's key is never empty, so that the first page leaves none out.
        tags.retain(|(key, _)| *key > after);
        tags.sort_unstable();
        let more = tags.len() > page.limit;
        tags.truncate(page.limit);
        let next = match tags.last() {
            Some((last, _)) if more => Some(self.seal_page(&query, vec![last.clone()])?),
            _ => None,
        };
        Ok(Page { items: tags, next })
    }

    /// The ARN of the key that a new repository shall use; `None` names the account's `aws/ecr` key, which is made
    /// when it is first needed.
    ///
    /// # Errors
    /// [`RegistryError::Kms`]: `NotFoundException` for a key of another account or region, or none;
    /// `DisabledException`, `KMSInvalidStateException`.
    pub(crate) async fn resolve_repository_key(
        &self,
        registry: &RegistryRef,
        key: Option<&str>,
    ) -> Result<String, RegistryError> {
        let arn = match key {
            None => self.managed_key(registry).await?,
            Some(named) => {
                let (name, wanted) = (KeyName::parse(registry, named)?, registry.clone());
                let now = self.inner.clock.now();
                let row = self.inner.meta.read(move |tx| name.find(tx, &wanted, now)).await?;
                key_arn(&row.registry, &row.id)
            }
        };
        if self.inner.keys.check_key(&arn).is_err() {
            // Another node may have made it, or switched it on, a moment ago.
            self.confirm_anew().await?;
        }
        self.inner.keys.check_key(&arn)?;
        Ok(arn)
    }

    /// Destroys the keys whose planned end has come; what they wrapped can never be opened again.
    pub(crate) async fn destroy_due_keys(&self) -> Result<u64, RegistryError> {
        let (keys, meta, now) = (self.inner.keys.clone(), self.inner.meta.clone(), self.inner.clock.now());
        uninterrupted(async move {
            let _states = keys.lock_states().await;
            let gone = meta
                .write(move |tx| {
                    if kms::due_keys(tx, now, 1)?.is_empty() {
                        return Ok(Vec::new());
                    }
                    epochs::move_on(tx, epochs::KMS_KEYS)?;
                    // Looked at again: on another node, one of them may have been kept a moment ago.
                    let due = kms::due_keys(tx, now, 100)?;
                    for row in &due {
                        kms::delete_key(tx, &row.registry, &row.id)?;
                        keys::delete_scope(tx, &kms_scope(&row.registry, &row.id))?;
                    }
                    Ok::<_, RegistryError>(due)
                })
                .await?;
            for row in &gone {
                let arn = key_arn(&row.registry, &row.id);
                tracing::info!(key.arn = %arn, "destroyed a key whose deletion was due");
                keys.set_state(&arn, None);
                keys.forget(&kms_scope(&row.registry, &row.id));
            }
            Ok(gone.len() as u64)
        })
        .await
    }

    async fn managed_key(&self, registry: &RegistryRef) -> Result<String, RegistryError> {
        let wanted = registry.clone();
        let found = self.inner.meta.read(move |tx| kms::find_alias(tx, &wanted, ECR_ALIAS)).await?;
        if let Some(id) = found {
            return Ok(key_arn(registry, &id));
        }
        let description = "Default key that protects my ECR data when no other key is defined".to_owned();
        let row = self.new_row(registry, description, "AWS", default_policy(registry), "[]".to_owned());
        let (keys, meta) = (self.inner.keys.clone(), self.inner.meta.clone());
        uninterrupted(async move {
            let _states = keys.lock_states().await;
            let material = keys.new_material(&kms_scope(&row.registry, &row.id), 1)?;
            let new = row.clone();
            let id = meta
                .write(move |tx| {
                    epochs::move_on(tx, epochs::KMS_KEYS)?;
                    if let Some(id) = kms::find_alias(tx, &new.registry, ECR_ALIAS)? {
                        return Ok(id);
                    }
                    insert(tx, &new, &material)?;
                    alias::insert(tx, &new.registry, ECR_ALIAS, &new.id, new.created_at)?;
                    Ok::<_, RegistryError>(new.id.clone())
                })
                .await?;
            let arn = key_arn(&row.registry, &id);
            if id == row.id {
                keys.set_state(&arn, Some(KeyState::Enabled));
            }
            Ok(arn)
        })
        .await
    }

    /// Commits what `decide` answers for the key as it stands, then moves the memory.
    async fn change_state(
        &self,
        of: &Authorized<RegistryRef>,
        key_id: &str,
        decide: impl Fn(&KmsKeyRow) -> Result<(KeyState, Option<Timestamp>), RegistryError> + Send + 'static,
    ) -> Result<KmsKey, RegistryError> {
        let (name, registry, now) =
            (KeyName::parse(of, key_id)?, of.target().clone(), self.inner.clock.now());
        if name.is_alias() {
            return Err(refusal("NotFoundException", format!("Invalid keyId '{key_id}'")));
        }
        let (keys, meta) = (self.inner.keys.clone(), self.inner.meta.clone());
        uninterrupted(async move {
            let _states = keys.lock_states().await;
            let row = meta
                .write(move |tx| {
                    epochs::move_on(tx, epochs::KMS_KEYS)?;
                    let mut row = name.find(tx, &registry, now)?;
                    if row.manager == "AWS" {
                        let arn = key_arn(&registry, &row.id);
                        return Err(refusal(
                            "AccessDeniedException",
                            format!("{arn} is managed by AWS and cannot be changed."),
                        ));
                    }
                    let (state, deletion_at) = decide(&row)?;
                    kms::set_state(tx, &registry, &row.id, state.as_str(), deletion_at)?;
                    (row.state, row.deletion_at) = (state.as_str().to_owned(), deletion_at);
                    Ok::<_, RegistryError>(row)
                })
                .await?;
            follow(&keys, &row)?;
            key(row)
        })
        .await
    }

    fn new_row(
        &self,
        registry: &RegistryRef,
        description: String,
        manager: &str,
        policy: String,
        tags: String,
    ) -> KmsKeyRow {
        KmsKeyRow {
            registry: registry.clone(),
            id: uuid::Uuid::new_v4().to_string(),
            description,
            state: KeyState::Enabled.as_str().to_owned(),
            manager: manager.to_owned(),
            policy,
            tags,
            created_at: self.inner.clock.now(),
            deletion_at: None,
        }
    }
}

fn follow(keys: &KeyRing, row: &KmsKeyRow) -> Result<(), RegistryError> {
    keys.set_state(&key_arn(&row.registry, &row.id), Some(KeyState::parse(&row.state)?));
    Ok(())
}

fn insert(tx: &mut Tx<'_>, row: &KmsKeyRow, material: &[u8]) -> Result<(), RegistryError> {
    kms::insert_key(tx, row)?;
    keys::insert(tx, &kms_scope(&row.registry, &row.id), 1, material)?;
    Ok(())
}

fn key(row: KmsKeyRow) -> Result<KmsKey, RegistryError> {
    let tags = serde_json::from_str(&row.tags)
        .map_err(|error| RegistryError::Internal(format!("the tags of key {}: {error}", row.id)))?;
    Ok(KmsKey {
        arn: key_arn(&row.registry, &row.id),
        id: row.id,
        account: row.registry.account,
        region: row.registry.region,
        description: row.description,
        state: KeyState::parse(&row.state)?.as_str(),
        manager: row.manager,
        created_at: row.created_at,
        deletion_at: row.deletion_at,
        policy: row.policy,
        tags,
    })
}

/// A key whose end has come is gone, even before it is destroyed.
fn is_due(row: &KmsKeyRow, now: Timestamp) -> bool {
    row.deletion_at.is_some_and(|at| at <= now)
}

fn invalid_state(row: &KmsKeyRow, what: &str) -> RegistryError {
    refusal("KMSInvalidStateException", format!("{} {what}", key_arn(&row.registry, &row.id)))
}

fn refusal(code: &'static str, message: impl Into<String>) -> RegistryError {
    RegistryError::Kms { code, message: message.into() }
}

fn check_tags(tags: &[(String, String)]) -> Result<(), RegistryError> {
    let mut seen = std::collections::HashSet::new();
    if tags.len() > TAGS {
        return Err(refusal("LimitExceededException", format!("A key can have at most {TAGS} tags")));
    }
    for (key, _) in tags {
        if key.to_ascii_lowercase().starts_with("aws:") {
            return Err(refusal("TagException", "Tags beginning with aws: are reserved"));
        }
        if !seen.insert(key) {
            return Err(refusal("TagException", format!("Duplicate tag key: {key}")));
        }
    }
    Ok(())
}

/// KMS's own default: the account's policies decide.
fn default_policy(registry: &RegistryRef) -> String {
    let root = format!("arn:aws:iam::{}:root", registry.account);
    serde_json::json!({
        "Version": "2012-10-17",
        "Id": "key-default-1",
        "Statement": [{
            "Sid": "Enable IAM User Permissions",
            "Effect": "Allow",
            "Principal": { "AWS": root },
            "Action": "kms:*",
            "Resource": "*",
        }],
    })
    .to_string()
}

#[cfg(test)]
mod tests;
