//! cpio archives. The kernel unpacks any number of them, one behind the other, into one file system.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

/// Packs a directory as `archive`, in the `newc` format that the kernel reads.
///
/// # Errors
/// When a file cannot be read or the archive not be written.
pub(super) fn pack(dir: &Path, archive: &Path) -> Result<()> {
    let output = File::create(archive).with_context(|| format!("create {}", archive.display()))?;
    let mut find = Command::new("find");
    find.args([".", "-mindepth", "1", "-print0"]).current_dir(dir).stdout(Stdio::piped());
    let mut find = find.spawn().context("start find")?;
    let names = find.stdout.take().context("find has an output")?;
    let mut cpio = Command::new("cpio");
    cpio.args(["--create", "--null", "--format=newc", "--quiet"]);
    let packed = cpio.current_dir(dir).stdin(names).stdout(output).status().context("start cpio")?;
    let found = find.wait().context("wait for find")?;
    ensure!(found.success() && packed.success(), "packing {}: find {found}, cpio {packed}", dir.display());
    Ok(())
}

/// Writes archives one behind the other.
///
/// # Errors
/// When one cannot be read or the target not be written.
pub(super) fn join(archives: &[&Path], target: &Path) -> Result<()> {
    let mut output = File::create(target).with_context(|| format!("create {}", target.display()))?;
    for archive in archives {
        let mut input = File::open(archive).with_context(|| format!("open {}", archive.display()))?;
        std::io::copy(&mut input, &mut output).with_context(|| format!("append {}", archive.display()))?;
    }
    Ok(())
}

/// Copies a directory with everything in it; links are followed.
///
/// # Errors
/// When something in it cannot be read, or not be written there.
pub(super) fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("create {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("list {}", from.display()))? {
        let path = entry?.path();
        let target = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            copy_tree(&path, &target)?;
        } else {
            fs::copy(&path, &target).with_context(|| format!("copy {}", path.display()))?;
        }
    }
    Ok(())
}
