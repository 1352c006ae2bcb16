//! `latency`: how long processes wait for a CPU, and who has it meanwhile.

use std::time::Duration;

use clap::Args;

use super::error::CliResult;
use super::globals::Context;
use super::output::{Output, View};
use super::page::{Always, Page, Wide, or_dash};
use crate::control::feature;
use crate::control::proto::{LOOK_MAX_MS, Latency, LatencyLook, LatencyOf, LatencyTarget, Request};
use crate::model::latency::{BUCKETS, Waits, lower_bound};
use crate::model::plural::counted;

/// Width of the longest bar in characters.
const BAR: u64 = 40;

/// Arguments of `latency`.
#[derive(Args, Debug)]
pub(super) struct LatencyArgs {
    /// Critical process, group, pid, or cgroup as a path below its mount point such as /system.slice; all by default
    #[arg(value_parser = parse_target)]
    target: Option<LatencyTarget>,
    /// How long to look, from 100ms to 20s
    #[arg(long = "for", value_name = "DURATION", default_value = "5s", value_parser = parse_look)]
    time: Duration,
    /// Look again and again: as a page on a terminal, as JSON lines into a pipe
    #[arg(short, long)]
    watch: bool,
}

fn parse_target(text: &str) -> Result<LatencyTarget, String> {
    if text.starts_with('/') {
        return Ok(LatencyTarget::Cgroup(text.to_owned()));
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
        return text.parse().map(LatencyTarget::Pid).map_err(|_overflow| format!("{text} is no pid"));
    }
    text.parse().map(LatencyTarget::Name).map_err(|error: crate::model::id::NameError| error.to_string())
}

fn parse_look(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if (Duration::from_millis(100)..=Duration::from_millis(LOOK_MAX_MS)).contains(&time) {
        Ok(time)
    } else {
        Err("must be from 100ms to 20s".to_owned())
    }
}

impl LatencyArgs {
    pub(super) fn run(self, context: &Context) -> CliResult {
        let for_ms = u64::try_from(self.time.as_millis()).unwrap_or(LOOK_MAX_MS);
        let look = Request::Latency(LatencyLook { target: self.target, for_ms });
        let ask = || -> CliResult<Box<Latency>> { context.ask(feature::PROBES, &look) };
        if !self.watch {
            let latency = ask()?;
            if latency.armed_for_this {
                context.output.message("The scheduler's probes were armed for this look.");
            }
            return context.output.show(&*latency);
        }
        loop {
            Output::refresh(&context.output, &*ask()?)?;
        }
    }
}

impl View for Latency {
    const KIND: &'static str = "Latency";

    fn page(&self, page: &mut Page) {
        page.field("Looked", format!("{:.1} s, armed by {}", self.for_ms as f64 / 1e3, self.armed_by));
        let each = self.per_switch_ns;
        page.field(
            "Cost",
            format!("{}.{:02} % of a CPU, {each} ns a switch", self.cost / 100, self.cost % 100),
        );
        for (title, rows) in [("PROCESS", &self.processes), ("CGROUP", &self.cgroups)] {
            if !rows.is_empty() {
                page.gap();
                table(page, title, rows);
            }
        }
        if self.processes.is_empty() && self.cgroups.is_empty() {
            page.gap();
            page.line("Nobody waited for a CPU.");
        }
        let shown = if self.processes.is_empty() { &self.cgroups } else { &self.processes };
        let all = shown.iter().fold(Waits::default(), |mut all, one| {
            all.add(&one.waits);
            all
        });
        if all.count() > 0 {
            page.gap();
            bars(page, &all);
        }
        if !self.holders.is_empty() {
            page.gap();
            page.table(
                [Always("HAD THE CPUS"), Always("SHARE")],
                self.holders.iter().map(|holder| {
                    let group = holder.group.as_ref().map(|group| format!(" (group {group})"));
                    let whose = format!("{}{}", holder.cgroup, group.unwrap_or_default());
                    [whose, format!("{}.{:02}%", holder.share / 100, holder.share % 100)]
                }),
            );
        }
        delays(page, self);
        left_out(page, self);
    }
}

fn table(page: &mut Page, title: &'static str, rows: &[LatencyOf]) {
    let columns = [
        Always(title),
        Always("PID"),
        Always("WAITS"),
        Always("P50"),
        Wide("P90"),
        Always("P99"),
        Wide("P99.9"),
        Always("LONGEST"),
        Always("WAITED"),
        Always("RAN"),
        Always("THROTTLED"),
    ];
    page.table(
        columns,
        rows.iter().map(|one| {
            let LatencyOf { name, process, waits, count, p50_ns, p90_ns, p99_ns, p999_ns, comm, .. } = one;
            // A process that was asked for by its pid has no other name.
            let called = if name.is_empty() { or_dash(comm.as_ref()) } else { name.clone() };
            [
                called,
                or_dash(process.map(|key| key.pid)),
                count.to_string(),
                or_dash(p50_ns.map(nanos)),
                or_dash(p90_ns.map(nanos)),
                or_dash(p99_ns.map(nanos)),
                or_dash(p999_ns.map(nanos)),
                nanos(waits.longest_ns),
                nanos(waits.wait_ns),
                nanos(waits.on_cpu_ns),
                or_dash(one.throttled_ns.map(nanos)),
            ]
        }),
    );
}

/// The histogram, from its first bucket in use to its last.
fn bars(page: &mut Page, waits: &Waits) {
    let used = || waits.counts.iter().enumerate().filter(|(_, count)| **count > 0).map(|(at, _)| at);
    let (Some(first), Some(last)) = (used().next(), used().next_back()) else { return };
    let most = waits.counts.iter().copied().max().unwrap_or(1).max(1);
    for (at, count) in waits.counts.iter().enumerate().take(last + 1).skip(first) {
        let below =
            if at + 1 < BUCKETS { format!("< {}", nanos(lower_bound(at + 1))) } else { "more".to_owned() };
        let width = u128::from(*count) * u128::from(BAR) / u128::from(most);
        // One wait among a million is still seen.
        let width = usize::try_from(width).unwrap_or(0).max(usize::from(*count > 0));
        page.line(format!("{below:>9} {count:>10} {}", "█".repeat(width)).trim_end());
    }
}

fn delays(page: &mut Page, latency: &Latency) {
    if latency.delays.is_empty() {
        return;
    }
    page.gap();
    page.table(
        [
            Always("LONG WAIT OF"),
            Always("FOR"),
            Always("CPU"),
            Always("HELD BY"),
            Always("HELD FOR"),
            Wide("NOT TOLD"),
        ],
        latency.delays.iter().map(|delay| {
            let holder = delay.holder.as_ref().map(|holder| format!("{} {}", holder.tgid, holder.comm));
            [
                format!("{} {}", delay.waiter.tgid, delay.waiter.comm),
                nanos(delay.wait_ns),
                delay.cpu.to_string(),
                holder.unwrap_or_else(|| "nobody".to_owned()),
                nanos(delay.held_ns),
                delay.suppressed.to_string(),
            ]
        }),
    );
}

/// What is not in it.
fn left_out(page: &mut Page, latency: &Latency) {
    let totals = &latency.totals;
    let counts = [
        (latency.left_out, "process was", "processes were", "not watched: too many at once, or ended"),
        (totals.overflows, "thread is", "threads are", "of cgroups that found no slot, counted together"),
        (totals.collisions, "wait was", "waits were", "left out: two threads shared an entry"),
        (totals.skewed, "wait was", "waits were", "left out: clocks differed"),
        (totals.suppressed, "long wait was", "long waits were", "not reported one by one"),
        (totals.dropped, "report", "reports", "of long waits found no room"),
    ];
    let said: Vec<_> = counts.iter().filter(|(count, ..)| *count > 0).collect();
    if !said.is_empty() {
        page.gap();
    }
    for (count, one, many, what) in said {
        page.line(format!("{} {what}.", counted(*count, one, many)));
    }
}

/// A time to three digits, in the unit that fits.
pub(super) fn nanos(nanos: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us")];
    for (unit, name) in UNITS {
        if nanos >= unit {
            let value = nanos as f64 / unit as f64;
            let digits = if value >= 100.0 {
                0
            } else if value >= 10.0 {
                1
            } else {
                2
            };
            return format!("{value:.digits$}{name}");
        }
    }
    format!("{nanos}ns")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_the_unit_that_fits() {
        for (value, text) in [
            (0, "0ns"),
            (999, "999ns"),
            (1_024, "1.02us"),
            (16_384, "16.4us"),
            (5_000_000, "5.00ms"),
            (250_000_000, "250ms"),
            (3_000_000_000, "3.00s"),
        ] {
            assert_eq!(nanos(value), text);
        }
    }

    #[test]
    fn targets_are_told_apart_by_their_first_character() {
        assert_eq!(parse_target("12"), Ok(LatencyTarget::Pid(12)));
        assert_eq!(parse_target("/a b"), Ok(LatencyTarget::Cgroup("/a b".to_owned())));
        assert_eq!(parse_target("web"), Ok(LatencyTarget::Name("web".parse().unwrap())));
        assert!(
            parse_target("99999999999").is_err() && parse_target("").is_err() && parse_target("A").is_err()
        );
        assert!(parse_look("21s").is_err() && parse_look("99ms").is_err() && parse_look("20s").is_ok());
    }

    #[test]
    fn every_bucket_in_use_has_a_bar() {
        let mut waits = Waits { longest_ns: 9_000_000, ..Waits::default() };
        waits.counts[3] = 1;
        waits.counts[5] = 1_000_000;
        let mut page = Page::new(false, true);
        bars(&mut page, &waits);
        let text = page.into_text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert_eq!(lines.first(), Some(&" < 8.19us          1 █"));
        assert!(lines.get(1).is_some_and(|line| !line.contains('█')));
        assert!(lines.get(2).is_some_and(|line| line.ends_with(&"█".repeat(40))));
    }
}
