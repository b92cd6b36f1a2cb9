//! Subqueries that read nothing, such as `(SELECT current_setting('TimeZone'))`, become their expressions.
//!
//! A subquery has its value computed once and not for each row, which makes a difference only for VOLATILE functions; a query
//! that calls one is recomputed as written. In FROM such subqueries need no help.

use crate::pg::handle::Any;
use crate::pg::query::{self, Query, Target};
use crate::pg::stack;
use crate::pg::walk::{self, Scope};
use pgrx::pg_sys;

/// Inner levels first: what they unfold may leave nothing else in them.
pub fn unfold(query: Query) -> Query {
    stack::check();
    query.inner().into_iter().for_each(|inner| {
        unfold(inner);
    });
    unfold_sublinks(query);
    query
}

fn unfold_sublinks(query: Query) {
    if !query.get().hasSubLinks {
        return;
    }
    let unfolded = walk::mutate(query, &mut |node, depth| if depth == 0 { value_of(node) } else { None });
    query.set(|query| *query = unfolded.get());
    let some_left = walk::any(query, Scope::EXPRESSIONS, |node, depth| depth == 0 && node.is::<pg_sys::SubLink>());
    query.set(|query| query.hasSubLinks = some_left);
}

/// The expression of a scalar subquery without FROM.
fn value_of(node: Any) -> Option<Any> {
    let sublink = node.cast::<pg_sys::SubLink>()?;
    let is_scalar = sublink.get().subLinkType == pg_sys::SubLinkType::EXPR_SUBLINK;
    let subquery: Query = sublink.child(|sublink| sublink.subselect).filter(|_| is_scalar)?.cast()?;
    let [output] = one_row(subquery)?[..] else { return None };
    // It may hold others, which were inside another query until now.
    let value = output.expression().copy();
    query::lift_levels(value);
    Some(value)
}

/// The columns of a query that gives one row computed from nothing but its surroundings.
fn one_row(query: Query) -> Option<Vec<Target>> {
    let fields = query.get();
    let reads_nothing = fields.commandType == pg_sys::CmdType::CMD_SELECT
        && fields.setOperations.is_null()
        && !query.is_grouped()
        && fields.distinctClause.is_null()
        && fields.limitCount.is_null()
        && fields.limitOffset.is_null()
        && fields.cteList.is_null()
        && fields.rowMarks.is_null()
        && !fields.hasWindowFuncs
        && !fields.hasTargetSRFs
        && query.entries().is_empty()
        && query.from().get().fromlist.is_null()
        && query.from().get().quals.is_null();
    reads_nothing.then(|| query.outputs())
}
