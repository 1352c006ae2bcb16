//! `oom_score_adj`, proc_pid_oom_score_adj(5).
//!
//! Behind the value the kernel keeps a floor that no file shows: below it, a process without `CAP_SYS_RESOURCE`
//! may not go. Whoever writes with that capability moves the floor to what they write (`__set_oom_adj` in
//! fs/proc/base.c). A raise and its restoration are therefore written without it, so that the floor stays where it
//! was; after a lowering, which needs it, the floor goes back up with the value.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::Path;

use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

use crate::model::id::ProcKey;
use crate::procfs::stat::Stat;

pub(super) fn read(proc: &Path, process: ProcKey) -> io::Result<String> {
    let path = proc.join(process.pid.to_string()).join("oom_score_adj");
    let text = std::fs::read_to_string(path)?;
    text.trim_end()
        .parse::<i16>()
        .map(|score| score.to_string())
        .map_err(|_no_number| super::malformed(&text))
}

/// `before` is the value without us: this is a raise and comes back as one, or a lowering.
pub(super) fn write(proc: &Path, process: ProcKey, value: &str, before: &str) -> io::Result<()> {
    let (to, base) = (super::number(value)?, super::number(before)?);
    let now = super::number(&read(proc, process)?)?;
    let lowers = to < base || now < base;
    if lowers {
        return put(proc, process, value);
    }
    match without_capability(|| put(proc, process, value)) {
        // Somebody else has moved the floor meanwhile: it is not what it was in any case.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => put(proc, process, value),
        other => other,
    }
}

fn put(proc: &Path, process: ProcKey, value: &str) -> io::Result<()> {
    let path = proc.join(process.pid.to_string()).join("oom_score_adj");
    // An open file stays with its process, and fails when that is gone: a successor of the pid is not written to.
    let mut file = OpenOptions::new().write(true).open(path)?;
    if Stat::read(proc, process.pid)?.start != process.start {
        return Err(io::ErrorKind::NotFound.into());
    }
    file.write_all(value.as_bytes())
}

/// Does something without `CAP_SYS_RESOURCE`; capabilities are of a thread (capabilities(7)).
fn without_capability<T>(work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let had = capabilities(None)?;
    if !had.effective.contains(CapabilitySet::SYS_RESOURCE) {
        return work();
    }
    let mut less = had;
    less.effective -= CapabilitySet::SYS_RESOURCE;
    set_capabilities(None, less)?;
    let result = work();
    set_capabilities(None, had)?;
    result
}
