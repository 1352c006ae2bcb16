//! A validated profile: what the configuration becomes and the engine compiles.

use serde::{Deserialize, Serialize};

pub use crate::model::critical::Critical;
use crate::model::id::Name;
use crate::model::limits::{Limits, Scope};
use crate::model::policy::{Policy, When};

/// How a text field is compared. Byte-wise, because processes choose these texts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Pattern {
    /// The whole text equals this.
    Exact(String),
    /// The text starts with this.
    Prefix(String),
    /// The whole text matches this glob; `*` does not cross `/` in paths, `**` does.
    Glob(String),
    /// The whole text matches this regular expression (anchored at both ends).
    Regex(String),
}

/// A condition on a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Match {
    /// All hold; an empty list never matches.
    All(Vec<Self>),
    /// At least one holds.
    Any(Vec<Self>),
    /// It does not hold. Unknown facts do not make it hold.
    Not(Box<Self>),
    /// comm.
    Comm(Pattern),
    /// Executable path.
    Exe(Pattern),
    /// Command line, arguments joined by spaces; found anywhere in it.
    CmdlineRegex(String),
    /// Real uid.
    Uid(u32),
    /// Real uid of a user named in the configuration and looked up when it was validated.
    User {
        /// The name.
        name: String,
        /// Its uid.
        uid: u32,
    },
    /// Real gid of a group named in the configuration and looked up when it was validated.
    Group {
        /// The name.
        name: String,
        /// Its gid.
        gid: u32,
    },
    /// Glob on the cgroup path, with a leading `/`.
    Cgroup(String),
    /// Some ancestor, at any distance, satisfies this.
    Parent(Box<Self>),
    /// Process id.
    Pid(u32),
}

impl Match {
    /// Whether a process can bring this about by naming itself: its comm (`prctl(2)`, `PR_SET_NAME`) and its
    /// command line are its own to write. Such a match may select whom to limit or to alert for, but earns
    /// nobody an exception. A negation never earns one by itself, whatever it negates.
    #[must_use]
    pub fn is_forgeable(&self) -> bool {
        match self {
            Self::All(items) => items.iter().all(Self::is_forgeable),
            Self::Any(items) => items.iter().any(Self::is_forgeable),
            Self::Not(_) | Self::Comm(_) | Self::CmdlineRegex(_) => true,
            Self::Parent(inner) => inner.is_forgeable(),
            Self::Exe(_)
            | Self::Uid(_)
            | Self::User { .. }
            | Self::Group { .. }
            | Self::Cgroup(_)
            | Self::Pid(_) => false,
        }
    }
}

/// What to do when somebody else changes a value that a limit set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum OnConflict {
    /// Leave theirs in force, until the limits are stated anew.
    #[default]
    Yield,
    /// Write ours again, a few times; then yield.
    Reassert,
}

/// A throttling rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Rule {
    /// Unique within the profile; also the name of its group.
    pub name: Name,
    /// For people; empty when none was written.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Which processes.
    pub matches: Match,
    /// Under which conditions of the machine; always, when there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<When>,
    /// What they are limited to; where the policy changes it, where that begins or ends.
    pub limits: Limits,
    /// How the limits change over time.
    #[serde(default, skip_serializing_if = "Policy::is_fixed")]
    pub policy: Policy,
    /// Shared or each.
    pub scope: Scope,
    /// Whether processes may be moved out of a cgroup that is not a hierarchy's root.
    pub allow_move: bool,
    /// What to do when somebody else changes its values.
    #[serde(default)]
    pub on_conflict: OnConflict,
    /// Whether a whole systemd unit may be limited although other processes are in it, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub whole_unit: bool,
    /// Lower numbers first; ties in declared order. The first matching rule owns a process.
    pub priority: i32,
    /// Disabled rules match nothing and are shown as such.
    pub enabled: bool,
}

/// A profile, validated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Profile {
    /// Its name, which is also its file's.
    pub name: Name,
    /// Version as the author counts it.
    pub version: String,
    /// For people.
    pub description: String,
    /// Processes reported when they die, and never throttled where their match is not forgeable.
    pub critical: Vec<Critical>,
    /// Rules in declared order.
    pub rules: Vec<Rule>,
    /// When other profiles take its place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schedule: Vec<Turn>,
}

/// A profile that comes into force by the calendar.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Turn {
    /// When, as crontab(5) writes it, by the machine's wall clock.
    pub cron: String,
    /// Which.
    pub profile: Name,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_says_of_itself_is_forgeable() {
        let comm = || Match::Comm(Pattern::Exact("nginx".to_owned()));
        let line = || Match::CmdlineRegex("nginx: master".to_owned());
        let exe = || Match::Exe(Pattern::Exact("/usr/sbin/nginx".to_owned()));
        let not = |inner| Match::Not(Box::new(inner));
        let parent = |inner| Match::Parent(Box::new(inner));
        for forgeable in [
            comm(),
            line(),
            not(comm()),
            not(Match::Uid(1000)),
            parent(comm()),
            parent(Match::Any(vec![exe(), line()])),
            Match::All(vec![comm(), line(), not(exe())]),
            Match::All(vec![comm(), Match::Any(vec![Match::Uid(0), line()])]),
            Match::Any(vec![exe(), comm()]),
            Match::Any(vec![exe(), not(exe())]),
        ] {
            assert!(forgeable.is_forgeable(), "{forgeable:?}");
        }
        for earned in [
            exe(),
            Match::Uid(0),
            Match::User { name: "root".to_owned(), uid: 0 },
            Match::Group { name: "adm".to_owned(), gid: 4 },
            Match::Cgroup("/system.slice/**".to_owned()),
            Match::Pid(7),
            parent(exe()),
            Match::All(vec![comm(), exe()]),
            Match::All(vec![not(comm()), Match::Uid(0)]),
            Match::All(vec![comm(), Match::Any(vec![exe(), Match::Uid(0)])]),
            Match::Any(vec![Match::All(vec![line(), exe()]), Match::Uid(0)]),
        ] {
            assert!(!earned.is_forgeable(), "{earned:?}");
        }
    }
}
