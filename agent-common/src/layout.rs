//! The wire layout, asserted at compile time: sizes, alignment, and with them the absence of padding.

use core::mem::{align_of, size_of};

use crate::event::death::{DeathRecord, SignalMark, VictimMark};
use crate::event::delay::DelayRecord;
use crate::event::exec::ExecRecord;
use crate::event::exit::ExitRecord;
use crate::event::fork::ForkRecord;
use crate::event::{AliveRecord, TaskFacts, TaskSlot};
use crate::header::Header;
use crate::offsets::{CauseOffsets, Offsets, WaitOffsets};
use crate::sched::{
    Cell, CpuState, Party, ReportLimit, STINTS, SchedSettings, Stint, Stints, TaskWait, Watch,
};
use crate::settings::{Prefix, Settings};

const _: () = {
    assert!(size_of::<Header>() == 16);
    assert!(size_of::<TaskFacts>() == 3 * 8 + 6 * 4 + 16);
    assert!(size_of::<AliveRecord>() == 16 + 64);
    assert!(size_of::<ExecRecord>() == 16 + 64);
    assert!(size_of::<ForkRecord>() == 16 + 64);
    assert!(size_of::<ExitRecord>() == 16 + 64 + 2 * 8 + 2 * 4);
    assert!(size_of::<SignalMark>() == 2 * 8 + 4 * 4 + 16);
    assert!(size_of::<VictimMark>() == 4 * 8 + 2 * 4);
    assert!(size_of::<DeathRecord>() == 104 + 2 * 4 + 48 + 40);
    assert!(size_of::<TaskSlot>() == 3 * 8 + 2 * 4);
    assert!(size_of::<Settings>() == 8 + 8 * 4);
    assert!(size_of::<Offsets>() == Offsets::FIELDS * 4);
    assert!(size_of::<CauseOffsets>() == CauseOffsets::FIELDS * 4);
    assert!(size_of::<WaitOffsets>() == WaitOffsets::FIELDS * 4);
    assert!(size_of::<Prefix>() == 2 * 16);
    // Ring records are 8-byte aligned by the kernel; nothing here may ask for more.
    assert!(align_of::<ExitRecord>() == 8 && align_of::<AliveRecord>() == 8);
    assert!(align_of::<DeathRecord>() == 8);
    assert!(size_of::<Cell>() == 256);
    assert!(size_of::<TaskWait>() == 3 * 8 + 2 * 4);
    assert!(size_of::<CpuState>() == 8 + 2 * 4 + 6 * 8);
    assert!(size_of::<SchedSettings>() == 3 * 8 + 2 * 4);
    assert!(size_of::<Watch>() == 8 + 2 * 4);
    assert!(size_of::<ReportLimit>() == 3 * 8);
    assert!(size_of::<Party>() == 2 * 4 + 16);
    assert!(size_of::<Stint>() == 3 * 8 + 24 && size_of::<Stints>() == 8 + STINTS * 48);
    assert!(size_of::<DelayRecord>() == 16 + 4 * 8 + 2 * 24 + 2 * 4 && align_of::<DelayRecord>() == 8);
};
