//! The only `aya::Pod` implementations, for the map values that the agent writes or reads.

use crate::event::TaskSlot;
use crate::offsets::{CauseOffsets, Offsets};
use crate::settings::{Prefix, Settings};

// SAFETY: repr(C), integers only, no padding (asserted in `layout`).
unsafe impl aya::Pod for Settings {}
// SAFETY: repr(C), integers only, no padding (asserted in `layout`).
unsafe impl aya::Pod for Prefix {}
// SAFETY: repr(C), integers only, no padding (asserted in `layout`).
unsafe impl aya::Pod for TaskSlot {}
// SAFETY: repr(C), integers only, no padding (asserted in `layout`).
unsafe impl aya::Pod for Offsets {}
// SAFETY: repr(C), integers only, no padding (asserted in `layout`).
unsafe impl aya::Pod for CauseOffsets {}
