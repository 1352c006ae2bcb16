//! Values of groups that somebody else changed, and processes that came into their cgroups: noticed by the files that were
//! written, and told to the engine, which decides.

use std::time::Duration;

use crate::clock;
use crate::daemon::turn::Turn;
use crate::effect::drift::Written;
use crate::engine::input::Input;
use crate::model::id::Name;

/// Between looks at who came into limited cgroups: a snapshot each, which others can bring about.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

impl Turn {
    /// Compares the values of the groups whose files somebody wrote.
    pub(super) fn watch_values(&mut self) {
        let now = clock::now();
        let Written { groups, entered } = self.parts.drift.written();
        for group in groups {
            // One that gave way to another group on the same cgroup has no values any more.
            if self.parts.throttle.with_group(&group, |_| ()).is_some() {
                self.tell_clashes(&group);
            }
        }
        if entered {
            self.look.get_or_insert_with(|| self.looked.after(LOOK_INTERVAL).max(now));
        }
        if self.look.is_some_and(|at| at <= now) {
            (self.look, self.looked) = (None, now);
            if let Err(error) = self.snapshot() {
                tracing::error!(%error, "cannot look who came into a limited cgroup");
            }
        }
    }

    pub(super) fn tell_clashes(&mut self, group: &Name) {
        if let Some(clashes) = self.parts.drift.compare(group) {
            self.feed(Input::Clashes { group: group.clone(), clashes }, clock::now());
        }
    }
}
