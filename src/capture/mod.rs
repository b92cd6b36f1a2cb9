//! Capture: every committed change of a source reaches its change buffer exactly once (promise 2, DESIGN section 2).
//!
//! [`frontier`] says what a view has seen; what a buffer holds beyond it is pending.

pub mod frontier;
mod snapshot;
