//! The groups by name, and by the cgroup that their members make up: a process without a rule is looked up by its
//! cgroup whenever it is judged, and must not cost a search through all groups.

use std::collections::btree_map::{Iter, Values};
use std::collections::{BTreeMap, BTreeSet};

use crate::engine::policy::group::Group;
use crate::model::id::Name;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    all: BTreeMap<Name, Group>,
    /// The groups in force that are at home in a cgroup, by its id; as of when they were looked at last.
    at: BTreeMap<u64, BTreeSet<Name>>,
    /// The same, by group.
    home: BTreeMap<Name, u64>,
    /// Those that may have changed since.
    touched: BTreeSet<Name>,
}

impl Groups {
    pub(crate) fn get(&self, name: &Name) -> Option<&Group> {
        self.all.get(name)
    }

    pub(crate) fn get_mut(&mut self, name: &Name) -> Option<&mut Group> {
        let group = self.all.get_mut(name)?;
        touch(&mut self.touched, name);
        Some(group)
    }

    /// The group of that name, made if there is none.
    pub(crate) fn get_or_make(&mut self, name: &Name, make: impl FnOnce() -> Group) -> &mut Group {
        touch(&mut self.touched, name);
        self.all.entry(name.clone()).or_insert_with(make)
    }

    pub(crate) fn remove(&mut self, name: &Name) {
        if self.all.remove(name).is_some() {
            self.touched.remove(name);
            self.settle(name.clone(), None);
        }
    }

    pub(crate) fn iter(&self) -> Iter<'_, Name, Group> {
        self.all.iter()
    }

    pub(crate) fn values(&self) -> Values<'_, Name, Group> {
        self.all.values()
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The first group in force, by name, whose members make up the cgroup of this id.
    pub(crate) fn at_home(&mut self, id: u64) -> Option<&Name> {
        while let Some(name) = self.touched.pop_first() {
            let home = self.all.get(&name).and_then(Group::home);
            self.settle(name, home);
        }
        self.at.get(&id)?.first()
    }

    fn settle(&mut self, name: Name, home: Option<u64>) {
        if self.home.get(&name).copied() == home {
            return;
        }
        if let Some(old) = self.home.remove(&name)
            && let Some(names) = self.at.get_mut(&old)
        {
            names.remove(&name);
            if names.is_empty() {
                self.at.remove(&old);
            }
        }
        if let Some(home) = home {
            self.at.entry(home).or_default().insert(name.clone());
            self.home.insert(name, home);
        }
    }
}

/// Most are touched already: no copy of the name then.
fn touch(touched: &mut BTreeSet<Name>, name: &Name) {
    if !touched.contains(name) {
        touched.insert(name.clone());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::policy::group::{Member, Origin, Terms};
    use crate::engine::testing::{at, process};
    use crate::engine::view::Membership;
    use crate::model::id::ProcKey;
    use crate::model::limits::{Limits, Scope};
    use crate::model::policy::Policy;
    use crate::model::process::Comm;
    use crate::model::reason::Reason;
    use crate::model::rule::OnConflict;

    /// What can happen to a group, by its number.
    #[derive(Clone, Debug)]
    enum Step {
        Join { group: u8, pid: u32, cgroup: u64 },
        Leave { group: u8, pid: u32 },
        Move { group: u8, pid: u32, cgroup: u64 },
        Force { group: u8, on: bool },
        Drop { group: u8 },
        Ask,
    }

    fn step() -> impl Strategy<Value = Step> {
        let (group, pid, cgroup) = (0..4u8, 1..6u32, 0..4u64);
        let member = (group.clone(), pid.clone(), cgroup.clone());
        prop_oneof![
            4 => member.clone().prop_map(|(group, pid, cgroup)| Step::Join { group, pid, cgroup }),
            2 => (group.clone(), pid).prop_map(|(group, pid)| Step::Leave { group, pid }),
            2 => member.prop_map(|(group, pid, cgroup)| Step::Move { group, pid, cgroup }),
            3 => (group.clone(), any::<bool>()).prop_map(|(group, on)| Step::Force { group, on }),
            1 => group.prop_map(|group| Step::Drop { group }),
            2 => Just(Step::Ask),
        ]
    }

    fn name(group: u8) -> Name {
        format!("g{group}").parse().unwrap()
    }

    fn group(name: &Name) -> Group {
        let terms = Terms {
            origin: Origin::Rule(name.clone()),
            limits: Limits::default(),
            policy: Policy::Fixed,
            scope: Scope::Group,
            allow_move: false,
            on_conflict: OnConflict::default(),
            whole_unit: false,
        };
        Group::new(terms, Reason::Expired, at(1))
    }

    fn join(group: &mut Group, pid: u32, cgroup: u64) {
        let member = Member {
            membership: Membership::Matched,
            comm: Comm::default(),
            cgroup,
            born: false,
            matched: String::new(),
            limited: None,
        };
        group.insert(&process(pid, "x").cgroup(cgroup).build(), member);
    }

    /// The plain search that the index stands for.
    fn search(groups: &Groups, id: u64) -> Option<Name> {
        groups.iter().find(|(_, group)| group.home() == Some(id)).map(|(name, _)| name.clone())
    }

    fn check(groups: &mut Groups) {
        for id in 0..5 {
            let expected = search(groups, id);
            assert_eq!(groups.at_home(id).cloned(), expected, "cgroup {id}");
        }
        let homes = groups.values().filter(|group| group.home().is_some()).count();
        assert_eq!((groups.home.len(), groups.at.values().map(BTreeSet::len).sum::<usize>()), (homes, homes));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn the_index_finds_what_a_search_finds(steps in prop::collection::vec(step(), 0..60)) {
            let mut groups = Groups::default();
            for step in steps {
                match step {
                    Step::Join { group: number, pid, cgroup } => {
                        let name = name(number);
                        join(groups.get_or_make(&name, || group(&name)), pid, cgroup);
                    }
                    Step::Leave { group, pid } => {
                        let left = groups.get_mut(&name(group));
                        left.and_then(|group| group.remove(ProcKey { pid, start: 100 }));
                    }
                    Step::Move { group, pid, cgroup } => {
                        if let Some(group) = groups.get_mut(&name(group)) {
                            group.moved(ProcKey { pid, start: 100 }, cgroup);
                        }
                    }
                    Step::Force { group, on } => {
                        if let Some(group) = groups.get_mut(&name(group)) {
                            group.in_force = on.then(|| at(2));
                        }
                    }
                    Step::Drop { group } => groups.remove(&name(group)),
                    Step::Ask => check(&mut groups),
                }
            }
            check(&mut groups);
        }
    }

    #[test]
    fn the_first_by_name_is_found_until_it_is_gone() {
        let mut groups = Groups::default();
        for number in [2, 1] {
            let name = name(number);
            let made = groups.get_or_make(&name, || group(&name));
            join(made, u32::from(number), 7);
            made.in_force = Some(at(1));
        }
        assert_eq!(groups.at_home(7), Some(&name(1)));
        groups.remove(&name(1));
        assert_eq!((groups.at_home(7).cloned(), groups.at_home(0).cloned()), (Some(name(2)), None));
    }
}
