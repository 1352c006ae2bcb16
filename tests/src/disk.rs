//! A small disk for the agent's state directory, which only the agent has and which is gone with it; and filling it.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};

use crate::daemon::Daemon;
use crate::places::Places;

const MOUNT: &str = "mount -t tmpfs -o size=4m,mode=700 pt-test-state \"$1\" && shift && exec \"$@\"";

/// Starts an agent whose state directory is on a disk of 4 MiB.
///
/// # Errors
/// As [`Daemon::start`].
pub fn start_on_small_disk(places: &Places) -> Result<Daemon<'_>> {
    let state = places.state();
    let state = state.to_str().context("a path of text")?;
    let unshare = ["unshare", "--mount", "--propagation", "private", "sh", "-euc", MOUNT, "sh", state];
    Daemon::start_under(places, &unshare)
}

/// Leaves no byte of the agent's disk free. Returns the file that takes it all, as it can be reached from here.
///
/// # Errors
/// When it cannot be written for another reason than that the disk is full.
pub fn fill(daemon: &Daemon<'_>) -> Result<PathBuf> {
    let inside = daemon.places().state().join("ballast");
    let path = PathBuf::from(format!("/proc/{}/root{}", daemon.pid(), inside.display()));
    let mut file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
    // In small steps at the end, so that not a page is left.
    for step in [1 << 16, 1 << 9] {
        let full = loop {
            if let Err(error) = file.write_all(&vec![0; step]) {
                break error;
            }
        };
        ensure!(full.kind() == ErrorKind::StorageFull, "fill the disk: {full}");
    }
    Ok(path)
}
