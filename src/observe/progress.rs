//! Refreshes that are under way, a row each: what pg_stat_progress_stream_table shows.

use super::health::timestamp;
use crate::pg::progress;
use crate::refresh::progress::initiator;
use crate::settings;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::iter::TableIterator;
use pgrx::{name, pg_extern, pg_sys};

#[pg_extern]
#[expect(clippy::type_complexity, reason = "the columns")]
fn refresh_progress() -> TableIterator<
    'static,
    (
        name!(pid, i32),
        name!(datid, pg_sys::Oid),
        name!(relid, Option<pg_sys::Oid>),
        name!(initiated_by, &'static str),
        name!(phase, &'static str),
        name!(rows_done, i64),
        name!(rows_expected, Option<i64>),
        name!(views_done, i32),
        name!(views_total, Option<i32>),
        name!(start_time, TimestampWithTimeZone),
    ),
> {
    settings::require_preloaded();
    let rows = progress::all().into_iter().map(|state| {
        (
            state.pid(),
            state.database(),
            Some(state.view()).filter(|view| *view != pg_sys::InvalidOid),
            initiator(&state).as_str(),
            state.phase().as_str(),
            state.rows_done() as i64,
            state.rows_expected().map(|rows| rows as i64),
            state.views_done() as i32,
            state.views_total().map(|views| views as i32),
            timestamp(state.since()),
        )
    });
    TableIterator::new(rows.collect::<Vec<_>>())
}
