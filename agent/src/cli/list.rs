//! `list`: the processes now, and how both process commands show them.

use std::cmp::Reverse;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::error::CliResult;
use super::globals::Context;
use super::output::View;
use super::page::{Always, Page, Wide, dash, moment, size};
use super::processes::{self, user_name};
use crate::clock;
use crate::model::process::printable;
use crate::procfs::listing::Row;

/// Time over which CPU use is measured.
const SAMPLE: Duration = Duration::from_millis(250);
/// Bytes of a command line in a table that is not wide.
const COMMAND_WIDTH: usize = 60;

/// Order of a listing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Sort {
    /// Most CPU use first
    #[default]
    Cpu,
    /// Largest resident set first
    Memory,
    /// Lowest pid first
    Pid,
    /// By name
    Name,
}

/// Arguments of `list`.
#[derive(Args, Debug)]
pub(super) struct List {
    /// Order
    #[arg(long, value_enum, value_name = "KEY", default_value_t)]
    sort: Sort,
    /// Show only the first N
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
}

impl List {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let mut rows = processes::sampled(&processes::host(context)?, SAMPLE)?;
        // Ties by pid, so that two listings can be compared.
        match self.sort {
            Sort::Cpu => rows.sort_by(|a, b| {
                b.cpu_percent.total_cmp(&a.cpu_percent).then_with(|| a.key.pid.cmp(&b.key.pid))
            }),
            Sort::Memory => rows.sort_by_key(|row| (Reverse(row.rss), row.key.pid)),
            Sort::Pid => rows.sort_by_key(|row| row.key.pid),
            Sort::Name => rows.sort_by_key(|row| (row.comm, row.key.pid)),
        }
        if let Some(limit) = self.limit {
            rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        }
        context.output.show(&rows)
    }
}

impl View for Vec<Row> {
    const KIND: &'static str = "ProcessList";

    fn page(&self, page: &mut Page) {
        let wide = page.is_wide();
        let columns = [
            Always("PID"),
            Wide("PPID"),
            Always("USER"),
            Always("STATE"),
            Always("CPU%"),
            Always("RSS"),
            Wide("NICE"),
            Wide("THREADS"),
            Wide("STARTED"),
            Wide("CGROUP"),
            Always("NAME"),
            Always("COMMAND"),
        ];
        page.table(
            columns,
            self.iter().map(|row| {
                let cgroup = row.cgroup.as_deref().map(|path| printable(path).to_string());
                [
                    row.key.pid.to_string(),
                    row.ppid.to_string(),
                    user_name(row.uid).unwrap_or_else(|| row.uid.to_string()),
                    row.state.to_string(),
                    format!("{:.1}", row.cpu_percent),
                    size(row.rss),
                    row.nice.to_string(),
                    row.threads.to_string(),
                    jiff::Timestamp::try_from(clock::wall_at(row.started))
                        .map_or_else(|_out_of_range| "-".to_owned(), moment),
                    dash(cgroup.unwrap_or_default()),
                    row.comm.to_string(),
                    dash(command(&row.cmdline, wide)),
                ]
            }),
        );
    }
}

fn command(cmdline: &[u8], whole: bool) -> String {
    match cmdline.get(..COMMAND_WIDTH) {
        Some(start) if !whole => format!("{}…", printable(start)),
        Some(_) | None => printable(cmdline).to_string(),
    }
}
