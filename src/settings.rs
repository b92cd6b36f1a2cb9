//! Settings, and whether the server preloaded the library.

use crate::error::error;
use crate::pg;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, PgSqlErrorCode, PostgresGucEnum};
use std::cell::Cell;

/// How a refresh chooses between the delta plan and a recompute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PostgresGucEnum)]
pub enum RefreshStrategy {
    #[name = c"auto"]
    Auto,
    #[name = c"delta"]
    Delta,
    #[name = c"full"]
    Full,
}

static REFRESH_STRATEGY: GucSetting<RefreshStrategy> = GucSetting::<RefreshStrategy>::new(RefreshStrategy::Auto);
static REBUILD_MISMATCHED: GucSetting<bool> = GucSetting::<bool>::new(true);
static HISTORY_RETENTION: GucSetting<i32> = GucSetting::<i32>::new(7 * 24 * 60);

thread_local!(static PRELOADED: Cell<bool> = const { Cell::new(false) });

pub fn refresh_strategy() -> RefreshStrategy {
    REFRESH_STRATEGY.get()
}

/// What to do when a delta does not fit the view: compute it anew with a warning, or raise.
pub fn rebuild_mismatched() -> bool {
    REBUILD_MISMATCHED.get()
}

/// Minutes a row of the refresh history is kept; None: for ever.
pub fn history_retention() -> Option<i32> {
    Some(HISTORY_RETENTION.get()).filter(|minutes| *minutes >= 0)
}

/// The postmaster loaded the library, so its hooks are in every backend.
pub fn preloaded() -> bool {
    PRELOADED.get()
}

/// Raises unless the server preloaded the library.
pub fn require_preloaded() {
    if preloaded() {
        return;
    }
    error(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, "pg_trickle is not loaded by the server")
        .detail("The library must be in \"shared_preload_libraries\": changes of tables are captured in every session.")
        .hint("Add pg_trickle to \"shared_preload_libraries\" in postgresql.conf and restart the server.")
        .raise()
}

pub fn register() {
    PRELOADED.set(true);
    GucRegistry::define_enum_guc(
        c"pg_trickle.refresh_strategy",
        c"Chooses between delta and full refresh.",
        c"auto takes the cheaper plan; delta and full force one, for tests and emergencies.",
        &REFRESH_STRATEGY,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_bool_guc(
        c"pg_trickle.rebuild_mismatched",
        c"Computes a view anew when its changes do not fit its contents.",
        c"off raises an error instead, for tests.",
        &REBUILD_MISMATCHED,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"pg_trickle.history_retention",
        c"How long rows of pgtrickle.pgt_refresh_history are kept.",
        c"-1 keeps them for ever.",
        &HISTORY_RETENTION,
        -1,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::UNIT_MIN,
    );
    pg::reserve_settings(c"pg_trickle");
}
