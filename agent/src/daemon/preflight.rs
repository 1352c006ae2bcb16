//! What must hold before the agent starts: its directories, its lock, and who it is.

use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use crate::config::paths::Dirs;
use crate::engine::Own;
use crate::model::id::ProcKey;
use crate::procfs::{Proc, ProcError};

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("make directory {path}: {source}")]
pub struct DirError {
    path: String,
    source: io::Error,
}

/// Makes the directories that are missing. The state directory holds prior values and outgoing alerts, the
/// log directory what happened: neither is for everybody.
///
/// # Errors
/// When one cannot be made.
pub fn make_dirs(dirs: &Dirs) -> Result<(), DirError> {
    make(&dirs.state, 0o700)?;
    make(&dirs.runtime, 0o755)?;
    make(&dirs.log, 0o750)
}

fn make(path: &Path, mode: u32) -> Result<(), DirError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|source| DirError { path: path.display().to_string(), source })
}

/// Why the agent cannot tell who it is.
#[derive(Debug, thiserror::Error)]
pub enum OwnError {
    /// `/proc` cannot be read.
    #[error(transparent)]
    Proc(#[from] ProcError),
    /// `/proc` is that of another pid namespace.
    #[error("/proc has no process {0}, which is this one: it belongs to another pid namespace")]
    Missing(u32),
}

/// Deepest chain of ancestors that is followed.
const ANCESTORS_MAX: usize = 64;

/// The agent and its ancestors, which are never limited.
///
/// # Errors
/// When `/proc` does not tell.
pub fn own(proc: &Proc) -> Result<Own, OwnError> {
    let mut ancestors: Vec<ProcKey> = Vec::new();
    let own = std::process::id();
    let this = proc.process(own)?.ok_or(OwnError::Missing(own))?;
    let mut parent = this.ppid;
    while parent != 0 && ancestors.len() < ANCESTORS_MAX {
        let Some(process) = proc.process(parent)? else { break };
        ancestors.push(process.key);
        parent = process.ppid;
    }
    Ok(Own { key: this.key, ancestors })
}
