//! cgroup v2: one hierarchy (Documentation/admin-guide/cgroup-v2.rst).

use std::path::{Path, PathBuf};

use crate::cgroup::error::{CgroupError, shown};
use crate::cgroup::knob::Part;
use crate::cgroup::membership::{self, Memberships};
use crate::cgroup::stat::{Usage, number, read};
use crate::cgroup::{Cgroup, Choice, Controller, Setting, block, convert};
use crate::model::limits::Limits;
use crate::model::unit::CpuPercent;

/// The v2 hierarchy.
#[derive(Clone, Debug)]
pub struct V2 {
    mount: PathBuf,
    block: PathBuf,
    page: u64,
}

impl V2 {
    /// A driver over the hierarchy mounted here.
    #[must_use]
    pub fn new(mount: PathBuf, block: PathBuf) -> Self {
        Self { mount, block, page: u64::try_from(rustix::param::page_size()).unwrap_or(4_096) }
    }

    fn memory(&self, limit: &'static str, bytes: crate::model::unit::Bytes) -> Result<String, CgroupError> {
        let value = convert::whole_pages(limit, bytes, self.page)?;
        Ok(if value >= convert::memory_unlimited(self.page) { "max".to_owned() } else { value.to_string() })
    }
}

impl Cgroup for V2 {
    fn version(&self) -> &'static str {
        "v2"
    }

    fn mount(&self, _: Controller) -> Option<&Path> {
        Some(&self.mount)
    }

    fn settings(&self, limits: &Limits) -> Result<Vec<Setting>, CgroupError> {
        let mut settings = Vec::new();
        if let Some(quota) = convert::quota(limits) {
            let value = format!("{quota} {}", CpuPercent::PERIOD_US);
            settings.push(Setting::whole("cpu", Controller::Cpu, "cpu.max", value));
        }
        if let Some(weight) = limits.cpu_weight {
            let value = weight.to_string();
            settings.push(Setting::whole("cpu_weight", Controller::Cpu, "cpu.weight", value));
        }
        for (limit, bytes, file) in [
            ("memory_low", limits.memory_low, "memory.low"),
            ("memory_high", limits.memory_high, "memory.high"),
            ("memory_max", limits.memory_max, "memory.max"),
        ] {
            if let Some(bytes) = bytes {
                let value = self.memory(limit, bytes)?;
                settings.push(Setting::whole(limit, Controller::Memory, file, value));
            }
        }
        if let Some(pids) = limits.pids {
            let value = convert::pids(pids)?.to_string();
            settings.push(Setting::whole("pids", Controller::Pids, "pids.max", value));
        }
        if let Some(weight) = limits.io_weight {
            let choice = |file, value: u64| Choice { file, part: Part::Default, value: value.to_string() };
            settings.push(Setting {
                limit: "io_weight",
                controller: Controller::Io,
                choices: vec![
                    choice("io.weight", u64::from(weight.get())),
                    choice("io.bfq.weight", convert::bfq_weight(weight)),
                ],
            });
        }
        for (limit, bytes, key) in
            [("io_read", limits.io_read, "rbps"), ("io_write", limits.io_write, "wbps")]
        {
            let Some(bytes) = bytes else { continue };
            settings.extend(block::devices(&self.block)?.into_iter().map(|device| Setting {
                limit,
                controller: Controller::Io,
                choices: vec![Choice {
                    file: "io.max",
                    part: Part::DeviceKey(device, key.to_owned()),
                    value: bytes.get().to_string(),
                }],
            }));
        }
        if !settings.is_empty() {
            let path = self.mount.join("cgroup.controllers");
            let available = read(&path)?;
            for setting in &settings {
                let name = setting.controller.v2_name();
                if !available.split_ascii_whitespace().any(|one| one == name) {
                    let missing = format!("controller {name} is not in {}", shown(&path));
                    return Err(CgroupError::Unsupported { limit: setting.limit, missing });
                }
            }
        }
        Ok(settings)
    }

    fn directory(&self, memberships: &Memberships, controller: Controller) -> Result<PathBuf, CgroupError> {
        membership::directory(memberships, true, &self.mount, controller)
    }

    fn to_enable(
        &self,
        dir: &Path,
        controllers: &[Controller],
    ) -> Result<Vec<(PathBuf, Controller)>, CgroupError> {
        let mut parents: Vec<&Path> =
            dir.ancestors().skip(1).take_while(|parent| parent.starts_with(&self.mount)).collect();
        parents.reverse();
        let mut wanted = Vec::new();
        for parent in parents {
            let enabled = match read(&parent.join("cgroup.subtree_control")) {
                Ok(text) => text,
                Err(error) if error.is_gone() && parent != self.mount => String::new(),
                Err(error) => return Err(error),
            };
            for controller in controllers {
                let name = controller.v2_name();
                if !enabled.split_ascii_whitespace().any(|one| one == name) {
                    wanted.push((parent.to_owned(), *controller));
                }
            }
        }
        Ok(wanted)
    }

    fn lacks(&self, dir: &Path, controllers: &[Controller]) -> Result<Option<Controller>, CgroupError> {
        let has = match read(&dir.join("cgroup.controllers")) {
            Ok(text) => text,
            // It is gone, which whoever reads its members will be told.
            Err(error) if error.is_gone() => return Ok(None),
            Err(error) => return Err(error),
        };
        let lacking = |one: &&Controller| !has.split_ascii_whitespace().any(|name| name == one.v2_name());
        Ok(controllers.iter().find(lacking).copied())
    }

    fn usage(&self, dir: &Path) -> Result<Usage, CgroupError> {
        Ok(Usage { memory: number(&dir.join("memory.current"))?, pids: number(&dir.join("pids.current"))? })
    }
}

/// Enables or disables a controller for the children of a cgroup and checks that it came into force.
///
/// # Errors
/// EBUSY when the cgroup has processes of its own ("no internal processes") or, on disabling, when a child
/// still uses the controller; ENOENT when the cgroup does not have it.
pub fn set_controller(dir: &Path, controller: Controller, on: bool) -> Result<(), CgroupError> {
    let path = dir.join("cgroup.subtree_control");
    let name = controller.v2_name();
    let word = format!("{}{name}", if on { '+' } else { '-' });
    std::fs::write(&path, &word).map_err(|source| CgroupError::write(&path, &word, source))?;
    let read = read(&path)?;
    if read.split_ascii_whitespace().any(|one| one == name) == on {
        Ok(())
    } else {
        Err(CgroupError::Mismatch { path: shown(&path), wrote: word, read: read.trim_end().to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::Dir;
    use std::fs;

    fn tree() -> (tempfile::TempDir, V2) {
        let root = tempfile::tempdir().unwrap();
        let block = root.path().join("block");
        let mount = root.path().join("cg");
        fs::create_dir_all(block.join("vda")).unwrap();
        fs::write(block.join("vda/dev"), "254:0\n").unwrap();
        fs::write(block.join("vda/size"), "8\n").unwrap();
        fs::create_dir_all(mount.join("a")).unwrap();
        fs::write(mount.join("cgroup.controllers"), "cpuset cpu io memory pids\n").unwrap();
        fs::write(mount.join("cgroup.subtree_control"), "memory pids\n").unwrap();
        let driver = V2 { mount, block, page: 4_096 };
        (root, driver)
    }

    fn limits() -> Limits {
        Limits {
            cpu: "250%".parse().ok(),
            cpu_weight: "1".parse().ok(),
            memory_high: "8191".parse().ok(),
            memory_max: "9223372036854775807".parse().ok(),
            pids: Some(7),
            io_weight: "10000".parse().ok(),
            io_read: "1M".parse().ok(),
            io_write: "2M".parse().ok(),
            ..Limits::default()
        }
    }

    #[test]
    fn values_of_limits() {
        let (_root, driver) = tree();
        let settings = driver.settings(&limits()).unwrap();
        let got: Vec<_> =
            settings.iter().flat_map(|s| &s.choices).map(|c| (c.file, c.part.line(&c.value))).collect();
        let expected = [
            ("cpu.max", "250000 100000"),
            ("cpu.weight", "1"),
            ("memory.high", "4096"),
            ("memory.max", "max"),
            ("pids.max", "7"),
            ("io.weight", "default 10000"),
            ("io.bfq.weight", "default 1000"),
            ("io.max", "254:0 rbps=1048576"),
            ("io.max", "254:0 wbps=2097152"),
        ]
        .map(|(file, line)| (file, line.to_owned()));
        assert_eq!(got, expected);
    }

    #[test]
    fn a_missing_controller_or_file_is_named() {
        let (_root, driver) = tree();
        fs::write(driver.mount.join("cgroup.controllers"), "memory\n").unwrap();
        let error = driver.settings(&limits()).unwrap_err().to_string();
        assert!(error.starts_with("limit cpu cannot be set: controller cpu is not in "), "{error}");
        let (_root, driver) = tree();
        let settings = driver.settings(&limits()).unwrap();
        let io = settings.iter().find(|s| s.limit == "io_weight").unwrap();
        let error = io.open(&Dir::open(&driver.mount.join("a")).unwrap()).unwrap_err().to_string();
        assert!(error.ends_with("/cg/a has no io.weight or io.bfq.weight"), "{error}");
    }

    #[test]
    fn the_second_choice_of_file_is_used() {
        let (_root, driver) = tree();
        fs::write(driver.mount.join("a/io.bfq.weight"), "default 100\n").unwrap();
        let settings = driver.settings(&limits()).unwrap();
        let io = settings.iter().find(|s| s.limit == "io_weight").unwrap();
        let (knob, value) = io.open(&Dir::open(&driver.mount.join("a")).unwrap()).unwrap();
        assert_eq!((knob.read().unwrap().as_str(), value), ("100", "1000"));
    }

    #[test]
    fn a_controller_that_is_not_handed_down_is_named() {
        let (_root, driver) = tree();
        let (all, dir) = ([Controller::Memory, Controller::Cpu], driver.mount.join("a"));
        assert_eq!(driver.lacks(&dir, &all).unwrap(), None, "gone");
        fs::write(dir.join("cgroup.controllers"), "memory cpuset\n").unwrap();
        assert_eq!(driver.lacks(&dir, &all).unwrap(), Some(Controller::Cpu));
        assert_eq!(driver.lacks(&dir, &all[..1]).unwrap(), None);
    }

    #[test]
    fn controllers_are_enabled_from_the_root_down() {
        let (_root, driver) = tree();
        let leaf = driver.mount.join("process-throttler/g/7-9");
        let wanted = driver.to_enable(&leaf, &[Controller::Cpu, Controller::Memory]).unwrap();
        let own = driver.mount.join("process-throttler");
        let expected = [
            (driver.mount.clone(), Controller::Cpu),
            (own.clone(), Controller::Cpu),
            (own.clone(), Controller::Memory),
            (own.join("g"), Controller::Cpu),
            (own.join("g"), Controller::Memory),
        ];
        assert_eq!(wanted, expected);
    }

    /// The real kernel: the hierarchy of this host may well have no controller at all.
    #[test]
    fn the_kernel_refuses_a_controller_it_does_not_have() {
        let unified = Path::new("/sys/fs/cgroup/unified");
        let controllers = fs::read_to_string(unified.join("cgroup.controllers"))
            .or_else(|_| fs::read_to_string("/sys/fs/cgroup/cgroup.controllers"));
        let Ok(controllers) = controllers else { panic!("this host has no cgroup v2 mount") };
        if controllers.split_ascii_whitespace().any(|one| one == "cpu") {
            return;
        }
        let dir = unified.join(format!("pt-test-{}-v2", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let driver = V2::new(unified.to_owned(), PathBuf::from("/sys/block"));
        let refused = set_controller(&dir, Controller::Cpu, true);
        let missing = driver.settings(&Limits { cpu: "10%".parse().ok(), ..Limits::default() });
        let members = membership::members(&dir);
        let stat = crate::cgroup::CpuStat::read(&dir);
        fs::remove_dir(&dir).unwrap();
        assert_eq!(refused.unwrap_err().errno(), Some(libc::ENOENT));
        assert!(missing.unwrap_err().to_string().contains("controller cpu is not in"));
        assert_eq!(members.unwrap(), Vec::<u32>::new());
        assert_eq!(stat.unwrap(), crate::cgroup::CpuStat::default());
    }
}
