//! The part of restoring that needs no records: cgroups that were limited in place tell by their marks what they had
//! before. What processes had themselves, such as nice values, is on record only.

use std::path::{Component, Path};

use super::{Report, Restorer, undo};
use crate::cgroup::mark::{self, Mark, Replaced};
use crate::cgroup::{Cgroup as _, Controller, find, shown};
use crate::effect::kernel::Kernel;
use crate::model::chain::chain;
use crate::store::{Intent, IntentState, Kind, NewIntent};

/// Most cgroups of a hierarchy that are looked at: a second's work, and several times what large hosts have.
const LOOKED_AT_MAX: usize = 65_536;

/// Puts back the values that marks of this agent tell of. What is on record was put back before, and its marks are
/// gone with it.
pub(super) fn restore_marked(kernel: &Kernel, report: &mut Report) {
    let mut mounts: Vec<&Path> =
        Controller::ALL.into_iter().filter_map(|one| kernel.driver.mount(one)).collect();
    mounts.sort_unstable();
    mounts.dedup();
    for mount in mounts {
        let (dirs, complete) = match find::nearest(mount, LOOKED_AT_MAX) {
            Ok(found) => found,
            Err(error) => {
                report.notes.push(format!("no marks were looked for: {}", chain(&error)));
                continue;
            }
        };
        if !complete {
            report.notes.push(format!(
                "marks were looked for on the {LOOKED_AT_MAX} cgroups nearest to {}",
                shown(mount)
            ));
        }
        for dir in dirs {
            let Some(mark) = Mark::read(&dir).filter(|mark| mark.owner == kernel.roots.owner) else {
                continue;
            };
            let rows: Vec<Intent> = mark.replaced.iter().filter_map(|one| row(kernel, &dir, one)).collect();
            if !rows.is_empty() {
                report.notes.push(format!("{} was limited without a record", shown(&dir)));
                undo(kernel, rows, report);
            }
        }
    }
}

impl Restorer<'_> {
    /// A value is no longer ours.
    pub(super) fn unmark(&self, path: &Path, item: &str) {
        let Some((dir, file)) = path.parent().zip(path.file_name().and_then(|name| name.to_str())) else {
            return;
        };
        let own = self.mount_of(dir).join(&self.kernel.roots.subtree);
        // A cgroup of our own goes with its mark.
        if !dir.starts_with(own) {
            mark::forget_replaced(dir, &self.kernel.roots.owner, file, item);
        }
    }
}

/// What a record would have said.
fn row(kernel: &Kernel, dir: &Path, one: &Replaced) -> Option<Intent> {
    let mut components = Path::new(&one.file).components();
    let (Some(Component::Normal(file)), None) = (components.next(), components.next()) else { return None };
    Some(Intent {
        id: 0,
        boot: kernel.boot.clone(),
        change: NewIntent {
            group: None,
            place: String::new(),
            kind: Kind::File,
            path: dir.join(file),
            // The mark is on the cgroup itself.
            inode: 0,
            item: one.item.clone(),
            process: None,
            thread: None,
            prior: one.prior.clone().into_bytes(),
            new: one.new.clone().into_bytes(),
        },
        reason: String::new(),
        superseded: one.superseded.clone().map(String::into_bytes),
        state: IntentState::Planned,
        created: 0,
    })
}
