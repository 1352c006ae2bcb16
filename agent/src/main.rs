//! The process-throttler program: see `process_throttler::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    process_throttler::cli::main()
}
