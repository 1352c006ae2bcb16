//! Where a file is inside of a backup. Every path from an archive becomes one of these before anything else is done
//! with it.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::Dirs;

/// Longest component of a path in bytes: the name field of a tar header (POSIX.1-1988 ustar).
const COMPONENT_MAX: usize = 100;
/// Most components below the place.
const DEPTH_MAX: usize = 3;

/// One of the directories of an installation that backups cover.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Configuration.
    Config,
    /// Databases.
    State,
    /// Audit trail.
    Log,
}

impl Place {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Config, Self::State, Self::Log];

    /// Its name in an archive.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::State => "state",
            Self::Log => "log",
        }
    }

    /// Where it is in an installation.
    #[must_use]
    pub const fn dir(self, dirs: &Dirs) -> &PathBuf {
        match self {
            Self::Config => &dirs.config,
            Self::State => &dirs.state,
            Self::Log => &dirs.log,
        }
    }
}

/// A database that backups hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Database {
    /// What was done to the kernel, and what operators want limited.
    State,
    /// Events, the outbox, the active profile.
    Journal,
}

impl Database {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::State, Self::Journal];

    /// Its file name.
    #[must_use]
    pub const fn file_name(self) -> &'static str {
        match self {
            Self::State => "state.db",
            Self::Journal => "journal.db",
        }
    }

    /// Its path in an archive.
    #[must_use]
    pub fn inside(self) -> Inside {
        Inside { place: Place::State, rest: self.file_name().to_owned() }
    }

    /// Which of the two kinds of database it is.
    #[must_use]
    pub const fn durability(self) -> crate::store::Durability {
        match self {
            Self::State => crate::store::Durability::Process,
            Self::Journal => crate::store::Durability::Power,
        }
    }
}

/// A path inside of a backup: a place and one to three plain names below it. Never absolute, never hidden, never with
/// `..`, and only where a backup puts files.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
pub struct Inside {
    place: Place,
    rest: String,
}

impl Inside {
    /// A path below a place.
    ///
    /// # Errors
    /// Why a backup cannot hold it.
    pub fn new(place: Place, rest: &str) -> Result<Self, String> {
        let parts: Vec<&str> = rest.split('/').collect();
        if parts.len() > DEPTH_MAX {
            return Err(format!("{rest:?} has more than {DEPTH_MAX} parts"));
        }
        for part in &parts {
            component(part).map_err(|why| format!("{rest:?} {why}"))?;
        }
        let known = match place {
            Place::Config => true,
            Place::State => Database::ALL.iter().any(|database| database.file_name() == rest),
            Place::Log => parts.len() == 1 && rest.starts_with("audit"),
        };
        if known {
            Ok(Self { place, rest: rest.to_owned() })
        } else {
            Err(format!("{rest:?} is nothing that a backup keeps in {}", place.as_str()))
        }
    }

    /// From the path as it stands in an archive.
    ///
    /// # Errors
    /// Why it cannot stand there.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (first, rest) = text.split_once('/').ok_or_else(|| format!("{text:?} is in no place"))?;
        let place = Place::ALL.into_iter().find(|place| place.as_str() == first);
        Self::new(place.ok_or_else(|| format!("{text:?} is in no place"))?, rest)
    }

    /// The place.
    #[must_use]
    pub const fn place(&self) -> Place {
        self.place
    }

    /// The path below the place.
    #[must_use]
    pub fn rest(&self) -> &str {
        &self.rest
    }

    /// Its parent's path in the archive and its own name.
    pub(super) fn split(&self) -> (String, &str) {
        match self.rest.rsplit_once('/') {
            Some((parent, name)) => (format!("{}/{parent}", self.place.as_str()), name),
            None => (self.place.as_str().to_owned(), &self.rest),
        }
    }
}

fn component(part: &str) -> Result<(), &'static str> {
    if part.is_empty() {
        Err("has an empty part")
    } else if part.starts_with('.') {
        Err("has a hidden part, or one that leads elsewhere")
    } else if part.len() > COMPONENT_MAX {
        Err("has a part that is too long")
    } else if part.chars().any(|c| c.is_control() || c == '\\') {
        Err("has characters that no file of ours has")
    } else {
        Ok(())
    }
}

impl fmt::Display for Inside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.place.as_str(), self.rest)
    }
}

impl From<Inside> for String {
    fn from(path: Inside) -> Self {
        path.to_string()
    }
}

impl TryFrom<String> for Inside {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_backup_holds_is_a_path() {
        for bad in [
            "",
            "/",
            "config",
            "config/",
            "/etc/passwd",
            "config//x",
            "config/../x",
            "config/..",
            "config/.hidden",
            "config/a/./b",
            "../config/x",
            "state/other.db",
            "state/state.db/x",
            "log/daemon.log",
            "log/audit/x",
            "etc/passwd",
            "config/a\\b",
            "config/a\nb",
            "config/a/b/c/d",
            "config/a\0b",
        ] {
            assert!(Inside::parse(bad).is_err(), "{bad:?}");
        }
        assert!(Inside::parse(&format!("config/{}", "a".repeat(101))).is_err());
        for good in ["config/config.yaml", "config/config.d/10 ü.yaml", "state/state.db", "log/audit.jsonl.1"]
        {
            assert_eq!(Inside::parse(good).unwrap().to_string(), good);
        }
    }
}
