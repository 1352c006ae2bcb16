//! `cargo xtask`: every development task, one module per command. What runs here is what CI runs.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "progress and results are this program's output"
)]

mod bench;
mod cargo;
mod chaos;
mod ci;
mod demo;
mod docs;
mod ebpf;
mod marked;
mod neighbour;
mod package;
mod setup;
mod soak;
mod test;
mod tidy;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Development tasks of process-throttler.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what the eBPF build needs; does nothing when all is there.
    Setup,
    /// Build the eBPF object from source into agent-ebpf/prebuilt.
    Ebpf {
        /// Change nothing; fail when the committed object is not what the sources build.
        #[arg(long)]
        check: bool,
    },
    /// Run every test, those on the real kernel included. Needs root.
    Test {
        /// Passed on to `cargo test`, such as a name to filter by.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run the tests on other kernels, on cgroup v2 and under systemd, in an emulated machine. Needs root.
    Vm(vm::Options),
    /// Everything that CI checks, in CI's order. Needs root.
    Ci,
    /// Check the rules of the code base that compilers do not.
    Tidy,
    /// Generate the references in docs/ from the program.
    Docs {
        /// Change nothing; fail when a committed one is stale.
        #[arg(long)]
        check: bool,
    },
    /// Show the agent at work on real processes and verify every step. Needs root.
    Demo,
    /// Make the Debian package and the rpm, in target/package.
    Package(package::Options),
    /// Measure what docs/SPECIFICATION.md promises and write the results there. Needs root.
    Bench(bench::Options),
    /// Let the agent meet faults and check that nothing is lost, for docs/SPECIFICATION.md. Needs root.
    Chaos(chaos::Options),
    /// Run the agent under a mixed load and check that it does not grow, for docs/SPECIFICATION.md. Needs root.
    Soak(soak::Options),
    /// Let hogs starve nginx without the agent and with it, for docs/guides/noisy-neighbour.md. Needs root.
    NoisyNeighbour(neighbour::Options),
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> anyhow::Result<()> {
    match task {
        Task::Setup => setup::run(),
        Task::Ebpf { check } => ebpf::run(check),
        Task::Test { arguments } => test::run(&arguments, None),
        Task::Vm(options) => vm::run(&options),
        Task::Ci => ci::run(),
        Task::Tidy => tidy::run(),
        Task::Docs { check } => docs::run(check),
        Task::Demo => demo::run(),
        Task::Package(options) => package::run(&options),
        Task::Bench(options) => bench::run(&options),
        Task::Chaos(options) => chaos::run(&options),
        Task::Soak(options) => soak::run(&options),
        Task::NoisyNeighbour(options) => neighbour::run(&options),
    }
}
