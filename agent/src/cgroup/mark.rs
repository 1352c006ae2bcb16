//! Who made a cgroup of ours, and where its processes came from: kept on the cgroup itself, as an extended
//! attribute, so that it lives exactly as long as the cgroup and outlasts the loss of the records.
//!
//! A mark is a second proof, never the first: a recorded cgroup is ours without one. The attribute is
//! `trusted.process-throttler`, which only CAP_SYS_ADMIN sets and sees (xattr(7)); without the capability
//! `user.process-throttler`, which only the owner of the directory sets, where the kernel has it (v2 since
//! 5.7, v1 since 6.x). Where neither can be set, only the records tell.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{XattrFlags, getxattr, setxattr};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::model::id::ProcKey;
use crate::model::process::{printable, unprintable};

const NAMES: [&str; 2] = ["trusted.process-throttler", "user.process-throttler"];

/// Longest mark in bytes: `XATTR_SIZE_MAX` of linux/limits.h.
const SIZE_MAX: usize = 65_536;

/// Most processes whose origins are kept on one cgroup; the oldest go first. They fit into [`SIZE_MAX`].
const PROCESSES_MAX: usize = 1_500;

/// What a cgroup of ours says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The agent that made it, by its state directory.
    pub owner: String,
    /// Cgroups from which processes were moved here, as escaped text, with those processes (pid, start).
    #[serde(default)]
    origins: Vec<(String, Vec<(u32, u64)>)>,
}

impl Mark {
    /// The mark of a cgroup; `None` when it has none, or one that makes no sense.
    #[must_use]
    pub fn read(dir: &Path) -> Option<Self> {
        let mut buffer = vec![0; SIZE_MAX];
        let length = NAMES.iter().find_map(|name| getxattr(dir, *name, &mut buffer[..]).ok())?;
        serde_json::from_slice(buffer.get(..length)?).ok()
    }

    /// Where each process came from.
    pub fn origins(&self) -> impl Iterator<Item = (ProcKey, PathBuf)> + '_ {
        self.origins.iter().flat_map(|(origin, keys)| {
            let path = unprintable(origin).map(|bytes| PathBuf::from(OsString::from_vec(bytes)));
            let key = |(pid, start): &(u32, u64)| ProcKey { pid: *pid, start: *start };
            keys.iter().filter_map(move |one| Some((key(one), path.clone()?)))
        })
    }

    fn add(&mut self, key: ProcKey, origin: &Path) {
        let text = printable(origin.as_os_str().as_bytes()).to_string();
        let one = (key.pid, key.start);
        match self.origins.iter_mut().find(|(known, _)| *known == text) {
            Some((_, keys)) if keys.contains(&one) => {}
            Some((_, keys)) => keys.push(one),
            None => self.origins.push((text, vec![one])),
        }
    }

    /// Forgets the oldest beyond what fits.
    fn trim(&mut self) {
        while self.origins.iter().map(|(_, keys)| keys.len()).sum::<usize>() > PROCESSES_MAX {
            let longest = self.origins.iter_mut().max_by_key(|(_, keys)| keys.len());
            let Some((_, keys)) = longest else { return };
            keys.remove(0);
        }
    }

    fn write(&self, dir: &Path) -> Result<(), Errno> {
        let value = serde_json::to_vec(self).map_err(|_never| Errno::INVAL)?;
        let mut result = Err(Errno::NOTSUP);
        for name in NAMES {
            result = setxattr(dir, name, &value, XattrFlags::empty());
            if result.is_ok() {
                break;
            }
        }
        result
    }
}

/// Marks a cgroup that was made just now. Where that is impossible, the records alone tell whose it is.
pub fn claim(dir: &Path, owner: &str) {
    note(dir, Mark { owner: owner.to_owned(), origins: Vec::new() }.write(dir));
}

/// Notes where processes come from that are about to be moved into a cgroup of ours.
pub fn add_origins<'a>(dir: &Path, moved: impl IntoIterator<Item = (ProcKey, &'a Path)>) {
    let mut moved = moved.into_iter().peekable();
    if moved.peek().is_none() {
        return;
    }
    // Unmarked, it cannot be marked, or another program made it.
    let Some(mut mark) = Mark::read(dir) else { return };
    for (key, origin) in moved {
        mark.add(key, origin);
    }
    mark.trim();
    note(dir, mark.write(dir));
}

fn note(dir: &Path, result: Result<(), Errno>) {
    if let Err(error) = result {
        tracing::debug!(%error, dir = %dir.display(), "cgroup cannot be marked as ours");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_holds_the_origins_that_fit() {
        let dir = tempfile::tempdir().unwrap();
        if Mark::default().write(dir.path()).is_err() {
            // A file system without attributes: nothing is read, and nothing fails.
            assert_eq!(Mark::read(dir.path()), None);
            return add_origins(dir.path(), [(ProcKey { pid: 1, start: 1 }, Path::new("/a"))]);
        }
        claim(dir.path(), "/state");
        let odd = Path::new(std::ffi::OsStr::from_bytes(b"/cg/\xff x"));
        let key = |pid| ProcKey { pid, start: u64::MAX };
        add_origins(dir.path(), [(key(1), odd), (key(2), Path::new("/cg")), (key(1), odd)]);
        let mark = Mark::read(dir.path()).unwrap();
        assert_eq!(mark.owner, "/state");
        let origins: Vec<_> = mark.origins().collect();
        assert_eq!(origins, [(key(1), odd.to_owned()), (key(2), PathBuf::from("/cg"))]);
    }

    #[test]
    fn the_oldest_origins_go_when_a_mark_is_full() {
        let key = |pid| ProcKey { pid, start: u64::MAX };
        let mut mark = Mark::default();
        mark.add(key(1), Path::new("/a"));
        (10..20_000).for_each(|pid| mark.add(key(pid), Path::new("/cg")));
        mark.trim();
        let kept: Vec<_> = mark.origins().collect();
        assert_eq!(kept.len(), PROCESSES_MAX);
        assert!(kept.contains(&(key(1), "/a".into())) && kept.contains(&(key(19_999), "/cg".into())));
        assert!(serde_json::to_vec(&mark).unwrap().len() < SIZE_MAX);
    }

    #[test]
    fn nonsense_is_no_mark() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Mark::read(dir.path()), None);
        if setxattr(dir.path(), NAMES[1], b"{", XattrFlags::empty()).is_ok() {
            assert_eq!(Mark::read(dir.path()), None);
        }
        assert_eq!(Mark::read(Path::new("/nowhere")), None);
    }
}
