//! Profiles that take each other's place by the calendar. Keeps time; activates nothing.
//!
//! The schedule in force is that of the profile which a person or the configuration activated, its owner. Profiles
//! that it brings into force do not bring theirs: a day would else end with whichever has none.

use std::time::Duration;

use jiff::{Timestamp, Zoned};

use crate::config::calendar;
use crate::model::id::Name;
use crate::model::rule::{Profile, Turn};

/// Longest sleep: bounds how late a clock that was set is noticed.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Scheduler {
    owner: Option<Owner>,
}

#[derive(Clone, Debug)]
struct Owner {
    profile: Name,
    turns: Vec<Turn>,
    /// When it was activated.
    since: Timestamp,
    /// Up to when turns have been taken.
    taken: Timestamp,
}

impl Scheduler {
    /// Goes on with the schedule of a profile that was activated in an earlier life of the daemon. The profile that
    /// is due at present follows with [`Self::due`].
    #[must_use]
    pub fn resume(profile: &Profile, since: Timestamp) -> Self {
        let mut scheduler = Self::default();
        scheduler.own(Some(profile), since);
        scheduler
    }

    /// A person or the configuration activated this profile, or none.
    pub fn own(&mut self, profile: Option<&Profile>, now: Timestamp) {
        self.owner = profile.filter(|profile| !profile.schedule.is_empty()).map(|profile| Owner {
            profile: profile.name.clone(),
            turns: profile.schedule.clone(),
            since: now,
            taken: now,
        });
    }

    /// The owner's file was read again.
    pub fn renew(&mut self, profile: &Profile) {
        if let Some(owner) = &mut self.owner
            && owner.profile == profile.name
        {
            owner.turns.clone_from(&profile.schedule);
        }
    }

    /// The profile whose schedule is in force, and since when.
    #[must_use]
    pub fn owner(&self) -> Option<(&Name, Timestamp)> {
        self.owner.as_ref().map(|owner| (&owner.profile, owner.since))
    }

    /// The profile that took over last, if it did so since this was asked last: told once.
    pub fn due(&mut self, now: &Zoned) -> Option<Name> {
        let profile = self.untaken(now)?;
        self.owner.as_mut()?.taken = now.timestamp();
        Some(profile)
    }

    /// The profile whose turn has come and is not taken.
    fn untaken(&self, now: &Zoned) -> Option<Name> {
        let owner = self.owner.as_ref()?;
        let (at, profile) = calendar::last(&owner.turns, now)?;
        (at.timestamp() > owner.taken).then_some(profile)
    }

    /// What comes next.
    #[must_use]
    pub fn next(&self, now: &Zoned) -> Option<(Zoned, Name)> {
        calendar::next(&self.owner.as_ref()?.turns, now)
    }

    /// How long to sleep before [`Self::due`] is asked again; `None`: for ever. Whoever was busy when a turn came, and
    /// asks for the wait before asking what is due, does not wait for the turn after it.
    #[must_use]
    pub fn wait(&self, now: &Zoned) -> Option<Duration> {
        if self.untaken(now).is_some() {
            return Some(Duration::ZERO);
        }
        let (next, _) = self.next(now)?;
        let left = Duration::try_from(next.timestamp().duration_since(now.timestamp())).unwrap_or_default();
        // Late by a hair rather than early.
        Some((left + Duration::from_millis(1)).min(WAIT_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(name: &str, schedule: &[(&str, &str)]) -> Profile {
        let turn = |(cron, profile): &(&str, &str)| Turn {
            cron: (*cron).to_owned(),
            profile: profile.parse().unwrap(),
        };
        Profile {
            name: name.parse().unwrap(),
            version: "1".to_owned(),
            description: String::new(),
            critical: Vec::new(),
            rules: Vec::new(),
            schedule: schedule.iter().map(turn).collect(),
        }
    }

    fn at(text: &str) -> Zoned {
        format!("{text}[Europe/Berlin]").parse().unwrap()
    }

    fn due(scheduler: &mut Scheduler, text: &str) -> Option<String> {
        scheduler.due(&at(text)).map(|name| name.to_string())
    }

    fn office() -> Scheduler {
        let turns = [("0 9 * * 1-5", "business-hours"), ("0 18 * * 1-5", "after-hours")];
        Scheduler::resume(&profile("web", &turns), at("2026-11-23T08:00:00+01:00").timestamp())
    }

    #[test]
    fn turns_are_taken_once_and_on_time() {
        let mut scheduler = office();
        assert_eq!(due(&mut scheduler, "2026-11-23T08:59:59+01:00"), None);
        assert_eq!(scheduler.wait(&at("2026-11-23T08:59:59+01:00")), Some(Duration::from_millis(1_001)));
        assert_eq!(due(&mut scheduler, "2026-11-23T09:00:00+01:00").as_deref(), Some("business-hours"));
        assert_eq!(due(&mut scheduler, "2026-11-23T09:00:01+01:00"), None);
        assert_eq!(scheduler.wait(&at("2026-11-23T12:00:00+01:00")), Some(WAIT_MAX));
        assert_eq!(due(&mut scheduler, "2026-11-23T18:00:30+01:00").as_deref(), Some("after-hours"));
    }

    #[test]
    fn being_busy_when_a_turn_comes_does_not_put_it_off() {
        let mut scheduler = office();
        let late = at("2026-11-23T09:00:00.002+01:00");
        assert_eq!(scheduler.wait(&late), Some(Duration::ZERO));
        assert_eq!(due(&mut scheduler, "2026-11-23T09:00:00.002+01:00").as_deref(), Some("business-hours"));
        assert_eq!(scheduler.wait(&late), Some(WAIT_MAX));
    }

    #[test]
    fn a_start_after_turns_were_missed_takes_the_last_one() {
        let mut scheduler = office();
        assert_eq!(due(&mut scheduler, "2026-11-25T20:00:00+01:00").as_deref(), Some("after-hours"));
    }

    #[test]
    fn a_clock_that_is_set_neither_repeats_nor_skips() {
        let mut scheduler = office();
        assert_eq!(due(&mut scheduler, "2026-11-23T09:00:00+01:00").as_deref(), Some("business-hours"));
        assert_eq!(due(&mut scheduler, "2026-11-23T08:30:00+01:00"), None, "set back");
        assert_eq!(due(&mut scheduler, "2026-11-23T09:00:00+01:00"), None);
        assert_eq!(
            due(&mut scheduler, "2026-11-23T23:00:00+01:00").as_deref(),
            Some("after-hours"),
            "set forward"
        );
    }

    #[test]
    fn what_a_schedule_brings_does_not_bring_its_own() {
        let mut scheduler = office();
        let now = at("2026-11-23T12:00:00+01:00").timestamp();
        scheduler.renew(&profile("other", &[("* * * * *", "x")]));
        assert_eq!(scheduler.owner().unwrap().0.as_str(), "web");
        scheduler.own(Some(&profile("plain", &[])), now);
        assert_eq!((scheduler.owner(), scheduler.wait(&at("2026-11-23T12:00:00+01:00"))), (None, None));
    }
}
