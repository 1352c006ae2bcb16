//! The rpm, by `rpmbuild` from the staged tree.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::{Parcel, changelog, stage};
use crate::cargo::{run, workspace_root};

/// Packs the staged tree.
///
/// # Errors
/// When a tool fails.
pub(super) fn pack(parcel: &Parcel, scratch: &Path, target: &Path) -> Result<PathBuf> {
    let spec = workspace_root()?.join("packaging/rpm/process-throttler.spec");
    stage::set_modes(&stage::tree(scratch), &[])?;
    let changes = scratch.join("changelog");
    stage::write(&changes, changelog::rpm(&parcel.changes()?, &parcel.publisher).as_bytes())?;
    let name = format!("process-throttler-{}-1.x86_64.rpm", parcel.version);
    let definitions = [
        ("_topdir", scratch.join("rpmbuild").display().to_string()),
        ("_dbpath", scratch.join("db").display().to_string()),
        ("_rpmdir", scratch.display().to_string()),
        ("_build_name_fmt", name.clone()),
        ("_binary_payload", format!("w{}.xzdio", parcel.effort.level())),
        ("_buildhost", "reproducible".to_owned()),
        ("use_source_date_epoch_as_buildtime", "1".to_owned()),
        ("clamp_mtime_to_source_date_epoch", "1".to_owned()),
        ("pt_version", parcel.version.clone()),
        ("pt_tree", stage::tree(scratch).display().to_string()),
        ("pt_changelog", changes.display().to_string()),
    ];
    let mut build = Command::new("rpmbuild");
    build.args(["-bb", "--quiet"]);
    for (macro_name, value) in definitions {
        build.arg("--define").arg(format!("{macro_name} {value}"));
    }
    // What it tells of each step goes to its error output.
    run(build.arg(spec).env("SOURCE_DATE_EPOCH", parcel.epoch()).env("LC_ALL", "C.UTF-8"))?;
    let package = target.join(&name);
    fs::rename(scratch.join(&name), &package).with_context(|| format!("move {name}"))?;
    Ok(package)
}
