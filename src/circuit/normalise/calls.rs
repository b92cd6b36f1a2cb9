//! Calls of functions written in SQL become their bodies where the planner would do the same.
//!
//! A function without a label is VOLATILE, which keeps the planner from pulling up subqueries that call it, and us from
//! maintaining the view. The planner looks at the label no more once it has put the body in the place of the call. Those
//! marked IMMUTABLE stay: the mark is believed, and the planner inlines them later.

use crate::pg::facts::{self, Volatility};
use crate::pg::handle::Any;
use crate::pg::identity::AsOwner;
use crate::pg::query::{self, Query};
use crate::pg::walk;
use pgrx::pg_sys;

pub fn inline(query: Query, owner: &AsOwner) -> Query {
    let replaced = walk::mutate(query, &mut |node, _| inlined(node, owner));
    query.set(|query| *query = replaced.get());
    query
}

/// The body of the function that this node calls, if the planner would put it there.
pub fn inlined(node: Any, owner: &AsOwner) -> Option<Any> {
    let is_call = node.is::<pg_sys::FuncExpr>() || node.is::<pg_sys::OpExpr>();
    let functions = if is_call { walk::functions(node) } else { vec![] };
    let is_candidate = functions.into_iter().any(|oid| {
        let function = facts::function(oid);
        function.sql && !function.builtin && function.volatility != Volatility::Immutable
    });
    is_candidate.then(|| query::inlined(node, owner)).flatten()
}
