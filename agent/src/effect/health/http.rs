//! A GET is answered with a 2xx, and its body comes to an end. Redirects are not followed and no proxy is used: what
//! is named is what is asked.

use std::sync::Arc;

use reqwest::redirect;

use super::Fault;
use super::lookup::Lookups;

/// Most of a body that is read: the rest is the server's business.
const BODY_MAX: usize = 64 * 1024;

/// What requests are made with.
#[derive(Debug)]
pub(super) struct Client(reqwest::Client);

impl Client {
    pub(super) fn new(lookups: Lookups) -> Result<Self, reqwest::Error> {
        // Installing it twice is harmless: the first provider stays.
        drop(rustls::crypto::ring::default_provider().install_default());
        reqwest::Client::builder()
            .user_agent(concat!("process-throttler/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .no_proxy()
            .dns_resolver(Arc::new(lookups))
            // Each check connects anew: an open connection says nothing of whether the server takes new ones.
            .pool_max_idle_per_host(0)
            .build()
            .map(Self)
    }

    /// Asks; whoever calls keeps the time.
    pub(super) async fn check(&self, target: &str) -> Result<(), Fault> {
        // Without the URL: it may carry a token.
        let theirs =
            |error: reqwest::Error| Fault::Theirs(format!("{:#}", anyhow::Error::new(error.without_url())));
        let mut response = self.0.get(target).send().await.map_err(theirs)?;
        if !response.status().is_success() {
            return Err(Fault::Theirs(format!("answered {}", response.status())));
        }
        let mut read = 0;
        while let Some(part) = response.chunk().await.map_err(theirs)? {
            read += part.len();
            if read > BODY_MAX {
                break;
            }
        }
        Ok(())
    }
}
