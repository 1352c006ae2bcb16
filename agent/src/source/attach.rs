//! Loads the eBPF object, fits it to the running kernel and attaches its programs.
//!
//! Everything that can be refused is refused here, before a hook runs. It must not read events.

use std::error::Error;
use std::path::PathBuf;

use agent_common::abi::{self, global, map, program};
use agent_common::loss;
use agent_common::offsets::{Offsets, WaitOffsets};
use agent_common::settings::{Prefix, Settings};
use agent_common::text::CommBytes;
use aya::maps::{Array, HashMap, MapData, PerCpuArray, RingBuf};
use aya::programs::links::FdLink;
use aya::programs::{BtfTracePoint, Iter};
use aya::{Ebpf, EbpfLoader};

use crate::source::SourceError;
use crate::source::btf::{Btf, BtfError};
use crate::source::cause::{self, CauseFit, Watched};

/// The object that is built into the agent.
pub(super) static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../agent-ebpf/prebuilt/process-throttler.bpf.o"
));

/// Environment variable that names another object; honoured by debug builds only, for testing a fresh one.
const OBJECT_VARIABLE: &str = "PROCESS_THROTTLER_BPF_OBJECT";

/// Where the kernel describes its types.
const BTF_PATH: &str = "/sys/kernel/btf/vmlinux";

/// How to open the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Size of the priority ring in bytes: a power of two and a multiple of the page size.
    pub priority_bytes: u32,
    /// Size of the bulk ring in bytes: a power of two and a multiple of the page size.
    pub bulk_bytes: u32,
    /// Whether the programs' debug output goes to the agent's log.
    pub debug_log: bool,
    /// Whether cgroup ids are those of the v1 cpu hierarchy instead of the unified one.
    pub cgroup_v1: bool,
    /// Where the host's `/proc` is.
    pub proc: PathBuf,
    /// Another object than the built-in one.
    pub object: Option<PathBuf>,
    /// Another description of the kernel's types than `/sys/kernel/btf/vmlinux`.
    pub btf: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        let object = if cfg!(debug_assertions) { std::env::var_os(OBJECT_VARIABLE) } else { None };
        Self {
            priority_bytes: abi::PRIORITY_RING_BYTES,
            bulk_bytes: abi::BULK_RING_BYTES,
            debug_log: false,
            cgroup_v1: false,
            proc: PathBuf::from("/proc"),
            object: object.map(PathBuf::from),
            btf: None,
        }
    }
}

/// The loaded programs and their maps. Dropping it detaches and frees all of it.
pub(super) struct Kernel {
    pub(super) ebpf: Ebpf,
    pub(super) settings: Array<MapData, Settings>,
    pub(super) armed: Array<MapData, u32>,
    pub(super) counters: PerCpuArray<MapData, [u64; loss::COUNT as usize]>,
    pub(super) comms: HashMap<MapData, CommBytes, u32>,
    pub(super) prefixes: Array<MapData, Prefix>,
    pub(super) uids: HashMap<MapData, u32, u32>,
    pub(super) cgroups: HashMap<MapData, u64, u32>,
    pub(super) critical: HashMap<MapData, u32, u64>,
    pub(super) watched: Watched,
    /// What keeps the programs attached that report processes.
    hooks: Vec<FdLink>,
    /// What the programs cannot tell on this kernel, and why.
    pub(super) lacks: Vec<String>,
}

/// What is read from the kernel while it runs.
pub(super) struct Rings {
    pub(super) priority: RingBuf<MapData>,
    pub(super) bulk: RingBuf<MapData>,
}

/// Loads the programs without attaching them, so that the maps can be filled first.
pub(super) fn load(options: &Options, fit: &Fit) -> Result<(Kernel, Rings), SourceError> {
    let (slot_mask, log_level) = (fit.slots - 1, if options.debug_log { u8::MAX } else { 0 });
    let object = options.object.as_ref().map(read).transpose()?;

    let mut ebpf = EbpfLoader::new()
        .override_global(global::ABI, &abi::ABI_VERSION, true)
        .override_global(global::OFFSETS, &fit.offsets, true)
        .override_global(global::SLOT_MASK, &slot_mask, true)
        .override_global(global::CAUSE_OFFSETS, &fit.causes.offsets, true)
        .override_global(global::VICTIM_IS, &fit.causes.victim_is, true)
        .override_global(global::HAS_MEMCG, &fit.causes.has_memcg, true)
        .override_global(global::HAS_GROUP_DEAD, &fit.has_group_dead, true)
        .override_global(global::LOG_LEVEL, &log_level, true)
        .map_max_entries(map::SLOTS, fit.slots)
        .map_max_entries(map::PRIORITY, options.priority_bytes)
        .map_max_entries(map::BULK, options.bulk_bytes)
        .load(object.as_deref().unwrap_or(OBJECT))
        .map_err(|error| refused(&error))?;

    let rings = Rings {
        priority: RingBuf::try_from(take(&mut ebpf, map::PRIORITY)?).map_err(|e| bpf(map::PRIORITY, &e))?,
        bulk: RingBuf::try_from(take(&mut ebpf, map::BULK)?).map_err(|e| bpf(map::BULK, &e))?,
    };
    macro_rules! typed {
        ($kind:ident, $name:expr) => {
            $kind::try_from(take(&mut ebpf, $name)?).map_err(|error| bpf($name, &error))?
        };
    }
    let kernel = Kernel {
        settings: typed!(Array, map::SETTINGS),
        armed: typed!(Array, map::ARMED),
        counters: typed!(PerCpuArray, map::COUNTERS),
        comms: typed!(HashMap, map::COMMS),
        prefixes: typed!(Array, map::PREFIXES),
        uids: typed!(HashMap, map::UIDS),
        cgroups: typed!(HashMap, map::CGROUPS),
        critical: typed!(HashMap, map::CRITICAL),
        watched: Watched::new(typed!(Array, map::WATCHED)),
        hooks: Vec::new(),
        lacks: Vec::new(),
        ebpf,
    };
    Ok((kernel, rings))
}

/// Loads the programs into the kernel and attaches the hooks.
pub(super) fn attach(kernel: &mut Kernel, fit: &Fit) -> Result<(), SourceError> {
    let btf = aya::Btf::from_sys_fs().map_err(|error| bpf("BTF of the kernel", &error))?;
    let iter: &mut Iter = program(&mut kernel.ebpf, program::TASKS)?;
    iter.load("task", &btf).map_err(|error| bpf(program::TASKS, &error))?;
    let hooks = [
        (program::FORK, "sched_process_fork"),
        (program::EXEC, "sched_process_exec"),
        (program::EXIT, "sched_process_exit"),
    ];
    for (name, tracepoint) in hooks {
        let hook: &mut BtfTracePoint = program(&mut kernel.ebpf, name)?;
        hook.load(tracepoint, &btf).map_err(|error| bpf(name, &error))?;
    }
    for (name, _) in hooks {
        let hook: &mut BtfTracePoint = program(&mut kernel.ebpf, name)?;
        let link = hook.attach().and_then(|id| hook.take_link(id)).map_err(|error| bpf(name, &error))?;
        kernel.hooks.push(link.into());
    }
    kernel.lacks = cause::attach(&mut kernel.ebpf, &btf, &fit.causes);
    Ok(())
}

impl Kernel {
    /// That nobody has taken the hooks away: without them nothing is told any more, which by itself nobody notices.
    pub(super) fn check_hooks(&self) -> Result<(), SourceError> {
        let mut hooks = self.hooks.iter();
        hooks.try_for_each(|hook| hook.info().map(drop)).map_err(|error| bpf("a hook is gone", &error))
    }
}

/// A program by its name and type.
pub(super) fn program<'a, P>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut P, SourceError>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program>,
    <&'a mut P as TryFrom<&'a mut aya::programs::Program>>::Error: Error,
{
    let program =
        ebpf.program_mut(name).ok_or_else(|| SourceError::Bpf(format!("object has no program {name}")))?;
    program.try_into().map_err(|error| bpf(name, &error))
}

/// An error of the loader with its causes, the verifier's log cut to its end.
pub(super) fn bpf(what: &str, error: &dyn Error) -> SourceError {
    SourceError::Bpf(format!("{what}: {}", shortened(&with_causes(error))))
}

/// What of the object depends on the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fit {
    pub(super) offsets: Offsets,
    pub(super) has_group_dead: u32,
    /// Where waits for a CPU are kept, for those who ask for it.
    pub(super) waits: Result<WaitOffsets, BtfError>,
    /// Entries of the slot table: a power of two.
    pub(super) slots: u32,
    pub(super) causes: CauseFit,
}

impl Fit {
    /// Resolved from the running kernel's BTF, or the one that the options name.
    pub(super) fn to_kernel(options: &Options) -> Result<Self, SourceError> {
        let path = options.btf.clone().unwrap_or_else(|| PathBuf::from(BTF_PATH));
        let btf = Btf::parse(read(&path)?).map_err(|error| btf_error(&error))?;
        Self::resolve(&btf, options.cgroup_v1, pid_max()?)
    }

    fn resolve(btf: &Btf, cgroup_v1: bool, pid_max: u32) -> Result<Self, SourceError> {
        // Absent without the cpu controller, and then not asked for either.
        let cpu_subsys = match btf.enum_value("cgroup_subsys_id", "cpu_cgrp_id") {
            Ok(value) => value,
            Err(_) if !cgroup_v1 => 0,
            Err(error) => return Err(btf_error(&error)),
        };
        let offsets = Offsets::resolve(cpu_subsys, |owner, member| btf.member_offset(owner, member))
            .map_err(|error| btf_error(&error))?;
        // The first argument is the tracer's own; then the task, then group_dead where it is passed.
        let arguments =
            btf.argument_count("btf_trace_sched_process_exit").map_err(|error| btf_error(&error))?;
        let has_group_dead = u32::from(arguments >= 3);
        let causes = CauseFit::resolve(btf);
        let waits = WaitOffsets::resolve(|owner, member| btf.member_offset(owner, member));
        Ok(Self { offsets, has_group_dead, waits, slots: slot_entries(pid_max), causes })
    }
}

/// Entries of the slot table: a power of two that holds every pid, if it may be that large.
fn slot_entries(pid_max: u32) -> u32 {
    pid_max.clamp(1, abi::SLOT_ENTRIES_MAX).next_power_of_two()
}

fn pid_max() -> Result<u32, SourceError> {
    let path = PathBuf::from("/proc/sys/kernel/pid_max");
    let text = read(&path)?;
    let number = std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse().ok());
    number.ok_or_else(|| SourceError::Io {
        operation: format!("read {}", path.display()),
        source: std::io::Error::new(std::io::ErrorKind::InvalidData, "not a number"),
    })
}

pub(super) fn read(path: &PathBuf) -> Result<Vec<u8>, SourceError> {
    std::fs::read(path)
        .map_err(|source| SourceError::Io { operation: format!("read {}", path.display()), source })
}

pub(super) fn take(ebpf: &mut Ebpf, name: &str) -> Result<aya::maps::Map, SourceError> {
    ebpf.take_map(name).ok_or_else(|| SourceError::Bpf(format!("object has no map {name}")))
}

pub(super) fn btf_error(error: &dyn Error) -> SourceError {
    SourceError::Btf(error.to_string())
}

/// An object that does not load; one without this version's marker is of another version.
pub(super) fn refused(error: &dyn Error) -> SourceError {
    let text = with_causes(error);
    if text.contains(global::ABI) {
        let version = abi::ABI_VERSION;
        return SourceError::Bpf(format!("object is not of ABI version {version}: {}", shortened(&text)));
    }
    SourceError::Bpf(format!("object: {}", shortened(&text)))
}

fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

/// The head and the end of a text that may hold a verifier log of megabytes.
fn shortened(text: &str) -> String {
    const HEAD: usize = 200;
    const TAIL: usize = 1500;
    let count = text.chars().count();
    if count <= HEAD + TAIL {
        return text.to_owned();
    }
    let head: String = text.chars().take(HEAD).collect();
    let tail: String = text.chars().skip(count - TAIL).collect();
    format!("{head} […] {tail}")
}

#[cfg(test)]
mod tests {
    use agent_common::offsets::CauseOffsets;

    use super::*;

    #[test]
    fn slots_are_a_power_of_two_within_bounds() {
        for (pid_max, slots) in
            [(0, 1), (301, 512), (32_768, 32_768), (32_769, 65_536), (4_194_304, 65_536), (u32::MAX, 65_536)]
        {
            assert_eq!(slot_entries(pid_max), slots);
        }
    }

    #[test]
    fn a_missing_member_is_named() {
        let task = crate::source::btf::tests::Builder::default()
            .add("task_struct", 4, false, 16, &[("pid", 0, 0), ("tgid", 0, 32)])
            .build();
        let btf = Btf::parse(task).unwrap();
        let error = Fit::resolve(&btf, false, 32_768).unwrap_err();
        assert_eq!(error.to_string(), "kernel BTF: this kernel has no task_struct.group_leader");
        let error = Fit::resolve(&btf, true, 32_768).unwrap_err();
        assert_eq!(error.to_string(), "kernel BTF: this kernel has no cpu_cgrp_id in enum cgroup_subsys_id");
    }

    #[test]
    fn an_object_of_another_abi_is_refused() {
        let marker = global::ABI.as_bytes();
        let mut object = OBJECT.to_vec();
        let at = |object: &[u8]| object.windows(marker.len()).position(|window| window == marker);
        while let Some(at) = at(&object) {
            object[at + marker.len() - 1] = b'9';
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("object");
        std::fs::write(&path, object).unwrap();
        let options = Options { object: Some(path), ..Options::default() };
        let causes =
            CauseFit { offsets: CauseOffsets::UNRESOLVED, has_memcg: 0, victim_is: 0, lacks: Vec::new() };
        let waits = Ok(WaitOffsets::UNRESOLVED);
        let fit = Fit { offsets: Offsets::UNRESOLVED, has_group_dead: 0, waits, slots: 8, causes };
        let error = load(&options, &fit).err().unwrap().to_string();
        let refused = format!("eBPF: object is not of ABI version {}", abi::ABI_VERSION);
        assert!(error.starts_with(&refused), "{error}");
    }

    #[test]
    fn long_logs_are_cut() {
        assert_eq!(shortened("short"), "short");
        let long = "ä".repeat(5000);
        assert_eq!(shortened(&long).chars().count(), 1705);
    }
}
