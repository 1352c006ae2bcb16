//! A TCP connection is accepted. Nothing is sent.

use tokio::net::TcpStream;

use super::Fault;
use super::lookup::Lookups;

/// Connects to `host:port`, trying every address that the host has.
pub(super) async fn check(lookups: &Lookups, target: &str) -> Result<(), Fault> {
    let parsed = target.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let (host, port) = parsed.ok_or_else(|| Fault::Ours(format!("{target:?} is no host:port")))?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let mut failures = Vec::new();
    for address in lookups.addresses(host, port).await? {
        match TcpStream::connect(address).await {
            Ok(_) => return Ok(()),
            Err(error) => failures.push(format!("connect to {address}: {error}")),
        }
    }
    Err(Fault::Theirs(failures.join("; ")))
}
