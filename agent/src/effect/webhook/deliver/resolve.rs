//! The resolver of the HTTP client: every address that a name stands for is checked, and the client connects to
//! those that passed, so a second answer cannot differ from the one that was checked. Literal addresses never get
//! here: [`super::client`] checks them itself.

use std::error::Error;
use std::io;
use std::net::SocketAddr;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::address::Permit;

/// Resolves names to permitted addresses.
#[derive(Debug)]
pub(super) struct Resolver(pub(super) Permit);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let permit = self.0.clone();
        Box::pin(async move {
            // The port is replaced by that of the URL.
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            Ok(Box::new(permitted(&permit, found)?.into_iter()) as Addrs)
        })
    }
}

/// Those that are permitted.
///
/// # Errors
/// When none is, and why the first was not.
fn permitted(
    permit: &Permit,
    found: impl Iterator<Item = SocketAddr>,
) -> Result<Vec<SocketAddr>, Box<dyn Error + Send + Sync>> {
    let mut refused = None;
    let mut permitted = Vec::new();
    for address in found {
        match permit.check(address.ip()) {
            Ok(()) => permitted.push(address),
            Err(refusal) => refused = refused.or(Some(refusal)),
        }
    }
    match refused {
        Some(refusal) if permitted.is_empty() => Err(refusal.into()),
        _ if permitted.is_empty() => Err(io::Error::other("the name has no address").into()),
        _ => Ok(permitted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| SocketAddr::new(text.parse().unwrap(), 0)).collect()
    }

    #[test]
    fn a_name_with_good_and_bad_addresses_has_the_good_ones() {
        let found = addresses(&["127.0.0.1", "1.1.1.1", "::1", "10.0.0.1"]);
        let good = permitted(&Permit::default(), found.into_iter()).unwrap();
        assert_eq!(good, addresses(&["1.1.1.1"]));
        let error = permitted(&Permit::default(), addresses(&["10.0.0.1", "::1"]).into_iter()).unwrap_err();
        assert!(error.to_string().starts_with("10.0.0.1 is a private address"), "{error}");
        assert!(permitted(&Permit::default(), std::iter::empty()).is_err());
    }
}
