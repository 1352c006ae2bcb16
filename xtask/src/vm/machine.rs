//! One run of one kernel under QEMU. Emulated, because a virtual machine cannot rely on being given another
//! one; slow, but the same everywhere.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use integration_tests::clock::wait_until;

use super::archive;
use super::image::Image;
use super::recipe::Kernel;

/// The whole run of a kernel; the suites have limits of their own.
const LONGEST: Duration = Duration::from_secs(4_600);
/// Mebibytes: the root file system and the programs are in memory, and the archives while they are unpacked.
const MEMORY: &str = "2048";

const CONSOLE: &str = "console=ttyS0 panic=-1 quiet";
/// Nobody attacks this kernel, and emulation pays dearly for every page that is cleared twice. Its clock is the host's,
/// so it need not be checked against a timer that is emulated, too.
const CHEAP: &str = "mitigations=off init_on_alloc=0 randomize_kstack_offset=off hardened_usercopy=off \
                     tsc=reliable clocksource=tsc";
const INIT: &str = "rdinit=/payload/init.sh systemd.unified_cgroup_hierarchy=1";

/// A machine at work; ended on drop.
pub(super) struct Machine {
    child: Child,
    dir: PathBuf,
}

impl Machine {
    /// Starts it.
    ///
    /// # Errors
    /// When QEMU cannot be started.
    pub(super) fn start(vm: &Path, image: &Image, kernel: Kernel, payload: &Path) -> Result<Self> {
        let dir = vm.join(format!("run-{}", kernel.version()));
        if dir.exists() {
            fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))?;
        }
        fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        let initrd = dir.join("initrd");
        let [root, modules] = image.archives(kernel);
        archive::join(&[&root, &modules, payload], &initrd)?;
        let errors = File::create(dir.join("qemu.log")).context("create qemu.log")?;
        let serial = |name: &str| format!("file:{}", dir.join(name).display());
        // It ends with us, however we end: a machine that nobody waits for keeps both CPUs busy.
        let mut qemu = Command::new("setpriv");
        qemu.args(["--pdeathsig", "KILL", "--", "qemu-system-x86_64"]);
        qemu.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", MEMORY]);
        qemu.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
        qemu.arg("-kernel").arg(image.kernel(kernel)).arg("-initrd").arg(&initrd);
        qemu.args(["-append", &format!("{CONSOLE} {CHEAP} {INIT}")]);
        qemu.arg("-serial").arg(serial("console.log")).arg("-serial").arg(serial("suites.log"));
        let child = qemu
            .stdin(Stdio::null())
            .stdout(errors.try_clone().context("share qemu.log")?)
            .stderr(errors)
            .spawn()
            .context("start qemu-system-x86_64")?;
        Ok(Self { child, dir })
    }

    /// Waits until it has powered itself off, and returns what the suites told.
    ///
    /// # Errors
    /// When it takes too long.
    pub(super) fn wait(mut self) -> Result<String> {
        wait_until("the virtual machine powers off", LONGEST, || Ok(self.child.try_wait()?.is_some()))?;
        let path = self.dir.join("suites.log");
        let told = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        Ok(String::from_utf8_lossy(&told).replace('\r', ""))
    }

    /// Where its logs are.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // One that has powered itself off is reaped already.
        if matches!(self.child.try_wait(), Ok(None))
            && let Err(error) = self.child.kill().and_then(|()| self.child.wait())
        {
            eprintln!("a virtual machine is left behind: {error}");
        }
        // A quarter of a gigabyte, and made anew at every start.
        if let Err(error) = fs::remove_file(self.dir.join("initrd")) {
            eprintln!("remove the initrd of a virtual machine: {error}");
        }
    }
}
