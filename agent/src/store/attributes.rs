//! What is recorded of attributes of processes and threads.

use crate::model::attribute::Attribute;
use crate::model::id::ProcKey;
use crate::store::{StoreError, Tables};

/// What is recorded of an attribute of a thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttributeRecord {
    /// The thread.
    pub thread: ProcKey,
    /// The value before.
    pub prior: String,
    /// The value that we set.
    pub new: String,
    /// The one that was there when `new` was decided, and may be there still.
    pub superseded: Option<String>,
    /// When it was first recorded, in ms since the Unix epoch.
    pub created: i64,
}

impl Tables {
    /// The records of an attribute of a process, in the order in which they were made.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn recorded(
        &self,
        attribute: Attribute,
        process: ProcKey,
    ) -> Result<Vec<AttributeRecord>, StoreError> {
        self.rows(
            "read attributes",
            "SELECT tid, tid_start, prior, new, superseded, created FROM intents
             WHERE kind = ?1 AND path = x'' AND item = '' AND pid = ?2 AND start = ?3 ORDER BY id",
            (attribute.as_str(), process.pid, process.start.cast_signed()),
            recorded,
        )
    }

    /// The latest record of an attribute of the first thread of a process with this pid.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn recorded_of_leader(
        &self,
        attribute: Attribute,
        pid: u32,
    ) -> Result<Option<AttributeRecord>, StoreError> {
        let rows = self.rows(
            "read attributes",
            "SELECT tid, tid_start, prior, new, superseded, created FROM intents
             WHERE kind = ?1 AND path = x'' AND item = '' AND pid = ?2 AND tid = ?2 ORDER BY id DESC LIMIT 1",
            (attribute.as_str(), pid),
            recorded,
        )?;
        Ok(rows.into_iter().next())
    }
}

fn recorded(row: &rusqlite::Row<'_>) -> rusqlite::Result<AttributeRecord> {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(AttributeRecord {
        thread: ProcKey { pid: row.get(0)?, start: row.get::<_, i64>(1)?.cast_unsigned() },
        prior: text(row.get(2)?),
        new: text(row.get(3)?),
        superseded: row.get::<_, Option<Vec<u8>>>(4)?.map(text),
        created: row.get(5)?,
    })
}
