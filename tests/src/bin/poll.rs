//! Watches processes without events: `poll MILLIS` reads `/proc/PID/stat` of every process at this interval, and prints
//! the name of each that was not there the time before. It runs until it is killed.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use integration_tests::clock::pause;

/// Processes by what their `stat` begins with: pid and name.
type Known = BTreeSet<Vec<u8>>;

fn main() -> Result<()> {
    const USAGE: &str = "usage: poll MILLIS";
    let millis = std::env::args().nth(1).and_then(|text| text.parse().ok()).context(USAGE)?;
    let mut known = Known::new();
    loop {
        known = look(&known)?;
        pause(Duration::from_millis(millis));
    }
}

#[expect(clippy::print_stdout, reason = "what it finds is this program's output")]
fn look(before: &Known) -> Result<Known> {
    let mut now = Known::new();
    for entry in fs::read_dir("/proc").context("list /proc")? {
        let path = entry.context("list /proc")?.path();
        if !path.as_os_str().as_encoded_bytes().last().is_some_and(u8::is_ascii_digit) {
            continue;
        }
        // One that has ended in between was not seen.
        let Ok(mut stat) = fs::read(path.join("stat")) else { continue };
        let name = stat.iter().rposition(|byte| *byte == b')').context("a name")?;
        stat.truncate(name + 1);
        if !before.contains(&stat) {
            println!("{}", String::from_utf8_lossy(&stat));
        }
        now.insert(stat);
    }
    Ok(now)
}
