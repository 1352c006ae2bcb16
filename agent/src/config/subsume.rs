//! Whether one match holds wherever another does, told from what is written. Never says so wrongly; where it cannot
//! tell, it says no.

use crate::model::rule::{Match, Pattern};

/// Deepest nesting that is looked at: the comparison branches at every level.
const DEPTH_MAX: u8 = 8;

/// Whether every process that `narrow` matches is matched by `wide`, too.
#[must_use]
pub(super) fn subsumes(wide: &Match, narrow: &Match) -> bool {
    covers(wide, narrow, DEPTH_MAX)
}

fn covers(wide: &Match, narrow: &Match, depth: u8) -> bool {
    if wide == narrow {
        return true;
    }
    let Some(depth) = depth.checked_sub(1) else { return false };
    // What is certain first: splitting these loses nothing.
    if let Match::Any(cases) = narrow {
        return !cases.is_empty() && cases.iter().all(|case| covers(wide, case, depth));
    }
    if let Match::All(conditions) = wide {
        return !conditions.is_empty() && conditions.iter().all(|condition| covers(condition, narrow, depth));
    }
    if let Match::Any(cases) = wide
        && cases.iter().any(|case| covers(case, narrow, depth))
    {
        return true;
    }
    if let Match::All(conditions) = narrow {
        return conditions.iter().any(|condition| covers(wide, condition, depth));
    }
    match (wide, narrow) {
        (Match::Not(wide), Match::Not(narrow)) => covers(narrow, wide, depth),
        (Match::Parent(wide), Match::Parent(narrow)) => covers(wide, narrow, depth),
        (Match::Comm(wide), Match::Comm(narrow)) | (Match::Exe(wide), Match::Exe(narrow)) => {
            pattern_covers(wide, narrow)
        }
        (Match::Cgroup(wide), Match::Cgroup(narrow)) => is_literal_glob(narrow) && glob_matches(wide, narrow),
        (
            Match::Uid(wide) | Match::User { uid: wide, .. },
            Match::Uid(narrow) | Match::User { uid: narrow, .. },
        ) => wide == narrow,
        (Match::Group { gid: wide, .. }, Match::Group { gid: narrow, .. }) => wide == narrow,
        (
            Match::All(_)
            | Match::Any(_)
            | Match::Not(_)
            | Match::Comm(_)
            | Match::Exe(_)
            | Match::CmdlineRegex(_)
            | Match::Uid(_)
            | Match::User { .. }
            | Match::Group { .. }
            | Match::Cgroup(_)
            | Match::Parent(_)
            | Match::Pid(_),
            _,
        ) => false,
    }
}

fn pattern_covers(wide: &Pattern, narrow: &Pattern) -> bool {
    match (wide, narrow) {
        (Pattern::Prefix(wide), Pattern::Exact(narrow) | Pattern::Prefix(narrow)) => {
            narrow.starts_with(wide.as_str())
        }
        (Pattern::Glob(wide), Pattern::Exact(narrow)) => glob_matches(wide, narrow),
        (Pattern::Regex(wide), Pattern::Exact(narrow)) => regex::bytes::Regex::new(&format!("^(?:{wide})$"))
            .is_ok_and(|regex| regex.is_match(narrow.as_bytes())),
        (Pattern::Exact(_) | Pattern::Prefix(_) | Pattern::Glob(_) | Pattern::Regex(_), _) => wide == narrow,
    }
}

fn is_literal_glob(glob: &str) -> bool {
    !glob.contains(['*', '?', '[', '{', '\\'])
}

/// As the engine compares, and as validation compiles.
fn glob_matches(glob: &str, text: &str) -> bool {
    let built = globset::GlobBuilder::new(glob).literal_separator(true).backslash_escape(true).build();
    built.is_ok_and(|glob| glob.compile_matcher().is_match(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comm(text: &str) -> Match {
        Match::Comm(Pattern::Exact(text.to_owned()))
    }

    fn exe(pattern: Pattern) -> Match {
        Match::Exe(pattern)
    }

    fn not(inner: Match) -> Match {
        Match::Not(Box::new(inner))
    }

    #[test]
    fn the_wider_covers_the_narrower_and_not_the_other_way_round() {
        let text = str::to_owned;
        let user = || Match::User { name: text("www"), uid: 33 };
        for (wide, narrow) in [
            (comm("a"), Match::All(vec![comm("a"), Match::Uid(0)])),
            (Match::Any(vec![comm("a"), comm("b")]), comm("b")),
            (Match::Any(vec![comm("a"), comm("b"), comm("c")]), Match::Any(vec![comm("c"), comm("a")])),
            (not(Match::All(vec![comm("a"), Match::Uid(0)])), not(comm("a"))),
            (exe(Pattern::Prefix(text("/usr/"))), exe(Pattern::Exact(text("/usr/sbin/nginx")))),
            (exe(Pattern::Prefix(text("/usr/"))), exe(Pattern::Prefix(text("/usr/sbin/")))),
            (exe(Pattern::Glob(text("/usr/*/nginx"))), exe(Pattern::Exact(text("/usr/sbin/nginx")))),
            (Match::Comm(Pattern::Regex(text("cc1(plus)?"))), comm("cc1plus")),
            (Match::Cgroup(text("/system.slice/**")), Match::Cgroup(text("/system.slice/a.service"))),
            (
                Match::Parent(Box::new(comm("a"))),
                Match::Parent(Box::new(Match::All(vec![comm("a"), comm("b")]))),
            ),
            (user(), Match::All(vec![Match::Uid(33), comm("x")])),
        ] {
            assert!(subsumes(&wide, &narrow), "{wide:?} {narrow:?}");
            assert!(!subsumes(&narrow, &wide), "{narrow:?} {wide:?}");
        }
        assert!(subsumes(&user(), &Match::Uid(33)) && subsumes(&Match::Uid(33), &user()));
    }

    #[test]
    fn what_cannot_be_told_is_no() {
        let text = str::to_owned;
        for (wide, narrow) in [
            (comm("a"), comm("b")),
            (comm("a"), not(comm("a"))),
            (exe(Pattern::Glob(text("/usr/*/nginx"))), exe(Pattern::Exact(text("/usr/local/sbin/nginx")))),
            (exe(Pattern::Glob(text("/a*"))), exe(Pattern::Glob(text("/ab*")))),
            (Match::Cgroup(text("/a/*")), Match::Cgroup(text("/a/**"))),
            (Match::Comm(Pattern::Regex(text("a"))), comm("ab")),
            (Match::CmdlineRegex(text("a")), Match::CmdlineRegex(text("ab"))),
            (comm("a"), Match::Parent(Box::new(comm("a")))),
            // Neither ever matches anything, but that is said elsewhere.
            (Match::All(Vec::new()), comm("a")),
        ] {
            assert!(!subsumes(&wide, &narrow), "{wide:?} {narrow:?}");
        }
    }
}
