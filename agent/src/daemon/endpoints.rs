//! The webhook endpoints of the configuration.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use crate::config::settings::{Settings, Webhook};
use crate::control::failure::{Failure, FailureKind};
use crate::model::endpoint::{Endpoint, Format, Network, Noise, SecretSource};
use crate::model::id::Name;
use crate::model::notice::Severity;

/// Name of the one endpoint of `config.yaml`.
pub const ONLY: &str = "default";

/// Every endpoint that is configured.
///
/// # Errors
/// When one has no name that can be one.
pub fn configured(settings: &Settings) -> Result<Vec<Endpoint>, Failure> {
    let name: Name = ONLY.parse().map_err(|error| Failure::from_error(FailureKind::Failed, &error))?;
    Ok(settings.webhook.iter().map(|webhook| only(name.clone(), webhook)).collect())
}

fn only(name: Name, webhook: &Webhook) -> Endpoint {
    Endpoint {
        name,
        url: webhook.url.clone(),
        enabled: true,
        events: Vec::new(),
        min_severity: Severity::Info,
        format: Format::Standard,
        secrets: vec![SecretSource::File(webhook.secret_file.clone())],
        hub_signature: false,
        routing_key: None,
        timeout: webhook.timeout,
        rate: None,
        allow_http: webhook.allow_http,
        allow_networks: if names_this_host(&webhook.url) { loopback() } else { Vec::new() },
        proxy: None,
        ca_file: None,
        noise: Noise { repeat_interval: Duration::ZERO, send_resolved: true },
    }
}

/// Whoever writes this host's own address into `config.yaml` means it. A name that merely resolves to it is none.
fn names_this_host(url: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(url) else { return false };
    let host = url.host_str().unwrap_or_default();
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    // "localhost" and what is below it are this host by RFC 6761, section 6.3.
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn loopback() -> Vec<Network> {
    vec![
        Network { address: Ipv4Addr::LOCALHOST.into(), prefix: 8 },
        Network { address: Ipv6Addr::LOCALHOST.into(), prefix: 128 },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_literal_of_this_host_opens_the_way_to_it() {
        for own in [
            "http://127.0.0.1:8080/x",
            "https://127.1.2.3/",
            "http://[::1]/",
            "http://localhost/",
            "http://a.localhost/",
        ] {
            assert!(names_this_host(own), "{own}");
        }
        for other in
            ["https://example.com/", "https://127.0.0.1.example.com/", "https://10.0.0.1/", "nonsense"]
        {
            assert!(!names_this_host(other), "{other}");
        }
    }
}
