//! The table of settings: names, defaults and one line of help each. Flags, environment variables, the file's keys,
//! `wharf config` and the documentation all come from here.

use wharf_store::meta::PostgresUrl;

/// How a setting's value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Free text; empty means not set.
    Text,
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Number,
    /// Bytes: `4096`, `64KiB`, `4MiB`, `2GB`.
    Size,
    /// A time span: `500ms`, `30s`, `12h`, `7d`, `1h30m`.
    Duration,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// `name=value` pairs, a table in the file.
    Map,
}

/// One thing an operator can decide.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Name in the file, a dot per table.
    pub name: &'static str,
    /// How its value is written.
    pub kind: Kind,
    /// What holds when nobody says otherwise.
    pub default: &'static str,
    /// One line for `--help` and the documentation.
    pub help: &'static str,
}

impl Setting {
    /// The environment variable, e.g. `WHARF_LIMITS_MANIFEST_BYTES`.
    pub fn variable(&self) -> String {
        format!("WHARF_{}", self.name.replace('.', "_").to_uppercase())
    }

    /// The flag without its dashes, e.g. `limits-manifest-bytes`.
    pub fn flag(&self) -> String {
        self.name.replace(['.', '_'], "-")
    }

    /// A secret is taken from the environment only (files are copied, flags are seen by everybody on the machine) and
    /// is never shown.
    pub fn is_secret(&self) -> bool {
        self.name == "root_key"
    }

    /// What may be shown of a value that is no secret as a whole: a URL keeps its password to itself.
    pub fn presentable(&self, value: &str) -> String {
        match (self.name, value.parse::<PostgresUrl>()) {
            ("metadata", Ok(url)) => url.to_string(),
            ("metadata", Err(_)) if PostgresUrl::is_one(value) => "postgres://…".to_owned(),
            _ => value.to_owned(),
        }
    }

    /// Looks a setting up by its name in the file.
    pub fn find(name: &str) -> Option<&'static Setting> {
        SETTINGS.iter().find(|setting| setting.name == name)
    }
}

const fn setting(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Setting {
    Setting { name, kind, default, help }
}

/// Every setting, in the order in which they are shown.
pub const SETTINGS: &[Setting] = &[
    setting("data_dir", Kind::Text, "./wharf-data", "Directory that holds everything wharf keeps"),
    setting(
        "listen",
        Kind::Text,
        "127.0.0.1:5050",
        "Address and port to serve on; port 0 lets the system choose",
    ),
    setting(
        "domain",
        Kind::Text,
        "",
        "Domain below which <account>.dkr.ecr.<region>.<domain> names registries",
    ),
    setting("hosts", Kind::Map, "", "Extra host names: name=account/region, or name=public"),
    setting(
        "default_account",
        Kind::Text,
        "123456789012",
        "Account created first, and that of anonymous callers",
    ),
    setting("default_region", Kind::Text, "us-east-1", "Region of callers who name none"),
    setting(
        "bare_host_registry",
        Kind::Bool,
        "true",
        "On a host that names no registry, use the caller's own",
    ),
    setting(
        "anonymous_hosts",
        Kind::Text,
        "",
        "Hosts, separated by commas, where repository policies may let callers without credentials pull; * for all",
    ),
    setting(
        "trusted_proxies",
        Kind::Text,
        "",
        "Proxies whose X-Forwarded-For and -Proto are believed: addresses or blocks such as 10.0.0.0/8, with commas",
    ),
    setting("insecure_plain_http", Kind::Bool, "false", "Serve other machines without TLS"),
    setting(
        "tls",
        Kind::Choice(&["off", "self-signed", "files"]),
        "off",
        "Where the TLS certificate comes from",
    ),
    setting("tls_cert", Kind::Text, "", "PEM file with the certificate chain, reloaded when it changes"),
    setting("tls_key", Kind::Text, "", "PEM file with the certificate's private key"),
    setting(
        "log_format",
        Kind::Choice(&["human", "json"]),
        "human",
        "How the log on standard error is written",
    ),
    setting(
        "log_level",
        Kind::Text,
        "info",
        "error, warn, info, debug or trace, also per module: info,wharf_http=debug",
    ),
    setting("audit_log", Kind::Text, "off", "One record per call: a file, `log` for the log, or `off`"),
    setting(
        "oci.dialect",
        Kind::Choice(&["spec", "ecr"]),
        "spec",
        "Where ECR and the OCI specification differ: follow whom",
    ),
    setting(
        "oci.sparse_manifests",
        Kind::Bool,
        "false",
        "Take manifests that name layers or images which are not there; not in the ecr dialect",
    ),
    setting(
        "encryption",
        Kind::Choice(&["on", "off"]),
        "on",
        "Encrypt AES256 repositories at rest (KMS ones always are)",
    ),
    setting(
        "root_key",
        Kind::Text,
        "",
        "Root of the key ring, 32 bytes in base64, instead of a file; only in the environment",
    ),
    setting(
        "metadata",
        Kind::Text,
        "sqlite",
        "Where metadata is kept: sqlite, a file of the data directory, or postgres://user:password@host/database",
    ),
    setting("postgres.write_connections", Kind::Number, "8", "Connections to PostgreSQL for changes"),
    setting(
        "postgres.read_connections",
        Kind::Number,
        "8",
        "Connections to PostgreSQL for what requests look up",
    ),
    setting(
        "postgres.background_connections",
        Kind::Number,
        "2",
        "Connections to PostgreSQL for work that no request waits for",
    ),
    setting("postgres.connect_timeout", Kind::Duration, "5s", "Time to connect to PostgreSQL"),
    setting("postgres.statement_timeout", Kind::Duration, "30s", "Time for a statement in PostgreSQL"),
    setting("postgres.lock_timeout", Kind::Duration, "10s", "Time to wait for a lock in PostgreSQL"),
    setting(
        "blobs",
        Kind::Text,
        "disk",
        "Where blobs are kept: disk, or a bucket: s3://bucket/prefix?endpoint=…, gs://…, az://…",
    ),
    setting(
        "archive",
        Kind::Text,
        "",
        "Directory or bucket, cheaper, for content that only archived images need; empty leaves it where it is",
    ),
    setting(
        "archive_restore_on_pull",
        Kind::Bool,
        "false",
        "A pull of an archived image has it restored, and is told to come again",
    ),
    setting("token_ttl", Kind::Duration, "12h", "How long a registry password is valid"),
    setting(
        "oidc.jwks",
        Kind::Map,
        "",
        "Keys of OIDC issuers: https://issuer=file, or =URL; those of others are discovered",
    ),
    setting("limits.manifest_bytes", Kind::Size, "4MiB", "Largest manifest"),
    setting("limits.blob_bytes", Kind::Size, "52000MiB", "Largest layer"),
    setting("limits.header_bytes", Kind::Size, "64KiB", "Largest request head"),
    setting(
        "limits.header_timeout",
        Kind::Duration,
        "30s",
        "Time for a TLS handshake and for a request's head",
    ),
    setting(
        "limits.idle_timeout",
        Kind::Duration,
        "75s",
        "How long a connection without a request stays open",
    ),
    setting("limits.body_idle_timeout", Kind::Duration, "60s", "How long a transfer may stand still"),
    setting("limits.connections", Kind::Number, "4096", "Connections open at once; further ones wait"),
    setting("limits.upload_lifetime", Kind::Duration, "24h", "How long an unfinished upload can be resumed"),
    setting("limits.drain", Kind::Duration, "30s", "How long a stop waits for requests in flight"),
    setting(
        "throttle.enabled",
        Kind::Choice(&["auto", "on", "off"]),
        "auto",
        "Throttle API rates; auto means off on loopback",
    ),
    setting(
        "throttle.rates",
        Kind::Map,
        "GetAuthorizationToken=500,BatchGetImage=2000,GetDownloadUrlForLayer=3000,BatchCheckLayerAvailability=1000,\
         InitiateLayerUpload=100,UploadLayerPart=500,CompleteLayerUpload=100,PutImage=10",
        "Calls per second for each action, account and region; what is given replaces the default of that action",
    ),
    setting(
        "throttle.failed_authentications",
        Kind::Number,
        "300",
        "Failed authentications of one address in a minute, on loopback too; 0 for no limit",
    ),
    setting("quotas.repositories", Kind::Number, "100000", "Repositories of an account in a region"),
    setting(
        "quotas.images_per_repository",
        Kind::Number,
        "100000",
        "Images of a repository, referrers included",
    ),
    setting("quotas.tags_per_image", Kind::Number, "1000", "Tags of an image"),
    setting("storage.trash_window", Kind::Duration, "7d", "How long what was deleted can be restored"),
    setting(
        "storage.unreferenced_grace",
        Kind::Duration,
        "24h",
        "How long a layer that no image names is kept",
    ),
    setting(
        "storage.low_watermark",
        Kind::Text,
        "128MiB",
        "Refuse pushes when less space is free: bytes, or a percentage",
    ),
    setting(
        "gc.interval",
        Kind::Duration,
        "10m",
        "Pause between rounds of collection; 0s leaves it to `wharf gc`",
    ),
    setting("lifecycle.interval", Kind::Duration, "1h", "How often lifecycle policies are carried out"),
    setting(
        "lifecycle.extensions",
        Kind::Bool,
        "false",
        "Take `wharf` objects in lifecycle policies, which ECR would refuse",
    ),
    setting(
        "lifecycle.archive_min_days",
        Kind::Number,
        "90",
        "Fewest days that a lifecycle policy may leave an image in the archive",
    ),
    setting(
        "in_use.protect",
        Kind::Bool,
        "false",
        "Let clients delete no image that is reported to be in use",
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_variables_and_flags_are_distinct() {
        let variables: HashSet<_> = SETTINGS.iter().map(Setting::variable).collect();
        let flags: HashSet<_> = SETTINGS.iter().map(Setting::flag).collect();
        assert_eq!((variables.len(), flags.len()), (SETTINGS.len(), SETTINGS.len()));
        assert!(!variables.contains("WHARF_CONFIG"), "names the file itself");
        assert!(SETTINGS.iter().all(|setting| setting.help.len() > 8 && !setting.help.ends_with('.')));
    }
}
