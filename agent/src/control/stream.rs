//! Streams of JSON lines (`follow`, `record`) towards readers that may be slow or gone.
//!
//! The daemon publishes to a bounded ring without waiting; a reader that falls behind by its whole length is
//! told how much it lost and cut off.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::sync::broadcast::{self, error::RecvError};

use super::proto::StreamEnd;

/// One line.
#[derive(Clone, Debug)]
pub struct Line {
    /// Kind of the event, by which readers select; empty on lines without one.
    pub kind: &'static str,
    /// The JSON without its newline.
    pub json: Bytes,
}

/// Where the daemon publishes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Publisher {
    ring: broadcast::Sender<Line>,
    lost: Arc<AtomicU64>,
}

impl Publisher {
    /// With a ring of `capacity` lines (at least 1).
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { ring: broadcast::Sender::new(capacity.max(1)), lost: Arc::default() }
    }

    /// Whether anybody listens: without readers, lines need not be made.
    #[must_use]
    pub fn has_readers(&self) -> bool {
        self.ring.receiver_count() > 0
    }

    /// Hands a line to every reader. Never waits.
    pub fn publish(&self, line: Line) {
        // The one error is that nobody listens.
        drop(self.ring.send(line));
    }

    /// A reader that sees `head` first and then what is published from now on.
    #[must_use]
    pub fn subscribe(&self, head: Vec<Bytes>, kind: Option<String>) -> Lines {
        let mut head = head;
        head.reverse();
        Lines { head, live: Some(self.ring.subscribe()), kind, lost: Arc::clone(&self.lost) }
    }

    /// Lines that readers were too slow for.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// A reader's end.
#[derive(Debug)]
pub struct Lines {
    /// In reverse.
    head: Vec<Bytes>,
    /// Absent after the end.
    live: Option<broadcast::Receiver<Line>>,
    kind: Option<String>,
    lost: Arc<AtomicU64>,
}

impl Lines {
    /// The next line with its newline; `None` at the end.
    pub async fn next(&mut self) -> Option<Bytes> {
        if let Some(line) = self.head.pop() {
            return Some(terminated(&line));
        }
        loop {
            match self.live.as_mut()?.recv().await {
                Ok(line) if self.kind.as_deref().is_none_or(|kind| kind == line.kind) => {
                    return Some(terminated(&line.json));
                }
                Ok(_) => {}
                Err(RecvError::Closed) => return None,
                Err(RecvError::Lagged(lost)) => {
                    self.live = None;
                    self.lost.fetch_add(lost, Ordering::Relaxed);
                    let end = serde_json::to_vec(&StreamEnd::StreamCut { lost }).ok()?;
                    return Some(terminated(&end));
                }
            }
        }
    }
}

fn terminated(line: &[u8]) -> Bytes {
    let mut text = Vec::with_capacity(line.len() + 1);
    text.extend_from_slice(line);
    text.push(b'\n');
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(kind: &'static str, json: &'static str) -> Line {
        Line { kind, json: Bytes::from_static(json.as_bytes()) }
    }

    #[tokio::test]
    async fn head_first_then_the_chosen_kind_then_the_end() {
        let publisher = Publisher::new(8);
        let mut lines = publisher.subscribe(vec!["h1".into(), "h2".into()], Some("a".to_owned()));
        publisher.publish(line("a", "1"));
        publisher.publish(line("b", "2"));
        publisher.publish(line("a", "3"));
        drop(publisher);
        let mut seen = Vec::new();
        while let Some(line) = lines.next().await {
            seen.push(line);
        }
        assert_eq!(seen, ["h1\n", "h2\n", "1\n", "3\n"]);
    }

    #[tokio::test]
    async fn a_slow_reader_learns_what_it_lost_and_is_cut_off() {
        let publisher = Publisher::new(4);
        let mut lines = publisher.subscribe(Vec::new(), None);
        for _ in 0..10 {
            publisher.publish(line("a", "x"));
        }
        assert_eq!(lines.next().await.unwrap(), "{\"type\":\"stream_cut\",\"lost\":6}\n");
        assert_eq!(lines.next().await, None);
        assert_eq!(publisher.lost(), 6);
    }
}
