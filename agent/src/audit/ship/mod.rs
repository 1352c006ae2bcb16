//! Sending records to other places: a thread per destination, which goes on where it got to, also after a restart.
//!
//! The log itself is the queue, so that what waits takes no memory. A record is sent again when it is not known to
//! have arrived: at least once, in order. Never holds up the writer.

mod bell;
mod cursor;
mod journald;
mod otlp;
mod pump;
mod rfc5424;
mod syslog;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

pub use bell::Bell;
pub use cursor::Cursor;

use super::files::Place;
use super::record::Record;
use crate::model::audit::{Destination, Receiver};
use crate::telemetry::courier::Courier;
use crate::telemetry::otlp::Origin;
use bell::Health;
use pump::Pump;

/// A record on its way: its line as it stands in the log, and what it says.
#[derive(Clone, Debug)]
struct Parcel {
    line: Vec<u8>,
    record: Record,
}

/// A way to a destination.
trait Wire {
    /// Sends records in order; all of them have been taken when it returns.
    ///
    /// # Errors
    /// When that is not certain: all are sent again.
    fn send(&mut self, parcels: &[Parcel]) -> std::io::Result<()>;
}

/// The threads.
#[derive(Debug, Default)]
pub struct Shipping {
    bell: Arc<Bell>,
    threads: Vec<(Arc<Health>, JoinHandle<()>)>,
}

impl Shipping {
    /// Starts a thread for each destination; `origin` is who sends.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(place: &Place, destinations: &[Destination], origin: &Origin) -> std::io::Result<Self> {
        let mut shipping = Self::default();
        for Destination { name, to } in destinations {
            let wire: Box<dyn Wire + Send> = match to {
                Receiver::Journald => Box::new(journald::Journald::new()),
                Receiver::Syslog { host, port, transport } => {
                    Box::new(syslog::Syslog::new(host, *port, transport.clone(), &origin.host))
                }
                Receiver::Otlp { url, access } => {
                    Box::new(otlp::Otlp(Courier::new(url.clone(), access.clone(), origin.clone())))
                }
            };
            let health = Arc::new(Health::new(name.clone()));
            let pump = Pump::new(place.clone(), wire, Arc::clone(&shipping.bell), Arc::clone(&health));
            let thread =
                std::thread::Builder::new().name(format!("ship-{name}")).spawn(move || pump.run())?;
            shipping.threads.push((health, thread));
        }
        Ok(shipping)
    }

    /// Rung when there are new records.
    #[must_use]
    pub fn bell(&self) -> Arc<Bell> {
        Arc::clone(&self.bell)
    }

    /// How far behind or in trouble destinations are, to be asked from anywhere.
    #[must_use]
    pub fn report(&self) -> Report {
        Report(self.threads.iter().map(|(health, _)| Arc::clone(health)).collect())
    }

    /// Has what is there sent, for so long, and ends. What is left is sent after the next start.
    pub fn stop(self, grace: Duration) {
        self.bell.stop(self.threads.len(), grace);
        for (health, thread) in self.threads {
            // One that waits for a peer is left to the end of the process.
            if thread.is_finished() && thread.join().is_err() {
                tracing::error!(destination = %health.name, "a thread that ships the audit log panicked");
            }
        }
    }
}

/// See [`Shipping::report`].
#[derive(Clone, Debug, Default)]
pub struct Report(Vec<Arc<Health>>);

impl Report {
    /// What is in the way, one line for each destination that is not reached.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        self.0
            .iter()
            .filter_map(|health| Some(format!("{} is not reached: {}", health.name, health.problem()?)))
            .collect()
    }

    /// Whether there is any destination.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests;
