//! What the cgroups of ours weigh that groups are in.
//!
//! A CPU weight counts among siblings only. A group in our root cgroup is a sibling of our other groups, and all of them
//! together have what the root weighs against everybody outside: a group that is alone in it would give way to nobody
//! at any weight. So the root weighs what its groups do together, but never more than it did before us; and
//! likewise the cgroup of a group whose processes have one each.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{MutexGuard, PoisonError};

use crate::cgroup::{Cgroup as _, Controller, Dir, Knob};
use crate::clock;
use crate::effect::group::{Group, Rung};
use crate::effect::kernel::{EffectError, Kernel};
use crate::effect::throttle::Shared;
use crate::model::id::Name;
use crate::model::limits::Limits;
use crate::model::reason::Reason;
use crate::model::unit::Weight;
use crate::store::{Intent, Kind, NewIntent};

/// What every cgroup weighs that was told nothing else. From there on nothing is levelled.
const USUAL: u64 = 100;

/// What is known of the weights.
#[derive(Debug, Default)]
pub(super) struct Weights {
    /// What each group weighs in our root.
    groups: BTreeMap<Name, u64>,
    /// The cgroups whose weight we have set.
    levelled: BTreeSet<PathBuf>,
}

impl Weights {
    /// Those that an earlier executor has left.
    pub(super) fn of<'a>(
        kernel: &Kernel,
        groups: impl Iterator<Item = (&'a Name, &'a Group)>,
        shared: &[Intent],
    ) -> Self {
        let Some(root) = root(kernel) else { return Self::default() };
        let weighs = |(name, group): (&Name, &Group)| Some((name.clone(), weighs(group, &root)?.in_root()));
        let levels = shared.iter().filter(|row| row.change.kind == Kind::File);
        Self {
            groups: groups.filter_map(weighs).collect(),
            levelled: levels.filter_map(|row| row.change.path.parent().map(Path::to_owned)).collect(),
        }
    }
}

/// What a group weighs.
struct Weighs {
    /// All its cgroups together.
    all: u64,
    /// Whether each of its processes has one, below that of the group.
    each: bool,
}

impl Weighs {
    /// What it weighs in our root.
    fn in_root(&self) -> u64 {
        if self.each { self.all.min(USUAL) } else { self.all }
    }
}

impl Shared {
    /// Has our root weigh what its groups do together, `group` being what this one is from now on.
    ///
    /// # Errors
    /// When a weight cannot be recorded or written; then it is as before.
    pub(super) fn level(
        &self,
        name: &Name,
        group: Option<&Group>,
        reason: &Reason,
    ) -> Result<(), EffectError> {
        let Some(root) = root(&self.kernel) else { return Ok(()) };
        let now = group.and_then(|group| weighs(group, &root));
        let own = root.join(name.as_str());
        let mut weights = self.weights();
        let each = now.as_ref().filter(|now| now.each).map(|now| now.all);
        self.set_level(&mut weights, &own, each, reason)?;
        let before = weights.groups.get(name).copied();
        let after = now.map(|now| now.in_root());
        if before == after {
            return Ok(());
        }
        note(&mut weights, name, after);
        let all = (!weights.groups.is_empty())
            .then(|| weights.groups.values().fold(0, |sum: u64, weight| sum.saturating_add(*weight)));
        let result = self.set_level(&mut weights, &root, all, reason);
        if result.is_err() {
            note(&mut weights, name, before);
        }
        result
    }

    /// Forgets all of it: everything was lifted.
    pub(super) fn forget_weights(&self) {
        *self.weights() = Weights::default();
    }

    fn weights(&self) -> MutexGuard<'_, Weights> {
        self.weights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets what a cgroup weighs; as before us, where that is the usual.
    fn set_level(
        &self,
        weights: &mut Weights,
        dir: &Path,
        sum: Option<u64>,
        reason: &Reason,
    ) -> Result<(), EffectError> {
        let lower = sum.filter(|sum| *sum < USUAL);
        if lower.is_none() && !weights.levelled.contains(dir) {
            return Ok(());
        }
        let rows = self.store().read(|tables| tables.shared_intents())?;
        let is_of = |row: &&Intent| row.change.kind == Kind::File && row.change.path.parent() == Some(dir);
        let row = rows.iter().find(is_of);
        let forget = |weights: &mut Weights| {
            weights.levelled.remove(dir);
            let ids: Vec<i64> = row.iter().map(|row| row.id).collect();
            self.store().write(|tables| tables.delete_intents(&ids)).map_err(EffectError::from)
        };
        if !dir.exists() {
            return forget(weights);
        }
        let limits = Limits { cpu_weight: Weight::new(lower.unwrap_or(USUAL)), ..Limits::default() };
        let settings = self.kernel.driver.settings(&limits)?;
        let Some(setting) = settings.first() else { return Ok(()) };
        let opened = Dir::open(dir)?;
        let (knob, value) = setting.open(&opened)?;
        let now = knob.read()?;
        let of_ours = |row: &&Intent| {
            row.change.new == now.as_bytes() || row.superseded.as_deref() == Some(now.as_bytes())
        };
        // A value that somebody else has set since is the one to go back to.
        let prior = row
            .filter(of_ours)
            .map_or_else(|| now.clone(), |row| String::from_utf8_lossy(&row.change.prior).into_owned());
        let wanted = if lower.is_some() && is_less(value, &prior) { value.to_owned() } else { prior.clone() };
        if wanted == prior {
            if now != wanted {
                knob.set(&wanted)?;
            }
            return forget(weights);
        }
        if now != wanted {
            self.write_level(&knob, now, &wanted, reason)?;
        }
        weights.levelled.insert(dir.to_owned());
        Ok(())
    }

    /// Records, writes, reads back, marks.
    fn write_level(
        &self,
        knob: &Knob,
        now: String,
        wanted: &str,
        reason: &Reason,
    ) -> Result<(), EffectError> {
        let change = NewIntent {
            group: None,
            place: String::new(),
            kind: Kind::File,
            path: knob.path().to_owned(),
            inode: knob.inode()?,
            item: knob.part().to_item(),
            process: None,
            thread: None,
            prior: now.clone().into_bytes(),
            new: wanted.as_bytes().to_vec(),
        };
        let (boot, at) = (&self.kernel.boot, clock::unix_millis(clock::wall()));
        let recorded = self
            .store()
            .write(|tables| tables.plan_intents(boot, at, reason, std::slice::from_ref(&change)))?;
        let ids: Vec<i64> = recorded.iter().map(|one| one.id).collect();
        let Err(error) = knob.set(wanted) else {
            return Ok(self.store().write(|tables| tables.mark_applied(&ids))?);
        };
        // The kernel may have taken another value than it was given.
        if knob.read()? != now {
            knob.set(&now)?;
        }
        self.store().write(|tables| {
            recorded.iter().try_for_each(|one| {
                if one.fresh { tables.delete_intents(&[one.id]) } else { tables.revert_intent(one.id) }
            })
        })?;
        Err(error.into())
    }
}

fn note(weights: &mut Weights, name: &Name, weight: Option<u64>) {
    match weight {
        Some(weight) => drop(weights.groups.insert(name.clone(), weight)),
        None => drop(weights.groups.remove(name)),
    }
}

/// Our root in the hierarchy that has the CPU controller.
fn root(kernel: &Kernel) -> Option<PathBuf> {
    kernel.driver.mount(Controller::Cpu).map(|mount| mount.join(&kernel.roots.subtree))
}

/// What a group weighs in our root, if it has a cgroup there.
fn weighs(group: &Group, root: &Path) -> Option<Weighs> {
    let there = group.places.iter().filter(|place| {
        place.rung == Rung::Own && place.paths().into_iter().any(|path| path.starts_with(root))
    });
    let (mut count, mut each) = (0, false);
    for place in there {
        count += 1;
        each |= place.each.is_some();
    }
    let weight = group.limits.cpu_weight.map_or(USUAL, |weight| weight.get().into());
    (count > 0).then(|| Weighs { all: weight.saturating_mul(count), each })
}

/// Whether a weight as the kernel shows it is less than another.
fn is_less(value: &str, other: &str) -> bool {
    let number = |text: &str| text.parse::<u64>().ok();
    number(value).zip(number(other)).is_some_and(|(value, other)| value < other)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use crate::cgroup::Controller::Cpu;
    use crate::effect::bed::{Bed, applied, apply, limits, release, run};
    use crate::effect::restore;
    use crate::engine::action::{Apply, What};
    use crate::model::id::ProcKey;
    use crate::model::limits::Scope;
    use crate::store::Tables;

    /// What our root weighs, in the unit of v2; `None` when it is gone.
    fn root_weighs(bed: &Bed) -> Option<u64> {
        weighs(bed, &bed.own(Cpu, ""))
    }

    fn weighs(bed: &Bed, dir: &Path) -> Option<u64> {
        let (file, usual) = if bed.is_v2() { ("cpu.weight", 100) } else { ("cpu.shares", 1_024) };
        let text = fs::read_to_string(dir.join(file)).ok()?;
        // As in `convert`, and back.
        let weight = text.trim_end().parse::<u64>().ok()?;
        Some((weight * 100 + usual / 2) / usual)
    }

    fn weighing(group: &str, weight: &str, members: &[ProcKey]) -> What {
        What::Apply(apply(group, limits(&[("cpu_weight", weight)]), members))
    }

    #[test]
    fn our_root_weighs_what_its_groups_do_and_no_more_than_before() {
        let mut bed = Bed::new();
        let (a, b) = (bed.sleeper(), bed.sleeper());
        let throttle = bed.throttle();
        assert_eq!(applied(run(&throttle, weighing("a", "10", &[a]))).0, "by moving");
        assert_eq!(root_weighs(&bed), Some(10));
        run(&throttle, weighing("b", "25", &[b]));
        assert_eq!(root_weighs(&bed), Some(35));
        run(&throttle, weighing("b", "2000", &[b]));
        assert_eq!(root_weighs(&bed), Some(100), "heavier than the usual is for among ourselves");
        run(&throttle, weighing("b", "5", &[b]));
        assert_eq!(root_weighs(&bed), Some(15));
        run(&throttle, release("a"));
        assert_eq!(root_weighs(&bed), Some(5));
        let quota = What::Apply(apply("c", limits(&[("cpu", "30%")]), &[a]));
        run(&throttle, quota);
        assert_eq!(root_weighs(&bed), Some(100), "what has no weight has the usual one");
        run(&throttle, release("c"));
        run(&throttle, release("b"));
        assert_eq!(root_weighs(&bed), None);
        assert_eq!(bed.store().read(Tables::intents).unwrap(), []);
    }

    #[test]
    fn what_it_weighed_before_comes_back() {
        let mut bed = Bed::new();
        let a = bed.sleeper();
        let root = bed.own(Cpu, "");
        fs::create_dir(&root).unwrap();
        let file = root.join(if bed.is_v2() { "cpu.weight" } else { "cpu.shares" });
        fs::write(&file, "70").unwrap();
        let throttle = bed.throttle();
        let now = || fs::read_to_string(&file).unwrap().trim_end().to_owned();
        run(&throttle, weighing("a", "1", &[a]));
        assert_ne!(now(), "70");
        run(&throttle, release("a"));
        assert_eq!(now(), "70");
        // And after a death, from the records alone.
        run(&throttle, weighing("a", "1", &[a]));
        drop(throttle);
        assert_ne!(now(), "70");
        let report = restore::recover(&bed.kernel, &mut bed.store()).unwrap();
        assert_eq!((report.failures, now().as_str()), (Vec::new(), "70"));
        assert_eq!(bed.store().read(Tables::intents).unwrap(), []);
    }

    #[test]
    fn an_executor_that_takes_over_goes_on() {
        let mut bed = Bed::new();
        let (a, b) = (bed.sleeper(), bed.sleeper());
        let throttle = bed.throttle();
        run(&throttle, weighing("a", "10", &[a]));
        drop(throttle);
        let throttle = bed.throttle();
        run(&throttle, weighing("b", "20", &[b]));
        assert_eq!(root_weighs(&bed), Some(30));
        run(&throttle, release("a"));
        assert_eq!(root_weighs(&bed), Some(20));
        run(&throttle, release("b"));
        assert_eq!(root_weighs(&bed), None);
    }

    #[test]
    fn processes_with_a_cgroup_each_weigh_no_more_than_all_of_them() {
        let mut bed = Bed::new();
        let (a, b) = (bed.sleeper(), bed.sleeper());
        let throttle = bed.throttle();
        let each = |members: &[ProcKey]| {
            let all = apply("g", limits(&[("cpu_weight", "20")]), members);
            What::Apply(Apply { scope: Scope::Process, ..all })
        };
        run(&throttle, each(&[a]));
        let group = &bed.own(Cpu, "g");
        assert_eq!((root_weighs(&bed), weighs(&bed, group)), (Some(20), Some(20)));
        run(&throttle, each(&[b]));
        assert_eq!((root_weighs(&bed), weighs(&bed, group)), (Some(40), Some(40)));
        run(&throttle, release("g"));
        assert_eq!(root_weighs(&bed), None);
        assert_eq!(bed.store().read(Tables::intents).unwrap(), []);
    }
}
