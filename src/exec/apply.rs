//! TrickleApply: writes the weighted rows of a refresh plan into its materialized view.
//!
//! Input: weighted rows of the view (`exec/weighted.rs`). Any order, any weights, rows may cancel,
//! unless `grouped`: equal keys are adjacent, with at most one old (-1) and one new (+1) row each.
//!
//! 1. Rows are netted by image, within work_mem or through an external sort (`net`, `spill`, `runs`).
//! 2. Each run of net changes is written: updates, deletes and inserts, found by a scan or through the view's apply index
//!    (`delta`, `find`, `writer`; many at once: `bulk`).
//! 3. The net changes go to the change buffer of the view's own consumers.
//!
//! Mode Diff does the same to the whole contents: every stored row enters with weight -1. Mode Populate appends to an
//! empty view nobody can see yet.
//!
//! Output: no rows, but `counters`. Does not lock against other refreshes, nor move the frontier.

mod batch;
mod bulk;
mod change;
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
mod writer;

pub use index::ApplyIndex;
pub use make_index::{demote_outdated, drop_own_indexes, ensure as ensure_index, renew as renew_index};
pub use plan::{ApplyNode, Mode, complete, wrap};
pub use writer::Counters;

use crate::capture::DeltaWriter;
use crate::error;
use crate::exec::node::{self, Child, Explain, Node, Provider};
use crate::exec::run::Run;
use crate::exec::weighted::Layout;
use crate::pg::node as tree;
use crate::pg::progress::{self, Phase};
use change::Place;
use delta::{Delta, Sink};
use parallel::Reading;
use pgrx::pg_sys;
use plan::Spec;
use runs::{Consolidation, Runs};
use std::ffi::CStr;
use writer::Writer;

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
        let mut writer = unsafe { Writer::open(self.spec.view, snapshot, self.spec.index.columns()) };
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

    unsafe fn apply(&self, writer: &mut Writer, node: Node, layout: Layout, reading: Reading) {
        let child = node.outer();
        // SAFETY: inside a refresh.
        let sink = unsafe { sink(node, writer) };
        let mut delta = Delta::begin(writer, &self.spec.index, self.spec.mode, sink);
        // SAFETY: the child's rows are of the view's shape, as `run` has checked; it is not ended before this returns.
        unsafe {
            let (runs, expected) = if self.spec.grouped && self.spec.mode == Mode::Delta && delta.keyed() {
                progress::phase(Phase::Writing, Some(child.estimated_rows()));
                (Runs::grouped(child, layout), Some(child.estimated_rows()))
            } else {
                self.consolidate(writer, &mut delta, child, layout)
            };
            // Grouped changes are written while they are read: delta plans are never parallel.
            reading.end();
            delta.apply(writer, runs, expected);
        }
        delta.end();
    }

    /// The runs, and how many changes there may be in them where that is known.
    unsafe fn consolidate(
        &self,
        writer: &Writer,
        delta: &mut Delta,
        child: Child,
        layout: Layout,
    ) -> (Runs, Option<u64>) {
        let mut rows = Consolidation::new(&delta.reader);
        let mut shown = progress::Rows::default();
        // SAFETY: rows of the child, and stored rows, have the view's shape.
        unsafe {
            while let Some(slot) = child.next() {
                let (row, weight) = layout.split(&slot);
                rows.add(&delta.reader, &delta.grouping, row, weight, Place::NONE);
                shown.add(1);
            }
            if self.spec.mode == Mode::Diff {
                progress::phase(Phase::Comparing, writer.estimated_rows());
                shown = progress::Rows::default();
                writer.scan(|slot| {
                    let place = Place::of((*slot.as_ptr()).tts_tid);
                    rows.add(&delta.reader, &delta.grouping, slot.row(layout.columns()), -1, place);
                    shown.add(1);
                });
            } else {
                rows.locate(&delta.reader, writer);
            }
        }
        let expected = rows.expected(self.spec.mode);
        (rows.finish(&delta.reader, &mut delta.grouping), expected)
    }
}

/// Who is told what is written.
///
/// # Safety
/// The node runs inside a refresh.
unsafe fn sink(node: Node, writer: &Writer) -> Option<Sink> {
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

/// How the child's rows are laid out: the view's, weighted.
fn layout(writer: &Writer, child: Child) -> Layout {
    // SAFETY: the view is open and the child begun, so that both descriptors are live.
    unsafe { Layout::over(writer.desc(), child.desc()) }.unwrap_or_else(|| {
        error::cannot_happen(format!("the rows of a refresh do not fit materialized view \"{}\"", writer.name()))
    })
}
