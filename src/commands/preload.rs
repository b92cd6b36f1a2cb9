//! The error that names shared_preload_libraries.

use crate::error::error;
use pgrx::{PgSqlErrorCode, pg_extern};

/// Raises unless the server preloaded the library.
pub fn require() {
    if crate::settings::preloaded() {
        return;
    }
    error(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, "pg_trickle is not loaded by the server")
        .detail("The library must be in \"shared_preload_libraries\": changes of tables are captured in every session.")
        .hint("Add pg_trickle to \"shared_preload_libraries\" in postgresql.conf and restart the server.")
        .raise()
}

#[pg_extern]
fn require_preload() {
    require();
}
