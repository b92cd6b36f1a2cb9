//! Terms -> PlannedStmt: readings, planner hooks, paths, plan cache.

pub mod build;
pub mod cache;
mod delta_path;
mod grouped;
mod hooks;
pub mod magnitude;
pub mod query;
pub mod regroup;
pub mod target;
mod weigh;

/// Installs planner hooks and invalidation callbacks, once per process.
pub fn register() {
    hooks::register();
    cache::register();
}
