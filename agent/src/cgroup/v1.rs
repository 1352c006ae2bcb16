//! cgroup v1: a hierarchy per controller, each with its own tree (Documentation/admin-guide/cgroup-v1).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::cgroup::error::CgroupError;
use crate::cgroup::knob::Part;
use crate::cgroup::membership::{self, Memberships};
use crate::cgroup::stat::{Usage, number};
use crate::cgroup::{Cgroup, Choice, Controller, Setting, block, convert};
use crate::model::limits::Limits;
use crate::model::unit::CpuPercent;

/// The mounted v1 hierarchies that have one of our controllers.
#[derive(Clone, Debug)]
pub struct V1 {
    mounts: BTreeMap<Controller, PathBuf>,
    block: PathBuf,
    page: u64,
}

impl V1 {
    /// A driver over these mounts.
    #[must_use]
    pub fn new(mounts: BTreeMap<Controller, PathBuf>, block: PathBuf) -> Self {
        Self { mounts, block, page: u64::try_from(rustix::param::page_size()).unwrap_or(4_096) }
    }
}

impl Cgroup for V1 {
    fn version(&self) -> &'static str {
        "v1"
    }

    fn mount(&self, controller: Controller) -> Option<&Path> {
        self.mounts.get(&controller).map(PathBuf::as_path)
    }

    fn settings(&self, limits: &Limits) -> Result<Vec<Setting>, CgroupError> {
        let mut settings = Vec::new();
        if let Some(quota) = convert::quota(limits) {
            // The caller orders the two writes by `cpu_order`.
            let period = CpuPercent::PERIOD_US.to_string();
            settings.push(Setting::whole("cpu", Controller::Cpu, PERIOD, period));
            settings.push(Setting::whole("cpu", Controller::Cpu, QUOTA, quota.to_string()));
        }
        if let Some(weight) = limits.cpu_weight {
            let shares = convert::shares(weight).to_string();
            settings.push(Setting::whole("cpu_weight", Controller::Cpu, "cpu.shares", shares));
        }
        if limits.memory_low.is_some() {
            // The soft limit is none: who is above it is reclaimed first, and without one nobody is.
            let missing = "cgroup v1 has no memory that reclaim spares".to_owned();
            return Err(CgroupError::Unsupported { limit: "memory_low", missing });
        }
        for (limit, bytes, file) in [
            ("memory_high", limits.memory_high, "memory.soft_limit_in_bytes"),
            ("memory_max", limits.memory_max, "memory.limit_in_bytes"),
        ] {
            if let Some(bytes) = bytes {
                let value = convert::whole_pages(limit, bytes, self.page)?.to_string();
                settings.push(Setting::whole(limit, Controller::Memory, file, value));
            }
        }
        if let Some(pids) = limits.pids {
            let value = convert::pids(pids)?.to_string();
            settings.push(Setting::whole("pids", Controller::Pids, "pids.max", value));
        }
        if let Some(weight) = limits.io_weight {
            let choice = |file, value: u64| Choice { file, part: Part::Whole, value: value.to_string() };
            settings.push(Setting {
                limit: "io_weight",
                controller: Controller::Io,
                choices: vec![
                    choice("blkio.bfq.weight", convert::bfq_weight(weight)),
                    choice("blkio.weight", convert::cfq_weight(weight)),
                ],
            });
        }
        for (limit, bytes, file) in [
            ("io_read", limits.io_read, "blkio.throttle.read_bps_device"),
            ("io_write", limits.io_write, "blkio.throttle.write_bps_device"),
        ] {
            let Some(bytes) = bytes else { continue };
            settings.extend(block::devices(&self.block)?.into_iter().map(|device| Setting {
                limit,
                controller: Controller::Io,
                choices: vec![Choice { file, part: Part::Device(device), value: bytes.get().to_string() }],
            }));
        }
        for setting in &settings {
            if !self.mounts.contains_key(&setting.controller) {
                let missing = format!("no v1 hierarchy with controller {}", setting.controller.v1_name());
                return Err(CgroupError::Unsupported { limit: setting.limit, missing });
            }
        }
        Ok(settings)
    }

    fn directory(&self, memberships: &Memberships, controller: Controller) -> Result<PathBuf, CgroupError> {
        let mount = self.mounts.get(&controller).ok_or_else(|| CgroupError::Unsupported {
            limit: controller.v1_name(),
            missing: format!("no v1 hierarchy with controller {}", controller.v1_name()),
        })?;
        membership::directory(memberships, false, mount, controller)
    }

    fn to_enable(&self, _: &Path, _: &[Controller]) -> Result<Vec<(PathBuf, Controller)>, CgroupError> {
        Ok(Vec::new())
    }

    fn lacks(&self, _: &Path, _: &[Controller]) -> Result<Option<Controller>, CgroupError> {
        Ok(None)
    }

    fn usage(&self, dir: &Path) -> Result<Usage, CgroupError> {
        Ok(Usage {
            memory: number(&dir.join("memory.usage_in_bytes"))?,
            pids: number(&dir.join("pids.current"))?,
        })
    }
}

const PERIOD: &str = "cpu.cfs_period_us";
const QUOTA: &str = "cpu.cfs_quota_us";

/// Whether of two changes of one cgroup's files the first must be written first. The kernel checks quota and
/// period as a ratio against the parent's after each write, so a growing period goes before the quota and a
/// shrinking one after it: the ratio between the two writes is then never above both ends.
#[must_use]
pub fn cpu_period_last(file: &Path, from: &str, to: &str) -> bool {
    let number = |text: &str| text.parse::<u64>().unwrap_or(0);
    file.ends_with(PERIOD) && number(to) < number(from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn driver() -> V1 {
        let mounts = [Controller::Cpu, Controller::Memory]
            .map(|controller| (controller, PathBuf::from("/cg").join(controller.v1_name())));
        V1 { mounts: mounts.into(), block: PathBuf::from("/nowhere"), page: 4_096 }
    }

    #[test]
    fn values_of_limits() {
        let limits = Limits {
            cpu: "12.5%".parse().ok(),
            cpu_weight: "50".parse().ok(),
            memory_high: "10000".parse().ok(),
            memory_max: "1M".parse().ok(),
            ..Limits::default()
        };
        let settings = driver().settings(&limits).unwrap();
        let got: Vec<_> =
            settings.iter().flat_map(|s| &s.choices).map(|c| (c.file, c.value.as_str())).collect();
        let expected = [
            (PERIOD, "100000"),
            (QUOTA, "12500"),
            ("cpu.shares", "512"),
            ("memory.soft_limit_in_bytes", "8192"),
            ("memory.limit_in_bytes", "1048576"),
        ];
        assert_eq!(got, expected);
    }

    #[test]
    fn a_missing_controller_is_named() {
        let limits = Limits { pids: Some(5), ..Limits::default() };
        let error = driver().settings(&limits).unwrap_err().to_string();
        assert_eq!(error, "limit pids cannot be set: no v1 hierarchy with controller pids");
        let limits = Limits { io_read: "1M".parse().ok(), ..Limits::default() };
        assert!(driver().settings(&limits).unwrap_err().to_string().contains("/nowhere"));
    }

    #[test]
    fn a_period_that_shrinks_is_written_last() {
        let period = Path::new("/cg/cpu/x/cpu.cfs_period_us");
        assert!(cpu_period_last(period, "100000", "50000"));
        assert!(!cpu_period_last(period, "50000", "100000"));
        assert!(!cpu_period_last(Path::new("/cg/cpu/x/cpu.cfs_quota_us"), "100000", "-1"));
    }
}
