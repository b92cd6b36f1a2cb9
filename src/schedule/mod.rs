//! When stream tables are refreshed.

pub mod cron;
pub mod spec;
