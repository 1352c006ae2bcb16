//! The peers: programs of Debian packages, unpacked and never installed, each started as its users start it, and one of
//! the tests' own to measure by.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use integration_tests::binary;
use integration_tests::clock::pause;

use crate::setup;

/// After this long a peer has attached, subscribed or read its configuration.
const SETTLED: Duration = Duration::from_millis(1_200);
/// What the rules of those who limit match.
pub(super) const CLASSIFIED_COMM: &str = "pt-classified";

/// A program that is measured beside the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Peer {
    /// Prints each exec; eBPF with a perf buffer.
    Execsnoop,
    /// Prints each exit; eBPF with a perf buffer.
    Exitsnoop,
    /// Run-queue latency of the machine; eBPF.
    Runqlat,
    /// Prints forks, execs and exits; the kernel's proc connector.
    Forkstat,
    /// Moves processes between cgroups by rules; the kernel's proc connector.
    Cgrulesengd,
    /// Reads all of /proc at each scrape.
    ProcessExporter,
    /// Polls memory.
    Earlyoom,
    /// Polls processes.
    Monit,
    /// Polls all of /proc as often as the agent looks while there is load.
    Poll,
}

impl Peer {
    pub(super) const ALL: [Self; 9] = [
        Self::Execsnoop,
        Self::Exitsnoop,
        Self::Runqlat,
        Self::Forkstat,
        Self::Cgrulesengd,
        Self::ProcessExporter,
        Self::Earlyoom,
        Self::Monit,
        Self::Poll,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Execsnoop => "execsnoop (libbpf-tools)",
            Self::Exitsnoop => "exitsnoop (libbpf-tools)",
            Self::Runqlat => "runqlat (libbpf-tools)",
            Self::Forkstat => "forkstat",
            Self::Cgrulesengd => "cgrulesengd",
            Self::ProcessExporter => "prometheus-process-exporter",
            Self::Earlyoom => "earlyoom",
            Self::Monit => "monit",
            Self::Poll => "a poll of /proc every 20 ms",
        }
    }

    fn program(self) -> Result<PathBuf> {
        let (package, file) = match self {
            Self::Execsnoop => ("libbpf-tools", "usr/sbin/execsnoop"),
            Self::Exitsnoop => ("libbpf-tools", "usr/sbin/exitsnoop"),
            Self::Runqlat => ("libbpf-tools", "usr/sbin/runqlat"),
            Self::Forkstat => ("forkstat", "usr/bin/forkstat"),
            Self::Cgrulesengd => ("cgroup-tools", "usr/sbin/cgrulesengd"),
            Self::ProcessExporter => ("prometheus-process-exporter", "usr/bin/prometheus-process-exporter"),
            Self::Earlyoom => ("earlyoom", "usr/bin/earlyoom"),
            Self::Monit => ("monit", "usr/bin/monit"),
            Self::Poll => return binary::poll(),
        };
        Ok(setup::unpacked(package)?.join(file))
    }

    /// How a line of its output about a life's exec or exit is known, where it prints one for each.
    pub(super) const fn tells(self) -> Option<&'static str> {
        match self {
            Self::Execsnoop | Self::Exitsnoop | Self::Poll => Some("pt-life"),
            Self::Forkstat => Some(" exec "),
            Self::Runqlat | Self::Cgrulesengd | Self::ProcessExporter | Self::Earlyoom | Self::Monit => None,
        }
    }

    /// Starts it, with what it prints in a file of `dir`, and lets it settle. The exporter listens on `port`;
    /// cgrulesengd moves to the cgroup `group`.
    ///
    /// # Errors
    /// When its package cannot be had, or it ends at once.
    pub(super) fn start(self, dir: &Path, port: u16, group: &str) -> Result<Running> {
        let program = self.program()?;
        let mut command = Command::new(&program);
        match self {
            Self::Execsnoop | Self::Exitsnoop => command = with_tracefs(&program),
            Self::Runqlat => {
                command = with_tracefs(&program);
                // Its histogram is printed at its end only.
                command.arg("3600");
            }
            Self::Forkstat => drop(command.args(["-e", "fork,exec,exit", "-l"])),
            Self::Cgrulesengd => command = cgrulesengd(&program, dir, group)?,
            Self::ProcessExporter => {
                command.arg(format!("-web.listen-address=127.0.0.1:{port}"));
                command.arg("-config.path").arg(exporter_file(dir)?);
            }
            Self::Earlyoom => drop(command.args(["--dryrun", "-r", "0"])),
            Self::Monit => drop(command.arg("-I").arg("-c").arg(monit_file(dir)?)),
            Self::Poll => drop(command.arg("20")),
        }
        Running::start(command, dir)
    }
}

/// They look tracepoints up in a file system that is not mounted everywhere: where it is not, they get a mount of their own.
fn with_tracefs(program: &Path) -> Command {
    let mut command = Command::new("unshare");
    let script = "cd /sys/kernel/tracing && { [ -e events ] || mount -t tracefs tracefs .; } && exec \"$@\"";
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(program);
    command
}

/// It reads its rules from below /etc only: it gets an /etc of its own.
fn cgrulesengd(program: &Path, dir: &Path, group: &str) -> Result<Command> {
    let etc = dir.join("etc");
    fs::create_dir_all(etc.join("cgconfig.d")).with_context(|| format!("create {}", etc.display()))?;
    for file in ["passwd", "group", "nsswitch.conf"] {
        fs::copy(Path::new("/etc").join(file), etc.join(file)).with_context(|| format!("copy {file}"))?;
    }
    let rule = format!("*:{CLASSIFIED_COMM} cpu {group}/\n");
    fs::write(etc.join("cgrules.conf"), rule).context("write its rules")?;
    fs::write(etc.join("cgconfig.conf"), "").context("write its configuration")?;
    let libraries = setup::unpacked("libcgroup2")?.join("lib/x86_64-linux-gnu");
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", "mount --bind \"$1\" /etc && shift && exec \"$@\"", "sh"]);
    command.arg(&etc).arg(program).args(["-n", "-f"]).arg(dir.join("cgrulesengd.log"));
    command.env("LD_LIBRARY_PATH", libraries);
    Ok(command)
}

/// Without one it tells of no process at all. This is the one for all of them that its manual begins with.
fn exporter_file(dir: &Path) -> Result<PathBuf> {
    let path = dir.join("exporter.yaml");
    fs::write(&path, "process_names:\n  - name: \"{{.Comm}}\"\n    cmdline: [\".+\"]\n")
        .with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}

/// The pid file of the process that monit looks after.
pub(super) fn monit_pid_file(dir: &Path) -> PathBuf {
    dir.join("monit-victim.pid")
}

/// What monit touches when that process is gone.
pub(super) fn monit_sign(dir: &Path) -> PathBuf {
    dir.join("monit-sign")
}

/// Its shortest cycle is a second.
fn monit_file(dir: &Path) -> Result<PathBuf> {
    let path = dir.join("monitrc");
    let (pid, sign) = (monit_pid_file(dir), monit_sign(dir));
    let dir = dir.display();
    let text = format!(
        "set daemon 1\nset pidfile {dir}/monit.pid\nset statefile {dir}/monit.state\nset idfile {dir}/monit.id\n\
         check process victim with pidfile {}\n  if not exist then exec \"/usr/bin/touch {}\"\n",
        pid.display(),
        sign.display()
    );
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    // Others' it refuses to read.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(&path, mode).with_context(|| format!("set the mode of {}", path.display()))?;
    Ok(path)
}

/// A running peer; ends on drop.
pub(super) struct Running {
    child: Child,
    output: PathBuf,
}

impl Running {
    fn start(mut command: Command, dir: &Path) -> Result<Self> {
        let output = dir.join("output");
        let file = File::create(&output).with_context(|| format!("create {}", output.display()))?;
        command.stdin(Stdio::null()).stderr(file.try_clone().context("share the output")?).stdout(file);
        let child = command.spawn().with_context(|| format!("start {command:?}"))?;
        let mut running = Self { child, output };
        pause(SETTLED);
        let ended = running.child.try_wait().context("look after it")?;
        ensure!(ended.is_none(), "{command:?} ended at once and printed:\n{}", running.printed()?);
        Ok(running)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far, standard error included.
    ///
    /// # Errors
    /// When that cannot be read.
    pub(super) fn printed(&self) -> Result<String> {
        let bytes = fs::read(&self.output).with_context(|| format!("read {}", self.output.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            eprintln!("a peer is left behind: {error}");
        }
    }
}
