//! Makes process lives as fast as the kernel can: `storm (--millis N | --lives N) PROGRAM`.
//!
//! One thread per CPU spawns the program (`posix_spawn`, so no page tables are copied) and waits for it.
//! Prints the number of lives and the microseconds they took.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use integration_tests::clock::Stopwatch;

#[derive(Clone, Copy)]
enum Bound {
    Time(Duration),
    Lives(u64),
}

#[expect(clippy::print_stdout, reason = "the account is this program's output")]
fn main() -> Result<()> {
    let (bound, program) = arguments()?;
    let cpus = std::thread::available_parallelism().context("count the CPUs")?.get();
    let (begun, watch) = (AtomicU64::new(0), Stopwatch::start());
    let results: Vec<Result<u64>> = std::thread::scope(|scope| {
        let workers: Vec<_> =
            (0..cpus).map(|_| scope.spawn(|| lives_until(bound, &program, &begun, watch))).collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|_| bail!("a worker panicked")))
            .collect()
    });
    let lives: u64 = results.into_iter().sum::<Result<u64>>()?;
    println!("{lives} {}", watch.elapsed().as_micros());
    Ok(())
}

fn arguments() -> Result<(Bound, PathBuf)> {
    const USAGE: &str = "usage: storm (--millis N | --lives N) PROGRAM";
    let mut arguments = std::env::args_os().skip(1);
    let (kind, number, program) = (
        arguments.next().context(USAGE)?,
        arguments.next().context(USAGE)?,
        arguments.next().context(USAGE)?,
    );
    let number: u64 = number.to_str().and_then(|text| text.parse().ok()).context(USAGE)?;
    let bound = match kind.to_str() {
        Some("--millis") => Bound::Time(Duration::from_millis(number)),
        Some("--lives") => Bound::Lives(number),
        Some(_) | None => bail!(USAGE),
    };
    Ok((bound, PathBuf::from(program)))
}

fn lives_until(bound: Bound, program: &PathBuf, begun: &AtomicU64, watch: Stopwatch) -> Result<u64> {
    let mut lives = 0;
    loop {
        let more = match bound {
            Bound::Time(time) => watch.elapsed() < time,
            Bound::Lives(total) => begun.fetch_add(1, Ordering::Relaxed) < total,
        };
        if !more {
            return Ok(lives);
        }
        let status = Command::new(program).status().with_context(|| format!("run {}", program.display()))?;
        ensure!(status.success(), "{} ended with {status}", program.display());
        lives += 1;
    }
}
