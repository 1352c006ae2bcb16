//! nginx, a client that asks it all the time, and the hogs.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use integration_tests::binary::unpacked;
use integration_tests::clock::{SOON, Stopwatch, pause, wait_until};
use integration_tests::kernel;
use integration_tests::places::Places;
use integration_tests::profile::ProfileText;
use integration_tests::tool::{Tool, free_ports};
use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::json;

use crate::bench::prompt::be_prompt;
use crate::neighbour::measure::{Hogs, Request, Run};
use crate::neighbour::{FIRST_HOGS, OBJECTIVE};

/// Between an answer and the next request.
const PACE: Duration = Duration::from_millis(2);
/// Between two looks at the hogs.
const LOOK: Duration = Duration::from_secs(1);
/// After this the server is taken for dead.
const PATIENCE: Duration = Duration::from_secs(30);
/// What every answer ends with: it is compressed, and so comes in chunks.
const END: &[u8] = b"\r\n0\r\n\r\n";
/// Lines of the page that is asked for. To compress it takes nginx about a millisecond.
const LINES: u32 = 1_500;

/// The scene before the hogs come.
pub(super) struct Stage {
    server: Tool,
    port: u16,
    nginx: PathBuf,
    /// What the hogs are, by the names of their rules.
    backup: PathBuf,
    build: PathBuf,
}

impl Stage {
    /// Starts nginx, and copies stress-ng to names of our own, so that no other is taken for it.
    pub(super) fn set(places: &Places) -> Result<Self> {
        let dir = places.root().join("nginx");
        fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        let [port] = free_ports()?;
        let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {name};\n"))
            .concat();
        let config = format!(
            "daemon off;\nmaster_process off;\npid nginx.pid;\nevents {{}}\nhttp {{\naccess_log off;\n{paths}\
             keepalive_requests 1000000;\ngzip on;\ngzip_comp_level 6;\ngzip_types *;\n\
             server {{ listen 127.0.0.1:{port}; root .; }}\n}}\n"
        );
        fs::write(dir.join("nginx.conf"), config).context("write nginx's configuration")?;
        let page: String =
            (0..LINES).map(|line| format!("{line} {:x}\n", line.wrapping_mul(2_654_435_761))).collect();
        fs::write(dir.join("page.txt"), page).context("write a page")?;
        let nginx = copy(&unpacked("nginx", "usr/sbin/nginx")?, places, "pt-nginx")?;
        let mut command = Command::new(&nginx);
        command.args(["-e", "stderr", "-c", "nginx.conf", "-p"]).arg(&dir);
        let stress = Path::new("/usr/bin/stress-ng");
        Ok(Self {
            server: Tool::start(command, port, &dir.join("nginx.log"))?,
            port,
            nginx,
            backup: copy(stress, places, "pt-backup")?,
            build: copy(stress, places, "pt-build")?,
        })
    }

    /// What the guide has the reader write.
    pub(super) fn profile(&self) -> ProfileText {
        let objective = format!("{}ms", OBJECTIVE.as_millis());
        let slo = json!({ "latency_slo": { "run_queue_p99": objective, "for": "300ms" } });
        let rule = |name: &str, exe: &Path| json!({ "name": name, "match": { "exe": exe }, "policy": { "type": "latency", "cooldown": "20s" } });
        ProfileText::new("neighbours")
            .critical_with("nginx", &self.nginx, &slo)
            .rule_value(rule("backup", &self.backup))
            .rule_value(rule("build", &self.build))
    }

    /// Asks for this long; hogs of the second kind come at `second`.
    pub(super) fn play(self, length: Duration, second: Duration) -> Result<Run> {
        let cpus = std::thread::available_parallelism().context("count the CPUs")?.get();
        let server = self.server.pid();
        // The client's own waits are not the server's.
        be_prompt()?;
        let mut connection =
            TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).context("connect to nginx")?;
        connection.set_nodelay(true).context("send at once")?;
        connection.set_read_timeout(Some(PATIENCE)).context("wait for a bounded time")?;
        let mut hogs: Vec<Hog> = Vec::new();
        let (mut run, watch) = (Run::default(), Stopwatch::start());
        let (mut looked, mut used) = (Duration::ZERO, 0);
        loop {
            let at = watch.elapsed();
            if at >= length {
                return Ok(run);
            }
            if hogs.is_empty() && at >= FIRST_HOGS {
                hogs.push(Hog::start(
                    &self.backup,
                    &["--cpu", &(2 * cpus).to_string(), "--vm", "1", "--vm-bytes", "64M"],
                )?);
            }
            if hogs.len() == 1 && at >= second {
                hogs.push(Hog::start(&self.build, &["--cpu", &cpus.to_string(), "--switch", "1"])?);
            }
            if at.saturating_sub(looked) >= LOOK {
                let now = cpu_time(&[&self.backup, &self.build])?;
                let percent = now.saturating_sub(used) as f64 / (at - looked).as_nanos() as f64 * 100.0;
                run.hogs.push(Hogs { at, percent });
                (looked, used) = (at, now);
            }
            let before = kernel::waited_nanos(server)?;
            let began = watch.elapsed();
            ask(&mut connection)?;
            let took = watch.elapsed() - began;
            let waited = kernel::waited_nanos(server)?.saturating_sub(before);
            let millis = |nanos: f64| nanos / 1e6;
            run.requests.push(Request {
                at,
                took_ms: millis(took.as_nanos() as f64),
                waited_ms: millis(waited as f64),
            });
            pause(PACE);
        }
    }
}

fn copy(from: &Path, places: &Places, name: &str) -> Result<PathBuf> {
    let to = places.bin().join(name);
    // The run before had it, too.
    if to.exists() {
        return Ok(to);
    }
    fs::copy(from, &to).with_context(|| format!("copy {} to {}", from.display(), to.display()))?;
    Ok(to)
}

/// One request and its answer.
fn ask(connection: &mut TcpStream) -> Result<()> {
    connection
        .write_all(b"GET /page.txt HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: gzip\r\n\r\n")
        .context("send a request")?;
    let (mut answer, mut part) = (Vec::new(), [0; 16_384]);
    while !answer.ends_with(END) {
        let length = connection.read(&mut part).context("read the answer")?;
        ensure!(length > 0, "nginx closed the connection");
        answer.extend_from_slice(&part[..length]);
    }
    ensure!(answer.starts_with(b"HTTP/1.1 200"), "nginx answered {:?}", String::from_utf8_lossy(&answer));
    Ok(())
}

/// CPU time in ns of all live processes that run one of these programs.
fn cpu_time(programs: &[&Path]) -> Result<u64> {
    let runs = |pid: &u32| {
        fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| programs.contains(&exe.as_path()))
    };
    let pids: Vec<u32> = kernel::processes()?.into_keys().filter(runs).collect();
    // One that has ended since is not counted.
    Ok(pids.into_iter().filter_map(|pid| kernel::cpu_nanos(pid).ok()).sum())
}

/// A stress-ng with its workers, in a process group of its own; killed as a whole on drop.
struct Hog(Child);

impl Hog {
    fn start(program: &Path, arguments: &[&str]) -> Result<Self> {
        let mut command = Command::new(program);
        command.args(["--quiet", "--timeout", "700"]).args(arguments);
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null());
        let mut hog = Self(command.spawn().with_context(|| format!("start {command:?}"))?);
        if let Some(status) = hog.0.try_wait().context("look after stress-ng")? {
            bail!("stress-ng ended at once with {status}");
        }
        Ok(hog)
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        let group = Pid::from_raw(i32::try_from(self.0.id()).unwrap_or(i32::MAX));
        let killed = killpg(group, Signal::SIGKILL).map_err(anyhow::Error::from);
        let ended = killed.and_then(|()| self.0.wait().context("wait for stress-ng"));
        let gone = || Ok(killpg(group, None) == Err(Errno::ESRCH));
        if let Err(error) = ended.and_then(|_status| wait_until("its workers are gone", SOON, gone)) {
            eprintln!("hogs are left behind: {error:#}");
        }
    }
}
