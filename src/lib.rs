//! pg_trickle: materialized views that maintain themselves.
//!
//! Stages in data-flow order; each uses the stages above it, plus `pg`, `catalog`, `error`, `settings`.

pub mod error;
pub mod pg;
pub mod settings;

pub mod catalog;
pub mod identity;

pub mod capture;
pub mod circuit;
pub mod commands;
pub mod delta;
pub mod exec;
pub mod observe;
pub mod plan;
pub mod refresh;
pub mod schedule;

use pgrx::pg_guard;

pgrx::pg_module_magic!(name, version);

/// Hooks are registered only when the server preloads the library; loaded later it answers with an error that says so.
#[pg_guard]
extern "C-unwind" fn _PG_init() {
    if pg::preloading() {
        settings::register();
        catalog::register();
        plan::register();
        exec::register();
        commands::register();
    }
}
