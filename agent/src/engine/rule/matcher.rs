//! Whether a condition holds, in three values: facts that are not known must neither throttle nor acquit.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use globset::GlobMatcher;
use regex::bytes::Regex;

use crate::engine::action::Wants;
use crate::engine::process::{Entry, Table};
use crate::model::id::ProcKey;
use crate::model::process::{Facts, Process};

/// A compiled condition.
#[derive(Clone, Debug)]
pub(crate) enum Matcher {
    All(Vec<Self>),
    Any(Vec<Self>),
    Not(Box<Self>),
    Comm(Text),
    Exe(Text),
    Cmdline(Regex),
    Uid(u32),
    User { name: String, uid: u32 },
    Group { name: String, gid: u32 },
    Cgroup(Glob),
    Parent(Box<Self>),
    Pid(u32),
}

/// A compiled comparison of bytes.
#[derive(Clone, Debug)]
pub(crate) enum Text {
    Exact(Vec<u8>),
    Prefix(Vec<u8>),
    Glob(Glob),
    /// With its source, which the anchors would spoil.
    Regex(Regex, String),
}

impl Text {
    pub(crate) fn matches(&self, bytes: &[u8]) -> bool {
        match self {
            Self::Exact(text) => bytes == text.as_slice(),
            Self::Prefix(text) => bytes.starts_with(text),
            Self::Glob(glob) => glob.matches(bytes),
            Self::Regex(regex, _) => regex.is_match(bytes),
        }
    }
}

/// A compiled glob.
#[derive(Clone, Debug)]
pub(crate) struct Glob {
    matcher: GlobMatcher,
    /// What it begins with before anything special: tells most texts apart without running it.
    head: Vec<u8>,
}

impl Glob {
    pub(crate) fn new(matcher: GlobMatcher) -> Self {
        let source = matcher.glob().glob().as_bytes();
        let end = source.iter().position(|byte| b"*?[]{},!\\".contains(byte)).unwrap_or(source.len());
        let head = source.iter().copied().take(end).collect();
        Self { matcher, head }
    }

    /// As written.
    pub(crate) fn source(&self) -> &str {
        self.matcher.glob().glob()
    }

    /// What every match begins with; may be empty.
    pub(crate) fn head(&self) -> &[u8] {
        &self.head
    }

    pub(crate) fn matches(&self, bytes: &[u8]) -> bool {
        bytes.starts_with(&self.head) && self.matcher.is_match(OsStr::from_bytes(bytes))
    }
}

/// What a condition comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tri {
    Yes,
    No,
    /// Undecided. These facts of the process may decide it; none when what is missing cannot be had, or is
    /// an ancestor's.
    Unknown(Wants),
}

impl Tri {
    pub(crate) const fn from_bool(yes: bool) -> Self {
        if yes { Self::Yes } else { Self::No }
    }

    const fn not(self) -> Self {
        match self {
            Self::Yes => Self::No,
            Self::No => Self::Yes,
            Self::Unknown(wants) => Self::Unknown(wants),
        }
    }
}

/// Whom a condition is asked about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) process: &'a Process,
    pub(crate) facts: Option<&'a Facts>,
    /// What `facts` covers; a covered fact that is absent cannot be had.
    pub(crate) known: Wants,
    /// For the ancestors.
    pub(crate) table: &'a Table,
}

/// What must be known of ancestors before a condition is decided.
pub(crate) type AncestorWants = Vec<(ProcKey, Wants)>;

/// A fact of `/proc` as far as it is known.
pub(crate) enum Fact<'a> {
    Known(&'a [u8]),
    Unavailable,
    NotAsked,
}

impl<'a> Subject<'a> {
    /// A process of the table.
    pub(crate) fn of(entry: &'a Entry, table: &'a Table) -> Self {
        let inspection = &entry.inspection;
        Self { process: &entry.process, facts: inspection.facts.as_deref(), known: inspection.known, table }
    }

    /// A process that has died: nothing more can be asked of it.
    pub(crate) const fn dead(process: &'a Process, facts: Option<&'a Facts>, table: &'a Table) -> Self {
        Self { process, facts, known: Wants::ALL, table }
    }

    pub(crate) fn exe(&self) -> Fact<'a> {
        fact(self.facts.and_then(|facts| facts.exe.as_deref()), self.known.exe)
    }

    pub(crate) fn cmdline(&self) -> Fact<'a> {
        fact(self.facts.and_then(|facts| facts.cmdline.as_deref()), self.known.cmdline)
    }

    pub(crate) fn cgroup_path(&self) -> Fact<'a> {
        fact(self.facts.and_then(|facts| facts.cgroup_path.as_deref()), self.known.cgroup_path)
    }
}

const fn fact(value: Option<&[u8]>, known: bool) -> Fact<'_> {
    match (value, known) {
        (Some(bytes), true) => Fact::Known(bytes),
        (None, true) => Fact::Unavailable,
        (_, false) => Fact::NotAsked,
    }
}

const WANT_EXE: Wants = Wants { exe: true, cmdline: false, cgroup_path: false };
const WANT_CMDLINE: Wants = Wants { exe: false, cmdline: true, cgroup_path: false };
const WANT_CGROUP: Wants = Wants { exe: false, cmdline: false, cgroup_path: true };
const NOTHING: Wants = Wants { exe: false, cmdline: false, cgroup_path: false };

impl Matcher {
    /// Evaluates the condition. What it needs to know of ancestors is appended to `ancestors` when it comes
    /// out unknown, and only then. Allocates nothing otherwise.
    pub(crate) fn eval(&self, subject: &Subject<'_>, ancestors: &mut AncestorWants) -> Tri {
        match self {
            Self::All(items) => gather(items, Tri::No, subject, ancestors),
            Self::Any(items) => gather(items, Tri::Yes, subject, ancestors),
            Self::Not(inner) => inner.eval(subject, ancestors).not(),
            Self::Parent(inner) => some_ancestor(inner, subject, ancestors),
            Self::Comm(_)
            | Self::Exe(_)
            | Self::Cmdline(_)
            | Self::Uid(_)
            | Self::User { .. }
            | Self::Group { .. }
            | Self::Cgroup(_)
            | Self::Pid(_) => self.leaf(subject),
        }
    }

    fn leaf(&self, subject: &Subject<'_>) -> Tri {
        let process = subject.process;
        match self {
            Self::Comm(text) => Tri::from_bool(text.matches(process.comm.bytes())),
            Self::Exe(text) => judge(subject.exe(), WANT_EXE, |bytes| text.matches(bytes)),
            Self::Cmdline(regex) => judge(subject.cmdline(), WANT_CMDLINE, |bytes| regex.is_match(bytes)),
            Self::Cgroup(glob) => judge(subject.cgroup_path(), WANT_CGROUP, |bytes| glob.matches(bytes)),
            Self::Uid(uid) | Self::User { uid, .. } => Tri::from_bool(process.uid == *uid),
            Self::Group { gid, .. } => Tri::from_bool(process.gid == *gid),
            Self::Pid(pid) => Tri::from_bool(process.key.pid == *pid),
            Self::All(_) | Self::Any(_) | Self::Not(_) | Self::Parent(_) => Tri::Unknown(NOTHING),
        }
    }
}

fn judge(fact: Fact<'_>, wants: Wants, matches: impl FnOnce(&[u8]) -> bool) -> Tri {
    match fact {
        Fact::Known(bytes) => Tri::from_bool(matches(bytes)),
        Fact::Unavailable => Tri::Unknown(NOTHING),
        Fact::NotAsked => Tri::Unknown(wants),
    }
}

/// `all` and `any`: the first item that comes to `decisive` decides; else what is unknown leaves it open;
/// else it is the opposite. An empty list is a No either way.
fn gather(items: &[Matcher], decisive: Tri, subject: &Subject<'_>, ancestors: &mut AncestorWants) -> Tri {
    let mark = ancestors.len();
    let mut open: Option<Wants> = None;
    for item in items {
        match item.eval(subject, ancestors) {
            Tri::Unknown(wants) => open = Some(open.unwrap_or(NOTHING).and(wants)),
            decided if decided == decisive => {
                ancestors.truncate(mark);
                return decisive;
            }
            Tri::Yes | Tri::No => {}
        }
    }
    match open {
        Some(wants) => Tri::Unknown(wants),
        None if items.is_empty() => Tri::No,
        None => decisive.not(),
    }
}

fn some_ancestor(inner: &Matcher, subject: &Subject<'_>, ancestors: &mut AncestorWants) -> Tri {
    let mark = ancestors.len();
    let mut open = false;
    for entry in subject.table.ancestors(subject.process) {
        match inner.eval(&Subject::of(entry, subject.table), ancestors) {
            Tri::Yes => {
                ancestors.truncate(mark);
                return Tri::Yes;
            }
            Tri::No => {}
            Tri::Unknown(wants) => {
                open = true;
                if !wants.is_empty() {
                    ancestors.push((entry.process.key, wants));
                }
            }
        }
    }
    if open { Tri::Unknown(NOTHING) } else { Tri::No }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::rule::testing::{compiled, facts};
    use crate::engine::testing::{at, process};
    use crate::model::rule::{Match, Pattern};

    const YES: Tri = Tri::Yes;
    const NO: Tri = Tri::No;
    const OPEN: Tri = Tri::Unknown(NOTHING);

    fn eval(matches: &Match, process: &Process, facts: Option<&Facts>, known: Wants) -> Tri {
        let table = Table::new(1);
        let subject = Subject { process, facts, known, table: &table };
        compiled(matches).eval(&subject, &mut Vec::new())
    }

    fn comm(pattern: Pattern, bytes: &[u8]) -> Tri {
        eval(&Match::Comm(pattern), &process(7, "").comm(bytes).build(), None, NOTHING)
    }

    #[test]
    fn comm_in_all_forms_and_with_hostile_bytes() {
        let text = |s: &str| s.to_owned();
        for (pattern, bytes, expected) in [
            (Pattern::Exact(text("rsync")), &b"rsync"[..], YES),
            (Pattern::Exact(text("rsync")), b"rsyncd", NO),
            (Pattern::Exact(text("a-name-longer-than-fifteen")), b"a-name-longer-t", YES),
            (Pattern::Prefix(text("back")), b"backup", YES),
            (Pattern::Prefix(text("back")), b"bac", NO),
            (Pattern::Prefix(text("back")), b"back\xff\xfe", YES),
            (Pattern::Glob(text("kworker/*")), b"kworker/0:1-x/y", YES),
            (Pattern::Glob(text("a?c")), b"a\xffc", YES),
            (Pattern::Glob(text("a*")), b"ba", NO),
            (Pattern::Regex(text("ba+ck.*")), b"baack\xff\n\x1b", YES),
            (Pattern::Regex(text("ack")), b"back", NO),
            (Pattern::Regex(text(r"\p{Greek}+")), "αβγ".as_bytes(), YES),
            (Pattern::Regex(text(".*")), b"", YES),
            (Pattern::Exact(text("\u{fffd}")), b"\xff", NO),
        ] {
            assert_eq!(comm(pattern.clone(), bytes), expected, "{pattern:?} on {bytes:?}");
        }
    }

    #[test]
    fn facts_are_wanted_until_known_and_open_when_they_cannot_be_had() {
        let exe = Match::Exe(Pattern::Glob("/usr/*/nginx".to_owned()));
        let nginx = process(7, "nginx").build();
        assert_eq!(eval(&exe, &nginx, None, NOTHING), Tri::Unknown(WANT_EXE));
        assert_eq!(eval(&exe, &nginx, None, Wants::ALL), OPEN);
        assert_eq!(eval(&exe, &nginx, Some(&facts("/usr/sbin/nginx", "", "")), Wants::ALL), YES);
        assert_eq!(eval(&exe, &nginx, Some(&facts("/usr/a/b/nginx", "", "")), Wants::ALL), NO);
        let not = Match::Not(Box::new(exe));
        assert_eq!(eval(&not, &nginx, None, NOTHING), Tri::Unknown(WANT_EXE));
        assert_eq!(eval(&not, &nginx, None, Wants::ALL), OPEN);
        assert_eq!(eval(&not, &nginx, Some(&facts("/bin/x", "", "")), Wants::ALL), YES);
    }

    #[test]
    fn command_lines_and_cgroups() {
        let line = Match::CmdlineRegex(r"backup\.(sh|py)".to_owned());
        let p = process(7, "sh").build();
        let mut found = facts("", "sh /opt/backup.sh --all", "/user.slice/a.scope");
        assert_eq!(eval(&line, &p, Some(&found), Wants::ALL), YES);
        found.cmdline = Some(b"sh \xff\xfe/opt/backup.py\n".to_vec());
        assert_eq!(eval(&line, &p, Some(&found), Wants::ALL), YES);
        found.cmdline = Some(b"sh backupXsh".to_vec());
        assert_eq!(eval(&line, &p, Some(&found), Wants::ALL), NO);
        let cgroup = |glob: &str| eval(&Match::Cgroup(glob.to_owned()), &p, Some(&found), Wants::ALL);
        assert_eq!((cgroup("/user.slice/*"), cgroup("/*"), cgroup("/**")), (YES, NO, YES));
    }

    #[test]
    fn plain_numbers() {
        let p = process(7, "x").uid(26).build();
        let user = |uid| Match::User { name: "postgres".to_owned(), uid };
        let check = |matches: &Match| eval(matches, &p, None, NOTHING);
        assert_eq!((check(&user(26)), check(&user(27))), (YES, NO));
        assert_eq!((check(&Match::Uid(26)), check(&Match::Uid(0))), (YES, NO));
        assert_eq!((check(&Match::Pid(7)), check(&Match::Pid(8))), (YES, NO));
        let group = Match::Group { name: "staff".to_owned(), gid: 1000 };
        assert_eq!(check(&group), YES);
    }

    #[test]
    fn unknowns_matter_only_while_they_can_decide() {
        let p = process(7, "x").uid(5).build();
        let check = |matches: &Match| eval(matches, &p, None, NOTHING);
        let line = || Match::CmdlineRegex("z".to_owned());
        assert_eq!(check(&Match::All(vec![line(), Match::Uid(6)])), NO);
        assert_eq!(check(&Match::All(vec![line(), Match::Uid(5)])), Tri::Unknown(WANT_CMDLINE));
        assert_eq!(check(&Match::Any(vec![line(), Match::Uid(5)])), YES);
        assert_eq!(check(&Match::Any(vec![line(), Match::Uid(6)])), Tri::Unknown(WANT_CMDLINE));
        assert_eq!(check(&Match::All(Vec::new())), NO);
        assert_eq!(check(&Match::Any(Vec::new())), NO);
    }

    #[test]
    fn any_ancestor_counts_and_its_facts_are_asked_for() {
        let mut table = Table::new(8);
        table.observe(&process(1, "init").start(1).build(), false, at(0));
        table.observe(&process(10, "make").start(2).ppid(1).build(), false, at(0));
        table.observe(&process(20, "sh").start(3).ppid(10).build(), false, at(0));
        let child = process(30, "cc").start(4).ppid(20).build();
        let subject = Subject { process: &child, facts: None, known: NOTHING, table: &table };
        let parent = |inner| compiled(&Match::Parent(Box::new(inner)));
        let mut wants = Vec::new();
        let exact = |s: &str| Pattern::Exact(s.to_owned());
        assert_eq!(parent(Match::Comm(exact("make"))).eval(&subject, &mut wants), YES);
        assert_eq!(parent(Match::Comm(exact("cc"))).eval(&subject, &mut wants), NO);
        assert!(wants.is_empty());
        let exe = parent(Match::All(vec![Match::Comm(exact("make")), Match::Exe(exact("/usr/bin/make"))]));
        assert_eq!(exe.eval(&subject, &mut wants), OPEN);
        assert_eq!(wants, [(ProcKey { pid: 10, start: 2 }, WANT_EXE)]);
    }
}
