//! Notes on a cgroup that is limited in place what was there before: a second record, for the day on which the first
//! one is lost. A mark that cannot be made keeps no limit from being set.

use super::Run;
use crate::cgroup::Knob;
use crate::cgroup::mark::{self, Replaced};
use crate::effect::group::Rung;
use crate::effect::plan::Plan;
use crate::store::NewIntent;

impl Run<'_> {
    /// Before these files are written.
    pub(super) fn mark_replaced(&self, plan: &Plan, knobs: &[(Knob, NewIntent)]) {
        for plan in plan.places.iter().filter(|plan| plan.place.rung == Rung::InPlace) {
            for dir in &plan.opened {
                let here = knobs.iter().filter(|(knob, _)| knob.path().parent() == Some(dir.path()));
                mark::add_replaced(dir, &self.kernel().roots.owner, here.filter_map(replaced));
            }
        }
    }
}

fn replaced((knob, change): &(Knob, NewIntent)) -> Option<Replaced> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some(Replaced {
        file: knob.path().file_name()?.to_str()?.to_owned(),
        item: change.item.clone(),
        prior: text(&change.prior),
        new: text(&change.new),
        superseded: None,
    })
}
