//! The server's own aggregation as the maker of our states.
//!
//! A plain aggregate run without its final function (as in a parallel worker) leaves its transition state, which is what
//! we store for it. For an invertible aggregate we store the state of its moving form. Often both are the same;
//! if not (sum(int4) keeps a sum, its moving form sum and count), another aggregate of the server may have it as its plain
//! form (avg(int4)): that one then makes the state in its stead.

use super::definition::Definition;
use crate::circuit::Ability;
use crate::pg::{aggregates, facts};
use pgrx::pg_sys;

/// The aggregate whose plain transition state is the one stored for `definition`; None if there is none, or if
/// the result is stored.
pub fn of(definition: &Definition) -> Option<pg_sys::Oid> {
    // SAFETY: the Aggref is live.
    let own = unsafe { (*definition.aggref).aggfnoid };
    match definition.ability {
        Ability::Recompute => None,
        Ability::InsertOnly { .. } => Some(own),
        Ability::Invertible => {
            let wanted = aggregates::read(own).moving?;
            let is_twin = |&other: &pg_sys::Oid| {
                aggregates::read(other).plain.has_transition_of(&wanted)
                    && aggregates::argument_types(other) == aggregates::argument_types(own)
            };
            // Nearly always; looking at all others takes a scan of the catalog.
            if is_twin(&own) {
                return Some(own);
            }
            let others = aggregates::with_transition(wanted.transition);
            others.into_iter().filter(|&other| facts::is_builtin(other)).find(is_twin)
        }
    }
}

/// What is stored for `definition` is the aggregate's result.
pub fn is_result(definition: &Definition) -> bool {
    let none = pg_sys::InvalidOid;
    // SAFETY: the Aggref is live.
    let (own, result) = unsafe { ((*definition.aggref).aggfnoid, (*definition.aggref).aggtype) };
    let plain = || aggregates::read(own).plain.finish == none && of(definition) == Some(own);
    match definition.ability {
        Ability::Recompute => true,
        _ => definition.functions.finish == none && definition.transtype == result && plain(),
    }
}
