//! What operators have asked for and not taken back: the groups that come back when the agent does. Only keeps
//! books; what is limited is the engine's business.

use std::collections::{BTreeMap, BTreeSet};

use crate::cgroup::membership;
use crate::effect::group::Group;
use crate::effect::{Kernel, Throttle};
use crate::model::chain::chain;
use crate::model::id::{Name, ProcKey};
use crate::model::process::Process;
use crate::model::time::Timestamp;
use crate::procfs::{Proc, ProcError};
use crate::store::{GroupRow, Store, StoreError, Wish};

/// Groups made by hand, by the name that the operator gave, and who is in them now.
pub type Made = BTreeMap<Name, Vec<ProcKey>>;

/// The wishes, in memory and on record.
#[derive(Debug, Default)]
pub struct Wishes {
    kept: BTreeMap<Name, Wish>,
    /// Those that differ from what is on record.
    unsaved: BTreeSet<Name>,
}

impl Wishes {
    /// What is on record, with the processes that were born in the groups since. Call it before limits that an
    /// earlier agent left are lifted: afterwards nobody can tell who was born where. What cannot be written down,
    /// on a full disk, is logged and holds all the same.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn recover(kernel: &Kernel, store: &mut Store) -> Result<Self, StoreError> {
        let noted = |done: Result<(), StoreError>| {
            if let Err(error) = done {
                tracing::warn!("limits set by hand cannot be written down: {}", chain(&error));
            }
        };
        noted(store.write(|tables| tables.forget_wishes_of_other_boots(&kernel.boot)));
        let read = |tables: &crate::store::Tables| {
            Ok::<_, StoreError>((tables.wishes(&kernel.boot)?, tables.groups()?))
        };
        let (mut wishes, groups) = store.read(read)?;
        for wish in &mut wishes {
            match heirs(kernel, wish, &groups) {
                Ok(heirs) if heirs.is_empty() => {}
                Ok(heirs) => {
                    wish.set_members(wish.members.iter().copied().chain(heirs).collect::<Vec<_>>());
                    noted(store.write(|tables| tables.put_wish(&kernel.boot, wish)));
                }
                Err(error) => {
                    tracing::warn!("who was born in group {} cannot be told: {}", wish.name, chain(&error));
                }
            }
        }
        let kept = wishes.into_iter().map(|wish| (wish.name.clone(), wish)).collect();
        Ok(Self { kept, unsaved: BTreeSet::new() })
    }

    /// Whether nothing is wished for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// The wish for this group.
    #[must_use]
    pub fn get(&self, name: &Name) -> Option<&Wish> {
        self.kept.get(name)
    }

    /// The wishes, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Wish> {
        self.kept.values()
    }

    /// Adds a wish, or replaces the one of its name.
    pub fn put(&mut self, wish: Wish) {
        self.unsaved.insert(wish.name.clone());
        self.kept.insert(wish.name.clone(), wish);
    }

    /// Takes over who is in the groups now. Whoever is in another group by now has left the first.
    pub fn follow(&mut self, made: &Made) {
        let placed: BTreeSet<ProcKey> = made.values().flatten().copied().collect();
        for (name, wish) in &mut self.kept {
            let before = wish.members.clone();
            match made.get(name) {
                // Seen empty, a group may still turn out to hold somebody.
                Some(members) if members.is_empty() => {}
                Some(members) => wish.set_members(members.iter().copied()),
                None => wish.members.retain(|key| !placed.contains(key)),
            }
            if wish.members != before {
                self.unsaved.insert(name.clone());
            }
        }
        self.drop_those(|wish| wish.members.is_empty());
    }

    /// Takes a wish back.
    pub fn forget(&mut self, name: &Name) {
        self.drop_those(|wish| wish.name == *name);
    }

    /// Takes back what was wished for these processes.
    pub fn forget_processes(&mut self, keys: &BTreeSet<ProcKey>) {
        for (name, wish) in &mut self.kept {
            let before = wish.members.len();
            wish.members.retain(|key| !keys.contains(key));
            if wish.members.len() != before {
                self.unsaved.insert(name.clone());
            }
        }
        self.drop_those(|wish| wish.members.is_empty());
    }

    /// Takes everything back.
    pub fn clear(&mut self) {
        self.drop_those(|_| true);
    }

    /// Drops the wishes whose time is up, and returns their names.
    pub fn expire(&mut self, now: Timestamp) -> Vec<Name> {
        self.drop_those(|wish| wish.is_over(now))
    }

    /// Drops the wishes that have neither a group nor, as `lives` tells, a process left.
    pub fn bury(&mut self, made: &Made, lives: impl Fn(ProcKey) -> bool) {
        self.drop_those(|wish| !made.contains_key(&wish.name) && !wish.members.iter().any(|key| lives(*key)));
    }

    /// Puts on record what has changed. What cannot be written now is written with the next change.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn save(&mut self, executor: &Throttle) -> Result<(), StoreError> {
        if self.unsaved.is_empty() {
            return Ok(());
        }
        let boot = &executor.kernel().boot;
        executor.record(|tables| {
            self.unsaved.iter().try_for_each(|name| match self.kept.get(name) {
                Some(wish) => tables.put_wish(boot, wish),
                None => tables.delete_wish(name),
            })
        })?;
        self.unsaved.clear();
        Ok(())
    }

    fn drop_those(&mut self, unwanted: impl Fn(&Wish) -> bool) -> Vec<Name> {
        let names: Vec<Name> =
            self.kept.values().filter(|wish| unwanted(wish)).map(|wish| wish.name.clone()).collect();
        for name in &names {
            self.kept.remove(name);
        }
        self.unsaved.extend(names.iter().cloned());
        names
    }
}

/// Who is in the cgroups of a wish's groups and is not named by it. In a cgroup that was not made for the group,
/// only children of its processes count and those whose parent is gone: others were put there by somebody else.
fn heirs(kernel: &Kernel, wish: &Wish, rows: &[GroupRow]) -> Result<Vec<ProcKey>, ProcError> {
    let proc = Proc::open(&kernel.roots.proc)?;
    let own = |row: &&GroupRow| row.name == wish.name || row.reason == wish.reason;
    let groups = rows.iter().filter(own).filter_map(|row| Group::from_row(row, true));
    let mut heirs: Vec<ProcKey> = Vec::new();
    for place in groups.flat_map(|group| group.places) {
        let mut pids: BTreeSet<u32> = BTreeSet::new();
        for path in place.paths() {
            // A cgroup that is gone holds nobody.
            pids.extend(membership::members(path).unwrap_or_default());
        }
        let mut there: Vec<Process> = Vec::new();
        for pid in pids {
            there.extend(proc.process(pid)?);
        }
        there.retain(|process| !wish.members.contains(&process.key));
        if place.rung.moves() {
            heirs.extend(there.iter().map(|process| process.key));
        } else if !wish.whole_unit {
            let named = wish.members.iter().map(|key| key.pid);
            let born: BTreeSet<u32> = named.chain(there.iter().map(|process| process.key.pid)).collect();
            let child = |process: &&Process| process.ppid == 1 || born.contains(&process.ppid);
            heirs.extend(there.iter().filter(child).map(|process| process.key));
        }
    }
    Ok(heirs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::limits::{Limits, Scope};
    use crate::model::reason::Reason;

    fn key(pid: u32) -> ProcKey {
        ProcKey { pid, start: 1 }
    }

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn wishes(groups: &[(&str, &[u32], Option<u64>)]) -> Wishes {
        let mut wishes = Wishes::default();
        for (group, pids, until) in groups {
            wishes.put(Wish {
                name: name(group),
                limits: Limits::default(),
                scope: Scope::Group,
                allow_move: true,
                whole_unit: false,
                policy: crate::model::policy::Policy::Fixed,
                members: pids.iter().map(|pid| key(*pid)).collect(),
                until: until.map(Timestamp::from_nanos),
                reason: Reason::Operator { uid: 0, request: (*group).to_owned() },
                created: 0,
            });
        }
        wishes.unsaved.clear();
        wishes
    }

    fn told(wishes: &Wishes) -> Vec<(&str, Vec<u32>)> {
        wishes
            .iter()
            .map(|wish| (wish.name.as_str(), wish.members.iter().map(|key| key.pid).collect()))
            .collect()
    }

    #[test]
    fn members_follow_their_groups() {
        let mut wishes = wishes(&[("a", &[1, 2], None), ("b", &[3], None), ("c", &[4], None)]);
        // 2 was put into c, 5 was born in a; nothing limits b now.
        let made = BTreeMap::from([(name("a"), vec![key(1), key(5)]), (name("c"), vec![key(4), key(2)])]);
        wishes.follow(&made);
        assert_eq!(told(&wishes), [("a", vec![1, 5]), ("b", vec![3]), ("c", vec![2, 4])]);
        assert_eq!(wishes.unsaved, BTreeSet::from([name("a"), name("c")]));
        // 3 moves on: nobody is left of b.
        wishes.follow(&BTreeMap::from([(name("c"), vec![key(3)])]));
        assert_eq!(told(&wishes), [("a", vec![1, 5]), ("c", vec![3])]);
    }

    #[test]
    fn what_is_released_is_forgotten() {
        let mut wishes = wishes(&[("a", &[1, 2], None), ("b", &[3], None), ("c", &[4], None)]);
        wishes.forget_processes(&BTreeSet::from([key(1), key(3)]));
        assert_eq!(told(&wishes), [("a", vec![2]), ("c", vec![4])]);
        wishes.forget(&name("a"));
        assert_eq!(told(&wishes), [("c", vec![4])]);
        wishes.clear();
        assert!(wishes.is_empty());
        assert_eq!(wishes.unsaved, BTreeSet::from([name("a"), name("b"), name("c")]));
    }

    #[test]
    fn a_wish_ends_with_its_time_and_with_its_last_process() {
        let mut wishes =
            wishes(&[("a", &[1], Some(9)), ("b", &[2], Some(10)), ("c", &[3], None), ("d", &[4], None)]);
        assert_eq!(wishes.expire(Timestamp::from_nanos(9)), [name("a")]);
        // Nobody named lives, but somebody born in the group of c does.
        wishes.bury(&BTreeMap::from([(name("c"), vec![key(30)])]), |key| key.pid == 2);
        assert_eq!(told(&wishes), [("b", vec![2]), ("c", vec![3])]);
    }
}
