//! pg_trickle: materialized views that maintain themselves.
//!
//! Stages in data-flow order; each uses the stages above it, plus `pg`, `catalog`, `error`, `settings`.

pub mod error;
pub mod pg;

pub mod circuit;
pub mod delta;

pub mod exec;

pgrx::pg_module_magic!(name, version);
