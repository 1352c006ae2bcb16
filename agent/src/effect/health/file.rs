//! A file exists, and is not too old.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::{Fault, unhurried};
use crate::clock;

/// Looks at a file; links are followed.
pub(super) async fn check(
    places: &Arc<Semaphore>,
    target: &str,
    max_age: Option<Duration>,
) -> Result<(), Fault> {
    let path = target.to_owned();
    // A network file system may never answer.
    let changed = unhurried(places, move || std::fs::metadata(path).and_then(|file| file.modified())).await?;
    let changed = changed.map_err(|error| Fault::Theirs(format!("look at {target:?}: {error}")))?;
    let Some(max_age) = max_age else { return Ok(()) };
    // One from the future is as good as new: clocks are set.
    let age = clock::wall().duration_since(changed).unwrap_or(Duration::ZERO);
    if age <= max_age {
        return Ok(());
    }
    let age = Duration::from_secs(age.as_secs());
    Err(Fault::Theirs(format!("{target:?} was changed {age:?} ago, which is more than {max_age:?}")))
}
