//! `cargo xtask vm`: the tests on other kernels, on cgroup v2 and under systemd, in an emulated machine.
//!
//! One boot per kernel, in two halves: first the machine is a host without a service manager, then systemd
//! takes over.

mod archive;
mod image;
mod machine;
mod payload;
mod recipe;
mod suites;
mod verdict;

use std::fs;

use anyhow::{Context as _, Result, bail};
use integration_tests::binary;
use integration_tests::clock::Stopwatch;

use self::image::Image;
use self::machine::Machine;
use self::payload::{Programs, Scripts};
use self::recipe::Kernel;
use self::suites::Half;
use crate::cargo::target_dir;
use crate::setup;

/// What making and running the machine needs.
const TOOLS: [&str; 6] = ["qemu-system-x86", "mmdebstrap", "cpio", "kmod", "binutils", "findutils"];

/// How many of the slowest tests are told of.
const TOLD: usize = 10;

/// Which kernels, and what is kept.
#[derive(clap::Args, Default)]
pub(crate) struct Options {
    /// This kernel only; else all of them, at once.
    #[arg(long, value_enum)]
    kernel: Option<Kernel>,
    /// Only the tests whose names contain one of these.
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Keep the logs also when all passed.
    #[arg(long)]
    keep_console: bool,
}

impl Options {
    /// All tests, on the kernel that Debian 12 comes with.
    pub(crate) fn whole() -> Self {
        Self { kernel: Some(Kernel::V6_1), ..Self::default() }
    }

    /// What another kernel may well do otherwise, on a newer one: the kernel side, and cgroups.
    pub(crate) fn newer() -> Self {
        let only = ["source::", "cgroup::", "effect::", "critical_causes::", "loss_accounting::"];
        let only = only.map(str::to_owned).to_vec();
        Self { kernel: Some(Kernel::V6_12), only, ..Self::default() }
    }
}

/// Runs the suites on every kernel.
///
/// # Errors
/// When a tool or a package cannot be had, or on some kernel not every test passed.
pub(crate) fn run(options: &Options) -> Result<()> {
    binary::require_root()?;
    setup::install(&TOOLS)?;
    let vm = target_dir()?.join("vm");
    fs::create_dir_all(&vm).with_context(|| format!("create {}", vm.display()))?;
    let programs = Programs::build()?;
    let expected = suites::expected(&programs, &options.only)?;
    let image = Image::ensure(&vm)?;
    let payload = vm.join("payload.cpio");
    let mut targets: Vec<&str> = suites::SUITES.iter().map(|suite| suite.target).collect();
    targets.dedup();
    let script = |half| suites::script(half, &options.only, &expected);
    let scripts = Scripts { plain: script(Half::Plain), managed: script(Half::Managed) };
    payload::pack(&programs, &scripts, &targets, &payload)?;
    let kernels = options.kernel.map_or_else(|| Kernel::ALL.to_vec(), |one| vec![one]);
    let watch = Stopwatch::start();
    let mut machines = Vec::new();
    for kernel in kernels {
        machines.push((kernel, Machine::start(&vm, &image, kernel, &payload)?));
    }
    let mut failed = false;
    for (kernel, machine) in machines {
        let dir = machine.dir().to_owned();
        let version = kernel.version();
        let told = machine.wait();
        for (seconds, test) in told.as_deref().map(|told| verdict::slowest(told, TOLD)).unwrap_or_default() {
            println!("kernel {version}: {seconds:6.1} s {test}");
        }
        match told.and_then(|told| verdict::judge(&told, &expected)) {
            Ok(passed) => {
                let seconds = watch.elapsed().as_secs();
                println!("kernel {version}: passed after {seconds} s: {}", counted(&passed));
                if !options.keep_console {
                    fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))?;
                }
            }
            Err(error) => {
                failed = true;
                eprintln!("kernel {version}: {error:#}");
                eprintln!("kernel {version}: see suites.log and console.log in {}", dir.display());
            }
        }
    }
    if failed { bail!("not every test passed in the virtual machine") } else { Ok(()) }
}

fn counted(passed: &std::collections::BTreeMap<String, usize>) -> String {
    passed.iter().map(|(suite, count)| format!("{count} of {suite}")).collect::<Vec<_>>().join(", ")
}
