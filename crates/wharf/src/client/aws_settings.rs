//! Access keys, region and endpoint as the AWS CLI finds them: variables, then `~/.aws/credentials` and
//! `~/.aws/config`. Single sign-on, `credential_process` and chained roles are the AWS CLI's own; it hands them on by
//! `aws configure export-credentials`.

use std::fmt;
use std::path::PathBuf;

use wharf_iam::sigv4::Secret;
use wharf_types::Region;

use super::environment::Environment;
use super::ini::Ini;
use super::replace::{self, FileError};

/// An access key.
#[derive(Clone)]
pub struct Credentials {
    /// Its id.
    pub access_key_id: String,
    /// Its secret.
    pub secret: Secret,
    /// What a temporary one comes with.
    pub session_token: Option<Secret>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({})", self.access_key_id)
    }
}

/// Where credentials come from.
#[derive(Clone, Debug)]
pub enum CredentialSource {
    /// They are there.
    Key(Credentials),
    /// A role is assumed with a token that an identity provider wrote to a file.
    WebIdentity(WebIdentity),
}

/// What a role is assumed with.
#[derive(Clone, Debug)]
pub struct WebIdentity {
    /// The role.
    pub role_arn: String,
    /// Where the token is.
    pub token_file: PathBuf,
    /// What the session is called, if the user says.
    pub session_name: Option<String>,
}

/// Why there are no settings to work with.
#[derive(Debug, thiserror::Error)]
pub enum AwsSettingsError {
    /// Nothing was found.
    #[error(
        "no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile (--profile, AWS_PROFILE)"
    )]
    NoCredentials,
    /// A profile that was asked for is in neither file.
    #[error("there is no profile `{0}` in the files of the AWS CLI")]
    NoProfile(String),
    /// Half a key.
    #[error("{place} has {there} but no {missing}")]
    Incomplete {
        /// Where.
        place: String,
        /// What is there.
        there: &'static str,
        /// What is not.
        missing: &'static str,
    },
    /// A profile whose credentials only the AWS CLI can get.
    #[error(
        "profile `{profile}` gets its credentials by `{key}`, which is left to the AWS CLI: \
         eval \"$(aws configure export-credentials --profile {profile} --format env)\""
    )]
    Elsewhere {
        /// The profile.
        profile: String,
        /// What it has.
        key: &'static str,
    },
    /// A region that is none.
    #[error("`{0}` is no region")]
    Region(String),
    /// A file could not be read.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Keys of a profile that say that somebody else has the credentials.
const ELSEWHERE: [&str; 5] =
    ["sso_session", "sso_start_url", "credential_process", "source_profile", "credential_source"];

/// What the user's variables and files say.
#[derive(Clone, Debug)]
pub struct AwsSettings {
    environment: Environment,
    config: Ini,
    credentials: Ini,
    profile: String,
    /// Whether the profile was asked for on the command line, so that keys in variables do not count.
    explicit: bool,
}

impl AwsSettings {
    /// Reads the files. `profile`: the one asked for, before `AWS_PROFILE`.
    ///
    /// # Errors
    /// If a file that is there cannot be read, or the profile is in none of them.
    pub fn read(environment: &Environment, profile: Option<&str>) -> Result<Self, AwsSettingsError> {
        let file = |path: Option<PathBuf>| -> Result<Ini, FileError> {
            let text = path.map(|path| replace::read(&path)).transpose()?.flatten();
            Ok(Ini::parse(&text.unwrap_or_default()))
        };
        let named = profile.or_else(|| environment.get("AWS_PROFILE"));
        let settings = Self {
            config: file(environment.aws_config())?,
            credentials: file(environment.aws_credentials())?,
            profile: named.unwrap_or("default").to_owned(),
            explicit: profile.is_some(),
            environment: environment.clone(),
        };
        let name = &settings.profile;
        if named.is_some() && !settings.config.has(&config_section(name)) && !settings.credentials.has(name) {
            return Err(AwsSettingsError::NoProfile(name.clone()));
        }
        Ok(settings)
    }

    /// The credentials, or what is to be done for them.
    ///
    /// # Errors
    /// If there are none, or only half of one.
    pub fn credentials(&self) -> Result<CredentialSource, AwsSettingsError> {
        if !self.explicit {
            let variable = |name: &'static str| self.environment.get(name);
            let place = || "the environment".to_owned();
            let names = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];
            if let Some(key) = key(variable, names, place)? {
                return Ok(CredentialSource::Key(key));
            }
            if let (Some(file), Some(role)) =
                (variable("AWS_WEB_IDENTITY_TOKEN_FILE"), variable("AWS_ROLE_ARN"))
            {
                return Ok(self.web_identity(role, file, variable("AWS_ROLE_SESSION_NAME")));
            }
        }
        let place = || format!("profile `{}`", self.profile);
        let names = ["aws_access_key_id", "aws_secret_access_key", "aws_session_token"];
        let section = config_section(&self.profile);
        let of_keys = key(|name| self.credentials.get(&self.profile, name), names, place)?;
        let of_config = || key(|name| self.config.get(&section, name), names, place);
        if let Some(found) = of_keys.map_or_else(of_config, |found| Ok(Some(found)))? {
            return Ok(CredentialSource::Key(found));
        }
        let value = |name| self.of_profile(name);
        if let (Some(file), Some(role)) = (value("web_identity_token_file"), value("role_arn")) {
            return Ok(self.web_identity(role, file, value("role_session_name")));
        }
        if let Some(key) = ELSEWHERE.into_iter().find(|key| value(key).is_some()) {
            return Err(AwsSettingsError::Elsewhere { profile: self.profile.clone(), key });
        }
        Err(AwsSettingsError::NoCredentials)
    }

    fn web_identity(&self, role: &str, file: &str, session: Option<&str>) -> CredentialSource {
        CredentialSource::WebIdentity(WebIdentity {
            role_arn: role.to_owned(),
            token_file: file.into(),
            session_name: session.map(str::to_owned),
        })
    }

    /// The region, if one is set.
    ///
    /// # Errors
    /// If it is none.
    pub fn region(&self) -> Result<Option<Region>, AwsSettingsError> {
        let set = self.environment.get("AWS_REGION").or_else(|| self.environment.get("AWS_DEFAULT_REGION"));
        let parse = |text: &str| text.parse().map_err(|_| AwsSettingsError::Region(text.to_owned()));
        set.or_else(|| self.of_profile("region")).map(parse).transpose()
    }

    /// The URL of a service (`ecr`, `sts`), if one is set.
    pub fn endpoint_url(&self, service: &str) -> Option<&str> {
        let flag = |text: &str| text.eq_ignore_ascii_case("true");
        let ignored = self.environment.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS").is_some_and(flag);
        if ignored || self.of_profile("ignore_configured_endpoint_urls").is_some_and(flag) {
            return None;
        }
        let specific = format!("AWS_ENDPOINT_URL_{}", service.to_ascii_uppercase());
        let services = || {
            let section = format!("services {}", self.of_profile("services")?);
            self.config.get_nested(&section, service, "endpoint_url").filter(|url| !url.is_empty())
        };
        self.environment
            .get(&specific)
            .or_else(|| self.environment.get("AWS_ENDPOINT_URL"))
            .or_else(services)
            .or_else(|| self.of_profile("endpoint_url"))
    }

    /// The file of certificates to trust beside the system's.
    pub fn ca_bundle(&self) -> Option<PathBuf> {
        self.environment.get("AWS_CA_BUNDLE").or_else(|| self.of_profile("ca_bundle")).map(PathBuf::from)
    }

    fn of_profile(&self, key: &str) -> Option<&str> {
        let value = self.config.get(&config_section(&self.profile), key);
        value.or_else(|| self.credentials.get(&self.profile, key)).filter(|value| !value.is_empty())
    }
}

/// How the configuration file calls a profile.
pub fn config_section(profile: &str) -> String {
    if profile == "default" { profile.to_owned() } else { format!("profile {profile}") }
}

/// A key made of three values: id, secret, token.
fn key<'a>(
    value: impl Fn(&'static str) -> Option<&'a str>,
    [id, secret, token]: [&'static str; 3],
    place: impl Fn() -> String,
) -> Result<Option<Credentials>, AwsSettingsError> {
    let value = |name| value(name).filter(|value| !value.is_empty());
    let incomplete = |there, missing| AwsSettingsError::Incomplete { place: place(), there, missing };
    match (value(id), value(secret)) {
        (None, None) => Ok(None),
        (Some(_), None) => Err(incomplete(id, secret)),
        (None, Some(_)) => Err(incomplete(secret, id)),
        (Some(id), Some(secret)) => Ok(Some(Credentials {
            access_key_id: id.to_owned(),
            secret: Secret::new(secret),
            session_token: value(token).map(Secret::new),
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "\
[default]
region = eu-west-1
[profile ci]
role_arn = arn:aws:iam::123456789012:role/ci
web_identity_token_file = /run/token
[profile sso]
sso_session = company
[profile half]
aws_access_key_id = AKIAHALF
[profile wharf]
region = us-east-2
endpoint_url = http://127.0.0.1:1
services = wharf
ca_bundle = /ca.pem
[services wharf]
ecr =
  endpoint_url = http://127.0.0.1:2
";
    const KEYS: &str = "\
[default]
aws_access_key_id = AKIADEFAULT
aws_secret_access_key = one
[wharf]
aws_access_key_id = ASIAWHARF
aws_secret_access_key = two
aws_session_token = three
";

    fn settings(
        more: &[(&str, &str)],
        profile: Option<&str>,
    ) -> (tempfile::TempDir, Result<AwsSettings, AwsSettingsError>) {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            std::fs::write(directory.path().join(name), text).unwrap();
            directory.path().join(name).to_str().unwrap().to_owned()
        };
        let (config, keys) = (write("config", CONFIG), write("credentials", KEYS));
        let mut file =
            Environment::from([("AWS_CONFIG_FILE", &*config), ("AWS_SHARED_CREDENTIALS_FILE", &*keys)]);
        file.extend(more);
        let settings = AwsSettings::read(&file, profile);
        (directory, settings)
    }

    fn key_of(more: &[(&str, &str)], profile: Option<&str>) -> Result<Credentials, String> {
        match settings(more, profile).1.and_then(|settings| settings.credentials()) {
            Ok(CredentialSource::Key(key)) => Ok(key),
            Ok(other) => Err(format!("{other:?}")),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn variables_win_over_files_unless_a_profile_is_asked_for() {
        let both = [("AWS_ACCESS_KEY_ID", "AKIAENV"), ("AWS_SECRET_ACCESS_KEY", "s")];
        assert_eq!(key_of(&both, None).unwrap().access_key_id, "AKIAENV");
        let temporary = key_of(&both, Some("wharf")).unwrap();
        assert_eq!((temporary.access_key_id.as_str(), temporary.secret.expose()), ("ASIAWHARF", "two"));
        assert!(temporary.session_token.as_ref().is_some_and(|token| token.matches("three")));
        assert_eq!(key_of(&[], None).unwrap().access_key_id, "AKIADEFAULT");
        assert_eq!(key_of(&[("AWS_PROFILE", "wharf")], None).unwrap().access_key_id, "ASIAWHARF");
        assert!(!format!("{temporary:?}").contains("two"));
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = |more: &[(&str, &str)], profile| key_of(more, profile).unwrap_err();
        assert!(error(&[], Some("none")).contains("no profile `none`"));
        assert_eq!(
            error(&[], Some("half")),
            "profile `half` has aws_access_key_id but no aws_secret_access_key"
        );
        assert_eq!(
            error(&[("AWS_SECRET_ACCESS_KEY", "s")], None),
            "the environment has AWS_SECRET_ACCESS_KEY but no AWS_ACCESS_KEY_ID"
        );
        assert!(error(&[], Some("sso")).contains("by `sso_session`"));
        let empty = AwsSettings::read(&Environment::default(), None).unwrap().credentials().unwrap_err();
        assert!(matches!(empty, AwsSettingsError::NoCredentials));
        let region = settings(&[("AWS_REGION", "no region")], None).1.unwrap().region().unwrap_err();
        assert_eq!(region.to_string(), "`no region` is no region");
    }

    #[test]
    fn a_role_is_assumed_with_a_token_from_a_file() {
        let web = |more: &[(&str, &str)], profile| match settings(more, profile).1.unwrap().credentials() {
            Ok(CredentialSource::WebIdentity(web)) => (web.role_arn, web.token_file, web.session_name),
            other => panic!("{other:?}"),
        };
        let role = "arn:aws:iam::123456789012:role/ci".to_owned();
        assert_eq!(web(&[], Some("ci")), (role.clone(), "/run/token".into(), None));
        let variables =
            [("AWS_ROLE_ARN", &*role), ("AWS_WEB_IDENTITY_TOKEN_FILE", "/t"), ("AWS_ROLE_SESSION_NAME", "n")];
        assert_eq!(web(&variables, None), (role.clone(), "/t".into(), Some("n".into())));
    }

    #[test]
    fn endpoints_come_from_the_most_particular_place() {
        let url = |more: &[(&str, &str)], service: &str| {
            settings(more, Some("wharf")).1.unwrap().endpoint_url(service).map(str::to_owned)
        };
        assert_eq!(url(&[], "ecr").as_deref(), Some("http://127.0.0.1:2"));
        assert_eq!(url(&[], "sts").as_deref(), Some("http://127.0.0.1:1"));
        assert_eq!(url(&[("AWS_ENDPOINT_URL", "http://e")], "ecr").as_deref(), Some("http://e"));
        let both = [("AWS_ENDPOINT_URL", "http://e"), ("AWS_ENDPOINT_URL_ECR", "http://s")];
        assert_eq!(url(&both, "ecr").as_deref(), Some("http://s"));
        assert_eq!(url(&[("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")], "ecr"), None);
        let wharf = settings(&[], Some("wharf")).1.unwrap();
        assert_eq!(wharf.region().unwrap().unwrap().as_str(), "us-east-2");
        assert_eq!(wharf.ca_bundle(), Some("/ca.pem".into()));
    }
}
