//! TrickleDelta: scans the pending changes of one source, or the delta of a block below, as a Z-set.
//!
//! Input promised: a base relation entry tagged *delta*; the run's snapshot and the view's frontier, or the hidden relation's
//! delta.
//! Output: one weighted row per pending row version, +1 or -1: the source's columns under their attribute numbers. A block's delta has
//! any weights. Versions are neither ordered nor netted: every operator above is linear in weights or nets by
//! itself. Quals and projection are the executor's usual ones.
//!
//! 1. The first call starts a scan of the source's buffer segments, filtered by frontier.
//! 2. Each version is a minimal tuple in the source's row layout; it is deformed as far as the plan needs.
//! 3. A whole-row reference costs one more column, before the weight: the version as a composite value.

mod plan;
#[cfg(feature = "pg_test")]
mod server_tests;

pub use plan::{name_weights, plan};

use super::change_scan::ChangeScan;
use super::node::{Node, Provider};
use super::weighted::{self, Layout};
use crate::pg::slot::Slot;
use pgrx::pg_sys;
use plan::Spec;
use std::ffi::CStr;

/// The pseudo system column under which a delta entry offers its weight. Views over system columns are not
/// maintained incrementally, so it clashes with nothing; the scan supplies it through its `custom_scan_tlist`.
pub const WEIGHT_ATTNO: i16 = pg_sys::MaxCommandIdAttributeNumber as i16;

/// The weight of the rows of a delta entry.
pub fn weight(varno: i32) -> *mut pg_sys::Var {
    weighted::var(varno, WEIGHT_ATTNO)
}

pub struct DeltaScan {
    source: pg_sys::Oid,
    /// Attributes 1..=columns are deformed.
    columns: usize,
    natts: usize,
    whole_row: bool,
    /// Of the relation's rows.
    desc: pg_sys::TupleDesc,
    /// None until a row is asked for.
    scan: Option<ChangeScan>,
}

impl Provider for DeltaScan {
    const NAME: &'static CStr = c"TrickleDelta";
    const LEAF: bool = true;
    type Spec = Spec;

    fn begin(node: Node, spec: Spec, _flags: i32) -> Self {
        // SAFETY: the executor has opened the scan relation; the slot lives as long as the query.
        unsafe {
            let relation = (*node.as_ptr()).ss.ss_currentRelation;
            let desc = (*relation).rd_att;
            std::ptr::write_bytes(
                (*node.scan_slot()).tts_isnull,
                1,
                (*(*node.scan_slot()).tts_tupleDescriptor).natts as usize,
            );
            Self {
                source: (*relation).rd_id,
                columns: spec.columns,
                natts: (*desc).natts as usize,
                whole_row: spec.whole_row,
                desc,
                scan: None,
            }
        }
    }

    fn next(&mut self, node: Node) -> *mut pg_sys::TupleTableSlot {
        let slot = node.scan_slot();
        // SAFETY: this node runs inside a refresh; the relation is open until its end.
        let start = || unsafe { ChangeScan::begin(self.source, self.desc, node.estate()) };
        let weight = self.scan.get_or_insert_with(start).next();
        // SAFETY: the plan made the scan slot's columns: the source's, a whole row where one is wanted, and the weight.
        unsafe {
            pg_sys::ExecClearTuple(slot);
            if let (Some(weight), Some(scan)) = (weight, &self.scan) {
                self.fill(slot, scan.version(), weight);
                pg_sys::ExecStoreVirtualTuple(slot);
            }
        }
        slot
    }

    fn rescan(&mut self, node: Node) {
        if let Some(scan) = &mut self.scan {
            scan.rescan();
        }
        // SAFETY: the node's own scan state.
        unsafe { pg_sys::ExecScanReScan(node.as_ptr().cast()) };
    }

    fn end(&mut self, _node: Node) {
        if let Some(scan) = self.scan.take() {
            scan.end();
        }
    }
}

impl DeltaScan {
    /// # Safety
    /// `slot` is the cleared scan slot; `version` holds a tuple.
    unsafe fn fill(&self, slot: *mut pg_sys::TupleTableSlot, version: Slot, weight: i64) {
        let row = version.row(self.columns);
        // SAFETY: the scan slot has the relation's columns, a whole row if wanted, and the weight.
        unsafe {
            std::ptr::copy_nonoverlapping(row.values.as_ptr(), (*slot).tts_values, self.columns);
            std::ptr::copy_nonoverlapping(row.nulls.as_ptr(), (*slot).tts_isnull, self.columns);
            if self.whole_row {
                *(*slot).tts_values.add(self.natts) = pg_sys::ExecFetchSlotHeapTupleDatum(version.as_ptr());
                *(*slot).tts_isnull.add(self.natts) = false;
            }
            Layout::of(self.natts + usize::from(self.whole_row)).put_weight(Slot::new(slot), weight);
        }
    }
}
