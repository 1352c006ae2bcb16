//! What keeps a process in its cgroup, because leaving it would do more than limit it, or could not be undone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::cgroup::shown;

/// What the cgroups of a plan say, each of which is asked once: hundreds may leave the same.
#[derive(Debug, Default)]
pub(super) struct Stays(BTreeMap<PathBuf, Option<String>>);

impl Stays {
    /// Why a process may not be moved out of this cgroup.
    pub(super) fn why(&mut self, origin: &Path) -> Option<String> {
        if let Some(known) = self.0.get(origin) {
            return known.clone();
        }
        let why = why_stay(origin);
        self.0.insert(origin.to_owned(), why.clone());
        why
    }
}

/// Why a process may not be moved out of this cgroup; cgroups of v1 have no reason.
///
/// A process that leaves a frozen cgroup of v2 runs on. One that leaves a threaded subtree comes back with all of its
/// threads in one cgroup, wherever each had been (cgroup-v2.rst, "Threads").
fn why_stay(origin: &Path) -> Option<String> {
    // Neither v1 nor the root of v2 has it.
    let kind = std::fs::read_to_string(origin.join("cgroup.type")).ok()?;
    if matches!(kind.trim_end(), "threaded" | "domain threaded") {
        return Some(format!(
            "{} is threaded: its threads would not all come back to where they were",
            shown(origin)
        ));
    }
    let events = std::fs::read_to_string(origin.join("cgroup.events")).ok()?;
    let frozen = events.lines().any(|line| line == "frozen 1");
    frozen.then(|| format!("{} is frozen: moving it would let it run", shown(origin)))
}
