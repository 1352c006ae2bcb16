//! `cargo xtask chaos`: lets the built agent meet faults, one after the other, each in directories, cgroups and
//! processes of its own, and checks after each that nothing is lost and nothing left.
//!
//! The long form repeats all of them in an order and with durations that a printed seed decides, and writes the table in
//! docs/SPECIFICATION.md; the short form is a step of CI.

mod deaths;
mod dice;
mod disks;
mod hooks;
mod report;
mod room;
mod stage;
mod storms;

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use clap::Args;
use integration_tests::binary;
use integration_tests::clock::{Stopwatch, unix_seconds};
use integration_tests::daemon::Turn;

use crate::bench::machine;
use crate::cargo::{cargo, target_dir};
use crate::chaos::dice::Dice;
use crate::chaos::report::Row;
use crate::chaos::stage::Setting;

/// Which faults, and for how long.
#[derive(Args, Default)]
pub(crate) struct Options {
    /// Each fault once and as short as it means anything: under 90 s in all. Writes nothing down.
    #[arg(long)]
    short: bool,
    /// Only this fault, and without writing the results down; may be repeated.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// The release build of the agent, which has no fail points: those are left out, and that is said.
    #[arg(long)]
    release: bool,
    /// How often the long form repeats everything.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Decides order and durations of the long form; by default another one each time, which is printed.
    #[arg(long)]
    seed: Option<u64>,
}

impl Options {
    /// The form that CI runs.
    pub(crate) fn short() -> Self {
        Self { short: true, rounds: 1, ..Self::default() }
    }
}

/// A fault: what happens to the agent, and what is checked beyond what always is.
struct Fault {
    /// For `--only` and the table.
    name: &'static str,
    /// What happens.
    what: &'static str,
    /// What is checked besides.
    checked: &'static str,
    /// Lets it happen and checks; how long the agent took to be right again.
    run: fn(&Setting, &mut Dice) -> Result<Duration>,
    /// Whether it needs what only debug builds have.
    debug: bool,
}

const fn fault(
    name: &'static str,
    what: &'static str,
    checked: &'static str,
    run: fn(&Setting, &mut Dice) -> Result<Duration>,
) -> Fault {
    Fault { name, what, checked, run, debug: false }
}

const FAULTS: [Fault; 20] = [
    Fault {
        name: "fail-points",
        what: "SIGKILL between two steps of limiting and releasing",
        checked: "by turns the next agent and `release --all` put everything back",
        run: deaths::at_points,
        debug: true,
    },
    Fault {
        name: "delivery-points",
        what: "SIGKILL between two steps of a delivery",
        checked: "the alert arrives under one id",
        run: deaths::at_deliveries,
        debug: true,
    },
    fault(
        "sigkill",
        "SIGKILL at any moment of a storm, an alert being owed",
        "what is owed arrives after the restart",
        deaths::at_any_moment,
    ),
    fault(
        "dead-meanwhile",
        "SIGKILL, and a critical process dies before the restart",
        "that it is missing is alerted",
        deaths::while_it_is_dead,
    ),
    fault("sigstop", "SIGSTOP in a storm, SIGCONT after it", "loss counts", storms::stopped),
    fault(
        "tiny-rings",
        "rings of one page each in a storm",
        "loss counts; losses are told",
        storms::tiny_rings,
    ),
    fault(
        "exec-storm",
        "a storm of execs that all match a rule",
        "loss counts; every one that lives is limited",
        storms::of_execs,
    ),
    fault(
        "fork-bomb",
        "a fork bomb in a limited group",
        "members are those of the cgroup; `pids` holds",
        storms::bomb,
    ),
    fault(
        "pid-wrap",
        "more lives than there are pids, in a pid namespace with 400 of them",
        "loss counts; a pid that comes again is another process",
        storms::wrap,
    ),
    fault(
        "leader-exit",
        "the first thread of a critical process ends, the process lives",
        "no alert; one when the process ends",
        storms::leader_exit,
    ),
    fault(
        "execveat",
        "programs executed by descriptor and from memory (execveat, memfd_create)",
        "names as the kernel has them; a rule for the file matches",
        storms::by_descriptor,
    ),
    fault(
        "full-disk",
        "no room in the state directory",
        "said; what waits is told when there is room",
        disks::full,
    ),
    fault(
        "torn-database",
        "state and journal cut to half after SIGKILL",
        "limits lifted, or in force as said",
        disks::torn,
    ),
    fault(
        "torn-audit",
        "the audit log cut inside its last record after SIGKILL",
        "`audit verify`",
        disks::torn_audit,
    ),
    fault("lost-socket", "the control socket's file is deleted", "it is there again", room::lost_socket),
    fault(
        "little-memory",
        "a memory cgroup with 2 MiB to spare, in a storm",
        "loss counts",
        room::little_memory,
    ),
    fault("no-memory", "the OOM killer takes the agent", "the next agent takes over", room::no_memory),
    fault(
        "read-only-cgroups",
        "cgroup file systems become read-only",
        "said; limits when they are not any more",
        room::read_only,
    ),
    fault(
        "link-detach",
        "LINK_DETACH of each of its BPF links",
        "the kernel refuses or the agent tells",
        hooks::detached,
    ),
    fault(
        "links-closed",
        "its BPF links are closed under it (ptrace)",
        "degraded with the reason; an alert",
        hooks::closed,
    ),
];

/// What is not tried here, and why.
const NOT_HERE: [(&str, &str, &str); 2] = [
    (
        "torn-log",
        "the write-ahead log of the state cut to half after SIGKILL, which a death alone does not do",
        "not tried here, but by a test: cgroups and their processes are put back by the marks that the cgroups bear. \
         **Not survived** by the attributes of processes, such as nice values: what they were is in the records alone",
    ),
    (
        "clock-step",
        "the wall clock jumps",
        "not tried here: the wall clock is the whole machine's, and a time namespace moves only the clocks that never jump \
         (time_namespaces(7)); a test of `cargo xtask vm` sets it back and forward in its machine",
    ),
];

/// Lets the agent meet the faults.
///
/// # Errors
/// When one of them is not survived, or cannot be made.
pub(crate) fn run(options: &Options) -> Result<()> {
    binary::require_root()?;
    for name in &options.only {
        ensure!(FAULTS.iter().any(|fault| fault.name == name), "no fault {name}: {}", names());
    }
    cargo(&["build", "--quiet", "--package", "integration-tests", "--bin", "storm"])?;
    let mut build = vec!["build", "--quiet", "--package", "process-throttler"];
    let profile = if options.release { "release" } else { "debug" };
    build.extend(options.release.then_some("--release"));
    cargo(&build)?;
    let agent = target_dir()?.join(profile).join("process-throttler");
    let _turn = Turn::take()?;
    let seed = options.seed.unwrap_or_else(unix_seconds);
    let mut dice = Dice::new(seed, options.short);
    if !options.short {
        println!("seed {seed}: the same order and durations with --seed {seed}");
    }
    let rows = tried(options, &agent, &mut dice)?;
    if !options.short && options.only.is_empty() {
        let by = format!("cargo xtask chaos --rounds {} --seed {seed}", options.rounds);
        report::write(&machine::describe(&by, profile)?, &rows)?;
    }
    let failed: Vec<&str> = rows.iter().filter(|row| row.failed()).map(|row| row.name).collect();
    ensure!(failed.is_empty(), "not survived: {}", failed.join(", "));
    Ok(())
}

fn names() -> String {
    FAULTS.map(|fault| fault.name).join(", ")
}

fn tried(options: &Options, agent: &Path, dice: &mut Dice) -> Result<Vec<Row>> {
    let setting = Setting { agent: agent.to_owned(), short: options.short };
    let mut rows: Vec<Row> =
        FAULTS.iter().map(|fault| Row::new(fault.name, fault.what, fault.checked)).collect();
    for round in 0..if options.short { 1 } else { options.rounds } {
        let mut order: Vec<usize> = (0..FAULTS.len()).collect();
        if !options.short {
            dice.shuffle(&mut order);
        }
        for index in order {
            let (Some(fault), Some(row)) = (FAULTS.get(index), rows.get_mut(index)) else { continue };
            if !options.only.is_empty() && !options.only.iter().any(|name| name == fault.name) {
                continue;
            }
            if fault.debug && options.release {
                row.leave_out("a release build has no fail points");
                continue;
            }
            let watch = Stopwatch::start();
            let result = (fault.run)(&setting, dice);
            row.take(result);
            println!("{:>6.1} s  round {}  {row}", watch.elapsed().as_secs_f64(), round + 1);
        }
    }
    rows.retain(Row::was_tried);
    if options.only.is_empty() {
        rows.extend(NOT_HERE.map(|(name, what, why)| Row::left_out(name, what, why)));
    }
    if rows.is_empty() {
        bail!("nothing was tried");
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn faults_have_names_of_their_own() {
        let names: BTreeSet<&str> = FAULTS.iter().map(|fault| fault.name).collect();
        assert_eq!(names.len(), FAULTS.len());
    }
}
