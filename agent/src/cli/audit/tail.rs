//! `audit tail`: the newest records, and those that come.

use std::fmt;
use std::os::fd::OwnedFd;

use clap::Args;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use serde::Serialize;

use super::search::{Which, show};
use super::{place, unreadable};
use crate::audit::Record;
use crate::audit::files::Place;
use crate::audit::query::{Filter, search};
use crate::cli::error::{CliResult, failed};
use crate::cli::globals::Context;
use crate::cli::page::moment;
use crate::control::failure::{Failure, FailureKind};

/// Records that are looked at again after each change; more come at once only in a burst of that size.
const WINDOW: usize = 4_096;

/// Arguments of `audit tail`.
#[derive(Args, Debug)]
pub(super) struct Tail {
    /// Go on with what comes: lines on a terminal, JSON lines into a pipe
    #[arg(short, long)]
    follow: bool,
    /// The newest N records
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(0..=WINDOW as i64))]
    lines: u32,
    #[command(flatten)]
    which: Which,
}

impl Tail {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let (filter, lines) = (self.which.filter(), usize::try_from(self.lines).unwrap_or(WINDOW));
        if self.follow { follow(context, &filter, lines) } else { show(context, &filter, lines) }
    }
}

fn follow(context: &Context, filter: &Filter, lines: usize) -> CliResult {
    let place = place(context);
    // Before the past is read, so that nothing falls in between.
    let watch = watch(&place)?;
    let found = search(&place, filter, WINDOW).map_err(|error| unreadable(&place, &error))?;
    let skipped = found.records.len().saturating_sub(lines);
    let mut last = found.records.get(skipped.wrapping_sub(1)).map_or(0, |record| record.body.seq);
    let mut records = found.records;
    loop {
        for record in records.into_iter().filter(|record| record.body.seq > last).collect::<Vec<_>>() {
            last = record.body.seq;
            context.output.stream_item(&Shown(record))?;
        }
        wait(&watch)?;
        records = search(&place, filter, WINDOW).map_err(|error| unreadable(&place, &error))?.records;
    }
}

fn watch(place: &Place) -> CliResult<OwnedFd> {
    let watch = inotify::init(CreateFlags::CLOEXEC).map_err(|error| failed(&error))?;
    let flags = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
    inotify::add_watch(&watch, place.dir(), flags).map_err(|error| {
        Failure::new(FailureKind::Failed, format!("watch {}: {error}", place.dir().display()))
    })?;
    Ok(watch)
}

/// Waits for a change, and takes all that is known of.
fn wait(watch: &OwnedFd) -> CliResult {
    let mut ready = [PollFd::new(watch, PollFlags::IN)];
    loop {
        match poll(&mut ready, None) {
            Ok(_) => break,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(failed(&error)),
        }
    }
    let mut buffer = [0_u8; 4_096];
    rustix::io::read(watch, &mut buffer).map(drop).map_err(|error| failed(&error))
}

/// A record as a line.
#[derive(Serialize)]
#[serde(transparent)]
struct Shown(Record);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = &self.0.body;
        let at = moment(body.time);
        write!(f, "{at} {} {} by {}: {}", body.kind, body.outcome, body.actor, body.subject)?;
        if body.detail.is_empty() { Ok(()) } else { write!(f, ": {}", body.detail) }
    }
}
