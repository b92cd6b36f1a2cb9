//! Calls of functions written in SQL become their bodies where the planner would do the same.
//!
//! A function without a label is VOLATILE, which keeps the planner from pulling up subqueries that call it, and us from
//! maintaining the view. The planner looks at the label no more once it has put the body in the place of the call. Those
//! marked IMMUTABLE stay: the mark is believed, and the planner inlines them later.

use crate::pg::identity::AsOwner;
use crate::pg::query::Query;
use crate::pg::{inline, walk};

pub fn inline(query: Query, owner: &AsOwner) -> Query {
    let replaced = walk::mutate(query, &mut |node, _| inline::inlined(node, owner));
    query.set(|query| *query = replaced.get());
    query
}
