//! Rows of recorded changes as they are read.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use rusqlite::types::ValueRef;

use super::{Intent, IntentState, Kind, NewIntent};
use crate::model::id::{NameError, ProcKey};
use crate::store::{StoreError, Tables};

pub(super) const COLUMNS: &str = "id, boot, grp, place, kind, path, item, pid, start, tid, tid_start, prior, new, \
                       reason, superseded, state, created, inode";

impl Tables {
    pub(super) fn intent(&self, raw: Raw) -> Result<Intent, StoreError> {
        let key = |pid: i64, start: i64| {
            u32::try_from(pid)
                .ok()
                .filter(|pid| *pid != 0)
                .map(|pid| ProcKey { pid, start: start.cast_unsigned() })
        };
        let group = raw
            .group
            .map(|text| {
                text.parse().map_err(|error: NameError| self.malformed("intents.grp", error.to_string()))
            })
            .transpose()?;
        Ok(Intent {
            id: raw.id,
            boot: raw.boot,
            change: NewIntent {
                group,
                place: raw.place,
                kind: Kind::parse(&raw.kind).ok_or_else(|| self.malformed("intents.kind", &*raw.kind))?,
                path: PathBuf::from(OsString::from_vec(raw.path)),
                inode: raw.inode.cast_unsigned(),
                item: raw.item,
                process: key(raw.pid, raw.start),
                thread: key(raw.tid, raw.tid_start),
                prior: raw.prior,
                new: raw.new,
            },
            reason: raw.reason,
            superseded: raw.superseded,
            state: if raw.state == "applied" { IntentState::Applied } else { IntentState::Planned },
            created: raw.created,
        })
    }
}

/// A row as it is stored.
pub(super) struct Raw {
    id: i64,
    boot: String,
    group: Option<String>,
    place: String,
    kind: String,
    path: Vec<u8>,
    item: String,
    pid: i64,
    start: i64,
    tid: i64,
    tid_start: i64,
    prior: Vec<u8>,
    new: Vec<u8>,
    reason: String,
    superseded: Option<Vec<u8>>,
    state: String,
    created: i64,
    inode: i64,
}

impl Raw {
    pub(super) fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            boot: row.get(1)?,
            group: row.get(2)?,
            place: row.get(3)?,
            kind: row.get(4)?,
            path: row.get(5)?,
            item: row.get(6)?,
            pid: row.get(7)?,
            start: row.get(8)?,
            tid: row.get(9)?,
            tid_start: row.get(10)?,
            prior: row.get(11)?,
            new: row.get(12)?,
            reason: row.get(13)?,
            superseded: match row.get_ref(14)? {
                ValueRef::Null => None,
                ValueRef::Blob(bytes) | ValueRef::Text(bytes) => Some(bytes.to_owned()),
                ValueRef::Integer(_) | ValueRef::Real(_) => Some(Vec::new()),
            },
            state: row.get(15)?,
            created: row.get(16)?,
            inode: row.get(17)?,
        })
    }
}
