//! An endpoint for tests.

use std::time::Duration;

use crate::clock::patience;
use crate::model::endpoint::{Endpoint, Format, Network, Noise};
use crate::model::notice::Severity;

/// One that may be on this host, unsigned.
pub(crate) fn endpoint(url: String) -> Endpoint {
    let loopback = Network { address: "127.0.0.0".parse().unwrap(), prefix: 8 };
    Endpoint {
        name: "ops".parse().unwrap(),
        url,
        enabled: true,
        events: Vec::new(),
        min_severity: Severity::Info,
        format: Format::Standard,
        secrets: Vec::new(),
        hub_signature: false,
        routing_key: None,
        timeout: patience(Duration::from_secs(5)),
        rate: None,
        allow_http: false,
        allow_networks: vec![loopback],
        proxy: None,
        ca_file: None,
        noise: Noise { repeat_interval: Duration::ZERO, ..Noise::DEFAULT },
    }
}
