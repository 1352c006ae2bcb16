//! Points between two effects at which a test lets the agent die, to see what the next one makes of it.
//!
//! In unit tests it dies by a panic that the test catches. Debug builds kill themselves by SIGKILL at the point
//! that [`VARIABLE`] names; release builds have no such points.

#[cfg(any(test, debug_assertions))]
use std::sync::{Arc, Mutex, PoisonError};

/// Environment variable of debug builds: a point, or a point, a colon, and how often to pass it before.
#[cfg(any(test, debug_assertions))]
pub const VARIABLE: &str = "PROCESS_THROTTLER_DIE_AT";

/// A point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// New cgroups are recorded, none is made.
    DirsPlanned,
    /// A cgroup is made, or a controller enabled.
    DirMade,
    /// All changes are recorded, none is made.
    Planned,
    /// A value is written.
    Written,
    /// Properties of a systemd unit are set.
    UnitSet,
    /// Transient scopes are recorded, none is made.
    ScopesPlanned,
    /// Transient scopes are made.
    ScopesMade,
    /// Processes are moved.
    Moved,
    /// An attribute of a thread is set.
    AttributeSet,
    /// All is done and recorded as done.
    Applied,
    /// One change is undone, its record is still there.
    RowUndone,
    /// All changes are undone, their records are still there.
    Undone,
    /// Deliveries are taken from the outbox, none is sent.
    DeliveryTaken,
    /// A delivery is answered, and nothing of it is recorded.
    DeliveryAnswered,
    /// What came of deliveries is written and not committed.
    DeliverySettling,
    /// It is committed.
    DeliverySettled,
    /// What a restore is going to rename is written down.
    RestoreRecorded,
    /// An old file is out of the way, the new one not in its place.
    RestoreMovedOut,
    /// A new file is in the place of an old one.
    RestoreMovedIn,
    /// All new files are in their places, and do not count yet.
    RestoreSwitched,
    /// They count.
    RestoreCommitted,
    /// A change of a profile's file is noted, and the file is as before.
    ProfileNoted,
    /// The file is changed, and nobody has noted that.
    ProfileChanged,
}

impl Point {
    /// All of them.
    #[cfg(any(test, debug_assertions))]
    pub const ALL: [Self; 23] = [
        Self::DirsPlanned,
        Self::DirMade,
        Self::Planned,
        Self::Written,
        Self::UnitSet,
        Self::ScopesPlanned,
        Self::ScopesMade,
        Self::Moved,
        Self::AttributeSet,
        Self::Applied,
        Self::RowUndone,
        Self::Undone,
        Self::DeliveryTaken,
        Self::DeliveryAnswered,
        Self::DeliverySettling,
        Self::DeliverySettled,
        Self::RestoreRecorded,
        Self::RestoreMovedOut,
        Self::RestoreMovedIn,
        Self::RestoreSwitched,
        Self::RestoreCommitted,
        Self::ProfileNoted,
        Self::ProfileChanged,
    ];

    #[cfg(any(test, debug_assertions))]
    const fn name(self) -> &'static str {
        match self {
            Self::DirsPlanned => "dirs-planned",
            Self::DirMade => "dir-made",
            Self::Planned => "planned",
            Self::Written => "written",
            Self::UnitSet => "unit-set",
            Self::ScopesPlanned => "scopes-planned",
            Self::ScopesMade => "scopes-made",
            Self::Moved => "moved",
            Self::AttributeSet => "attribute-set",
            Self::Applied => "applied",
            Self::RowUndone => "row-undone",
            Self::Undone => "undone",
            Self::DeliveryTaken => "delivery-taken",
            Self::DeliveryAnswered => "delivery-answered",
            Self::DeliverySettling => "delivery-settling",
            Self::DeliverySettled => "delivery-settled",
            Self::RestoreRecorded => "restore-recorded",
            Self::RestoreMovedOut => "restore-moved-out",
            Self::RestoreMovedIn => "restore-moved-in",
            Self::RestoreSwitched => "restore-switched",
            Self::RestoreCommitted => "restore-committed",
            Self::ProfileNoted => "profile-noted",
            Self::ProfileChanged => "profile-changed",
        }
    }
}

/// Where to die next.
#[derive(Clone, Debug, Default)]
pub struct FailPoints {
    #[cfg(any(test, debug_assertions))]
    next: Arc<Mutex<Option<(Point, u32)>>>,
}

#[cfg(not(any(test, debug_assertions)))]
impl FailPoints {
    /// Nowhere.
    #[must_use]
    pub const fn from_environment() -> Self {
        Self {}
    }

    /// Goes by a point.
    #[expect(clippy::unused_self, reason = "debug builds may die here")]
    pub const fn pass(&self, _: Point) {}
}

#[cfg(any(test, debug_assertions))]
impl FailPoints {
    /// Where the environment says; nowhere when it says nothing.
    #[must_use]
    pub fn from_environment() -> Self {
        let points = Self::default();
        let Ok(text) = std::env::var(VARIABLE) else { return points };
        let (name, after) = text.split_once(':').unwrap_or((&text, "0"));
        match (Point::ALL.into_iter().find(|point| point.name() == name), after.parse()) {
            (Some(point), Ok(after)) => points.die_at(point, after),
            (_, _) => tracing::error!("{VARIABLE}={text} names no point"),
        }
        points
    }

    /// Dies at this point, when it has gone by it `after` times before.
    pub fn die_at(&self, point: Point, after: u32) {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Some((point, after));
    }

    /// Dies nowhere.
    pub fn disarm(&self) {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Goes by a point.
    pub fn pass(&self, point: Point) {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, left)) = next.as_mut()
            && *at == point
        {
            if *left == 0 {
                *next = None;
                drop(next);
                return die(point);
            }
            *left -= 1;
        }
    }
}

#[cfg(test)]
fn die(point: Point) {
    std::panic::panic_any(point);
}

#[cfg(all(not(test), debug_assertions))]
fn die(point: Point) {
    tracing::error!(?point, "dying at a point that the environment names");
    let killed = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    tracing::error!(?killed, "could not be killed");
}
