//! The stream table a user names, or why it is none.

use crate::catalog::stream_table;
use crate::error::{Report, error};
use crate::pg::names::{self, RangeVar};
use pgrx::{PgSqlErrorCode, pg_sys};

/// The stream table of a name; raises when there is none.
pub fn stream_table_named(name: RangeVar) -> pg_sys::Oid {
    let Some(relid) = name.find() else { name.missing().raise() };
    match names::is_materialized_view(relid) {
        true if stream_table::exists(relid) => relid,
        true => not_a_stream_table(relid).raise(),
        false => wrong_kind(relid).raise(),
    }
}

pub fn not_a_stream_table(view: pg_sys::Oid) -> Report {
    let name = names::display(view);
    error(PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE, format!("\"{name}\" is not a stream table"))
        .detail("It was not created WITH (pg_trickle.incremental).")
        .hint(format!("Make it one with ALTER MATERIALIZED VIEW {name} SET (pg_trickle.incremental = true)."))
}

pub fn wrong_kind(relid: pg_sys::Oid) -> Report {
    let message = format!("\"{}\" is not a materialized view", names::display(relid));
    error(PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE, message)
        .detail("Stream tables are materialized views.")
        .hint("Use CREATE MATERIALIZED VIEW ... WITH (pg_trickle.incremental).")
}
