//! Terms -> PlannedStmt: readings, planner hooks, paths, plan cache.

pub mod build;
pub mod cache;
pub mod clock;
mod delta_path;
mod grouped;
mod hooks;
pub mod magnitude;
mod old_path;
pub mod query;
pub mod regroup;
mod restrict;
pub mod target;
mod weigh;

/// Installs planner hooks and invalidation callbacks, once per process.
pub fn register() {
    hooks::register();
    cache::register();
}
