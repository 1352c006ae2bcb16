//! A validated profile: what the configuration becomes and the engine compiles.

use serde::{Deserialize, Serialize};

use crate::model::id::Name;
use crate::model::limits::{Limits, Scope};

/// How a text field is compared. Byte-wise, because processes choose these texts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// A throttling rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Unique within the profile; also the name of its group.
    pub name: Name,
    /// Which processes.
    pub matches: Match,
    /// What they are limited to.
    pub limits: Limits,
    /// Shared or each.
    pub scope: Scope,
    /// Whether processes may be moved out of a cgroup that is not a hierarchy's root.
    pub allow_move: bool,
    /// Lower numbers first; ties in declared order. The first matching rule owns a process.
    pub priority: i32,
    /// Disabled rules match nothing and are shown as such.
    pub enabled: bool,
}

/// A process that must live.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Critical {
    /// Unique within the profile.
    pub name: Name,
    /// Which processes.
    pub matches: Match,
}

/// A profile, validated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Its name, which is also its file's.
    pub name: Name,
    /// Version as the author counts it.
    pub version: String,
    /// For people.
    pub description: String,
    /// Processes never throttled, and reported when they die.
    pub critical: Vec<Critical>,
    /// Rules in declared order.
    pub rules: Vec<Rule>,
}
