//! What is tested, and what runs it: built on the host, unpacked in the machine over its root file system.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use integration_tests::clock::SLOWNESS_VARIABLE;

use super::archive;
use crate::cargo::{cargo, cargo_command, run, target_dir, workspace_root};
use crate::package::{Effort, Parcel};

/// An emulated machine is ten to twenty times slower than its host; what waits is not only computation.
const SLOWNESS: &str = "10";
/// Random sequences of the restore property there; the host tries all.
const SEQUENCES: u32 = 48;
const THREADS_VARIABLE: &str = "PROCESS_THROTTLER_TEST_THREADS";
/// What the tests read of the workspace; it is at the same path in the machine.
const READ: [&str; 4] = ["docs", "packaging", "tests/scenarios", "agent-ebpf/prebuilt"];
/// Programs that the tests start.
const PROGRAMS: [&str; 2] = ["process-throttler", "storm"];

/// A version to upgrade from.
const OLDER: &str = "0.0.1";

/// The test programs that cargo built.
pub(super) struct Programs(BTreeMap<String, PathBuf>);

impl Programs {
    /// Builds them, and what they start.
    ///
    /// # Errors
    /// When something does not compile.
    pub(super) fn build() -> Result<Self> {
        // As `cargo xtask test` does, so that nothing is built twice.
        cargo(&["build", "--package", "process-throttler", "--package", "integration-tests", "--bins"])?;
        let mut command = cargo_command(&["test", "--no-run", "--message-format=json-render-diagnostics"])?;
        command.args(["--workspace", "--lib", "--test", "kernel", "--test", "systemd"]);
        let output = command.stderr(std::process::Stdio::inherit()).output().context("start cargo")?;
        ensure!(output.status.success(), "{command:?} ended with {}", output.status);
        let mut programs = BTreeMap::new();
        for line in String::from_utf8(output.stdout).context("what cargo says")?.lines() {
            let message: serde_json::Value = serde_json::from_str(line).context("what cargo says")?;
            if let (Some(name), Some(path)) =
                (message["target"]["name"].as_str(), message["executable"].as_str())
                && message["profile"]["test"] == true
            {
                programs.insert(name.to_owned(), PathBuf::from(path));
            }
        }
        Ok(Self(programs))
    }

    /// The test program of a target.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn test(&self, target: &str) -> Result<&Path> {
        self.0.get(target).map(PathBuf::as_path).with_context(|| format!("no test program {target}"))
    }
}

/// What the machine runs before it has a service manager, and then under it.
pub(super) struct Scripts {
    pub(super) plain: String,
    pub(super) managed: String,
}

/// Packs everything as `archive`.
///
/// # Errors
/// When something cannot be copied.
pub(super) fn pack(programs: &Programs, scripts: &Scripts, targets: &[&str], archive: &Path) -> Result<()> {
    let stage = archive.with_extension("d");
    if stage.exists() {
        fs::remove_dir_all(&stage).with_context(|| format!("remove {}", stage.display()))?;
    }
    let payload = stage.join("payload");
    let deps = payload.join("debug/deps");
    fs::create_dir_all(&deps).with_context(|| format!("create {}", deps.display()))?;
    for target in targets {
        strip(programs.test(target)?, &deps.join(target))?;
    }
    for name in PROGRAMS {
        strip(&target_dir()?.join("debug").join(name), &payload.join("debug").join(name))?;
    }
    let packages = payload.join("package");
    let parcel = Parcel::new(&target_dir()?.join("debug").join(PROGRAMS[0]), Effort::Least)?;
    parcel.deb(&packages)?;
    parcel.with_version(OLDER).deb(&packages)?;
    let root = workspace_root()?;
    let threads = root.join("agent/tests/fixtures/threads.rs");
    run(Command::new("rustc")
        .args(["-Copt-level=1", "--edition=2024", "-o"])
        .arg(payload.join("threads"))
        .arg(threads))?;
    for dir in READ {
        archive::copy_tree(&root.join(dir), &payload.join("workspace").join(dir))?;
    }
    // Paths of the tests' own sources lead through it: `agent/../docs`.
    fs::create_dir_all(payload.join("workspace/agent")).context("create agent/")?;
    write_guest(&stage, &payload, &root, scripts)?;
    archive::pack(&stage, archive)?;
    fs::remove_dir_all(&stage).with_context(|| format!("remove {}", stage.display()))
}

fn write_guest(stage: &Path, payload: &Path, root: &Path, scripts: &Scripts) -> Result<()> {
    let environment = format!(
        "export {SLOWNESS_VARIABLE}={SLOWNESS} {THREADS_VARIABLE}=/payload/threads PT_SEQUENCES={SEQUENCES} RUST_BACKTRACE=0 RUSTC_BOOTSTRAP=1\nWORKSPACE='{}'\n",
        root.display()
    );
    let files = [
        ("init.sh", include_str!("guest/init.sh").to_owned()),
        ("systemd.sh", include_str!("guest/systemd.sh").to_owned()),
        ("suites.sh", include_str!("guest/suites.sh").to_owned()),
        ("environment", environment),
        ("plain.sh", scripts.plain.clone()),
        ("managed.sh", scripts.managed.clone()),
    ];
    for (name, text) in files {
        let path = payload.join(name);
        fs::write(&path, text).with_context(|| format!("write {name}"))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).context("make a script executable")?;
    }
    let units = stage.join("etc/systemd/system");
    let wants = units.join("multi-user.target.wants");
    fs::create_dir_all(&wants).with_context(|| format!("create {}", wants.display()))?;
    let unit = "vm-suites.service";
    fs::write(units.join(unit), include_str!("guest/vm-suites.service")).context("write the unit")?;
    symlink(Path::new("..").join(unit), wants.join(unit)).context("enable the unit")
}

/// Symbols are most of a debug build, and the machine keeps every file in memory.
fn strip(from: &Path, to: &Path) -> Result<()> {
    run(Command::new("strip").arg("-o").arg(to).arg(from))
}
