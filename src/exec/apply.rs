//! TrickleApply: writes the weighted rows of a refresh plan into its materialized view.
//!
//! Input: the view's columns in order, then the weight (int8, never null). Any order, any weights, rows may cancel,
//! unless `grouped`: equal keys are adjacent, with at most one old (-1) and one new (+1) row each.
//!
//! 1. Rows are netted by image, within work_mem or through an external sort (`net`, `spill`, `runs`).
//! 2. Each run of net changes is written: updates, deletes and inserts, found by a scan or through the view's apply index
//!    (`delta`, `find`, and `exec/store.rs`).
//! 3. The net changes go to the change buffer of the view's own consumers.
//!
//! Mode Diff takes the whole contents, which are compared with the stored rows (`contents`, `compare`). Where memory does not
//! suffice for that, they are netted and written as above: every stored row enters with weight -1. Mode Populate appends
//! to an empty view nobody can see yet.
//!
//! Output: no rows, but `counters`. Does not lock against other refreshes, nor move the frontier.

mod change;
mod compare;
mod contents;
mod delta;
mod find;
pub mod index;
mod make_index;
mod net;
mod parallel;
mod populate;
mod row_image_hash;
mod runs;
#[cfg(feature = "pg_test")]
mod server_tests;
mod spill;

pub use crate::exec::store::Counters;
pub use index::ApplyIndex;
pub use make_index::{demote_outdated, drop_own_indexes, ensure as ensure_index, renew as renew_index};

use crate::error;
use crate::exec::node::{self, Child, Explain, Node, Provider};
use crate::exec::store::Store;
use crate::pg::progress::{self, Phase};
use crate::pg::{list, node as tree};
use change::Place;
use contents::Contents;
use delta::Delta;
use parallel::Reading;
use pgrx::pg_sys;
use runs::{Consolidation, Runs, weighted};
use std::ffi::CStr;

/// What the child's rows are to the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Changes of its contents.
    Delta,
    /// Its contents, to be compared with the stored rows.
    Diff,
    /// Its contents; the view is empty and nobody can see it.
    Populate,
}

/// What to write where.
pub struct ApplyNode<'a> {
    pub view: pg_sys::Oid,
    pub mode: Mode,
    pub index: &'a ApplyIndex,
    /// The child promises grouped rows (see above).
    pub grouped: bool,
}

/// Puts a TrickleApply node over `child`.
///
/// # Safety
/// `child` is a finished plan.
pub unsafe fn wrap(child: *mut pg_sys::Plan, node: ApplyNode) -> *mut pg_sys::Plan {
    let mut integers = vec![node.view.to_u32() as i32, node.mode as i32, node.grouped.into(), 0];
    let (kind, index, columns): (i32, pg_sys::Oid, &[usize]) = match node.index {
        ApplyIndex::None => (0, pg_sys::InvalidOid, &[]),
        ApplyIndex::Single => (1, pg_sys::InvalidOid, &[]),
        ApplyIndex::Key { index, columns } => (2, *index, columns),
        ApplyIndex::Hash { index, columns } => (3, *index, columns),
    };
    integers.extend([kind, index.to_u32() as i32]);
    integers.extend(columns.iter().map(|&column| column as i32));
    // SAFETY: an integer list is a node the server can copy.
    unsafe {
        let private =
            integers.into_iter().fold(std::ptr::null_mut(), |list, integer| pg_sys::lappend_int(list, integer));
        node::plan_over::<Apply>(child, std::ptr::null_mut(), list::make([private])).cast()
    }
}

/// Completes a statement whose top node is a TrickleApply:
/// - it, and not the executor, enters parallel mode, in which rows can be read but not changed (`parallel`);
/// - the view gets an entry, so that EXPLAIN says which one. Not for Populate: the executor opens no unpopulated view.
///
/// # Safety
/// `stmt` is a private statement; the view is locked when it runs.
pub unsafe fn complete(stmt: *mut pg_sys::PlannedStmt) {
    // SAFETY: plain node construction; the top node was made by `wrap`.
    unsafe {
        let scan: *mut pg_sys::CustomScan = (*stmt).planTree.cast();
        let parallel = std::mem::replace(&mut (*stmt).parallelModeNeeded, false);
        (*(*Spec::list(scan)).elements.add(Spec::PARALLEL)).int_value = parallel.into();
        let spec = Spec::of(scan);
        if spec.mode == Mode::Populate {
            return;
        }
        (*stmt).rtable = pg_sys::lappend((*stmt).rtable, target_entry(spec.view).cast());
        let index = (*(*stmt).rtable).length;
        (*stmt).unprunableRelids = pg_sys::bms_add_member((*stmt).unprunableRelids, index);
        (*scan).scan.scanrelid = index as u32;
        (*scan).custom_relids = pg_sys::bms_make_singleton(index);
    }
}

unsafe fn target_entry(view: pg_sys::Oid) -> *mut pg_sys::RangeTblEntry {
    // SAFETY: plain node construction; the view exists.
    unsafe {
        let entry: *mut pg_sys::RangeTblEntry = tree::make(pg_sys::NodeTag::T_RangeTblEntry);
        (*entry).rtekind = pg_sys::RTEKind::RTE_RELATION;
        (*entry).relid = view;
        (*entry).relkind = pg_sys::RELKIND_MATVIEW as i8;
        (*entry).rellockmode = pg_sys::AccessShareLock as i32;
        (*entry).eref = pg_sys::makeAlias(pg_sys::get_rel_name(view), std::ptr::null_mut());
        entry
    }
}

/// Makes the node known to the server.
pub fn register() {
    node::register::<Apply>();
}

/// Rows a finished run has written.
///
/// # Safety
/// `top` is the state of a plan made by `wrap`.
pub unsafe fn counters(top: *mut pg_sys::PlanState) -> Counters {
    // SAFETY: the state is of a node of ours, begun and not ended, which lives as long as its executor.
    unsafe { node::provider_of::<Apply>(top) }.counters
}

/// What `wrap` wrote into the plan.
struct Spec {
    view: pg_sys::Oid,
    mode: Mode,
    grouped: bool,
    /// The child needs parallel mode.
    parallel: bool,
    index: ApplyIndex,
}

impl Spec {
    /// Position of `parallel` in the list.
    const PARALLEL: usize = 3;

    /// # Safety
    /// `scan` was made by `wrap`.
    unsafe fn list(scan: *mut pg_sys::CustomScan) -> *mut pg_sys::List {
        // SAFETY: custom_private holds the one list `wrap` wrote.
        unsafe { list::iter::<pg_sys::List>((*scan).custom_private) }.next().expect("written by `wrap`")
    }

    /// # Safety
    /// `scan` was made by `wrap`.
    unsafe fn of(scan: *mut pg_sys::CustomScan) -> Self {
        // SAFETY: an integer list.
        let numbers: Vec<i32> = unsafe { list::ints(Self::list(scan)) }.collect();
        let oid = |number: i32| pg_sys::Oid::from(number as u32);
        let columns = || numbers[6..].iter().map(|&column| column as usize).collect();
        let index = match numbers[4] {
            0 => ApplyIndex::None,
            1 => ApplyIndex::Single,
            2 => ApplyIndex::Key { index: oid(numbers[5]), columns: columns() },
            _ => ApplyIndex::Hash { index: oid(numbers[5]), columns: columns() },
        };
        let mode = [Mode::Delta, Mode::Diff, Mode::Populate][numbers[1] as usize];
        Self { view: oid(numbers[0]), mode, grouped: numbers[2] != 0, parallel: numbers[Self::PARALLEL] != 0, index }
    }
}

/// A running node.
struct Apply {
    spec: Spec,
    counters: Counters,
    done: bool,
}

impl Provider for Apply {
    const NAME: &'static CStr = c"TrickleApply";

    fn begin(node: Node, flags: i32) -> Self {
        node.begin_outer(flags);
        // SAFETY: the plan is ours.
        let spec = unsafe { Spec::of(node.plan()) };
        Self { spec, counters: Counters::default(), done: false }
    }

    fn next(&mut self, node: Node) -> *mut pg_sys::TupleTableSlot {
        if !std::mem::replace(&mut self.done, true) {
            self.run(node);
        }
        std::ptr::null_mut()
    }

    fn rescan(&mut self, _node: Node) {
        error::cannot_happen("TrickleApply runs once");
    }

    fn end(&mut self, node: Node) {
        node.end_outer();
    }

    fn explain(&self, node: Node, to: Explain) {
        // SAFETY: the plan is live; a catalog lookup, null when the view is gone.
        unsafe {
            if (*node.plan()).scan.scanrelid == 0 {
                to.text(c"Materialized View", &tree::string(pg_sys::get_rel_name(self.spec.view)));
            }
        }
        if to.analyze() {
            to.integer(c"Rows Inserted", self.counters.inserted);
            to.integer(c"Rows Updated", self.counters.updated);
            to.integer(c"Rows Deleted", self.counters.deleted);
        }
    }
}

impl Apply {
    /// Everything happens in one call; the view is open only meanwhile.
    fn run(&mut self, node: Node) {
        // SAFETY: the executor state is live; its snapshot outlives the run.
        let snapshot = unsafe { (*node.estate()).es_snapshot };
        // SAFETY: as above.
        let mut writer = unsafe { Store::open(self.spec.view, snapshot, self.spec.index.columns()) };
        check_child(&writer, node.outer());
        let reading = Reading::begin(node, self.spec.parallel);
        progress::phase(Phase::Computing, Some(node.outer().estimated_rows()));
        // SAFETY: the child's rows are of the view's shape, as just checked.
        unsafe {
            match self.spec.mode {
                Mode::Populate => {
                    populate::populate(&mut writer, node.outer());
                    reading.end();
                }
                Mode::Delta | Mode::Diff => self.apply(&mut writer, node.outer(), reading),
            }
        }
        writer.end();
        self.counters = writer.counters;
    }

    unsafe fn apply(&self, writer: &mut Store, child: Child, reading: Reading) {
        let mut delta = Delta::begin(writer, &self.spec.index, self.spec.mode);
        // SAFETY: the child's rows are of the view's shape, as `run` has checked; it is not ended before this returns.
        unsafe {
            if self.spec.grouped && self.spec.mode == Mode::Delta && delta.keyed() {
                progress::phase(Phase::Writing, Some(child.estimated_rows()));
                // Grouped changes are written while they are read: delta plans are never parallel.
                reading.end();
                delta.apply(writer, Runs::grouped(child), Some(child.estimated_rows()));
            } else if self.spec.mode == Mode::Delta {
                let mut rows = consolidate(&delta, child);
                reading.end();
                rows.locate(&delta.reader, writer);
                self.finish(writer, &mut delta, rows);
            } else {
                let contents = contents(&delta, child);
                reading.end();
                if contents.are_comparable() {
                    delta.apply_contents(writer, contents);
                } else {
                    let mut rows = contents.into_sorted(&delta.reader, &delta.grouping);
                    add_stored(writer, &delta, &mut rows);
                    self.finish(writer, &mut delta, rows);
                }
            }
        }
        delta.end();
    }

    unsafe fn finish(&self, writer: &mut Store, delta: &mut Delta, rows: Consolidation) {
        let expected = rows.expected(self.spec.mode);
        let runs = rows.finish(&delta.reader, &mut delta.grouping);
        // SAFETY: the rows have the view's shape.
        unsafe { delta.apply(writer, runs, expected) };
    }
}

/// The child's changes, consolidated as far as memory goes.
unsafe fn consolidate(delta: &Delta, child: Child) -> Consolidation {
    let (mut rows, mut shown) = (Consolidation::new(&delta.reader), progress::Rows::default());
    while let Some(slot) = child.next() {
        let (row, weight) = weighted(&slot, delta.reader.shape.len());
        // SAFETY: rows of the child have the view's shape.
        unsafe { rows.add(&delta.reader, &delta.grouping, row, weight, Place::NONE) };
        shown.add(1);
    }
    rows
}

/// The child's rows, as the contents the view is to have.
unsafe fn contents(delta: &Delta, child: Child) -> Contents {
    let (mut rows, mut shown) = (Contents::new(&delta.reader, delta.key()), progress::Rows::default());
    while let Some(slot) = child.next() {
        let (row, weight) = weighted(&slot, delta.reader.shape.len());
        // SAFETY: as above.
        unsafe { rows.add(&delta.reader, row, weight) };
        shown.add(1);
    }
    rows
}

/// Stored rows go, but for those that come again.
unsafe fn add_stored(writer: &Store, delta: &Delta, rows: &mut Consolidation) {
    progress::phase(Phase::Comparing, writer.estimated_rows());
    let (columns, mut shown) = (delta.reader.shape.len(), progress::Rows::default());
    // SAFETY: stored rows have the view's shape.
    writer.scan(|slot| unsafe {
        let place = Place::of((*slot.as_ptr()).tts_tid);
        rows.add(&delta.reader, &delta.grouping, slot.row(columns), -1, place);
        shown.add(1);
    });
}

/// Rows are copied by their layout, so it must be the view's.
fn check_child(writer: &Store, child: Child) {
    let (view, rows) = (writer.desc(), child.desc());
    // SAFETY: attribute numbers are within both descriptors.
    let fits = unsafe {
        let typid = |desc, column| (*pg_sys::TupleDescAttr(desc, column)).atttypid;
        let natts = (*view).natts;
        (*rows).natts == natts + 1
            && (0..natts).all(|column| typid(view, column) == typid(rows, column))
            && typid(rows, natts) == pg_sys::INT8OID
    };
    if !fits {
        error::cannot_happen(format!("the rows of a refresh do not fit materialized view \"{}\"", writer.name()));
    }
}
