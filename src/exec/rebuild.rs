//! TrickleRebuild: writes the state of groups made by the server's own aggregation, and gives the view's rows.
//!
//! Input promised: one row per group, as its row in the state table is to be: key, `rows`, counts, states. The state
//! table is empty.
//! Output: the view's row of each group that HAVING lets through, weight +1.
//!
//! Grouping rows is what the server does well, in memory or spilling, hashed or sorted, in parallel workers. It is only
//! the groups that come here. What its aggregation cannot give in the form we store goes through TrickleAccumulate
//! (`plan/grouped.rs` says what).

use super::accumulate::{Expect, Keys, Output, Side, Spec, StateTable, key_desc, result_desc};
use super::fold::finish::Finish;
use super::node::{self, Explain, Node, Provider};
use crate::error::cannot_happen;
use crate::pg::memory::{reset, within};
use crate::pg::slot::Slot;
use pgrx::pg_sys::{self, NullableDatum};
use std::ffi::CStr;

pub fn register() {
    node::register::<Rebuild>();
}

pub struct Rebuild {
    keys: Keys,
    /// Counts before the states.
    counts: usize,
    /// Columns of the input.
    width: usize,
    finish: Finish,
    state: StateTable,
    output: Output,
    /// Counts and states of the group at hand.
    columns: Vec<NullableDatum>,
    results: Vec<NullableDatum>,
    /// Its per-tuple memory lives as long as a group.
    group: *mut pg_sys::ExprContext,
    groups: u64,
}

impl Provider for Rebuild {
    const NAME: &'static CStr = c"TrickleRebuild";
    type Spec = Spec;

    fn begin(node: Node, spec: Spec, flags: i32) -> Self {
        node.begin_outer(flags);
        // SAFETY: everything made here lives as long as the query.
        unsafe {
            let group = pg_sys::CreateExprContext(node.estate());
            let results = result_desc(&spec);
            let counts = spec.definitions.iter().filter(|definition| definition.has_count()).count();
            Self {
                counts,
                width: spec.keys.len() + 1 + counts + spec.definitions.len(),
                keys: Keys::new(&spec.keys, key_desc(&spec.keys), node),
                finish: Finish::new(&spec.definitions, node.plan_state()),
                state: StateTable::open(spec.state, spec.keys.len(), spec.found_by, Expect::AllGroups, node),
                output: Output::new(spec.output, spec.having, results, group, node),
                columns: Vec::new(),
                results: Vec::new(),
                group,
                groups: 0,
            }
        }
    }

    fn next(&mut self, node: Node) -> *mut pg_sys::TupleTableSlot {
        loop {
            let Some(slot) = node.outer().next() else { return std::ptr::null_mut() };
            if let Some(row) = self.take(slot) {
                return row.as_ptr();
            }
        }
    }

    fn rescan(&mut self, _node: Node) {
        cannot_happen("a refresh plan is rescanned");
    }

    fn end(&mut self, node: Node) {
        self.state.close();
        node.end_outer();
    }

    fn explain(&self, _node: Node, to: Explain) {
        if to.analyze() {
            to.integer(c"Groups", self.groups);
        }
    }
}

impl Rebuild {
    /// Stores the group in `slot`; its row of the view, unless HAVING keeps it out.
    fn take(&mut self, slot: Slot) -> Option<Slot> {
        // SAFETY: the row of the group before has been taken.
        unsafe { reset((*self.group).ecxt_per_tuple_memory) };
        let (row, keys) = (slot.row(self.width), self.keys.count());
        self.groups += 1;
        self.keys.begin(row.first(keys));
        self.columns.clear();
        self.columns.extend((keys + 1..self.width).map(|column| row.at(column)));
        self.state.insert(&mut self.keys, row.at(keys).value.value() as i64, &self.columns);
        self.results.clear();
        let (states, results) = (&self.columns[self.counts..], &mut self.results);
        // SAFETY: results live as long as the group.
        unsafe { within((*self.group).ecxt_per_tuple_memory, || self.finish.results(states, results)) };
        self.output.form(Side::New, self.keys.row(), &self.results)
    }
}
