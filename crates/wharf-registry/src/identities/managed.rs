//! Managed policies: those that customers make, and AWS's own, which every account has and nobody changes.

use wharf_iam::managed as aws;
use wharf_iam::policy::PolicyKind;
use wharf_store::meta::Tx;
use wharf_store::meta::iam::managed::{self, ListFilter, ManagedPolicyRow, VersionRow};
use wharf_store::meta::iam::policies::{self, PolicyUse};
use wharf_types::{AccountId, Timestamp};

use super::IamError;
use super::attached::PolicyUsage;
use super::boundary::check_policy_arn;
use super::principal::unique_id;
use super::tags::{check_tags, merged, without};
use super::written::{check_written, size};
use crate::{Authorized, Page, PageRequest, Registry, RegistryError};

/// Managed policies of an account (IAM quota).
const POLICIES: usize = 1500;
/// Characters of a managed policy, white space not counted (IAM quota).
const CHARACTERS: usize = 6144;

/// A managed policy as a request names it.
#[derive(Clone, Debug)]
pub struct PolicyRef {
    arn: String,
    owner: AccountId,
    is_aws: bool,
    /// To be looked up.
    sought: bool,
    tags: Vec<(String, String)>,
}

impl PolicyRef {
    /// One that is to be made. `path` is from `/` to `/`.
    pub fn to_create(account: AccountId, path: &str, name: &str) -> Self {
        let arn = format!("arn:aws:iam::{account}:policy{path}{name}");
        Self { arn, owner: account, is_aws: false, sought: false, tags: Vec::new() }
    }

    /// One that a caller's request names by ARN, to be [looked up](Registry::look_up_policy).
    ///
    /// # Errors
    /// `InvalidInput` for what is no ARN of a policy.
    pub fn named(caller: AccountId, arn: &str) -> Result<Self, RegistryError> {
        let parsed = check_policy_arn(arn)?;
        let is_aws = parsed.account == "aws";
        let owner = parsed.account.parse();
        let owner = if is_aws { caller } else { owner.map_err(|_| invalid_arn(arn))? };
        Ok(Self { arn: arn.to_owned(), owner, is_aws, sought: !is_aws, tags: Vec::new() })
    }

    /// Its ARN.
    pub fn arn(&self) -> &str {
        &self.arn
    }

    /// The account that decides about it; for AWS's own, the caller's.
    pub fn owner(&self) -> AccountId {
        self.owner
    }

    /// Its tags when it was looked up.
    pub fn tags(&self) -> &[(String, String)] {
        &self.tags
    }

    /// Whether it is one of AWS's own.
    pub fn is_aws(&self) -> bool {
        self.is_aws
    }

    /// Makes sure that it exists.
    ///
    /// # Errors
    /// `NoSuchEntity`.
    pub(crate) fn require(&self, tx: &mut Tx<'_>) -> Result<(), RegistryError> {
        match self.is_aws {
            true => aws::find(&self.arn).map(|_| ()).ok_or_else(|| no_policy(&self.arn).into()),
            false => self.hold(tx).map(|_| ()),
        }
    }

    /// The row of a policy that may be changed.
    ///
    /// # Errors
    /// `NoSuchEntity`; `AccessDenied` for AWS's own.
    pub(crate) fn hold(&self, tx: &mut Tx<'_>) -> Result<ManagedPolicyRow, RegistryError> {
        if self.is_aws {
            return Err(
                IamError::AccessDenied(format!("Policy {} is outside your own account.", self.arn)).into()
            );
        }
        managed::find(tx, &self.arn)?.ok_or_else(|| no_policy(&self.arn).into())
    }
}

/// `Policy … was not found.`
pub(crate) fn no_policy(arn: &str) -> IamError {
    IamError::NoSuchEntity(format!("Policy {arn} was not found."))
}

/// A managed policy as it is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManagedPolicy {
    /// `ANPA…`.
    pub id: String,
    /// `arn:aws:iam::…`.
    pub arn: String,
    /// As it was written.
    pub name: String,
    /// From `/` to `/`.
    pub path: String,
    /// `v1`, …
    pub default_version: String,
    /// Free text.
    pub description: Option<String>,
    /// In order of key.
    pub tags: Vec<(String, String)>,
    /// Users, groups and roles of the caller's account it is attached to.
    pub attachments: i64,
    /// Users and roles of the caller's account it bounds.
    pub boundaries: i64,
    /// Whether it can be attached to what customers make.
    pub is_attachable: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its default version last changed.
    pub updated_at: Timestamp,
}

impl ManagedPolicy {
    fn local(row: ManagedPolicyRow, used: PolicyUse) -> Result<Self, RegistryError> {
        Ok(Self {
            tags: read_tags(&row)?,
            default_version: format!("v{}", row.default_version),
            id: row.id,
            arn: row.arn,
            name: row.name,
            path: row.path,
            description: row.description,
            attachments: used.attachments,
            boundaries: used.boundaries,
            is_attachable: true,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }

    fn aws(policy: &aws::ManagedPolicy, used: PolicyUse) -> Self {
        Self {
            id: aws_id(policy.name),
            arn: policy.policy.name.to_string(),
            name: policy.name.to_owned(),
            path: policy.path.to_owned(),
            default_version: policy.version.to_owned(),
            description: None,
            tags: Vec::new(),
            attachments: used.attachments,
            boundaries: used.boundaries,
            is_attachable: true,
            created_at: AWS_CREATED,
            updated_at: AWS_CREATED,
        }
    }
}

/// What AWS's own policies say about when they were made: the day of IAM's first ones, 2015-02-06.
pub(super) const AWS_CREATED: Timestamp = Timestamp::from_micros(1_423_247_926_000_000);

/// A stable id for one of AWS's own policies, in the form of all ids.
fn aws_id(name: &str) -> String {
    use sha2::{Digest, Sha256};
    let alphabet = crate::accounts::KEY_ID_ALPHABET;
    let letters = Sha256::digest(name)
        .iter()
        .take(17)
        .map(|byte| char::from(alphabet[usize::from(byte % 32)]))
        .collect::<String>();
    format!("ANPA{letters}")
}

fn read_tags(row: &ManagedPolicyRow) -> Result<Vec<(String, String)>, RegistryError> {
    serde_json::from_str(&row.tags)
        .map_err(|error| RegistryError::Internal(format!("the tags of policy {}: {error}", row.arn)))
}

fn write_tags(tags: &[(String, String)]) -> Result<String, RegistryError> {
    serde_json::to_string(tags).map_err(|error| RegistryError::Internal(error.to_string()))
}

/// What a new managed policy is made of, besides its name.
#[derive(Clone, Debug)]
pub struct NewPolicy {
    /// From `/` to `/`.
    pub path: String,
    /// 1 to 128 of `[\w+=,.@-]`.
    pub name: String,
    /// What its first version says.
    pub document: String,
    /// Free text.
    pub description: Option<String>,
    /// Pairs of key and value.
    pub tags: Vec<(String, String)>,
}

/// Which managed policies a listing wants.
#[derive(Clone, Debug, Default)]
pub struct PolicyFilter {
    /// Only AWS's own (`Some(true)`), or only the account's.
    pub aws: Option<bool>,
    /// Only those attached somewhere.
    pub only_attached: bool,
    /// Only with paths that begin so.
    pub path_prefix: String,
    /// Only those used so.
    pub usage: Option<PolicyUsage>,
}

impl Registry {
    /// Looks up the managed policy that a request [names](PolicyRef::named).
    ///
    /// # Errors
    /// When the metadata fails. That there is none is no error here.
    pub async fn look_up_policy(&self, named: PolicyRef) -> Result<PolicyRef, RegistryError> {
        if !named.sought {
            return Ok(named);
        }
        let arn = named.arn.clone();
        let read = move |tx: &mut Tx<'_>| match managed::find(tx, &arn)? {
            Some(row) => read_tags(&row),
            None => Ok(Vec::new()),
        };
        Ok(PolicyRef { tags: self.inner.meta.read_quick(read).await?, sought: false, ..named })
    }

    /// Makes a managed policy with its first version.
    ///
    /// # Errors
    /// `EntityAlreadyExists`, `MalformedPolicyDocument`, `LimitExceeded`, `InvalidInput` (tags).
    pub async fn create_policy(
        &self,
        of: &Authorized<PolicyRef>,
        new: NewPolicy,
    ) -> Result<ManagedPolicy, RegistryError> {
        check_tags(&new.tags)?;
        check_document(&new.document)?;
        let now = self.inner.clock.now();
        let row = ManagedPolicyRow {
            arn: of.arn().to_owned(),
            id: unique_id("ANPA")?,
            account: of.owner(),
            name: new.name,
            path: new.path,
            description: new.description,
            tags: write_tags(&merged(Vec::new(), &new.tags)?)?,
            default_version: 1,
            newest_version: 1,
            created_at: now,
            updated_at: now,
        };
        let (created, document) = (row.clone(), new.document);
        self.write_identities(move |tx| {
            managed::insert(tx, &row).map_err(|error| match error.is_unique_violation() {
                true => RegistryError::from(IamError::EntityAlreadyExists(format!(
                    "A policy called {} already exists. Duplicate names are not allowed.",
                    row.name
                ))),
                false => error.into(),
            })?;
            if managed::count(tx, row.account)? > POLICIES {
                return Err(IamError::quota("PoliciesPerAccount", POLICIES).into());
            }
            let first = VersionRow { version: 1, document: document.clone(), created_at: now };
            Ok(managed::insert_version(tx, &row.arn, &first)?)
        })
        .await?;
        ManagedPolicy::local(created, PolicyUse::default())
    }

    /// A managed policy, and how the caller's account uses it.
    ///
    /// # Errors
    /// `NoSuchEntity`.
    pub async fn managed_policy(&self, of: &Authorized<PolicyRef>) -> Result<ManagedPolicy, RegistryError> {
        let (wanted, account) = (of.target().clone(), of.caller().identity.account);
        self.inner
            .meta
            .read(move |tx| {
                let used = policies::usage(tx, account, &wanted.arn)?;
                if wanted.is_aws {
                    let policy = aws::find(&wanted.arn).ok_or_else(|| no_policy(&wanted.arn))?;
                    return Ok(ManagedPolicy::aws(policy, used));
                }
                ManagedPolicy::local(wanted.hold(tx)?, used)
            })
            .await
    }

    /// The managed policies of an account and AWS's own, in order of name.
    ///
    /// # Errors
    /// `ValidationError` for a marker of another listing.
    pub async fn list_policies(
        &self,
        of: &Authorized<AccountId>,
        filter: PolicyFilter,
        page: PageRequest,
    ) -> Result<Page<ManagedPolicy>, RegistryError> {
        let account = *of.target();
        let asked = format!("{filter:?}");
        let query = ["iam:ListPolicies", account.as_str(), &asked];
        let [name, arn] = self.open_iam_marker(&query, &page)?;
        let limit = page.limit;
        let found =
            self.inner.meta.read(move |tx| list(tx, account, &filter, (&name, &arn), limit + 1)).await?;
        let place = |policy: &ManagedPolicy| vec![policy.name.to_ascii_lowercase(), policy.arn.clone()];
        self.cut_iam_page(&query, found, limit, place)
    }

    /// Deletes a managed policy that is used nowhere and has no version but its default one.
    ///
    /// # Errors
    /// `NoSuchEntity`, `DeleteConflict`.
    pub async fn delete_policy(&self, of: &Authorized<PolicyRef>) -> Result<(), RegistryError> {
        let of = of.target().clone();
        self.write_identities(move |tx| {
            let row = of.hold(tx)?;
            let conflict = |text: &str| Err(IamError::DeleteConflict(text.into()).into());
            if policies::usage(tx, row.account, &row.arn)? != PolicyUse::default() {
                return conflict("Cannot delete a policy attached to entities.");
            }
            if managed::versions(tx, &row.arn)?.len() > 1 {
                return conflict(
                    "This policy has more than one version. Before you delete a policy, you must delete the \
                     policy's versions. The default version is deleted with the policy.",
                );
            }
            Ok(managed::delete(tx, &row.arn)?)
        })
        .await
    }

    /// Adds tags to a managed policy; keys that are there are overwritten, others kept.
    ///
    /// # Errors
    /// `NoSuchEntity`, `InvalidInput`, `LimitExceeded`.
    pub async fn tag_policy(
        &self,
        of: &Authorized<PolicyRef>,
        put: Vec<(String, String)>,
    ) -> Result<(), RegistryError> {
        check_tags(&put)?;
        let of = of.target().clone();
        self.write_identities(move |tx| {
            let row = of.hold(tx)?;
            let tags = write_tags(&merged(read_tags(&row)?, &put)?)?;
            Ok(managed::set_tags(tx, &row.arn, &tags)?)
        })
        .await
    }

    /// Removes tags of a managed policy by key; keys that are not there are ignored.
    ///
    /// # Errors
    /// `NoSuchEntity`.
    pub async fn untag_policy(
        &self,
        of: &Authorized<PolicyRef>,
        keys: Vec<String>,
    ) -> Result<(), RegistryError> {
        let of = of.target().clone();
        self.write_identities(move |tx| {
            let row = of.hold(tx)?;
            let tags = write_tags(&without(read_tags(&row)?, &keys))?;
            Ok(managed::set_tags(tx, &row.arn, &tags)?)
        })
        .await
    }

    /// The tags of a managed policy, in order of key.
    ///
    /// # Errors
    /// `NoSuchEntity`; `ValidationError` for a marker of another listing.
    pub async fn policy_tags(
        &self,
        of: &Authorized<PolicyRef>,
        page: PageRequest,
    ) -> Result<Page<(String, String)>, RegistryError> {
        let tags = self.managed_policy(of).await?.tags;
        self.iam_page_of(&["iam:ListPolicyTags", of.arn()], tags, page, |(key, _)| key.to_lowercase())
    }
}

/// Grammar and size of a managed policy's document.
pub(super) fn check_document(document: &str) -> Result<(), IamError> {
    check_written(PolicyKind::Identity, document)?;
    match size(document) <= CHARACTERS {
        true => Ok(()),
        false => Err(IamError::quota("PolicySize", CHARACTERS)),
    }
}

fn list(
    tx: &mut Tx<'_>,
    account: AccountId,
    filter: &PolicyFilter,
    after: (&str, &str),
    limit: usize,
) -> Result<Vec<ManagedPolicy>, RegistryError> {
    let boundary = filter.usage == Some(PolicyUsage::Boundary);
    let attached = filter.usage == Some(PolicyUsage::Permissions) || (filter.only_attached && !boundary);
    let mut found = Vec::new();
    if filter.aws != Some(true) {
        let wanted = ListFilter { path_prefix: &filter.path_prefix, attached, boundary };
        for row in managed::list(tx, account, &wanted, after, limit)? {
            let used = policies::usage(tx, account, &row.arn)?;
            found.push(ManagedPolicy::local(row, used)?);
        }
    }
    if filter.aws != Some(false) {
        for policy in aws::all().iter().filter(|policy| policy.path.starts_with(&filter.path_prefix)) {
            let name = policy.name.to_ascii_lowercase();
            if (name.as_str(), &*policy.policy.name) <= after {
                continue;
            }
            let used = policies::usage(tx, account, &policy.policy.name)?;
            if (!attached || used.attachments > 0) && (!boundary || used.boundaries > 0) {
                found.push(ManagedPolicy::aws(policy, used));
            }
        }
    }
    found.sort_by_cached_key(|policy| (policy.name.to_ascii_lowercase(), policy.arn.clone()));
    found.truncate(limit);
    Ok(found)
}

fn invalid_arn(arn: &str) -> IamError {
    IamError::InvalidInput(format!("ARN {arn} is not valid."))
}
