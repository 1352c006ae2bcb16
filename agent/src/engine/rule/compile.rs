//! From a validated profile to matchers: once per activation, so that evaluation compiles nothing.

use globset::GlobBuilder;
use regex::bytes::{Regex, RegexBuilder};

use crate::engine::rule::matcher::{Glob, Matcher, Text};
use crate::engine::rule::{CompiledCritical, CompiledRule, RuleSet};
use crate::model::id::Name;
use crate::model::process::Comm;
use crate::model::rule::{Match, Pattern, Profile};

/// Longest compiled regular expression in bytes: a profile of hundreds stays within the agent's memory.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// Deepest nesting of `any`, `all`, `not` and `parent`; bounds recursion.
const DEPTH_MAX: u32 = 32;

/// Why a profile does not compile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("profile {profile}, {entry}")]
pub struct CompileError {
    /// The profile.
    pub profile: Name,
    /// The rule or the critical process.
    pub entry: Name,
    /// What is wrong.
    #[source]
    pub source: PatternError,
}

/// Why a pattern does not compile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// A regular expression.
    #[error("regular expression {pattern:?}: {message}")]
    Regex {
        /// As written.
        pattern: String,
        /// The parser's words.
        message: String,
    },
    /// A glob.
    #[error("glob {pattern:?}: {message}")]
    Glob {
        /// As written.
        pattern: String,
        /// The parser's words.
        message: String,
    },
    /// Conditions within conditions.
    #[error("conditions nested deeper than {DEPTH_MAX}")]
    TooDeep,
}

impl RuleSet {
    /// Compiles a profile.
    ///
    /// # Errors
    /// The first pattern that does not compile.
    pub fn compile(profile: &Profile) -> Result<Self, CompileError> {
        let matcher = |entry: &Name, matches: &Match| {
            compile(matches, DEPTH_MAX).map_err(|source| CompileError {
                profile: profile.name.clone(),
                entry: entry.clone(),
                source,
            })
        };
        let criticals = profile
            .critical
            .iter()
            .map(|spec| {
                Ok(CompiledCritical {
                    name: spec.name.clone(),
                    matcher: matcher(&spec.name, &spec.matches)?,
                    protects: !spec.matches.is_forgeable(),
                    expect: spec.expect,
                    protection: spec.protection.clone(),
                })
            })
            .collect::<Result<_, _>>()?;
        let mut rules = profile
            .rules
            .iter()
            .map(|spec| Ok(CompiledRule { spec: spec.clone(), matcher: matcher(&spec.name, &spec.matches)? }))
            .collect::<Result<Vec<_>, _>>()?;
        rules.sort_by_key(|rule| rule.spec.priority);
        Ok(Self { profile: profile.name.clone(), criticals, rules })
    }
}

fn compile(matches: &Match, depth: u32) -> Result<Matcher, PatternError> {
    let depth = depth.checked_sub(1).ok_or(PatternError::TooDeep)?;
    let list = |items: &[Match]| items.iter().map(|item| compile(item, depth)).collect::<Result<_, _>>();
    Ok(match matches {
        Match::All(items) => Matcher::All(list(items)?),
        Match::Any(items) => Matcher::Any(list(items)?),
        Match::Not(inner) => Matcher::Not(Box::new(compile(inner, depth)?)),
        Match::Parent(inner) => Matcher::Parent(Box::new(compile(inner, depth)?)),
        Match::Comm(pattern) => Matcher::Comm(text(pattern, Subject::Comm)?),
        Match::Exe(pattern) => Matcher::Exe(text(pattern, Subject::Path)?),
        Match::CmdlineRegex(source) => Matcher::Cmdline(regex(source, source)?),
        Match::Uid(uid) => Matcher::Uid(*uid),
        Match::User { name, uid } => Matcher::User { name: name.clone(), uid: *uid },
        Match::Group { name, gid } => Matcher::Group { name: name.clone(), gid: *gid },
        Match::Cgroup(source) => Matcher::Cgroup(glob(source, true)?),
        Match::Pid(pid) => Matcher::Pid(*pid),
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Subject {
    /// At most 15 bytes, and slashes mean nothing.
    Comm,
    /// A path.
    Path,
}

fn text(pattern: &Pattern, subject: Subject) -> Result<Text, PatternError> {
    // The kernel cuts a comm at 15 bytes; a longer one in a rule means the same program.
    let cut = |text: &str| match subject {
        Subject::Comm => Comm::from_bytes(text.as_bytes()).bytes().to_vec(),
        Subject::Path => text.as_bytes().to_vec(),
    };
    Ok(match pattern {
        Pattern::Exact(text) => Text::Exact(cut(text)),
        Pattern::Prefix(text) => Text::Prefix(cut(text)),
        Pattern::Glob(source) => Text::Glob(glob(source, subject == Subject::Path)?),
        Pattern::Regex(source) => {
            // By itself first: unbalanced parentheses would let a part of it out of the anchors.
            regex(source, source)?;
            Text::Regex(regex(&format!(r"\A(?:{source})\z"), source)?, source.clone())
        }
    })
}

fn glob(source: &str, path: bool) -> Result<Glob, PatternError> {
    match GlobBuilder::new(source).literal_separator(path).backslash_escape(true).build() {
        Ok(glob) => Ok(Glob::new(glob.compile_matcher())),
        Err(error) => {
            Err(PatternError::Glob { pattern: source.to_owned(), message: error.kind().to_string() })
        }
    }
}

/// Byte-wise, so that a process cannot evade a rule by invalid UTF-8; Unicode classes only where the
/// pattern needs them.
fn regex(pattern: &str, shown: &str) -> Result<Regex, PatternError> {
    let build = |unicode| {
        RegexBuilder::new(pattern)
            .unicode(unicode)
            .dot_matches_new_line(true)
            .size_limit(REGEX_BYTES_MAX)
            .dfa_size_limit(REGEX_BYTES_MAX)
            .build()
    };
    build(false).or_else(|_| build(true)).map_err(|error| PatternError::Regex {
        pattern: shown.to_owned(),
        // The parser draws the pattern over several lines; the last one says what is wrong.
        message: error
            .to_string()
            .lines()
            .last()
            .unwrap_or_default()
            .trim_start_matches("error: ")
            .to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(matches: &Match) -> String {
        compile(matches, DEPTH_MAX).unwrap_err().to_string()
    }

    #[test]
    fn errors_name_the_pattern() {
        let bad = error(&Match::CmdlineRegex("backup(".to_owned()));
        assert_eq!(bad, "regular expression \"backup(\": unclosed group");
        let bad = error(&Match::Cgroup("/a[".to_owned()));
        assert!(bad.starts_with("glob \"/a[\": unclosed"), "{bad}");
        assert!(error(&Match::Comm(Pattern::Regex("(x{1000}){1000}".to_owned()))).contains("size limit"));
    }

    #[test]
    fn a_pattern_cannot_leave_its_anchors() {
        let Ok(Matcher::Comm(text)) = compile(&Match::Comm(Pattern::Regex("a|b".to_owned())), DEPTH_MAX)
        else {
            panic!("a comm matcher");
        };
        assert!(text.matches(b"a") && text.matches(b"b"));
        assert!(!text.matches(b"ax") && !text.matches(b"xb") && !text.matches(b"a\n"));
        assert!(error(&Match::Comm(Pattern::Regex("a)|(?:b".to_owned()))).contains("unopened group"));
    }

    #[test]
    fn nesting_is_bounded() {
        let nest = |times| (0..times).fold(Match::Uid(0), |inner, _| Match::Not(Box::new(inner)));
        assert!(compile(&nest(DEPTH_MAX - 1), DEPTH_MAX).is_ok());
        assert_eq!(compile(&nest(DEPTH_MAX), DEPTH_MAX).unwrap_err(), PatternError::TooDeep);
    }
}
