//! The root file system and the kernels, made from Debian packages once and kept under `target/vm`.
//!
//! Everything is packed into initramfs archives: the machine has no disk and needs no driver for one.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use super::archive;
use super::recipe::{self, Kernel};
use crate::cargo::run;

/// The files of an image.
pub(super) struct Image {
    dir: PathBuf,
}

impl Image {
    /// The image of the recipe as it is; made when it is not there yet.
    ///
    /// # Errors
    /// When a package cannot be had, or a tool fails.
    pub(super) fn ensure(vm: &Path) -> Result<Self> {
        let dir = vm.join(format!("image-{}", recipe::key()));
        if !dir.is_dir() {
            println!("making the image of the virtual machine");
            remove_others(vm)?;
            let new = vm.join("image-new");
            fs::create_dir_all(&new).with_context(|| format!("create {}", new.display()))?;
            make_root(&new)?;
            make_kernels(&new)?;
            fs::rename(&new, &dir).with_context(|| format!("rename {}", new.display()))?;
        }
        Ok(Self { dir })
    }

    pub(super) fn kernel(&self, kernel: Kernel) -> PathBuf {
        self.dir.join(format!("kernel-{}", kernel.version()))
    }

    /// The archives of the root file system, in the order in which they are unpacked.
    pub(super) fn archives(&self, kernel: Kernel) -> [PathBuf; 2] {
        [self.dir.join("root.cpio"), self.dir.join(format!("modules-{}.cpio", kernel.version()))]
    }
}

/// Images of other recipes, and one that was never finished.
fn remove_others(vm: &Path) -> Result<()> {
    for entry in fs::read_dir(vm).with_context(|| format!("list {}", vm.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("image-") {
            fs::remove_dir_all(&path).with_context(|| format!("remove {}", path.display()))?;
        }
    }
    Ok(())
}

fn mmdebstrap(variant: &str, packages: &[&str], target: &Path) -> Command {
    let mut command = Command::new("mmdebstrap");
    command.args(["--quiet", "--mode=root"]).arg(format!("--variant={variant}"));
    command.arg(format!("--include={}", packages.join(",")));
    command.arg(r#"--aptopt=Acquire::Languages "none""#);
    command.arg(r#"--aptopt=APT::Install-Recommends "false""#);
    command.args(recipe::EXCLUDED.map(|pattern| format!("--dpkgopt=path-exclude={pattern}")));
    command.arg(recipe::RELEASE).arg(target);
    command
}

fn make_root(image: &Path) -> Result<()> {
    let root = image.join("root");
    run(&mut mmdebstrap("minbase", &recipe::PACKAGES, &root))?;
    for emptied in ["var/lib/apt/lists", "var/cache/apt", "dev"] {
        let dir = root.join(emptied);
        fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))?;
        fs::create_dir(&dir).with_context(|| format!("create {}", dir.display()))?;
    }
    let write =
        |path: &str, text: &str| fs::write(root.join(path), text).with_context(|| format!("write {path}"));
    write("etc/hostname", "vm\n")?;
    write("etc/fstab", "")?;
    // Present and empty: systemd makes one up at every boot.
    write("etc/machine-id", "")?;
    let units = root.join("etc/systemd/system");
    for unit in recipe::MASKED {
        let path = units.join(unit);
        if path.is_symlink() {
            fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
        }
        symlink("/dev/null", &path).with_context(|| format!("mask {unit}"))?;
    }
    let target = units.join("default.target");
    symlink("/lib/systemd/system/multi-user.target", &target).context("choose the default target")?;
    archive::pack(&root, &image.join("root.cpio"))?;
    fs::remove_dir_all(&root).context("remove the unpacked root file system")
}

fn make_kernels(image: &Path) -> Result<()> {
    let unpacked = image.join("kernels");
    let packages = Kernel::ALL.map(Kernel::package);
    // Unpacked only: nothing of the packages runs.
    run(&mut mmdebstrap("extract", &packages, &unpacked))?;
    for kernel in Kernel::ALL {
        let release = release_of(&unpacked, kernel)?;
        let version = kernel.version();
        fs::copy(
            unpacked.join("boot").join(format!("vmlinuz-{release}")),
            image.join(format!("kernel-{version}")),
        )
        .with_context(|| format!("copy kernel {release}"))?;
        let modules = image.join("modules");
        copy_modules(&unpacked, &release, &modules)?;
        archive::pack(&modules, &image.join(format!("modules-{version}.cpio")))?;
        fs::remove_dir_all(&modules).context("remove the unpacked modules")?;
    }
    fs::remove_dir_all(&unpacked).context("remove the unpacked kernels")
}

/// The full release of a kernel, such as `6.1.0-56-cloud-amd64`.
fn release_of(unpacked: &Path, kernel: Kernel) -> Result<String> {
    let prefix = format!("vmlinuz-{}.", kernel.version());
    for entry in fs::read_dir(unpacked.join("boot")).context("list the kernels")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with(&prefix) {
            return name.strip_prefix("vmlinuz-").map(str::to_owned).context("a kernel has a release");
        }
    }
    bail!("package {} has no kernel {}", kernel.package(), kernel.version())
}

/// The modules of the recipe with those that they need, and an index of them.
fn copy_modules(unpacked: &Path, release: &str, target: &Path) -> Result<()> {
    let merged = Path::new("usr/lib/modules").join(release);
    let (from, to) = (unpacked.join("lib/modules").join(release), target.join(&merged));
    run(Command::new("depmod").arg("-b").arg(unpacked).arg(release))?;
    fs::create_dir_all(&to).with_context(|| format!("create {}", to.display()))?;
    for index in ["modules.order", "modules.builtin", "modules.builtin.modinfo"] {
        fs::copy(from.join(index), to.join(index)).with_context(|| format!("copy {index}"))?;
    }
    for module in recipe::MODULES {
        let mut command = Command::new("modprobe");
        command.arg("-d").arg(unpacked).args(["-S", release, "--show-depends", module]);
        let output = command.output().with_context(|| format!("start {command:?}"))?;
        ensure!(output.status.success(), "{command:?} ended with {}", output.status);
        let text = String::from_utf8(output.stdout).context("paths of modules")?;
        for path in text.lines().filter_map(|line| line.strip_prefix("insmod ")) {
            let path = Path::new(path.split(' ').next().unwrap_or(path));
            // modprobe names them below its own idea of the root.
            let mut parts = path.iter().skip_while(|part| *part != release);
            parts.next();
            let inside: PathBuf = parts.collect();
            let copy = to.join(&inside);
            fs::create_dir_all(copy.parent().unwrap_or(&to))
                .with_context(|| format!("create {}", to.display()))?;
            fs::copy(from.join(&inside), &copy)
                .with_context(|| format!("copy module {}", inside.display()))?;
        }
    }
    // Only while it is indexed: the root file system has the link itself.
    let link = target.join("lib");
    symlink("usr/lib", &link).context("link /lib")?;
    run(Command::new("depmod").arg("-b").arg(target).arg(release))?;
    fs::remove_file(&link).context("unlink /lib")
}
