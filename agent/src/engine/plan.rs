//! What activating a profile would do, without doing it.

use std::collections::BTreeSet;

use crate::engine::action::Wants;
use crate::engine::policy::protect::{self, Own};
use crate::engine::process::Table;
use crate::engine::rule::matcher::Subject;
use crate::engine::rule::{CompileError, Exemption, First, Needs, RuleSet, Standing};
use crate::engine::view::{Plan, PlanEntry};
use crate::model::process::{Facts, Process};
use crate::model::rule::Profile;
use crate::model::time::Timestamp;

/// What activating `profile` would do to these processes, with what `/proc` told of each. Those to which
/// nothing would be done are left out; the rest comes by pid. One that is critical for alerts only and matches
/// a rule as well comes twice. Facts that are absent count as unreadable.
///
/// # Errors
/// When the profile does not compile.
pub fn plan(
    profile: &Profile,
    own: &Own,
    processes: impl IntoIterator<Item = (Process, Facts)>,
) -> Result<Vec<PlanEntry>, CompileError> {
    let rules = RuleSet::compile(profile)?;
    let mut table = Table::new(usize::MAX);
    for (process, facts) in processes {
        table.observe(&process, false, Timestamp::ZERO);
        table.ask(process.key, Wants::ALL);
        table.answer(process.key, Some(facts));
    }
    let subjects = table.iter().map(|entry| Subject::of(entry, &table));
    Ok(subjects.flat_map(|subject| entries(&rules, own, &subject)).flatten().collect())
}

fn entries(rules: &RuleSet, own: &Own, subject: &Subject<'_>) -> [Option<PlanEntry>; 2] {
    if subject.process.kthread {
        return [None, None];
    }
    let Standing { named, exemption, .. } = rules.standing(subject);
    let watch = match named {
        First::One(critical) => {
            let plan = Plan::Watch { critical: critical.name.clone() };
            Some(PlanEntry { process: *subject.process, plan, why: critical.why(subject).1 })
        }
        First::None | First::Perhaps(_) => None,
    };
    let limit = match exemption {
        Some(Exemption::Instance(_)) => None,
        Some(Exemption::Undecided(_) | Exemption::Undecidable(_)) | None => {
            limit(rules, own, subject, exemption)
        }
    };
    [watch, limit]
}

/// What the rules would do to a process that may be exempt.
fn limit(
    rules: &RuleSet,
    own: &Own,
    subject: &Subject<'_>,
    exemption: Option<Exemption<'_>>,
) -> Option<PlanEntry> {
    let process = *subject.process;
    // Conditions are taken to hold: a plan is for any time.
    let always = BTreeSet::new();
    let First::One(rule) = rules.owner(subject, None, &always, &mut Needs::default()) else { return None };
    let (_, why) = rule.matcher.why(subject);
    let spared = protect::verdict(&process, own)
        .map(|protected| protected.to_string())
        .or_else(|| exemption.map(|exemption| exemption.to_string()));
    let name = rule.spec.name.clone();
    let plan = match spared {
        Some(because) => Plan::Spare { rule: name, because },
        None => Plan::Limit {
            rule: name,
            group: rule.spec.terms().group_name(process.key),
            limits: rule.spec.limits.clone(),
        },
    };
    Some(PlanEntry { process, plan, why })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::rule::testing::{facts, profile, rule};
    use crate::engine::testing::process;
    use crate::model::id::ProcKey;
    use crate::model::rule::{Critical, Match, Pattern};

    #[test]
    fn tells_who_is_watched_limited_and_spared() {
        let comm = |text: &str| Match::Comm(Pattern::Exact(text.to_owned()));
        let line = Match::CmdlineRegex("backup".to_owned());
        let mut profile = profile(vec![rule("backups", Match::Any(vec![comm("sshd"), line]))]);
        let exe = Match::Exe(Pattern::Exact("/bin/postgres".to_owned()));
        profile.critical.push(Critical::new("named".parse().unwrap(), comm("postgres")));
        profile.critical.push(Critical::new("db".parse().unwrap(), exe));
        let own = Own { key: ProcKey { pid: 99, start: 1 }, ancestors: Vec::new() };
        let alive = [
            (process(30, "sh").build(), facts("/bin/sh", "sh backup.sh", "/")),
            (process(10, "sshd").uid(0).build(), Facts::default()),
            (process(20, "postgres").build(), facts("/bin/postgres", "postgres backup", "/")),
            (process(40, "idle").build(), facts("/bin/idle", "idle", "/")),
            (process(50, "postgres").build(), facts("/tmp/hog", "postgres backup", "/")),
            (process(60, "hidden").build(), Facts { exe: None, ..facts("", "backup", "/") }),
        ];
        let plans = plan(&profile, &own, alive).unwrap();
        let told: Vec<_> = plans.iter().map(|entry| (entry.process.key.pid, &entry.plan)).collect();
        let name = |text: &str| text.parse().unwrap();
        assert_eq!(
            told,
            [
                (
                    10,
                    &Plan::Spare {
                        rule: name("backups"),
                        because: "it is a system daemon on the never-touch list".to_owned()
                    }
                ),
                (20, &Plan::Watch { critical: name("named") }),
                (
                    30,
                    &Plan::Limit {
                        rule: name("backups"),
                        group: name("backups"),
                        limits: profile.rules[0].limits.clone()
                    }
                ),
                (50, &Plan::Watch { critical: name("named") }),
                (
                    50,
                    &Plan::Limit {
                        rule: name("backups"),
                        group: name("backups"),
                        limits: profile.rules[0].limits.clone()
                    }
                ),
                (
                    60,
                    &Plan::Spare {
                        rule: name("backups"),
                        because: "it may be critical process db, which cannot be told".to_owned()
                    }
                ),
            ]
        );
        assert_eq!(plans[2].why, "command line \"sh backup.sh\" contains regex \"backup\"");
        assert!(plans[3].why.contains("critical for alerts only"), "{}", plans[3].why);
    }
}
