//! cgroup drivers for v1 and v2, rooted at a path: which file takes which value, and who is where.
//!
//! Knows nothing of rules, groups or intents, and never touches a cgroup by itself: whoever writes has
//! recorded the prior value before.

pub mod block;
pub mod convert;
pub mod detect;
pub mod dir;
pub mod error;
pub mod find;
pub mod knob;
pub mod mark;
pub mod membership;
pub mod owner;
pub mod stat;
pub mod subtree;
pub mod users;
pub mod v1;
pub mod v2;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use crate::cgroup::detect::{Roots, detect};
pub use crate::cgroup::dir::Dir;
pub use crate::cgroup::error::{CgroupError, shown};
pub use crate::cgroup::knob::{Knob, Part};
pub use crate::cgroup::membership::Memberships;
pub use crate::cgroup::owner::Owner;
pub use crate::cgroup::stat::{CpuMeter, CpuStat, CpuUsage, Usage};
pub use crate::cgroup::users::{CpuTimes, CpuUsers};
pub use crate::cgroup::v1::V1;
pub use crate::cgroup::v2::V2;
use crate::model::limits::Limits;

/// A resource controller that limits need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Controller {
    /// CPU time.
    Cpu,
    /// Memory.
    Memory,
    /// Number of tasks.
    Pids,
    /// Block I/O: `blkio` on v1.
    Io,
}

impl Controller {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Cpu, Self::Memory, Self::Pids, Self::Io];

    /// Its name on v1.
    #[must_use]
    pub const fn v1_name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Io => "blkio",
        }
    }

    /// Its name on v2.
    #[must_use]
    pub const fn v2_name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Io => "io",
        }
    }
}

/// One value that a limit asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The limit's key in a profile.
    pub limit: &'static str,
    /// The controller whose files it is in.
    pub controller: Controller,
    /// The files that can hold it, best first; the first that exists is used.
    pub choices: Vec<Choice>,
}

/// A file that can hold a setting, and the value it takes there, as the kernel will show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// File name within the cgroup.
    pub file: &'static str,
    /// Which part of it.
    pub part: Part,
    /// The value.
    pub value: String,
}

impl Setting {
    pub(crate) fn whole(
        limit: &'static str,
        controller: Controller,
        file: &'static str,
        value: String,
    ) -> Self {
        Self { limit, controller, choices: vec![Choice { file, part: Part::Whole, value }] }
    }

    /// Opens the file that holds this setting in a cgroup.
    ///
    /// # Errors
    /// Names the missing files when the kernel has none of them.
    pub fn open(&self, dir: &Dir) -> Result<(Knob, &str), CgroupError> {
        self.first(dir.path(), |choice| {
            Ok((Knob::open_in(dir, choice.file, choice.part.clone())?, &*choice.value))
        })
    }

    /// The file that holds this setting in a cgroup, what it reads, and what it should read.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn peek(&self, dir: &Path) -> Result<(&'static str, String, &str), CgroupError> {
        self.first(dir, |choice| {
            let text = stat::read(&dir.join(choice.file))?;
            Ok((choice.file, choice.part.pick(&text), &*choice.value))
        })
    }

    fn first<'a, T>(
        &'a self,
        dir: &Path,
        look: impl Fn(&'a Choice) -> Result<T, CgroupError>,
    ) -> Result<T, CgroupError> {
        for choice in &self.choices {
            match look(choice) {
                Err(error) if error.errno() == Some(libc::ENOENT) => {}
                found => return found,
            }
        }
        let files: Vec<&str> = self.choices.iter().map(|choice| choice.file).collect();
        let missing = format!("{} has no {}", shown(dir), files.join(" or "));
        Err(CgroupError::Unsupported { limit: self.limit, missing })
    }
}

/// A version of cgroups.
pub trait Cgroup {
    /// `v1` or `v2`.
    fn version(&self) -> &'static str;

    /// Where the hierarchy with this controller is mounted.
    fn mount(&self, controller: Controller) -> Option<&Path>;

    /// The values that limits ask for.
    ///
    /// # Errors
    /// When this host lacks a controller, or cannot hold a value.
    fn settings(&self, limits: &Limits) -> Result<Vec<Setting>, CgroupError>;

    /// The cgroup of a process for a controller.
    ///
    /// # Errors
    /// When it is in none, or outside of our cgroup namespace.
    fn directory(&self, memberships: &Memberships, controller: Controller) -> Result<PathBuf, CgroupError>;

    /// The controllers to enable, and in which cgroup's `cgroup.subtree_control`, parents first, so that
    /// `dir` (which need not exist yet) has these controllers. Empty on v1.
    ///
    /// # Errors
    /// When the hierarchy does not have a controller.
    fn to_enable(
        &self,
        dir: &Path,
        controllers: &[Controller],
    ) -> Result<Vec<(PathBuf, Controller)>, CgroupError>;

    /// The first of these controllers that a cgroup does not have, because those above do not hand it down. A
    /// cgroup of v1 has that of its hierarchy.
    ///
    /// # Errors
    /// When that cannot be read of a cgroup which is there.
    fn lacks(&self, dir: &Path, controllers: &[Controller]) -> Result<Option<Controller>, CgroupError>;

    /// What a cgroup uses now.
    ///
    /// # Errors
    /// When a file exists and cannot be read.
    fn usage(&self, dir: &Path) -> Result<Usage, CgroupError>;
}

/// The driver of this host.
#[derive(Clone, Debug)]
pub enum Driver {
    /// Controllers on v1, also in hybrid mode.
    V1(V1),
    /// Controllers on v2.
    V2(V2),
}

impl Cgroup for Driver {
    fn version(&self) -> &'static str {
        match self {
            Self::V1(driver) => driver.version(),
            Self::V2(driver) => driver.version(),
        }
    }

    fn mount(&self, controller: Controller) -> Option<&Path> {
        match self {
            Self::V1(driver) => driver.mount(controller),
            Self::V2(driver) => driver.mount(controller),
        }
    }

    fn settings(&self, limits: &Limits) -> Result<Vec<Setting>, CgroupError> {
        match self {
            Self::V1(driver) => driver.settings(limits),
            Self::V2(driver) => driver.settings(limits),
        }
    }

    fn directory(&self, memberships: &Memberships, controller: Controller) -> Result<PathBuf, CgroupError> {
        match self {
            Self::V1(driver) => driver.directory(memberships, controller),
            Self::V2(driver) => driver.directory(memberships, controller),
        }
    }

    fn to_enable(
        &self,
        dir: &Path,
        controllers: &[Controller],
    ) -> Result<Vec<(PathBuf, Controller)>, CgroupError> {
        match self {
            Self::V1(driver) => driver.to_enable(dir, controllers),
            Self::V2(driver) => driver.to_enable(dir, controllers),
        }
    }

    fn lacks(&self, dir: &Path, controllers: &[Controller]) -> Result<Option<Controller>, CgroupError> {
        match self {
            Self::V1(driver) => driver.lacks(dir, controllers),
            Self::V2(driver) => driver.lacks(dir, controllers),
        }
    }

    fn usage(&self, dir: &Path) -> Result<Usage, CgroupError> {
        match self {
            Self::V1(driver) => driver.usage(dir),
            Self::V2(driver) => driver.usage(dir),
        }
    }
}
