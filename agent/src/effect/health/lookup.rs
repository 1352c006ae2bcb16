//! Addresses of names. The C library's resolver cannot be interrupted, so the lookups that hang are bounded.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::Semaphore;

use super::{Fault, unhurried};

/// Looks names up.
#[derive(Clone, Debug)]
pub struct Lookups {
    places: Arc<Semaphore>,
}

impl Lookups {
    pub(super) const fn new(places: Arc<Semaphore>) -> Self {
        Self { places }
    }

    /// The addresses of a host; at least one.
    pub(super) async fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Fault> {
        if let Ok(address) = host.parse() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let name = host.to_owned();
        let found = unhurried(&self.places, move || (name, port).to_socket_addrs()).await?;
        let addresses: Vec<SocketAddr> =
            found.map_err(|error| Fault::Theirs(format!("look up {host:?}: {error}")))?.collect();
        if addresses.is_empty() {
            return Err(Fault::Theirs(format!("look up {host:?}: it has no address")));
        }
        Ok(addresses)
    }
}

impl Resolve for Lookups {
    fn resolve(&self, name: Name) -> Resolving {
        let lookups = self.clone();
        Box::pin(async move {
            match lookups.addresses(name.as_str(), 0).await {
                Ok(addresses) => Ok(Box::new(addresses.into_iter()) as Addrs),
                Err(Fault::Theirs(error) | Fault::Ours(error)) => Err(error.into()),
            }
        })
    }
}
