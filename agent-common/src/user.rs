//! The only `aya::Pod` implementations, for the map values that the agent writes or reads.

use crate::event::TaskSlot;
use crate::offsets::{CauseOffsets, Offsets, WaitOffsets};
use crate::sched::{Cell, CpuState, ReportLimit, SchedSettings, TaskWait, Watch};
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
// SAFETY: repr(C), integers only, no padding (asserted in `layout`).
unsafe impl aya::Pod for WaitOffsets {}
// SAFETY: repr(C), integers only, no padding (asserted in `layout`).
unsafe impl aya::Pod for Cell {}
// SAFETY: repr(C), integers only, no padding (asserted in `layout`).
unsafe impl aya::Pod for CpuState {}
// SAFETY: repr(C), integers only, no padding (asserted in `layout`).
unsafe impl aya::Pod for ReportLimit {}
// SAFETY: repr(C), integers only, no padding (asserted in `layout`).
unsafe impl aya::Pod for SchedSettings {}
// SAFETY: repr(C), integers only, no padding (asserted in `layout`).
unsafe impl aya::Pod for TaskWait {}
// SAFETY: repr(C), integers only, no padding (asserted in `layout`).
unsafe impl aya::Pod for Watch {}
