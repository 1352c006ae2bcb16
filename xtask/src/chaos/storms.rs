//! More processes than the agent can follow one by one, and processes that are not what they seem.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use integration_tests::cgroup::TestCgroup;
use integration_tests::clock::{SOON, Stopwatch, pause, wait_until};
use integration_tests::daemon::Daemon;
use integration_tests::kernel;
use integration_tests::places::Places;
use integration_tests::program::{Program, write_executable};
use integration_tests::storm::Storm;
use integration_tests::workload::Workload;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::chaos::dice::Dice;
use crate::chaos::stage::{Setting, Stage};

const STORM: Duration = Duration::from_secs(1);
/// The name of processes that a rule makes nicer, and how nice.
const MANY: &str = "pt-many";
const NICER: i32 = 7;

/// Stopped while more happens than its rings can hold.
pub(crate) fn stopped(setting: &Setting, dice: &mut Dice) -> Result<Duration> {
    let places = Places::for_agent(setting.agent.clone())?;
    let mut stage = Stage::set(&places, "sigstop", "")?;
    let daemon = stage.start()?;
    daemon.signal(Signal::SIGSTOP)?;
    let storm = Storm::for_time(&stage.life, dice.time(STORM))?;
    let victim = stage.kill_one()?;
    let account = storm.finish()?;
    daemon.signal(Signal::SIGCONT)?;
    let watch = Stopwatch::start();
    let (recovery, _) = stage.recovered(&daemon, &watch, &victim, account.lives)?;
    stage.end(daemon)?;
    Ok(recovery)
}

/// With rings of one page, the least that the kernel allows.
pub(crate) fn tiny_rings(setting: &Setting, dice: &mut Dice) -> Result<Duration> {
    let places = Places::for_agent(setting.agent.clone())?;
    let mut stage = Stage::set(&places, "rings", "rings: { priority_bytes: 4K, bulk_bytes: 4K }\n")?;
    let daemon = stage.start()?;
    let storm = Storm::for_time(&stage.life, dice.time(STORM))?;
    let victim = stage.kill_one()?;
    let account = storm.finish()?;
    let watch = Stopwatch::start();
    let (recovery, dropped) = stage.recovered(&daemon, &watch, &victim, account.lives)?;
    ensure!(dropped > 0, "nothing was dropped in {} lives: that was no storm", account.lives);
    stage.end(daemon)?;
    Ok(recovery)
}

/// Every exec matches a rule: all of them come on the priority ring.
pub(crate) fn of_execs(setting: &Setting, dice: &mut Dice) -> Result<Duration> {
    const LIVING: usize = 30;
    let places = Places::for_agent(setting.agent.clone())?;
    let rule = json!({ "nice": NICER });
    let mut stage = Stage::set(&places, "execs", "")?.with(|profile| profile.rule(MANY, MANY, &rule));
    // The same name in another directory: one ends, the other lives.
    let ending = places.bin().join("ending");
    fs::create_dir(&ending).with_context(|| format!("create {}", ending.display()))?;
    let (ends, lives) = (Program::Exit(0).write(&ending, MANY)?, Program::Wait.write(&places.bin(), MANY)?);
    let daemon = stage.start()?;
    let storm = Storm::for_time(&ends, dice.time(STORM))?;
    let mut living = Vec::new();
    for _ in 0..LIVING {
        living.push(Workload::spawn(&lives)?);
        pause(Duration::from_millis(5));
    }
    let victim = stage.kill_one()?;
    let account = storm.finish()?;
    let watch = Stopwatch::start();
    wait_until("all that live are limited", SOON, || {
        let nice: Result<Vec<i32>> = living.iter().map(|one| Ok(kernel::stat(one.pid())?.nice)).collect();
        Ok(nice?.into_iter().all(|nice| nice == NICER))
    })?;
    let (recovery, _) = stage.recovered(&daemon, &watch, &victim, account.lives)?;
    stage.end(daemon)?;
    Ok(recovery)
}

/// Forks as fast as it can until its time is over, everyone of its descendants likewise.
const BOMB: &str = "#!/usr/bin/perl
$SIG{CHLD} = 'IGNORE';
my $end = time + 3;
while (time < $end) { select(undef, undef, undef, 0.02) unless defined fork; }
";

/// Bounded twice besides by the agent's limit: by its own time, and by the `pids.max` of the cgroup that the bomb is in.
pub(crate) fn bomb(setting: &Setting, _: &mut Dice) -> Result<Duration> {
    const NAME: &str = "pt-bomb";
    const LIMIT: usize = 40;
    let places = Places::for_agent(setting.agent.clone())?;
    let limits = json!({ "cpu": "50%", "pids": LIMIT });
    let mut stage = Stage::set(&places, "bombed", "")?.with(|profile| profile.rule(NAME, NAME, &limits));
    let cgroup = TestCgroup::new("chaos-bomb")?;
    let bound = cgroup.procs_files().map(|procs| procs.with_file_name("pids.max")).find(|path| path.exists());
    fs::write(bound.context("a pids controller")?, "100").context("bound the bomb")?;
    let procs = cgroup.procs_files().next().context("a cgroup")?;
    let before = cgroup.limits()?;
    let script = write_executable(&places.bin(), NAME, BOMB.as_bytes())?;
    let daemon = stage.start()?;
    let fuse = Workload::spawn_in(&script, &cgroup)?;
    let watch = Stopwatch::start();
    wait_until("the members are those of the cgroup, and not too many", SOON, || {
        let there = fs::read_to_string(&procs).context("read the cgroup's processes")?.lines().count();
        let group = daemon.group(NAME)?.context("the bomb's group")?;
        let known = group["members"].as_array().context("its members")?.len();
        ensure!(there == known && (2..=LIMIT).contains(&there), "{there} there, {known} known");
        Ok(true)
    })?;
    stage.right(&daemon)?;
    let recovery = watch.elapsed();
    let victim = stage.kill_one()?;
    stage.alerted(&victim)?;
    wait_until("the bomb is over", SOON, || Ok(fs::read_to_string(&procs)?.is_empty()))?;
    drop(fuse);
    stage.exact(&daemon, 1)?;
    stage.end(daemon)?;
    ensure!(cgroup.limits()? == before, "{:?} after, {before:?} before", cgroup.limits()?);
    Ok(recovery)
}

/// More lives than pids: in a pid namespace with hardly any, and outside of it where there are not too many.
pub(crate) fn wrap(setting: &Setting, _: &mut Dice) -> Result<Duration> {
    const FEW: &str = r#"echo 400 >/proc/sys/kernel/pid_max; exec "$@""#;
    const IN_NAMESPACE: [&str; 8] = ["unshare", "--pid", "--fork", "--kill-child", "sh", "-euc", FEW, "sh"];
    const BOUND: u64 = 40_000;
    let places = Places::for_agent(setting.agent.clone())?;
    let rule = json!({ "nice": NICER });
    let mut stage = Stage::set(&places, "wrap", "")?.with(|profile| profile.rule(MANY, MANY, &rule));
    let (many, other) =
        (Program::Wait.write(&places.bin(), MANY)?, Program::Wait.write(&places.bin(), "pt-other")?);
    let daemon = stage.start()?;
    let mut first = Workload::spawn(&many)?;
    wait_until("it is limited", SOON, || Ok(kernel::stat(first.pid())?.nice == NICER))?;
    let pids = pid_max()?;
    let lives = (pids + pids / 10).min(BOUND);
    let prefix = if pid_max_is_of_a_namespace()? { &IN_NAMESPACE[..] } else { &[] };
    let account = Storm::of_lives_under(prefix, &stage.life, lives)?.finish()?;
    ensure!(pid_max()? == pids, "the machine's kernel.pid_max was changed");
    first.kill()?;
    let again = reborn(first.pid(), &other)?;
    let watch = Stopwatch::start();
    wait_until("it is known as another process", SOON, || {
        let known = daemon.data(&["explain", &again.pid_text()])?;
        ensure!(known["comm"] == "pt-other" && known["group"].is_null(), "{known}");
        Ok(true)
    })?;
    stage.right(&daemon)?;
    let recovery = watch.elapsed();
    ensure!(kernel::stat(again.pid())?.nice == 0, "it got the limits of the one before");
    let victim = stage.kill_one()?;
    stage.alerted(&victim)?;
    stage.exact(&daemon, account.lives)?;
    stage.end(daemon)?;
    Ok(recovery)
}

fn pid_max() -> Result<u64> {
    let text = fs::read_to_string("/proc/sys/kernel/pid_max").context("read kernel.pid_max")?;
    text.trim().parse().context("kernel.pid_max")
}

/// Since Linux 6.14; before, it is the machine's and must stay as it is.
fn pid_max_is_of_a_namespace() -> Result<bool> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").context("read the kernel's version")?;
    let mut numbers =
        release.split(|c: char| !c.is_ascii_digit()).filter_map(|text| text.parse::<u32>().ok());
    Ok((numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (6, 14))
}

/// A process with this pid, which is free.
fn reborn(pid: u32, program: &Path) -> Result<Workload> {
    const TRIES: u32 = 200;
    for _ in 0..TRIES {
        // The next pid is the one after it (proc_sys_kernel(5)), unless somebody else is faster.
        fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).context("choose the next pid")?;
        let born = Workload::spawn(program)?;
        if born.pid() == pid {
            return Ok(born);
        }
    }
    anyhow::bail!("pid {pid} was not to be had {TRIES} times")
}

/// A process outlives its first thread, which is a zombie then.
pub(crate) fn leader_exit(setting: &Setting, _: &mut Dice) -> Result<Duration> {
    const NAME: &str = "pt-leader";
    let places = Places::for_agent(setting.agent.clone())?;
    let program = Program::LeaderEnds.write(&places.bin(), NAME)?;
    let stage = Stage::set(&places, "leader", "")?.with(|profile| profile.critical(NAME, &program));
    let daemon = stage.start()?;
    let mut process = Workload::spawn(&program)?;
    let watch = Stopwatch::start();
    let known = |daemon: &Daemon<'_>| -> Result<bool> {
        let known = daemon.data(&["explain", &process.pid_text()])?;
        Ok(known["ended"].is_null()
            && known["protected"].as_str().is_some_and(|why| why.contains("critical")))
    };
    wait_until("its leader has ended and it is known", SOON, || {
        Ok(kernel::stat(process.pid())?.state == 'Z' && known(&daemon)?)
    })?;
    let recovery = watch.elapsed();
    // Whatever the end of the thread made is told by then.
    pause(Duration::from_millis(500));
    ensure!(known(&daemon)?, "it does not count as alive any more");
    let told = daemon.events("critical_process_down")?;
    ensure!(told.is_empty(), "the end of a thread was told: {told:?}");
    let pid = process.pid();
    process.kill()?;
    let arrived = stage.receiver.wait_for("its death", SOON, |body| {
        let details = &body["data"]["details"];
        details["name"] == NAME && details["exit"]["process"]["key"]["pid"] == pid
    });
    if let Err(error) = arrived {
        let (told, owed) =
            (daemon.events("critical_process_down")?, daemon.data(&["webhook", "deliveries"])?);
        anyhow::bail!("pid {pid}: {error:#}; told: {told:?}; owed: {owed}");
    }
    stage.each_once(&daemon, [NAME])?;
    stage.exact(&daemon, 1)?;
    stage.end(daemon)?;
    Ok(recovery)
}

#[cfg(target_arch = "x86_64")]
const EXECVEAT_AND_MEMFD_CREATE: (u32, u32) = (322, 319);
#[cfg(target_arch = "aarch64")]
const EXECVEAT_AND_MEMFD_CREATE: (u32, u32) = (281, 279);

/// Executed by a descriptor, without a path: of a file that a rule names, and of memory.
pub(crate) fn by_descriptor(setting: &Setting, _: &mut Dice) -> Result<Duration> {
    let places = Places::for_agent(setting.agent.clone())?;
    let program = Program::Wait.write(&places.bin(), "pt-by-fd")?;
    let rule = json!({ "nice": NICER });
    let stage = Stage::set(&places, "execveat", "")?
        .with(|profile| profile.rule_matching("by-file", &json!({ "exe": program }), &rule, "group"));
    let (execveat, memfd_create) = EXECVEAT_AND_MEMFD_CREATE;
    // AT_EMPTY_PATH; no arguments and no environment. What syscall() gets as a text has to be a variable.
    let path = program.display();
    let head = "#!/usr/bin/perl\nmy $none = '';\n";
    let of_file = format!(
        "{head}open(my $file, '<', '{path}') or die;\n\
         syscall({execveat}, fileno($file), $none, 0, 0, 0x1000); die $!;\n"
    );
    let of_memory = format!(
        "{head}my $name = 'pt-memory';\nopen(my $file, '<', '{path}') or die; binmode $file; local $/;\n\
         my $code = <$file>; my $fd = syscall({memfd_create}, $name, 1);\n\
         open(my $memory, '>&=', $fd) or die; binmode $memory; syswrite($memory, $code) or die;\n\
         syscall({execveat}, $fd, $none, 0, 0, 0x1000); die $!;\n"
    );
    let script = |name: &str, text: &str| write_executable(&places.bin(), name, text.as_bytes());
    let scripts = [script("pt-exec-file", &of_file)?, script("pt-exec-mem", &of_memory)?];
    let daemon = stage.start()?;
    let watch = Stopwatch::start();
    let [file, memory] = scripts.map(|script| Workload::spawn(&script));
    let (file, memory) = (file?, memory?);
    wait_until("the rule for the file matches", SOON, || Ok(kernel::stat(file.pid())?.nice == NICER))?;
    for process in [&file, &memory] {
        wait_until("it has the name that the kernel gives it", SOON, || {
            let (name, known) =
                (kernel::comm(process.pid())?, daemon.data(&["explain", &process.pid_text()])?);
            // Still the script, or its interpreter.
            ensure!(!name.starts_with("pt-exec") && known["comm"] == name, "{name}: {known}");
            Ok(true)
        })?;
    }
    let recovery = watch.elapsed();
    ensure!(kernel::stat(memory.pid())?.nice == 0, "the rule for the file matches what is in memory");
    drop((file, memory));
    stage.exact(&daemon, 2)?;
    stage.end(daemon)?;
    Ok(recovery)
}
