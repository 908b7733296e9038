//! Account settings: per account and region (ECR API, `GetAccountSetting`, `PutAccountSetting`).

use wharf_store::meta::iam::epochs;
use wharf_store::meta::{Tx, settings};
use wharf_types::RegistryRef;

use crate::cache::CoherentCache;
use crate::uninterrupted::uninterrupted;
use crate::{Authorized, Registry, RegistryError};

/// Which actions a registry's policy is asked about.
pub(crate) const REGISTRY_POLICY_SCOPE: &str = "REGISTRY_POLICY_SCOPE";
const BLOB_MOUNTING: &str = "BLOB_MOUNTING";
const ENABLED: &str = "ENABLED";
const DISABLED: &str = "DISABLED";

/// Settings and the values that may be put, the default first; the dialect has its own for `BLOB_MOUNTING`.
const SETTINGS: [(&str, &[&str]); 3] = [
    ("BASIC_SCAN_TYPE_VERSION", &["AWS_NATIVE"]),
    (REGISTRY_POLICY_SCOPE, &["V2", "V1"]),
    (BLOB_MOUNTING, &[ENABLED, DISABLED]),
];

/// Whether registries mount blobs, for those that were asked lately.
pub(crate) struct SettingsCache {
    blob_mounting: CoherentCache<RegistryRef, bool>,
}

impl Default for SettingsCache {
    fn default() -> Self {
        Self { blob_mounting: CoherentCache::new(10_000) }
    }
}

impl SettingsCache {
    /// After a change on another node.
    pub(crate) fn clear(&self) {
        self.blob_mounting.clear();
    }
}

impl Registry {
    /// The value of a setting: what was put, or the default.
    ///
    /// # Errors
    /// [`RegistryError::Validation`] for a name that no setting has.
    pub async fn account_setting(
        &self,
        of: &Authorized<RegistryRef>,
        name: &str,
    ) -> Result<String, RegistryError> {
        let (name, values) = known(name)?;
        let registry = of.target().clone();
        let put = self.inner.meta.read(move |tx| settings::find(tx, &registry, name)).await?;
        Ok(put.unwrap_or_else(|| match name {
            BLOB_MOUNTING => word(self.inner.options.dialect.blob_mounting_default()).to_owned(),
            _ => values[0].to_owned(),
        }))
    }

    /// Puts a setting; it counts for every request that begins after this returns. Answers the value.
    ///
    /// # Errors
    /// [`RegistryError::Validation`] for a name that no setting has, or a value this one cannot have.
    pub async fn put_account_setting(
        &self,
        of: &Authorized<RegistryRef>,
        name: &str,
        value: &str,
    ) -> Result<String, RegistryError> {
        let (name, values) = known(name)?;
        if !values.contains(&value) {
            return Err(not_one_of("value", value, values));
        }
        let (registry, of, value) = (self.clone(), of.target().clone(), value.to_owned());
        uninterrupted(async move {
            let (wanted, put) = (of.clone(), value.clone());
            let change = move |tx: &mut Tx<'_>| {
                let epoch = match name {
                    REGISTRY_POLICY_SCOPE => epochs::RESOURCE_POLICIES,
                    _ => epochs::SETTINGS,
                };
                epochs::move_on(tx, epoch)?;
                settings::put(tx, &wanted, name, &put)
            };
            let outcome = registry.inner.meta.write(change).await;
            registry.inner.settings.blob_mounting.invalidate(&of);
            registry.inner.resource_rules.forget_registry(&of);
            outcome?;
            Ok(value)
        })
        .await
    }

    /// Whether blobs may be mounted in a registry.
    ///
    /// # Errors
    /// When the metadata fails.
    pub async fn blob_mounting_enabled(&self, registry: &RegistryRef) -> Result<bool, RegistryError> {
        let cache = &self.inner.settings.blob_mounting;
        if let Some(enabled) = cache.get(registry) {
            return Ok(enabled);
        }
        let ticket = cache.ticket();
        let wanted = registry.clone();
        let put = self.inner.meta.read(move |tx| settings::find(tx, &wanted, BLOB_MOUNTING)).await?;
        let enabled =
            put.map_or(self.inner.options.dialect.blob_mounting_default(), |value| value == ENABLED);
        cache.fill(ticket, registry, enabled);
        Ok(enabled)
    }
}

fn word(enabled: bool) -> &'static str {
    if enabled { ENABLED } else { DISABLED }
}

fn known(name: &str) -> Result<(&'static str, &'static [&'static str]), RegistryError> {
    SETTINGS.into_iter().find(|(known, _)| *known == name).ok_or_else(|| {
        let names = SETTINGS.map(|(known, _)| known);
        not_one_of("name", name, &names)
    })
}

/// The form that AWS services validate enumerations with.
fn not_one_of(member: &str, value: &str, legal: &[&str]) -> RegistryError {
    RegistryError::Validation(format!(
        "1 validation error detected: Value '{value}' at '{member}' failed to satisfy constraint: \
         Member must satisfy enum value set: [{}]",
        legal.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dialect;
    use crate::accounts::tests::Fixture;

    #[tokio::test]
    async fn settings_have_defaults_and_keep_what_is_put() {
        let fixture = Fixture::new().await;
        let (registry, at) = (&fixture.registry, fixture.here());
        for (name, value) in [
            ("BASIC_SCAN_TYPE_VERSION", "AWS_NATIVE"),
            ("REGISTRY_POLICY_SCOPE", "V2"),
            (BLOB_MOUNTING, ENABLED),
        ] {
            assert_eq!(registry.account_setting(&at, name).await.unwrap(), value);
            assert_eq!(registry.put_account_setting(&at, name, value).await.unwrap(), value);
        }
        for (name, value) in
            [("NO_SUCH", "V2"), ("BASIC_SCAN_TYPE_VERSION", "CLAIR"), (BLOB_MOUNTING, "enabled")]
        {
            let refused = registry.put_account_setting(&at, name, value).await.unwrap_err();
            assert!(matches!(refused, RegistryError::Validation(_)), "{name}={value}: {refused}");
        }
        let refused = registry.account_setting(&at, "NO_SUCH").await.unwrap_err();
        assert!(refused.to_string().contains("'NO_SUCH' at 'name'"), "{refused}");
    }

    #[tokio::test]
    async fn blob_mounting_is_obeyed_at_once_and_per_region() {
        let fixture = Fixture::new().await;
        let (registry, at) = (&fixture.registry, fixture.here());
        let elsewhere = RegistryRef::new(at.account, "eu-west-1".parse().unwrap());
        assert!(registry.blob_mounting_enabled(&at).await.unwrap());
        registry.put_account_setting(&at, BLOB_MOUNTING, DISABLED).await.unwrap();
        assert!(!registry.blob_mounting_enabled(&at).await.unwrap());
        assert!(registry.blob_mounting_enabled(&elsewhere).await.unwrap());
        assert_eq!(registry.account_setting(&at, BLOB_MOUNTING).await.unwrap(), DISABLED);
        registry.put_account_setting(&at, BLOB_MOUNTING, ENABLED).await.unwrap();
        assert!(registry.blob_mounting_enabled(&at).await.unwrap());
    }

    #[tokio::test]
    async fn ecr_starts_without_blob_mounting() {
        let fixture = Fixture::with(|options| options.dialect = Dialect::Ecr).await;
        let (registry, at) = (&fixture.registry, fixture.here());
        assert_eq!(registry.account_setting(&at, BLOB_MOUNTING).await.unwrap(), DISABLED);
        assert!(!registry.blob_mounting_enabled(&at).await.unwrap());
    }
}
