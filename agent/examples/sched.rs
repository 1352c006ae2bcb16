//! Arms the scheduler's programs and holds them until standard input ends. Prints how long arming took, loading included, in
//! µs, and how many switches there were at the end; given a pid, watches it. For the benchmark.
#![expect(clippy::print_stdout, reason = "the measurements are this program's output")]

use std::io::Read as _;

use process_throttler::clock;
use process_throttler::model::id::ProcKey;
use process_throttler::source::attach::Options;
use process_throttler::source::sched::{Arming, Ready};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let watched = std::env::args().nth(1).map(|pid| pid.parse::<u32>()).transpose()?;
    let began = clock::now();
    let mut probes = Ready::load(&Options::default(), &Arming::new(u64::MAX, 1_000_000_000))?.arm()?;
    println!("{}", clock::now().since(began).as_micros());
    if let Some(pid) = watched {
        let process =
            process_throttler::procfs::Proc::of_host(std::path::Path::new("/proc"))?.process(pid)?;
        let key: ProcKey = process.ok_or("no such process")?.key;
        probes.watch(&[key])?;
    }
    std::io::stdin().read_to_end(&mut Vec::new())?;
    let reading = probes.read()?;
    println!("{} switches", reading.totals.switches);
    Ok(())
}
