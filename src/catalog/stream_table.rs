//! One row per stream table: what it is, how far it got, what went wrong; and markers of recomputes that are due.

use super::recompute_reason::RecomputeReason;
use super::{REINIT, REINIT_VIEW, STREAM_TABLE, STREAM_TABLE_ID, STREAM_TABLE_KEY, moved};
use crate::error::cannot_happen;
use crate::pg::catalog_table::{Row, Rows, Value, value};
use crate::pg::{clock, names, sequence};
use crate::wakeup;
use hashbrown::HashSet;
use pgrx::pg_sys;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Registered, never populated.
    Initializing,
    Active,
    Suspended,
    Error,
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Initializing => "INITIALIZING",
            Status::Active => "ACTIVE",
            Status::Suspended => "SUSPENDED",
            Status::Error => "ERROR",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        let all = [Status::Initializing, Status::Active, Status::Suspended, Status::Error];
        all.into_iter().find(|status| status.as_str().eq_ignore_ascii_case(text))
    }
}

pub struct StreamTable {
    pub relid: pg_sys::Oid,
    pub id: i64,
    /// `Circuit::fingerprint` its contents were computed by.
    pub fingerprint: i64,
    pub status: Status,
    /// DIFFERENTIAL or FULL.
    pub effective_mode: String,
    /// Why FULL although AUTO was asked for: `CODE: sentence`.
    pub downgrade_reason: Option<String>,
    /// Changes of its sources are captured for it; if not, every refresh recomputes.
    pub captured: bool,
    /// `name=value` of the settings its query runs under.
    pub pinned: Vec<String>,
    /// Encoded frontier; None while unpopulated.
    pub frontier: Option<Vec<u8>>,
    /// The file its rows were in after the last refresh, and when the server had been started.
    storage: Option<pg_sys::Oid>,
    server_start: Option<pg_sys::TimestampTz>,
    /// The transaction that had written its row of pg_class; None if release 0.1.0 refreshed it last.
    class_xmin: Option<pg_sys::TransactionId>,
    pub data_timestamp: Option<pg_sys::TimestampTz>,
    pub last_refresh_at: Option<pg_sys::TimestampTz>,
    pub consecutive_errors: i32,
    pub last_error: Option<String>,
    pub last_error_at: Option<pg_sys::TimestampTz>,
    pub created_at: pg_sys::TimestampTz,
    /// Encoded values of what depends on the clock, as its contents were computed with; None where nothing does.
    pub clock: Option<Vec<u8>>,
}

/// Column numbers, in table order.
mod column {
    pub const RELID: i16 = 1;
    pub const ID: i16 = 2;
    pub const FINGERPRINT: i16 = 3;
    pub const STATUS: i16 = 4;
    pub const EFFECTIVE_MODE: i16 = 5;
    pub const DOWNGRADE_REASON: i16 = 6;
    pub const CAPTURED: i16 = 7;
    pub const PINNED: i16 = 8;
    pub const FRONTIER: i16 = 9;
    pub const STORAGE: i16 = 10;
    pub const SERVER_START: i16 = 11;
    pub const DATA_TIMESTAMP: i16 = 12;
    pub const LAST_REFRESH_AT: i16 = 13;
    pub const CONSECUTIVE_ERRORS: i16 = 14;
    pub const LAST_ERROR: i16 = 15;
    pub const LAST_ERROR_AT: i16 = 16;
    pub const CREATED_AT: i16 = 17;
    pub const UPDATED_AT: i16 = 18;
    pub const REFRESHES: i16 = 19;
    pub const RECOMPUTES: i16 = 20;
    pub const FAILURES: i16 = 21;
    pub const ROWS_INSERTED: i16 = 22;
    pub const ROWS_UPDATED: i16 = 23;
    pub const ROWS_DELETED: i16 = 24;
    pub const TOTAL_MS: i16 = 25;
    pub const MAX_MS: i16 = 26;
    pub const STATS_RESET: i16 = 27;
    pub const CLASS_XMIN: i16 = 28;
    pub const CLOCK: i16 = 29;
}

impl StreamTable {
    fn read(row: &Row) -> Self {
        let status: String = row.must(column::STATUS);
        Self {
            relid: row.must(column::RELID),
            id: row.must(column::ID),
            fingerprint: row.must(column::FINGERPRINT),
            status: Status::parse(&status).unwrap_or_else(|| cannot_happen(format!("unknown status {status}"))),
            effective_mode: row.must(column::EFFECTIVE_MODE),
            downgrade_reason: row.get(column::DOWNGRADE_REASON),
            captured: row.must(column::CAPTURED),
            pinned: row.must(column::PINNED),
            frontier: row.get(column::FRONTIER),
            storage: row.get(column::STORAGE),
            server_start: row.get(column::SERVER_START),
            class_xmin: row.get(column::CLASS_XMIN),
            data_timestamp: row.get(column::DATA_TIMESTAMP),
            last_refresh_at: row.get(column::LAST_REFRESH_AT),
            consecutive_errors: row.must(column::CONSECUTIVE_ERRORS),
            last_error: row.get(column::LAST_ERROR),
            last_error_at: row.get(column::LAST_ERROR_AT),
            created_at: row.must(column::CREATED_AT),
            clock: row.get(column::CLOCK),
        }
    }

    /// The rows may not be those of the last refresh: a server without the library takes the view for a plain one. Its
    /// REFRESH writes another file or, with CONCURRENTLY, to the same one; the row of pg_class it writes in either case. In a server
    /// that has the library, a new file holds the same rows (VACUUM FULL, CLUSTER), and so does what has been altered.
    pub fn may_be_replaced(&self) -> bool {
        let refreshed = || self.storage != Some(names::storage(self.relid)) || self.is_altered();
        !self.is_of_this_start() && refreshed()
    }

    fn is_altered(&self) -> bool {
        self.class_xmin.is_some_and(|xmin| xmin != names::class_xmin(self.relid))
    }

    /// It was last refreshed since the server was started.
    pub fn is_of_this_start(&self) -> bool {
        self.server_start == Some(clock::server_start())
    }
}

/// What registration decides; the rest of the row follows from refreshes.
pub struct Definition {
    pub fingerprint: i64,
    pub effective_mode: &'static str,
    pub downgrade_reason: Option<String>,
}

fn row_of(relid: pg_sys::Oid) -> Option<Row> {
    STREAM_TABLE.find()?;
    // Spares a look at the table for every base table; what is being dropped may be gone from the syscache.
    if names::kind(relid).is_some_and(|kind| kind != pg_sys::RELKIND_MATVIEW) {
        return None;
    }
    STREAM_TABLE.open_for_read().get(STREAM_TABLE_KEY.oid(), column::RELID, relid)
}

/// The stream table with this oid; None when it is not one of ours.
pub fn get(relid: pg_sys::Oid) -> Option<StreamTable> {
    row_of(relid).map(|row| StreamTable::read(&row))
}

/// What the active snapshot sees is what the last refresh wrote.
pub fn is_seen(relid: pg_sys::Oid) -> bool {
    let table = STREAM_TABLE.open_for_read();
    let rows = |which| table.find(STREAM_TABLE_KEY.oid(), column::RELID, relid, which).pop();
    let frontier = |row: &Row| row.get::<Vec<u8>>(column::FRONTIER);
    match (rows(Rows::Active), rows(Rows::Latest)) {
        (Some(seen), Some(latest)) => frontier(&seen) == frontier(&latest),
        _ => false,
    }
}

pub fn exists(relid: pg_sys::Oid) -> bool {
    row_of(relid).is_some()
}

/// There is no stream table in this database.
pub fn none() -> bool {
    STREAM_TABLE.find().is_none() || STREAM_TABLE.open_for_read().is_empty()
}

/// The oids of all stream tables of this database, in order of creation. Relies on no more of the rows.
pub fn views() -> Vec<pg_sys::Oid> {
    if STREAM_TABLE.find().is_none() {
        return Vec::new();
    }
    let key = |row: &Row| (row.must::<i64>(column::ID), row.must(column::RELID));
    let mut views: Vec<(i64, pg_sys::Oid)> = STREAM_TABLE.open_for_read().all().iter().map(key).collect();
    views.sort_unstable_by_key(|&(id, _)| id);
    views.into_iter().map(|(_, view)| view).collect()
}

/// Changes of its sources are captured for it.
pub fn is_captured(relid: pg_sys::Oid) -> bool {
    row_of(relid).is_some_and(|row| row.must(column::CAPTURED))
}

/// How far it got, encoded; None while it is unpopulated.
pub fn frontier(relid: pg_sys::Oid) -> Option<Vec<u8>> {
    row_of(relid)?.get(column::FRONTIER)
}

/// Every stream table of this database, in order of creation.
pub fn all() -> Vec<StreamTable> {
    if STREAM_TABLE.find().is_none() {
        return Vec::new();
    }
    let mut all: Vec<_> = STREAM_TABLE.open_for_read().all().iter().map(StreamTable::read).collect();
    all.sort_by_key(|st| st.id);
    all
}

/// Registers an unpopulated stream table.
pub fn insert(relid: pg_sys::Oid, definition: Definition, pinned: Vec<String>) {
    wakeup::graph_changed();
    STREAM_TABLE.open_for_write().insert(&[
        value(relid),
        value(sequence::next(STREAM_TABLE_ID.oid())),
        value(definition.fingerprint),
        value(Status::Initializing.as_str()),
        value(definition.effective_mode),
        definition.downgrade_reason.and_then(value),
        value(false),
        value(pinned),
        None,
        None,
        None,
        None,
        None,
        value(0i32),
        None,
        None,
        value(clock::statement_start()),
        value(clock::statement_start()),
        value(0i64),
        value(0i64),
        value(0i64),
        value(0i64),
        value(0i64),
        value(0i64),
        value(0f64),
        None,
        None,
        None,
        None,
    ]);
}

/// Forgets the stream table and its markers.
pub fn delete(relid: pg_sys::Oid) {
    wakeup::graph_changed();
    let table = STREAM_TABLE.open_for_write();
    for row in table.find(STREAM_TABLE_KEY.oid(), column::RELID, relid, Rows::Latest) {
        table.delete(&row);
    }
    delete_markers(relid, Rows::Latest);
    moved::forget(relid);
}

fn update(relid: pg_sys::Oid, changes: &[(i16, Value)]) {
    update_with(relid, |_| changes.to_vec());
}

fn update_with(relid: pg_sys::Oid, changes: impl FnOnce(&Row) -> Vec<(i16, Value)>) {
    let table = STREAM_TABLE.open_for_write();
    match table.get(STREAM_TABLE_KEY.oid(), column::RELID, relid) {
        Some(row) => {
            let mut changes = changes(&row);
            changes.push((column::UPDATED_AT, value(clock::now())));
            table.update(&row, &changes);
        }
        None => cannot_happen(format!("stream table {} is not registered", relid.to_u32())),
    }
}

/// What a successful refresh adds to the counters of its stream table.
pub struct Done {
    pub recompute: bool,
    pub inserted: u64,
    pub updated: u64,
    pub deleted: u64,
    pub milliseconds: f64,
}

impl Done {
    /// The counters with it, as changes of the row. They are part of the row that a refresh replaces anyway, so counting
    /// costs no write; a refresh that is rolled back is not counted.
    fn added_to(&self, row: &Row) -> Vec<(i16, Value)> {
        let plus = |column, number: u64| (column, value(counter(row, column).saturating_add_unsigned(number)));
        let total = row.get::<f64>(column::TOTAL_MS).unwrap_or(0.0) + self.milliseconds;
        let max = row.get::<f64>(column::MAX_MS).map_or(self.milliseconds, |max| max.max(self.milliseconds));
        vec![
            plus(column::REFRESHES, 1),
            plus(column::RECOMPUTES, self.recompute.into()),
            plus(column::ROWS_INSERTED, self.inserted),
            plus(column::ROWS_UPDATED, self.updated),
            plus(column::ROWS_DELETED, self.deleted),
            (column::TOTAL_MS, value(total)),
            (column::MAX_MS, value(max)),
        ]
    }
}

fn counter(row: &Row, column: i16) -> i64 {
    row.get(column).unwrap_or(0)
}

/// Counting begins anew. The caller keeps refreshes of the stream table away.
pub fn reset_statistics(relid: pg_sys::Oid) {
    let counters = [
        column::REFRESHES,
        column::RECOMPUTES,
        column::FAILURES,
        column::ROWS_INSERTED,
        column::ROWS_UPDATED,
        column::ROWS_DELETED,
    ];
    let mut changes: Vec<_> = counters.into_iter().map(|column| (column, value(0i64))).collect();
    changes.extend([
        (column::TOTAL_MS, value(0f64)),
        (column::MAX_MS, None),
        (column::STATS_RESET, value(clock::now())),
    ]);
    update(relid, &changes);
}

/// A successful refresh: the contents are the query's at `frontier` and `clock`, taken at `data_timestamp`. Ends an error; a
/// suspended stream table that is refreshed by hand stays suspended.
pub fn set_frontier(
    relid: pg_sys::Oid,
    frontier: &[u8],
    clock: Option<Vec<u8>>,
    data_timestamp: pg_sys::TimestampTz,
    done: &Done,
) {
    let suspended = |row: &Row| row.must::<String>(column::STATUS) == Status::Suspended.as_str();
    update_with(relid, |row| {
        let status = if suspended(row) { Status::Suspended } else { Status::Active };
        let recovered =
            row.must::<String>(column::STATUS) != status.as_str() || row.must::<i32>(column::CONSECUTIVE_ERRORS) > 0;
        if recovered || row.get::<&[u8]>(column::FRONTIER).is_none() {
            wakeup::graph_changed();
        }
        let mut changes = done.added_to(row);
        changes.extend([
            (column::STATUS, value(status.as_str())),
            (column::FRONTIER, value(frontier)),
            (column::CLOCK, clock.and_then(value)),
            (column::STORAGE, value(names::storage(relid))),
            (column::SERVER_START, value(clock::server_start())),
            (column::CLASS_XMIN, value(names::class_xmin(relid))),
            (column::DATA_TIMESTAMP, value(data_timestamp)),
            (column::LAST_REFRESH_AT, value(data_timestamp)),
            (column::CONSECUTIVE_ERRORS, value(0i32)),
            (column::LAST_ERROR, None),
            (column::LAST_ERROR_AT, None),
        ]);
        changes
    });
}

/// The view was emptied (WITH NO DATA).
pub fn clear_frontier(relid: pg_sys::Oid) {
    wakeup::graph_changed();
    update(
        relid,
        &[
            (column::STATUS, value(Status::Initializing.as_str())),
            (column::FRONTIER, None),
            (column::CLOCK, None),
            (column::DATA_TIMESTAMP, None),
        ],
    );
    delete_markers(relid, Rows::Latest);
    moved::forget(relid);
}

/// The query or the way to maintain it changed.
pub fn set_definition(relid: pg_sys::Oid, definition: Definition) {
    wakeup::graph_changed();
    update(
        relid,
        &[
            (column::FINGERPRINT, value(definition.fingerprint)),
            (column::EFFECTIVE_MODE, value(definition.effective_mode)),
            (column::DOWNGRADE_REASON, definition.downgrade_reason.and_then(value)),
        ],
    );
}

/// Whether changes of its sources are captured for it from now on.
pub fn set_captured(relid: pg_sys::Oid, captured: bool) {
    wakeup::graph_changed();
    update(relid, &[(column::CAPTURED, value(captured))]);
}

pub fn set_status(relid: pg_sys::Oid, status: Status) {
    wakeup::graph_changed();
    update(relid, &[(column::STATUS, value(status.as_str()))]);
}

/// Failures are forgotten; scheduled refreshes go on.
pub fn resume(relid: pg_sys::Oid) {
    let Some(row) = get(relid) else { cannot_happen(format!("stream table {} is not registered", relid.to_u32())) };
    let status = if row.frontier.is_some() { Status::Active } else { Status::Initializing };
    set_status(relid, status);
    update(
        relid,
        &[(column::CONSECUTIVE_ERRORS, value(0i32)), (column::LAST_ERROR, None), (column::LAST_ERROR_AT, None)],
    );
    // What it rests on may have changed meanwhile.
    wakeup::touch(relid);
}

/// A refresh failed; to be called in a transaction of its own. Returns the number of failures in a row.
pub fn record_error(relid: pg_sys::Oid, message: &str) -> i32 {
    wakeup::graph_changed();
    let errors = get(relid).map_or(0, |st| st.consecutive_errors) + 1;
    update_with(relid, |row| {
        vec![
            (column::CONSECUTIVE_ERRORS, value(errors)),
            (column::LAST_ERROR, value(message)),
            (column::LAST_ERROR_AT, value(clock::now())),
            (column::FAILURES, value(counter(row, column::FAILURES).saturating_add(1))),
        ]
    });
    errors
}

/// Column numbers of table reinit.
mod marker {
    pub const VIEW: i16 = 1;
    pub const REASON: i16 = 2;
}

/// Marks a recompute as due. Never waits for anybody: a marker is a row of its own.
pub fn set_reinit(relid: pg_sys::Oid, reason: RecomputeReason) {
    let table = REINIT.open_for_write();
    // A marker of another transaction may be consumed by a refresh that does not see this change: it does not count.
    let mine = table.find(REINIT_VIEW.oid(), marker::VIEW, relid, Rows::Latest).iter().any(Row::is_own);
    if !mine {
        table.insert(&[value(relid), value(reason.to_string())]);
    }
    wakeup::touch(relid);
}

/// The reason a recompute is due, as `CODE: sentence`.
pub fn reinit(relid: pg_sys::Oid) -> Option<String> {
    let markers = REINIT.open_for_read();
    markers.find(REINIT_VIEW.oid(), marker::VIEW, relid, Rows::Latest).first().map(|row| row.must(marker::REASON))
}

/// The stream tables for which a recompute is due.
pub fn marked() -> HashSet<u32> {
    let rows = REINIT.open_for_read().all();
    rows.iter().map(|row| row.must::<pg_sys::Oid>(marker::VIEW).to_u32()).collect()
}

/// Whether a recompute is due for this reason, perhaps among others.
pub fn is_due_for(relid: pg_sys::Oid, reason: RecomputeReason) -> bool {
    let markers = REINIT.open_for_read().find(REINIT_VIEW.oid(), marker::VIEW, relid, Rows::Latest);
    markers.iter().any(|row| row.must::<String>(marker::REASON) == reason.to_string())
}

/// A recompute at the active snapshot answers the markers that snapshot sees, and no others.
pub fn clear_reinit(relid: pg_sys::Oid) {
    delete_markers(relid, Rows::Active);
}

fn delete_markers(relid: pg_sys::Oid, rows: Rows) {
    let table = REINIT.open_for_write();
    for row in table.find(REINIT_VIEW.oid(), marker::VIEW, relid, rows) {
        table.delete(&row);
    }
}
