//! One hook per file, and what the hooks share: slots and matches.

pub mod exec;
pub mod exit;
pub mod fork;
pub mod sched;
pub mod signal;
pub mod tasks;
pub mod victim;

use agent_common::abi;
use agent_common::event::{TaskFacts, TaskSlot, flag};
use agent_common::gate;
use agent_common::header::Header;
use agent_common::settings::Settings;
use aya_ebpf::helpers::bpf_ktime_get_boot_ns;

use crate::maps::{CGROUPS, COMMS, CRITICAL, PREFIXES, SETTINGS, SLOT_MASK, SLOTS, UIDS, WATCHED};

/// The agent's settings; the one entry always exists.
#[inline(always)]
fn settings() -> Option<&'static Settings> {
    SETTINGS.get(0)
}

#[inline(always)]
fn now_ns() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_ktime_get_boot_ns() }
}

#[inline(always)]
fn header<T>(kind: u32, time_ns: u64) -> Header {
    Header { kind, len: size_of::<T>() as u32, time_ns }
}

/// The slot that `tgid` maps to, whoever owns it.
#[inline(always)]
fn slot(tgid: u32) -> Option<*mut TaskSlot> {
    SLOTS.get_ptr_mut(tgid & SLOT_MASK.load())
}

/// When a process last exec'd, as the slot remembers it; 0: it does not.
#[inline(always)]
fn last_exec(tgid: u32, start_ns: u64) -> u64 {
    let Some(slot) = slot(tgid) else { return 0 };
    // SAFETY: a map value. Its owner may change while it is read; then the start differs.
    let (owner, owner_start_ns, exec_ns) = unsafe { ((*slot).tgid, (*slot).start_ns, (*slot).exec_ns) };
    if owner == tgid && owner_start_ns == start_ns { exec_ns } else { 0 }
}

/// Adds what the slot remembers of the process.
#[inline(always)]
fn recall(facts: &mut TaskFacts) {
    let exec_ns = last_exec(facts.tgid, facts.start_ns);
    if exec_ns != 0 {
        facts.exec_ns = exec_ns;
        facts.flags |= flag::EXECED;
    }
}

/// [`flag::CRITICAL`] when the critical set has this process, not merely its pid.
#[inline(always)]
fn critical(settings: &Settings, tgid: u32, start_ns: u64) -> u32 {
    match critical_ticks(settings, tgid, || start_ns) {
        Some(_) => flag::CRITICAL,
        None => 0,
    }
}

/// The start in ticks of a process that the critical set has. Most are told from it by one bit.
#[inline(always)]
fn critical_ticks(settings: &Settings, tgid: u32, start_ns: impl FnOnce() -> u64) -> Option<u64> {
    if settings.has_critical == 0 {
        return None;
    }
    let (word, bit) = gate::watched(tgid);
    if WATCHED.get(word)? & bit == 0 {
        return None;
    }
    // SAFETY: a map value of 8 bytes, read whole.
    let ticks = unsafe { CRITICAL.get(tgid) }?;
    gate::same_start(start_ns(), *ticks).then_some(*ticks)
}

/// [`flag::RULE`] when a hint matches. Cheapest first; a map is asked only when it has entries.
#[inline(always)]
fn hinted(settings: &Settings, facts: &TaskFacts) -> u32 {
    if settings.has_comms != 0 && COMMS.get_ptr(facts.comm).is_some() {
        return flag::RULE;
    }
    if settings.has_uids != 0 && UIDS.get_ptr(facts.uid).is_some() {
        return flag::RULE;
    }
    if settings.has_cgroups != 0 && CGROUPS.get_ptr(facts.cgroup_id).is_some() {
        return flag::RULE;
    }
    let mut index = 0;
    while index < abi::PREFIX_ENTRIES && index < settings.prefixes {
        let Some(prefix) = PREFIXES.get(index) else { break };
        if gate::has_prefix(&facts.comm, prefix) {
            return flag::RULE;
        }
        index += 1;
    }
    0
}
