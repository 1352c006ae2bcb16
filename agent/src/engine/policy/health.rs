//! When critical processes are asked whether they work, and what their answers mean. It must not ask anybody
//! itself, nor decide what follows from bad health beyond telling it.
//!
//! A process is asked at once when its first instance comes up, then at its interval, give or take a tenth of it by
//! its name, so that many of one interval do not ask in step. Without an instance nothing is asked: its death is told
//! already. What was unhealthy stays so until it has answered well.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::engine::action::{ActionId, What};
use crate::engine::outbox::Outbox;
use crate::engine::view::HealthView;
use crate::model::critical::{Checked, Critical, HealthCheck};
use crate::model::id::Name;
use crate::model::notice::Notice;
use crate::model::time::{Timestamp, millis};

/// The health checks of the active profile, by critical process.
#[derive(Debug, Default)]
pub(crate) struct Health {
    checks: BTreeMap<Name, Check>,
}

#[derive(Debug)]
struct Check {
    spec: HealthCheck,
    /// When it is asked next; not while there is no instance, nor while it is being asked.
    due: Option<Timestamp>,
    asked: Option<ActionId>,
    /// How often it has been asked.
    round: u64,
    /// Failures in a row.
    failures: u32,
    unhealthy: Option<Timestamp>,
    last: Option<(Timestamp, Checked)>,
}

/// What a check has brought about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// So many checks in a row failed that it is to be restarted.
    Restart(Name),
    /// It answers well.
    Healthy(Name),
}

impl Check {
    const fn new(spec: HealthCheck) -> Self {
        Self { spec, due: None, asked: None, round: 0, failures: 0, unhealthy: None, last: None }
    }
}

impl Health {
    /// Takes over the checks of a profile. Those that are as they were go on.
    pub(crate) fn renew(&mut self, criticals: &[Critical]) {
        let mut old = std::mem::take(&mut self.checks);
        for critical in criticals {
            let Some(spec) = critical.health.clone() else { continue };
            let check = match old.remove(&critical.name).filter(|check| check.spec == spec) {
                Some(check) => check,
                None => Check::new(spec),
            };
            self.checks.insert(critical.name.clone(), check);
        }
    }

    /// Notes whether it has an instance.
    pub(crate) fn seen(&mut self, name: &Name, up: bool, now: Timestamp) {
        let Some(check) = self.checks.get_mut(name) else { return };
        if !up {
            // An answer that is on its way is about one that is gone.
            (check.due, check.asked, check.failures) = (None, None, 0);
        } else if check.due.is_none() && check.asked.is_none() {
            check.due = Some(now);
        }
    }

    /// When one is due.
    pub(crate) fn next_timeout(&self) -> Option<Timestamp> {
        self.checks.values().filter_map(|check| check.due).min()
    }

    /// Asks those that are due.
    pub(crate) fn ask(&mut self, now: Timestamp, out: &mut Outbox) {
        for (name, check) in &mut self.checks {
            if check.due.is_some_and(|due| due <= now) {
                let id = out.push(What::Check { name: name.clone(), check: check.spec.clone() });
                check.round = check.round.wrapping_add(1);
                (check.due, check.asked) = (None, Some(id));
            }
        }
    }

    /// Takes in an answer. One that nobody waits for any more is dropped.
    pub(crate) fn checked(&mut self, id: ActionId, checked: Checked, out: &mut Outbox) -> Option<Turn> {
        let now = out.now();
        let (name, check) = self.checks.iter_mut().find(|(_, check)| check.asked == Some(id))?;
        check.asked = None;
        check.due = Some(now.after(pause(name, check.round, check.spec.interval)));
        check.last = Some((now, checked.clone()));
        match checked {
            // The agent's own trouble says nothing of the process.
            Checked::NotRun { .. } => None,
            Checked::Healthy => {
                check.failures = 0;
                if let Some(since) = check.unhealthy.take() {
                    let lasted_ms = millis(now.since(since));
                    out.notify(Notice::HealthCheckRecovered { name: name.clone(), lasted_ms });
                }
                Some(Turn::Healthy(name.clone()))
            }
            Checked::Unhealthy { error } => {
                check.failures = check.failures.saturating_add(1);
                if check.failures < check.spec.retries {
                    return None;
                }
                if check.unhealthy.is_none() {
                    check.unhealthy = Some(now);
                    let failures = check.failures;
                    let error = error.clone();
                    out.notify(Notice::HealthCheckFailed { name: name.clone(), failures, error });
                }
                if !check.spec.restart {
                    return None;
                }
                // Counted anew: a restart is given as many checks before the next one.
                check.failures = 0;
                Some(Turn::Restart(name.clone()))
            }
        }
    }

    /// What is known of one.
    pub(crate) fn view(&self, name: &Name) -> Option<HealthView> {
        let check = self.checks.get(name)?;
        Some(HealthView {
            unhealthy_since: check.unhealthy,
            failures: check.failures,
            last: check.last.clone(),
            next: check.due,
        })
    }
}

/// Until the next check: the interval, give or take a tenth of it. Derived from the name and the number of the check,
/// and so the same in every replay.
fn pause(name: &Name, round: u64, interval: Duration) -> Duration {
    // FNV-1a, 64 bits (draft-eastlake-fnv, section 2).
    let bytes = name.as_str().bytes().chain(round.to_le_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    // The low bits of one multiplication are poor: the high half is taken.
    let share = u32::try_from((hash >> 32) % 2_001).unwrap_or(1_000);
    // 90 % to 110 %, in steps of a hundredth of a percent.
    interval.saturating_mul(9_000 + share) / 10_000
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::testing::at;
    use crate::model::critical::Probe;
    use crate::model::rule::Match;

    fn name() -> Name {
        "web".parse().unwrap()
    }

    fn spec(retries: u32, restart: bool) -> HealthCheck {
        HealthCheck {
            probe: Probe::Port { target: "127.0.0.1:80".to_owned() },
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(5),
            retries,
            restart,
        }
    }

    fn health(retries: u32, restart: bool) -> Health {
        let mut health = Health::default();
        let critical =
            Critical { health: Some(spec(retries, restart)), ..Critical::new(name(), Match::Uid(0)) };
        health.renew(&[critical]);
        health
    }

    fn bad() -> Checked {
        Checked::Unhealthy { error: "connection refused".to_owned() }
    }

    /// Asks what is due at `now` and answers it.
    fn round(health: &mut Health, now: Timestamp, checked: Checked, out: &mut Outbox) -> Option<Turn> {
        out.set_now(now);
        health.ask(now, out);
        let asked = std::iter::from_fn(|| out.pop()).find(|action| matches!(action.what, What::Check { .. }));
        let Some(asked) = asked else { panic!("no check is due") };
        health.checked(asked.id, checked, out)
    }

    fn told(out: &mut Outbox) -> Vec<Notice> {
        std::iter::from_fn(|| out.pop())
            .filter_map(|action| if let What::Notify { notice } = action.what { Some(notice) } else { None })
            .collect()
    }

    #[test]
    fn nothing_is_asked_without_an_instance_and_the_first_one_is_asked_at_once() {
        let (mut health, mut out) = (health(3, false), Outbox::default());
        assert_eq!(health.next_timeout(), None);
        health.seen(&name(), true, at(100));
        assert_eq!(health.next_timeout(), Some(at(100)));
        health.ask(at(100), &mut out);
        health.seen(&name(), false, at(200));
        let asked = out.pop().unwrap();
        assert_eq!(health.checked(asked.id, bad(), &mut out), None, "it is about one that is gone");
        assert_eq!((health.next_timeout(), told(&mut out)), (None, Vec::new()));
    }

    #[test]
    fn bad_health_and_recovery_are_told_once() {
        let (mut health, mut out) = (health(3, false), Outbox::default());
        let mut now = at(1_000);
        health.seen(&name(), true, now);
        for failures in 1..=7 {
            assert_eq!(round(&mut health, now, bad(), &mut out), None);
            assert_eq!(told(&mut out).len(), usize::from(failures == 3), "after {failures} failures");
            now = health.next_timeout().unwrap();
        }
        let recovered = now;
        assert_eq!(round(&mut health, now, Checked::Healthy, &mut out), Some(Turn::Healthy(name())));
        let [Notice::HealthCheckRecovered { lasted_ms, .. }] = told(&mut out)[..] else {
            panic!("told once")
        };
        assert!(lasted_ms > 100_000 && lasted_ms < recovered.as_nanos() / 1_000_000);
        now = health.next_timeout().unwrap();
        round(&mut health, now, Checked::Healthy, &mut out);
        assert!(told(&mut out).is_empty());
    }

    #[test]
    fn a_success_and_the_agents_own_trouble_do_not_count() {
        let (mut health, mut out) = (health(2, false), Outbox::default());
        let mut now = at(0);
        health.seen(&name(), true, now);
        let trouble = Checked::NotRun { why: "too many".to_owned() };
        for checked in [bad(), Checked::Healthy, bad(), trouble.clone(), trouble, Checked::Healthy, bad()] {
            round(&mut health, now, checked, &mut out);
            assert!(told(&mut out).is_empty());
            now = health.next_timeout().unwrap();
        }
        round(&mut health, now, bad(), &mut out);
        assert_eq!(told(&mut out).len(), 1);
    }

    #[test]
    fn each_so_many_failures_ask_for_a_restart() {
        let (mut health, mut out) = (health(2, true), Outbox::default());
        let mut now = at(0);
        health.seen(&name(), true, now);
        let (mut asked, mut notices) = (0, 0);
        for _ in 0..6 {
            let turn = round(&mut health, now, bad(), &mut out);
            asked += usize::from(matches!(turn, Some(Turn::Restart(..))));
            notices += told(&mut out).len();
            now = health.next_timeout().unwrap();
        }
        assert_eq!((asked, notices), (3, 1));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn pauses_stay_within_a_tenth(text in "[a-z]{1,9}", round: u64, millis in 1_000..3_600_000u64) {
            let (name, interval) = (text.parse::<Name>().unwrap(), Duration::from_millis(millis));
            let pause = pause(&name, round, interval);
            prop_assert!(pause >= interval * 9 / 10 && pause <= interval * 11 / 10);
            prop_assert_eq!(pause, super::pause(&name, round, interval));
        }
    }

    #[test]
    fn pauses_differ() {
        let names: Vec<Name> = (0..50).map(|number| format!("c{number}").parse().unwrap()).collect();
        let pauses: std::collections::BTreeSet<_> =
            names.iter().map(|name| pause(name, 1, Duration::from_secs(30))).collect();
        assert!(pauses.len() > 40, "{pauses:?}");
    }
}
