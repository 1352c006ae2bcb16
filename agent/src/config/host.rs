//! What a validation needs to know of this machine: accounts, and how much there is to limit.

use std::io;
use std::path::Path;

use crate::model::cpu_list::CpuList;

/// Looks up an account by name; `None` when there is none.
pub type Lookup = fn(&str) -> io::Result<Option<u32>>;

/// What is wrong with a program that is to be run, in words; nothing: it may be.
pub type Objection = fn(&Path) -> Option<String>;

/// Facts about the machine that a configuration is checked against.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    /// CPUs online; `None` when unknown, and then nothing is checked against it.
    pub cpus: Option<u32>,
    /// Which CPUs are online; `None` as above.
    pub online: fn() -> Option<CpuList>,
    /// Memory in bytes; `None` as above.
    pub memory: Option<u64>,
    /// Uid of a user.
    pub user: Lookup,
    /// Gid of a group.
    pub group: Lookup,
    /// Whether a program may be run.
    pub program: Objection,
}

impl Host {
    /// This machine.
    #[must_use]
    pub fn detect() -> Self {
        let info = rustix::system::sysinfo();
        // Wider than any word, so that it cannot overflow on any machine.
        let total = u128::from(info.totalram) * u128::from(info.mem_unit.max(1));
        Self {
            cpus: online_text().as_deref().and_then(count_cpus),
            online: || online_text()?.parse().ok(),
            memory: u64::try_from(total).ok(),
            user: uid_of,
            group: gid_of,
            program: super::critical::program::objection,
        }
    }
}

fn online_text() -> Option<String> {
    std::fs::read_to_string("/sys/devices/system/cpu/online").ok()
}

fn uid_of(name: &str) -> io::Result<Option<u32>> {
    Ok(nix::unistd::User::from_name(name)?.map(|user| user.uid.as_raw()))
}

fn gid_of(name: &str) -> io::Result<Option<u32>> {
    Ok(nix::unistd::Group::from_name(name)?.map(|group| group.gid.as_raw()))
}

/// Number of CPUs in a list such as `0-3,8` (cpuset(7), "List format").
fn count_cpus(list: &str) -> Option<u32> {
    let mut count = 0u32;
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        count = count.checked_add(last.checked_sub(first)?.checked_add(1)?)?;
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists() {
        assert_eq!(count_cpus("0-1\n"), Some(2));
        assert_eq!(count_cpus("0,2-3,8"), Some(4));
        for bad in ["", "a", "3-1", "0-4294967295"] {
            assert_eq!(count_cpus(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn this_machine_has_root_and_memory() {
        let host = Host::detect();
        assert!(host.cpus.unwrap() >= 1 && host.memory.unwrap() > 1 << 20);
        assert_eq!((host.user)("root").unwrap(), Some(0));
        assert_eq!((host.group)("no-such-group-here").unwrap(), None);
    }
}
