//! What the kernel side can tell of the causes of death: fitted to the running kernel like everything else, but
//! what is absent here is a reason to say less, not to do without eBPF. It must not read events.

use std::collections::BTreeSet;

use agent_common::abi::{self, program};
use agent_common::gate;
use agent_common::offsets::{CauseOffsets, victim};
use aya::maps::{Array, MapData};
use aya::programs::BtfTracePoint;
use aya::{Btf as KernelBtf, Ebpf};

use crate::source::btf::{Btf, BtfError};
use crate::source::{SourceError, attach};

/// What of the programs depends on the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CauseFit {
    pub(super) offsets: CauseOffsets,
    pub(super) has_memcg: u32,
    /// One of [`victim`]; 0 where there is no such tracepoint.
    pub(super) victim_is: u32,
    /// What cannot be told and why, in words for people.
    pub(super) lacks: Vec<String>,
}

impl CauseFit {
    pub(super) fn resolve(btf: &Btf) -> Self {
        let mut lacks = Vec::new();
        let (offsets, has_memcg) = match memcg(btf) {
            Ok(offsets) => (offsets, 1),
            Err(why) => {
                lacks.push(format!("which memory limit the OOM killer enforced: {why}"));
                (CauseOffsets::UNRESOLVED, 0)
            }
        };
        let victim_is = match btf.argument_is_pointer("btf_trace_mark_victim", 1) {
            Ok(true) => victim::TASK,
            Ok(false) => {
                lacks.push(
                    "which memory limit the OOM killer enforced: mark_victim of this kernel tells a pid only"
                        .to_owned(),
                );
                victim::PID
            }
            Err(why) => {
                lacks.push(format!("whom the OOM killer chose: {why}"));
                0
            }
        };
        Self { offsets, has_memcg, victim_is, lacks }
    }
}

fn memcg(btf: &Btf) -> Result<CauseOffsets, String> {
    let subsys = btf.enum_value("cgroup_subsys_id", "memory_cgrp_id").map_err(|error| error.to_string())?;
    let offset = |owner, member| btf.member_offset(owner, member);
    let offsets: Result<_, BtfError> = CauseOffsets::resolve(subsys, offset);
    match offsets {
        Ok(offsets) if offsets.memcg_css == 0 => Ok(offsets),
        Ok(_) => Err("mem_cgroup.css is not the first member of its structure on this kernel".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Loads and attaches the programs that tell causes; what cannot be told in the end, and why.
pub(super) fn attach(ebpf: &mut Ebpf, btf: &KernelBtf, fit: &CauseFit) -> Vec<String> {
    let mut lacks = fit.lacks.clone();
    let hooks = [
        (program::SIGNAL, "signal_generate", "who sent a signal", true),
        (program::VICTIM, "mark_victim", "whom the OOM killer chose", fit.victim_is != 0),
    ];
    for (name, tracepoint, what, _) in hooks.into_iter().filter(|(.., there)| *there) {
        if let Err(error) = hook(ebpf, btf, name, tracepoint) {
            lacks.push(format!("{what}: {error}"));
        }
    }
    lacks
}

fn hook(ebpf: &mut Ebpf, btf: &KernelBtf, name: &str, tracepoint: &str) -> Result<(), SourceError> {
    let hook: &mut BtfTracePoint = attach::program(ebpf, name)?;
    hook.load(tracepoint, btf).map_err(|error| attach::bpf(name, &error))?;
    hook.attach().map_err(|error| attach::bpf(name, &error))?;
    Ok(())
}

/// The bits by which the programs tell most processes from critical ones.
pub(super) struct Watched {
    words: Array<MapData, u64>,
    pids: BTreeSet<u32>,
}

impl Watched {
    pub(super) const fn new(words: Array<MapData, u64>) -> Self {
        Self { words, pids: BTreeSet::new() }
    }

    /// Sets or clears the bit of a pid. One that others share stays set.
    pub(super) fn set(&mut self, pid: u32, on: bool) -> Result<(), SourceError> {
        if on {
            self.pids.insert(pid);
        } else {
            self.pids.remove(&pid);
        }
        let (word, bit) = gate::watched(pid);
        let same = |step: u32| {
            step.checked_mul(abi::WATCHED_WORDS * 64)?.checked_add(pid % (abi::WATCHED_WORDS * 64))
        };
        // `kernel.pid_max` is at most 2^22: 64 pids share a bit.
        let kept = (0..64).filter_map(same).any(|pid| self.pids.contains(&pid));
        let failed = |error| attach::bpf("the bits of watched processes", &error);
        let held = self.words.get(&word, 0).map_err(failed)?;
        let wanted = if kept { held | bit } else { held & !bit };
        self.words.set(word, wanted, 0).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::btf::tests::Builder;

    #[test]
    fn a_kernel_without_anything_says_so() {
        let btf = Btf::parse(Builder::default().build()).unwrap();
        let fit = CauseFit::resolve(&btf);
        assert_eq!((fit.has_memcg, fit.victim_is), (0, 0));
        assert_eq!(
            fit.lacks,
            [
                "which memory limit the OOM killer enforced: this kernel has no memory_cgrp_id in enum cgroup_subsys_id",
                "whom the OOM killer chose: this kernel has no function type btf_trace_mark_victim",
            ]
        );
    }

    #[test]
    fn what_a_victim_is_depends_on_the_kernel() {
        // struct word; void *; void (*)(void *, struct word); and the same with a pointer.
        let kernel = |argument| {
            let blob = Builder::default()
                .add("word", 4, false, 4, &[])
                .add("", 2, false, 0, &[])
                .add("", 13, false, 0, &[("", 2, 0), ("", argument, 0)])
                .add("", 2, false, 3, &[])
                .add("btf_trace_mark_victim", 8, false, 4, &[])
                .build();
            CauseFit::resolve(&Btf::parse(blob).unwrap())
        };
        assert_eq!(kernel(1).victim_is, victim::PID);
        assert!(kernel(1).lacks.iter().any(|why| why.ends_with("tells a pid only")));
        assert_eq!(kernel(2).victim_is, victim::TASK);
    }
}
