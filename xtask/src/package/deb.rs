//! The Debian package, by Debian's own tools: `dpkg-shlibdeps` finds what the program needs, `dpkg-gencontrol` writes the
//! control file, `dpkg-deb` packs.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use super::{Parcel, changelog, stage};
use crate::cargo::{run, workspace_root};

const NAME: &str = "process-throttler";
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

/// Packs the staged tree.
///
/// # Errors
/// When a tool fails.
pub(super) fn pack(parcel: &Parcel, scratch: &Path, target: &Path) -> Result<PathBuf> {
    let (sources, tree) = (workspace_root()?.join("packaging/debian"), stage::tree(scratch));
    let changes = changelog::debian(&parcel.changes()?, &parcel.publisher);
    documents(&sources, &tree, &changes)?;
    let control = tree.join("DEBIAN");
    stage::write(&control.join("md5sums"), sums(&tree)?.as_bytes())?;
    stage::write(&control.join("conffiles"), conffiles(&tree)?.as_bytes())?;
    let scripts = SCRIPTS.map(|script| control.join(script));
    for (script, path) in SCRIPTS.iter().zip(&scripts) {
        stage::copy(&sources.join(script), path)?;
    }
    // The tools look for these below the directory in which they run.
    stage::copy(&sources.join("control"), &scratch.join("debian/control"))?;
    stage::write(&scratch.join("debian/changelog"), changes.as_bytes())?;
    let tool = |name: &str| {
        let mut command = Command::new(name);
        command.current_dir(scratch).env("SOURCE_DATE_EPOCH", parcel.epoch()).env("LC_ALL", "C.UTF-8");
        command
    };
    run(tool("dpkg-shlibdeps").arg(tree.join("usr/bin").join(NAME)))?;
    let publisher = format!("-DMaintainer={}", parcel.publisher);
    run(tool("dpkg-gencontrol").arg(format!("-P{}", tree.display())).arg(publisher))?;
    stage::set_modes(&tree, &scripts)?;
    let package = target.join(format!("{NAME}_{}_amd64.deb", parcel.version));
    let level = format!("-z{}", parcel.effort.level());
    run(tool("dpkg-deb")
        .args(["--root-owner-group", "-Zxz", &level, "--build"])
        .arg(&tree)
        .arg(&package)
        .stdout(Stdio::null()))?;
    Ok(package)
}

/// What Debian wants beside the documentation.
fn documents(sources: &Path, tree: &Path, changes: &str) -> Result<()> {
    let doc = tree.join("usr/share/doc").join(NAME);
    stage::copy(&sources.join("copyright"), &doc.join("copyright"))?;
    // The package's own name for it, because the version has no revision of Debian's.
    let changelog = doc.join("changelog");
    stage::write(&changelog, changes.as_bytes())?;
    stage::compress(&[changelog])
}

/// The files that are configuration: dpkg keeps what the administrator has made of them.
fn conffiles(tree: &Path) -> Result<String> {
    let mut list = String::new();
    for path in stage::files(&tree.join("etc"))? {
        writeln!(list, "/etc/{}", path.display())?;
    }
    Ok(list)
}

/// What `debsums` compares an installation with. Configuration may differ.
fn sums(tree: &Path) -> Result<String> {
    let files = stage::files(tree)?;
    let files = files.iter().filter(|path| !path.starts_with("etc") && !path.starts_with("DEBIAN"));
    let output = Command::new("md5sum").args(files).current_dir(tree).output().context("start md5sum")?;
    ensure!(output.status.success(), "md5sum ended with {}", output.status);
    String::from_utf8(output.stdout).context("what md5sum says")
}
