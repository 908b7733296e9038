//! Whom a report goes to: the owner of the data directory, or a server far away.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};
use wharf_types::{AccountId, Digest, Timestamp};

use super::arguments::Registry;
use crate::admin::{AdminRequest, Text};
use crate::client::{Api, Asked, Environment, JsonService};
use crate::command::{self, Bar};
use crate::settings::Settings;

/// Whom to tell.
pub enum Target<'a> {
    /// The owner of the data directory.
    Here(&'a Settings, Option<AccountId>),
    /// A server, as a user of its API.
    There(Box<Api>),
}

impl<'a> Target<'a> {
    /// The server that is named, else this machine's.
    ///
    /// # Errors
    /// If the server's URL or the AWS settings are wrong.
    pub fn of(settings: &'a Settings, registry: &Registry) -> anyhow::Result<Self> {
        let Some(url) = &registry.endpoint else { return Ok(Self::Here(settings, registry.account)) };
        let asked = Asked {
            profile: registry.profile.clone(),
            endpoint_url: Some(url.clone()),
            region: registry.region.clone(),
        };
        Ok(Self::There(Box::new(Api::new(&Environment::of_process(), &asked, None)?)))
    }

    /// Reports some images; answers until when that counts.
    ///
    /// # Errors
    /// If the registry does not take it.
    pub async fn report(
        &self,
        holder: &str,
        digests: &[Digest],
        lifetime: Duration,
    ) -> anyhow::Result<Value> {
        match self {
            Self::Here(settings, account) => {
                let request = AdminRequest::InUseReport {
                    account: account.map(Text),
                    holder: holder.to_owned(),
                    digests: digests.iter().copied().map(Text).collect(),
                    lifetime_ms: u64::try_from(lifetime.as_millis())?,
                };
                let mut done = command::run(settings, request, Bar::new(false)).await?;
                Ok(done["expires_at"].take())
            }
            Self::There(api) => {
                let digests: Vec<String> = digests.iter().map(Digest::to_string).collect();
                let seconds = lifetime.as_secs();
                let input = json!({"holder": holder, "imageDigests": digests, "lifetimeSeconds": seconds});
                let done = call(api, "ReportImagesInUse", &input).await?;
                let until =
                    done["expiresAt"].as_f64().context("the answer does not tell when the report ends")?;
                let until = Duration::try_from_secs_f64(until)?;
                Ok(Timestamp::from_micros(0).plus(until).to_rfc3339().into())
            }
        }
    }

    /// Takes reports of a holder back, of all images if none are given; answers how many there were.
    ///
    /// # Errors
    /// If the registry does not take it.
    pub async fn release(&self, holder: &str, digests: Option<&[Digest]>) -> anyhow::Result<u64> {
        let (done, member) = match self {
            Self::Here(settings, account) => {
                let request = AdminRequest::InUseRelease {
                    account: account.map(Text),
                    holder: holder.to_owned(),
                    digests: digests.map(|digests| digests.iter().copied().map(Text).collect()),
                };
                (command::run(settings, request, Bar::new(false)).await?, "released")
            }
            Self::There(api) => {
                let mut input = json!({ "holder": holder });
                if let Some(digests) = digests {
                    input["imageDigests"] = digests.iter().map(Digest::to_string).collect();
                }
                (call(api, "ReleaseImagesInUse", &input).await?, "releasedImageCount")
            }
        };
        done[member].as_u64().context("the answer does not tell how many reports there were")
    }

    /// What is reported to run: a list of digests with their holders.
    ///
    /// # Errors
    /// If the registry does not tell.
    pub async fn list(&self) -> anyhow::Result<Value> {
        match self {
            Self::Here(settings, account) => {
                let request = AdminRequest::InUseList { account: account.map(Text) };
                command::run(settings, request, Bar::new(false)).await
            }
            Self::There(api) => {
                let (mut found, mut input) = (Vec::new(), json!({"maxResults": 1000}));
                loop {
                    let mut answer = call(api, "ListImagesInUse", &input).await?;
                    let images = answer["images"].as_array().context("the answer has no images")?;
                    let row =
                        |image: &Value| json!({"digest": image["imageDigest"], "holders": image["holders"]});
                    found.extend(images.iter().map(row));
                    input["nextToken"] = answer["nextToken"].take();
                    if input["nextToken"].is_null() {
                        return Ok(Value::Array(found));
                    }
                }
            }
        }
    }
}

/// Calls with the credentials of this moment: an agent outlives a session.
async fn call(api: &Api, operation: &'static str, input: &Value) -> anyhow::Result<Value> {
    let credentials = api.key_of(api.credentials()?).await?;
    Ok(api.call(&credentials, JsonService::Wharf, operation, input).await?)
}
