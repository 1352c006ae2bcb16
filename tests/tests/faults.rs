//! Commands that change something, where they cannot: on file systems that are read-only or full, at the same time as
//! each other, and when the daemon dies over them or is somebody else's.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use integration_tests::cgroup::TestCgroup;
use integration_tests::clock::{SOON, wait_until};
use integration_tests::command::{Output, agent_command, run, run_in_mount_namespace};
use integration_tests::daemon::{Daemon, Turn};
use integration_tests::places::Places;
use integration_tests::program::Program;
use integration_tests::workload::Workload;

const NOBODY: u32 = 65_534;

/// Puts copies of the four directories that it gets on a small file system, over them.
const SMALL: &str = r#"
        small=$(mktemp -d "${2%/*}/small.XXXX")
        mount -t tmpfs -o size=24m pt-test-full "$small"
        for dir in "$1" "$2" "$3" "$4"; do
            cp -a "$dir" "$small/"
            mount --bind "$small/${dir##*/}" "$dir"
        done
"#;

const WEB: &str = "name: web
throttling_rules:
  - name: copies
    match: { exe: /usr/local/bin/nightly-copy }
    limits: { nice: 5 }
";

/// Every command that changes something and needs no daemon; `{pid}` is a process of the test's, `{file}` a profile.
const CHANGES: [&str; 21] = [
    "profile create new",
    "profile edit web --set description=other",
    "profile clone web copy",
    "profile import {file} --as imported",
    "profile import {file} --replace",
    "profile rollback web",
    "profile delete web",
    "webhook add new https://new.example.org/",
    "webhook add keyed https://new.example.org/ --generate-secret",
    "webhook edit ops --rate 5",
    "webhook edit ops --rotate-secret",
    "webhook disable ops",
    "webhook remove ops",
    "backup create second",
    "backup delete first",
    "backup restore first",
    "throttle --pid {pid} --nice 11 --group fault",
    "run --nice 11 -- true",
    "emergency stop it hurts",
    "release --all",
    "state migrate",
];
/// Those of them that have nothing to change here: they may succeed.
const IDLE: [&str; 2] = ["release --all", "state migrate"];

/// An installation with something of everything.
struct Furnished {
    places: Places,
    process: Workload,
}

impl Furnished {
    fn new(name: &str) -> Result<Self> {
        let places = Places::new()?;
        let process = Workload::spawn(&Program::Wait.write(&places.bin(), name)?)?;
        fs::write(places.root().join("other.yaml"), WEB.replace("nice: 5", "nice: 6"))?;
        places.write_profile("web", WEB.as_bytes())?;
        for line in [
            "profile edit web --set description=first",
            "webhook add ops https://ops.example.org/hook --generate-secret",
            "backup create first",
        ] {
            run(&places, &line.split(' ').collect::<Vec<_>>())?.expect(0)?;
        }
        Ok(Self { places, process })
    }

    /// The nice value of the process.
    fn nice(&self) -> Result<i32> {
        Ok(integration_tests::kernel::stat(self.process.pid())?.nice)
    }

    /// The words of a command.
    fn words(&self, line: &str) -> Vec<String> {
        let file = self.places.root().join("other.yaml").display().to_string();
        let word = |word: &str| match word {
            "{pid}" => self.process.pid_text(),
            "{file}" => file.clone(),
            other => other.to_owned(),
        };
        line.split(' ').map(word).collect()
    }

    /// Runs a command after a script that has made everything hard; the script gets the directories first.
    fn run_after(&self, script: &str, line: &str) -> Result<Output> {
        let dirs = [self.places.config(), self.places.state(), self.places.runtime(), self.places.log()];
        let dirs: Vec<String> = dirs.iter().map(|dir| dir.display().to_string()).collect();
        // The script's own arguments come before the agent's, which has to come last.
        let words = self.words(line).iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
        let script = script.replace("COMMAND", &format!("\"$@\" --yes {words}"));
        run_in_mount_namespace(&self.places, &script, &dirs.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

/// A failure in words, and none that the program did not expect.
fn ensure_plain(line: &str, output: &Output, words: &[&str]) -> Result<()> {
    ensure!(output.stderr.contains("Error: "), "{line}: {output:?}");
    ensure!(!output.stderr.contains("panicked"), "{line}: {output:?}");
    let told = output.stderr.to_lowercase();
    ensure!(words.iter().any(|word| told.contains(word)), "{line} does not say {words:?}: {output:?}");
    Ok(())
}

#[test]
fn on_a_read_only_file_system_nothing_is_changed_and_that_is_said() -> Result<()> {
    const SCRIPT: &str = r#"
        for dir in "$1" "$2" "$3" "$4"; do
            mount --bind "$dir" "$dir"
            mount -o remount,bind,ro "$dir"
        done
        shift 4
        exec COMMAND
    "#;
    let _turn = Turn::take()?;
    let furnished = Furnished::new("pt-fault-ro")?;
    let nice = furnished.nice()?;
    for line in CHANGES {
        let output = furnished.run_after(SCRIPT, line)?;
        if output.code != 0 || !IDLE.contains(&line) {
            ensure!([1, 5, 8].contains(&output.code), "{line}: {output:?}");
            ensure_plain(line, &output, &["read-only", "readonly"])?;
        }
    }
    ensure!(furnished.nice()? == nice, "a limit was set without a record");
    // Nothing of it was half done.
    run(&furnished.places, &["validate", "system"])?.expect(0)?;
    run(&furnished.places, &["state", "check"])?.expect(0)?;
    Ok(())
}

#[test]
fn on_a_full_file_system_what_was_there_stays_whole() -> Result<()> {
    // Everything is copied to a small file system, which is filled to the last page; and afterwards, with room again,
    // everything that was there must be as it was, and the same command must work.
    const SCRIPT: &str = r#"
        config=$1; shift 4
        cp -a "$config" "$small/before"
        dd if=/dev/zero of="$small/filler" bs=4k 2>/dev/null || true
        code=0; COMMAND || code=$?
        rm "$small/filler"
        if [ $code != 0 ]; then
            find "$config" -name '.*.tmp' -delete
            diff -r "$small/before" "$config" >&2 || { echo "CHANGED" >&2; }
            "$@" state check >/dev/null 2>&1 || echo "STATE" >&2
            "$@" validate config >/dev/null 2>&1 || echo "CONFIG" >&2
            COMMAND >/dev/null 2>"$small/again" || { echo "AGAIN" >&2; cat "$small/again" >&2; }
            "$@" --yes release --all >/dev/null 2>&1 || echo "RELEASE" >&2
        fi
        echo "code=$code"
    "#;
    let _turn = Turn::take()?;
    let furnished = Furnished::new("pt-fault-full")?;
    let mut refused = 0;
    for line in CHANGES {
        let output = furnished.run_after(&format!("{SMALL}{SCRIPT}"), line)?.expect(0).context(line)?;
        for trouble in ["CHANGED", "STATE", "CONFIG", "AGAIN", "RELEASE"] {
            ensure!(!output.stderr.contains(trouble), "{line}: {trouble}: {output:?}");
        }
        if output.stdout.ends_with("code=0\n") {
            continue;
        }
        refused += 1;
        ensure_plain(line, &output, &["no space", "full", "no room"])?;
    }
    ensure!(refused > CHANGES.len() / 2, "only {refused} commands noticed that the disk is full");
    Ok(())
}

#[test]
fn commands_at_the_same_time_lose_nothing_of_each_other() -> Result<()> {
    const AT_ONCE: usize = 8;
    let furnished = Furnished::new("pt-fault-many")?;
    let places = &furnished.places;
    let mut children = Vec::new();
    for number in 0..AT_ONCE {
        let (name, url) = (format!("w{number}"), format!("https://w{number}.example.org/"));
        let description = format!("description=by {number}");
        let rule = format!("throttling_rules.copies.description=by {number}");
        for arguments in [
            &["webhook", "add", &name, &url][..],
            &["profile", "edit", "web", "--set", &description],
            &["profile", "edit", "web", "--set", &rule],
            &["profile", "create", &name],
        ] {
            let mut command = agent_command(places);
            command.args(arguments).stdout(Stdio::null()).stderr(Stdio::piped());
            children.push((arguments.join(" "), command.spawn().context("start a command")?));
        }
    }
    for (line, child) in children {
        let output = child.wait_with_output().context("wait for a command")?;
        let told = String::from_utf8_lossy(&output.stderr);
        // 7: somebody else was faster, and nothing was changed.
        let edited = line.starts_with("profile edit");
        let fine = output.status.code() == Some(0) || edited && output.status.code() == Some(7);
        ensure!(fine, "{line} ended with {}: {told}", output.status);
    }
    let hooks = run(places, &["webhook", "list", "-o", "json"])?.expect(0)?.json()?;
    ensure!(hooks["data"].as_array().map(Vec::len) == Some(AT_ONCE + 1), "an endpoint is lost: {hooks}");
    let profiles = run(places, &["profile", "list", "-o", "json"])?.expect(0)?.json()?;
    let profiles = profiles["data"].as_array().context("a list")?;
    ensure!(profiles.len() == AT_ONCE + 1, "{profiles:?}");
    ensure!(profiles.iter().all(|one| one["valid"] == true), "{profiles:?}");
    run(places, &["audit", "verify"])?.expect(0)?;
    run(places, &["state", "check"])?.expect(0)?;
    let history = run(places, &["profile", "history", "web", "-o", "json"])?.expect(0)?.json()?;
    let is_open = |one: &serde_json::Value| one["outcome"] == "begun";
    ensure!(!history["data"].as_array().context("a list")?.iter().any(is_open), "{history}");
    Ok(())
}

#[test]
fn a_daemon_that_dies_over_a_request_is_told_from_one_that_refuses() -> Result<()> {
    let _turn = Turn::take()?;
    let (places, cgroup) = (Places::new()?, TestCgroup::new("fault-dies")?);
    let process = Workload::spawn_in(&Program::Wait.write(&places.bin(), "pt-fault-dies")?, &cgroup)?;
    let before = cgroup.limits()?;
    let daemon = Daemon::start_under(&places, &["env", "PROCESS_THROTTLER_DIE_AT=written"])?;
    let output = run(&places, &["throttle", "--pid", &process.pid_text(), "--cpu", "30%", "--group", "f"])?;
    let output = output.expect(1)?;
    ensure_plain("throttle", &output, &["talk to the daemon"])?;
    ensure!(output.stdout.is_empty(), "{output:?}");
    daemon.died()?;
    ensure!(cgroup.limits()? != before, "it died too early for this test");
    run(&places, &["release", "--all", "--yes"])?.expect(0)?;
    ensure!(cgroup.limits()? == before, "{:?}", cgroup.limits()?);
    Ok(())
}

/// Asks whoever listens there, and is refused by our own side.
fn ask_a_stranger(places: &Places, socket: &Path) -> Result<()> {
    wait_until("the server listens", SOON, || Ok(socket.exists()))?;
    let path = socket.to_str().context("UTF-8")?;
    for command in [&["status"][..], &["release", "--all", "--yes"], &["emergency", "stop"]] {
        let output = run(places, &[&["--socket", path], command].concat())?;
        ensure!(output.code == 5, "{output:?}");
        ensure_plain("a command", &output, &["served by uid 65534"])?;
    }
    Ok(())
}

#[test]
fn nothing_is_said_to_a_socket_that_somebody_else_serves() -> Result<()> {
    const SERVER: &str = r#"
        my $server = IO::Socket::UNIX->new(Local => $ARGV[0], Listen => 8) or die;
        while (my $peer = $server->accept) {
            if (sysread($peer, my $heard, 1)) { open(my $file, ">>", $ARGV[1]) or die; print $file $heard; }
        }"#;
    let places = Places::new()?;
    let open = places.root().join("open");
    fs::create_dir(&open)?;
    fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o777))?;
    let (socket, heard) = (open.join("control.sock"), open.join("heard"));
    let mut server = std::process::Command::new("setpriv");
    server.args([&format!("--reuid={NOBODY}"), &format!("--regid={NOBODY}"), "--clear-groups", "--"]);
    server
        .args(["/usr/bin/perl", "-MIO::Socket::UNIX", "-e", SERVER])
        .args([&socket, &heard])
        .stdin(Stdio::null());
    let mut server = server.spawn().context("start a server")?;
    let asked = ask_a_stranger(&places, &socket);
    server.kill().context("end the server")?;
    server.wait().context("reap the server")?;
    asked?;
    let heard = fs::read(&heard).unwrap_or_default();
    ensure!(heard.is_empty(), "{heard:?} was sent");
    Ok(())
}

#[test]
fn a_full_disk_keeps_nothing_limited_without_a_daemon_either() -> Result<()> {
    const SCRIPT: &str = r#"
        pid=$5; nice() { awk '{ print $19 }' "/proc/$pid/stat"; }
        shift 5
        for how in "release --all" "emergency stop the disk is full"; do
            before=$(nice)
            "$@" throttle --pid "$pid" --nice 11 --group full >&2
            limited=$(nice)
            dd if=/dev/zero of="$small/filler" bs=4k 2>/dev/null || true
            code=0; "$@" --yes $how >&2 || code=$?
            echo "$before $limited $(nice) $code"
            rm "$small/filler"
        done
        "$@" --yes emergency resume >&2
    "#;
    let _turn = Turn::take()?;
    let furnished = Furnished::new("pt-fault-kept")?;
    let places = &furnished.places;
    let dirs = [places.config(), places.state(), places.runtime(), places.log()];
    let mut arguments: Vec<String> = dirs.iter().map(|dir| dir.display().to_string()).collect();
    arguments.push(furnished.process.pid_text());
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let output = run_in_mount_namespace(places, &format!("{SMALL}{SCRIPT}"), &arguments)?.expect(0)?;
    let lines: Vec<Vec<&str>> = output.stdout.lines().map(|line| line.split(' ').collect()).collect();
    ensure!(lines.len() == 2, "{output:?}");
    for line in lines {
        ensure!(line[1] == "11" && line[0] == line[2], "still limited: {output:?}");
        // Lifted, and what could not be written is said.
        ensure!(line[3] == "8", "{output:?}");
    }
    Ok(())
}
