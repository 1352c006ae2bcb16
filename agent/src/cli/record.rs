//! `record`: writes down what the daemon's engine is told, for `replay`.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::error::{CliError, CliResult};
use super::globals::{Context, runtime};
use super::output::View;
use super::page::Page;
use crate::control::failure::{Failure, FailureKind};
use crate::control::feature;
use crate::control::proto::{Request, StreamEnd};
use crate::model::plural::counted;

/// Arguments of `record`.
#[derive(Args, Debug)]
pub(super) struct Record {
    /// File to write; must not exist. It holds command lines, so only its owner may read it
    file: PathBuf,
    /// Stop after this time; else with Ctrl-C
    #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration)]
    duration: Option<std::time::Duration>,
}

/// What was recorded.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Recorded {
    file: PathBuf,
    inputs: u64,
    bytes: u64,
    dry_run: bool,
}

impl Record {
    pub(super) fn run(&self, context: &Context) -> CliResult {
        let recorded = runtime()?.block_on(self.record(context))?;
        context.output.show(&recorded)
    }

    async fn record(&self, context: &Context) -> CliResult<Recorded> {
        let mut recorded =
            Recorded { file: self.file.clone(), inputs: 0, bytes: 0, dry_run: context.dry_run };
        // Before the file is made: without a daemon none is left behind.
        let mut lines = context.follow(feature::MONITORING, &Request::Record).await?;
        if context.dry_run {
            return Ok(recorded);
        }
        let mut file = BufWriter::new(create(&self.file)?);
        let broken = |error| CliError::from(io_failure("write", &self.file, &error));
        let mut cut = None;
        let mut end = std::pin::pin!(end(self.duration));
        context.output.message(&format!("recording to {}; Ctrl-C ends it", self.file.display()));
        loop {
            let line = tokio::select! {
                line = lines.next() => line.map_err(Failure::from)?,
                ended = end.as_mut() => { ended.map_err(broken)?; None }
            };
            let Some(line) = line else { break };
            if let Ok(StreamEnd::StreamCut { lost }) = serde_json::from_slice(&line) {
                cut = Some(lost);
                break;
            }
            file.write_all(&line).and_then(|()| file.write_all(b"\n")).map_err(broken)?;
            recorded.inputs += 1;
            recorded.bytes += line.len() as u64 + 1;
        }
        file.flush().and_then(|()| file.get_ref().sync_all()).map_err(broken)?;
        // The first line is the header.
        recorded.inputs = recorded.inputs.saturating_sub(1);
        match cut {
            None => Ok(recorded),
            Some(lost) => {
                let message = format!(
                    "the recording ends early after {} inputs: the disk was too slow and {lost} inputs are lost",
                    recorded.inputs
                );
                Err(Failure::new(FailureKind::Partial, message).into())
            }
        }
    }
}

/// Ctrl-C, SIGTERM, or the time is up.
async fn end(after: Option<std::time::Duration>) -> std::io::Result<()> {
    let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let time = async {
        match after {
            Some(after) => tokio::time::sleep(after).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted,
        _ = term.recv() => Ok(()),
        () = time => Ok(()),
    }
}

fn create(path: &Path) -> CliResult<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(|error| {
        let failure = io_failure("create", path, &error);
        if error.kind() == std::io::ErrorKind::AlreadyExists {
            Failure { kind: FailureKind::Conflict, ..failure }.with_hint("choose another name").into()
        } else {
            failure.into()
        }
    })
}

fn io_failure(operation: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(FailureKind::Failed, format!("{operation} {}: {error}", path.display()))
}

impl View for Recorded {
    const KIND: &'static str = "Recording";

    fn page(&self, page: &mut Page) {
        let (file, inputs, bytes) = (self.file.display(), self.inputs, super::page::size(self.bytes));
        if self.dry_run {
            page.line(format!("would record to {file}"));
        } else {
            page.line(format!("recorded {} ({bytes}) to {file}", counted(inputs, "input", "inputs")));
        }
    }
}

/// For `crate::cli::gallery`.
#[cfg(test)]
pub(super) fn samples(gallery: &mut super::gallery::Gallery) {
    let recorded = |dry_run| Recorded { file: "/tmp/x".into(), inputs: 12, bytes: 2_048, dry_run };
    gallery.show("record /tmp/x --for 1m", &recorded(false));
    gallery.show("record /tmp/x --for 1m --dry-run", &recorded(true));
}
