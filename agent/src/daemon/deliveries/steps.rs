//! The wall clock being set back. Waits are on record by it, so that they outlast the agent, and would grow by as much.

use crate::clock;
use crate::model::time::Timestamp;

/// Below this it is the clock being steered, in ms.
const STEP_MIN: i64 = 1_000;

/// How far the wall clock is from the one since boot, in ms.
#[derive(Debug)]
pub(super) struct Steps {
    apart: i64,
}

impl Steps {
    /// From now on.
    pub(super) fn begin() -> Self {
        Self::new(clock::unix_millis(clock::wall()), clock::now())
    }

    /// By how much the wall clock was set back since the last look, in ms, and what it says now; nothing when it was set
    /// forward: a wait that is over early does no harm.
    pub(super) fn look(&mut self) -> Option<(i64, i64)> {
        let now = clock::unix_millis(clock::wall());
        self.back(now, clock::now()).map(|by| (by, now))
    }

    fn new(wall_ms: i64, boot: Timestamp) -> Self {
        Self { apart: apart(wall_ms, boot) }
    }

    fn back(&mut self, wall_ms: i64, boot: Timestamp) -> Option<i64> {
        let before = std::mem::replace(&mut self.apart, apart(wall_ms, boot));
        Some(before.saturating_sub(self.apart)).filter(|by| *by >= STEP_MIN)
    }
}

fn apart(wall_ms: i64, boot: Timestamp) -> i64 {
    wall_ms.saturating_sub(i64::try_from(boot.as_nanos() / 1_000_000).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_steps_back_count_and_each_once() {
        let at = |seconds| Timestamp::ZERO.after(Duration::from_secs(seconds));
        let mut steps = Steps::new(1_000_000, at(100));
        assert_eq!(steps.back(1_010_000, at(110)), None);
        assert_eq!(steps.back(1_010_500, at(111)), None, "it is steered");
        assert_eq!(steps.back(11_500, at(112)), Some(1_000_000));
        assert_eq!(steps.back(12_500, at(113)), None);
        assert_eq!(steps.back(5_000_000, at(114)), None, "forward");
        assert_eq!(steps.back(4_999_000, at(115)), Some(2_000));
    }
}
