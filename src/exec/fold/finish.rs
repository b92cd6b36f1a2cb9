//! Results from stored states, without any rows: for groups that the server's own aggregation has made.

use super::definition::Definition;
use super::permission;
use super::transition::Transition;
use crate::circuit::Ability;
use crate::pg::memory::{reset, within};
use pgrx::pg_sys::{self, NullableDatum};

pub struct Finish {
    /// None where the result itself is stored.
    transitions: Vec<Option<Transition>>,
    scratch: *mut pg_sys::ExprContext,
}

impl Finish {
    /// # Safety
    /// Runs in the query's context; the definitions live as long as the query.
    pub unsafe fn new(definitions: &[Definition], parent: *mut pg_sys::PlanState) -> Self {
        definitions.iter().for_each(permission::check);
        // SAFETY: the context is freed with the executor state.
        let scratch = unsafe { pg_sys::CreateExprContext((*parent).state) };
        let transition = |definition: &Definition| {
            // SAFETY: by contract.
            (definition.ability != Ability::Recompute).then(|| unsafe { Transition::new(definition, parent, scratch) })
        };
        Self { transitions: definitions.iter().map(transition).collect(), scratch }
    }

    /// Appends the results for a group's `states`, in the current memory context or part of the states.
    pub fn results(&mut self, states: &[NullableDatum], into: &mut Vec<NullableDatum>) {
        // SAFETY: lives as long as the query.
        let scratch = unsafe { (*self.scratch).ecxt_per_tuple_memory };
        for (transition, &state) in self.transitions.iter_mut().zip(states) {
            into.push(match transition {
                None => state,
                Some(transition) => {
                    transition.start();
                    // SAFETY: nothing made in scratch memory outlives the call. (How many values it has does not matter here.)
                    unsafe {
                        within(scratch, || transition.load(state, 0));
                        reset(scratch);
                    }
                    transition.finish(&[])
                }
            });
        }
    }
}
