//! min, max and their like: aggregates with a sort operator, whose result is the first value in its order.
//!
//! Theorem. Let e be the first value of M + A. If e is in M' = M + A - D then e is the first value of M', because M'
//! is part of M + A. So one value and its [`Witness`] are all that is needed, in whatever order rows come; only
//! when the witness fails (the extremum was removed) does the group have to be looked at.
//!
//! Values are counted by image: of equal values with different images (1.0 and 1.00) the one in the state must be
//! one that is still present.

use super::call::Call;
use super::transition::Transition;
use super::value::{Image, is_true};
use super::witness::Witness;
use crate::exec::{mismatch, weighted};
use pgrx::pg_sys::{self, NullableDatum};

pub struct Extremum {
    precedes: Call,
    image: Image,
    witness: Witness,
}

impl Extremum {
    /// # Safety
    /// As `Call::new`; `operator` is the aggregate's sort operator.
    pub unsafe fn new(operator: pg_sys::Oid, collation: pg_sys::Oid, image: Image) -> Self {
        // SAFETY: the sort operator of an aggregate is a btree comparison of its argument type.
        let precedes = unsafe {
            Call::new(pg_sys::get_opcode(operator), 2, collation, std::ptr::null_mut(), std::ptr::null_mut())
        };
        Self { precedes, image, witness: Witness::absent() }
    }

    /// For a group whose state has been loaded.
    pub fn start(&mut self) {
        self.witness = Witness::stored();
    }

    /// A value (never NULL) is added `weight` times.
    pub fn add(&mut self, state: &mut Transition, value: NullableDatum, weight: i64) {
        state.count = weighted::sum(state.count, weight);
        let current = state.value();
        if current.isnull || self.precedes(value, current) {
            state.set(value);
            self.witness = Witness::absent();
            self.witness.count(weight);
        } else if self.image.equal(value, current) {
            self.witness.count(weight);
        }
    }

    /// A value is removed `weight` times.
    pub fn remove(&mut self, state: &mut Transition, value: NullableDatum, weight: i64) {
        state.count = weighted::sum(state.count, -weight);
        let current = state.value();
        if current.isnull {
            return mismatch::note("A value is removed from a group which has none.");
        }
        if self.image.equal(value, current) {
            self.witness.count(-weight);
        }
    }

    /// The state is right.
    pub fn holds(&self, state: &Transition) -> bool {
        state.value().isnull || self.witness.holds()
    }

    fn precedes(&mut self, value: NullableDatum, current: NullableDatum) -> bool {
        self.precedes.set(0, value);
        self.precedes.set(1, current);
        is_true(self.precedes.invoke())
    }
}
