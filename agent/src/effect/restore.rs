//! Putting back what was there before: on release, after a failure, and at the start after a crash.
//!
//! Every step is idempotent and a row is deleted only after its step, so that a death at any point leaves
//! rows from which the next run converges.

mod attribute;
mod marks;
mod moves;
mod systemd;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::cgroup::mark::Mark;
use crate::cgroup::{
    Cgroup as _, CgroupError, Controller, Knob, Memberships, Part, membership, shown, subtree, v1, v2,
};
use crate::effect::fail_point::Point;
use crate::effect::kernel::{EffectError, Kernel};
use crate::effect::moves::is_same;
use crate::model::chain::chain;
use crate::model::id::{Name, ProcKey};
use crate::model::plural::counted;
use crate::store::{Intent, Kind, Store, StoreError};

pub(crate) use self::attribute::born_after;
pub(crate) use self::systemd::unit_back_to;

/// What restoring did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Rows whose change is undone.
    pub restored: usize,
    /// Groups that are released.
    pub groups: Vec<Name>,
    /// What differs from a plain restoration: drift, cgroups that vanished, rows of an earlier boot.
    pub notes: Vec<String>,
    /// What could not be undone; its rows are kept for another try.
    pub failures: Vec<String>,
}

/// Releases everything that the rows of this boot tell of; rows of other boots are dropped, because the
/// kernel has forgotten those changes. For the start after a crash, and safe to repeat.
///
/// # Errors
/// When the store cannot be read.
pub fn recover(kernel: &Kernel, store: &mut Store) -> Result<Report, StoreError> {
    recover_groups(kernel, store, |_| true)
}

/// The same for the groups that `wanted` names.
pub(super) fn recover_groups(
    kernel: &Kernel,
    store: &mut Store,
    wanted: impl Fn(&Name) -> bool,
) -> Result<Report, StoreError> {
    let mut report = Report::default();
    // A full disk must not keep limits in force: what cannot be written is reported, and done again next time.
    match store.write(|tables| tables.forget_other_boots(&kernel.boot)) {
        Ok(0) => {}
        Ok(count) => {
            let changes = counted(count, "change", "changes");
            report.notes.push(format!("{changes} of an earlier boot: gone with it"));
        }
        Err(error) => report.failures.push(chain(&error)),
    }
    let (rows, groups) = store.read(|tables| Ok::<_, StoreError>((tables.intents()?, tables.groups()?)))?;
    let of_wanted = |row: &Intent| row.change.group.as_ref().is_none_or(&wanted);
    let (shared, own): (Vec<_>, Vec<_>) = rows
        .into_iter()
        .filter(|row| row.boot == kernel.boot && of_wanted(row))
        .partition(|row| row.change.group.is_none());
    let undone = undo(kernel, own, &mut report);
    let shared = undo_shared(kernel, shared, &mut report);
    if !undone.ids.is_empty() {
        kernel.fail.pass(Point::Undone);
    }
    let over = |name: &Name| wanted(name) && !undone.left.contains(name);
    report.groups = groups.into_iter().map(|row| row.name).filter(over).collect();
    let written = store.write(|tables| {
        tables.delete_intents(&undone.ids)?;
        tables.delete_intents(&shared)?;
        report.groups.iter().try_for_each(|group| tables.delete_group(group))
    });
    if let Err(error) = written {
        report.failures.push(chain(&error));
    }
    Ok(report)
}

/// Releases everything: what the rows tell of and, where rows were lost, what the marks of cgroups tell. Only for a caller
/// that has made sure that this agent is not running.
///
/// # Errors
/// When the store cannot be read.
pub fn release_all(kernel: &Kernel, store: &mut Store) -> Result<Report, StoreError> {
    let mut report = recover(kernel, store)?;
    systemd::release_unrecorded(kernel, &mut report);
    marks::restore_marked(kernel, &mut report);
    if let Err(error) = sweep(kernel, &mut report) {
        report.failures.push(chain(&error));
    }
    Ok(report)
}

/// Empties and removes the cgroups that bear our mark and have no record.
pub(crate) fn sweep(kernel: &Kernel, report: &mut Report) -> Result<(), CgroupError> {
    let ours = subtree::ours(&kernel.driver, &kernel.roots.subtree, &kernel.roots.owner)?;
    let mut restorer = Restorer { kernel, report, origins: BTreeMap::new(), silent: None };
    // Processes first, in one batch, as in `undo`.
    let emptied: Vec<_> = ours.iter().map(|dir| restorer.empty(dir)).collect();
    for (dir, emptied) in ours.iter().zip(emptied) {
        match emptied.and_then(|()| restorer.remove(dir)) {
            Ok(true) => restorer.report.notes.push(format!("{} had no record and was removed", shown(dir))),
            Ok(false) => {}
            Err(error) => restorer.report.failures.push(chain(&error)),
        }
    }
    Ok(())
}

/// What [`undo`] did.
#[derive(Debug, Default)]
pub(crate) struct Undone {
    /// Rows whose change is undone, to be deleted now.
    pub(crate) ids: Vec<i64>,
    /// Groups of which rows are left.
    pub(crate) left: BTreeSet<Name>,
}

/// Undoes the changes of these rows in the kernel; the caller deletes the rows.
pub(crate) fn undo(kernel: &Kernel, mut rows: Vec<Intent>, report: &mut Report) -> Undone {
    let last = |row: &Intent| {
        let (from, to) = (text(&row.change.new), text(&row.change.prior));
        row.change.kind == Kind::File && v1::cpu_period_last(&row.change.path, &from, &to)
    };
    // Limits first, so that processes are free at once; cgroups deepest first; controllers at the end.
    rows.sort_by_key(|row| {
        let depth = row.change.path.components().count();
        (kind_order(row.change.kind), last(row), std::cmp::Reverse(depth))
    });
    let mut restorer = Restorer { kernel, report, origins: BTreeMap::new(), silent: None };
    restorer.learn_origins(&rows);
    let mut undone = Undone::default();
    for row in &rows {
        match restorer.row(row, &rows) {
            Ok(()) => {
                kernel.fail.pass(Point::RowUndone);
                undone.ids.push(row.id);
            }
            Err(error) => {
                if let EffectError::Systemd(error) = &error
                    && error.is_silence()
                {
                    restorer.silent = Some(chain(error));
                }
                restorer.report.failures.push(chain(&error));
                undone.left.extend(row.change.group.clone());
            }
        }
    }
    report.restored += undone.ids.len();
    undone
}

/// Removes our subtrees' roots and disables the controllers enabled for them, where no group needs them any
/// more. Returns the rows to delete.
pub(crate) fn undo_shared(kernel: &Kernel, mut rows: Vec<Intent>, report: &mut Report) -> Vec<i64> {
    rows.sort_by_key(|row| {
        let depth = row.change.path.components().count();
        (kind_order(row.change.kind), std::cmp::Reverse(depth))
    });
    let mut done = Vec::new();
    for row in &rows {
        let path = &row.change.path;
        let gone = match row.change.kind {
            Kind::CreatedDir => {
                let used = membership::has_children(path).unwrap_or(false);
                if used { Ok(false) } else { subtree::remove(path).map(|()| true) }
            }
            // While our subtree is there, its groups may use what is enabled in it and above it.
            Kind::EnabledController if is_used(path, &kernel.roots.subtree) => Ok(false),
            Kind::EnabledController => match disable(row) {
                Err(error) if error.errno() == Some(libc::EBUSY) => {
                    let (item, path) = (&row.change.item, shown(path));
                    report.notes.push(format!("{item} stays enabled in {path}: others use it by now"));
                    Ok(true)
                }
                other => other.map(|()| true),
            },
            Kind::TransientUnit => match systemd::stop_if_empty(kernel, row) {
                Ok(stopped) => Ok(stopped),
                Err(error) => {
                    report.failures.push(chain(&error));
                    Ok(false)
                }
            },
            Kind::File => {
                Restorer { kernel, report, origins: BTreeMap::new(), silent: None }.file(row).map(|()| true)
            }
            Kind::Attribute(_) | Kind::Membership | Kind::UnitProperty => Ok(true),
        };
        match gone {
            Ok(true) => done.push(row.id),
            Ok(false) => {}
            Err(error) => report.failures.push(chain(&error)),
        }
    }
    report.restored += done.len();
    done
}

/// Whether anything is in our subtree of this hierarchy, of which `path` is the root or a cgroup above it. What cannot
/// be told counts as used: a controller too many does no harm.
fn is_used(path: &Path, subtree: &str) -> bool {
    let own = if path.ends_with(subtree) { path.to_owned() } else { path.join(subtree) };
    let is_empty = |found: Result<bool, CgroupError>| found.unwrap_or_else(|error| error.is_gone());
    let childless = is_empty(membership::has_children(&own).map(|any| !any));
    !(childless && is_empty(membership::procs(&own).map(|pids| pids.is_empty())))
}

const fn kind_order(kind: Kind) -> u8 {
    match kind {
        Kind::File | Kind::UnitProperty => 0,
        Kind::Membership => 1,
        Kind::Attribute(_) => 2,
        Kind::CreatedDir | Kind::TransientUnit => 3,
        Kind::EnabledController => 4,
    }
}

/// A note for every user of a report: drift and vanished cgroups are worth a line in the log, once.
pub(crate) fn log_notes(report: &Report) {
    for note in &report.notes {
        tracing::warn!("{note}");
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn disable(row: &Intent) -> Result<(), CgroupError> {
    let Some(controller) = Controller::ALL.into_iter().find(|one| one.v2_name() == row.change.item) else {
        return Ok(());
    };
    match v2::set_controller(&row.change.path, controller, false) {
        Err(error) if !error.is_gone() => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Moves a process that has no row of its own, because it was forked inside, out of a group's cgroups.
pub(crate) fn send_stray(kernel: &Kernel, rows: &[Intent], key: ProcKey) -> Result<(), EffectError> {
    let mut report = Report::default();
    let mut restorer = Restorer { kernel, report: &mut report, origins: BTreeMap::new(), silent: None };
    restorer.learn_origins(rows);
    let dirs: BTreeSet<&PathBuf> = rows
        .iter()
        .filter(|row| matches!(row.change.kind, Kind::CreatedDir | Kind::TransientUnit))
        .map(|row| &row.change.path)
        .collect();
    for dir in dirs {
        if restorer.is_in(key, dir)? {
            let origin = restorer.origin_of_stray(key.pid, dir);
            restorer.send(key.pid, dir, &origin)?;
        }
    }
    log_notes(&report);
    Ok(())
}

/// Undoes single rows.
struct Restorer<'a> {
    kernel: &'a Kernel,
    report: &'a mut Report,
    /// Where the processes of a cgroup of ours came from, by that cgroup and process.
    origins: BTreeMap<PathBuf, BTreeMap<u32, PathBuf>>,
    /// Why systemd is not asked any more, once it did not answer: a thousand waits are not two seconds.
    silent: Option<String>,
}

impl Restorer<'_> {
    fn learn_origins(&mut self, rows: &[Intent]) {
        for row in rows.iter().filter(|row| row.change.kind == Kind::Membership) {
            if let Some(key) = row.change.process {
                let origin = PathBuf::from(OsStr::from_bytes(&row.change.prior));
                self.origins.entry(row.change.path.clone()).or_default().insert(key.pid, origin);
            }
        }
    }

    fn row(&mut self, row: &Intent, rows: &[Intent]) -> Result<(), EffectError> {
        let systemds = matches!(row.change.kind, Kind::UnitProperty | Kind::TransientUnit);
        if let Some(why) = self.silent.as_ref().filter(|_| systemds) {
            return Err(EffectError::Refused(format!("{} is left as it is: {why}", row.change.item)));
        }
        match row.change.kind {
            Kind::File => self.file(row).map_err(EffectError::from),
            Kind::Membership => self.membership(row).map_err(EffectError::from),
            Kind::Attribute(attribute) => self.attribute(attribute, row, rows),
            Kind::CreatedDir => self.created_dir(&row.change.path).map_err(EffectError::from),
            Kind::EnabledController => disable(row).map_err(EffectError::from),
            Kind::UnitProperty => self.unit_property(row),
            Kind::TransientUnit => self.transient_unit(row),
        }
    }

    fn created_dir(&mut self, dir: &Path) -> Result<(), CgroupError> {
        if let Some(mark) = Mark::read(dir)
            && mark.owner != self.kernel.roots.owner
        {
            let (dir, owner) = (shown(dir), mark.owner);
            self.report.notes.push(format!("{dir} is the agent's of {owner} by now and was left alone"));
            return Ok(());
        }
        self.empty(dir)?;
        self.remove(dir).map(drop)
    }

    /// Removes an empty cgroup of ours; false when others have made cgroups in it, because of which it stays.
    fn remove(&mut self, dir: &Path) -> Result<bool, CgroupError> {
        let foreign = membership::has_children(dir).unwrap_or(false);
        if foreign {
            self.report.notes.push(format!("{} stays: cgroups of others are in it", shown(dir)));
            return Ok(false);
        }
        subtree::remove(dir).map(|()| true)
    }

    fn file(&mut self, row: &Intent) -> Result<(), CgroupError> {
        let change = &row.change;
        let prior = text(&change.prior);
        let outcome = Knob::open(change.path.clone(), Part::from_item(&change.item)).and_then(|knob| {
            // The cgroup is gone, and another has its path.
            if change.inode != 0 && knob.inode()? != change.inode {
                return Ok(false);
            }
            let now = knob.read()?;
            let ours = now.as_bytes() == change.new || row.superseded.as_deref() == Some(now.as_bytes());
            if ours && now != prior {
                knob.set(&prior)?;
            } else if now != prior {
                let path = shown(&change.path);
                self.report.notes.push(format!(
                    "{path} was set to {now:?} by somebody else since; left so instead of {prior:?}"
                ));
            }
            Ok(true)
        });
        match outcome {
            Ok(false) => Ok(()),
            Err(error) if error.is_gone() => Ok(()),
            Err(error) => Err(error),
            Ok(true) => {
                self.unmark(&change.path, &change.item);
                Ok(())
            }
        }
    }

    fn membership(&mut self, row: &Intent) -> Result<(), CgroupError> {
        let change = &row.change;
        let Some(key) = change.process else { return Ok(()) };
        if !self.is_in(key, &change.path)? {
            return Ok(());
        }
        let origin = PathBuf::from(OsStr::from_bytes(&change.prior));
        self.send(key.pid, &change.path, &origin)
    }

    /// Whether the process is still itself and still where we put it.
    fn is_in(&self, key: ProcKey, dir: &Path) -> Result<bool, CgroupError> {
        let proc = &self.kernel.roots.proc;
        if !is_same(proc, key).map_err(|source| CgroupError::io("read stat of a process in", dir, source))? {
            return Ok(false);
        }
        match Memberships::read(proc, key.pid) {
            Ok(memberships) => Ok(Controller::ALL.into_iter().any(|controller| {
                self.kernel.driver.directory(&memberships, controller).is_ok_and(|path| path.starts_with(dir))
            })),
            Err(_) => Ok(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subtree_is_used_by_whoever_is_in_it_and_not_by_being_there() {
        let mount = tempfile::tempdir().unwrap();
        let own = mount.path().join("pt");
        let used = || (is_used(mount.path(), "pt"), is_used(&own, "pt"));
        assert_eq!(used(), (false, false), "there is none");
        std::fs::create_dir(&own).unwrap();
        std::fs::write(own.join("cgroup.procs"), "").unwrap();
        assert_eq!(used(), (false, false), "it is empty");
        std::fs::write(own.join("cgroup.procs"), "1\n").unwrap();
        assert_eq!(used(), (true, true), "a process is in it");
        std::fs::write(own.join("cgroup.procs"), "").unwrap();
        std::fs::create_dir(own.join("foreign")).unwrap();
        assert_eq!(used(), (true, true), "a cgroup is in it");
        std::fs::remove_dir(own.join("foreign")).unwrap();
        std::fs::write(own.join("cgroup.procs"), "none\n").unwrap();
        assert_eq!(used(), (true, true), "nobody can tell");
    }
}
