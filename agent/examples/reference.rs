//! Prints the reference of the command line, from which `cargo xtask docs` makes `docs/cli.md`.
#![expect(clippy::print_stdout, reason = "the reference is this program's output")]

fn main() {
    print!("{}", process_throttler::cli::reference());
}
