//! Which features work, and why others do not: derived from what runs, each time somebody asks.

use crate::control::feature;
use crate::control::proto::{Feature, FeatureState};
use crate::daemon::report;
use crate::daemon::requests::Office;
use crate::daemon::turn::Turn;
use crate::engine::view::{CriticalView, RestartState, View};
use crate::model::critical::RestartPolicy;
use crate::model::id::Name;
use crate::model::plural::counted;
use crate::model::rule::Rule;

/// Instances of critical processes whose protection is looked at.
const INSTANCES_MAX: usize = 256;

/// A state and why it is so.
type Found = (FeatureState, String);

fn disabled(why: impl Into<String>) -> Found {
    (FeatureState::Disabled, why.into())
}

/// Working, but for what is listed.
fn working_but(what: &str, faults: &[String]) -> Found {
    if faults.is_empty() {
        (FeatureState::Working, String::new())
    } else {
        (FeatureState::Degraded, format!("{what}: {}", faults.join("; ")))
    }
}

impl Turn {
    /// Every feature.
    pub(super) fn features(&self, view: &View) -> Vec<Feature> {
        let features = feature::ALL.into_iter();
        features
            .map(|(name, requires_daemon)| {
                let (state, why) = self.feature(name, view);
                Feature { name: name.to_owned(), state, requires_daemon, why }
            })
            .collect()
    }

    fn feature(&self, name: &str, view: &View) -> Found {
        match name {
            feature::MONITORING => self.monitoring(),
            feature::RULES => {
                let rules = self.active.as_ref().is_some_and(|one| one.rules.iter().any(|rule| rule.enabled));
                self.of_profile(view, rules, "enabled rule")
            }
            feature::MANUAL => (FeatureState::Working, String::new()),
            feature::DYNAMIC => self.dynamic(view),
            feature::CRITICAL => self.critical(view),
            feature::HEALTH_CHECKS => {
                let checked = view.critical.iter().any(|critical| critical.health.is_some());
                self.of_profile(view, checked, "critical process with a health check")
            }
            feature::RESTART => self.restart(view),
            feature::PROTECTION => self.protection(view),
            // The main thread's, see `complete`.
            other => (FeatureState::Unavailable, format!("nothing is known of {other}")),
        }
    }

    /// As well as the source is.
    fn monitoring(&self) -> Found {
        let degraded: Vec<String> = self.parts.source.degradations.iter().map(ToString::to_string).collect();
        let state = if degraded.is_empty() { FeatureState::Working } else { FeatureState::Degraded };
        (state, degraded.join("; "))
    }

    /// What works as well as the source does, if the profile has any of it.
    fn of_profile(&self, view: &View, has: bool, what: &str) -> Found {
        if has {
            self.monitoring()
        } else if view.profile.is_some() {
            disabled(format!("the active profile has no {what}"))
        } else {
            disabled("no profile is active")
        }
    }

    fn dynamic(&self, view: &View) -> Found {
        let moving = view.groups.iter().any(|group| group.motion.is_some()) || !view.conditions.is_empty();
        if moving || self.active.as_ref().is_some_and(|profile| profile.rules.iter().any(moves)) {
            self.monitoring()
        } else {
            disabled("no rule and no group has a policy or conditions")
        }
    }

    fn critical(&self, view: &View) -> Found {
        let found = self.of_profile(view, !view.critical.is_empty(), "critical process");
        let lacks = self.parts.source.source.lacks();
        if found.0 == FeatureState::Working && !lacks.is_empty() {
            return (FeatureState::Degraded, format!("causes of death: {}", lacks.join("; ")));
        }
        found
    }

    fn restart(&self, view: &View) -> Found {
        let restarted = |critical: &&CriticalView| {
            critical.restart.as_ref().is_some_and(|restart| restart.policy != RestartPolicy::Never)
        };
        let found = self.of_profile(
            view,
            view.critical.iter().any(|critical| restarted(&critical)),
            "critical process that is restarted",
        );
        if found.0 != FeatureState::Working {
            return found;
        }
        let given_up = view.critical.iter().filter(restarted).filter(|critical| {
            critical.restart.as_ref().is_some_and(|restart| restart.state == RestartState::GivenUp)
        });
        let given_up: Vec<String> = given_up.map(|critical| critical.name.to_string()).collect();
        working_but("given up until somebody restarts it", &given_up)
    }

    fn protection(&self, view: &View) -> Found {
        let critical = self.active.iter().flat_map(|profile| &profile.critical);
        let names: Vec<&Name> =
            critical.filter(|one| !one.protection.is_empty()).map(|one| &one.name).collect();
        if names.is_empty() {
            return self.of_profile(view, false, "critical process that is protected");
        }
        let protected = view.critical.iter().filter(|critical| names.contains(&&critical.name));
        let keys = protected.flat_map(|critical| &critical.instances).take(INSTANCES_MAX);
        let faults = keys.filter_map(|key| {
            let error = self.parts.engine.explain(key.pid)?.protection?.error?;
            Some(format!("pid {}: {error}", key.pid))
        });
        working_but("not in force", &faults.collect::<Vec<_>>())
    }
}

impl Office {
    /// Puts in what the main thread knows and the engine's does not.
    pub(super) fn complete(&self, features: &mut [Feature]) {
        for feature in features {
            let (state, why) = match feature.name.as_str() {
                feature::SCHEDULED => self.scheduled(),
                feature::EVENTS => self.events_feature(),
                feature::ALERTS => self.alerts_feature(),
                feature::WEBHOOKS => self.webhooks_feature(),
                feature::AUDIT => working_but("not all is recorded", &self.audit.problems()),
                feature::PROBES => self.probes.state(),
                feature::METRICS => self.exporter.state(),
                feature::EXPORT => self.export.state(),
                _engine_s => continue,
            };
            (feature.state, feature.why) = (state, why);
        }
    }

    fn scheduled(&self) -> Found {
        match self.scheduler().next(&report::now()) {
            Some((at, profile)) => {
                let at = at.strftime("%Y-%m-%d %H:%M%:z");
                (FeatureState::Working, format!("next is {profile} at {at}"))
            }
            None => disabled("no active profile has a schedule"),
        }
    }

    fn events_feature(&self) -> Found {
        let mut faults = Vec::new();
        if let Some(waiting) = self.journal.refused() {
            faults.push(format!(
                "the disk refuses them: {waiting} wait in memory, and are told when it takes them"
            ));
        }
        let lost = self.journal.lost();
        if lost > 0 {
            faults.push(format!("{lost} notices found no room and were logged only"));
        }
        let state = if faults.is_empty() { FeatureState::Working } else { FeatureState::Degraded };
        (state, faults.join("; "))
    }

    /// Endpoints that are sent to.
    fn endpoints(&self) -> usize {
        self.deliveries.endpoints().iter().filter(|endpoint| endpoint.enabled).count()
    }

    fn alerts_feature(&self) -> Found {
        let (state, why) = self.events_feature();
        if state == FeatureState::Working && self.endpoints() == 0 {
            return (state, "told in the event stream only: no webhook is enabled".to_owned());
        }
        (state, why)
    }

    fn webhooks_feature(&self) -> Found {
        let overflown = self.journal.overflown();
        if self.endpoints() == 0 {
            disabled("no webhook is configured and enabled")
        } else if overflown > 0 {
            (FeatureState::Degraded, {
                let deliveries = counted(overflown, "delivery", "deliveries");
                format!("{deliveries} given up: too many were pending")
            })
        } else {
            (FeatureState::Working, String::new())
        }
    }
}

/// Whether a rule changes by itself.
const fn moves(rule: &Rule) -> bool {
    rule.enabled && (!rule.policy.is_fixed() || rule.when.is_some())
}
