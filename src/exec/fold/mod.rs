//! Folding weighted rows into the aggregates of one group at a time.
//!
//! Let M be the multiset of a group's rows before a refresh, and A and D what its delta adds and removes, so that
//! M' = M + A - D is the group afterwards (D is part of M + A). A fold knows M only through what its aggregates
//! keep, is given all of A, then all of D, and gives the results over M', or says that it cannot.
//!
//! What each [`Ability`] guarantees, and why:
//! - *Invertible*: the inverse function undoes the transition function for any value in the state. Every value
//!   removed is in the state, since all of A is in before D comes out.
//! - *Insert-only*: A is folded in unless D removes something A did not bring (netting.rs); an *extremum* needs the
//!   group only when the extremum itself is gone (extremum.rs).
//! - *Recompute*: the result stands unless the delta changes the multiset of its argument rows (netting.rs).
//! - A group with M empty needs nothing kept: it is folded from A, unless D is not empty.
//! - Where no value is left the state is the initial one, whatever was removed.
//!
//! When a fold cannot, the caller starts it again and gives it all rows of the group, with positive weights.

mod aggregate;
mod call;
pub mod definition;
mod direct;
mod extremum;
pub mod finish;
mod netting;
mod ordered;
mod permission;
#[cfg(feature = "pg_test")]
mod server_tests;
mod transition;
pub mod twin;
pub mod value;
pub mod witness;

use crate::pg::image::Row;
use crate::pg::memory::{reset, within};
use aggregate::Aggregate;
use definition::Definition;
use pgrx::pg_sys::{self, NullableDatum};
use value::not_null;

/// All aggregates of a view, at one group.
pub struct Fold {
    aggregates: Vec<Aggregate>,
    /// Reset for every row.
    scratch: *mut pg_sys::ExprContext,
}

impl Fold {
    /// # Safety
    /// Runs in the query's context; `desc` describes the input rows.
    pub unsafe fn new(definitions: Vec<Definition>, desc: pg_sys::TupleDesc, parent: *mut pg_sys::PlanState) -> Self {
        definitions.iter().for_each(permission::check);
        // SAFETY: the context is freed with the executor state.
        let scratch = unsafe { pg_sys::CreateExprContext((*parent).state) };
        // SAFETY: by contract.
        let make = |definition| unsafe { Aggregate::new(definition, desc, parent, scratch) };
        Self { aggregates: definitions.into_iter().map(make).collect(), scratch }
    }

    /// Begins a group that is empty or will be given whole.
    pub fn start(&mut self) {
        self.aggregates.iter_mut().for_each(Aggregate::start);
    }

    /// Begins a group of `rows` rows of which `stored` was stored.
    pub fn load(&mut self, rows: i64, stored: &[NullableDatum]) {
        let counted = self.aggregates.iter().filter(|aggregate| aggregate.has_count()).count();
        let (counts, states) = stored.split_at(counted);
        let mut counts = counts.iter().map(|count| count.value.value() as i64);
        let mut states = states.iter();
        self.each(|aggregate| {
            let count = if aggregate.has_count() { counts.next() } else { None };
            if let Some(state) = states.next() {
                aggregate.load(*state, count.unwrap_or(rows));
            }
        });
    }

    /// `row` is in A `weight` > 0 times.
    pub fn add(&mut self, row: Row, weight: i64) {
        self.each(|aggregate| {
            if aggregate.takes(row) {
                aggregate.add(weight);
            }
        });
    }

    /// `row` is in D `weight` > 0 times. All of A has been added.
    pub fn remove(&mut self, row: Row, weight: i64) {
        self.each(|aggregate| {
            if aggregate.takes(row) {
                aggregate.remove(weight);
            }
        });
    }

    /// Finishes the group; false if it must be given whole.
    pub fn settle(&mut self) -> bool {
        let mut settled = true;
        let scratch = self.scratch_memory();
        self.each(|aggregate| settled &= aggregate.settle(scratch));
        settled
    }

    /// Appends the results, in the current memory context or the aggregates' own.
    pub fn results(&mut self, into: &mut Vec<NullableDatum>) {
        into.extend(self.aggregates.iter_mut().map(Aggregate::result));
    }

    /// Appends what is to be stored: counts, then states. `results` were those of this group.
    pub fn stored(&mut self, results: &[NullableDatum], into: &mut Vec<NullableDatum>) {
        let counted = self.aggregates.iter().filter(|aggregate| aggregate.has_count());
        into.extend(counted.map(|aggregate| not_null(aggregate.count())));
        into.extend(self.aggregates.iter_mut().zip(results).map(|(aggregate, result)| aggregate.stored(*result)));
    }

    fn scratch_memory(&self) -> pg_sys::MemoryContext {
        // SAFETY: lives as long as the query.
        unsafe { (*self.scratch).ecxt_per_tuple_memory }
    }

    /// Runs `work` on each aggregate with scratch memory as the current context.
    #[inline]
    fn each(&mut self, work: impl FnMut(&mut Aggregate)) {
        let scratch = self.scratch_memory();
        // SAFETY: nothing made in scratch memory outlives the call.
        unsafe {
            within(scratch, || self.aggregates.iter_mut().for_each(work));
            reset(scratch);
        }
    }
}
