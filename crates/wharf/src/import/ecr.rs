//! The calls of ECR's API that an import makes, at its source and at its destination, and the settings of repositories.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use tokio::sync::Mutex;
use wharf_types::{AccountId, Digest};

use super::registry::{ATTEMPTS, pause};
use crate::client::{Api, ApiError, CredentialSource, Credentials, JsonService, Password};

/// How long a key that a role gave is used; roles give them for an hour.
const KEY_LIFETIME: Duration = Duration::from_secs(15 * 60);

/// A caller of ECR's API.
pub struct Ecr {
    api: Api,
    source: CredentialSource,
    /// The registry, where it may be another account's than the caller's.
    registry: Option<AccountId>,
    key: Mutex<Option<(Instant, Credentials)>>,
}

/// How a repository is set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its ARN.
    pub arn: String,
    /// `MUTABLE`, …
    pub mutability: String,
    /// Patterns of tags that are excluded from that.
    pub exclusions: BTreeSet<String>,
    /// Whether pushed images are scanned.
    pub scan_on_push: bool,
    /// `AES256`, …
    pub encryption: String,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// Its policy.
    pub policy: Option<String>,
    /// Its lifecycle policy.
    pub lifecycle: Option<String>,
}

/// The images of a repository.
#[derive(Clone, Debug, Default)]
pub struct Images {
    /// What its tags point at.
    pub tags: HashMap<String, Digest>,
    /// Every image, tagged or not.
    pub digests: HashSet<Digest>,
}

impl Ecr {
    /// A caller with the credentials that the settings of `api` lead to.
    ///
    /// # Errors
    /// If there are none.
    pub fn new(api: Api, registry: Option<AccountId>) -> Result<Self, ApiError> {
        let source = api.credentials()?;
        Ok(Self { api, source, registry, key: Mutex::default() })
    }

    async fn credentials(&self) -> Result<Credentials, ApiError> {
        let mut key = self.key.lock().await;
        if let Some((since, credentials)) = &*key
            && since.elapsed() < KEY_LIFETIME
        {
            return Ok(credentials.clone());
        }
        let credentials = self.api.key_of(self.source.clone()).await?;
        *key = Some((Instant::now(), credentials.clone()));
        Ok(credentials)
    }

    /// A password for the registry. `patient`: a server that cannot be reached is asked again.
    ///
    /// # Errors
    /// If there is none.
    pub async fn password(&self, patient: bool) -> Result<Password, ApiError> {
        let mut attempt = 1;
        loop {
            let credentials = self.credentials().await?;
            match self.api.get_authorization_token(&credentials).await {
                Err(ApiError::Http(error)) if !patient => return Err(error.into()),
                Err(error) if attempt < ATTEMPTS && is_passing(&error) => pause(attempt, None).await,
                outcome => return outcome,
            }
            attempt += 1;
        }
    }

    /// Calls until there is an answer that another attempt would not change.
    async fn call(&self, operation: &'static str, input: &Value) -> Result<Value, ApiError> {
        let mut attempt = 1;
        loop {
            let credentials = self.credentials().await?;
            let outcome = self.api.call(&credentials, JsonService::Ecr, operation, input).await;
            match outcome {
                Err(error) if attempt < ATTEMPTS && is_passing(&error) => pause(attempt, None).await,
                outcome => return outcome,
            }
            attempt += 1;
        }
    }

    /// The same for an operation that names a registry.
    async fn of_registry(&self, operation: &'static str, mut input: Value) -> Result<Value, ApiError> {
        if let Some(account) = &self.registry {
            input["registryId"] = account.to_string().into();
        }
        self.call(operation, &input).await
    }

    /// All pages of a list.
    async fn pages(
        &self,
        operation: &'static str,
        mut input: Value,
        member: &str,
    ) -> Result<Vec<Value>, ApiError> {
        let mut all = Vec::new();
        loop {
            let mut page = self.of_registry(operation, input.clone()).await?;
            if let Value::Array(members) = page[member].take() {
                all.extend(members);
            }
            match page["nextToken"].take() {
                Value::String(token) => input["nextToken"] = token.into(),
                _ => return Ok(all),
            }
        }
    }

    /// Every repository: name, and what describes it.
    ///
    /// # Errors
    /// If the call fails.
    pub async fn repositories(&self) -> Result<Vec<(String, Value)>, ApiError> {
        let all = self.pages("DescribeRepositories", json!({"maxResults": 100}), "repositories").await?;
        let named = |repository: Value| Some((repository["repositoryName"].as_str()?.to_owned(), repository));
        Ok(all.into_iter().filter_map(named).collect())
    }

    /// What describes a repository; `None` if there is none of that name.
    ///
    /// # Errors
    /// If the call fails.
    pub async fn repository(&self, name: &str) -> Result<Option<Value>, ApiError> {
        let input = json!({"repositoryNames": [name]});
        let found =
            absent(self.of_registry("DescribeRepositories", input).await, "RepositoryNotFoundException")?;
        Ok(found.map(|mut found| found["repositories"][0].take()))
    }

    /// The settings of a repository that was described.
    ///
    /// # Errors
    /// If a call fails.
    pub async fn settings(&self, repository: &Value) -> Result<Settings, ApiError> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (name, arn) = (text(&repository["repositoryName"]), text(&repository["repositoryArn"]));
        let tags = self.call("ListTagsForResource", &json!({"resourceArn": arn})).await?;
        let tag = |tag: &Value| Some((tag["Key"].as_str()?.to_owned(), text(&tag["Value"])));
        let named = json!({"repositoryName": name});
        let policy = self.of_registry("GetRepositoryPolicy", named.clone()).await;
        let policy = absent(policy, "RepositoryPolicyNotFoundException")?;
        let lifecycle = self.of_registry("GetLifecyclePolicy", named).await;
        let lifecycle = absent(lifecycle, "LifecyclePolicyNotFoundException")?;
        let exclusions = repository["imageTagMutabilityExclusionFilters"].as_array();
        Ok(Settings {
            arn,
            mutability: repository["imageTagMutability"].as_str().unwrap_or("MUTABLE").to_owned(),
            exclusions: exclusions.into_iter().flatten().map(|filter| text(&filter["filter"])).collect(),
            scan_on_push: repository["imageScanningConfiguration"]["scanOnPush"] == true,
            encryption: repository["encryptionConfiguration"]["encryptionType"]
                .as_str()
                .unwrap_or("AES256")
                .to_owned(),
            tags: tags["tags"].as_array().into_iter().flatten().filter_map(tag).collect(),
            policy: policy.map(|policy| text(&policy["policyText"])),
            lifecycle: lifecycle.map(|lifecycle| text(&lifecycle["lifecyclePolicyText"])),
        })
    }

    /// Creates a repository; one that is there already is as good.
    ///
    /// # Errors
    /// If the call fails.
    pub async fn create(
        &self,
        name: &str,
        settings: Option<&Settings>,
        kms_key: Option<&str>,
    ) -> Result<(), ApiError> {
        let mut input = json!({"repositoryName": name});
        if let Some(settings) = settings {
            input["imageTagMutability"] = settings.mutability.clone().into();
            if !settings.exclusions.is_empty() {
                input["imageTagMutabilityExclusionFilters"] = settings.filters();
            }
            input["imageScanningConfiguration"] = json!({"scanOnPush": settings.scan_on_push});
            input["encryptionConfiguration"] = json!({"encryptionType": settings.encryption});
            if let Some(key) = kms_key.filter(|_| settings.encryption != "AES256") {
                input["encryptionConfiguration"]["kmsKey"] = key.into();
            }
            if !settings.tags.is_empty() {
                input["tags"] = tag_list(&settings.tags);
            }
        }
        absent(self.of_registry("CreateRepository", input).await, "RepositoryAlreadyExistsException")?;
        Ok(())
    }

    /// Whether tags may move, as in `settings`.
    ///
    /// # Errors
    /// If the call fails.
    pub async fn put_mutability(&self, name: &str, settings: &Settings) -> Result<Value, ApiError> {
        let mut input = json!({"repositoryName": name, "imageTagMutability": settings.mutability});
        if !settings.exclusions.is_empty() {
            input["imageTagMutabilityExclusionFilters"] = settings.filters();
        }
        self.of_registry("PutImageTagMutability", input).await
    }

    /// Makes a repository what `wanted` says, as far as `there` differs; what only the destination has stays. In words,
    /// what could not be set.
    pub async fn apply(&self, name: &str, wanted: &Settings, there: &Settings) -> Vec<String> {
        let mut failures = Vec::new();
        let mut note = |what: &str, outcome: Result<Value, ApiError>| {
            if let Err(error) = outcome {
                failures.push(format!("{what} was not set: {:#}", anyhow::Error::from(error)));
            }
        };
        if (&wanted.mutability, &wanted.exclusions) != (&there.mutability, &there.exclusions) {
            note("mutability", self.put_mutability(name, wanted).await);
        }
        if wanted.scan_on_push != there.scan_on_push {
            let scan = json!({"scanOnPush": wanted.scan_on_push});
            let input = json!({"repositoryName": name, "imageScanningConfiguration": scan});
            note("scan on push", self.of_registry("PutImageScanningConfiguration", input).await);
        }
        if wanted.missing_tags(there).next().is_some() {
            let input = json!({"resourceArn": there.arn, "tags": tag_list(&wanted.tags)});
            note("tags", self.call("TagResource", &input).await);
        }
        if let Some(lifecycle) = &wanted.lifecycle
            && !same_document(Some(lifecycle), there.lifecycle.as_ref())
        {
            let input = json!({"repositoryName": name, "lifecyclePolicyText": lifecycle});
            note("lifecycle policy", self.of_registry("PutLifecyclePolicy", input).await);
        }
        if let Some(policy) = &wanted.policy
            && !same_document(Some(policy), there.policy.as_ref())
        {
            // Last and by force: it may be one that shuts this caller out.
            let input = json!({"repositoryName": name, "policyText": policy, "force": true});
            note("repository policy", self.of_registry("SetRepositoryPolicy", input).await);
        }
        failures
    }

    /// The images of a repository that can be pulled.
    ///
    /// # Errors
    /// If a call fails.
    pub async fn images(&self, name: &str) -> Result<Images, ApiError> {
        let mut images = Images::default();
        let input = json!({"repositoryName": name, "maxResults": 1000});
        for image in self.pages("ListImages", input, "imageIds").await? {
            let Some(digest) = image["imageDigest"].as_str().and_then(|digest| digest.parse().ok()) else {
                continue;
            };
            images.digests.insert(digest);
            if let Some(tag) = image["imageTag"].as_str() {
                images.tags.insert(tag.to_owned(), digest);
            }
        }
        Ok(images)
    }

    /// How many images of a repository are archived, so that nobody can pull them.
    ///
    /// # Errors
    /// If a call fails.
    pub async fn archived(&self, name: &str) -> Result<usize, ApiError> {
        let filter = json!({"imageStatus": "ARCHIVED"});
        let input = json!({"repositoryName": name, "maxResults": 1000, "filter": filter});
        let images = self.pages("ListImages", input, "imageIds").await?;
        let digests: HashSet<_> = images.iter().map(|image| image["imageDigest"].as_str()).collect();
        Ok(digests.len())
    }

    /// The policy of the registry, if it has one.
    ///
    /// # Errors
    /// If the call fails.
    pub async fn registry_policy(&self) -> Result<Option<String>, ApiError> {
        let found =
            absent(self.call("GetRegistryPolicy", &json!({})).await, "RegistryPolicyNotFoundException")?;
        Ok(found.and_then(|found| Some(found["policyText"].as_str()?.to_owned())))
    }

    /// Sets the policy of the registry.
    ///
    /// # Errors
    /// If the call fails.
    pub async fn put_registry_policy(&self, policy: &str) -> Result<(), ApiError> {
        self.call("PutRegistryPolicy", &json!({"policyText": policy})).await.map(drop)
    }
}

impl Settings {
    fn filters(&self) -> Value {
        self.exclusions.iter().map(|filter| json!({"filterType": "WILDCARD", "filter": filter})).collect()
    }

    /// The tags that another repository lacks, or has another value of.
    fn missing_tags<'a>(&'a self, there: &'a Self) -> impl Iterator<Item = &'a str> {
        self.tags.iter().filter(|(key, value)| there.tags.get(*key) != Some(value)).map(|(key, _)| &**key)
    }

    /// In words, where the destination is not as `self`.
    pub fn differences(&self, there: &Self) -> Vec<String> {
        let mut all = Vec::new();
        let mut compare = |what: &str, here: String, there: String| {
            if here != there {
                all.push(format!("{what} is {there} instead of {here}"));
            }
        };
        compare("mutability", self.mutability.clone(), there.mutability.clone());
        compare("mutability exclusion", format!("{:?}", self.exclusions), format!("{:?}", there.exclusions));
        compare("scan on push", self.scan_on_push.to_string(), there.scan_on_push.to_string());
        compare("encryption", self.encryption.clone(), there.encryption.clone());
        all.extend(self.missing_tags(there).map(|key| format!("tag `{key}` of the repository differs")));
        for (what, here, there) in [
            ("repository policy", &self.policy, &there.policy),
            ("lifecycle policy", &self.lifecycle, &there.lifecycle),
        ] {
            if here.is_some() && !same_document(here.as_ref(), there.as_ref()) {
                all.push(format!("{what} is {}", if there.is_some() { "another" } else { "missing" }));
            }
        }
        all
    }
}

/// Whether two policies say the same: servers write them down in their own way.
pub fn same_document(one: Option<&String>, other: Option<&String>) -> bool {
    let read = |text: Option<&String>| -> Option<Value> {
        Some(singular(serde_json::from_str(text?).unwrap_or_else(|_| text.cloned().into())))
    };
    read(one) == read(other)
}

/// The document with every list of one written as that one.
fn singular(value: Value) -> Value {
    match value {
        Value::Array(mut list) if list.len() == 1 => singular(list.remove(0)),
        Value::Array(list) => list.into_iter().map(singular).collect(),
        Value::Object(object) => {
            let members = object.into_iter().map(|(name, value)| (name, singular(value)));
            Value::Object(members.collect::<Map<_, _>>())
        }
        other => other,
    }
}

fn tag_list(tags: &BTreeMap<String, String>) -> Value {
    tags.iter().map(|(key, value)| json!({"Key": key, "Value": value})).collect()
}

/// `None` where the answer is this error.
fn absent(outcome: Result<Value, ApiError>, wanted: &str) -> Result<Option<Value>, ApiError> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(ApiError::Refused { code, .. }) if code == wanted => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_passing(error: &ApiError) -> bool {
    match error {
        ApiError::Refused { code, .. } => matches!(
            &**code,
            "ThrottlingException"
                | "Throttling"
                | "ServerException"
                | "InternalFailure"
                | "ServiceUnavailable"
        ),
        ApiError::Strange { status, .. } => *status == 429 || *status >= 500,
        ApiError::Http(error) => error.is_passing(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            arn: "arn".to_owned(),
            mutability: "MUTABLE".to_owned(),
            exclusions: BTreeSet::new(),
            scan_on_push: false,
            encryption: "AES256".to_owned(),
            tags: BTreeMap::from([("team".to_owned(), "a".to_owned())]),
            policy: Some(r#"{"Statement": [{"Action": ["ecr:*"]}]}"#.to_owned()),
            lifecycle: None,
        }
    }

    #[test]
    fn settings_differ_in_what_they_say_and_not_how() {
        let mut there = settings();
        there.arn = "another".to_owned();
        there.policy = Some("{\n  \"Statement\" : { \"Action\" : \"ecr:*\" }\n}".to_owned());
        there.lifecycle = Some("{}".to_owned());
        there.tags.insert("more".to_owned(), "b".to_owned());
        assert_eq!(settings().differences(&there), [""; 0]);
        there.mutability = "IMMUTABLE".to_owned();
        there.tags.insert("team".to_owned(), "b".to_owned());
        there.policy = None;
        assert_eq!(
            settings().differences(&there),
            [
                "mutability is IMMUTABLE instead of MUTABLE",
                "tag `team` of the repository differs",
                "repository policy is missing"
            ]
        );
    }
}
