//! Custom scan providers: the nodes of a refresh plan which the server does not have, one file each.

pub mod accumulate;
pub mod apply;
pub mod block_delta;
mod change_scan;
pub mod clock;
mod consolidated;
pub mod delta_scan;
pub mod fold;
pub mod mismatch;
pub mod node;
pub mod old_scan;
pub mod private;
mod rebuild;
pub mod run;
#[cfg(feature = "pg_test")]
mod server_tests;
mod store;
pub mod weighted;

/// Makes the nodes known to the server, once per process.
pub fn register() {
    node::register::<delta_scan::DeltaScan>();
    node::register::<old_scan::OldScan>();
    accumulate::register();
    rebuild::register();
    apply::register();
}
