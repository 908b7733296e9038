//! CreateRepository, DescribeRepositories, DeleteRepository, PutImageTagMutability.

use serde_json::Value;
use wharf_iam::decision::Need;
use wharf_registry::{Authorized, EncryptionType, NewRepository, PageRequest};
use wharf_types::{Mutability, RegistryRef, RepositoryName, RepositoryRef};

use super::{output, shape};
use crate::aws::{Answer, AwsError, AwsRequest, Call, Input, Target, Text};

/// `CreateRepository`
pub(super) struct CreateRepository(NewRepository);

impl Call for CreateRepository {
    const ACTIONS: &'static [&'static str] = &["ecr:CreateRepository", "ecr:TagResource"];
    type Target = RepositoryRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, RepositoryRef), AwsError> {
        let repository = shape::repository(&mut input, request)?;
        let tags = shape::tags(&mut input, "tags")?.unwrap_or_default();
        let mutability = shape::mutability(&mut input)?.unwrap_or(Mutability::Mutable);
        let scan_on_push = match input.structure("imageScanningConfiguration")? {
            Some(mut scanning) => scanning.boolean("scanOnPush")?.unwrap_or(false),
            None => false,
        };
        let (encryption_type, kms_key) = encryption(&mut input)?;
        let new = NewRepository { mutability, scan_on_push, encryption_type, kms_key, tags };
        Ok((Self(new), repository))
    }

    fn needs(&self, target: &RepositoryRef) -> Vec<Need> {
        let tags = &self.0.tags;
        let with_tags = |need: Need| {
            let need = tags.iter().fold(need, |need, (key, value)| {
                need.with(format!("aws:RequestTag/{key}"), vec![value.clone()])
            });
            need.with("aws:TagKeys", tags.iter().map(|(key, _)| key.clone()).collect())
        };
        if tags.is_empty() {
            return vec![target.need("ecr:CreateRepository")];
        }
        vec![with_tags(target.need("ecr:CreateRepository")), with_tags(target.need("ecr:TagResource"))]
    }

    async fn run(
        self,
        request: &AwsRequest<'_>,
        target: Authorized<RepositoryRef>,
    ) -> Result<Answer, AwsError> {
        let repository = request.registry().create_repository(&target, self.0).await?;
        Ok(output::Members::default().with("repository", output::repository(request, &repository)).answer())
    }
}

/// `EncryptionConfiguration`; AES256 unless given.
fn encryption(input: &mut Input) -> Result<(EncryptionType, Option<String>), AwsError> {
    let Some(mut configuration) = input.structure("encryptionConfiguration")? else {
        return Ok((EncryptionType::Aes256, None));
    };
    let name =
        configuration.required_text("encryptionType", &Text::one_of(&["AES256", "KMS", "KMS_DSSE"]))?;
    let key = configuration.text("kmsKey", &Text::length(1, 2048))?;
    match (name.as_str(), key) {
        ("KMS", key) => Ok((EncryptionType::Kms, key)),
        ("KMS_DSSE", key) => Ok((EncryptionType::KmsDsse, key)),
        (_, None) => Ok((EncryptionType::Aes256, None)),
        (_, Some(key)) => {
            Err(configuration.refuse("kmsKey", &key, "Member must be null when encryptionType is AES256"))
        }
    }
}

/// `DescribeRepositories`
pub(super) enum DescribeRepositories {
    /// With `repositoryNames`.
    Named(Vec<RepositoryName>),
    /// Without.
    All(PageRequest),
}

impl Call for DescribeRepositories {
    const ACTIONS: &'static [&'static str] = &["ecr:DescribeRepositories"];
    type Target = RegistryRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, RegistryRef), AwsError> {
        let registry = shape::registry(&mut input, request)?;
        let names = input.texts("repositoryNames", 1..=100, &shape::REPOSITORY_NAME)?;
        let page = shape::page_unless(&mut input, names.is_some().then_some("repositoryNames"))?;
        let call = match (names, page) {
            (_, Some(page)) => Self::All(page),
            // The pattern has been checked, so that every name parses.
            (names, None) => {
                Self::Named(names.unwrap_or_default().iter().filter_map(|name| name.parse().ok()).collect())
            }
        };
        Ok((call, registry))
    }

    /// With names, each repository; without, all of the registry.
    fn needs(&self, target: &RegistryRef) -> Vec<Need> {
        let action = Self::ACTIONS[0];
        match self {
            Self::Named(names) => {
                names.iter().map(|name| target.repository(name.clone()).need(action)).collect()
            }
            Self::All(_) => vec![Need::new(action, target.repositories_arn(), target.account)],
        }
    }

    async fn run(
        self,
        request: &AwsRequest<'_>,
        target: Authorized<RegistryRef>,
    ) -> Result<Answer, AwsError> {
        match self {
            Self::Named(names) => {
                let found = request.registry().describe_named_repositories(&target, &names).await?;
                let shown: Vec<Value> = found.iter().map(|one| output::repository(request, one)).collect();
                Ok(output::Members::default().with("repositories", shown).answer())
            }
            Self::All(page) => {
                let found = request.registry().describe_repositories(&target, page).await?;
                Ok(output::page("repositories", found, |one| output::repository(request, &one)))
            }
        }
    }
}

/// `DeleteRepository`
pub(super) struct DeleteRepository {
    force: bool,
}

impl Call for DeleteRepository {
    const ACTIONS: &'static [&'static str] = &["ecr:DeleteRepository"];
    type Target = RepositoryRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, RepositoryRef), AwsError> {
        let repository = shape::repository(&mut input, request)?;
        Ok((Self { force: input.boolean("force")?.unwrap_or(false) }, repository))
    }

    async fn run(
        self,
        request: &AwsRequest<'_>,
        target: Authorized<RepositoryRef>,
    ) -> Result<Answer, AwsError> {
        let repository = request.registry().delete_repository(&target, self.force).await?;
        Ok(output::Members::default().with("repository", output::repository(request, &repository)).answer())
    }
}

/// `PutImageTagMutability`
pub(super) struct PutImageTagMutability(Mutability);

impl Call for PutImageTagMutability {
    const ACTIONS: &'static [&'static str] = &["ecr:PutImageTagMutability"];
    type Target = RepositoryRef;

    fn parse(mut input: Input, request: &AwsRequest<'_>) -> Result<(Self, RepositoryRef), AwsError> {
        let repository = shape::repository(&mut input, request)?;
        if !input.has("imageTagMutability") {
            input.required("imageTagMutability", None::<Mutability>)?;
        }
        let mutability = shape::mutability(&mut input)?;
        Ok((Self(input.required("imageTagMutability", mutability)?), repository))
    }

    async fn run(
        self,
        request: &AwsRequest<'_>,
        target: Authorized<RepositoryRef>,
    ) -> Result<Answer, AwsError> {
        let repository = request.registry().put_tag_mutability(&target, self.0).await?;
        Ok(output::mutability(output::of_repository(&repository.name), &repository.mutability).answer())
    }
}
