//! Options that every command takes, and what they resolve to.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::error::{CliResult, failed, requires_daemon, usage};
use super::output::{Format, Output};
use crate::config::paths::Overrides;
use crate::config::{Dirs, Settings};
use crate::control::client::{Client, ClientError, LineReader};
use crate::control::failure::Failure;
use crate::control::proto::{Reply, Request};
use crate::model::plural::counted;

/// Options of every command.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Global options")]
pub(super) struct Globals {
    /// Directory of config.yaml and profiles
    #[arg(long, global = true, value_name = "DIR")]
    config_dir: Option<PathBuf>,
    /// Directory of what survives a restart
    #[arg(long, global = true, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Directory of the control socket and the lock
    #[arg(long, global = true, value_name = "DIR")]
    runtime_dir: Option<PathBuf>,
    /// Directory of logs
    #[arg(long, global = true, value_name = "DIR")]
    log_dir: Option<PathBuf>,
    /// Control socket [default: control.sock in the runtime directory]
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Do not ask before a destructive command
    #[arg(long, global = true)]
    yes: bool,
    /// Form of the output
    #[arg(short, long, global = true, value_enum, value_name = "FORM", default_value_t)]
    output: Format,
    /// The same as --output json
    #[arg(long, global = true)]
    json: bool,
    /// Leave out the names of columns
    #[arg(long, global = true)]
    no_headers: bool,
    /// Tell what would be done, and change nothing
    #[arg(long, global = true)]
    dry_run: bool,
    /// Say nothing but errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Log more; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

/// What a command works with.
#[derive(Debug)]
pub(super) struct Context {
    /// Where files are.
    pub dirs: Dirs,
    /// The control socket.
    pub socket: PathBuf,
    /// Where to print.
    pub output: Output,
    /// Whether questions are answered with yes.
    pub yes: bool,
    /// Whether nothing may be changed.
    pub dry_run: bool,
    /// How often `-v` was given.
    pub verbose: u8,
}

impl Globals {
    /// Finds the directories.
    ///
    /// # Errors
    /// When a directory is not absolute, or none can be told.
    pub(super) fn resolve(self) -> CliResult<Context> {
        let overrides = Overrides {
            config: self.config_dir,
            state: self.state_dir,
            runtime: self.runtime_dir,
            log: self.log_dir,
        };
        let dirs = Dirs::of_this_process(&overrides).map_err(|error| usage(error.to_string()))?;
        let socket = self.socket.unwrap_or_else(|| dirs.socket());
        let format = if self.json { Format::Json } else { self.output };
        Ok(Context {
            dirs,
            socket,
            output: Output { format, headers: !self.no_headers, quiet: self.quiet },
            yes: self.yes,
            dry_run: self.dry_run,
            verbose: self.verbose,
        })
    }
}

impl Context {
    /// The settings. A broken configuration is warned about, with what holds `instead`: it must not keep anyone from
    /// what can be done without it.
    pub(super) fn settings_or(&self, instead: &str) -> Option<Settings> {
        match Settings::load_own(&self.dirs) {
            Ok((settings, _warnings)) => Some(settings),
            Err(findings) => {
                let errors = counted(findings.errors(), "error", "errors");
                let path = self.dirs.config_file();
                self.output.message(&format!("Warning: {} has {errors}; {instead}", path.display()));
                None
            }
        }
    }

    /// A client of the control socket.
    #[must_use]
    pub(super) fn client(&self) -> Client {
        Client::new(&self.socket)
    }

    /// Asks the daemon.
    ///
    /// # Errors
    /// The daemon's own failure, or that it does not run or cannot be reached; `feature` is what it is
    /// needed for.
    pub(super) fn ask<T: TryFrom<Reply, Error = Box<Reply>>>(
        &self,
        feature: &str,
        request: &Request,
    ) -> CliResult<T> {
        let asked = runtime()?.block_on(call(&self.client(), request));
        asked.map_err(|error| explain_absence(feature, error).into())
    }

    /// Asks the daemon if one runs; `None` when none does.
    ///
    /// # Errors
    /// The daemon's own failure, or that it cannot be reached.
    pub(super) fn ask_if_running<T: TryFrom<Reply, Error = Box<Reply>>>(
        &self,
        request: &Request,
    ) -> CliResult<Option<T>> {
        match runtime()?.block_on(call(&self.client(), request)) {
            Ok(reply) => Ok(Some(reply)),
            Err(ClientError::NotRunning(_)) => Ok(None),
            Err(error) => Err(Failure::from(error).into()),
        }
    }

    /// As [`Self::ask_if_running`], for answers that are worth nothing when they are late.
    ///
    /// # Errors
    /// As [`Self::ask_if_running`], and after `patience`.
    pub(super) fn ask_quickly<T: TryFrom<Reply, Error = Box<Reply>>>(
        &self,
        request: &Request,
        patience: Duration,
    ) -> CliResult<Result<Option<T>, ClientError>> {
        let client = self.client();
        let asked = async {
            let timeout = tokio::time::timeout(patience, call(&client, request));
            timeout.await.unwrap_or(Err(ClientError::Timeout(patience)))
        };
        Ok(match runtime()?.block_on(asked) {
            Ok(reply) => Ok(Some(reply)),
            Err(ClientError::NotRunning(_)) => Ok(None),
            Err(error) => Err(error),
        })
    }

    /// Asks the daemon for a stream. Must be called within a runtime.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub(super) async fn follow(&self, feature: &str, request: &Request) -> CliResult<LineReader> {
        let asked = self.client().stream(request).await;
        asked.map_err(|error| explain_absence(feature, error).into())
    }

    /// Goes on only with a yes: given on the command line, or by whoever sits at the terminal.
    ///
    /// # Errors
    /// When nobody said yes.
    pub(super) fn confirm(&self, question: &str) -> CliResult {
        if self.yes || self.dry_run {
            return Ok(());
        }
        if !std::io::stdin().is_terminal() {
            let failure = usage(format!("{question} Nobody is there to answer."));
            return Err(failure.with_hint("say --yes to go ahead").into());
        }
        if Output::confirm(question)? { Ok(()) } else { Err(usage("not confirmed, nothing was done").into()) }
    }
}

/// Asks for a reply of the kind that the request's documentation names.
///
/// # Errors
/// As [`ClientError`].
pub(super) async fn call<T: TryFrom<Reply, Error = Box<Reply>>>(
    client: &Client,
    request: &Request,
) -> Result<T, ClientError> {
    let reply = client.call(request).await?;
    T::try_from(reply).map_err(|reply| ClientError::Malformed(format!("{reply:?} was not asked for")))
}

/// A runtime for one command.
///
/// # Errors
/// When the system refuses it.
pub(super) fn runtime() -> CliResult<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| failed(&error))
}

fn explain_absence(feature: &str, error: ClientError) -> Failure {
    if matches!(error, ClientError::NotRunning(_)) { requires_daemon(feature) } else { error.into() }
}
