//! Puts grouping expressions back where the analyzer left references to the grouping step.

use crate::pg::handle::Any;
use crate::pg::query::Query;
use crate::pg::stack;
use pgrx::pg_sys;

pub fn flatten(query: Query) -> Query {
    stack::check();
    if query.get().hasGroupRTE && query.get().groupingSets.is_null() {
        query.flatten_groups();
    }
    if groups_everything_once(query) {
        query.set(|query| query.groupingSets = std::ptr::null_mut());
        // The group exists even over no rows, as it does when there are aggregates.
        query.set(|query| query.hasAggs = true);
    }
    query.inner().into_iter().for_each(|inner| {
        flatten(inner);
    });
    query
}

/// `GROUP BY ()`: one grouping set, the empty one.
fn groups_everything_once(query: Query) -> bool {
    let sets = query.nodes(|query| query.groupingSets);
    let empty = |set: Any| {
        set.cast::<pg_sys::GroupingSet>()
            .is_some_and(|set| set.get().kind == pg_sys::GroupingSetKind::GROUPING_SET_EMPTY)
    };
    query.get().groupClause.is_null() && sets.len() == 1 && empty(sets[0])
}
