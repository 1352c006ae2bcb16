//! Which source: the best that the kernel permits, and the next one when it breaks.
//!
//! Opening sources is the caller's and their own business; this module decides the order and keeps the
//! reasons, so that `daemon status` can say what is degraded and why.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::model::chain::chain;
use crate::procfs::Proc;
use crate::source::netlink::Netlink;
use crate::source::poll::{INTERVAL, Poll};
use crate::source::{Source, SourceError};

/// A source, from the best to the last resort.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The eBPF programs.
    Ebpf,
    /// The netlink proc connector.
    Netlink,
    /// `/proc` polling.
    Poll,
}

impl Kind {
    /// Its name, as [`Source::name`] gives it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ebpf => "ebpf",
            Self::Netlink => "netlink",
            Self::Poll => "poll",
        }
    }

    /// The next best.
    #[must_use]
    pub const fn next(self) -> Option<Self> {
        match self {
            Self::Ebpf => Some(Self::Netlink),
            Self::Netlink => Some(Self::Poll),
            Self::Poll => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the configuration asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Choice {
    /// The best one that works.
    #[default]
    Auto,
    /// This one or none.
    Only(Kind),
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Only(kind) => kind.fmt(f),
        }
    }
}

/// A text that names no source.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("event source {0:?} is none of auto, ebpf, netlink, poll")]
pub struct ChoiceError(String);

impl FromStr for Choice {
    type Err = ChoiceError;

    fn from_str(text: &str) -> Result<Self, ChoiceError> {
        match text {
            "auto" => Ok(Self::Auto),
            "ebpf" => Ok(Self::Only(Kind::Ebpf)),
            "netlink" => Ok(Self::Only(Kind::Netlink)),
            "poll" => Ok(Self::Only(Kind::Poll)),
            _ => Err(ChoiceError(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Choice {
    type Error = ChoiceError;

    fn try_from(text: String) -> Result<Self, ChoiceError> {
        text.parse()
    }
}

impl From<Choice> for String {
    fn from(choice: Choice) -> Self {
        choice.to_string()
    }
}

/// A source that cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Degradation {
    /// The source.
    pub source: Kind,
    /// The error with its causes.
    pub reason: String,
}

impl fmt::Display for Degradation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, reason } = self;
        write!(f, "{source}: {reason}")
    }
}

/// An open source and the better ones that could not be used, best first.
pub struct Selected {
    /// Which.
    pub kind: Kind,
    /// The source.
    pub source: Box<dyn Source + Send>,
    /// Why it is not a better one; empty when nothing is degraded.
    pub degradations: Vec<Degradation>,
}

impl fmt::Debug for Selected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, source: _, degradations } = self;
        f.debug_struct("Selected")
            .field("kind", kind)
            .field("degradations", degradations)
            .finish_non_exhaustive()
    }
}

/// No source can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no event source can be used: {}", tried.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct Unavailable {
    /// What was tried and why it failed, in order.
    pub tried: Vec<Degradation>,
}

/// Opens the chosen source, or with [`Choice::Auto`] the best that works. `ebpf` loads and attaches the
/// programs; it is called at most once.
///
/// # Errors
/// When none of the permitted ones can be opened.
pub fn open(
    choice: Choice,
    proc: &Path,
    ebpf: impl FnOnce() -> Result<Box<dyn Source + Send>, SourceError>,
) -> Result<Selected, Unavailable> {
    let first = match choice {
        Choice::Auto => Kind::Ebpf,
        Choice::Only(kind) => kind,
    };
    let mut ebpf = Some(ebpf);
    descend(choice, Some(first), passed_over(first), |kind| match kind {
        Kind::Ebpf => ebpf.take().map_or_else(|| Err(spent()), |load| load()),
        Kind::Netlink | Kind::Poll => fallback(kind, proc),
    })
}

/// The better sources that the configuration leaves out: less is known without them, whoever chose so.
fn passed_over(chosen: Kind) -> Vec<Degradation> {
    let better =
        std::iter::successors(Some(Kind::Ebpf), |kind| kind.next()).take_while(|kind| *kind != chosen);
    let reason = || format!("not used, because the configuration asks for {chosen}");
    better.map(|source| Degradation { source, reason: reason() }).collect()
}

/// Opens what comes after the source that broke while running. `failed` is the degraded source with the
/// error it gave; what was degraded before it is kept.
///
/// # Errors
/// When the configuration permits no other, or none can be opened.
pub fn after(
    choice: Choice,
    proc: &Path,
    mut degradations: Vec<Degradation>,
    failed: Degradation,
) -> Result<Selected, Unavailable> {
    let next = next(choice, failed.source);
    degradations.push(failed);
    descend(choice, next, degradations, |kind| fallback(kind, proc))
}

/// Which source to try after `kind`.
#[must_use]
pub const fn next(choice: Choice, kind: Kind) -> Option<Kind> {
    match choice {
        Choice::Auto => kind.next(),
        Choice::Only(_) => None,
    }
}

fn descend(
    choice: Choice,
    mut candidate: Option<Kind>,
    mut degradations: Vec<Degradation>,
    mut open: impl FnMut(Kind) -> Result<Box<dyn Source + Send>, SourceError>,
) -> Result<Selected, Unavailable> {
    while let Some(kind) = candidate {
        match open(kind) {
            Ok(source) => return Ok(Selected { kind, source, degradations }),
            Err(error) => degradations.push(Degradation { source: kind, reason: chain(&error) }),
        }
        candidate = next(choice, kind);
    }
    Err(Unavailable { tried: degradations })
}

/// Opens a source that needs no eBPF.
fn fallback(kind: Kind, proc: &Path) -> Result<Box<dyn Source + Send>, SourceError> {
    match kind {
        Kind::Ebpf => Err(spent()),
        Kind::Netlink => Ok(Box::new(Netlink::open(Proc::of_host(proc)?)?)),
        Kind::Poll => Ok(Box::new(Poll::new(Proc::of_host(proc)?, INTERVAL))),
    }
}

/// The eBPF programs are loaded at start or not at all.
fn spent() -> SourceError {
    SourceError::Bpf("already tried".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused() -> Result<Box<dyn Source + Send>, SourceError> {
        let source = std::io::Error::from_raw_os_error(1);
        Err(SourceError::Io { operation: "loading".to_owned(), source })
    }

    fn polling() -> Result<Box<dyn Source + Send>, SourceError> {
        fallback(Kind::Poll, Path::new("/proc"))
    }

    #[test]
    fn the_best_one_is_taken_and_nothing_is_degraded() {
        let selected = open(Choice::Auto, Path::new("/proc"), polling).unwrap();
        assert_eq!((selected.kind, selected.degradations), (Kind::Ebpf, vec![]));
    }

    #[test]
    fn what_fails_is_kept_with_its_reason() {
        let selected = open(Choice::Auto, Path::new("/proc"), refused).unwrap();
        assert_ne!(selected.kind, Kind::Ebpf);
        assert_eq!(selected.source.name(), selected.kind.name());
        let first = &selected.degradations[0];
        assert_eq!(first.to_string(), "ebpf: loading: Operation not permitted (os error 1)");
    }

    #[test]
    fn a_pinned_source_has_no_stand_in() {
        let error = open(Choice::Only(Kind::Ebpf), Path::new("/proc"), refused).unwrap_err();
        assert_eq!(error.tried.len(), 1);
        assert!(error.to_string().starts_with("no event source can be used: ebpf: loading"), "{error}");
        let never = || -> Result<Box<dyn Source + Send>, SourceError> { panic!("not asked for") };
        assert_eq!(open(Choice::Only(Kind::Poll), Path::new("/proc"), never).unwrap().source.name(), "poll");
        let broken = Degradation { source: Kind::Poll, reason: "gone".to_owned() };
        assert!(after(Choice::Only(Kind::Poll), Path::new("/proc"), vec![], broken).is_err());
    }

    #[test]
    fn a_broken_source_is_followed_by_the_next_one() {
        let earlier = Degradation { source: Kind::Ebpf, reason: "no BTF".to_owned() };
        let broken = Degradation { source: Kind::Netlink, reason: "socket closed".to_owned() };
        let selected =
            after(Choice::Auto, Path::new("/proc"), vec![earlier.clone()], broken.clone()).unwrap();
        assert_eq!((selected.kind, selected.degradations), (Kind::Poll, vec![earlier, broken]));
        let last = Degradation { source: Kind::Poll, reason: "no /proc".to_owned() };
        assert_eq!(after(Choice::Auto, Path::new("/proc"), vec![], last.clone()).unwrap_err().tried, [last]);
    }

    #[test]
    fn choices_are_written_as_they_are_read() {
        for text in ["auto", "ebpf", "netlink", "poll"] {
            assert_eq!(text.parse::<Choice>().unwrap().to_string(), text);
        }
        for bad in ["", "Auto", "bpf", "poll "] {
            assert!(bad.parse::<Choice>().is_err(), "{bad:?}");
        }
    }
}
