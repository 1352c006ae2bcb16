//! A GET is answered with a 2xx, and its body comes to an end. Redirects are not followed and no proxy is used: what
//! is named is what is asked.

use std::sync::{Arc, OnceLock};

use reqwest::{ClientBuilder, Url, redirect};

use super::Fault;
use super::lookup::Lookups;
use crate::model::chain::chain;

/// Most of a body that is read: the rest is the server's business.
const BODY_MAX: usize = 64 * 1024;

/// What requests are made with.
#[derive(Debug)]
pub(super) struct Client {
    lookups: Arc<Lookups>,
    clear: reqwest::Client,
    /// Made when it is needed first: it reads the certificates of all authorities that the host trusts.
    encrypted: OnceLock<reqwest::Client>,
}

impl Client {
    pub(super) fn new(lookups: Lookups) -> Result<Self, reqwest::Error> {
        // Installing it twice is harmless: the first provider stays.
        drop(rustls::crypto::ring::default_provider().install_default());
        let lookups = Arc::new(lookups);
        let clear = builder(&lookups).tls_certs_only([]).build()?;
        Ok(Self { lookups, clear, encrypted: OnceLock::new() })
    }

    fn encrypted(&self) -> Result<&reqwest::Client, Fault> {
        if let Some(client) = self.encrypted.get() {
            return Ok(client);
        }
        let client = builder(&self.lookups).build().map_err(|error| Fault::Ours(chain(&error)))?;
        Ok(self.encrypted.get_or_init(|| client))
    }

    /// Asks; whoever calls keeps the time.
    pub(super) async fn check(&self, target: &str) -> Result<(), Fault> {
        let url = Url::parse(target).map_err(|error| Fault::Ours(chain(&error)))?;
        let client = if url.scheme() == "https" { self.encrypted()? } else { &self.clear };
        // Without the URL: it may carry a token.
        let theirs =
            |error: reqwest::Error| Fault::Theirs(format!("{:#}", anyhow::Error::new(error.without_url())));
        let mut response = client.get(url).send().await.map_err(theirs)?;
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

fn builder(lookups: &Arc<Lookups>) -> ClientBuilder {
    reqwest::Client::builder()
        .user_agent(concat!("process-throttler/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .no_proxy()
        .dns_resolver(Arc::clone(lookups))
        // Each check connects anew: an open connection says nothing of whether the server takes new ones.
        .pool_max_idle_per_host(0)
}
