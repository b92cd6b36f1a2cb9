//! TrickleAccumulate: folds weighted rows into groups and gives the view's rows that change.
//!
//! Input promised: rows sorted by group key, made of the template's columns (keys, then arguments and filters) and a
//! weight. Under [`Mode::Delta`] they are the template's delta, under [`Mode::Rebuild`] all of its rows, and then the
//! state table is empty.
//! Output: rows of the view and a weight, the old row of a group (-1) right before its new one (+1); a pair of equal
//! images is left out. The slot of the old row stays valid until the row after the new one is asked for.
//!
//! 1. The rows of one group at a time are folded into its state (fold/mod.rs); the old row comes from the state as it
//!    stood, never from a second computation.
//! 2. A group without rows disappears; the one group of a global aggregate stays.
//! 3. A group whose fold cannot be finished waits until the input is exhausted, then is folded anew from all of its
//!    rows (recompute.rs).
//! 4. The state of a group is written right after its fold.
//!
//! It holds one group in memory, and is never rescanned. A delta that takes away what the state does not have is noted
//! and ends the output, as is one that leaves more groups to recompute than the run allows (mismatch.rs).

mod keys;
mod output;
mod plan;
mod recompute;
mod removals;
mod rows;
#[cfg(feature = "pg_test")]
mod server_tests;
mod state;

pub(super) use keys::Keys;
pub(super) use output::{Output, Side};
pub(super) use plan::Spec;
pub use plan::{AccumulateNode, KEYS, Mode, wrap};
pub use state::layout;
pub(super) use state::{Expect, StateTable};

use super::fold::Fold;
use super::mismatch;
use super::node::{self, Explain, Node, Provider};
use super::run::Run;
use super::weighted;
use crate::error::cannot_happen;
use crate::pg::interrupt;
use crate::pg::memory::{reset, within};
use crate::pg::slot::Slot;
use pgrx::pg_sys::{self, NullableDatum};
use plan::Key;
use recompute::Recompute;
use removals::Removals;
use rows::Rows;
use std::ffi::CStr;

pub fn register() {
    node::register::<Accumulate>();
}

pub struct Accumulate {
    mode: Mode,
    input: Rows,
    keys: Keys,
    fold: Fold,
    state: StateTable,
    output: Output,
    removals: Removals,
    /// Groups without and with NULLs in their key.
    recomputes: [Recompute; 2],
    phase: Phase,
    /// Rows to be returned, last first.
    ready: Vec<Slot>,
    results: Vec<NullableDatum>,
    states: Vec<NullableDatum>,
    /// Its per-tuple memory lives as long as a group.
    group: *mut pg_sys::ExprContext,
    touched: u64,
    recomputed: u64,
    /// Groups that wait, and how many may.
    waiting: u64,
    most_waiting: u64,
}

enum Phase {
    /// Groups of the input.
    Input,
    /// Groups that wait; the rows are there once the plan runs.
    Recompute {
        part: usize,
        rows: Option<Rows>,
    },
    Done,
}

/// Where the group at hand comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Given {
    Delta,
    Whole,
}

impl Provider for Accumulate {
    const NAME: &'static CStr = c"TrickleAccumulate";
    type Spec = Spec;

    fn begin(node: Node, spec: Spec, flags: i32) -> Self {
        let child = node.begin_outer(flags);
        let key_desc = key_desc(&spec.keys);
        let expect = match spec.mode {
            // A change of a group is an old row and a new one.
            Mode::Delta => Expect::Groups(child.estimated_rows() as f64 / 2.0),
            Mode::Rebuild | Mode::Groups => Expect::AllGroups,
        };
        // SAFETY: everything made here lives as long as the query.
        unsafe {
            let group = pg_sys::CreateExprContext(node.estate());
            let results = result_desc(&spec);
            let may_recompute = spec.may_recompute();
            let mut this = Self {
                mode: spec.mode,
                input: Rows::new(child),
                keys: Keys::new(&spec.keys, key_desc, node),
                state: StateTable::open(spec.state, spec.keys.len(), spec.found_by, expect, node),
                output: Output::new(spec.output, spec.having, results, group, node),
                removals: Removals::new(child.desc(), node),
                recomputes: spec.recompute.map(|plan| Recompute::new(plan, key_desc, node)),
                fold: Fold::new(spec.definitions, child.desc(), node.plan_state()),
                phase: Phase::Input,
                ready: Vec::with_capacity(2),
                results: Vec::new(),
                states: Vec::new(),
                group,
                touched: 0,
                recomputed: 0,
                waiting: 0,
                most_waiting: Run::of(node.estate()).map_or(u64::MAX, |run| run.most_groups),
            };
            if may_recompute && flags & pg_sys::EXEC_FLAG_EXPLAIN_ONLY as i32 != 0 {
                this.recomputes.iter_mut().for_each(Recompute::preview);
            }
            this
        }
    }

    fn next(&mut self, _node: Node) -> *mut pg_sys::TupleTableSlot {
        while !mismatch::is_noted() {
            // A group may give no row, and take none of those that its plan has ahead.
            interrupt::check();
            if let Some(slot) = self.ready.pop() {
                return slot.as_ptr();
            }
            let found = match self.phase {
                Phase::Input => self.next_input_group(),
                Phase::Recompute { .. } => self.next_whole_group(),
                Phase::Done => return std::ptr::null_mut(),
            };
            if !found {
                self.next_phase();
            }
        }
        std::ptr::null_mut()
    }

    fn rescan(&mut self, _node: Node) {
        cannot_happen("a refresh plan is rescanned");
    }

    fn end(&mut self, node: Node) {
        self.recomputes.iter_mut().for_each(Recompute::end);
        self.removals.end();
        self.state.close();
        node.end_outer();
    }

    fn explain(&self, _node: Node, to: Explain) {
        if to.analyze() {
            to.integer(c"Groups Touched", self.touched);
            to.integer(c"Groups Recomputed", self.recomputed);
        }
        if self.recomputes.iter().any(Recompute::is_started) {
            let labels = [c"Group Recompute", c"Group Recompute of Keys with NULLs"];
            to.list(c"Group Recomputes", || {
                self.recomputes.iter().zip(labels).for_each(|(recompute, label)| recompute.explain(to, label));
            });
        }
    }
}

impl Accumulate {
    /// Folds the next group of the input; false at its end.
    fn next_input_group(&mut self) -> bool {
        let Some(first) = self.input.peek() else { return self.first_global_group() };
        self.keys.begin(first.row(self.keys.count()));
        self.touched += 1;
        let before = self.load();
        let input = &mut self.input;
        let net = Self::fold_rows(&mut self.fold, &mut self.keys, &mut self.removals, input);
        self.close(before, weighted::sum(before.unwrap_or(0), net), Given::Delta);
        true
    }

    /// The group of a global aggregate over no rows exists as well.
    fn first_global_group(&mut self) -> bool {
        let missing = self.mode == Mode::Rebuild && self.keys.is_global() && self.touched == 0;
        if missing {
            self.touched += 1;
            let before = self.load();
            self.close(before, 0, Given::Delta);
        }
        missing
    }

    /// Folds the next waiting group from all of its rows; false when none is left.
    fn next_whole_group(&mut self) -> bool {
        let Phase::Recompute { part, rows } = &mut self.phase else { return false };
        let recompute = &mut self.recomputes[*part];
        if rows.is_none() {
            *rows = recompute.begin();
        }
        let Some(mut source) = rows.take() else { return false };
        let Some(key) = recompute.next_key() else {
            if source.peek().is_some() {
                cannot_happen("recompute gives a group that was not asked for");
            }
            return false;
        };
        self.keys.begin(key);
        self.recomputed += 1;
        let before = self.load();
        self.fold.start();
        self.keys.forget();
        let net = Self::fold_rows(&mut self.fold, &mut self.keys, &mut self.removals, &mut source);
        self.close(before, net, Given::Whole);
        let Phase::Recompute { rows, .. } = &mut self.phase else { return false };
        *rows = Some(source);
        true
    }

    fn next_phase(&mut self) {
        self.phase = match self.phase {
            Phase::Input => Phase::Recompute { part: 0, rows: None },
            Phase::Recompute { part, .. } if part + 1 < self.recomputes.len() => {
                Phase::Recompute { part: part + 1, rows: None }
            }
            _ => Phase::Done,
        };
    }

    /// Loads the group at hand and forms its old row; the number of its rows, or None for a new group.
    fn load(&mut self) -> Option<i64> {
        // SAFETY: the rows of the group before have been taken.
        unsafe { reset((*self.group).ecxt_per_tuple_memory) };
        if self.mode == Mode::Rebuild || !self.state.find(&mut self.keys) {
            self.fold.start();
            return None;
        }
        let rows = self.state.rows();
        self.keys.load(self.state.row().first(self.keys.count()));
        self.states.clear();
        self.states.extend(self.state.states());
        self.fold.load(rows, &self.states);
        self.compute_results();
        self.ready.extend(self.output.form(Side::Old, self.keys.row(), &self.results));
        Some(rows)
    }

    /// Folds the rows of the group at hand; the sum of their weights.
    fn fold_rows(fold: &mut Fold, keys: &mut Keys, removals: &mut Removals, input: &mut Rows) -> i64 {
        let mut net = 0;
        while let Some(slot) = input.peek().filter(|slot| keys.has(*slot)) {
            let (row, weight) = input.split(&slot);
            net = weighted::sum(net, weight);
            if weight < 0 {
                removals.put(slot);
            } else if weight > 0 {
                fold.add(row, weight);
                keys.count_row(row.first(keys.count()), weight);
            }
            input.skip();
        }
        removals.drain(|slot| {
            let (row, weight) = input.split(&slot);
            fold.remove(row, weighted::negated(weight));
            keys.count_row(row.first(keys.count()), weight);
        });
        net
    }

    /// Finishes the group at hand, which had `before` rows and now has `rows`.
    fn close(&mut self, before: Option<i64>, rows: i64, given: Given) {
        if rows < 0 {
            return mismatch::note("A group has more rows removed than it has.");
        }
        if rows == 0 && self.keys.is_global() {
            self.fold.start();
        } else if rows == 0 {
            return if before.is_some() {
                self.state.delete()
            };
        }
        if !(self.fold.settle() && self.keys_hold(rows)) {
            return self.put_off(given);
        }
        self.compute_results();
        self.write(before, rows);
        self.emit_new();
    }

    fn keys_hold(&self, rows: i64) -> bool {
        rows == 0 || self.keys.holds()
    }

    /// Leaves the group for later.
    fn put_off(&mut self, given: Given) {
        if given == Given::Whole || self.mode == Mode::Rebuild {
            return mismatch::note("Rows are removed where there can only be additions.");
        }
        self.ready.clear();
        let key = self.keys.current();
        let with_nulls = key.row(self.keys.count()).nulls.contains(&true);
        self.recomputes[with_nulls as usize].put(key);
        self.waiting += 1;
        if self.waiting > self.most_waiting {
            mismatch::note_too_dear();
        }
    }

    /// Results of the aggregates over the fold as it stands.
    fn compute_results(&mut self) {
        self.results.clear();
        // SAFETY: results live as long as the group.
        unsafe { within((*self.group).ecxt_per_tuple_memory, || self.fold.results(&mut self.results)) };
    }

    fn write(&mut self, before: Option<i64>, rows: i64) {
        self.states.clear();
        // SAFETY: as in `compute_results`.
        unsafe {
            within((*self.group).ecxt_per_tuple_memory, || self.fold.stored(&self.results, &mut self.states));
        }
        match before {
            Some(_) => self.state.update(&mut self.keys, rows, &self.states),
            None if self.mode == Mode::Delta && self.keys.is_global() => mismatch::note("The only group is missing."),
            None => self.state.insert(&mut self.keys, rows, &self.states),
        }
    }

    /// Forms the new row and gets the group's rows ready.
    fn emit_new(&mut self) {
        let Some(new) = self.output.form(Side::New, self.keys.row(), &self.results) else { return };
        if self.ready.is_empty() {
            self.ready.push(new);
        } else if self.output.is_unchanged() {
            self.ready.clear();
        } else {
            self.ready.insert(0, new);
        }
    }
}

pub(super) fn key_desc(keys: &[Key]) -> pg_sys::TupleDesc {
    describe(keys.iter().map(|key| (key.typid, key.typmod, key.collation)))
}

/// Keys, results of the aggregates, weight.
pub(super) fn result_desc(spec: &Spec) -> pg_sys::TupleDesc {
    let keys = spec.keys.iter().map(|key| (key.typid, key.typmod, key.collation));
    // SAFETY: live Aggrefs.
    let results = spec.definitions.iter().map(|d| unsafe { ((*d.aggref).aggtype, -1, (*d.aggref).aggcollid) });
    describe(keys.chain(results).chain([weighted::ATTRIBUTE]))
}

/// A row type with columns k1, k2, ... of the given types, type modifiers and collations.
fn describe(columns: impl Iterator<Item = (pg_sys::Oid, i32, pg_sys::Oid)>) -> pg_sys::TupleDesc {
    let columns: Vec<_> = columns.collect();
    // SAFETY: one entry per column is initialised.
    unsafe {
        let desc = pg_sys::CreateTemplateTupleDesc(columns.len() as i32);
        for (number, (typid, typmod, collation)) in (1i16..).zip(columns) {
            let name = crate::pg::node::cstring(&format!("k{number}"));
            pg_sys::TupleDescInitEntry(desc, number, name, typid, typmod, 0);
            pg_sys::TupleDescInitEntryCollation(desc, number, collation);
        }
        desc
    }
}
