//! TrickleDelta: scans the pending changes of one source, as a Z-set.
//!
//! Input promised: a base relation entry tagged *delta*; the run's snapshot and the view's frontier.
//! Output: one weighted row per pending row version, +1 or -1: the source's columns under their attribute numbers. Versions are neither ordered nor netted: every operator above is linear in weights or nets by
//! itself. Quals and projection are the executor's usual ones.
//!
//! 1. The first call starts a scan of the source's buffer segments, filtered by frontier.
//! 2. Each version is a minimal tuple in the source's row layout; it is deformed as far as the plan needs.
//! 3. A whole-row reference costs one more column, before the weight: the version as a composite value.

use super::node::{Node, Provider, scan_methods};
use super::run::Run;
use super::weighted::{self, Layout};
use crate::capture::scan::BufferScan;
use crate::pg::relation::Relation;
use crate::pg::slot::Slot;
use crate::pg::{list, node};
use pgrx::pg_sys;
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
    /// Holds the current version in the source's layout.
    version: *mut pg_sys::TupleTableSlot,
    scan: Option<BufferScan>,
}

impl Provider for DeltaScan {
    const NAME: &'static CStr = c"TrickleDelta";
    const LEAF: bool = true;

    fn begin(node: Node, _flags: i32) -> Self {
        // SAFETY: the executor has opened the scan relation; the slot lives as long as the query.
        unsafe {
            let relation = (*node.as_ptr()).ss.ss_currentRelation;
            let needs: Vec<i32> = list::ints((*node.plan()).custom_private).collect();
            let desc = (*relation).rd_att;
            std::ptr::write_bytes(
                (*node.scan_slot()).tts_isnull,
                1,
                (*(*node.scan_slot()).tts_tupleDescriptor).natts as usize,
            );
            let version = pg_sys::ExecInitExtraTupleSlot(node.estate(), desc, &raw const pg_sys::TTSOpsMinimalTuple);
            Self {
                source: (*relation).rd_id,
                columns: needs[0] as usize,
                natts: (*desc).natts as usize,
                whole_row: needs[1] != 0,
                version,
                scan: None,
            }
        }
    }

    fn next(&mut self, node: Node) -> *mut pg_sys::TupleTableSlot {
        let slot = node.scan_slot();
        if self.scan.is_none() {
            self.scan = Some(self.start(node));
        }
        // SAFETY: the plan made the scan slot's columns: the source's, a whole row where one is wanted, and the weight.
        unsafe {
            pg_sys::ExecClearTuple(slot);
            if let Some((tuple, weight)) = self.scan.as_mut().and_then(BufferScan::next) {
                pg_sys::ExecStoreMinimalTuple(tuple, self.version, false);
                self.fill(slot, weight);
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
    fn start(&self, node: Node) -> BufferScan {
        // SAFETY: this node runs inside a refresh.
        let run = unsafe { Run::of(node.estate()) }.expect("a delta is read inside a refresh");
        BufferScan::begin(self.source, run.frontier, run.snapshot.as_ptr())
    }

    /// # Safety
    /// `slot` is the cleared scan slot; `version` holds a tuple.
    unsafe fn fill(&self, slot: *mut pg_sys::TupleTableSlot, weight: i64) {
        // SAFETY: both slots have at least `columns` columns; the scan slot has natts, a whole row if wanted, and the weight.
        unsafe {
            if self.columns > 0 {
                pg_sys::slot_getsomeattrs_int(self.version, self.columns as i32);
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

/// The plan node for a delta entry.
///
/// # Safety
/// Called by the planner while it makes plans: `root` is live and `tlist`, `quals` belong to the new node.
pub unsafe fn plan(
    root: *mut pg_sys::PlannerInfo,
    scanrelid: pg_sys::Index,
    tlist: *mut pg_sys::List,
    quals: *mut pg_sys::List,
) -> *mut pg_sys::Plan {
    // SAFETY: by contract.
    unsafe {
        let rte = *(*root).simple_rte_array.add(scanrelid as usize);
        // The planner may put another target list into the node later, over the columns the relation is asked for.
        let asked = (*(**(*root).simple_rel_array.add(scanrelid as usize)).reltarget).exprs;
        let (columns, whole_row) = needed(scanrelid, [tlist, quals, asked], (*rte).relid);
        let scan: *mut pg_sys::CustomScan = node::make(pg_sys::NodeTag::T_CustomScan);
        (*scan).scan.plan.targetlist = tlist;
        (*scan).scan.plan.qual = quals;
        (*scan).scan.scanrelid = scanrelid;
        (*scan).flags = pg_sys::CUSTOMPATH_SUPPORT_PROJECTION;
        (*scan).custom_private = pg_sys::lappend_int(std::ptr::null_mut(), columns);
        (*scan).custom_private = pg_sys::lappend_int((*scan).custom_private, i32::from(whole_row));
        (*scan).custom_scan_tlist = scan_columns(scanrelid, rte, whole_row);
        (*scan).methods = scan_methods::<DeltaScan>();
        scan.cast()
    }
}

/// Highest attribute number read, and whether the whole row is.
unsafe fn needed(scanrelid: pg_sys::Index, expressions: [*mut pg_sys::List; 3], relid: pg_sys::Oid) -> (i32, bool) {
    // SAFETY: pull_varattnos only reads the expressions.
    unsafe {
        let mut attributes = std::ptr::null_mut();
        expressions.into_iter().for_each(|list| pg_sys::pull_varattnos(list.cast(), scanrelid, &raw mut attributes));
        let offset = pg_sys::FirstLowInvalidHeapAttributeNumber;
        let (mut highest, mut whole_row) = (0, false);
        let mut member = pg_sys::bms_next_member(attributes, -1);
        while member >= 0 {
            let attno = member + offset;
            whole_row |= attno == 0;
            highest = highest.max(attno);
            member = pg_sys::bms_next_member(attributes, member);
        }
        if whole_row {
            highest = (*Relation::open(relid, pg_sys::NoLock).tuple_desc()).natts;
        }
        (highest, whole_row)
    }
}

/// Column n is attribute n; then, if wanted, the whole row; then the weight.
unsafe fn scan_columns(
    scanrelid: pg_sys::Index,
    rte: *mut pg_sys::RangeTblEntry,
    whole_row: bool,
) -> *mut pg_sys::List {
    let varno = scanrelid as i32;
    // SAFETY: the planner holds a lock on the relation.
    unsafe {
        let relation = Relation::open((*rte).relid, pg_sys::NoLock);
        let desc = relation.tuple_desc();
        let mut expressions: Vec<*mut pg_sys::Expr> = (0..(*desc).natts)
            .map(|number| {
                let a = &*pg_sys::TupleDescAttr(desc, number);
                if a.attisdropped {
                    pg_sys::makeNullConst(pg_sys::INT4OID, -1, pg_sys::InvalidOid).cast()
                } else {
                    pg_sys::makeVar(varno, a.attnum, a.atttypid, a.atttypmod, a.attcollation, 0).cast()
                }
            })
            .collect();
        if whole_row {
            expressions.push(pg_sys::makeWholeRowVar(rte, varno, 0, false).cast());
        }
        let entries = expressions.into_iter().enumerate();
        let entry = |(i, e)| pg_sys::makeTargetEntry(e, i as i16 + 1, std::ptr::null_mut(), false);
        weighted::with(list::make(entries.map(entry)), weight(varno).cast())
    }
}
