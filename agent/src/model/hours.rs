//! Hours of the week, as rules state them: `Mon..Fri 09:00-17:00`. Civil time only; no clock and no time zones.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Names of the days, Monday first as in ISO 8601.
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
/// All days as bits, Monday the lowest.
const EVERY_DAY: u8 = 0x7f;
/// Minutes of a day.
const DAY: u16 = 1_440;
/// Most spans of one [`Hours`].
const SPANS_MAX: usize = 32;

/// A minute of the week in local time: what a wall clock shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LocalMinute {
    /// 0 is Monday, 6 is Sunday.
    pub weekday: u8,
    /// Since midnight, 0 to 1439.
    pub minute: u16,
}

impl LocalMinute {
    /// What the wall clock shows at a moment, given in ms since the Unix epoch, where local time is this many
    /// seconds ahead of UTC.
    #[must_use]
    pub fn at(unix_ms: i64, offset_seconds: i32) -> Self {
        let seconds = unix_ms.div_euclid(1_000).saturating_add(i64::from(offset_seconds));
        // 1970-01-01 was a Thursday.
        let weekday = (seconds.div_euclid(86_400) + 3).rem_euclid(7);
        let minute = seconds.rem_euclid(86_400) / 60;
        Self { weekday: u8::try_from(weekday).unwrap_or(0), minute: u16::try_from(minute).unwrap_or(0) }
    }
}

impl fmt::Display for LocalMinute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let day = DAYS.get(usize::from(self.weekday)).copied().unwrap_or("?");
        write!(f, "{day} {:02}:{:02}", self.minute / 60, self.minute % 60)
    }
}

/// A set of spans of the week. A span that ends before it begins crosses midnight and belongs to the day on which
/// it begins: `Fri 22:00-06:00` ends on Saturday.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
pub struct Hours {
    spans: Vec<Span>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    /// Days on which it begins, as bits.
    days: u8,
    /// First minute, 0 to 1439.
    from: u16,
    /// First minute that is not of it any more, 1 to 1440; at or below `from`: on the next day.
    to: u16,
}

/// Why a text is no [`Hours`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} are no hours: {why}; write them like Mon..Fri 09:00-17:00 or Sat,Sun 22:00-06:00")]
pub struct HoursError {
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub why: String,
}

impl Hours {
    /// Whether a minute of the week is in one of the spans.
    #[must_use]
    pub fn contain(&self, now: LocalMinute) -> bool {
        self.spans.iter().any(|span| span.contains(now))
    }
}

impl Span {
    fn contains(self, now: LocalMinute) -> bool {
        let begins_on = |day: u8| self.days & (1 << day) != 0;
        let yesterday = (now.weekday + 6) % 7;
        if self.from < self.to {
            begins_on(now.weekday) && (self.from..self.to).contains(&now.minute)
        } else {
            (begins_on(now.weekday) && now.minute >= self.from)
                || (begins_on(yesterday) && now.minute < self.to)
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut words = text.split_ascii_whitespace();
        let (days, times) = match (words.next(), words.next(), words.next()) {
            (Some(times), None, None) if times.contains(':') => (EVERY_DAY, Some(times)),
            (Some(days), None, None) => (parse_days(days)?, None),
            (Some(days), Some(times), None) => (parse_days(days)?, Some(times)),
            (None, _, _) => return Err("a span is empty".to_owned()),
            (Some(_), _, Some(_)) => return Err("there are more words than days and times".to_owned()),
        };
        let Some(times) = times else { return Ok(Self { days, from: 0, to: DAY }) };
        let (from, to) = times.split_once('-').ok_or_else(|| format!("{times:?} is no span of time"))?;
        let (from, to) = (parse_time(from)?, parse_time(to)?);
        if from == DAY || to == 0 {
            return Err("a span begins at 23:59 at the latest, and ends at 00:01 at the earliest".to_owned());
        }
        if from == to {
            return Err("the span is empty; the whole day is 00:00-24:00".to_owned());
        }
        Ok(Self { days, from, to })
    }
}

fn parse_days(text: &str) -> Result<u8, String> {
    let day = |text: &str| {
        let found = DAYS.iter().position(|day| day.eq_ignore_ascii_case(text));
        found.ok_or_else(|| format!("{text:?} is not one of {}", DAYS.join(", ")))
    };
    let mut days = 0;
    for part in text.split(',') {
        let (first, last) = match part.split_once("..") {
            Some((first, last)) => (day(first)?, day(last)?),
            None => (day(part)?, day(part)?),
        };
        let length = (last + 7 - first) % 7;
        for step in 0..=length {
            days |= 1 << ((first + step) % 7);
        }
    }
    Ok(days)
}

fn parse_time(text: &str) -> Result<u16, String> {
    let bad = || format!("{text:?} is no time from 00:00 to 24:00");
    let digits = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    let (hours, minutes) = text.split_once(':').ok_or_else(bad)?;
    if !digits(hours) || !digits(minutes) {
        return Err(bad());
    }
    let (hours, minutes): (u16, u16) =
        (hours.parse().ok().ok_or_else(bad)?, minutes.parse().ok().ok_or_else(bad)?);
    let total = hours * 60 + minutes;
    if minutes > 59 || total > DAY { Err(bad()) } else { Ok(total) }
}

impl FromStr for Hours {
    type Err = HoursError;

    fn from_str(text: &str) -> Result<Self, HoursError> {
        let failed = |why| HoursError { text: text.to_owned(), why };
        let spans: Vec<Span> =
            text.split(';').take(SPANS_MAX + 1).map(Span::parse).collect::<Result<_, _>>().map_err(failed)?;
        if spans.len() > SPANS_MAX {
            return Err(failed(format!("more than {SPANS_MAX} spans")));
        }
        Ok(Self { spans })
    }
}

impl TryFrom<String> for Hours {
    type Error = HoursError;

    fn try_from(text: String) -> Result<Self, HoursError> {
        text.parse()
    }
}

impl From<Hours> for String {
    fn from(hours: Hours) -> Self {
        hours.to_string()
    }
}

impl fmt::Display for Hours {
    /// In one way only, such as `Mon..Fri 09:00-17:00; Sat,Sun 00:00-24:00`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
        for (index, span) in self.spans.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            if span.days != EVERY_DAY {
                write!(f, "{} ", show_days(span.days))?;
            }
            write!(f, "{}-{}", time(span.from), time(span.to))?;
        }
        Ok(())
    }
}

fn show_days(days: u8) -> String {
    let on = |day: usize| days & (1 << day) != 0;
    let mut parts: Vec<String> = Vec::new();
    let mut day = 0;
    while let Some(name) = DAYS.get(day) {
        let run = (day..DAYS.len()).take_while(|day| on(*day)).count();
        match run {
            0 => {}
            1 => parts.push((*name).to_owned()),
            2.. => parts.push(format!("{name}..{}", DAYS[day + run - 1])),
        }
        day += run.max(1);
    }
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hours(text: &str) -> Hours {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    fn at(text: &str) -> LocalMinute {
        let (day, time) = text.split_once(' ').unwrap();
        let weekday = DAYS.iter().position(|name| *name == day).unwrap();
        LocalMinute { weekday: weekday as u8, minute: parse_time(time).unwrap() }
    }

    #[test]
    fn spans_include_their_first_minute_and_not_their_last() {
        let office = hours("Mon..Fri 09:00-17:00");
        for (moment, inside) in [
            ("Mon 08:59", false),
            ("Mon 09:00", true),
            ("Fri 16:59", true),
            ("Fri 17:00", false),
            ("Sat 12:00", false),
        ] {
            assert_eq!(office.contain(at(moment)), inside, "{moment}");
        }
    }

    #[test]
    fn a_span_across_midnight_belongs_to_the_day_it_begins_on() {
        let night = hours("Fri 22:00-06:00; Sun 23:30-00:15");
        for (moment, inside) in [
            ("Thu 23:00", false),
            ("Fri 05:59", false),
            ("Fri 22:00", true),
            ("Sat 05:59", true),
            ("Sat 06:00", false),
            ("Sat 22:30", false),
            ("Sun 23:45", true),
            ("Mon 00:14", true),
            ("Mon 00:15", false),
        ] {
            assert_eq!(night.contain(at(moment)), inside, "{moment}");
        }
        assert!(hours("Sat..Mon").contain(at("Sun 00:00")) && !hours("Sat..Mon").contain(at("Tue 00:00")));
    }

    #[test]
    fn texts_are_shown_in_one_way() {
        for (text, shown) in [
            ("mon..fri 09:00-17:00", "Mon..Fri 09:00-17:00"),
            ("Fri..Mon", "Mon,Fri..Sun 00:00-24:00"),
            ("22:00-06:00", "22:00-06:00"),
            ("Mon..Sun 00:00-24:00", "00:00-24:00"),
            ("Sun,Sat 10:00-11:00 ;Wed 00:00-00:01", "Sat..Sun 10:00-11:00; Wed 00:00-00:01"),
        ] {
            assert_eq!(hours(text).to_string(), shown);
            assert_eq!(hours(shown), hours(text));
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for bad in [
            "",
            ";",
            "Mon..",
            "Monday 09:00-17:00",
            "9:00-17:00",
            "09:00-25:00",
            "09:60-10:00",
            "24:00-06:00",
            "10:00-00:00",
            "10:00-10:00",
            "Mon 09:00",
            "Mon 09:00-10:00 UTC",
            "09:00–17:00",
            &"Mon;".repeat(40),
        ] {
            assert!(bad.parse::<Hours>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_clock_of_a_moment() {
        assert_eq!(LocalMinute::at(0, 0), at("Thu 00:00"));
        assert_eq!(LocalMinute::at(-1, 0), at("Wed 23:59"));
        assert_eq!(LocalMinute::at(0, -3_600), at("Wed 23:00"));
        // 2026-03-29 01:59:59 and 02:00:00 UTC in Berlin, an hour after its clocks were set forward.
        assert_eq!(LocalMinute::at(1_774_749_599_000, 7_200), at("Sun 03:59"));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Against a reference that walks the calendar with a time-zone database: across midnight, months, and
        /// changes of the clocks, where an hour is missing or comes twice.
        #[test]
        fn windows_follow_the_wall_clock(
            zone in prop::sample::select(vec![
                "UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu",
                "America/St_Johns", "Pacific/Apia", "Africa/Casablanca",
            ]),
            moment in 1_600_000_000i64..2_000_000_000,
            days in 1u8..=EVERY_DAY,
            from in 0u16..1_440,
            length in 1u16..1_440,
        ) {
            let to = match (from + length) % DAY { 0 => DAY, to => to };
            let hours = Hours { spans: vec![Span { days, from, to }] };
            let zone = jiff::tz::TimeZone::get(zone).unwrap();
            let zoned = jiff::Timestamp::from_second(moment).unwrap().to_zoned(zone);
            let now = LocalMinute::at(moment * 1_000, zoned.offset().seconds());
            let clock = zoned.datetime();
            prop_assert_eq!(i8::try_from(now.weekday).unwrap(), clock.weekday().to_monday_zero_offset());
            // Of today's and yesterday's span, as civil times.
            let inside = [0i64, 1].into_iter().any(|back| {
                let day = clock.date().checked_sub(jiff::Span::new().days(back)).unwrap();
                if days & (1 << day.weekday().to_monday_zero_offset()) == 0 {
                    return false;
                }
                let midnight = day.to_datetime(jiff::civil::Time::midnight());
                let begin = midnight + jiff::Span::new().minutes(i64::from(from));
                let end = begin + jiff::Span::new().minutes(i64::from(length));
                begin <= clock && clock < end
            });
            prop_assert_eq!(hours.contain(now), inside, "{} at {}", hours, zoned);
            prop_assert_eq!(&hours.to_string().parse::<Hours>().unwrap(), &hours);
        }
    }
}
