//! The agent's hooks in the kernel are taken away from it, by whoever else is root.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use integration_tests::clock::{SOON, Stopwatch, wait_until};
use integration_tests::command::run_command;
use integration_tests::daemon::Daemon;
use integration_tests::places::Places;

use crate::chaos::dice::Dice;
use crate::chaos::stage::{Setting, Stage};

/// Descriptor and id of each BPF link of the agent, from `/proc/PID/fdinfo`.
fn links(daemon: &Daemon<'_>) -> Result<Vec<(u32, u32)>> {
    let dir = format!("/proc/{}/fdinfo", daemon.pid());
    let mut links = Vec::new();
    for entry in fs::read_dir(&dir).with_context(|| format!("list {dir}"))? {
        let entry = entry.with_context(|| format!("list {dir}"))?;
        // One that was closed in between is none.
        let Ok(text) = fs::read_to_string(entry.path()) else { continue };
        let id = text.lines().find_map(|line| line.strip_prefix("link_id:")?.trim().parse().ok());
        let fd = entry.file_name().to_str().and_then(|name| name.parse().ok());
        links.extend(fd.zip(id));
    }
    ensure!(!links.is_empty(), "the agent has no BPF links");
    Ok(links)
}

#[cfg(target_arch = "x86_64")]
const BPF: u32 = 321;
#[cfg(target_arch = "aarch64")]
const BPF: u32 = 280;

/// `BPF_LINK_GET_FD_BY_ID`, then `BPF_LINK_DETACH` (bpf(2)); prints what came of the latter: 0, or the error's number.
const DETACH: &str = r#"
    my $syscall = shift @ARGV;
    for my $id (@ARGV) {
        my $attr = pack("L32", $id);
        my $fd = syscall($syscall + 0, 30, $attr, 128);
        die "link $id: $!" if $fd == -1;
        $attr = pack("L32", $fd);
        print syscall($syscall + 0, 34, $attr, 128) == -1 ? $! + 0 : 0, "\n";
    }"#;

/// By their ids.
pub(crate) fn detached(setting: &Setting, _: &mut Dice) -> Result<Duration> {
    /// What the kernel answers where a link of a kind cannot be detached, such as those of tracepoints (EOPNOTSUPP).
    const NOT_SUPPORTED: &str = "95";
    let places = Places::for_agent(setting.agent.clone())?;
    let stage = Stage::set(&places, "detach", "")?;
    let daemon = stage.start()?;
    let mut perl = Command::new("/usr/bin/perl");
    perl.args(["-e", DETACH, &BPF.to_string()]);
    perl.args(links(&daemon)?.into_iter().map(|(_, id)| id.to_string()));
    let answers = run_command(perl)?.expect(0)?.stdout;
    let watch = Stopwatch::start();
    if answers.lines().all(|answer| answer == NOT_SUPPORTED) {
        stage.exact(&daemon, 0)?;
        stage.right(&daemon)?;
    } else {
        degraded(&daemon)?;
    }
    let recovery = watch.elapsed();
    stage.end(daemon)?;
    Ok(recovery)
}

/// Has the agent's main thread, in which nothing else happens meanwhile, put its standard input, which is /dev/null, in the
/// place of descriptors (`dup2`): ptrace(2) ATTACH, GETREGS, and for each a system call in one step; then everything as before.
const CLOSE: &str = r#"
    use integer;
    my ($pid, @fds) = map { $_ + 0 } @ARGV;
    sub trace { my $done = syscall(101, @_); die "ptrace $_[0]: $!" if $done == -1; }
    sub stopped { waitpid($pid, 0x40000000) == $pid or die "wait: $!"; }
    trace(16, $pid, 0, 0);
    stopped();
    my $regs = "\0" x 216;
    trace(12, $pid, 0, $regs);
    my @saved = unpack("q27", $regs);
    eval {
        for my $fd (@fds) {
            my @now = @saved;
            # rax, rsi, rdi, orig_rax, and rip on the instruction that it sleeps in.
            @now[10, 13, 14, 15, 16] = (33, $fd, 0, -1, $saved[16] - 2);
            my $set = pack("q27", @now);
            trace(13, $pid, 0, $set);
            trace(9, $pid, 0, 0);
            stopped();
            trace(12, $pid, 0, $regs);
            my $answer = (unpack("q27", $regs))[10];
            die "dup2 over $fd: $answer" if $answer != $fd;
        }
    };
    my $failed = $@;
    my $before = pack("q27", @saved);
    trace(13, $pid, 0, $before);
    trace(17, $pid, 0, 0);
    die $failed if $failed;"#;

/// By its own hand, which a debugger leads.
pub(crate) fn closed(setting: &Setting, _: &mut Dice) -> Result<Duration> {
    if !cfg!(target_arch = "x86_64") {
        bail!("the registers are those of x86-64");
    }
    let places = Places::for_agent(setting.agent.clone())?;
    let mut stage = Stage::set(&places, "closed", "")?;
    let daemon = stage.start()?;
    let mut perl = Command::new("/usr/bin/perl");
    perl.args(["-e", CLOSE, &daemon.pid().to_string()]);
    perl.args(links(&daemon)?.into_iter().map(|(fd, _)| fd.to_string()));
    run_command(perl)?.expect(0)?;
    let watch = Stopwatch::start();
    degraded(&daemon)?;
    let recovery = watch.elapsed();
    stage.receiver.wait_for("that events were lost", SOON, |body| body["type"] == "events_lost")?;
    let victim = stage.kill_one()?;
    stage.alerted(&victim)?;
    stage.right(&daemon)?;
    stage.end(daemon)?;
    Ok(recovery)
}

/// Waits until the agent says that it has a lesser source, and why.
fn degraded(daemon: &Daemon<'_>) -> Result<()> {
    wait_until("it is degraded", SOON, || {
        let source = daemon.data(&["daemon", "status"])?["source"].clone();
        let why = source["degraded"][0].as_str().unwrap_or_default();
        ensure!(source["name"] != "ebpf" && why.starts_with("ebpf: "), "{source}");
        Ok(true)
    })
}
