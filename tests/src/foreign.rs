//! Somebody else's cgroups: with a limit and a process that the agent has no business with.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::cgroup::{complain, cpu_hierarchy};
use crate::clock::{SOON, wait_until};
use crate::workload::Workload;

/// A cgroup in one hierarchy with a process in it; both are gone after drop.
#[derive(Debug)]
pub struct Foreign {
    dir: PathBuf,
    /// The directories that were made, deepest last.
    made: Vec<PathBuf>,
    process: Option<Workload>,
}

impl Foreign {
    /// Makes the cgroup of this path in the hierarchy that limits CPU time, and in it a process of this
    /// program. `None` where somebody has such a cgroup already: it is left alone.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(path: &str, program: &Path) -> Result<Option<Self>> {
        let dir = cpu_hierarchy()?.join(path);
        if dir.exists() {
            return Ok(None);
        }
        let mut missing: Vec<PathBuf> =
            dir.ancestors().take_while(|path| !path.exists()).map(Path::to_owned).collect();
        missing.reverse();
        let mut foreign = Self { dir: dir.clone(), made: Vec::new(), process: None };
        for dir in missing {
            fs::create_dir(&dir).with_context(|| format!("create cgroup {}", dir.display()))?;
            foreign.made.push(dir);
        }
        let process = Workload::spawn(program)?;
        let join = dir.join("cgroup.procs");
        fs::write(&join, process.pid_text()).with_context(|| format!("write {}", join.display()))?;
        foreign.process = Some(process);
        // Small enough to fit under a limit of the agent's above it.
        for (file, value) in
            [("cpu.cfs_quota_us", "11000"), ("cpu.max", "11000 100000"), ("cpu.shares", "77")]
        {
            let file = dir.join(file);
            if file.exists() {
                fs::write(&file, value).with_context(|| format!("write {}", file.display()))?;
            }
        }
        Ok(Some(foreign))
    }

    /// Its limits and members, and the cgroups of its process in all hierarchies.
    ///
    /// # Errors
    /// When it is gone.
    pub fn capture(&self) -> Result<String> {
        let mut text = format!("{}\n", self.dir.display());
        for file in ["cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.shares", "cpu.max", "cgroup.procs"] {
            let path = self.dir.join(file);
            if path.exists() {
                let value = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
                text += &format!("{file}: {value}");
            }
        }
        let pid = self.process.as_ref().context("a process")?.pid();
        let path = format!("/proc/{pid}/cgroup");
        text += &fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        Ok(text)
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        self.process = None;
        for dir in self.made.iter().rev() {
            let removed = wait_until("remove cgroup", SOON, || match fs::remove_dir(dir) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
                Ok(()) | Err(_) => Ok(true),
            });
            if let Err(error) = removed {
                complain(&format!("cgroup {} is left behind: {error:#}", dir.display()));
            }
        }
    }
}
