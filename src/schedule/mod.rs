//! When stream tables are refreshed, and which of them together. Pure: no server symbol, so it is tested with a made-up
//! clock. Times are microseconds since 2000, as the server counts.

pub mod company;
pub mod cron;
pub mod freshness;
pub mod graph;
pub mod queue;
pub mod recompute;
pub mod retry;
pub mod rotation;
pub mod spec;

/// A point in time.
pub type Time = i64;

pub const SECOND: i64 = 1_000_000;
