//! The tables of the two databases. A released migration is never edited: a change is a new one at the end.

use rusqlite_migration::{M, Migrations};

use crate::store::Durability;

/// What was done to the kernel. Few and small trees: each one more is another page to write between an exec
/// and its limit.
const LIMITS: &[M<'static>] = &[
    M::up(
        "
CREATE TABLE intents (
    id         INTEGER PRIMARY KEY,
    boot       TEXT    NOT NULL,
    grp        TEXT,
    place      TEXT    NOT NULL DEFAULT '',
    reason     TEXT    NOT NULL,
    kind       TEXT    NOT NULL
               CHECK (kind IN ('file', 'nice', 'membership', 'created_dir', 'enabled_controller')),
    path       BLOB    NOT NULL,
    item       TEXT    NOT NULL,
    pid        INTEGER NOT NULL,
    start      INTEGER NOT NULL,
    tid        INTEGER NOT NULL,
    tid_start  INTEGER NOT NULL,
    prior      BLOB    NOT NULL,
    new        BLOB    NOT NULL,
    superseded BLOB,
    state      TEXT    NOT NULL CHECK (state IN ('planned', 'applied')),
    created    INTEGER NOT NULL,
    UNIQUE (kind, path, item, pid, start, tid, tid_start)
) STRICT;

CREATE TABLE groups (
    name    TEXT PRIMARY KEY,
    limits  TEXT NOT NULL,
    scope   TEXT NOT NULL,
    reason  TEXT NOT NULL,
    how     TEXT NOT NULL,
    places  TEXT NOT NULL,
    until   INTEGER,
    changed INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
",
    ),
    // The kinds of changes are the program's to know: a new one needs no migration from here on.
    M::up(
        "
CREATE TABLE intents_of_any_kind (
    id         INTEGER PRIMARY KEY,
    boot       TEXT    NOT NULL,
    grp        TEXT,
    place      TEXT    NOT NULL DEFAULT '',
    reason     TEXT    NOT NULL,
    kind       TEXT    NOT NULL,
    path       BLOB    NOT NULL,
    item       TEXT    NOT NULL,
    pid        INTEGER NOT NULL,
    start      INTEGER NOT NULL,
    tid        INTEGER NOT NULL,
    tid_start  INTEGER NOT NULL,
    prior      BLOB    NOT NULL,
    new        BLOB    NOT NULL,
    superseded BLOB,
    state      TEXT    NOT NULL CHECK (state IN ('planned', 'applied')),
    created    INTEGER NOT NULL,
    UNIQUE (kind, path, item, pid, start, tid, tid_start)
) STRICT;
INSERT INTO intents_of_any_kind
    SELECT id, boot, grp, place, reason, kind, path, item, pid, start, tid, tid_start, prior, new, superseded,
           state, created
    FROM intents;
DROP TABLE intents;
ALTER TABLE intents_of_any_kind RENAME TO intents;
",
    ),
    // Written by commands only, never between an exec and its limit.
    M::up(
        "
CREATE TABLE wishes (
    name       TEXT PRIMARY KEY,
    boot       TEXT    NOT NULL,
    limits     TEXT    NOT NULL,
    scope      TEXT    NOT NULL,
    allow_move INTEGER NOT NULL,
    whole_unit INTEGER NOT NULL,
    policy     TEXT    NOT NULL,
    members    TEXT    NOT NULL,
    until      INTEGER,
    reason     TEXT    NOT NULL,
    created    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
",
    ),
    // Which of the files that had this path, one after the other.
    M::up("ALTER TABLE intents ADD COLUMN inode INTEGER NOT NULL DEFAULT 0;"),
];

/// What was told and is to be told.
const JOURNAL: &[M<'static>] = &[
    M::up(
        "
CREATE TABLE events (
    seq      INTEGER PRIMARY KEY AUTOINCREMENT,
    id       TEXT    NOT NULL UNIQUE,
    at       INTEGER NOT NULL,
    kind     TEXT    NOT NULL,
    severity TEXT    NOT NULL,
    notice   TEXT    NOT NULL
) STRICT;
CREATE INDEX events_by_time ON events (at);

CREATE TABLE outbox (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    event        TEXT    NOT NULL,
    endpoint     TEXT    NOT NULL,
    body         BLOB    NOT NULL,
    created      INTEGER NOT NULL,
    attempts     INTEGER NOT NULL DEFAULT 0,
    next_attempt INTEGER NOT NULL,
    state        TEXT    NOT NULL CHECK (state IN ('pending', 'delivered', 'dead')),
    last_error   TEXT,
    UNIQUE (event, endpoint)
) STRICT;
CREATE INDEX outbox_due ON outbox (state, next_attempt);
CREATE INDEX outbox_by_endpoint ON outbox (endpoint, state, id);

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;
",
    ),
    // Every attempt at a delivery, and what is known of each endpoint.
    M::up(
        "
ALTER TABLE outbox ADD COLUMN rejected INTEGER NOT NULL DEFAULT 0;
DROP INDEX outbox_due;
CREATE INDEX outbox_by_state ON outbox (state, id);

CREATE TABLE attempts (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    delivery   INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    status     INTEGER,
    latency_ms INTEGER NOT NULL,
    error      TEXT,
    answer     BLOB    NOT NULL
) STRICT;
CREATE INDEX attempts_by_delivery ON attempts (delivery, id);
CREATE TRIGGER outbox_trimmed AFTER DELETE ON outbox BEGIN
    DELETE FROM attempts WHERE delivery = old.id;
END;

CREATE TABLE endpoints (
    name        TEXT PRIMARY KEY,
    failures    INTEGER NOT NULL DEFAULT 0,
    not_before  INTEGER,
    disabled    TEXT,
    disabled_at INTEGER
) STRICT, WITHOUT ROWID;
",
    ),
    // Alerts, and alike events that wait to be told together.
    M::up(
        "
CREATE TABLE alerts (
    key      TEXT PRIMARY KEY,
    standing TEXT NOT NULL
) STRICT;

CREATE TABLE bundles (
    endpoint TEXT NOT NULL,
    alike    TEXT NOT NULL,
    bundle   TEXT NOT NULL,
    PRIMARY KEY (endpoint, alike)
) STRICT;

ALTER TABLE outbox ADD COLUMN critical INTEGER NOT NULL DEFAULT 0;
CREATE INDEX outbox_by_rank ON outbox (endpoint, state, critical, id);
",
    ),
    // Apart from the events, of which the oldest go: a flood of others must not make a crash loop forgotten.
    M::up(
        "
CREATE TABLE restarts (
    seq    INTEGER PRIMARY KEY AUTOINCREMENT,
    name   TEXT    NOT NULL,
    at     INTEGER NOT NULL,
    what   TEXT    NOT NULL,
    status TEXT
) STRICT;
CREATE INDEX restarts_by_name ON restarts (name, seq);
",
    ),
    // How many are pending for each endpoint, kept with them: counting a long queue at every event would hold up
    // those of the other endpoints.
    M::up(
        "
CREATE TABLE pending (
    endpoint TEXT    NOT NULL,
    critical INTEGER NOT NULL,
    count    INTEGER NOT NULL,
    PRIMARY KEY (endpoint, critical)
) STRICT, WITHOUT ROWID;
INSERT INTO pending
    SELECT endpoint, critical, count(*) FROM outbox WHERE state = 'pending' GROUP BY endpoint, critical;

CREATE TRIGGER pending_owed AFTER INSERT ON outbox WHEN new.state = 'pending' BEGIN
    INSERT INTO pending (endpoint, critical, count) VALUES (new.endpoint, new.critical, 1)
        ON CONFLICT (endpoint, critical) DO UPDATE SET count = count + 1;
END;
CREATE TRIGGER pending_settled AFTER UPDATE OF state ON outbox
WHEN old.state = 'pending' AND new.state <> 'pending' BEGIN
    UPDATE pending SET count = count - 1 WHERE endpoint = old.endpoint AND critical = old.critical;
END;
CREATE TRIGGER pending_again AFTER UPDATE OF state ON outbox
WHEN old.state <> 'pending' AND new.state = 'pending' BEGIN
    INSERT INTO pending (endpoint, critical, count) VALUES (new.endpoint, new.critical, 1)
        ON CONFLICT (endpoint, critical) DO UPDATE SET count = count + 1;
END;
CREATE TRIGGER pending_deleted AFTER DELETE ON outbox WHEN old.state = 'pending' BEGIN
    UPDATE pending SET count = count - 1 WHERE endpoint = old.endpoint AND critical = old.critical;
END;
",
    ),
    // What became of profiles. A content is kept once, however many entries have it.
    M::up(
        "
CREATE TABLE profile_contents (
    hash    TEXT    PRIMARY KEY,
    bytes   INTEGER NOT NULL,
    content TEXT    NOT NULL
) STRICT;

CREATE TABLE profile_history (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    at       INTEGER NOT NULL,
    uid      INTEGER,
    cause    TEXT    NOT NULL,
    act      TEXT    NOT NULL,
    profile  TEXT,
    previous TEXT,
    before   TEXT,
    after    TEXT,
    outcome  TEXT    NOT NULL CHECK (outcome IN ('begun', 'done', 'undone'))
) STRICT;
",
    ),
    // The trace that a delivery belongs to, so that every attempt tells the same one, whatever is configured by then.
    M::up("ALTER TABLE outbox ADD COLUMN trace TEXT;"),
];

/// The migrations of a database, and their number, which is its `user_version` when it is up to date.
pub(crate) const fn of(durability: Durability) -> (Migrations<'static>, i64) {
    match durability {
        Durability::Process => (Migrations::from_slice(LIMITS), LIMITS.len().cast_signed() as i64),
        Durability::Power => (Migrations::from_slice(JOURNAL), JOURNAL.len().cast_signed() as i64),
    }
}
