//! The task iterator: one walk over all processes, of which the kernel side reports those asked for.

use std::io::Read;

use aya::Ebpf;
use aya::programs::Iter;

use agent_common::abi::program;

use crate::decode::{self, Decoder};
use crate::model::event::Event;
use crate::source::{SourceError, attach};

/// Size of the buffer: one read fills at most 32 KiB (eight pages, kernel/bpf/bpf_iter.c) and may leave less
/// than a record over.
const BUFFER_BYTES: usize = 64 * 1024;

/// Walks, and the buffer they share.
pub(super) struct Walker {
    buffer: Box<[u8]>,
    decoder: Decoder,
    malformed: u64,
}

impl Walker {
    pub(super) fn new(decoder: Decoder) -> Self {
        Self { buffer: vec![0; BUFFER_BYTES].into_boxed_slice(), decoder, malformed: 0 }
    }

    /// One walk. The link is made for it, because aya gives a link away with the first file made of it.
    pub(super) fn walk(&mut self, ebpf: &mut Ebpf, sink: &mut dyn FnMut(Event)) -> Result<u64, SourceError> {
        let iter: &mut Iter = attach::program(ebpf, program::TASKS)?;
        let failed = |error: &dyn std::error::Error| attach::bpf("task iterator", error);
        let link = iter.attach().map_err(|error| failed(&error))?;
        let link = iter.take_link(link).map_err(|error| failed(&error))?;
        let file = link.into_file().map_err(|error| failed(&error))?;
        self.read(file, sink)
    }

    /// Records that were not understood so far.
    pub(super) const fn malformed(&self) -> u64 {
        self.malformed
    }

    fn read(&mut self, mut from: impl Read, sink: &mut dyn FnMut(Event)) -> Result<u64, SourceError> {
        let (mut events, mut held) = (0, 0);
        loop {
            let room = self.buffer.get_mut(held..).unwrap_or_default();
            let got = match from.read(room) {
                Ok(0) => break,
                Ok(got) => got,
                // The kernel asks for another try after a million tasks, and on a signal.
                Err(error) if is_retry(&error) => continue,
                Err(source) => {
                    return Err(SourceError::Io { operation: "read the task iterator".to_owned(), source });
                }
            };
            let mut rest = self.buffer.get(..held + got).unwrap_or_default();
            loop {
                match decode::cut(rest) {
                    Ok(Some((record, behind))) => {
                        rest = behind;
                        match self.decoder.event(record) {
                            Ok(event) => {
                                events += 1;
                                sink(event);
                            }
                            Err(_) => self.malformed += 1,
                        }
                    }
                    Ok(None) => break,
                    Err(error) => return Err(SourceError::Bpf(format!("task iterator: {error}"))),
                }
            }
            let kept = rest.len();
            self.buffer.copy_within(held + got - kept..held + got, 0);
            held = kept;
        }
        if held != 0 {
            return Err(SourceError::Bpf(format!("task iterator: ended within a record, {held} bytes left")));
        }
        Ok(events)
    }
}

fn is_retry(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::Interrupted | std::io::ErrorKind::WouldBlock)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Yields at most `step` bytes a read.
    struct Slow<'a> {
        bytes: &'a [u8],
        step: usize,
    }

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let step = self.step.min(buffer.len());
            let (mut head, _) = self.bytes.split_at(step.min(self.bytes.len()));
            let got = head.read(buffer)?;
            self.bytes = &self.bytes[got..];
            Ok(got)
        }
    }

    fn alive(pid: u32) -> Vec<u8> {
        let mut bytes = [4_u32.to_ne_bytes(), 80_u32.to_ne_bytes()].concat();
        bytes.resize(80, 0);
        bytes[40..44].copy_from_slice(&pid.to_ne_bytes());
        bytes
    }

    #[test]
    fn records_survive_any_cut_of_the_stream() {
        let stream: Vec<u8> = (1..=50).flat_map(alive).collect();
        for step in [1, 7, 16, 79, 80, 81, 4000, 100_000] {
            let (mut walker, mut pids) = (Walker::new(Decoder::new(4096)), Vec::new());
            let count = walker
                .read(Slow { bytes: &stream, step }, &mut |event| pids.push(event.process().key.pid))
                .unwrap();
            assert_eq!((count, pids), (50, (1..=50).collect()));
        }
    }

    #[test]
    fn a_cut_or_lying_stream_is_an_error() {
        let mut walker = Walker::new(Decoder::new(4096));
        let cut = &alive(1)[..79];
        assert!(walker.read(cut, &mut |_| ()).is_err());
        let mut lies = alive(1);
        lies[4..8].copy_from_slice(&3_u32.to_ne_bytes());
        assert!(walker.read(&lies[..], &mut |_| ()).is_err());
        let unknown = [alive(0), alive(2)].concat();
        assert_eq!(walker.read(&unknown[..], &mut |_| ()).unwrap(), 1);
        assert_eq!(walker.malformed(), 1);
    }
}
