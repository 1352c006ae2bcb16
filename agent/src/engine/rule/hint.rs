//! Which hints let the kernel side report a rule's processes at once. Hints may report too much, and what
//! they miss is found by the sweep; they decide nothing.

use std::collections::BTreeSet;

use agent_common::abi::{PREFIX_ENTRIES, RULE_ENTRIES};

use crate::engine::rule::RuleSet;
use crate::engine::rule::matcher::{Matcher, Text};
use crate::model::hints::Hints;
use crate::model::process::Comm;

impl RuleSet {
    /// The hints of all enabled rules and of all critical processes.
    #[must_use]
    pub fn hints(&self) -> Hints {
        let mut all = Cover { complete: true, ..Cover::default() };
        let rules = self.rules.iter().filter(|rule| rule.spec.enabled).map(|rule| &rule.matcher);
        for matcher in self.criticals.iter().map(|critical| &critical.matcher).chain(rules) {
            all.merge(cover(matcher));
        }
        all.into_hints()
    }
}

/// Hints for a condition.
#[derive(Debug, Default)]
struct Cover {
    comms: BTreeSet<Comm>,
    prefixes: BTreeSet<Vec<u8>>,
    uids: BTreeSet<u32>,
    /// Whether every process that satisfies the condition satisfies a hint at its exec.
    complete: bool,
}

impl Cover {
    fn merge(&mut self, other: Self) {
        self.comms.extend(other.comms);
        self.prefixes.extend(other.prefixes);
        self.uids.extend(other.uids);
        self.complete &= other.complete;
    }

    /// How many processes it wakes the agent for, roughly: lower is better.
    fn breadth(&self) -> (bool, bool, usize) {
        (!self.uids.is_empty(), !self.prefixes.is_empty(), self.comms.len() + self.prefixes.len())
    }

    fn into_hints(self) -> Hints {
        let fits = self.comms.len() <= RULE_ENTRIES as usize
            && self.uids.len() <= RULE_ENTRIES as usize
            && self.prefixes.len() <= PREFIX_ENTRIES as usize;
        Hints {
            comms: self.comms.into_iter().take(RULE_ENTRIES as usize).collect(),
            prefixes: self.prefixes.into_iter().take(PREFIX_ENTRIES as usize).collect(),
            uids: self.uids.into_iter().take(RULE_ENTRIES as usize).collect(),
            cgroups: Vec::new(),
            eager: !(self.complete && fits),
        }
    }
}

fn cover(matcher: &Matcher) -> Cover {
    match matcher {
        Matcher::Any(items) => {
            let mut all = Cover { complete: true, ..Cover::default() };
            items.iter().for_each(|item| all.merge(cover(item)));
            all
        }
        Matcher::All(items) => {
            let covers: Vec<Cover> = items.iter().map(cover).collect();
            // One complete item covers them all; without one, approximations are better than nothing.
            let (complete, partial): (Vec<_>, Vec<_>) = covers.into_iter().partition(|cover| cover.complete);
            complete.into_iter().min_by_key(Cover::breadth).unwrap_or_else(|| {
                partial.into_iter().fold(Cover::default(), |mut all, cover| {
                    all.merge(cover);
                    all
                })
            })
        }
        Matcher::Comm(Text::Exact(comm)) => comm_cover(comm, true),
        Matcher::Comm(Text::Prefix(prefix)) => prefix_cover(prefix),
        Matcher::Comm(Text::Glob(glob)) => prefix_cover(glob.head()),
        // An exec sets comm to the name it was called by, which a link or a script may make another one.
        Matcher::Exe(Text::Exact(path)) => {
            comm_cover(path.rsplit(|byte| *byte == b'/').next().unwrap_or(path), false)
        }
        Matcher::Uid(uid) | Matcher::User { uid, .. } if *uid != 0 => {
            Cover { uids: BTreeSet::from([*uid]), complete: true, ..Cover::default() }
        }
        // Whoever is named by pid is alive already, and the snapshot reports it.
        Matcher::Pid(_) => Cover { complete: true, ..Cover::default() },
        Matcher::Comm(Text::Regex(..))
        | Matcher::Exe(Text::Prefix(_) | Text::Glob(_) | Text::Regex(..))
        | Matcher::Cmdline(_)
        | Matcher::Uid(_)
        | Matcher::User { .. }
        | Matcher::Group { .. }
        | Matcher::Cgroup(_)
        | Matcher::Parent(_)
        | Matcher::Not(_) => Cover::default(),
    }
}

fn comm_cover(name: &[u8], complete: bool) -> Cover {
    Cover { comms: BTreeSet::from([Comm::from_bytes(name)]), complete, ..Cover::default() }
}

fn prefix_cover(prefix: &[u8]) -> Cover {
    if prefix.is_empty() {
        return Cover::default();
    }
    let prefix = Comm::from_bytes(prefix).bytes().to_vec();
    Cover { prefixes: BTreeSet::from([prefix]), complete: true, ..Cover::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::rule::testing::rule_set;
    use crate::model::rule::{Match, Pattern};

    fn hints(matches: Match) -> Hints {
        rule_set(vec![("r", matches)]).hints()
    }

    fn comm(text: &str) -> Match {
        Match::Comm(Pattern::Exact(text.to_owned()))
    }

    #[test]
    fn complete_covers_need_no_eager_sweep() {
        let rsync = Comm::from_bytes(b"rsync");
        let found = hints(Match::All(vec![Match::CmdlineRegex("x".into()), comm("rsync"), Match::Uid(7)]));
        assert_eq!(found, Hints { comms: vec![rsync], ..Hints::default() });
        let found = hints(Match::Any(vec![comm("rsync"), Match::Uid(7)]));
        assert_eq!(found, Hints { comms: vec![rsync], uids: vec![7], ..Hints::default() });
        let found = hints(Match::Comm(Pattern::Glob("back*up".into())));
        assert_eq!(found, Hints { prefixes: vec![b"back".to_vec()], ..Hints::default() });
        assert!(!hints(Match::Pid(7)).eager);
        assert_eq!(rule_set(Vec::new()).hints(), Hints::default());
    }

    #[test]
    fn what_the_kernel_cannot_see_is_swept_for() {
        for matches in [
            Match::CmdlineRegex("x".into()),
            Match::Not(Box::new(comm("x"))),
            Match::Uid(0),
            Match::Any(vec![comm("x"), Match::Cgroup("/a".into())]),
            Match::Comm(Pattern::Glob("*x".into())),
            Match::Parent(Box::new(comm("make"))),
            Match::All(vec![]),
        ] {
            assert!(hints(matches.clone()).eager, "{matches:?}");
        }
        let exe = hints(Match::Exe(Pattern::Exact("/usr/sbin/a-name-longer-than-fifteen".into())));
        assert_eq!(exe.comms, [Comm::from_bytes(b"a-name-longer-t")]);
        assert!(exe.eager);
    }

    #[test]
    fn more_hints_than_the_maps_hold_are_cut_and_swept_for() {
        let many = (0..=PREFIX_ENTRIES).map(|n| Match::Comm(Pattern::Prefix(format!("p{n:02}")))).collect();
        let found = hints(Match::Any(many));
        assert_eq!(found.prefixes.len(), PREFIX_ENTRIES as usize);
        assert!(found.eager);
    }
}
