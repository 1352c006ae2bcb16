//! Files of `/proc` and of cgroups, which show what processes chose.

use std::fs;
use std::path::Path;

use process_throttler::cgroup::membership::{below, members, procs};
use process_throttler::cgroup::owner::owner;
use process_throttler::cgroup::stat::number;
use process_throttler::cgroup::{CpuStat, CpuUsage, Knob, Memberships, Part};
use process_throttler::clock;
use process_throttler::model::container::of_cgroup;
use process_throttler::model::cpu_list::CpuList;
use process_throttler::model::process::{Wants, printable, unprintable};
use process_throttler::model::signal::Resource;
use process_throttler::procfs::cgroup::{Hierarchy, memberships};
use process_throttler::procfs::pressure::Pressure;
use process_throttler::procfs::stat::Stat;
use process_throttler::procfs::{Proc, status};

use super::text::{is_one_line, is_plain};
use super::{Run, scratch, utf8};

const PID: u32 = 7;
const STAT: &str = "7 (a) S 1 7 7 0 -1 4194560 100 0 0 0 1 2 0 0 20 0 3 0 12345 1000 50 99 1 1 0 0 0 0 0 0 0 0 0 0 \
                    17 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n";
const STATUS: &str = "Name:\ta\nUid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\n";
const MOUNTINFO: &[u8] = b"25 1 0:22 / /nowhere rw - cgroup2 cgroup2 rw\n";
/// Files that are read, of which the first byte of an input names one.
const FILES: [&str; 14] = [
    "7/stat",
    "7/status",
    "7/cmdline",
    "7/cgroup",
    "7/schedstat",
    "7/task/7/schedstat",
    "meminfo",
    "loadavg",
    "stat",
    "uptime",
    "sys/kernel/pid_max",
    "sys/kernel/random/boot_id",
    "pressure/cpu",
    "self/mountinfo",
];

/// A file of `/proc`, through the parsers alone and through the reader of a whole `/proc`.
pub(super) fn proc() -> Run {
    let dir = scratch();
    for name in FILES {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
    }
    Box::new(move |bytes| {
        let Some((choice, text)) = bytes.split_first() else { return };
        parsers(text);
        let name = FILES[usize::from(*choice) % FILES.len()];
        fs::write(dir.path().join("7/stat"), STAT).unwrap();
        fs::write(dir.path().join("7/status"), STATUS).unwrap();
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        everything(dir.path());
        fs::remove_file(path).unwrap();
    })
}

fn parsers(text: &[u8]) {
    if let Some(stat) = Stat::parse(text) {
        is_one_line(&stat.comm);
    }
    let _ids = status::parse(text);
    let _pressure = Pressure::parse(text);
    let found = Hierarchy::find(text);
    for member in memberships(text) {
        is_one_line(&printable(member.path));
    }
    if let Some(hierarchy) = found {
        let _path = hierarchy.path_in(text);
    }
    let shown = printable(text).to_string();
    is_one_line(&shown);
    assert_eq!(unprintable(&shown).as_deref(), Some(text), "what is shown can be read back");
}

fn everything(dir: &Path) {
    let proc = match Proc::open(dir) {
        Ok(proc) => proc,
        Err(error) => return is_one_line(&error),
    };
    // Without one, nobody reads which cgroup a process is in.
    let hierarchy = proc.hierarchy().cloned().or_else(|| Hierarchy::find(MOUNTINFO));
    let proc = proc.with_hierarchy(hierarchy);
    if let Ok(Some((process, stat))) = proc.remains(PID) {
        assert_eq!(process.key, stat.key());
        if let Ok(Some(facts)) = proc.facts(process.key, Wants::ALL) {
            is_one_line(&serde_json::to_string(&facts).unwrap());
        }
        drop(proc.waits(process.key, 4));
    }
    let now = clock::now();
    if let Ok(Some(row)) = proc.row(PID, now, None) {
        let _shown = format!("{row:?}");
    }
    for resource in Resource::ALL {
        drop(proc.pressure(resource));
    }
    drop((proc.memory_total(), proc.memory_available(), proc.boot_id(), proc.pid_max()));
    drop((proc.uptime(), proc.load(), proc.busy_us()));
}

/// A file of a cgroup, and paths of cgroups.
pub(super) fn cgroup() -> Run {
    let dir = scratch();
    let file = dir.path().join("cpu.max");
    Box::new(move |bytes| {
        fs::write(&file, bytes).unwrap();
        fs::write(dir.path().join("cgroup.procs"), bytes).unwrap();
        drop((number(&file), procs(dir.path()), members(dir.path()), CpuStat::read(dir.path())));
        for part in [Part::Whole, Part::Default, Part::Device("8:0".into())] {
            if let Err(error) = Knob::look(&file, &part) {
                is_plain(&error);
            }
        }
        path(bytes);
        let Some(text) = utf8(bytes) else { return };
        let _stat = (CpuStat::parse(text), CpuUsage::parse(text));
        let (item, contents) = text.split_once('\n').unwrap_or((text, ""));
        let part = Part::from_item(item);
        assert_eq!(Part::from_item(&part.to_item()), part);
        let _value = part.pick(contents);
        if let Ok(list) = text.parse::<CpuList>() {
            assert_eq!(list.to_string().parse::<CpuList>().ok(), Some(list));
        }
    })
}

fn path(bytes: &[u8]) {
    let mount = Path::new("/sys/fs/cgroup");
    match below(mount, bytes) {
        Ok(path) => {
            let parent = path.components().any(|part| part == std::path::Component::ParentDir);
            assert!(path.starts_with(mount) && !parent, "{} leaves the mount", path.display());
        }
        Err(error) => is_one_line(&error),
    }
    let _owner = (owner(bytes, true), owner(bytes, false));
    if let Some(container) = of_cgroup(bytes) {
        container.id.iter().for_each(is_one_line);
    }
    let all = Memberships::from_bytes(bytes.to_vec());
    let _paths = (all.v1("cpu"), all.v2());
}
