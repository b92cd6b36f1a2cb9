//! pg_trickle: materialized views that maintain themselves.
//!
//! The stages, in an order in which each uses only those above it; a row's own journey is told in docs/src/architecture.md.

/// Errors in three parts.
pub mod error;

/// The fence: safe handles over the server's pointers and functions.
#[macro_use]
pub mod pg;

/// Settings, and whether the server preloaded the library.
pub mod settings;

/// What a transaction changed reaches the scheduler when it commits.
pub mod wakeup;

/// What we remember: typed rows in, typed rows out.
pub mod catalog;

/// As whom, and under which settings, a view's query runs.
pub mod identity;

/// Every change of a source reaches its change buffer; frontiers say what a view has seen.
pub mod capture;

/// The rule: which terms make up the delta of a block. Pure.
pub mod delta;

/// A view's query as blocks, or the reason why not.
pub mod circuit;

/// The nodes of a refresh plan that the server does not have.
pub mod exec;

/// Terms to plans: readings, planner hooks, plan cache.
pub mod plan;

/// When views are refreshed, and which of them together. Pure.
pub mod schedule;

/// How a view becomes a stream table, and ceases to be one.
pub mod registration;

/// A refresh, from snapshot to new contents.
pub mod refresh;

/// The processes that refresh views by themselves.
pub mod runtime;

/// What users can see.
pub mod observe;

/// What users can say.
pub mod commands;

/// What pgrx-tests wants to know of this crate; the tests themselves are in modules `server_tests`.
#[cfg(feature = "pg_test")]
pub mod pg_test {
    pub fn setup(_options: Vec<&str>) {}

    /// Settings of the server that the tests run in: the lines of the file named by the environment (`regress/bin/check`).
    pub fn postgresql_conf_options() -> Vec<&'static str> {
        let path = std::env::var("TEMP_CONFIG").expect("the environment names a file of settings");
        let settings = std::fs::read_to_string(path).expect("the file of settings can be read");
        settings.leak().lines().collect()
    }
}

use pgrx::pg_guard;
use std::ffi::CStr;

/// The version of the package, for pg_get_loaded_modules().
const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
    Ok(version) => version,
    Err(_) => panic!("the version of the package contains a null character"),
};

// Both are given: the macro's short form puts the version in the place of the name.
pgrx::pg_module_magic!(name = c"pg_trickle", version = VERSION);

/// Hooks are registered only when the server preloads the library; loaded later it answers with an error that says so.
#[pg_guard]
extern "C-unwind" fn _PG_init() {
    pg::elog::register();
    if pg::preloading() {
        settings::register();
        pg::inline::register();
        wakeup::register();
        catalog::register();
        plan::register();
        exec::register();
        runtime::register();
        commands::register();
    }
}
