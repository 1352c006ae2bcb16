//! Records out, wake-ups out, and the only place where they are counted.
//!
//! The order within a program is: record, then [`Counters::event`], then [`wake_if_armed`]. With the agent's
//! opposite order (arm, full fence, read the counters) no event falls between a drain and the sleep after it:
//! either the agent sees the count moved, or the program sees the agent armed.

use agent_common::loss;
use aya_ebpf::bindings::{BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use aya_ebpf::maps::RingBuf;

use crate::atomic;
use crate::maps::{ARMED, BULK, COUNTERS, PRIORITY};

/// This CPU's counters.
#[derive(Clone, Copy)]
pub struct Counters(*mut [u64; loss::COUNT as usize]);

impl Counters {
    /// Those of this CPU; there always are some, but the verifier wants to see the check.
    #[inline(always)]
    pub fn of_this_cpu() -> Option<Self> {
        COUNTERS.get_ptr_mut(0).map(Self)
    }

    /// Adds one to a field of `loss`.
    #[inline(always)]
    pub fn add(self, field: u32) {
        // SAFETY: `field` points into a map value of integers of 8 bytes.
        unsafe { atomic::add(self.field(field), 1) };
    }

    /// Adds one to the field of an event, and orders what was done before with what is read after.
    #[inline(always)]
    pub fn event(self, field: u32) {
        // SAFETY: as in `add`.
        unsafe { atomic::add_ordered(self.field(field), 1) };
    }

    /// A field. It is counted atomically although it is per CPU: where tracepoints are preemptible, two
    /// programs may meet on one CPU.
    #[inline(always)]
    fn field(self, field: u32) -> *mut u64 {
        self.0.cast::<u64>().wrapping_add(field as usize)
    }
}

/// Sends a record on the priority ring and wakes the agent.
#[inline(always)]
pub fn priority<T: 'static>(counters: Counters, record: T) {
    const FIELDS: [u32; 3] = [loss::PRIORITY_PRODUCED, loss::PRIORITY_SENT, loss::PRIORITY_DROPPED];
    if send(&PRIORITY, counters, FIELDS, record, u64::from(BPF_RB_FORCE_WAKEUP)) {
        counters.add(loss::WAKEUPS);
    }
}

/// Sends a record on the priority ring that is written where it will lie, and wakes the agent.
///
/// # Safety
/// `fill` must write every byte of the record.
#[inline(always)]
pub unsafe fn priority_in_place<T: 'static>(counters: Counters, fill: impl FnOnce(*mut T)) {
    counters.add(loss::PRIORITY_PRODUCED);
    let Some(mut entry) = PRIORITY.reserve::<T>(0) else {
        counters.add(loss::PRIORITY_DROPPED);
        return;
    };
    fill(entry.as_mut_ptr());
    entry.submit(u64::from(BPF_RB_FORCE_WAKEUP));
    counters.add(loss::PRIORITY_SENT);
    counters.add(loss::WAKEUPS);
}

/// Sends a record on the bulk ring, which is drained in time and wakes nobody.
#[inline(always)]
pub fn bulk<T: 'static>(counters: Counters, record: T) {
    const FIELDS: [u32; 3] = [loss::BULK_PRODUCED, loss::BULK_SENT, loss::BULK_DROPPED];
    send(&BULK, counters, FIELDS, record, u64::from(BPF_RB_NO_WAKEUP));
}

/// Wakes the agent if it sleeps until a first event. The wake-up goes through the priority ring, as an entry
/// that is discarded, because that is the descriptor the agent sleeps on; when that ring has no room, it has
/// unread records and the agent is awake.
#[inline(always)]
pub fn wake_if_armed(counters: Counters) {
    let Some(armed) = ARMED.get_ptr_mut(0) else { return };
    // Read first: while the agent is awake, which is while there is load, nobody writes to the shared line.
    // SAFETY: a map value of 4 bytes, only ever accessed whole.
    if unsafe { armed.read_volatile() == 0 || atomic::exchange(armed, 0) == 0 } {
        return;
    }
    if let Some(entry) = PRIORITY.reserve::<u64>(0) {
        entry.discard(u64::from(BPF_RB_FORCE_WAKEUP));
        counters.add(loss::WAKEUPS);
    }
}

#[inline(always)]
fn send<T: 'static>(ring: &RingBuf, counters: Counters, fields: [u32; 3], record: T, flags: u64) -> bool {
    let [produced, sent, dropped] = fields;
    counters.add(produced);
    let Some(mut entry) = ring.reserve::<T>(0) else {
        counters.add(dropped);
        return false;
    };
    entry.write(record);
    entry.submit(flags);
    counters.add(sent);
    true
}
