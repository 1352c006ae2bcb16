//! A ring of records: bounded drains, and a count of what is not understood. Allocates nothing per record.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use aya::maps::{MapData, RingBuf};

use crate::decode::Decoder;
use crate::model::event::Event;
use crate::source::Fill;
use crate::sys;

/// One of the two rings.
pub(super) struct Ring {
    ring: RingBuf<MapData>,
    decoder: Decoder,
    capacity: u32,
    malformed: u64,
}

impl Ring {
    /// One that was made with so many bytes.
    pub(super) const fn new(ring: RingBuf<MapData>, decoder: Decoder, capacity: u32) -> Self {
        Self { ring, decoder, capacity, malformed: 0 }
    }

    /// How full it is.
    ///
    /// # Errors
    /// As [`sys::ring_waiting`].
    pub(super) fn fill(&self, ring: &'static str) -> io::Result<Fill> {
        let capacity = u64::from(self.capacity);
        // What was reserved after the reader's position was read may be beyond what there is room for.
        let waiting = sys::ring_waiting(self.as_fd())?.min(capacity);
        Ok(Fill { ring, waiting, capacity })
    }

    /// Hands over at most `limit` records, oldest first; how many there were. Less than `limit`: it is dry.
    pub(super) fn drain(&mut self, limit: u64, sink: &mut dyn FnMut(Event)) -> u64 {
        let mut taken = 0;
        while taken < limit {
            let Some(record) = self.ring.next() else { break };
            taken += 1;
            match self.decoder.event(&record) {
                Ok(event) => sink(event),
                Err(_) => self.malformed += 1,
            }
        }
        taken
    }

    /// Records that were not understood so far.
    pub(super) const fn malformed(&self) -> u64 {
        self.malformed
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}
