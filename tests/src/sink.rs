//! A webhook receiver for measurements: keeps connections, accepts everything, and remembers of each request only its
//! id and how long it was on its way.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::cgroup::complain;
use crate::clock;

/// Largest body that is read, in bytes.
const LONGEST_BODY: u64 = 1 << 20;

/// A request that came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The event's id.
    pub id: String,
    /// From the time that the event carries, in whole milliseconds, to the arrival; none when it carries none.
    pub on_the_way: Option<Duration>,
}

/// A receiver; its threads end with their connections, and it ends on drop.
#[derive(Debug)]
pub struct Sink {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    arrivals: Arc<Mutex<Vec<Arrival>>>,
    thread: Option<JoinHandle<()>>,
}

impl Sink {
    /// Listens on a free port of the loopback interface.
    ///
    /// # Errors
    /// When no socket can be had.
    pub fn start() -> Result<Self> {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen on the loopback interface")?;
        let address = listener.local_addr().context("address of the sink")?;
        let (stop, arrivals) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let (stopped, seen) = (Arc::clone(&stop), Arc::clone(&arrivals));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let seen = Arc::clone(&seen);
                std::thread::spawn(move || {
                    if let Err(error) = serve(stream, &seen) {
                        complain(&format!("sink: {error:#}"));
                    }
                });
            }
        });
        Ok(Self { address, stop, arrivals, thread: Some(thread) })
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/sink", self.address)
    }

    /// How many requests came in.
    #[must_use]
    pub fn count(&self) -> usize {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// What came in, and forgets it.
    #[must_use]
    pub fn take(&self) -> Vec<Arrival> {
        std::mem::take(&mut self.arrivals.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // The accept call wakes up for a connection only.
        drop(TcpStream::connect(self.address));
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            complain("the sink's thread panicked");
        }
    }
}

fn serve(mut stream: TcpStream, arrivals: &Mutex<Vec<Arrival>>) -> Result<()> {
    stream.set_nodelay(true).context("send answers at once")?;
    let mut reader = BufReader::new(stream.try_clone().context("share the connection")?);
    loop {
        let (mut id, mut length) = (String::new(), 0);
        let mut line = String::new();
        if reader.read_line(&mut line).context("read the request line")? == 0 {
            return Ok(());
        }
        let arrived = clock::unix_nanos();
        loop {
            line.clear();
            reader.read_line(&mut line).context("read a header")?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            match name.to_ascii_lowercase().as_str() {
                "webhook-id" => value.trim().clone_into(&mut id),
                "content-length" => length = value.trim().parse().context("content-length")?,
                _ => {}
            }
        }
        let mut body = Vec::new();
        reader.by_ref().take(length.min(LONGEST_BODY)).read_to_end(&mut body).context("read the body")?;
        let arrival = Arrival { id, on_the_way: on_the_way(&body, arrived) };
        arrivals.lock().unwrap_or_else(PoisonError::into_inner).push(arrival);
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").context("answer")?;
    }
}

fn on_the_way(body: &[u8], arrived: u128) -> Option<Duration> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let told: jiff::Timestamp = body["timestamp"].as_str()?.parse().ok()?;
    let nanos = arrived.saturating_sub(u128::try_from(told.as_nanosecond()).ok()?);
    u64::try_from(nanos).ok().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_is_measured_from_the_time_in_the_event() {
        let body = br#"{"timestamp":"1970-01-01T00:00:02Z"}"#;
        assert_eq!(on_the_way(body, 2_500_000_000), Some(Duration::from_millis(500)));
        assert_eq!(on_the_way(b"{}", 5), None);
    }

    #[test]
    fn requests_of_one_connection_are_counted_apart() {
        let sink = Sink::start().unwrap();
        let mut stream = TcpStream::connect(sink.address).unwrap();
        for id in ["a", "b"] {
            write!(stream, "POST / HTTP/1.1\r\nWebhook-Id: {id}\r\nContent-Length: 2\r\n\r\n{{}}").unwrap();
        }
        let count = || Ok(sink.count() == 2);
        clock::wait_until("both arrive", clock::SOON, count).unwrap();
        assert_eq!(sink.take().into_iter().map(|arrival| arrival.id).collect::<Vec<_>>(), ["a", "b"]);
    }
}
