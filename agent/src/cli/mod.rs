//! The command line: one file per command, printing in `output` only.
//!
//! Commands ask the daemon over the control socket; what they do without one is in `offline`.

mod audit;
mod backup;
mod bar;
mod complaint;
mod completions;
mod critical;
mod daemon;
mod delay;
mod discover;
mod dynamic;
pub mod error;
mod emergency;
mod events;
mod explain;
#[cfg(test)]
mod gallery;
mod globals;
mod health;
mod latency;
mod list;
mod log;
mod man;
mod metrics;
mod offline;
mod output;
mod page;
mod processes;
mod profile;
mod record;
#[cfg(test)]
mod reference;
mod release;
mod replay;
mod run;
mod state;
mod status;
mod takeover;
mod throttle;
mod top;
mod validate;
mod version;
mod webhook;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use error::{CliError, CliResult};
use globals::Globals;
use output::Output;

use crate::control::failure::{Failure, FailureKind};

/// Name of the program.
pub const BINARY: &str = "process-throttler";

/// Keeps the processes that matter responsive by limiting the ones that starve them
#[derive(Parser, Debug)]
#[command(name = BINARY, version, arg_required_else_help = true, after_help = AFTER_HELP)]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Exit codes:
  0 done               3 daemon not running   6 invalid configuration
  1 failed             4 not found            7 conflict
  2 wrong usage        5 denied               8 partly done";

#[derive(Subcommand, Debug)]
enum Command {
    /// Run, start, stop and inspect the daemon
    Daemon(daemon::Daemon),
    /// Find processes by name, command line, executable, user, cgroup or pid
    Discover(discover::Discover),
    /// List the processes that run now
    List(list::List),
    /// Limit processes by hand
    Throttle(throttle::Throttle),
    /// Start a command under limits
    Run(run::Run),
    /// Limit by policies that follow the time, the load or the hour
    Dynamic(dynamic::Dynamic),
    /// Lift limits and restore what was before
    Release(release::Release),
    /// Show what is limited
    Status(status::Status),
    /// Watch processes, groups and critical processes on a terminal
    Top(top::Top),
    /// Tell why a process is or is not limited
    Explain(explain::Explain),
    /// Show how long processes wait for a CPU, and who has it meanwhile
    Latency(latency::LatencyArgs),
    /// Watch over the processes that must live
    Critical(critical::Critical),
    /// Lift every limit at once, and keep it so
    Emergency(emergency::Emergency),
    /// Keep and activate profiles
    Profile(profile::ProfileArgs),
    /// Check a profile or the configuration without loading it
    Validate(validate::Validate),
    /// Keep the endpoints that are told of events, and see what they were sent
    Webhook(webhook::Webhook),
    /// Keep configuration, state and audit trail, and put them back
    Backup(backup::Backup),
    /// Look the databases over, and bring them up to date
    State(state::State),
    /// Show what happened, or follow what happens
    Events(events::Events),
    /// Show who changed what, and check that the record of it is whole
    Audit(audit::Audit),
    /// Write down what the daemon's engine is told
    Record(record::Record),
    /// Run a recording through the engine offline and print its actions
    Replay(replay::Replay),
    /// Print the figures that the agent keeps about itself and what it limits
    Metrics,
    /// Check whether the agent can do its work here; exit code 1 on an error
    Health(health::Health),
    /// Print version, kernel ABI and target
    Version,
    /// Print a completion script; what it completes is asked of this program each time
    Completions(completions::Completions),
    /// Print the manual page of a command, or write all of them
    Man(man::Man),
}

/// Parses the command line, runs the command, and says how it ended.
#[must_use]
pub fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    match completions::answer(words.iter().cloned()) {
        Ok(false) => {}
        Ok(true) => return ExitCode::SUCCESS,
        // The shell shows nothing of it; whoever calls this by hand sees why.
        Err(error) => {
            drop(error.print());
            return ExitCode::from(FailureKind::Usage.exit_code());
        }
    }
    let cli = match complaint::parse(&words) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are data and go to stdout, errors to stderr; nothing is left to report to.
            drop(error.print());
            return ExitCode::from(if error.use_stderr() { FailureKind::Usage.exit_code() } else { 0 });
        }
    };
    match run(cli) {
        Ok(()) | Err(CliError::PipeClosed) => ExitCode::SUCCESS,
        Err(CliError::Exit(kind)) => ExitCode::from(kind.exit_code()),
        Err(CliError::Unstarted { code, failure }) => {
            Output::failure(&failure);
            ExitCode::from(code)
        }
        Err(CliError::Failed(failure)) => {
            let failure = complaint::advised(*failure, &words);
            Output::failure(&failure);
            ExitCode::from(failure.kind.exit_code())
        }
    }
}

fn run(cli: Cli) -> CliResult {
    let context = cli.globals.resolve()?;
    // The daemon's log is set up by its configuration, unless the command line says otherwise.
    let is_daemon = matches!(&cli.command, Command::Daemon(command) if command.is_run());
    if context.verbose > 0 || !is_daemon {
        log::start(&context, is_daemon);
    }
    // Nothing keeps anyone from lifting limits.
    if !is_daemon && !matches!(&cli.command, Command::Emergency(_) | Command::Release(_)) {
        undo_restore(&context)?;
    }
    match cli.command {
        Command::Daemon(command) => command.run(&context),
        Command::Discover(command) => command.run(&context),
        Command::List(command) => command.run(&context),
        Command::Throttle(command) => command.run(&context),
        Command::Run(command) => command.run(&context),
        Command::Dynamic(command) => command.run(&context),
        Command::Release(command) => command.run(&context),
        Command::Status(command) => command.run(&context),
        Command::Top(command) => command.run(&context),
        Command::Explain(command) => command.run(&context),
        Command::Latency(command) => command.run(&context),
        Command::Critical(command) => command.run(&context),
        Command::Emergency(command) => command.run(&context),
        Command::Profile(command) => command.run(&context),
        Command::Validate(command) => command.run(&context),
        Command::Webhook(command) => command.run(&context),
        Command::Backup(command) => command.run(&context),
        Command::State(command) => command.run(&context),
        Command::Events(command) => command.run(&context),
        Command::Audit(command) => command.run(&context),
        Command::Record(command) => command.run(&context),
        Command::Replay(command) => command.run(&context),
        Command::Health(command) => command.run(&context),
        Command::Metrics => metrics::run(&context),
        Command::Version => version::run(&context),
        Command::Completions(command) => command.run(&context),
        Command::Man(command) => command.run(&context),
    }
}

/// What is printed about a command line that is no command: help, or why it cannot be meant.
#[must_use]
pub fn refusal(words: &[OsString]) -> Option<clap::Error> {
    complaint::parse(words).err()
}

/// No command works with what a restore that was killed has half replaced. The daemon undoes it itself.
fn undo_restore(context: &globals::Context) -> CliResult {
    if !crate::backup::is_pending(&context.dirs) {
        return Ok(());
    }
    if context.dry_run {
        let failure =
            Failure::new(FailureKind::Conflict, "a restore was killed half-way and is to be undone first");
        return Err(failure.with_hint("run any command without --dry-run").into());
    }
    // Held: the restore is under way, or a daemon has just undone it.
    let Ok(_lock) = offline::lock(context) else { return Ok(()) };
    if crate::backup::recover(&context.dirs).map_err(|error| crate::daemon::backups::failure(&error))? {
        context.output.message("A restore was killed half-way and has been undone.");
    }
    Ok(())
}

/// The whole command line, for completions, references and tests.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests;
