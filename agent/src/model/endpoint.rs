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
    /// Whether anything is sent to it. Of what is told meanwhile only alerts that still stand are told later.
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

impl Endpoint {
    /// Whether it receives events of this type and severity. A test is asked for, so it goes wherever the type
    /// is not left out, however harmless it is.
    #[must_use]
    pub fn wants(&self, kind: &str, severity: Severity) -> bool {
        let severe = severity >= self.min_severity || kind == "test";
        self.enabled && severe && (self.events.is_empty() || self.events.iter().any(|event| event == kind))
    }
}

/// How alike events are held back and repeated. Critical ones are never held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noise {
    /// An alert that goes on is told again after this; zero: never.
    pub repeat_interval: Duration,
    /// Whether its end is told.
    pub send_resolved: bool,
    /// Events of the types that are told together (`model::notice::table`) wait this long for more of their
    /// type and subject, and are one delivery then; zero: each is told at once.
    pub group_wait: Duration,
    /// From one such delivery to the next one of the same type and subject.
    pub group_interval: Duration,
}

impl Noise {
    /// What holds unless the configuration says otherwise.
    pub const DEFAULT: Self = Self {
        repeat_interval: Duration::from_secs(4 * 3_600),
        send_resolved: true,
        group_wait: Duration::from_secs(30),
        group_interval: Duration::from_secs(5 * 60),
    };
}

impl Default for Noise {
    fn default() -> Self {
        Self::DEFAULT
    }
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
    /// As Prometheus posts alerts to an Alertmanager. Never written by name: it is what `alertmanager` means when
    /// the URL is that of an Alertmanager, [`Self::at`].
    #[serde(rename = "alertmanager-api")]
    PostableAlerts,
    /// Slack's incoming webhooks, blocks.
    Slack,
    /// PagerDuty's Events API v2.
    PagerDuty,
    /// Discord's webhooks, embeds.
    Discord,
    /// Teams' workflows, an adaptive card.
    Teams,
}

impl Format {
    /// Every format that can be written, with its word.
    pub const WRITTEN: [(&str, Self); 7] = [
        ("standard", Self::Standard),
        ("cloudevents", Self::CloudEvents),
        ("alertmanager", Self::Alertmanager),
        ("slack", Self::Slack),
        ("pagerduty", Self::PagerDuty),
        ("discord", Self::Discord),
        ("teams", Self::Teams),
    ];

    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::CloudEvents => "cloudevents",
            Self::Alertmanager | Self::PostableAlerts => "alertmanager",
            Self::Slack => "slack",
            Self::PagerDuty => "pagerduty",
            Self::Discord => "discord",
            Self::Teams => "teams",
        }
    }

    /// What the format means for a URL with this path: an Alertmanager itself takes alerts, not what it sends.
    #[must_use]
    pub fn at(self, path: &str) -> Self {
        if self == Self::Alertmanager && path.trim_end_matches('/').ends_with("/api/v2/alerts") {
            Self::PostableAlerts
        } else {
            self
        }
    }

    /// Whether the path of the URL is what keeps strangers from posting there.
    #[must_use]
    pub const fn has_secret_path(self) -> bool {
        match self {
            Self::Slack | Self::Discord | Self::Teams => true,
            Self::Standard
            | Self::CloudEvents
            | Self::Alertmanager
            | Self::PostableAlerts
            | Self::PagerDuty => false,
        }
    }
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
