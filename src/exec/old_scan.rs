//! TrickleOld: scans a table as it was before its pending changes, as a bag.
//!
//! Input promised: a child that scans the table as it is now, by whatever path the planner chose, and whose columns are those of
//! this node's scan tuple: every column that is read or that a qual looks at. The child's rows satisfy the quals.
//! Output: the rows that satisfy the quals and were there before, each as often as it was. No weights: a row is never there a
//! negative number of times, so this reading may stand where the query is not linear (delta/mod.rs).
//!
//! Let p be the image of a row in the columns of the scan tuple, new(p) how many rows the table has of it and d(p) the sum of the
//! delta's weights. Then there were new(p) - d(p) rows of it, and whether they satisfy the quals depends on p alone.
//!
//! 1. The delta is consolidated by p (consolidated.rs), once in a run: rescans use it again.
//! 2. Of the child's rows of an image with d(p) > 0, as many are left out.
//! 3. Then come -d(p) rows for each image with d(p) < 0 that satisfies the quals. Where quals equate columns with values known
//!    in a pass, such as those of an outer row, only images with equal hashes of these columns are looked at. So the work of
//!    many passes is linear in the delta, as the table's indexes make it sublinear in the table.

#[cfg(feature = "pg_test")]
mod server_tests;

use super::change_scan::ChangeScan;
use super::consolidated::Consolidated;
use super::node::{Child, Explain, Node, Provider};
use super::private::private;
use crate::pg::image::Row;
use crate::pg::{interrupt, list, node};
use pgrx::PgMemoryContexts;
use pgrx::pg_sys::{self, Datum};
use std::ffi::CStr;

pub struct OldScan {
    source: pg_sys::Oid,
    child: Child,
    /// The attribute behind each column; 0 is the whole row. None for a column that is NULL, where nothing is read.
    attributes: Vec<Option<i16>>,
    /// The highest attribute among them.
    highest: usize,
    quals: *mut pg_sys::ExprState,
    keys: Vec<Key>,
    delta: Option<Consolidated>,
    state: State,
    left_out: u64,
    restored: u64,
}

/// `column = value` by a hashable operator.
struct Key {
    column: usize,
    value: *mut pg_sys::ExprState,
    collation: pg_sys::Oid,
    /// Hashes the column, and the value, so that equal ones have equal hashes.
    hash_column: pg_sys::FmgrInfo,
    hash_value: pg_sys::FmgrInfo,
}

/// Where a pass is.
#[derive(Clone, Copy)]
enum State {
    Start,
    Table,
    /// At this removed image, of which so many rows were returned; with this hash, if there are keys.
    Removed {
        hash: Option<u64>,
        image: usize,
        copies: i64,
    },
    Done,
}

/// What the plan carries. Its expressions are the quals, and then the value of each key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    pub quals: usize,
    pub keys: Vec<KeySpec>,
}

/// A column that is compared, the functions that hash it and the value, and their collation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySpec {
    pub column: usize,
    pub hash_column: pg_sys::Oid,
    pub hash_value: pg_sys::Oid,
    pub collation: pg_sys::Oid,
}

private!(struct Spec { quals, keys });
private!(struct KeySpec { column, hash_column, hash_value, collation });

impl Provider for OldScan {
    const NAME: &'static CStr = c"TrickleOld";
    const LEAF: bool = true;
    type Spec = Spec;

    fn begin(node: Node, spec: Spec, flags: i32) -> Self {
        // SAFETY: the executor has opened the scan relation; what is made here lives as long as the query.
        unsafe {
            let plan = node.plan();
            let child = list::iter::<pg_sys::Plan>((*plan).custom_plans).next().expect("it scans the table");
            let child = node.begin_custom(child, flags);
            let relation = (*node.as_ptr()).ss.ss_currentRelation;
            let columns = list::iter::<pg_sys::TargetEntry>((*plan).custom_scan_tlist);
            let attribute = |entry: *mut pg_sys::TargetEntry| {
                let expression = (*entry).expr;
                let is_column = node::is_a(expression, pg_sys::NodeTag::T_Var);
                is_column.then(|| (*expression.cast::<pg_sys::Var>()).varattno)
            };
            let attributes: Vec<Option<i16>> = columns.map(attribute).collect();
            let highest = attributes.iter().copied().flatten().max().unwrap_or(0) as usize;
            let expressions = (*plan).custom_exprs;
            let condition = list::make(list::iter::<pg_sys::Expr>(expressions).take(spec.quals));
            let values = list::iter::<pg_sys::Expr>(expressions).skip(spec.quals);
            let keys = values.zip(&spec.keys);
            Self {
                source: (*relation).rd_id,
                child,
                attributes,
                highest,
                quals: pg_sys::ExecInitQual(condition, node.plan_state()),
                keys: keys.map(|(value, key)| Key::begin(node, value, key)).collect(),
                delta: None,
                state: State::Start,
                left_out: 0,
                restored: 0,
            }
        }
    }

    fn next(&mut self, node: Node) -> *mut pg_sys::TupleTableSlot {
        let slot = node.scan_slot();
        // SAFETY: the scan slot has the child's columns.
        unsafe {
            pg_sys::ExecClearTuple(slot);
            if self.delta.is_none() {
                self.delta = Some(self.consolidate(node));
            }
            if matches!(self.state, State::Start) {
                self.delta.as_mut().expect("just made").begin_pass();
                self.state = State::Table;
            }
            if matches!(self.state, State::Table) && !self.next_of_table(slot) {
                self.state = self.first_removed(node);
            }
            while matches!(self.state, State::Removed { .. }) && !self.next_removed(node, slot) {}
        }
        slot
    }

    fn rescan(&mut self, node: Node) {
        self.state = State::Start;
        // SAFETY: the server leaves custom children to us.
        unsafe {
            let changed = (*node.plan_state()).chgParam;
            if !changed.is_null() {
                pg_sys::UpdateChangedParamSet(self.child.as_ptr(), changed);
            }
            self.child.rescan();
            pg_sys::ExecScanReScan(node.as_ptr().cast());
        }
    }

    fn end(&mut self, _node: Node) {
        self.child.end();
        if let Some(delta) = self.delta.take() {
            delta.end();
        }
    }

    fn explain(&self, _node: Node, to: Explain) {
        if to.analyze() {
            to.integer(c"Rows Left Out", self.left_out);
            to.integer(c"Rows Restored", self.restored);
        }
    }
}

impl OldScan {
    /// The delta in the columns of the scan.
    unsafe fn consolidate(&self, node: Node) -> Consolidated {
        // SAFETY: this node runs inside a refresh; versions are rows of the source.
        unsafe {
            let context = (*node.estate()).es_query_cxt;
            let mut delta = Consolidated::new((*node.scan_slot()).tts_tupleDescriptor, context);
            let desc = (*(*node.as_ptr()).ss.ss_currentRelation).rd_att;
            let mut scan = ChangeScan::begin(self.source, desc, node.estate());
            let mut row = (vec![Datum::null(); self.attributes.len()], vec![true; self.attributes.len()]);
            let econtext = node.expr_context();
            while let Some(weight) = scan.next() {
                interrupt::check();
                let version = scan.version();
                let columns = version.row(self.highest);
                for (column, &attribute) in self.attributes.iter().enumerate() {
                    (row.0[column], row.1[column]) = match attribute {
                        None => (Datum::null(), true),
                        Some(0) => {
                            let whole = PgMemoryContexts::For((*econtext).ecxt_per_tuple_memory)
                                .switch_to(|_| pg_sys::ExecFetchSlotHeapTupleDatum(version.as_ptr()));
                            (whole, false)
                        }
                        Some(attribute) => {
                            let at = attribute as usize - 1;
                            (columns.values[at], columns.nulls[at])
                        }
                    };
                }
                delta.add(Row { values: &row.0, nulls: &row.1 }, weight);
                pg_sys::MemoryContextReset((*econtext).ecxt_per_tuple_memory);
            }
            scan.end();
            delta.finish();
            delta
        }
    }

    /// Puts the next row of the table that was there before into the slot; false when there is none.
    unsafe fn next_of_table(&mut self, slot: *mut pg_sys::TupleTableSlot) -> bool {
        let delta = self.delta.as_mut().expect("made by the first call");
        // SAFETY: the child's rows have the slot's columns, and stay until the next is asked for.
        unsafe {
            while let Some(row) = self.child.next() {
                let columns = self.attributes.len();
                pg_sys::slot_getallattrs(row.as_ptr());
                let row = Row {
                    values: std::slice::from_raw_parts((*row.as_ptr()).tts_values, columns),
                    nulls: std::slice::from_raw_parts((*row.as_ptr()).tts_isnull, columns),
                };
                if delta.leaves_out(row) {
                    self.left_out += 1;
                    continue;
                }
                fill(slot, row);
                return true;
            }
        }
        false
    }

    /// Where the removed rows of a pass begin.
    unsafe fn first_removed(&mut self, node: Node) -> State {
        let Self { delta, keys, .. } = self;
        let delta = delta.as_mut().expect("made by the first call");
        if delta.removed() == 0 {
            return State::Done;
        }
        if keys.is_empty() {
            return State::Removed { hash: None, image: 0, copies: 0 };
        }
        // SAFETY: rows of the scan tuple; values are evaluated as the node's quals are.
        unsafe {
            let econtext = node.expr_context();
            let scratch = (*econtext).ecxt_per_tuple_memory;
            let within = |work: &mut dyn FnMut() -> Option<u64>| {
                let hash = PgMemoryContexts::For(scratch).switch_to(|_| work());
                pg_sys::MemoryContextReset(scratch);
                hash
            };
            if !delta.is_hashed() {
                delta.hash_removed(|row| within(&mut || hash(keys, |key| key.of_column(row))));
            }
            match within(&mut || hash(keys, |key| key.of_value(econtext))) {
                Some(hash) => State::Removed { hash: Some(hash), image: 0, copies: 0 },
                // Nothing equals NULL.
                None => State::Done,
            }
        }
    }

    /// Takes a step through the removed rows: true when the slot holds the next one.
    unsafe fn next_removed(&mut self, node: Node, slot: *mut pg_sys::TupleTableSlot) -> bool {
        let State::Removed { hash, image, copies } = self.state else { return false };
        let delta = self.delta.as_mut().expect("made by the first call");
        let found = match hash {
            Some(hash) => delta.removed_with(hash, image),
            None => (image < delta.removed()).then(|| delta.removed_at(image)),
        };
        let Some((row, all)) = found else {
            self.state = State::Done;
            return false;
        };
        interrupt::check();
        // SAFETY: the row stays until the next is asked for; quals look at the scan tuple.
        unsafe {
            fill(slot, row);
            let econtext = node.expr_context();
            (*econtext).ecxt_scantuple = slot;
            if copies < all && (copies > 0 || pg_sys::ExecQualAndReset(self.quals, econtext)) {
                self.state = State::Removed { hash, image, copies: copies + 1 };
                self.restored += 1;
                return true;
            }
            pg_sys::ExecClearTuple(slot);
        }
        self.state = State::Removed { hash, image: image + 1, copies: 0 };
        false
    }
}

/// Borrows the row's values.
unsafe fn fill(slot: *mut pg_sys::TupleTableSlot, row: Row) {
    // SAFETY: the slot is virtual and has the row's columns.
    unsafe {
        pg_sys::ExecClearTuple(slot);
        std::ptr::copy_nonoverlapping(row.values.as_ptr(), (*slot).tts_values, row.values.len());
        std::ptr::copy_nonoverlapping(row.nulls.as_ptr(), (*slot).tts_isnull, row.nulls.len());
        pg_sys::ExecStoreVirtualTuple(slot);
    }
}

/// The hash of all keys; None if one of them is NULL, which equals nothing.
fn hash(keys: &mut [Key], mut of: impl FnMut(&mut Key) -> Option<u32>) -> Option<u64> {
    keys.iter_mut().try_fold(0_u64, |all, key| Some(all.rotate_left(29) ^ u64::from(of(key)?)))
}

impl Key {
    unsafe fn begin(node: Node, value: *mut pg_sys::Expr, spec: &KeySpec) -> Self {
        // SAFETY: the plan's expression; functions are looked up in the query's context.
        unsafe {
            let look_up = |function: pg_sys::Oid| {
                let mut info = pg_sys::FmgrInfo::default();
                pg_sys::fmgr_info_cxt(function, &mut info, (*node.estate()).es_query_cxt);
                info
            };
            Self {
                column: spec.column,
                value: pg_sys::ExecInitExpr(value, node.plan_state()),
                collation: spec.collation,
                hash_column: look_up(spec.hash_column),
                hash_value: look_up(spec.hash_value),
            }
        }
    }

    unsafe fn of_column(&mut self, row: Row) -> Option<u32> {
        let (value, null) = (row.values[self.column], row.nulls[self.column]);
        // SAFETY: the function takes values of the column.
        (!null)
            .then(|| unsafe { pg_sys::FunctionCall1Coll(&mut self.hash_column, self.collation, value) }.value() as u32)
    }

    unsafe fn of_value(&mut self, econtext: *mut pg_sys::ExprContext) -> Option<u32> {
        let mut null = false;
        // SAFETY: the function takes values of the expression.
        unsafe {
            let value = pg_sys::ExecEvalExprSwitchContext(self.value, econtext, &mut null);
            (!null).then(|| pg_sys::FunctionCall1Coll(&mut self.hash_value, self.collation, value).value() as u32)
        }
    }
}
