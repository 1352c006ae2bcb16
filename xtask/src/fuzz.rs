//! `cargo xtask fuzz`: lets libFuzzer look for inputs that break a promise of `fuzz/src/targets`.
//!
//! The compiler's coverage counters are a pass of LLVM that the pinned toolchain has and stable options reach, so
//! neither a nightly compiler nor cargo-fuzz is needed; only a C++ compiler, for libFuzzer itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;

use crate::cargo::{cargo_command, run as run_command, target_dir, workspace_root};

/// Which targets, and for how long.
#[derive(Args)]
pub(crate) struct Options {
    /// Only these, named as the directories in fuzz/corpus; all when none is given.
    targets: Vec<String>,
    /// How long to fuzz each one.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Afterwards put the fewest inputs that reach everything found into fuzz/corpus.
    #[arg(long)]
    keep: bool,
}

/// What cargo-fuzz asks of rustc, but for the sanitizers: those need a nightly compiler, and the agent's `unsafe` is in
/// system calls, where they see little. Comparisons are traced, so that keywords are found.
const RUSTFLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                         -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
                         -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares";
/// Longest input that is made up, in bytes: enough for every construct, and mutations still hit something.
const INPUT_MAX: u32 = 4_096;
/// Longest input that is kept.
const KEPT_MAX: u64 = 2_048;
/// One input may take this long, in seconds, and this much memory, in MiB.
const TIMEOUT: u32 = 10;
const MEMORY_MAX: u32 = 1_024;

/// Builds the targets and fuzzes them one after the other.
///
/// # Errors
/// When a target is not known, cannot be built, or has a finding, which is printed with the way to see it again.
pub(crate) fn run(options: &Options) -> Result<()> {
    let root = workspace_root()?;
    let kept = root.join("fuzz/corpus");
    let all = names(&kept)?;
    if let Some(unknown) = options.targets.iter().find(|name| !all.contains(name)) {
        bail!("there is no target {unknown}, but {}", all.join(", "));
    }
    let chosen = if options.targets.is_empty() { &all } else { &options.targets };
    let fuzzer =
        Fuzzer { program: build(&root)?, kept, work: work_dir()?, words: root.join("fuzz/dictionaries") };
    for name in chosen {
        println!("== {name}");
        fuzzer.fuzz(name, options.seconds)?;
        if options.keep {
            fuzzer.keep(name)?;
        }
    }
    Ok(())
}

fn work_dir() -> Result<PathBuf> {
    Ok(target_dir()?.join("fuzz"))
}

/// The directories of inputs, which are the names of the targets; a test of the agent sees that they are.
fn names(kept: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(kept).with_context(|| format!("list {}", kept.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Builds for a named target, so that build scripts and macros go without counters; and with the dependencies that the
/// program has, not with newer ones.
fn build(root: &Path) -> Result<PathBuf> {
    fs::copy(root.join("Cargo.lock"), root.join("fuzz/Cargo.lock")).context("copy the lock file")?;
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let work = work_dir()?;
    let mut command = cargo_command(&["build", "--release", "--manifest-path", "fuzz/Cargo.toml"])?;
    command.args(["--target", &triple]).arg("--target-dir").arg(&work).env("RUSTFLAGS", RUSTFLAGS);
    run_command(&mut command)?;
    Ok(work.join(triple).join("release/fuzz"))
}

struct Fuzzer {
    program: PathBuf,
    /// Inputs of the repository.
    kept: PathBuf,
    /// Where inputs found here, and findings, go.
    work: PathBuf,
    words: PathBuf,
}

impl Fuzzer {
    fn fuzz(&self, name: &str, seconds: u32) -> Result<()> {
        let found = self.found(name)?;
        let findings = self.work.join("findings");
        fs::create_dir_all(&findings).with_context(|| format!("create {}", findings.display()))?;
        let prefix = format!("{}/{name}-", findings.display());
        let mut command = self.command(name);
        command.args([
            format!("-max_total_time={seconds}"),
            format!("-max_len={INPUT_MAX}"),
            format!("-timeout={TIMEOUT}"),
            format!("-rss_limit_mb={MEMORY_MAX}"),
            format!("-artifact_prefix={prefix}"),
            "-print_final_stats=1".to_owned(),
        ]);
        let words = self.words.join(format!("{name}.dict"));
        if words.is_file() {
            command.arg(format!("-dict={}", words.display()));
        }
        let status = command.args([found, self.kept.join(name)]).status().context("start the fuzzer")?;
        ensure!(
            status.success(),
            "{name} has a finding: fix it, and put its input, {prefix}…, into fuzz/corpus/{name}; to see it again: \
             FUZZ_TARGET={name} {} INPUT",
            self.program.display()
        );
        Ok(())
    }

    /// The fewest inputs that reach the code that is reached, however often it runs, of those that are short enough; the
    /// ones of the repository stay, because each was put there for a reason.
    fn keep(&self, name: &str) -> Result<()> {
        let short = self.work.join("short").join(name);
        drop(fs::remove_dir_all(&short));
        fs::create_dir_all(&short).with_context(|| format!("create {}", short.display()))?;
        for entry in fs::read_dir(self.found(name)?)? {
            let entry = entry?;
            if entry.metadata()?.len() <= KEPT_MAX {
                fs::copy(entry.path(), short.join(entry.file_name()))?;
            }
        }
        let mut command = self.command(name);
        run_command(
            command.args(["-use_counters=0", "-set_cover_merge=1"]).args([self.kept.join(name), short]),
        )
    }

    fn found(&self, name: &str) -> Result<PathBuf> {
        let found = self.work.join("corpus").join(name);
        fs::create_dir_all(&found).with_context(|| format!("create {}", found.display()))?;
        Ok(found)
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.env("FUZZ_TARGET", name);
        command
    }
}
