//! The plan node: which columns of the source's rows are read.

use super::{DeltaScan, weight};
use crate::exec::node::{Provider, scan_methods};
use crate::exec::private::{Private, private};
use crate::exec::weighted;
use crate::pg::relation::Relation;
use crate::pg::{list, node, stack};
use pgrx::pg_sys;

/// What the plan carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Attributes 1..=columns are deformed.
    pub columns: usize,
    /// The whole row is read.
    pub whole_row: bool,
}

private!(struct Spec { columns, whole_row });

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
        let spec = needed(scanrelid, [tlist, quals, asked], (*rte).relid);
        let scan: *mut pg_sys::CustomScan = node::make(pg_sys::NodeTag::T_CustomScan);
        (*scan).scan.plan.targetlist = tlist;
        (*scan).scan.plan.qual = quals;
        (*scan).scan.scanrelid = scanrelid;
        (*scan).flags = pg_sys::CUSTOMPATH_SUPPORT_PROJECTION;
        (*scan).custom_private = spec.to_private();
        (*scan).custom_scan_tlist = scan_columns(scanrelid, rte, spec.whole_row);
        (*scan).methods = scan_methods::<DeltaScan>();
        scan.cast()
    }
}

/// What expressions read of the relation.
unsafe fn needed(scanrelid: pg_sys::Index, expressions: [*mut pg_sys::List; 3], relid: pg_sys::Oid) -> Spec {
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
        Spec { columns: highest as usize, whole_row }
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

/// Gives the weights of a finished statement their name in EXPLAIN. The server would show the name of the system column whose
/// number they have, so the scans' lists of columns, which the executor does not compute, now refer to the one column of an entry
/// that is no relation.
///
/// # Safety
/// `stmt` is private.
pub unsafe fn name_weights(stmt: *mut pg_sys::PlannedStmt) {
    // SAFETY: the plans are private; the new entry is like one of a subquery that reads no table.
    unsafe {
        let mut scans = Vec::new();
        find_scans((*stmt).planTree, &mut scans);
        list::iter((*stmt).subplans).for_each(|plan| find_scans(plan, &mut scans));
        if scans.is_empty() {
            return;
        }
        let entry: *mut pg_sys::RangeTblEntry = node::make(pg_sys::NodeTag::T_RangeTblEntry);
        (*entry).rtekind = pg_sys::RTEKind::RTE_RESULT;
        (*entry).eref = pg_sys::makeAlias(c"delta".as_ptr(), std::ptr::null_mut());
        weighted::name_weight(entry);
        (*stmt).rtable = pg_sys::lappend((*stmt).rtable, entry.cast());
        let varno = pg_sys::list_length((*stmt).rtable);
        for scan in scans {
            weighted::replace((*scan).custom_scan_tlist, weighted::var(varno, 1).cast());
        }
    }
}

/// Adds the scans of change buffers in `plan`, which is null or a finished plan.
unsafe fn find_scans(plan: *mut pg_sys::Plan, found: &mut Vec<*mut pg_sys::CustomScan>) {
    stack::check();
    // SAFETY: the tag tells the type of a node.
    unsafe {
        if plan.is_null() {
            return;
        }
        find_scans((*plan).lefttree, found);
        find_scans((*plan).righttree, found);
        let children = match (*plan).type_ {
            pg_sys::NodeTag::T_Append => (*plan.cast::<pg_sys::Append>()).appendplans,
            pg_sys::NodeTag::T_MergeAppend => (*plan.cast::<pg_sys::MergeAppend>()).mergeplans,
            pg_sys::NodeTag::T_SubqueryScan => {
                return find_scans((*plan.cast::<pg_sys::SubqueryScan>()).subplan, found);
            }
            pg_sys::NodeTag::T_CustomScan => {
                let scan: *mut pg_sys::CustomScan = plan.cast();
                if std::ffi::CStr::from_ptr((*(*scan).methods).CustomName) == DeltaScan::NAME {
                    found.push(scan);
                }
                (*scan).custom_plans
            }
            _ => std::ptr::null_mut(),
        };
        list::iter(children).for_each(|child| find_scans(child, found));
    }
}
