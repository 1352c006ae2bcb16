//! Webhook endpoints: where events are posted to, and how.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::id::Name;
use crate::model::notice::Severity;

/// An endpoint, validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Unique; the outbox knows it by this.
    pub name: Name,
    /// `https`, or `http` where that was allowed.
    pub url: String,
    /// Whether anything is sent to it. What is told meanwhile is not sent later.
    pub enabled: bool,
    /// Types of events that it receives, as in the contract; empty: all of them.
    pub events: Vec<String>,
    /// The least severe events that it receives.
    pub min_severity: Severity,
    /// What the body looks like.
    pub format: Format,
    /// Signing keys: the present one, and during a rotation a second one. None: deliveries are not signed.
    pub secrets: Vec<SecretSource>,
    /// Whether GitHub's `X-Hub-Signature-256` is sent as well.
    pub hub_signature: bool,
    /// PagerDuty's routing key, which goes into the body.
    pub routing_key: Option<SecretSource>,
    /// Time for one attempt, from connecting to the answer. 15 s unless written otherwise.
    pub timeout: Duration,
    /// Most deliveries a minute; `None`: no limit.
    pub rate: Option<u32>,
    /// Whether an unencrypted connection to another machine is acceptable.
    pub allow_http: bool,
    /// Networks that may be connected to although they are refused otherwise: loopback, link-local, private.
    pub allow_networks: Vec<Network>,
    /// An http or https proxy. It connects for us, so addresses are its business then.
    pub proxy: Option<String>,
    /// Certificates that are trusted instead of the system's. Absolute.
    pub ca_file: Option<PathBuf>,
    /// How alike events are held back and repeated.
    pub noise: Noise,
}

/// How alike events are held back and repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noise {
    /// An alert that goes on is told again after this; zero: never.
    pub repeat_interval: Duration,
    /// Whether its end is told.
    pub send_resolved: bool,
}

/// What a delivery's body looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The Standard Webhooks envelope.
    #[default]
    Standard,
    /// CloudEvents 1.0, structured JSON.
    CloudEvents,
    /// As an Alertmanager of Prometheus tells its webhook receivers (version 4).
    Alertmanager,
    /// Slack's incoming webhooks, blocks.
    Slack,
    /// PagerDuty's Events API v2.
    PagerDuty,
    /// Discord's webhooks, embeds.
    Discord,
    /// Teams' workflows, an adaptive card.
    Teams,
}

/// Where a secret is. It is read when it is needed and never kept in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// A file of mode 0600 or less. Absolute.
    File(PathBuf),
    /// A credential that systemd passes (`LoadCredential=`), by its name in `$CREDENTIALS_DIRECTORY`.
    Credential(String),
    /// A file encrypted with age to the identity in the other file. Both absolute.
    Age {
        /// The encrypted file.
        file: PathBuf,
        /// The identity, as `age-keygen` writes it.
        identity: PathBuf,
    },
}

/// Addresses that share a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Any address of it.
    pub address: core::net::IpAddr,
    /// Length of the prefix in bits.
    pub prefix: u8,
}
