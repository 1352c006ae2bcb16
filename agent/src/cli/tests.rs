//! What holds for the command line as a whole; what commands do is tested in `tests/cli.rs`.

use std::path::Path;

use clap::Parser as _;

use super::error::requires_daemon;
use super::reference::reference;
use super::{AFTER_HELP, Cli, command};
use crate::control::failure::FailureKind;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split_whitespace())
}

#[test]
fn definitions_are_sound() {
    command().debug_assert();
}

/// Set `UPDATE_REFERENCE` to write the file anew.
#[test]
fn reference_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/cli.md");
    let now = reference();
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        std::fs::write(&path, &now).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap();
    assert!(written == now, "docs/cli.md is stale: run this test with UPDATE_REFERENCE=1");
}

#[test]
fn help_tells_every_exit_code() {
    for kind in FailureKind::ALL {
        let code = format!("  {} ", kind.exit_code());
        assert!(AFTER_HELP.contains(&code), "{kind:?}");
    }
}

#[test]
fn absence_of_the_daemon_is_told_in_the_words_of_the_contract() {
    let failure = requires_daemon("critical-process-monitoring");
    assert_eq!(failure.kind.exit_code(), 3);
    assert_eq!(failure.hint, None);
    assert_eq!(
        format!("Error: {failure}"),
        "Error: This feature (critical-process-monitoring) requires the process-throttler daemon to be running.\n\
         Start it with: process-throttler daemon start\n\
         Or enable it as a service: systemctl enable --now process-throttler"
    );
}

#[test]
fn command_lines_of_the_contract_are_understood() {
    for line in [
        "pt daemon run",
        "pt --runtime-dir /r --config-dir /c --state-dir /s --log-dir /l --socket /x daemon start",
        "pt daemon status -o json --no-headers",
        "pt discover ^ssh --match exe --exact",
        "pt list --sort memory --limit 5 -o wide",
        "pt throttle --pid 1 2 --pid 3,4 --cpu 150% --nice -5 --yes",
        "pt throttle --pattern x --match cmdline --memory 512M --memory-high 1G --io-read 10M --io-write 10M \
         --io-weight 50 --cpu-weight 50 --pids 100 --group g --scope process --for 10m --dry-run",
        "pt run --profile web --rule backups --cpu 30% --group g -- rsync -a --delete x y",
        "pt run --nice 5 make --jobs 4",
        "pt release --all --yes",
        "pt release --group g --json",
        "pt status --group g -q",
        "pt explain 42 -vv",
        "pt profile import ./x.yaml --replace",
        "pt events --follow --since 10m --kind throttle_applied",
        "pt events --since 2026-01-31T12:00:00Z",
        "pt record /tmp/x --for 1s",
        "pt replay /tmp/x --profile p",
        "pt webhook test ops",
        "pt webhook deliveries ops --state dead --limit 5",
        "pt webhook deliveries 42 -o json",
        "pt webhook replay 42",
        "pt webhook replay --endpoint ops --since 10m --state delivered --yes",
        "pt completions fish",
        "pt webhook add test https://example.com/hook --events critical_process_down",
        "pt webhook add a https://h/ --events a,b --min-severity warning --format pagerduty --secret-file k \
         --routing-key-file r --timeout 5s --rate 3 --allow-http --allow-network 10.0.0.0/8 --allow-network ::1 \
         --proxy http://p/ --ca-file c --disabled --hub-signature",
        "pt webhook add a --hub-signature --allow-http https://h/ --generate-secret --dry-run",
        "pt webhook edit a --url https://h/ --rotate-secret-file k --unset rate,proxy --allow-http=false",
        "pt webhook remove a --yes",
        "pt webhook disable a -o json",
        "pt critical ack nginx --for 2h --comment x --dry-run",
    ] {
        if let Err(error) = parse(line) {
            panic!("{line}: {error}");
        }
    }
}

#[test]
fn command_lines_that_cannot_be_meant_are_refused() {
    for line in [
        "pt",
        "pt nothing",
        "pt throttle --pid 1",
        "pt throttle --cpu 10%",
        "pt throttle --pid 1 --pattern x --match name --cpu 10%",
        "pt throttle --pattern x --cpu 10%",
        "pt throttle --pid 0 --cpu 10%",
        "pt throttle --pid -1 --cpu 10%",
        "pt throttle --pid 4294967296 --cpu 10%",
        "pt throttle --pid 1 --cpu 0%",
        "pt throttle --pid 1 --cpu 10",
        "pt throttle --pid 1 --cpu -10%",
        "pt throttle --pid 1 --cpu-weight 0",
        "pt throttle --pid 1 --memory 1",
        "pt throttle --pid 1 --memory 99999999999G",
        "pt throttle --pid 1 --pids 0",
        "pt throttle --pid 1 --nice 20",
        "pt throttle --pid 1 --cpu 10% --group ../x",
        "pt throttle --pid 1 --cpu 10% --for 0s",
        "pt throttle --pid 1 --cpu 10% --for 999years",
        "pt run",
        "pt run --cpu 10%",
        "pt run --rule r -- true",
        "pt run --for 5m -- true",
        "pt release",
        "pt release --all --group g",
        "pt list --limit 0",
        "pt events --since yesterday",
        "pt events --limit 99999999",
        "pt profile show ../x",
        "pt webhook",
        "pt webhook deliveries --state lost",
        "pt webhook deliveries --limit 0",
        "pt webhook replay 42 --endpoint ops",
        "pt -q -v list",
        "pt webhook",
        "pt webhook add a",
        "pt webhook add ../a https://h/",
        "pt webhook add a https://h/ --format xml",
        "pt webhook add a https://h/ --secret-file k --credential c",
        "pt webhook edit a --rotate-secret --rotate-secret-file k",
        "pt webhook edit a --unset url",
        "pt list -o xml",
    ] {
        let error = parse(line).err().unwrap_or_else(|| panic!("{line}: accepted"));
        assert!(error.use_stderr(), "{line}: not an error");
    }
}

/// The paths of all commands, groups of commands included.
fn paths(command: &clap::Command, path: &[String], found: &mut Vec<Vec<String>>) {
    found.push(path.to_owned());
    for child in command.get_subcommands() {
        assert!(!child.is_hide_set(), "{} is not in the reference", child.get_name());
        paths(child, &[path, &[child.get_name().to_owned()]].concat(), found);
    }
}

/// What a command prints when it is asked for help, 100 columns wide.
fn help(path: &[String], flag: &str) -> String {
    let words = [path, &[flag.to_owned()]].concat();
    let error = command().term_width(100).try_get_matches_from(words).unwrap_err();
    assert_eq!(error.kind(), clap::error::ErrorKind::DisplayHelp, "{path:?}");
    error.to_string().lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// The long options that a help lists.
fn listed(help: &str) -> Vec<&str> {
    let option = |line: &&str| line.starts_with('-');
    // Behind two spaces is what it does.
    let names = help.lines().map(str::trim_start).filter(option).filter_map(|line| line.split("  ").next());
    names.flat_map(str::split_whitespace).filter(|word| word.starts_with("--")).collect()
}

#[test]
fn help_of_every_command_is_what_the_reference_has_and_the_short_one_is_of_the_same() {
    let reference = reference();
    let mut found = Vec::new();
    paths(&command(), &[super::BINARY.to_owned()], &mut found);
    for path in found {
        let (long, short) = (help(&path, "--help"), help(&path, "-h"));
        let title = path.join(" ");
        assert!(reference.contains(&format!("\n## {title}\n\n```text\n{long}```\n")), "{title}:\n{long}");
        assert_eq!(short.lines().next(), long.lines().next(), "{title}: what it does");
        assert!(!long.starts_with("Usage"), "{title} does not say what it does");
        let usage = |help: &str| help.lines().find(|line| line.starts_with("Usage: ")).map(str::to_owned);
        assert!(usage(&short).is_some() && usage(&short) == usage(&long), "{title}:\n{short}");
        assert_eq!(listed(&short), listed(&long), "{title}");
        // clap never breaks a usage: one that does not fit two lines of a terminal of 60 columns is written by hand.
        let most = |line: &str| if line.starts_with("Usage: ") { 120 } else { 100 };
        let wide = short.lines().chain(long.lines()).find(|line| line.chars().count() > most(line));
        assert_eq!(wide, None, "{title}");
    }
}
