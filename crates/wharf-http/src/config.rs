//! What the operator decides about the faces. Resolved from the settings by the program.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::host::HostConfig;
use crate::proxy::Network;

/// How the faces behave.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// Host names. The default account and region are the registry's own options.
    pub hosts: HostConfig,
    /// Whether clients reach this server by HTTPS although it does not speak TLS itself (a proxy does). Where it speaks
    /// TLS, URLs are `https` anyway.
    pub secure: bool,
    /// Proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed.
    pub trusted_proxies: Vec<Network>,
    /// Failed authentications of one address in a minute; 0 = no limit. See [`crate::failures`].
    pub failed_authentications: u32,
    /// Request rates.
    pub throttle: ThrottleConfig,
    /// Memory and time that requests may take.
    pub limits: RequestLimits,
    /// Where audit records go.
    pub audit: AuditSink,
}

/// Request rates; see [`crate::throttle`].
#[derive(Clone, Debug, Default)]
pub struct ThrottleConfig {
    /// Off unless set.
    pub enabled: bool,
    /// Calls per second of an action (`PutImage`), for each account and region. Actions not named are not limited.
    pub rates: HashMap<String, f64>,
    /// The share of an account's rate that one principal may use, 0 to 1; 1 = all of it.
    pub principal_share: f64,
}

/// Memory and time that requests may take.
#[derive(Clone, Copy, Debug)]
pub struct RequestLimits {
    /// Bytes of request bodies that may be buffered at once before their signatures are verified, all together.
    pub unauthenticated_bytes: usize,
    /// How long a transfer may stand still.
    pub body_idle: Duration,
}

/// Where audit records go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AuditSink {
    /// Nowhere.
    #[default]
    Off,
    /// To the log, target `wharf_http::audit`.
    Log,
    /// To a file, one JSON object per line, appended.
    File(PathBuf),
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self { unauthenticated_bytes: 256 << 20, body_idle: Duration::from_secs(60) }
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            hosts: HostConfig { bare_host_registry: true, ..HostConfig::default() },
            secure: false,
            trusted_proxies: Vec::new(),
            failed_authentications: 300,
            throttle: ThrottleConfig::default(),
            limits: RequestLimits::default(),
            audit: AuditSink::Off,
        }
    }
}
