//! A ring of records: bounded drains, and a count of what is not understood. Allocates nothing per record.

use std::os::fd::{AsFd, BorrowedFd};

use aya::maps::{MapData, RingBuf};

use crate::decode::Decoder;
use crate::model::event::Event;

/// One of the two rings.
pub(super) struct Ring {
    ring: RingBuf<MapData>,
    decoder: Decoder,
    malformed: u64,
}

impl Ring {
    pub(super) const fn new(ring: RingBuf<MapData>, decoder: Decoder) -> Self {
        Self { ring, decoder, malformed: 0 }
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
