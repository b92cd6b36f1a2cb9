//! What health_check and check_cdc_health need from the library.

use crate::capture::buffer_limit as limit;
use crate::catalog::control;
use crate::error::{cannot_happen, error};
use crate::pg::shared;
use crate::{settings, wakeup};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::iter::TableIterator;
use pgrx::{PgSqlErrorCode, name, pg_extern, pg_sys};

/// A time of the server as SQL has it.
pub fn timestamp(time: pg_sys::TimestampTz) -> TimestampWithTimeZone {
    TimestampWithTimeZone::try_from(time).unwrap_or_else(|_| cannot_happen(format!("time {time} is out of range")))
}

/// The server has loaded the library at its start.
#[pg_extern]
fn preloaded() -> bool {
    settings::preloaded()
}

/// Since when scheduled refreshes are paused; NULL: they are not.
#[pg_extern]
fn paused_since() -> Option<TimestampWithTimeZone> {
    settings::require_preloaded();
    control::paused_since().map(timestamp)
}

/// Since when the stream table is due that has been for longest, among those the scheduler would refresh now if it could;
/// NULL: there is none.
#[pg_extern]
fn overdue_since() -> Option<TimestampWithTimeZone> {
    settings::require_preloaded();
    let place = shared::area().and_then(wakeup::own).filter(|place| place.scheduler.pid().is_some());
    place.and_then(shared::Database::overdue).map(timestamp)
}

/// Where processes have run out: since when this database waits for a scheduler (NULL: it has one, or nothing to do), and how
/// many databases take turns in how many places. No row: there is room for all.
#[pg_extern]
#[allow(clippy::type_complexity)]
fn rotation()
-> TableIterator<'static, (name!(waiting, Option<TimestampWithTimeZone>), name!(databases, i32), name!(places, i32))> {
    settings::require_preloaded();
    let row = |(databases, places)| {
        let waiting = shared::area().and_then(wakeup::own).and_then(shared::Database::waiting);
        (waiting.map(timestamp), databases as i32, places as i32)
    };
    let rotation = shared::area().and_then(|shared| shared.rotation());
    TableIterator::new(rotation.map(row))
}

/// How many bytes the change buffer of a source of that size may have.
#[pg_extern]
fn buffer_limit(source_bytes: i64) -> i64 {
    limit(source_bytes as u64) as i64
}

/// The same number, if it can be a number of rows.
#[pg_extern]
fn checked_max_rows(max_rows: i32) -> i32 {
    if max_rows < 0 {
        error(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, format!("max_rows must not be negative: {max_rows}"))
            .detail("It is the number of refreshes to show, the latest first.")
            .hint("NULL shows all of them.")
            .raise()
    }
    max_rows
}
