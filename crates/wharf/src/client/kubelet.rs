//! `wharf kubelet-credential-provider`: the kubelet's exec plugin protocol, `credentialprovider.kubelet.k8s.io/v1`.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use wharf_iam::sigv4::Secret;
use wharf_types::Timestamp;

use super::api::{Api, Password};
use super::arguments::KubeletCredentialProvider;
use super::environment::Environment;
use super::registry_host::RegistryHost;

const VERSION: &str = "credentialprovider.kubelet.k8s.io/v1";

/// Bytes of a request.
const LIMIT: u64 = 1 << 20;

/// What the kubelet asks. Members that later kubelets add are none of ours.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    api_version: String,
    kind: String,
    image: String,
    #[serde(default)]
    service_account_token: Option<String>,
    #[serde(default)]
    service_account_annotations: Option<BTreeMap<String, String>>,
}

/// What it is answered.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    api_version: &'static str,
    kind: &'static str,
    cache_key_type: &'static str,
    cache_duration: String,
    /// None: nothing can be said about this image.
    auth: Option<BTreeMap<String, AuthConfig>>,
}

#[derive(Serialize)]
struct AuthConfig {
    username: String,
    password: String,
}

/// Answers one request.
///
/// # Errors
/// If the request has another form, the role cannot be assumed, or there is no password; nothing is printed then.
pub async fn kubelet_credential_provider(
    arguments: KubeletCredentialProvider,
    environment: &Environment,
    input: impl Read,
    output: &mut impl Write,
) -> anyhow::Result<()> {
    let request = read(input)?;
    let response = match RegistryHost::of_image(&request.image) {
        None => respond(Duration::ZERO, None),
        Some(registry) => {
            let password = password(&request, &registry, arguments, environment).await?;
            let left = password.expires_at.as_micros().saturating_sub(Timestamp::now().as_micros());
            // Half of what is left, so that a pull which begins at the end of it has as long again.
            let cache = Duration::from_micros(u64::try_from(left).unwrap_or_default()) / 2;
            let auth =
                AuthConfig { username: password.user, password: password.password.expose().to_owned() };
            respond(cache, Some(BTreeMap::from([(registry.as_str().to_owned(), auth)])))
        }
    };
    writeln!(output, "{}", serde_json::to_string(&response)?)?;
    Ok(())
}

fn read(input: impl Read) -> anyhow::Result<Request> {
    let mut text = String::new();
    input.take(LIMIT).read_to_string(&mut text).context("cannot read the request")?;
    let request: Request = serde_json::from_str(&text).context("not a CredentialProviderRequest")?;
    if request.api_version != VERSION || request.kind != "CredentialProviderRequest" {
        bail!(
            "cannot answer a {} of {}: set apiVersion {VERSION} in the kubelet's CredentialProviderConfig",
            request.kind,
            request.api_version
        );
    }
    if request.image.is_empty() {
        bail!("the request names no image");
    }
    Ok(request)
}

async fn password(
    request: &Request,
    registry: &RegistryHost,
    arguments: KubeletCredentialProvider,
    environment: &Environment,
) -> anyhow::Result<Password> {
    let KubeletCredentialProvider { connection, role_arn, role_annotation } = arguments;
    let api = Api::new(environment, &connection.into(), Some(registry))?;
    let token = request.service_account_token.as_deref().filter(|token| !token.is_empty());
    let Some(token) = token else { return Ok(api.password(api.credentials()?).await?) };
    // A pod that has an identity does not get the node's instead.
    let annotated = request.service_account_annotations.as_ref().and_then(|all| all.get(&role_annotation));
    let Some(role) = annotated.cloned().or(role_arn) else {
        bail!("the service account has no annotation {role_annotation}, and no --role-arn is given");
    };
    let credentials = api.assume_role_with_web_identity(&role, &Secret::new(token), None).await?;
    Ok(api.get_authorization_token(&credentials).await?)
}

fn respond(cache: Duration, auth: Option<BTreeMap<String, AuthConfig>>) -> Response {
    Response {
        api_version: VERSION,
        kind: "CredentialProviderResponse",
        // A password is the caller's, for every repository of the registry.
        cache_key_type: if auth.is_some() { "Registry" } else { "Image" },
        cache_duration: format!("{}s", cache.as_secs()),
        auth,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    async fn ask(request: &str) -> Result<Value, String> {
        let arguments = KubeletCredentialProvider {
            connection: crate::client::arguments::Connection::default(),
            role_arn: None,
            role_annotation: "eks.amazonaws.com/role-arn".to_owned(),
        };
        let mut output = Vec::new();
        let done =
            kubelet_credential_provider(arguments, &Environment::default(), request.as_bytes(), &mut output)
                .await;
        match done {
            Ok(()) => Ok(serde_json::from_slice(&output).unwrap()),
            Err(error) => {
                assert!(output.is_empty(), "an error with an answer");
                Err(format!("{error:#}"))
            }
        }
    }

    fn request(image: &str) -> Value {
        json!({"apiVersion": VERSION, "kind": "CredentialProviderRequest", "image": image})
    }

    #[tokio::test]
    async fn images_without_a_registry_get_nothing() {
        let expected = json!({
            "apiVersion": "credentialprovider.kubelet.k8s.io/v1", "kind": "CredentialProviderResponse",
            "cacheKeyType": "Image", "cacheDuration": "0s", "auth": null
        });
        assert_eq!(ask(&request("library/debian:12").to_string()).await.unwrap(), expected);
    }

    #[tokio::test]
    async fn bad_requests_are_refused_in_words() {
        let with = |name: &str, value: Value| {
            let mut request = request("127.0.0.1:1/a");
            request[name] = value;
            request.to_string()
        };
        for (request, words) in [
            ("".to_owned(), "not a CredentialProviderRequest"),
            ("[]".to_owned(), "not a CredentialProviderRequest"),
            (with("apiVersion", json!("credentialprovider.kubelet.k8s.io/v1alpha1")), "set apiVersion"),
            (with("kind", json!("Pod")), "cannot answer a Pod"),
            (with("image", json!("")), "names no image"),
            (with("serviceAccountToken", json!("t")), "has no annotation eks.amazonaws.com/role-arn"),
            (with("serviceAccountToken", json!("")), "no AWS credentials"),
        ] {
            let error = ask(&request).await.unwrap_err();
            assert!(error.contains(words), "{request}: {error}");
        }
    }
}
