//! Settings, and whether the server preloaded the library.

use crate::error::error;
use crate::pg;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, PgSqlErrorCode, PostgresGucEnum};
use std::cell::Cell;
use std::ffi::CString;

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

/// Where tests move the clock to.
static TEST_CLOCK: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);

static ENABLED: GucSetting<bool> = GucSetting::<bool>::new(true);
static MIN_SCHEDULE: GucSetting<i32> = GucSetting::<i32>::new(1);
static MAX_PARALLEL_REFRESHES: GucSetting<i32> = GucSetting::<i32>::new(4);
static STALE_ALERT_FACTOR: GucSetting<i32> = GucSetting::<i32>::new(10);
static MAX_CONSECUTIVE_ERRORS: GucSetting<i32> = GucSetting::<i32>::new(5);

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

/// The time that expressions of views find, for tests; None: that of the server. Only builds with assertions have the setting.
pub fn test_clock() -> Option<String> {
    if !cfg!(debug_assertions) {
        return None;
    }
    TEST_CLOCK.get().and_then(|time| time.into_string().ok()).filter(|time| !time.is_empty())
}

/// Views are refreshed by schedule.
pub fn enabled() -> bool {
    ENABLED.get()
}

/// Milliseconds that lie at least between two scheduled refreshes of a view.
pub fn min_schedule() -> i64 {
    MIN_SCHEDULE.get().into()
}

/// Refresh workers per database.
pub fn max_parallel_refreshes() -> usize {
    MAX_PARALLEL_REFRESHES.get() as usize
}

/// Failures in a row after which a view is suspended.
pub fn max_consecutive_errors() -> u32 {
    MAX_CONSECUTIVE_ERRORS.get() as u32
}

/// How many times its schedule a view may have changes to show before that is told; None: it is not.
pub fn stale_alert_factor() -> Option<i64> {
    Some(i64::from(STALE_ALERT_FACTOR.get())).filter(|factor| *factor > 0)
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
    if cfg!(debug_assertions) {
        GucRegistry::define_string_guc(
            c"pg_trickle.test_clock",
            c"The time at which views are refreshed that compare with the clock.",
            c"For tests. Empty: the time of the server.",
            &TEST_CLOCK,
            GucContext::Userset,
            GucFlags::default(),
        );
    }
    register_runtime();
    pg::reserve_settings(c"pg_trickle");
}

/// What the processes go by.
fn register_runtime() {
    GucRegistry::define_bool_guc(
        c"pg_trickle.enabled",
        c"Refreshes stream tables by their schedules.",
        c"Off, no process refreshes anything; changes are captured, and REFRESH works.",
        &ENABLED,
        // For a database or a role: what the processes find when they connect.
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"pg_trickle.min_schedule",
        c"The least time between two scheduled refreshes of a stream table.",
        c"Shorter schedules count as this long.",
        &MIN_SCHEDULE,
        1,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_int_guc(
        c"pg_trickle.max_parallel_refreshes",
        c"How many refreshes a database's scheduler runs side by side.",
        c"Each takes a process out of max_worker_processes while there is work.",
        &MAX_PARALLEL_REFRESHES,
        1,
        pgrx::pg_sys::MAX_BACKENDS as i32,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"pg_trickle.max_consecutive_errors",
        c"After how many failed refreshes in a row a stream table is suspended.",
        c"pgtrickle.resume_stream_table() lets it go on.",
        &MAX_CONSECUTIVE_ERRORS,
        1,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"pg_trickle.stale_alert_factor",
        c"How many times its schedule a stream table may be behind before the alert stale_data is sent.",
        c"Schedules shorter than a second count as a second. 0 sends none.",
        &STALE_ALERT_FACTOR,
        0,
        1_000_000,
        GucContext::Sighup,
        GucFlags::default(),
    );
}
