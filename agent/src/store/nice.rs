//! What is recorded of nice values.

use crate::model::id::ProcKey;
use crate::store::{StoreError, Tables};

impl Tables {
    /// Whether a thread's nice value was changed by us.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn has_nice(&self, process: ProcKey, thread: ProcKey) -> Result<bool, StoreError> {
        let rows = self.rows(
            "read nice",
            "SELECT 1 FROM intents WHERE kind = 'nice' AND path = x'' AND item = '' AND pid = ?1 AND tid = ?2
             AND tid_start = ?3",
            (process.pid, thread.pid, thread.start.cast_signed()),
            |_| Ok(()),
        )?;
        Ok(!rows.is_empty())
    }

    /// The nice value before and the one we set, of the first thread of a process.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn nice_prior(&self, pid: u32) -> Result<Option<(i64, i64)>, StoreError> {
        let rows = self.rows(
            "read nice",
            "SELECT prior, new FROM intents WHERE kind = 'nice' AND path = x'' AND item = '' AND pid = ?1
             AND tid = ?1 ORDER BY id DESC LIMIT 1",
            [pid],
            |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Vec<u8>>(1)?)),
        )?;
        let number = |bytes: &[u8]| std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok());
        Ok(rows.first().and_then(|(prior, new)| Some((number(prior)?, number(new)?))))
    }
}
