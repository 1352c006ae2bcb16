//! `CHANGELOG.md` in the forms of the packages.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use jiff::{Timestamp, civil::Date, tz::TimeZone};

/// Longest line of a Debian changelog, in characters.
const WIDTH: usize = 78;

/// What changed with a version.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Release {
    version: String,
    date: Timestamp,
    changes: Vec<String>,
}

/// Reads [Keep a Changelog](https://keepachangelog.com). The newest section is of this version and date, whatever its
/// heading says: before a release it is "Unreleased".
///
/// # Errors
/// When a version has no date, or nothing is told of any.
pub(super) fn parse(text: &str, version: &str, date: Timestamp) -> Result<Vec<Release>> {
    let mut releases: Vec<Release> = Vec::new();
    for section in text.split("\n## [").skip(1) {
        let (heading, body) = section.split_once('\n').unwrap_or((section, ""));
        let changes = changes(body);
        if changes.is_empty() {
            continue;
        }
        let release = if releases.is_empty() {
            Release { version: version.to_owned(), date, changes }
        } else {
            let (version, date) =
                heading.split_once("] - ").with_context(|| format!("no date: {heading}"))?;
            let date: Date = date.trim().parse().with_context(|| format!("date of version {version}"))?;
            let date = date.to_zoned(TimeZone::UTC).context("a date")?.timestamp();
            Release { version: version.to_owned(), date, changes }
        };
        releases.push(release);
    }
    ensure!(!releases.is_empty(), "the changelog tells of no change");
    Ok(releases)
}

/// The items of lists, each on one line.
fn changes(body: &str) -> Vec<String> {
    let mut changes: Vec<String> = Vec::new();
    let mut in_item = false;
    for line in body.lines() {
        if let Some(item) = line.strip_prefix("- ") {
            changes.push(item.trim().to_owned());
            in_item = true;
        } else if in_item
            && line.starts_with("  ")
            && let Some(item) = changes.last_mut()
        {
            item.push(' ');
            item.push_str(line.trim());
        } else {
            in_item = false;
        }
    }
    changes
}

/// As `debian/changelog`.
pub(super) fn debian(releases: &[Release], publisher: &str) -> String {
    let entries = releases.iter().map(|Release { version, date, changes }| {
        let items: String = changes.iter().map(|change| wrap(change, "  * ", "    ")).collect();
        let date = date.strftime("%a, %d %b %Y %H:%M:%S +0000");
        format!(
            "process-throttler ({version}) unstable; urgency=medium\n\n{items}\n -- {publisher}  {date}\n"
        )
    });
    entries.collect::<Vec<_>>().join("\n")
}

/// As the body of `%changelog`.
pub(super) fn rpm(releases: &[Release], publisher: &str) -> String {
    let entries = releases.iter().map(|Release { version, date, changes }| {
        let mut entry = format!("* {} {publisher} - {version}-1\n", date.strftime("%a %b %d %Y"));
        for change in changes {
            // rpm expands macros here.
            let line = wrap(&change.replace('%', "%%"), "- ", "  ");
            // Writing to a string does not fail.
            let _written = write!(entry, "{line}");
        }
        entry
    });
    entries.collect::<Vec<_>>().join("\n")
}

/// Words in lines of at most [`WIDTH`] characters, where the words permit.
fn wrap(text: &str, first: &str, further: &str) -> String {
    let (mut wrapped, mut line) = (String::new(), first.to_owned());
    let mut words = 0;
    for word in text.split_whitespace() {
        if words > 0 && line.chars().count() + 1 + word.chars().count() > WIDTH {
            wrapped.push_str(&line);
            wrapped.push('\n');
            further.clone_into(&mut line);
            words = 0;
        }
        if words > 0 {
            line.push(' ');
        }
        line.push_str(word);
        words += 1;
    }
    wrapped + &line + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# Changelog\n\nThe format.\n\n## [Unreleased]\n\n### Added\n\n- One thing\n  in two lines: 5 %.\n- \
                        Another.\n\nNo item.\n\n## [0.1.0] - 2026-03-01\n\n### Fixed\n\n- A defect.\n";

    fn releases() -> Vec<Release> {
        parse(TEXT, "0.2.0", Timestamp::from_second(1_775_000_000).unwrap()).unwrap()
    }

    #[test]
    fn debian_has_it_with_the_newest_first() {
        let expected = "process-throttler (0.2.0) unstable; urgency=medium\n\n  * One thing in two lines: 5 %.\n  * \
                        Another.\n\n -- A B <a@b.org>  Tue, 31 Mar 2026 23:33:20 +0000\n\nprocess-throttler (0.1.0) \
                        unstable; urgency=medium\n\n  * A defect.\n\n -- A B <a@b.org>  Sun, 01 Mar 2026 00:00:00 \
                        +0000\n";
        assert_eq!(debian(&releases(), "A B <a@b.org>"), expected);
    }

    #[test]
    fn rpm_has_it_without_macros() {
        let expected = "* Tue Mar 31 2026 A B <a@b.org> - 0.2.0-1\n- One thing in two lines: 5 %%.\n- Another.\n\n* Sun \
                        Mar 01 2026 A B <a@b.org> - 0.1.0-1\n- A defect.\n";
        assert_eq!(rpm(&releases(), "A B <a@b.org>"), expected);
    }

    #[test]
    fn lines_are_short_where_words_permit() {
        let long = "x".repeat(90);
        let wrapped = wrap(&format!("{} {long} end", "word ".repeat(30)), "  * ", "    ");
        let lines: Vec<&str> = wrapped.lines().collect();
        assert!(lines.iter().filter(|line| line.len() > WIDTH).all(|line| line.trim() == long), "{wrapped}");
        assert!(lines.first().is_some_and(|line| line.starts_with("  * word")), "{wrapped}");
        assert!(lines.iter().skip(1).all(|line| line.starts_with("    ")), "{wrapped}");
    }

    #[test]
    fn an_empty_section_is_none_and_a_version_has_a_date() {
        let now = Timestamp::UNIX_EPOCH;
        let released =
            parse(&TEXT.replace("- One thing\n  in two lines: 5 %.\n- Another.\n", ""), "0.1.0", now);
        assert_eq!(released.unwrap().len(), 1);
        assert!(parse("# Changelog\n\n## [Unreleased]\n", "0.1.0", now).is_err());
        assert!(parse(&TEXT.replace(" - 2026-03-01", ""), "0.2.0", now).is_err());
        assert!(parse(&TEXT.replace("2026-03-01", "2026-13-01"), "0.2.0", now).is_err());
    }
}
