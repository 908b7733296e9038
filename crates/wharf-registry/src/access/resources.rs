//! What resources say about who may use them: the policy and tags of a repository, the policy of its registry.

use std::sync::Arc;

use wharf_iam::decision::Need;
use wharf_iam::policy::{Policy, PolicyKind};
use wharf_store::meta::iam::resource_policies;
use wharf_store::meta::{Tx, repositories, settings};
use wharf_types::{Arn, RegistryRef, RepositoryRef};

use super::Caller;
use super::unusable::usable_or_deny;
use crate::cache::CoherentCache;
use crate::settings::REGISTRY_POLICY_SCOPE;
use crate::{Registry, RegistryError};

/// Rules of repositories, by ARN, and of registries, as far as they were asked for lately.
pub(crate) struct ResourceRules {
    repositories: CoherentCache<String, Arc<RepositoryRules>>,
    registries: CoherentCache<RegistryRef, Option<Arc<RegistryRules>>>,
}

/// A registry's policy, and how far it counts.
struct RegistryRules {
    policy: Policy,
    v1_scope: bool,
}

/// What registry policies of scope `V1` are asked about.
const V1_ACTIONS: [&str; 3] = ["ecr:ReplicateImage", "ecr:BatchImportUpstreamImage", "ecr:CreateRepository"];

#[derive(Default)]
struct RepositoryRules {
    policy: Option<Policy>,
    tags: Vec<(String, String)>,
}

impl Default for ResourceRules {
    fn default() -> Self {
        Self { repositories: CoherentCache::new(20_000), registries: CoherentCache::new(10_000) }
    }
}

impl ResourceRules {
    pub(super) fn clear(&self) {
        self.repositories.clear();
        self.registries.clear();
    }

    /// After a change of a repository's policy or tags, or its creation or deletion.
    pub(crate) fn forget_repository(&self, repository: &RepositoryRef) {
        self.repositories.invalidate(&repository.arn());
    }

    /// After a change of a registry's policy or its scope.
    pub(crate) fn forget_registry(&self, registry: &RegistryRef) {
        self.registries.invalidate(registry);
    }
}

/// What bears on one need, besides its caller's policies.
pub(crate) struct Rules {
    region: String,
    repository: Option<Arc<RepositoryRules>>,
    registry: Option<Arc<RegistryRules>>,
}

impl Rules {
    fn new(
        place: &Place<'_>,
        need: &Need,
        repository: Option<Arc<RepositoryRules>>,
        registry: Option<Arc<RegistryRules>>,
    ) -> Self {
        let registry = registry.filter(|rules| !rules.v1_scope || V1_ACTIONS.contains(&need.action));
        Self { region: place.region.to_owned(), repository, registry }
    }

    /// The region of the resource, or the one that was asked.
    pub(super) fn region(&self) -> &str {
        &self.region
    }

    /// Tags of the repository, if it exists.
    pub(super) fn tags(&self) -> &[(String, String)] {
        self.repository.as_ref().map_or(&[], |rules| &rules.tags)
    }

    /// The policies of the resource.
    pub(super) fn policies(&self) -> impl Iterator<Item = &Policy> {
        let repository = self.repository.as_ref().and_then(|rules| rules.policy.as_ref());
        repository.into_iter().chain(self.registry_policy())
    }

    /// The policy of the registry alone.
    pub(crate) fn registry_policy(&self) -> Option<&Policy> {
        self.registry.as_ref().map(|rules| &rules.policy)
    }
}

/// What a need is about.
struct Place<'a> {
    region: &'a str,
    /// Whose policy counts: ECR's actions, but for the token, which no resource can grant or deny.
    registry: Option<RegistryRef>,
    /// ARN of one repository.
    repository: Option<&'a str>,
}

impl Registry {
    fn place<'a>(&'a self, caller: &'a Caller, need: &'a Need) -> Place<'a> {
        let mut fields = need.resource.splitn(6, ':').skip(3);
        let of_arn = fields.next().filter(|region| !region.is_empty());
        let name = fields.nth(1);
        let asked = caller.origin().map_or(&self.inner.options.default_region, |origin| &origin.region);
        let region = of_arn.unwrap_or(asked.as_str());
        let counts = need.action.starts_with("ecr:") && need.action != "ecr:GetAuthorizationToken";
        let here = if region == asked.as_str() { Some(asked.clone()) } else { region.parse().ok() };
        let registry = here.filter(|_| counts).map(|region| RegistryRef::new(need.resource_account, region));
        let one = name.is_some_and(|name| name.starts_with("repository/") && !name.contains('*'));
        Place { region, registry, repository: (counts && one).then_some(&*need.resource) }
    }

    /// The rules of a need, if they are in memory.
    pub(super) fn rules_now(&self, caller: &Caller, need: &Need) -> Option<Rules> {
        if !self.is_current() {
            return None;
        }
        let place = self.place(caller, need);
        let known = &self.inner.resource_rules;
        let repository = match place.repository {
            Some(arn) => Some(known.repositories.get(arn)?),
            None => None,
        };
        let registry = match &place.registry {
            Some(registry) => known.registries.get(registry)?,
            None => None,
        };
        Some(Rules::new(&place, need, repository, registry))
    }

    /// The rules of a need.
    pub(crate) async fn rules(&self, caller: &Caller, need: &Need) -> Result<Rules, RegistryError> {
        self.confirm().await?;
        let place = self.place(caller, need);
        let repository = match place.repository {
            Some(arn) => self.repository_rules(arn).await?,
            None => None,
        };
        let registry = match &place.registry {
            Some(registry) => self.registry_rules(registry).await?,
            None => None,
        };
        Ok(Rules::new(&place, need, repository, registry))
    }

    /// `None` for a repository that does not exist, which is not remembered: anybody can ask for any name.
    async fn repository_rules(&self, arn: &str) -> Result<Option<Arc<RepositoryRules>>, RegistryError> {
        let (cache, key) = (&self.inner.resource_rules.repositories, arn.to_owned());
        if let Some(rules) = cache.get(arn) {
            return Ok(Some(rules));
        }
        let Some(name) = arn.parse::<Arn>().ok().and_then(|arn| arn.as_repository()) else { return Ok(None) };
        let ticket = cache.ticket();
        let Some(repository) = self.find_repository(&name).await? else { return Ok(None) };
        let id = repository.id;
        let read = move |tx: &mut Tx<'_>| {
            let tags = repositories::resource_tags(tx, id)?;
            Ok::<_, RegistryError>((resource_policies::of_repository(tx, id)?, tags))
        };
        let (row, tags) = self.inner.meta.read_quick(read).await?;
        let policy = row.map(|row| compile(PolicyKind::Repository, &row.bound, arn));
        let rules = Arc::new(RepositoryRules { policy, tags });
        cache.fill(ticket, &key, Arc::clone(&rules));
        Ok(Some(rules))
    }

    async fn registry_rules(
        &self,
        registry: &RegistryRef,
    ) -> Result<Option<Arc<RegistryRules>>, RegistryError> {
        let cache = &self.inner.resource_rules.registries;
        if let Some(rules) = cache.get(registry) {
            return Ok(rules);
        }
        let ticket = cache.ticket();
        let wanted = registry.clone();
        let read = move |tx: &mut Tx<'_>| {
            let scope = settings::find(tx, &wanted, REGISTRY_POLICY_SCOPE)?;
            Ok::<_, RegistryError>((resource_policies::of_registry(tx, &wanted)?, scope))
        };
        let (row, scope) = self.inner.meta.read_quick(read).await?;
        let v1_scope = scope.as_deref() == Some("V1");
        // A policy may say more than its scope counts now: the scope can be changed under it.
        let kind = PolicyKind::Registry { v1_scope: false };
        let name = || format!("the registry {} in {}", registry.account, registry.region);
        let policy = row.map(|row| compile(kind, &row.bound, &name()));
        let rules = policy.map(|policy| Arc::new(RegistryRules { policy, v1_scope }));
        cache.fill(ticket, registry, rules.clone());
        Ok(rules)
    }
}

/// A policy that does not parse any more denies everything.
fn compile(kind: PolicyKind, text: &str, of: &str) -> Policy {
    usable_or_deny(kind, Policy::parse(kind, text), of)
}
