//! What came of attempts, on its way to the disk.

use super::ledger::{Ledger, LedgerError};
use crate::effect::fail_point::{FailPoints, Point};
use crate::effect::webhook::deliver::breaker::Breaker;
use crate::store::attempts::{AttemptRow, Fate};

/// What came of an attempt, to be written down.
pub(super) struct Settled {
    pub(super) delivery: i64,
    pub(super) fate: Fate,
    pub(super) attempt: AttemptRow,
}

/// Writes attempts down, in one transaction. What cannot be written stays with the caller.
pub(super) async fn write_down(
    ledger: &Ledger,
    name: &str,
    breaker: Breaker,
    unsettled: &mut Vec<Settled>,
    fail: &FailPoints,
) -> Result<(), LedgerError> {
    if unsettled.is_empty() {
        return Ok(());
    }
    let (name, fail) = (name.to_owned(), fail.clone());
    let settled = std::mem::take(unsettled);
    let (back, result) = ledger
        .run(move |store| {
            let result = store.write(|tables| {
                for Settled { delivery, fate, attempt } in &settled {
                    tables.settle(*delivery, *fate, attempt)?;
                }
                tables.remember_failures(&name, breaker.failures, breaker.not_before)?;
                tables.trim_settled()?;
                fail.pass(Point::DeliverySettling);
                Ok(())
            });
            fail.pass(Point::DeliverySettled);
            Ok((settled, result))
        })
        .await?;
    if result.is_err() {
        *unsettled = back;
    }
    result.map_err(LedgerError::from)
}
