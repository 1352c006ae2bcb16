//! Carrying out a plan: record, write, read back, mark; and taking all of it back when a part fails.

mod attributes;
mod marks;
mod moving;
mod systemd;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use self::moving::Begun;
use crate::cgroup::mark::Mark;
use crate::cgroup::{Cgroup as _, Controller, Knob, mark, shown, subtree, v1, v2};
use crate::clock;
use crate::effect::fail_point::Point;
use crate::effect::group::{Group, Place, Rung};
use crate::effect::kernel::{EffectError, Kernel};
use crate::effect::plan::{PlacePlan, Plan};
use crate::effect::protect::Refusal;
use crate::effect::restore::{self, Report};
use crate::effect::throttle::Shared;
use crate::engine::action::Apply;
use crate::model::attribute::Demand;
use crate::model::id::{Name, ProcKey};
use crate::store::{GroupRow, Intent, Kind, NewIntent};

/// Carries out a plan. After an error, what this did is undone and the group is as before.
pub(crate) fn carry_out(
    shared: &Shared,
    apply: &Apply,
    plan: &mut Plan,
    before: Option<&Group>,
    critical: &BTreeSet<ProcKey>,
) -> Result<Group, EffectError> {
    let after = group_after(apply, plan, before);
    let mut run = Run { shared, apply, critical, after: &after, ids: Vec::new(), fresh: Vec::new() };
    match run.all(plan, before) {
        Ok(()) => Ok(after),
        Err(error) => Err(run.take_back(error, before)),
    }
}

fn group_after(apply: &Apply, plan: &Plan, before: Option<&Group>) -> Group {
    let mut places: Vec<Place> = plan.places.iter().map(|plan| plan.place.clone()).collect();
    if let Some(before) = before {
        let kept = |place: &&Place| !plan.places.iter().any(|plan| plan.place.each == place.each);
        places.extend(before.places.iter().filter(kept).cloned());
    }
    places.sort_by_key(|place| place.each);
    Group { limits: apply.limits.clone(), scope: apply.scope, places, dirty: false }
}

pub(super) struct Run<'a> {
    pub(super) shared: &'a Shared,
    pub(super) apply: &'a Apply,
    critical: &'a BTreeSet<ProcKey>,
    after: &'a Group,
    /// Rows recorded by this run.
    ids: Vec<i64>,
    /// Those of them that were not there before.
    pub(super) fresh: Vec<i64>,
}

impl Run<'_> {
    pub(super) fn kernel(&self) -> &Kernel {
        &self.shared.kernel
    }

    fn all(&mut self, plan: &mut Plan, before: Option<&Group>) -> Result<(), EffectError> {
        let begun = Begun::now(&self.kernel().roots.proc, plan);
        self.make_cgroups(plan)?;
        self.make_slices(plan)?;
        let mut knobs = self.open_knobs(plan)?;
        let mut changes: Vec<NewIntent> = knobs.iter().map(|(_, change)| change.clone()).collect();
        let units = self.open_units(plan)?;
        changes.extend(units.iter().flat_map(|unit| unit.changes.iter().cloned()));
        for plan in &plan.places {
            changes.extend(plan.movers.iter().flat_map(|mover| self.membership_changes(&plan.place, mover)));
        }
        let attributes = self.attribute_changes(plan)?;
        changes.extend(attributes.iter().map(|change| self.attribute_intent(change)));
        self.record(&changes)?;
        self.shared.point(Point::Planned);
        // What is so already was recorded only if it is ours.
        knobs.retain(|(_, change)| change.prior != change.new);
        self.mark_replaced(plan, &knobs);
        for (knob, change) in &knobs {
            knob.set(&String::from_utf8_lossy(&change.new))?;
            self.shared.point(Point::Written);
        }
        self.shared.level(&self.apply.group, Some(self.after), &self.apply.reason)?;
        self.set_units(&units)?;
        let mut gone = BTreeSet::new();
        for plan in &plan.places {
            self.move_in(plan, &begun, &mut gone)?;
        }
        self.shared.point(Point::Moved);
        self.verify_units(plan)?;
        self.set_attributes(plan, &attributes)?;
        plan.refused.extend(gone.iter().map(|key| (*key, Refusal::Gone)));
        plan.accepted.retain(|one| !gone.contains(&one.process.key));
        if plan.write || plan.places.iter().any(|plan| plan.replaces.is_some()) {
            self.restore_stale(plan, before)?;
        }
        plan.verified = Some(clock::now());
        let ids = std::mem::take(&mut self.ids);
        if !ids.is_empty() || before != Some(self.after) {
            // Only after the limits hold: the intents are enough to take everything back.
            let row = self.row(self.after);
            self.shared.store().write(|tables| {
                tables.mark_applied(&ids)?;
                tables.put_group(&row)
            })?;
        }
        self.shared.point(Point::Applied);
        Ok(())
    }

    pub(super) fn row(&self, group: &Group) -> GroupRow {
        GroupRow {
            name: self.apply.group.clone(),
            limits: group.limits.clone(),
            scope: group.scope,
            reason: self.apply.reason.clone(),
            how: group.how(),
            // Places are made of numbers and escaped text: they always serialise.
            places: serde_json::to_string(&group.places).unwrap_or_default(),
            until: None,
            changed: clock::unix_millis(clock::wall()),
        }
    }

    /// One transaction: the changes, before any of them is made.
    fn record(&mut self, changes: &[NewIntent]) -> Result<(), EffectError> {
        if changes.is_empty() {
            return Ok(());
        }
        let now = clock::unix_millis(clock::wall());
        let (boot, reason) = (&self.shared.kernel.boot, &self.apply.reason);
        let recorded = self.shared.store().write(|tables| tables.plan_intents(boot, now, reason, changes))?;
        self.ids.extend(recorded.iter().map(|one| one.id));
        self.fresh.extend(recorded.iter().filter(|one| one.fresh).map(|one| one.id));
        Ok(())
    }

    fn change(&self, place: &Place, kind: Kind, path: PathBuf) -> NewIntent {
        NewIntent {
            group: Some(self.apply.group.clone()),
            place: place.label(),
            kind,
            path,
            inode: 0,
            item: String::new(),
            process: None,
            thread: None,
            prior: Vec::new(),
            new: Vec::new(),
        }
    }

    fn make_cgroups(&mut self, plan: &Plan) -> Result<(), EffectError> {
        let mut steps: Vec<NewIntent> = Vec::new();
        for plan in plan.places.iter().filter(|plan| plan.place.rung == Rung::Own && !plan.known) {
            for path in plan.place.paths() {
                let on: Vec<Controller> =
                    plan.place.dirs.iter().filter(|dir| dir.path == path).map(|dir| dir.controller).collect();
                let Some(mount) = on.first().and_then(|one| self.kernel().driver.mount(*one)) else {
                    continue;
                };
                let own = mount.join(&self.kernel().roots.subtree);
                let owned = |change: NewIntent, path: &Path| NewIntent {
                    group: change.group.filter(|_| path != mount && path != own),
                    place: if plan.place.paths().contains(&path) { change.place } else { String::new() },
                    ..change
                };
                self.check_ours(path, &own)?;
                for dir in subtree::missing(mount, path) {
                    steps.push(owned(self.change(&plan.place, Kind::CreatedDir, dir.clone()), &dir));
                }
                for (dir, controller) in self.kernel().driver.to_enable(path, &on)? {
                    let mut change =
                        owned(self.change(&plan.place, Kind::EnabledController, dir.clone()), &dir);
                    change.item = controller.v2_name().to_owned();
                    steps.push(change);
                }
            }
        }
        if steps.is_empty() {
            return Ok(());
        }
        // A cgroup is made before controllers are enabled in it, and both before its children.
        steps.sort_by_key(|step| {
            (step.path.components().count(), step.kind, step.path.clone(), step.item.clone())
        });
        steps.dedup_by(|a, b| a.kind == b.kind && a.path == b.path && a.item == b.item);
        self.record(&steps)?;
        self.shared.point(Point::DirsPlanned);
        for step in &steps {
            match Controller::ALL.into_iter().find(|one| one.v2_name() == step.item) {
                Some(controller) => v2::set_controller(&step.path, controller, true)?,
                None => {
                    subtree::create(&step.path)?;
                    mark::claim(&step.path, &self.kernel().roots.owner);
                }
            }
            self.shared.point(Point::DirMade);
        }
        Ok(())
    }

    /// Nobody else's cgroup becomes ours because it has the name of one.
    fn check_ours(&self, path: &Path, own: &Path) -> Result<(), EffectError> {
        let below = |dir: &&Path| dir.starts_with(own) && *dir != own;
        for dir in path.ancestors().take_while(below).filter(|dir| dir.exists()) {
            if Mark::read(dir).is_some_and(|mark| mark.owner == self.kernel().roots.owner) {
                continue;
            }
            let rows = self.shared.store().read(|tables| tables.intents_of(&self.apply.group))?;
            if !rows.iter().any(|row| row.change.kind == Kind::CreatedDir && row.change.path == dir) {
                let why = format!("cgroup {} exists already and is not ours", shown(dir));
                return Err(EffectError::Refused(why));
            }
        }
        Ok(())
    }

    /// Opens every file to be written and reads what is in it; an unsupported limit ends here.
    fn open_knobs(&self, plan: &mut Plan) -> Result<Vec<(Knob, NewIntent)>, EffectError> {
        let mut knobs = Vec::new();
        let write = plan.write;
        let written = |place: &&mut PlacePlan| (write || !place.known) && !place.place.rung.is_systemds();
        for place in plan.places.iter_mut().filter(written) {
            for setting in &plan.settings {
                let Some(dir) = place.open(setting.controller)? else { continue };
                let (knob, value) = setting.open(dir)?;
                let change = NewIntent {
                    item: knob.part().to_item(),
                    inode: knob.inode()?,
                    prior: knob.read()?.into_bytes(),
                    new: value.as_bytes().to_vec(),
                    ..self.change(&place.place, Kind::File, knob.path().to_owned())
                };
                knobs.push((knob, change));
            }
        }
        knobs.sort_by_key(|(knob, change)| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            v1::cpu_period_last(knob.path(), &text(&change.prior), &text(&change.new))
        });
        Ok(knobs)
    }

    /// Restores what an earlier application set and this one does not ask for.
    fn restore_stale(&self, plan: &Plan, before: Option<&Group>) -> Result<(), EffectError> {
        if before.is_none() {
            return Ok(());
        }
        let wanted: BTreeSet<(PathBuf, String)> = self
            .after
            .places
            .iter()
            .flat_map(|place| {
                plan.settings.iter().filter_map(|setting| Some((place.dir(setting.controller)?, setting)))
            })
            .flat_map(|(dir, setting)| {
                setting.choices.iter().map(|choice| (dir.join(choice.file), choice.part.to_item()))
            })
            .collect();
        let demanded: Vec<_> = plan.demands.iter().map(Demand::attribute).collect();
        let mut rows = self.shared.store().read(|tables| tables.intents_of(&self.apply.group))?;
        rows.retain(|row| match row.change.kind {
            Kind::File => !wanted.contains(&(row.change.path.clone(), row.change.item.clone())),
            Kind::Attribute(attribute) => !demanded.contains(&attribute),
            Kind::UnitProperty => !self.is_wanted(plan, &row.change.item),
            Kind::Membership | Kind::CreatedDir | Kind::EnabledController | Kind::TransientUnit => false,
        });
        if rows.is_empty() {
            return Ok(());
        }
        let mut report = Report::default();
        let undone = restore::undo(self.kernel(), rows, &mut report);
        restore::log_notes(&report);
        self.shared.store().write(|tables| tables.delete_intents(&undone.ids))?;
        if report.failures.is_empty() {
            Ok(())
        } else {
            Err(EffectError::Refused(report.failures.join("; ")))
        }
    }
}

/// The group of a released name, for callers that only have the rows.
pub(crate) fn groups_of(rows: &[Intent]) -> BTreeSet<Name> {
    rows.iter().filter_map(|row| row.change.group.clone()).collect()
}
