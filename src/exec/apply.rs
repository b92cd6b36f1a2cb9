//! TrickleApply: writes the weighted rows of a refresh plan into its materialized view.
//!
//! Input: weighted rows of the view (`exec/weighted.rs`). Any order, any weights, rows may cancel,
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
mod plan;
mod populate;
mod row_image_hash;
mod runs;
#[cfg(feature = "pg_test")]
mod server_tests;
mod spill;

pub use crate::exec::store::Counters;
pub use index::ApplyIndex;
pub use make_index::{demote_outdated, drop_own_indexes, ensure as ensure_index, renew as renew_index};
pub use plan::{ApplyNode, Mode, complete, wrap};

use crate::capture::DeltaWriter;
use crate::error;
use crate::exec::node::{self, Child, Explain, Node, Provider};
use crate::exec::run::Run;
use crate::exec::store::Store;
use crate::exec::weighted::Layout;
use crate::pg::node as tree;
use crate::pg::progress::{self, Phase};
use change::Place;
use contents::Contents;
use delta::{Delta, Sink};
use parallel::Reading;
use pgrx::pg_sys;
use plan::Spec;
use runs::{Consolidation, Runs};
use std::ffi::CStr;

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

/// A running node.
pub struct Apply {
    spec: Spec,
    counters: Counters,
    done: bool,
}

impl Provider for Apply {
    const NAME: &'static CStr = c"TrickleApply";
    type Spec = Spec;

    fn begin(node: Node, spec: Spec, flags: i32) -> Self {
        node.begin_outer(flags);
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
        let layout = layout(&writer, node.outer());
        let reading = Reading::begin(node, self.spec.parallel);
        progress::phase(Phase::Computing, Some(node.outer().estimated_rows()));
        // SAFETY: the child's rows are of the view's shape, as just checked.
        unsafe {
            match self.spec.mode {
                Mode::Populate => {
                    populate::populate(&mut writer, node.outer(), layout);
                    reading.end();
                }
                Mode::Delta | Mode::Diff => self.apply(&mut writer, node, layout, reading),
            }
        }
        writer.end();
        self.counters = writer.counters;
    }

    unsafe fn apply(&self, writer: &mut Store, node: Node, layout: Layout, reading: Reading) {
        let child = node.outer();
        // SAFETY: inside a refresh.
        let sink = unsafe { sink(node, writer) };
        let mut delta = Delta::begin(writer, &self.spec.index, self.spec.mode, sink);
        // SAFETY: the child's rows are of the view's shape, as `run` has checked; it is not ended before this returns.
        unsafe {
            if self.spec.grouped && self.spec.mode == Mode::Delta && delta.keyed() {
                progress::phase(Phase::Writing, Some(child.estimated_rows()));
                // Grouped changes are written while they are read: delta plans are never parallel.
                reading.end();
                delta.apply(writer, Runs::grouped(child, layout), Some(child.estimated_rows()));
            } else if self.spec.mode == Mode::Delta {
                let mut rows = consolidate(&delta, child, layout);
                reading.end();
                rows.locate(&delta.reader, writer);
                self.finish(writer, &mut delta, rows);
            } else {
                let contents = contents(&delta, child, layout);
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

/// Who is told what is written.
///
/// # Safety
/// The node runs inside a refresh.
unsafe fn sink(node: Node, writer: &Store) -> Option<Sink> {
    // SAFETY: by contract.
    let run = unsafe { Run::of(node.estate()) }.expect("a view is written inside a refresh");
    match run.deltas {
        Some(deltas) if deltas.view() != writer.oid() => {
            // SAFETY: the relation is open.
            Some(Sink::Blocks(unsafe { deltas.begin(writer.oid(), writer.desc()) }))
        }
        _ => DeltaWriter::begin(writer.oid()).map(Sink::Views),
    }
}

/// The child's changes, consolidated as far as memory goes.
unsafe fn consolidate(delta: &Delta, child: Child, layout: Layout) -> Consolidation {
    let (mut rows, mut shown) = (Consolidation::new(&delta.reader), progress::Rows::default());
    while let Some(slot) = child.next() {
        let (row, weight) = layout.split(&slot);
        // SAFETY: rows of the child have the view's shape.
        unsafe { rows.add(&delta.reader, &delta.grouping, row, weight, Place::NONE) };
        shown.add(1);
    }
    rows
}

/// The child's rows, as the contents the view is to have.
unsafe fn contents(delta: &Delta, child: Child, layout: Layout) -> Contents {
    let (mut rows, mut shown) = (Contents::new(&delta.reader, delta.key()), progress::Rows::default());
    while let Some(slot) = child.next() {
        let (row, weight) = layout.split(&slot);
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

/// How the child's rows are laid out: the view's, weighted.
fn layout(writer: &Store, child: Child) -> Layout {
    // SAFETY: the view is open and the child begun, so that both descriptors are live.
    unsafe { Layout::over(writer.desc(), child.desc()) }.unwrap_or_else(|| {
        error::cannot_happen(format!("the rows of a refresh do not fit materialized view \"{}\"", writer.name()))
    })
}
