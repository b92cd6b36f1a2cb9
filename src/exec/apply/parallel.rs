//! Parallel workers below TrickleApply.
//!
//! In parallel mode a transaction may insert rows but not change or remove any, so the executor cannot be in it for the
//! whole run. We are while the child is read; what is written until then (state, rows of a first population)
//! is inserted.

use crate::exec::node::{Child, Node};
use pgrx::pg_sys;

/// The child is being read.
pub struct Reading {
    /// None outside parallel mode.
    parallel: Option<Child>,
}

impl Reading {
    pub fn begin(node: Node, parallel: bool) -> Self {
        if parallel {
            // SAFETY: as ExecutePlan does it. The transaction cannot get an id later; an error ends parallel mode with it.
            unsafe {
                pg_sys::GetCurrentTransactionId();
                (*node.estate()).es_use_parallel_mode = true;
                pg_sys::EnterParallelMode();
            }
        }
        Self { parallel: parallel.then(|| node.outer()) }
    }

    /// All rows have been read: workers are waited for.
    pub fn end(self) {
        if let Some(child) = self.parallel {
            // SAFETY: a begun child; pairs with `begin`.
            unsafe {
                pg_sys::ExecShutdownNode(child.as_ptr());
                pg_sys::ExitParallelMode();
            }
        }
    }
}
