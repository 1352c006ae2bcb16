//! Which cgroups use the CPUs: those of the top two levels of the hierarchy that accounts CPU time. It names no
//! culprit and keeps no history.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::cgroup::stat::CpuUsage;
use crate::cgroup::{Cgroup as _, Controller, Driver, membership};

/// Most cgroups that are looked at, the root included: a file is kept open of each.
pub const CGROUPS_MAX: usize = 96;
/// `cpuacct.usage` is a number; `usage_usec` is the first line of `cpu.stat` (kernel/cgroup/rstat.c).
const USAGE_MAX: usize = 128;

/// The cgroups that are looked at, with their files open.
#[derive(Debug)]
pub struct CpuUsers {
    root: PathBuf,
    file: &'static str,
    known: Vec<Known>,
    complete: bool,
}

#[derive(Debug)]
struct Known {
    /// Below the root; empty for the root itself.
    path: PathBuf,
    file: File,
}

/// CPU time of cgroups at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuTimes {
    /// In ns since each was made, all below it included; by path below the root.
    used: BTreeMap<PathBuf, u64>,
    /// Whether these are all cgroups of the two levels.
    complete: bool,
}

impl CpuUsers {
    /// Those of the hierarchy that accounts CPU time: v2; on v1 that with `cpuacct`, which may be mounted apart from
    /// `cpu`. `None` where there is none.
    #[must_use]
    pub fn find(driver: &Driver) -> Option<Self> {
        let cpu = driver.mount(Controller::Cpu)?;
        let apart = cpu.parent().map(|parent| parent.join("cpuacct"));
        let v1 = [Some(cpu.to_owned()), apart].into_iter().flatten();
        let found = match driver {
            Driver::V1(_) => {
                v1.map(|root| (root, "cpuacct.usage")).find(|(root, file)| root.join(file).exists())
            }
            Driver::V2(_) => Some((cpu.to_owned(), "cpu.stat")),
        };
        found.map(|(root, file)| Self { root, file, known: Vec::new(), complete: false })
    }

    /// Where the hierarchy is mounted.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Looks which cgroups there are, and reads them.
    pub fn look(&mut self) -> CpuTimes {
        let (paths, complete) = list(&self.root);
        let open = |path: &Path| File::open(self.root.join(path).join(self.file)).ok();
        let mut old: BTreeMap<PathBuf, File> =
            self.known.drain(..).map(|known| (known.path, known.file)).collect();
        let mut times = CpuTimes { used: BTreeMap::new(), complete };
        for path in paths {
            // An open file of a cgroup that was removed and made again answers no more.
            let kept = old.remove(&path).and_then(|file| Some((read(&file)?, file)));
            let found = kept.or_else(|| {
                let file = open(&path)?;
                Some((read(&file)?, file))
            });
            // One that went away meanwhile counts with the one above it.
            if let Some((used, file)) = found {
                times.used.insert(path.clone(), used);
                self.known.push(Known { path, file });
            }
        }
        self.complete = complete;
        times
    }

    /// Reads the same cgroups again.
    #[must_use]
    pub fn again(&self) -> CpuTimes {
        let read = |known: &Known| Some((known.path.clone(), read(&known.file)?));
        CpuTimes { used: self.known.iter().filter_map(read).collect(), complete: self.complete }
    }
}

impl CpuTimes {
    /// CPU time in ns since an earlier moment, the largest first. What a cgroup of these uses is told of itself alone
    /// and not of the one above it, which has what is left: its own processes and cgroups that are not listed.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Vec<(PathBuf, u64)> {
        let mut grown: BTreeMap<&Path, u64> = BTreeMap::new();
        for (path, used) in &self.used {
            let before = match earlier.used.get(path) {
                Some(before) => *before,
                // It was made since.
                None if earlier.complete => 0,
                None => continue,
            };
            grown.insert(path, used.saturating_sub(before));
        }
        let below = |above: &Path| -> u64 {
            let children = grown.iter().filter(|(path, _)| path.parent() == Some(above));
            children.map(|(_, used)| used).fold(0, |sum, used| sum.saturating_add(*used))
        };
        let alone = |(path, used): (&&Path, &u64)| (path.to_path_buf(), used.saturating_sub(below(path)));
        let mut all: Vec<_> = grown.iter().map(alone).collect();
        all.sort_by_key(|(_, used)| std::cmp::Reverse(*used));
        all
    }
}

/// The cgroups of the top two levels, those of the first before all of the second, and whether these are all.
fn list(root: &Path) -> (Vec<PathBuf>, bool) {
    let mut found = vec![PathBuf::new()];
    let mut complete = true;
    let mut level = 0..1;
    for _ in 0..2 {
        let begin = found.len();
        for at in level {
            let Some(parent) = found.get(at).cloned() else { continue };
            let dir = root.join(&parent);
            // One that goes away meanwhile has no children.
            if !membership::has_children(&dir).unwrap_or(false) {
                continue;
            }
            for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
                if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    continue;
                }
                if found.len() == CGROUPS_MAX {
                    complete = false;
                    break;
                }
                found.push(parent.join(entry.file_name()));
            }
        }
        level = begin..found.len();
    }
    (found, complete)
}

fn read(file: &File) -> Option<u64> {
    let mut bytes = [0; USAGE_MAX];
    // A cgroup that is gone answers ENODEV.
    let length = file.read_at(&mut bytes, 0).ok()?;
    usage(std::str::from_utf8(bytes.get(..length)?).ok()?)
}

fn usage(text: &str) -> Option<u64> {
    CpuUsage::parse(text).map(|usage| usage.used_ns).or_else(|| text.strip_suffix('\n')?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(used: &[(&str, u64)], complete: bool) -> CpuTimes {
        CpuTimes { used: used.iter().map(|(path, used)| (PathBuf::from(path), *used)).collect(), complete }
    }

    fn told(used: &[(PathBuf, u64)]) -> Vec<(&str, u64)> {
        used.iter().map(|(path, used)| (path.to_str().unwrap(), *used)).collect()
    }

    #[test]
    fn each_counts_alone_and_the_rest_with_the_one_above() {
        let before = times(&[("", 100), ("a", 50), ("a/x", 40), ("b", 5), ("gone", 9)], true);
        let after = times(&[("", 200), ("a", 110), ("a/x", 90), ("a/new", 3), ("b", 5)], true);
        let expected = [("a/x", 50), ("", 40), ("a", 7), ("a/new", 3), ("b", 0)];
        assert_eq!(told(&after.since(&before)), expected);
        // Where not all were listed, one that was not may be old: it counts with the one above it.
        let expected = [("a/x", 50), ("", 40), ("a", 10), ("b", 0)];
        assert_eq!(told(&after.since(&CpuTimes { complete: false, ..before })), expected);
        // A cgroup that was made again under its name has a smaller counter.
        assert_eq!(told(&times(&[("a", 1)], true).since(&after)), [("a", 0)]);
    }

    #[test]
    fn usage_of_both_versions() {
        assert_eq!(usage("usage_usec 12\nuser_usec 3\nsys"), Some(12_000));
        assert_eq!(usage("4711\n"), Some(4_711));
        for bad in ["", "\n", "47", "x\n", "nr_periods 3\n", "usage_usec x\n"] {
            assert_eq!(usage(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn two_levels_are_looked_at_and_no_more_than_the_most() {
        let root = tempfile::tempdir().unwrap();
        let file = |path: &str, used: &str| {
            std::fs::create_dir_all(root.path().join(path)).unwrap();
            std::fs::write(root.path().join(path).join("cpuacct.usage"), used).unwrap();
        };
        for (path, used) in [("", "9\n"), ("a", "8\n"), ("a/x", "7\n"), ("a/x/deep", "1\n"), ("b", "none")] {
            file(path, used);
        }
        let mut users = CpuUsers {
            root: root.path().to_owned(),
            file: "cpuacct.usage",
            known: Vec::new(),
            complete: false,
        };
        let seen = users.look();
        assert_eq!(seen, times(&[("", 9), ("a", 8), ("a/x", 7)], true));
        file("a/x", "70\n");
        assert_eq!(users.again().since(&seen).first(), Some(&(PathBuf::from("a/x"), 63)));

        for number in 0..CGROUPS_MAX {
            file(&format!("many{number}"), "1\n");
        }
        let seen = users.look();
        assert!(!seen.complete && seen.used.len() <= CGROUPS_MAX);
    }

    #[test]
    fn this_host_accounts_cpu_time() {
        let driver = crate::cgroup::detect(&crate::cgroup::Roots::default()).unwrap();
        let mut users = CpuUsers::find(&driver).unwrap();
        let seen = users.look();
        assert!(seen.used.contains_key(Path::new("")), "{:?}", users.root());
    }
}
