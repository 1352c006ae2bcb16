//! Measures a full snapshot by the task iterator against reading `/proc/PID/stat` of every process: one JSON line per
//! round, in µs. `cargo xtask bench` runs it with thousands of processes alive. Usage: `snapshot ROUNDS`.
#![expect(clippy::print_stdout, reason = "the measurements are this program's output")]

use std::error::Error;
use std::fs::File;
use std::io::Read as _;
use std::time::Duration;

use process_throttler::clock;
use process_throttler::source::Source as _;
use process_throttler::source::attach::Options;
use process_throttler::source::ebpf::EbpfSource;

fn main() -> Result<(), Box<dyn Error>> {
    let rounds: u32 = std::env::args().nth(1).ok_or("usage: snapshot ROUNDS")?.parse()?;
    let mut source = EbpfSource::open(&Options::default())?;
    for _ in 0..rounds {
        let mut seen = 0_u32;
        let iterator = timed(|| Ok(source.snapshot(&mut |_event| seen += 1)?))?;
        let mut read = 0_u32;
        let proc = timed(|| read_every_stat(&mut read))?;
        let (iterator_us, proc_us) = (iterator.as_secs_f64() * 1e6, proc.as_secs_f64() * 1e6);
        println!(r#"{{"seen":{seen},"read":{read},"iterator_us":{iterator_us:.1},"proc_us":{proc_us:.1}}}"#);
    }
    Ok(())
}

fn timed(work: impl FnOnce() -> Result<(), Box<dyn Error>>) -> Result<Duration, Box<dyn Error>> {
    let begun = clock::now();
    work()?;
    Ok(clock::now().since(begun))
}

/// The cheapest reading there is: into one buffer, without parsing.
fn read_every_stat(read: &mut u32) -> Result<(), Box<dyn Error>> {
    let mut buffer = [0; 1024];
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        if !entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        // A process that ended in between has nothing to read.
        if let Ok(mut file) = File::open(entry.path().join("stat")) {
            let bytes = file.read(&mut buffer).unwrap_or(0);
            *read += u32::from(bytes > 0);
        }
    }
    Ok(())
}
