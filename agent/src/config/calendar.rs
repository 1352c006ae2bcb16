//! When profiles take each other's place: cron expressions by the machine's wall clock. Activates nothing.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::Zoned;

use crate::model::id::Name;
use crate::model::rule::Turn;

/// Reads an expression of five fields, as crontab(5) has them.
///
/// # Errors
/// What is wrong with it, in words.
pub fn parse(text: &str) -> Result<Cron, String> {
    // The library passes over what is empty in a list. A field without anything would name no time, and the search for
    // one would take a minute of CPU time.
    if text.split_whitespace().any(|field| field.split(',').any(str::is_empty)) {
        return Err("a comma has nothing beside it".to_owned());
    }
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    parser.parse(text).map_err(|error| error.to_string())
}

/// The next time after `now` that an expression names.
#[must_use]
pub fn next_of(cron: &str, now: &Zoned) -> Option<Zoned> {
    parse(cron).ok()?.find_next_occurrence(now, false).ok()
}

/// The next time after `now` at which a profile takes over, and which. Where two do at once, the later in the list.
#[must_use]
pub fn next(turns: &[Turn], now: &Zoned) -> Option<(Zoned, Name)> {
    let found = turns.iter().filter_map(|turn| Some((next_of(&turn.cron, now)?, turn.profile.clone())));
    found.fold(None, |best: Option<(Zoned, Name)>, one| match best {
        Some(best) if best.0 < one.0 => Some(best),
        Some(_) | None => Some(one),
    })
}

/// The last time up to `now` at which a profile took over, and which.
#[must_use]
pub fn last(turns: &[Turn], now: &Zoned) -> Option<(Zoned, Name)> {
    let at = |turn: &Turn| parse(&turn.cron).ok()?.find_previous_occurrence(now, true).ok();
    let found = turns.iter().filter_map(|turn| Some((at(turn)?, turn.profile.clone())));
    found.fold(None, |best: Option<(Zoned, Name)>, one| match best {
        Some(best) if best.0 > one.0 => Some(best),
        Some(_) | None => Some(one),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(list: &[(&str, &str)]) -> Vec<Turn> {
        let turn = |(cron, profile): &(&str, &str)| Turn {
            cron: (*cron).to_owned(),
            profile: profile.parse().unwrap(),
        };
        list.iter().map(turn).collect()
    }

    fn at(text: &str) -> Zoned {
        text.parse().unwrap()
    }

    fn shown(found: Option<(Zoned, Name)>) -> String {
        found.map_or_else(|| "never".to_owned(), |(at, name)| format!("{} {name}", at.datetime()))
    }

    #[test]
    fn the_week_of_an_office() {
        let turns = turns(&[
            ("0 9 * * 1-5", "business-hours"),
            ("0 18 * * MON-FRI", "after-hours"),
            ("0 0 * * 0,6", "weekend"),
            ("0 0 * * 6", "saturday"),
        ]);
        let monday = at("2026-11-23T09:00:00+01:00[Europe/Berlin]");
        assert_eq!(shown(next(&turns, &monday)), "2026-11-23T18:00:00 after-hours");
        assert_eq!(shown(last(&turns, &monday)), "2026-11-23T09:00:00 business-hours");
        let friday = at("2026-11-27T20:00:00+01:00[Europe/Berlin]");
        assert_eq!(shown(next(&turns, &friday)), "2026-11-28T00:00:00 saturday");
        assert_eq!(shown(last(&turns, &friday)), "2026-11-27T18:00:00 after-hours");
        assert_eq!(shown(next(&[], &friday)), "never");
    }

    /// 02:30 does not exist on 2026-03-29 in Berlin, and comes twice on 2026-10-25.
    #[test]
    fn changes_of_the_clocks() {
        let turns = turns(&[("30 2 * * *", "night")]);
        let spring = at("2026-03-28T12:00:00+01:00[Europe/Berlin]");
        assert_eq!(
            next(&turns, &spring).unwrap().0.date(),
            at("2026-03-29T12:00:00+02:00[Europe/Berlin]").date()
        );
        let autumn = at("2026-10-24T12:00:00+02:00[Europe/Berlin]");
        let (first, _) = next(&turns, &autumn).unwrap();
        let (second, _) = next(&turns, &first).unwrap();
        assert_eq!(second.date(), at("2026-10-26T12:00:00+01:00[Europe/Berlin]").date(), "{first} {second}");
    }

    #[test]
    fn what_is_no_crontab_line() {
        for bad in [
            "",
            "0 9 * *",
            "0 0 9 * * 1-5",
            "0 9 * * 1-5 2026",
            "60 9 * * *",
            "0 24 * * *",
            "0 9 * * Mo",
            "now",
            ", * * * *",
            "0 ,9 * * *",
            "0 9 1, * *",
            "0 9 * * 1,,5",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        for good in ["0 9 * * 1-5", "*/15 * * * *", "@daily", "0 0 1 jan *"] {
            assert!(parse(good).is_ok(), "{good:?}");
        }
    }
}
