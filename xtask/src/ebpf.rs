//! Builds the eBPF object from source. What is committed is stripped and comes with the hash of its sources,
//! so that a plain `cargo build` needs no BPF toolchain and nobody commits a stale one.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use sha2::{Digest as _, Sha256};

const OBJECT: &str = "agent-ebpf/prebuilt/process-throttler.bpf.o";
const HASHES: &str = "agent-ebpf/prebuilt/SOURCES.sha256";
const FRESH: &str = "agent-ebpf/target/process-throttler.bpf.o";
const LINKED: &str = "agent-ebpf/target/bpfel-unknown-none/release/process-throttler";
/// What the object is made of: directories are walked.
const SOURCES: [&str; 6] = [
    "agent-common/Cargo.toml",
    "agent-common/src",
    "agent-ebpf/Cargo.lock",
    "agent-ebpf/Cargo.toml",
    "agent-ebpf/src",
    "xtask/src/ebpf.rs",
];
/// Read by debug builds of the agent: the object to load instead of the built-in one.
const OBJECT_VARIABLE: &str = "PROCESS_THROTTLER_BPF_OBJECT";

/// Builds the object and writes it to `agent-ebpf/prebuilt`. With `check` the committed one is left alone:
/// it must be of these sources, and the fresh one must pass the native tests (as root).
///
/// # Errors
/// When a tool is missing or fails, or when the committed object is stale.
pub(crate) fn run(check: bool) -> Result<()> {
    let root = workspace_root()?;
    if check {
        ensure_fresh(&root)?;
    }
    let object = build(&root)?;
    if check {
        return test(&root, &object);
    }
    let bytes = std::fs::read(&object).with_context(|| format!("read {}", object.display()))?;
    let prebuilt = root.join(OBJECT);
    let directory = prebuilt.parent().context("the object lies in a directory")?;
    std::fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
    write(&prebuilt, &bytes)?;
    write(&root.join(HASHES), hashes(&root, &bytes)?.as_bytes())
}

/// Lints the kernel side.
///
/// # Errors
/// When a tool is missing, or when there is a warning.
pub(crate) fn clippy() -> Result<()> {
    let root = workspace_root()?;
    let mut command = Toolchain::find()?.cargo(&root, "clippy")?;
    command.args(["--", "-D", "warnings"]);
    execute(&mut command)
}

/// Fails when the committed object is not the one that was built from the sources as they are.
fn ensure_fresh(root: &Path) -> Result<()> {
    let read = |path: &str| std::fs::read(root.join(path)).with_context(|| format!("read {path}"));
    let (recorded, object) = (read(HASHES)?, read(OBJECT)?);
    ensure!(
        recorded == hashes(root, &object)?.as_bytes(),
        "{OBJECT} is stale: {HASHES} does not fit it or its sources; run `cargo xtask ebpf` and commit both"
    );
    Ok(())
}

fn build(root: &Path) -> Result<PathBuf> {
    let toolchain = Toolchain::find()?;
    // The names of the registries' directories must be known before the build renames them.
    execute(&mut toolchain.fetch(root))?;
    execute(&mut toolchain.cargo(root, "build")?)?;
    let fresh = root.join(FRESH);
    // Line numbers stay in .BTF.ext, where the verifier's log takes them from; DWARF goes.
    execute(Command::new(find_strip()?).arg("-g").arg("-o").arg(&fresh).arg(root.join(LINKED)))?;
    Ok(fresh)
}

fn test(root: &Path, object: &Path) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["test", "--quiet", "-p", "process-throttler", "--lib", "source::ebpf"]);
    execute(command.current_dir(root).env(OBJECT_VARIABLE, object))
}

/// A Rust compiler whose LLVM is no newer than bpf-linker's, with the sources of `core`.
struct Toolchain {
    rustc: PathBuf,
    cargo: PathBuf,
}

impl Toolchain {
    fn find() -> Result<Self> {
        // Debian's own first: the pinned toolchain has the sources only where rustup can fetch them.
        let debian = Self { rustc: "/usr/bin/rustc".into(), cargo: "/usr/bin/cargo".into() };
        let pinned = Self { rustc: "rustc".into(), cargo: "cargo".into() };
        for toolchain in [debian, pinned] {
            if toolchain.has_core_sources() {
                return Ok(toolchain);
            }
        }
        bail!("no Rust compiler with the sources of core; run `cargo xtask setup`")
    }

    fn has_core_sources(&self) -> bool {
        let library = |sysroot: PathBuf| sysroot.join("lib/rustlib/src/rust/library/core/Cargo.toml");
        self.sysroot().is_some_and(|sysroot| library(sysroot).is_file())
    }

    fn sysroot(&self) -> Option<PathBuf> {
        let output = Command::new(&self.rustc).args(["--print", "sysroot"]).output().ok()?;
        let sysroot = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| PathBuf::from(sysroot.trim()))
    }

    /// A cargo command on the kernel-side crate. It is nightly in name only: `core` is built for a target
    /// that has no compiled one. No path of the machine ends up in the object.
    fn cargo(&self, root: &Path, subcommand: &str) -> Result<Command> {
        let mut flags = String::from("-Cdebuginfo=2\u{1f}-Ctarget-cpu=v3\u{1f}-Clink-arg=--btf");
        let core = self.sysroot().context("the compiler has no sysroot")?.join("lib/rustlib/src/rust");
        let mut renamed = vec![(core, "/rust"), (root.to_owned(), "/process-throttler")];
        renamed.extend(registries()?.into_iter().map(|registry| (registry, "/registry")));
        for (from, to) in renamed {
            let from = from.to_str().with_context(|| format!("{} is not UTF-8", from.display()))?;
            write!(flags, "\u{1f}--remap-path-prefix={from}={to}")?;
        }
        let mut command = self.plain_cargo(root);
        command.arg(subcommand).args(["--release", "--locked", "-Zbuild-std=core"]);
        command.args(["--target", "bpfel-unknown-none", "--target-dir", "target"]);
        command.env("CARGO_ENCODED_RUSTFLAGS", flags);
        // Debian's clippy is found by the search path of the cargo that runs it.
        if let Some(directory) = self.cargo.parent().filter(|directory| directory.is_absolute()) {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let directories = [directory.to_owned()].into_iter().chain(std::env::split_paths(&path));
            command.env("PATH", std::env::join_paths(directories)?);
        }
        Ok(command)
    }

    fn fetch(&self, root: &Path) -> Command {
        let mut command = self.plain_cargo(root);
        command.args(["fetch", "--quiet", "--locked"]);
        command
    }

    /// Cargo in the kernel-side crate, without what the cargo that runs this program has set for itself.
    fn plain_cargo(&self, root: &Path) -> Command {
        let mut command = Command::new(&self.cargo);
        command.current_dir(root.join("agent-ebpf")).env("RUSTC", &self.rustc).env("RUSTC_BOOTSTRAP", "1");
        for inherited in ["RUSTUP_TOOLCHAIN", "RUSTFLAGS", "RUSTC_WRAPPER", "CARGO", "CARGO_BUILD_TARGET"] {
            command.env_remove(inherited);
        }
        command
    }
}

/// Where cargo keeps the sources of the crates it fetched: one directory per registry, named after it.
fn registries() -> Result<Vec<PathBuf>> {
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cargo")))
        .context("neither CARGO_HOME nor HOME is set")?;
    let sources = home.join("registry/src");
    if !sources.is_dir() {
        return Ok(Vec::new());
    }
    let entries = std::fs::read_dir(&sources).with_context(|| format!("list {}", sources.display()))?;
    entries.map(|entry| Ok(entry?.path())).collect()
}

/// An llvm-strip that knows BPF.
fn find_strip() -> Result<PathBuf> {
    let names = ["llvm-strip-22", "/usr/lib/llvm-22/bin/llvm-strip", "llvm-strip"];
    let works = |name: &&str| {
        Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success())
    };
    names.iter().find(|name| works(name)).map(PathBuf::from).context("no llvm-strip; run `cargo xtask setup`")
}

/// The text of the hash file: one hash over all sources, one of the object.
fn hashes(root: &Path, object: &[u8]) -> Result<String> {
    Ok(format!(
        "{}  sources\n{}  process-throttler.bpf.o\n",
        hash_sources(root)?,
        hex(&Sha256::digest(object))
    ))
}

/// Over names, lengths and contents, in the order of the names.
fn hash_sources(root: &Path) -> Result<String> {
    let mut files = Vec::new();
    for source in SOURCES {
        list(&root.join(source), &mut files)?;
    }
    files.sort();
    let mut hash = Sha256::new();
    for file in files {
        let name = file.strip_prefix(root)?.to_str().context("source name is not UTF-8")?;
        let bytes = std::fs::read(&file).with_context(|| format!("read {}", file.display()))?;
        hash.update(format!("{name} {}\n", bytes.len()));
        hash.update(bytes);
    }
    Ok(hex(&hash.finalize()))
}

fn list(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    for entry in std::fs::read_dir(path).with_context(|| format!("list {}", path.display()))? {
        list(&entry?.path(), files)?;
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _written = write!(text, "{byte:02x}");
        text
    })
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes).with_context(|| format!("write {}", path.display()))
}

fn execute(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("start {command:?}"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}

fn workspace_root() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the workspace")?;
    Ok(root.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_object_is_of_these_sources() {
        ensure_fresh(&workspace_root().unwrap()).unwrap();
    }

    #[test]
    fn a_stale_object_is_noticed() {
        let directory = std::env::temp_dir().join(format!("pt-test-stale-{}", std::process::id()));
        for source in SOURCES.iter().chain([&OBJECT, &HASHES]) {
            let path = directory.join(source);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, source).unwrap();
        }
        let record = || {
            let object = std::fs::read(directory.join(OBJECT)).unwrap();
            std::fs::write(directory.join(HASHES), hashes(&directory, &object).unwrap()).unwrap();
        };
        let mut verdicts = vec![ensure_fresh(&directory).is_ok()];
        record();
        verdicts.push(ensure_fresh(&directory).is_ok());
        for changed in [SOURCES[0], OBJECT] {
            std::fs::write(directory.join(changed), "changed").unwrap();
            verdicts.push(ensure_fresh(&directory).is_ok());
            record();
        }
        std::fs::remove_dir_all(&directory).unwrap();
        assert_eq!(verdicts, [false, true, false, false]);
    }
}
