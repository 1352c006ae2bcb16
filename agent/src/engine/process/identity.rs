//! Who is who: a bounded memory of the dead, so that a late report cannot bring them back.

use crate::model::id::ProcKey;

/// Deaths remembered. With pids handed out in sequence these are exactly the last ones.
const SLOTS: u32 = 8_192;

/// The recently dead, direct-mapped by pid: constant time, constant memory.
#[derive(Debug)]
pub(crate) struct Tombstones {
    slots: Vec<ProcKey>,
}

impl Tombstones {
    /// None.
    pub(crate) fn new() -> Self {
        // No process has pid 0, so a zero key is an empty slot.
        Self { slots: vec![ProcKey { pid: 0, start: 0 }; SLOTS as usize] }
    }

    /// Remembers a death, in place of whichever one held the slot.
    pub(crate) fn bury(&mut self, key: ProcKey) {
        if let Some(slot) = self.slots.get_mut((key.pid % SLOTS) as usize)
            && !(slot.pid == key.pid && slot.start > key.start)
        {
            *slot = key;
        }
    }

    /// Whether the death of exactly this process is remembered.
    pub(crate) fn hold(&self, key: ProcKey) -> bool {
        self.slot(key) == Some(&key)
    }

    /// Whether this process cannot be alive: it, or a later one of its pid, is dead.
    pub(crate) fn rule_out(&self, key: ProcKey) -> bool {
        self.slot(key).is_some_and(|slot| slot.pid == key.pid && key.start <= slot.start)
    }

    fn slot(&self, key: ProcKey) -> Option<&ProcKey> {
        self.slots.get((key.pid % SLOTS) as usize)
    }
}
