//! Notices at once when somebody else changes a value that a limit set, by watching the cgroups' files with
//! inotify: a write through cgroupfs is told like any other. Never writes; the engine decides what follows.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use crate::cgroup::{Cgroup as _, CgroupError, Dir, Knob, Part, shown};
use crate::effect::group::{Group, PlaceDir};
use crate::effect::kernel::{EffectError, Kernel};
use crate::model::chain::chain;
use crate::model::id::Name;
use crate::model::limits::Limits;
use crate::model::notice::Clash;

/// Most groups that are watched: `fs.inotify.max_user_watches` is at least 8192, and a group has up to four
/// cgroups.
const GROUPS_MAX: usize = 2_048;

/// The watched groups.
#[derive(Debug)]
pub struct Drift {
    inotify: OwnedFd,
    groups: BTreeMap<Name, Watched>,
    /// Whose cgroup a watch is on: several groups' where each limits something else there.
    watches: BTreeMap<i32, BTreeSet<Name>>,
}

/// What was written, by whomever.
#[derive(Debug, Default)]
pub struct Written {
    /// Groups with a file among the written ones that holds a value of theirs.
    pub groups: BTreeSet<Name>,
    /// Whether a process was moved into a cgroup that is not ours and that a group is limited on.
    pub entered: bool,
}

#[derive(Debug)]
struct Watched {
    limits: Limits,
    dirs: Vec<PlaceDir>,
    watches: Vec<i32>,
    values: Vec<Value>,
    borrowed: bool,
    /// What was found last.
    clashes: Vec<Clash>,
    /// Whether whoever was told of that may have had no use for it then.
    again: bool,
}

/// A value that we set.
#[derive(Debug)]
struct Value {
    path: PathBuf,
    /// Its cgroup.
    dir: PlaceDir,
    part: Part,
    ours: String,
}

impl Drift {
    /// Watches nothing yet.
    ///
    /// # Errors
    /// When the process is out of descriptors or the user out of inotify instances.
    pub fn new() -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Self { inotify, groups: BTreeMap::new(), watches: BTreeMap::new() })
    }

    /// Watches a group's values as they were just read back, or no longer when there is no such group.
    ///
    /// # Errors
    /// When a cgroup cannot be watched; the group then goes unwatched.
    pub fn follow(&mut self, kernel: &Kernel, name: &Name, group: Option<&Group>) -> Result<(), EffectError> {
        let Some(group) = group.filter(|group| !group.places.is_empty()) else {
            self.forget(name);
            return Ok(());
        };
        let mut dirs: Vec<PlaceDir> = group.places.iter().flat_map(|place| &place.dirs).cloned().collect();
        dirs.sort_by(|a, b| a.path.cmp(&b.path));
        dirs.dedup_by(|a, b| a.path == b.path && a.inode == b.inode);
        if let Some(known) = self.groups.get_mut(name)
            && known.limits == group.limits
            && known.dirs == dirs
        {
            known.again = !known.clashes.is_empty();
            return Ok(());
        }
        self.forget(name);
        if self.groups.len() == GROUPS_MAX {
            return Err(EffectError::Refused(format!("more than {GROUPS_MAX} groups cannot be watched")));
        }
        let values = values(kernel, group)?;
        let mut watched = Watched {
            limits: group.limits.clone(),
            dirs,
            watches: Vec::new(),
            values,
            borrowed: group.places.iter().any(|place| !place.rung.moves()),
            clashes: Vec::new(),
            again: false,
        };
        for dir in &watched.dirs {
            match inotify::add_watch(&self.inotify, &dir.path, WatchFlags::MODIFY | WatchFlags::ONLYDIR) {
                Ok(watch) => {
                    watched.watches.push(watch);
                    self.watches.entry(watch).or_default().insert(name.clone());
                }
                // It is over already.
                Err(Errno::NOENT) => {}
                Err(error) => {
                    self.unwatch(name, &watched.watches);
                    return Err(CgroupError::io("watch", &dir.path, error.into()).into());
                }
            }
        }
        self.groups.insert(name.clone(), watched);
        Ok(())
    }

    /// Watches nothing any more.
    pub fn follow_none(&mut self) {
        for (name, watched) in std::mem::take(&mut self.groups) {
            self.unwatch(&name, &watched.watches);
        }
    }

    fn forget(&mut self, name: &Name) {
        if let Some(watched) = self.groups.remove(name) {
            self.unwatch(name, &watched.watches);
        }
    }

    fn unwatch(&mut self, name: &Name, watches: &[i32]) {
        for watch in watches {
            if let Some(names) = self.watches.get_mut(watch) {
                names.remove(name);
                if !names.is_empty() {
                    continue;
                }
            }
            self.watches.remove(watch);
            // EINVAL: its cgroup is gone, and the watch with it.
            if let Err(error) = inotify::remove_watch(&self.inotify, *watch)
                && error != Errno::INVAL
            {
                tracing::warn!(%error, "cannot end an inotify watch");
            }
        }
    }

    /// What was written since the last call.
    pub fn written(&mut self) -> Written {
        let mut written = Written::default();
        let mut buffer = [MaybeUninit::uninit(); 4_096];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) if event.events().contains(ReadFlags::QUEUE_OVERFLOW) => {
                    return Written { groups: self.groups.keys().cloned().collect(), entered: true };
                }
                Ok(event) => {
                    let file = event.file_name().map(std::ffi::CStr::to_bytes);
                    for name in self.watches.get(&event.wd()).into_iter().flatten() {
                        let Some(watched) = self.groups.get(name) else { continue };
                        written.entered |= watched.borrowed && file == Some(b"cgroup.procs");
                        let is = |value: &Value| {
                            value.path.file_name().map(|name| name.as_encoded_bytes()) == file
                        };
                        if watched.values.iter().any(is) {
                            written.groups.insert(name.clone());
                        }
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return written,
                Err(error) => {
                    tracing::error!(%error, "cannot read inotify events");
                    return written;
                }
            }
        }
    }

    /// What differs now from what we set, if that is not what was found last.
    pub fn compare(&mut self, name: &Name) -> Option<Vec<Clash>> {
        let watched = self.groups.get_mut(name)?;
        let mut clashes = Vec::new();
        for Value { path, dir, part, ours } in &watched.values {
            match Knob::look(path, part) {
                Ok(found) if found == *ours || !dir.stands() => {}
                Ok(found) => {
                    let item = part.to_item();
                    let space = if item.is_empty() { "" } else { " " };
                    let at = format!("{}{space}{item}", shown(path));
                    clashes.push(Clash { at, ours: ours.clone(), found });
                }
                // A cgroup that is gone limits nobody.
                Err(error) if error.is_gone() => {}
                Err(error) => tracing::warn!("compare limits of group {name}: {}", chain(&error)),
            }
        }
        if watched.clashes == clashes && !std::mem::take(&mut watched.again) {
            return None;
        }
        watched.clashes.clone_from(&clashes);
        Some(clashes)
    }
}

impl AsFd for Drift {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

fn values(kernel: &Kernel, group: &Group) -> Result<Vec<Value>, EffectError> {
    let settings = kernel.driver.settings(&group.limits)?;
    let mut values = Vec::new();
    for place in group.places.iter().filter(|place| place.stands()) {
        for setting in &settings {
            let Some(dir) = place.place_dir(setting.controller) else {
                continue;
            };
            let dir = dir.clone();
            let systemds = place.rung.is_systemds();
            if let [only] = setting.choices.as_slice()
                && !systemds
            {
                let (path, part, ours) = (dir.path.join(only.file), only.part.clone(), only.value.clone());
                values.push(Value { path, dir, part, ours });
                continue;
            }
            let found = Dir::open(&dir.path).and_then(|open| {
                let (knob, value) = setting.open(&open)?;
                // systemd may write the same limit in other words, such as over another period. It has just been
                // verified.
                let ours = if systemds { knob.read()? } else { value.to_owned() };
                Ok((knob.path().to_owned(), knob.part().clone(), ours))
            });
            match found {
                Ok((path, part, ours)) => values.push(Value { path, dir, part, ours }),
                Err(error) if error.is_gone() => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(values)
}
