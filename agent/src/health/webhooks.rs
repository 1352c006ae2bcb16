//! Endpoints: whether there is somebody to tell, and, when that is asked for, whether their machines accept connections.
//! Sends nothing: `webhook test` does.

use std::time::Duration;

use reqwest::Url;

use super::{Category, Check, Inputs};
use crate::config::Settings;
use crate::effect::health::Prober;
use crate::model::critical::{Checked, HealthCheck, Probe};
use crate::model::endpoint::Endpoint;

const ABOUT: Category = Category::Webhooks;
/// For one endpoint: the name and the connection.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Name of the check of all of them.
const ALL: &str = "endpoints";

pub(super) async fn check(settings: Option<&Settings>, inputs: &Inputs<'_>) -> Vec<Check> {
    let Some(settings) = settings else {
        return vec![Check::not_made(ABOUT, ALL, "the configuration has errors")];
    };
    let enabled: Vec<&Endpoint> = settings.endpoints.iter().filter(|endpoint| endpoint.enabled).collect();
    let off = settings.endpoints.len() - enabled.len();
    if enabled.is_empty() {
        return vec![Check::ok(ABOUT, ALL, "none is configured and enabled").detail("disabled", off)];
    }
    if !inputs.all {
        let message = format!("{} configured and enabled; none was asked", enabled.len());
        return vec![
            Check::ok(ABOUT, ALL, message)
                .detail("disabled", off)
                .run("ask whether they can be reached", "process-throttler health --check-all"),
        ];
    }
    let prober = match Prober::of_network(inputs.dirs.runtime.clone()) {
        Ok(prober) => prober,
        Err(error) => return vec![Check::not_made(ABOUT, ALL, crate::model::chain::chain(&error))],
    };
    futures_util::future::join_all(enabled.into_iter().map(|endpoint| reach(&prober, endpoint))).await
}

async fn reach(prober: &Prober, endpoint: &Endpoint) -> Check {
    let name = endpoint.name.as_str();
    // The proxy makes the connection where there is one; nobody else can be reached then.
    let url = endpoint.proxy.as_deref().unwrap_or(&endpoint.url);
    let Some(target) = target(url) else {
        return Check::not_made(ABOUT, name, "its URL names no host and port");
    };
    let what = if endpoint.proxy.is_some() { "its proxy " } else { "" };
    let probe = HealthCheck {
        probe: Probe::Port { target: target.clone() },
        interval: TIMEOUT,
        timeout: TIMEOUT,
        retries: 1,
        restart: false,
    };
    let test = format!("process-throttler webhook test {name}");
    let check = match prober.check(&endpoint.name, &probe).await {
        Checked::Healthy => {
            Check::ok(ABOUT, name, format!("{what}{target} accepts connections; nothing was sent"))
        }
        Checked::Unhealthy { error } => Check::error(ABOUT, name, format!("{what}{target}: {error}"))
            .run("see what a delivery meets", test),
        Checked::NotRun { why } => Check::not_made(ABOUT, name, why),
    };
    check.detail("target", target)
}

/// Host and port of a URL; nothing of its path, which may be a secret.
fn target(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?))
}
