//! Everything users and other processes can get wrong: a clear error, and nothing changes.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, Result, ensure};
use integration_tests::cgroup::{TestCgroup, cpu_quota_of};
use integration_tests::clock::{SOON, wait_until};
use integration_tests::command::{Output, run, run_as, run_in_mount_namespace};
use integration_tests::daemon::{Daemon, Turn};
use integration_tests::kernel;
use integration_tests::places::Places;
use integration_tests::profile::ProfileText;
use integration_tests::program::Program;
use integration_tests::workload::Workload;
use serde_json::json;

/// A user that has no rights here: `nobody` on Debian.
const NOBODY: u32 = 65_534;
const INVALID: i32 = 6;

/// A profile with one rule, each part on a line of its own.
fn rule(matches: &str, limits: &str) -> String {
    format!("name: bad\nthrottling_rules:\n  - name: r\n    match: {matches}\n    limits: {limits}\n")
}

/// Texts that are no profile, with what the error must say. A place is given where the text has one.
fn bad_profiles() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let matches = "{ comm: x }";
    let limit = |limits: &str| rule(matches, limits).into_bytes();
    vec![
        ("malformed", b"name: [\n".to_vec(), "bad.yaml:"),
        ("duplicate key", b"name: bad\nname: bad\n".to_vec(), "bad.yaml:2:1"),
        ("unknown key", b"name: bad\nno_such_key: 1\n".to_vec(), "bad.yaml:2:1"),
        ("unknown limit", limit("{ cpus: 30% }"), "bad.yaml:5:"),
        ("empty", Vec::new(), "bad.yaml"),
        ("only a comment", b"# nothing\n".to_vec(), "bad.yaml"),
        ("10 MB", [b"name: bad\ndescription: ".to_vec(), vec![b'x'; 10 << 20]].concat(), "bad.yaml"),
        ("binary", (0..=255).collect(), "bad.yaml"),
        ("deep nesting", vec![b'['; 100_000], "bad.yaml"),
        ("aliases that multiply", aliases().into_bytes(), "bad.yaml"),
        ("wrong type", b"name: bad\nthrottling_rules: 7\n".to_vec(), "bad.yaml:2:"),
        ("bad regex", rule("{ cmdline_regex: '(' }", "{ cpu: 30% }").into_bytes(), "bad.yaml:4:"),
        ("unknown matcher", rule("{ colour: red }", "{ cpu: 30% }").into_bytes(), "bad.yaml:4:"),
        ("unknown user", rule("{ user: no-such-user-here }", "{ cpu: 30% }").into_bytes(), "bad.yaml:4:"),
        ("no limits", limit("{ }"), "bad.yaml:5:"),
        ("zero CPU", limit("{ cpu: 0% }"), "bad.yaml:5:"),
        ("negative CPU", limit("{ cpu: -5% }"), "bad.yaml:5:"),
        ("overflowing CPU", limit("{ cpu: 99999999999999999999% }"), "bad.yaml:5:"),
        ("CPU below the kernel's minimum", limit("{ cpu: 0.1% }"), "bad.yaml:5:"),
        ("zero weight", limit("{ cpu_weight: 0 }"), "bad.yaml:5:"),
        ("overflowing weight", limit("{ io_weight: 10001 }"), "bad.yaml:5:"),
        ("zero memory", limit("{ memory_max: 0 }"), "bad.yaml:5:"),
        ("overflowing memory", limit("{ memory_max: 99999999999999T }"), "bad.yaml:5:"),
        ("zero tasks", limit("{ pids: 0 }"), "bad.yaml:5:"),
        ("nice out of range", limit("{ nice: 20 }"), "bad.yaml:5:"),
        ("a rule's name that leaves", rule_named("'../x'").into_bytes(), "bad.yaml:3:"),
        ("a rule's name with a space", rule_named("'a b'").into_bytes(), "bad.yaml:3:"),
        ("a rule's name with a newline", rule_named("\"a\\nb\"").into_bytes(), "bad.yaml:3:"),
    ]
}

fn rule_named(name: &str) -> String {
    format!(
        "name: bad\nthrottling_rules:\n  - name: {name}\n    match: {{ comm: x }}\n    limits: {{ cpu: 30% }}\n"
    )
}

/// "Billion laughs": 10^9 nodes when expanded.
fn aliases() -> String {
    let levels = (1..10)
        .map(|level| format!("a{level}: &a{level} [{}]\n", vec![format!("*a{}", level - 1); 10].join(",")));
    format!("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n{}", levels.collect::<String>())
}

#[test]
fn bad_profiles_are_refused_with_their_place() -> Result<()> {
    let places = Places::new()?;
    let file = places.root().join("bad.yaml");
    let path = file.to_str().context("the path is UTF-8")?;
    for (what, text, place) in bad_profiles() {
        fs::write(&file, &text)?;
        for command in [["profile", "validate", path], ["profile", "import", path]] {
            let output = run(&places, &command)?;
            ensure!(output.code == INVALID, "{what}: {output:?}");
            // What `validate` finds is its data.
            let said = format!("{}{}", output.stdout, output.stderr);
            ensure!(said.contains(place), "{what}: no {place:?} in: {said}");
            ensure!(said.len() < 20_000, "{what}: an error of {} bytes", said.len());
        }
        ensure!(fs::read_dir(places.profiles())?.next().is_none(), "{what}: something was imported");
    }
    Ok(())
}

#[test]
fn a_bad_profile_is_not_activated_and_the_active_one_stays() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let daemon = Daemon::start(&places)?;
    daemon.activate(&ProfileText::new("good").rule("good", "pt-none", &json!({ "cpu": "10%" })))?;
    places.write_profile("bad", rule("{ cmdline_regex: '(' }", "{ cpu: 30% }").as_bytes())?;

    let output = run(&places, &["profile", "activate", "bad"])?.expect(INVALID)?;

    ensure!(output.stderr.contains("bad.yaml:4:"), "{}", output.stderr);
    let profile = daemon.data(&["daemon", "status"])?["profile"].clone();
    ensure!(profile == "good", "the active profile is {profile}");
    daemon.stop()
}

#[test]
fn names_cannot_leave_their_directory() -> Result<()> {
    let places = Places::new()?;
    for name in ["../x", "..", "/etc/passwd", "a b", "a\nb", "-x", "A", "", &"a".repeat(65)] {
        for command in [["profile", "show", "--", name], ["profile", "activate", "--", name]] {
            let output = run(&places, &command)?;
            ensure!(output.code == 2, "{name:?}: {output:?}");
            ensure!(!output.stderr.contains('\u{1b}'), "{name:?}: {}", output.stderr);
        }
    }
    // Arguments need not be UTF-8.
    let bytes = std::ffi::OsStr::from_bytes(b"\xff\xfe");
    let output = run(&places, &["profile".as_ref(), "show".as_ref(), bytes])?;
    ensure!(output.code == 2, "{output:?}");
    Ok(())
}

#[test]
fn processes_that_must_not_be_touched_are_refused() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let daemon = Daemon::start(&places)?;
    let kthreadd = kernel::comm(2)?;
    ensure!(kthreadd == "kthreadd", "pid 2 is {kthreadd}, not a kernel thread");
    let (own, parent) = (daemon.pid(), std::process::id());
    for (what, pid, code) in [
        ("init", 1, 7),
        ("a kernel thread", 2, 7),
        ("the agent", own, 7),
        ("an ancestor of the agent", parent, 7),
        ("pid 0", 0, 2),
        ("a process that is gone", 4_194_304, 4),
    ] {
        let nice = |pid| kernel::stat(pid).map(|stat| stat.nice).ok();
        let before = (nice(pid), cpu_quota_of(pid).ok());
        let output = run(&places, &["throttle", "--pid", &pid.to_string(), "--cpu", "30%", "--nice", "10"])?;
        ensure!(output.code == code, "{what}: {output:?}");
        ensure!(!output.stderr.is_empty(), "{what}: nothing said");
        ensure!((nice(pid), cpu_quota_of(pid).ok()) == before, "{what}: it was touched");
    }
    ensure!(daemon.data(&["status"])? == json!([]), "a group exists");
    daemon.stop()
}

#[test]
fn limits_out_of_range_are_usage_errors() -> Result<()> {
    let places = Places::new()?;
    for limit in [
        ["--cpu", "0%"],
        ["--cpu=-5%", "--quiet"],
        ["--cpu", "99999999999999999999%"],
        ["--cpu", "30"],
        ["--memory", "0"],
        ["--memory", "99999999999999T"],
        ["--cpu-weight", "0"],
        ["--io-weight", "10001"],
        ["--pids", "0"],
        ["--nice", "20"],
        ["--for", "never"],
    ] {
        run(&places, &[&["throttle", "--pid", "1"][..], &limit].concat())?.expect(2)?;
    }
    Ok(())
}

#[test]
fn hostile_comm_and_argv_reach_neither_terminal_nor_json() -> Result<()> {
    let _turn = Turn::take()?;
    let places = Places::new()?;
    let name = std::ffi::OsStr::from_bytes(b"\x1b[31m\xff\n\"x");
    let program = places.bin().join(name);
    fs::rename(Program::Wait.write(&places.bin(), "pt-hostile")?, &program)?;
    let process = Workload::spawn(&program)?;
    let daemon = Daemon::start(&places)?;
    let pid = process.pid_text();
    for command in [&["explain", &pid][..], &["discover", &pid, "--match", "pid"]] {
        for form in ["table", "wide", "json", "jsonl", "yaml"] {
            let output = run(&places, &[command, &["-o", form]].concat())?.expect(0)?;
            ensure!(!output.stdout.contains('\u{1b}'), "{}: {:?}", output.line, output.stdout);
        }
    }
    let explained = daemon.data(&["explain", &pid])?;
    ensure!(explained["comm"] == "\\x1b[31m\\xff\\x0a\"x", "{explained}");
    daemon.stop()
}

#[test]
fn the_control_socket_refuses_other_users() -> Result<()> {
    let _turn = Turn::take()?;
    let (places, cgroup) = (Places::new()?, TestCgroup::new("denied")?);
    let process = Workload::spawn_in(&Program::Wait.write(&places.bin(), "pt-denied")?, &cgroup)?;
    let before = cgroup.limits()?;
    let daemon = Daemon::start(&places)?;
    let pid = process.pid_text();
    let denied = |commands: &[&[&str]]| -> Result<()> {
        for command in commands {
            let output: Output = run_as(NOBODY, &places, command)?;
            ensure!(output.code == 5 && !output.stderr.is_empty(), "{output:?}");
        }
        Ok(())
    };
    let commands: [&[&str]; 3] =
        [&["throttle", "--pid", &pid, "--cpu", "10%"], &["status"], &["release", "--all", "--yes"]];
    denied(&commands)?;
    // Even when the file's mode lets them connect: who they are decides.
    fs::set_permissions(places.socket(), fs::Permissions::from_mode(0o666))?;
    denied(&commands)?;
    ensure!(cgroup.limits()? == before, "a limit was written");
    daemon.stop()
}

#[test]
fn a_full_disk_under_the_state_directory_limits_nothing() -> Result<()> {
    // A file system of a few pages, filled to the last one while the agent runs on it.
    const SCRIPT: &str = r#"
        state=$1; hog=$2; quota=$3; shift 3
        mount -t tmpfs -o size=512k pt-test-full "$state"
        "$@" daemon run >"$state.out" 2>&1 & agent=$!
        trap 'kill $agent 2>/dev/null; wait $agent; umount "$state"' EXIT
        for i in $(seq 200); do "$@" daemon status >/dev/null 2>&1 && break; sleep 0.05; done
        "$@" daemon status >/dev/null
        dd if=/dev/zero of="$state/filler" bs=4k 2>/dev/null || true
        code=0; "$@" throttle --pid "$hog" --cpu 10% || code=$?
        echo "code=$code quota=$(cat "$quota")"
        rm "$state/filler"
    "#;
    let _turn = Turn::take()?;
    let (places, cgroup) = (Places::new()?, TestCgroup::new("full-disk")?);
    let process = Workload::spawn_in(&Program::Wait.write(&places.bin(), "pt-full")?, &cgroup)?;
    let before = cgroup.limits()?;
    let (state, pid) = (places.state(), process.pid_text());
    let quota = before.keys().find(|path| path.ends_with("cpu.cfs_quota_us") || path.ends_with("cpu.max"));
    let quota = quota.context("a CPU controller")?.to_str().context("UTF-8")?;
    let state = state.to_str().context("UTF-8")?;
    let output = run_in_mount_namespace(&places, SCRIPT, &[state, &pid, quota])?.expect(0)?;
    ensure!(output.stdout.contains("code=1"), "{output:?}");
    ensure!(output.stderr.contains("full") || output.stderr.contains("No space"), "{output:?}");
    ensure!(cgroup.limits()? == before, "a limit was written without a record of the prior value");
    wait_until("nothing is left limited", SOON, || Ok(cpu_quota_of(process.pid())?.is_none()))
}
