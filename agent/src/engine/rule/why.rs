//! The same decision as [`Matcher::eval`], told in words: which condition decided, and how.

use crate::engine::process::Entry;
use crate::engine::rule::CompiledCritical;
use crate::engine::rule::matcher::{Fact, Matcher, Subject, Text, Tri};
use crate::model::process::printable;

/// Most bytes of a process's own text that are quoted.
const QUOTE_MAX: usize = 120;

impl CompiledCritical {
    /// What the match comes to, and the words for it: also that it protects nobody, where it does not.
    pub(crate) fn why(&self, subject: &Subject<'_>) -> (Tri, String) {
        let (tri, mut words) = self.matcher.why(subject);
        if tri != Tri::No && !self.protects {
            words.push_str("; critical for alerts only: its match names nothing that a process cannot forge");
        }
        (tri, words)
    }
}

impl Matcher {
    /// What the condition comes to, and the words for it.
    pub(crate) fn why(&self, subject: &Subject<'_>) -> (Tri, String) {
        (self.answer(subject), self.words(subject))
    }

    fn answer(&self, subject: &Subject<'_>) -> Tri {
        self.eval(subject, &mut Vec::new())
    }

    fn words(&self, subject: &Subject<'_>) -> String {
        let process = subject.process;
        match self {
            // A No is told by the first condition that fails, a Yes by all of them; with `any` the other
            // way round.
            Self::All(items) => list(items, subject, self.answer(subject), Tri::Yes),
            Self::Any(items) => list(items, subject, self.answer(subject), Tri::No),
            Self::Not(inner) => inner.words(subject),
            Self::Parent(inner) => self.ancestor(inner, subject),
            Self::Comm(text) => compare("comm", text, &Fact::Known(process.comm.bytes())),
            Self::Exe(text) => compare("exe", text, &subject.exe()),
            Self::Cmdline(regex) => told("command line", &subject.cmdline(), |bytes| {
                let verb = if regex.is_match(bytes) { "contains" } else { "does not contain" };
                format!("command line {} {verb} regex {:?}", quote(bytes), regex.as_str())
            }),
            Self::Cgroup(glob) => compare("cgroup", &Text::Glob(glob.clone()), &subject.cgroup_path()),
            Self::Uid(uid) => number("uid", process.uid, *uid, uid),
            Self::User { name, uid } => number("user", process.uid, *uid, name),
            Self::Group { name, gid } => number("group", process.gid, *gid, name),
            Self::Pid(pid) => number("pid", process.key.pid, *pid, pid),
        }
    }

    fn ancestor(&self, inner: &Self, subject: &Subject<'_>) -> String {
        let verdict = self.answer(subject);
        let line: Vec<&Entry> = subject.table.ancestors(subject.process).collect();
        let decisive = line.iter().find_map(|entry| {
            let (found, words) = inner.why(&Subject::of(entry, subject.table));
            let told = same_kind(found, verdict) && verdict != Tri::No;
            told.then(|| format!("ancestor {} ({}): {words}", entry.process.key.pid, entry.process.comm))
        });
        decisive.unwrap_or_else(|| format!("none of {} known ancestors matches", line.len()))
    }
}

/// The words of the first item that came to `verdict`; of all when the list came to `joint`.
fn list(items: &[Matcher], subject: &Subject<'_>, verdict: Tri, joint: Tri) -> String {
    if items.is_empty() {
        return "an empty list matches nothing".to_owned();
    }
    if verdict == joint {
        return items.iter().map(|item| item.words(subject)).collect::<Vec<_>>().join(" and ");
    }
    let decisive = items.iter().find(|item| same_kind(item.answer(subject), verdict));
    decisive.map(|item| item.words(subject)).unwrap_or_default()
}

const fn same_kind(a: Tri, b: Tri) -> bool {
    matches!((a, b), (Tri::Yes, Tri::Yes) | (Tri::No, Tri::No) | (Tri::Unknown(_), Tri::Unknown(_)))
}

fn number(what: &str, has: u32, wanted: u32, shown: impl std::fmt::Display) -> String {
    if has == wanted { format!("{what} is {shown}") } else { format!("{what} {has} is not {shown}") }
}

fn told(name: &str, fact: &Fact<'_>, words: impl FnOnce(&[u8]) -> String) -> String {
    match fact {
        Fact::Known(bytes) => words(bytes),
        Fact::Unavailable => format!("{name} could not be read"),
        Fact::NotAsked => format!("{name} is not known yet"),
    }
}

fn compare(name: &str, text: &Text, value: &Fact<'_>) -> String {
    told(name, value, |bytes| {
        let yes = text.matches(bytes);
        let shown = quote(bytes);
        let verb = if yes { "matches" } else { "does not match" };
        match text {
            Text::Exact(wanted) if yes => format!("{name} is {}", quote(wanted)),
            Text::Exact(wanted) => format!("{name} {shown} is not {}", quote(wanted)),
            Text::Prefix(wanted) => {
                let verb = if yes { "starts with" } else { "does not start with" };
                format!("{name} {shown} {verb} {}", quote(wanted))
            }
            Text::Glob(glob) => format!("{name} {shown} {verb} glob {:?}", glob.source()),
            Text::Regex(_, source) => format!("{name} {shown} {verb} regex {source:?}"),
        }
    })
}

fn quote(bytes: &[u8]) -> String {
    match bytes.split_at_checked(QUOTE_MAX) {
        Some((head, [_, ..])) => format!("\"{}…\"", printable(head)),
        Some((_, [])) | None => format!("\"{}\"", printable(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::process::Table;
    use crate::engine::rule::testing::{compiled, facts};
    use crate::engine::testing::{at, process};
    use crate::model::rule::{Match, Pattern};

    #[test]
    fn the_deciding_condition_is_named() {
        let mut table = Table::new(8);
        table.observe(&process(10, "make").start(2).build(), false, at(0));
        let p = process(20, "rsync").ppid(10).build();
        let known = facts("/usr/bin/rsync", "rsync -a\n\x1b[31m /", "/user.slice");
        let told = |matches: &Match, dead: bool| {
            let subject = if dead {
                Subject::dead(&p, Some(&known), &table)
            } else {
                Subject { process: &p, facts: None, known: Default::default(), table: &table }
            };
            let (tri, words) = compiled(matches).why(&subject);
            assert_eq!(tri, compiled(matches).eval(&subject, &mut Vec::new()));
            words
        };
        let comm = |text: &str| Match::Comm(Pattern::Exact(text.to_owned()));
        let postgres = || Match::User { name: "postgres".to_owned(), uid: 26 };
        assert_eq!(told(&comm("rsync"), false), "comm is \"rsync\"");
        assert_eq!(told(&comm("tar"), false), "comm \"rsync\" is not \"tar\"");
        assert_eq!(
            told(&Match::All(vec![comm("rsync"), Match::Not(Box::new(postgres()))]), false),
            "comm is \"rsync\" and user 1000 is not postgres"
        );
        assert_eq!(told(&Match::All(vec![comm("rsync"), postgres()]), false), "user 1000 is not postgres");
        assert_eq!(
            told(&Match::Any(vec![comm("tar"), postgres()]), false),
            "comm \"rsync\" is not \"tar\" and user 1000 is not postgres"
        );
        assert_eq!(
            told(&Match::Parent(Box::new(comm("make"))), false),
            "ancestor 10 (make): comm is \"make\""
        );
        assert_eq!(told(&Match::Parent(Box::new(comm("cc"))), false), "none of 1 known ancestors matches");
        assert_eq!(told(&Match::CmdlineRegex("-a".into()), false), "command line is not known yet");
        assert_eq!(
            told(&Match::CmdlineRegex("-a".into()), true),
            "command line \"rsync -a\\x0a\\x1b[31m /\" contains regex \"-a\""
        );
        assert_eq!(
            told(&Match::Cgroup("/x/*".into()), true),
            "cgroup \"/user.slice\" does not match glob \"/x/*\""
        );
        assert_eq!(told(&Match::All(vec![]), false), "an empty list matches nothing");
    }

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(quote(&[b'a'; 121]).len(), QUOTE_MAX + 2 + '…'.len_utf8());
        assert_eq!(quote(&[b'a'; 120]), format!("\"{}\"", "a".repeat(120)));
    }
}
