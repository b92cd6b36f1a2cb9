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

use super::block_delta::BlockDeltaScan;
use super::node::{Node, Provider};
use super::run::Run;
use super::weighted::{self, Layout};
use crate::capture::scan::BufferScan;
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
    /// Holds the current version in the source's layout; of a block's delta, with its weight behind that.
    version: *mut pg_sys::TupleTableSlot,
    scan: Scan,
}

/// Where the rows come from.
#[expect(clippy::large_enum_variant, reason = "there is one in a node")]
enum Scan {
    /// It has not been asked for any yet.
    Unstarted,
    Buffer(BufferScan),
    Block(BlockDeltaScan),
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
            let version = pg_sys::ExecInitExtraTupleSlot(node.estate(), desc, &raw const pg_sys::TTSOpsMinimalTuple);
            Self {
                source: (*relation).rd_id,
                columns: spec.columns,
                natts: (*desc).natts as usize,
                whole_row: spec.whole_row,
                version,
                scan: Scan::Unstarted,
            }
        }
    }

    fn next(&mut self, node: Node) -> *mut pg_sys::TupleTableSlot {
        let slot = node.scan_slot();
        if matches!(self.scan, Scan::Unstarted) {
            self.start(node);
        }
        // SAFETY: the plan made the scan slot's columns: the source's, a whole row where one is wanted, and the weight.
        unsafe {
            pg_sys::ExecClearTuple(slot);
            if let Some(weight) = self.next_version() {
                self.fill(slot, weight);
                pg_sys::ExecStoreVirtualTuple(slot);
            }
        }
        slot
    }

    fn rescan(&mut self, node: Node) {
        match &mut self.scan {
            Scan::Unstarted => (),
            Scan::Buffer(scan) => scan.rescan(),
            Scan::Block(scan) => scan.rescan(),
        }
        // SAFETY: the node's own scan state.
        unsafe { pg_sys::ExecScanReScan(node.as_ptr().cast()) };
    }

    fn end(&mut self, _node: Node) {
        if let Scan::Buffer(scan) = std::mem::replace(&mut self.scan, Scan::Unstarted) {
            scan.end();
        }
    }
}

impl DeltaScan {
    fn start(&mut self, node: Node) {
        // SAFETY: this node runs inside a refresh.
        let run = unsafe { Run::of(node.estate()) }.expect("a delta is read inside a refresh");
        self.scan = match run.deltas.and_then(|deltas| deltas.scan(self.source)) {
            Some(scan) => {
                // SAFETY: the slot lives as long as the query, the delta longer.
                self.version = unsafe {
                    pg_sys::ExecInitExtraTupleSlot(node.estate(), scan.desc(), &raw const pg_sys::TTSOpsMinimalTuple)
                };
                Scan::Block(scan)
            }
            None => Scan::Buffer(BufferScan::begin(self.source, run.frontier, run.snapshot.as_ptr())),
        };
    }

    /// Puts the next version into its slot; its weight.
    unsafe fn next_version(&mut self) -> Option<i64> {
        // SAFETY: the slot is of the kind that both scans give; a block's has the weight behind the relation's columns.
        unsafe {
            match &mut self.scan {
                Scan::Unstarted => None,
                Scan::Buffer(scan) => scan.next().map(|(tuple, weight)| {
                    pg_sys::ExecStoreMinimalTuple(tuple, self.version, false);
                    weight
                }),
                Scan::Block(scan) => {
                    let version = Slot::new(self.version);
                    scan.next(version).then(|| Layout::of(self.natts).split(&version).1)
                }
            }
        }
    }

    /// # Safety
    /// `slot` is the cleared scan slot; `version` holds a tuple.
    unsafe fn fill(&self, slot: *mut pg_sys::TupleTableSlot, weight: i64) {
        // SAFETY: both slots have at least `columns` columns; the scan slot has natts, a whole row if wanted, and the weight.
        unsafe {
            if self.columns > 0 {
                if ((*self.version).tts_nvalid as usize) < self.columns {
                    pg_sys::slot_getsomeattrs_int(self.version, self.columns as i32);
                }
                std::ptr::copy_nonoverlapping((*self.version).tts_values, (*slot).tts_values, self.columns);
                std::ptr::copy_nonoverlapping((*self.version).tts_isnull, (*slot).tts_isnull, self.columns);
            }
            if self.whole_row {
                *(*slot).tts_values.add(self.natts) = pg_sys::ExecFetchSlotHeapTupleDatum(self.version);
                *(*slot).tts_isnull.add(self.natts) = false;
            }
            Layout::of(self.natts + usize::from(self.whole_row)).put_weight(Slot::new(slot), weight);
        }
    }
}
