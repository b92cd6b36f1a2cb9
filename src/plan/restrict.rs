//! The restriction of a bracket: which rows a change of an input can reach.
//!
//! Where a query is not linear in an input, its change is `Q(.. new ..) - Q(.. old ..)`, and both halves may leave out the rows
//! that come out alike (`delta/mod.rs`). These are all rows for which a condition that is the same in both halves fails, provided
//! it holds of every row that a change of the input can reach. **Any superset of what is reached is right.**
//!
//! The condition is EXISTS over a skeleton, added to the WHERE of the level at which the query stops being linear.
//! What a skeleton is, and how it is made, says `skeleton`; where an input stands in a query, `place`.

mod place;
mod skeleton;

use crate::pg::handle::Any;
use crate::pg::query::Query;
use crate::pg::stack;
use pgrx::pg_sys;
use place::{Join, Place, conjuncts, is_conjunct, leaves, outer_join};
use skeleton::{Draft, Level, Parts, add_conditions, exists, reached, skeleton};

/// Adds the condition, as far as one can be derived, to a private query that was cut down to the legs of the input.
pub fn restrict(query: Query, input: usize) {
    stack::check();
    let Some(place) = Place::find(query, input) else { return };
    if let Some(inner) = place.linear_level(query) {
        return restrict(inner, input);
    }
    let everything = Level { usable: &|_| true, above: None };
    let condition = match (place, outer_join(query.from().any(), place)) {
        (_, Some((join, missing))) => within_join(query, join, missing, place, input),
        (Place::Leaf(leaf), None) => {
            let inner = query.entry(leaf).child(|entry| entry.subquery);
            inner.and_then(|inner| skeleton(inner, input, &everything)).map(|skeleton| exists(skeleton.query))
        }
        (Place::SubLink(sublink), None) => reached(sublink, is_conjunct(query, sublink), input, &everything),
    };
    if condition.is_some() {
        add_conditions(query, condition.as_slice());
    }
}

/// The condition that some changed row of the side of an outer join which may be missing joins the row.
fn within_join(query: Query, join: Join, missing: Any, place: Place, input: usize) -> Option<Any> {
    let inside = leaves(missing);
    let mut parts = Parts::default();
    parts.gather(missing, place.is_below(missing).then_some(place));
    join.child(|join| join.quals).into_iter().for_each(|quals| conjuncts(quals, &mut parts.conditions));
    parts.keep_only_the_linked(place, &inside);
    let is_inside = |var: &pg_sys::Var| inside.contains(&var.varno);
    let above = Level { usable: &|_| true, above: None };
    let draft = Draft::make(query, parts, &is_inside, place, input, &above)?;
    draft.sink();
    Some(exists(draft.query(&[])))
}
