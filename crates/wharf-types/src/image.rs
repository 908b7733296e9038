//! Where images live: registries and repositories.

use crate::{AccountId, Arn, Region, RepositoryName};

/// A registry: one account in one region.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RegistryRef {
    /// Whose.
    pub account: AccountId,
    /// Where.
    pub region: Region,
}

impl RegistryRef {
    /// The registry of `account` in `region`.
    pub fn new(account: AccountId, region: Region) -> Self {
        Self { account, region }
    }

    /// A repository of this registry.
    pub fn repository(&self, name: RepositoryName) -> RepositoryRef {
        RepositoryRef { registry: self.clone(), kind: RepositoryKind::Private, name }
    }

    /// What operations over all its repositories are authorized on: `arn:aws:ecr:<region>:<account>:repository/*`.
    pub fn repositories_arn(&self) -> String {
        format!("arn:aws:ecr:{}:{}:repository/*", self.region, self.account)
    }
}

/// ECR keeps private and public repositories apart; the same name may exist in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RepositoryKind {
    /// `ecr`.
    Private,
    /// `ecr-public`.
    Public,
}

impl RepositoryKind {
    /// The word kept in the metadata store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::Public => "public",
        }
    }
}

/// The full name of a repository. Naming one says nothing about its existence.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepositoryRef {
    /// The registry that holds it.
    pub registry: RegistryRef,
    /// Private or public.
    pub kind: RepositoryKind,
    /// Its name in the registry.
    pub name: RepositoryName,
}

impl RepositoryRef {
    /// A private repository.
    pub fn private(account: AccountId, region: Region, name: RepositoryName) -> Self {
        Self { registry: RegistryRef { account, region }, kind: RepositoryKind::Private, name }
    }

    /// Its ARN (public repositories have no region in theirs).
    pub fn arn(&self) -> String {
        let RegistryRef { account, region } = &self.registry;
        match self.kind {
            RepositoryKind::Private => Arn::repository(*account, region, &self.name),
            RepositoryKind::Public => format!("arn:aws:ecr-public::{account}:repository/{}", self.name),
        }
    }
}
