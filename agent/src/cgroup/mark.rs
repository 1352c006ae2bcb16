//! What we note on cgroups themselves, as an extended attribute, so that it lives exactly as long as the cgroup and
//! outlasts the loss of the records: who made a cgroup of ours and where its processes came from, and what a
//! cgroup that is not ours had before it was limited in place.
//!
//! A mark is a second proof, never the first: a recorded cgroup is ours without one. The attribute is
//! `user.process-throttler`, which whoever may write the directory sets (xattr(7); kernfs has it since Linux 5.7, on
//! v1, too). It is therefore believed only where nobody but root and ourselves may: the directory of a cgroup that is
//! delegated to a user bears `trusted.process-throttler` instead, which only CAP_SYS_ADMIN sets and sees. Where neither
//! can be set, only the records tell.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{XattrFlags, fgetxattr, flistxattr, fremovexattr, fsetxattr};
use rustix::io::Errno;
use rustix::process::geteuid;
use serde::{Deserialize, Serialize};

use crate::cgroup::dir::Dir;
use crate::model::chain::chain;
use crate::model::id::ProcKey;
use crate::model::process::{printable, unprintable};

const USER: &str = "user.process-throttler";
const TRUSTED: &str = "trusted.process-throttler";

/// Longest mark in bytes: `XATTR_SIZE_MAX` of linux/limits.h.
const SIZE_MAX: usize = 65_536;

/// Most processes whose origins are kept on one cgroup; the oldest go first. They fit into [`SIZE_MAX`].
const PROCESSES_MAX: usize = 1_500;

/// What a cgroup says of us.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The agent that made or limited it, by its state directory.
    pub owner: String,
    /// Cgroups from which processes were moved here, as escaped text, with those processes (pid, start).
    #[serde(default)]
    origins: Vec<(String, Vec<(u32, u64)>)>,
    /// What a limit in place took the place of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaced: Vec<Replaced>,
}

/// A value of ours in a cgroup that is not ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replaced {
    /// The file's name within the cgroup.
    pub file: String,
    /// Which part of the file, as [`crate::cgroup::Part::to_item`] has it.
    pub item: String,
    /// The value before.
    pub prior: String,
    /// Our value.
    pub new: String,
    /// Our value before that one, which may still be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded: Option<String>,
}

impl Mark {
    /// The mark of a cgroup; `None` when it has none, or one that makes no sense.
    #[must_use]
    pub fn read(dir: &Path) -> Option<Self> {
        let dir = Dir::open(dir).ok()?;
        Self::read_as(names(&dir), &dir)
    }

    fn read_as(names: &[&str], dir: &Dir) -> Option<Self> {
        // Nearly all are short, and this is on the way of every limit in place.
        let mut short = [0; 1_024];
        // Most cgroups have none: one call tells that for all names.
        let length = flistxattr(dir, &mut short[..]);
        if let Ok(listed) = length.map(|length| short.get(..length).unwrap_or_default())
            && !listed.split(|byte| *byte == 0).any(|name| names.iter().any(|one| one.as_bytes() == name))
        {
            return None;
        }
        for name in names {
            match fgetxattr(dir, *name, &mut short[..]) {
                Ok(length) => return serde_json::from_slice(short.get(..length)?).ok(),
                Err(Errno::RANGE) => {
                    let mut long = vec![0; SIZE_MAX];
                    let length = fgetxattr(dir, *name, &mut long[..]).ok()?;
                    return serde_json::from_slice(long.get(..length)?).ok();
                }
                // Not there, or not to be seen.
                Err(_) => {}
            }
        }
        None
    }

    /// Where each process came from.
    pub fn origins(&self) -> impl Iterator<Item = (ProcKey, PathBuf)> + '_ {
        self.origins.iter().flat_map(|(origin, keys)| {
            let path = unprintable(origin).map(|bytes| PathBuf::from(OsString::from_vec(bytes)));
            let key = |(pid, start): &(u32, u64)| ProcKey { pid: *pid, start: *start };
            keys.iter().filter_map(move |one| Some((key(one), path.clone()?)))
        })
    }

    /// The same value replaced again keeps what was there at first, unless somebody else has set it since.
    fn replace(&mut self, one: Replaced) {
        let same = |known: &&mut Replaced| (&known.file, &known.item) == (&one.file, &one.item);
        let Some(known) = self.replaced.iter_mut().find(same) else { return self.replaced.push(one) };
        let now = one.prior;
        if ![Some(&known.prior), Some(&known.new), known.superseded.as_ref()].contains(&Some(&now)) {
            known.prior.clone_from(&now);
        }
        known.superseded = Some(now);
        known.new = one.new;
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

    fn write(&self, names: &[&str], dir: &Dir) -> Result<(), Errno> {
        let value = serde_json::to_vec(self).map_err(|_never| Errno::INVAL)?;
        let mut result = Err(Errno::NOTSUP);
        for name in names {
            result = fsetxattr(dir, *name, &value, XattrFlags::empty());
            if result.is_ok() {
                break;
            }
        }
        result
    }
}

/// Marks a cgroup that was made just now. Where that is impossible, the records alone tell whose it is.
pub fn claim(dir: &Path, owner: &str) {
    let Some(dir) = opened(dir) else { return };
    note(&dir, Mark { owner: owner.to_owned(), ..Mark::default() }.write(names(&dir), &dir));
}

/// Notes what limits in place are about to take the place of. Values are as they are now (`prior`) and will be.
pub fn add_replaced(dir: &Dir, owner: &str, replaced: impl IntoIterator<Item = Replaced>) {
    let mut replaced = replaced.into_iter().peekable();
    if replaced.peek().is_none() {
        return;
    }
    let names = names(dir);
    let mut mark =
        Mark::read_as(names, dir).unwrap_or_else(|| Mark { owner: owner.to_owned(), ..Mark::default() });
    if mark.owner != owner {
        tracing::debug!(owner = mark.owner, dir = %dir.path().display(), "cgroup bears the mark of another agent");
        return;
    }
    replaced.for_each(|one| mark.replace(one));
    note(dir, mark.write(names, dir));
}

/// Forgets a value that was put back, or is not ours any more.
pub fn forget_replaced(dir: &Path, owner: &str, file: &str, item: &str) {
    let Some(dir) = &opened(dir) else { return };
    let names = names(dir);
    let Some(mut mark) = Mark::read_as(names, dir).filter(|mark| mark.owner == owner) else { return };
    mark.replaced.retain(|one| (one.file.as_str(), one.item.as_str()) != (file, item));
    if !mark.replaced.is_empty() {
        return note(dir, mark.write(names, dir));
    }
    for name in names {
        match fremovexattr(dir, *name) {
            // The one that is not there.
            Err(Errno::NODATA | Errno::NOTSUP | Errno::PERM) => {}
            other => note(dir, other),
        }
    }
}

/// Notes where processes come from that are about to be moved into a cgroup of ours.
pub fn add_origins<'a>(dir: &Path, moved: impl IntoIterator<Item = (ProcKey, &'a Path)>) {
    let mut moved = moved.into_iter().peekable();
    if moved.peek().is_none() {
        return;
    }
    // Unmarked, it cannot be marked, or another program made it.
    let Some(dir) = &opened(dir) else { return };
    let names = names(dir);
    let Some(mut mark) = Mark::read_as(names, dir) else { return };
    for (key, origin) in moved {
        mark.add(key, origin);
    }
    mark.trim();
    note(dir, mark.write(names, dir));
}

/// The attributes that may be believed, best first.
fn names(dir: &Dir) -> &'static [&'static str] {
    let guarded = dir.stat().is_ok_and(|stat| {
        let owner = stat.st_uid == 0 || stat.st_uid == geteuid().as_raw();
        owner && stat.st_mode & 0o022 == 0
    });
    if guarded { &[USER, TRUSTED] } else { &[TRUSTED] }
}

fn opened(dir: &Path) -> Option<Dir> {
    Dir::open(dir).inspect_err(|error| tracing::debug!("mark a cgroup: {}", chain(error))).ok()
}

fn note(dir: &Dir, result: Result<(), Errno>) {
    if let Err(error) = result {
        tracing::debug!(%error, dir = %dir.path().display(), "cgroup cannot be marked");
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::setxattr;

    use super::*;

    #[test]
    fn a_mark_holds_the_origins_that_fit() {
        let dir = tempfile::tempdir().unwrap();
        let open = Dir::open(dir.path()).unwrap();
        if Mark::default().write(names(&open), &open).is_err() {
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
        // More than a short one holds.
        add_origins(dir.path(), (10..110).map(|pid| (key(pid), Path::new("/cg"))));
        assert_eq!(Mark::read(dir.path()).unwrap().origins().count(), 102);
    }

    #[test]
    fn the_oldest_origins_go_when_a_mark_is_full() {
        let key = |pid| ProcKey { pid, start: u64::MAX };
        let mut mark = Mark::default();
        mark.add(key(1), Path::new("/a"));
        (10..1_700).for_each(|pid| mark.add(key(pid), Path::new("/cg")));
        mark.trim();
        let kept: Vec<_> = mark.origins().collect();
        assert_eq!(kept.len(), PROCESSES_MAX);
        assert!(kept.contains(&(key(1), "/a".into())) && kept.contains(&(key(1_699), "/cg".into())));
        assert!(serde_json::to_vec(&mark).unwrap().len() < SIZE_MAX);
    }

    #[test]
    fn nonsense_is_no_mark() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Mark::read(dir.path()), None);
        if setxattr(dir.path(), USER, b"{", XattrFlags::empty()).is_ok() {
            assert_eq!(Mark::read(dir.path()), None);
        }
        assert_eq!(Mark::read(Path::new("/nowhere")), None);
    }

    fn replaced(prior: &str, new: &str) -> Replaced {
        let [file, item] = ["cpu.max", ""].map(str::to_owned);
        Replaced { file, item, prior: prior.to_owned(), new: new.to_owned(), superseded: None }
    }

    #[test]
    fn the_first_value_is_kept_unless_somebody_else_sets_another() {
        let mut mark = Mark::default();
        let mut next = |prior, new| {
            mark.replace(replaced(prior, new));
            let one = &mark.replaced[0];
            assert_eq!((mark.replaced.len(), one.new.as_str()), (1, new));
            (one.prior.clone(), one.superseded.clone())
        };
        assert_eq!(next("max", "10"), ("max".to_owned(), None));
        assert_eq!(next("10", "20"), ("max".to_owned(), Some("10".to_owned())));
        // The write of 20 did not come to pass.
        assert_eq!(next("10", "30"), ("max".to_owned(), Some("10".to_owned())));
        assert_eq!(next("77", "40"), ("77".to_owned(), Some("77".to_owned())));
    }

    #[test]
    fn a_mark_without_values_is_removed_and_another_agents_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let add_replaced = |owner, replaced| add_replaced(&Dir::open(dir).unwrap(), owner, [replaced]);
        add_replaced("/state", replaced("max", "10"));
        let Some(mark) = Mark::read(dir) else { return };
        assert_eq!(mark.replaced, [replaced("max", "10")]);
        add_replaced("/other", replaced("10", "5"));
        forget_replaced(dir, "/other", "cpu.max", "");
        forget_replaced(dir, "/state", "cpu.weight", "");
        assert_eq!(Mark::read(dir), Some(mark));
        forget_replaced(dir, "/state", "cpu.max", "");
        assert_eq!(Mark::read(dir), None);
    }

    #[test]
    fn what_others_may_write_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let value = serde_json::to_vec(&Mark::default()).unwrap();
        if setxattr(dir.path(), USER, &value, XattrFlags::empty()).is_err() {
            return;
        }
        assert!(Mark::read(dir.path()).is_some());
        let mode = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(dir.path(), mode(0o775)).unwrap();
        assert_eq!(Mark::read(dir.path()), None);
    }
}
