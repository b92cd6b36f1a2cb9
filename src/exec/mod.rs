//! Custom scan providers: the nodes of a refresh plan which the server does not have, one file each.

pub mod accumulate;
pub mod apply;
pub mod delta_scan;
pub mod fold;
pub mod mismatch;
pub mod node;
mod rebuild;
pub mod run;
mod store;

/// Makes the nodes known to the server, once per process.
pub fn register() {
    node::register::<delta_scan::DeltaScan>();
    accumulate::register();
    rebuild::register();
    apply::register();
}
