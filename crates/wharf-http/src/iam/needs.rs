//! What IAM's operations act on, and the condition keys that come with it (`iam-api` §6).

use wharf_iam::decision::Need;
use wharf_registry::{KeyOwner, KeyRef, PolicyRef, PrincipalRef, Registry, RegistryError};
use wharf_types::AccountId;

use crate::aws::Target;

/// Listings: the account as a whole.
impl Target for AccountId {
    fn need(&self, action: &'static str) -> Need {
        Need::new(action, "*", *self)
    }
}

impl Target for PrincipalRef {
    fn need(&self, action: &'static str) -> Need {
        with_resource_tags(Need::new(action, self.arn(), self.account()), self.tags())
    }

    async fn look_up(self, registry: &Registry) -> Result<Self, RegistryError> {
        registry.look_up_principal(self).await
    }
}

impl Target for PolicyRef {
    fn need(&self, action: &'static str) -> Need {
        with_resource_tags(Need::new(action, self.arn().to_owned(), self.owner()), self.tags())
    }

    async fn look_up(self, registry: &Registry) -> Result<Self, RegistryError> {
        registry.look_up_policy(self).await
    }
}

impl Target for KeyOwner {
    fn need(&self, action: &'static str) -> Need {
        with_resource_tags(Need::new(action, self.arn(), self.account()), self.tags())
    }

    async fn look_up(self, registry: &Registry) -> Result<Self, RegistryError> {
        registry.look_up_key_owner(self).await
    }
}

/// A key is its user's; one that is not known is nobody's.
impl Target for KeyRef {
    fn need(&self, action: &'static str) -> Need {
        match self.owner() {
            Some(owner) => owner.need(action),
            None => Need::new(action, "*", self.account()),
        }
    }

    async fn look_up(self, registry: &Registry) -> Result<Self, RegistryError> {
        registry.look_up_access_key(self).await
    }
}

fn with_resource_tags(need: Need, tags: &[(String, String)]) -> Need {
    tags.iter().fold(need, |need, (key, value)| {
        let need = need.with(format!("aws:ResourceTag/{key}"), vec![value.clone()]);
        need.with(format!("iam:ResourceTag/{key}"), vec![value.clone()])
    })
}

/// `aws:RequestTag/…` and `aws:TagKeys` of the tags a request brings; nothing without tags.
pub(crate) fn with_request_tags(need: Need, tags: &[(String, String)]) -> Need {
    if tags.is_empty() {
        return need;
    }
    let keys = tags.iter().map(|(key, _)| key.clone()).collect();
    let add = |need: Need, (key, value): &(String, String)| {
        need.with(format!("aws:RequestTag/{key}"), vec![value.clone()])
    };
    tags.iter().fold(need, add).with("aws:TagKeys", keys)
}

/// `iam:PermissionsBoundary`, if there is one.
pub(super) fn with_boundary(need: Need, boundary: Option<&str>) -> Need {
    match boundary {
        Some(arn) => need.with("iam:PermissionsBoundary", vec![arn.to_owned()]),
        None => need,
    }
}
