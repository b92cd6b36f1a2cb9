//! Whether a query is a function of the bags it reads.
//!
//! Where a view's query is not linear in an input, what was there before is computed again from the old contents of its inputs
//! (`delta/mod.rs`), and must be what the view has seen. So in such places nothing may depend on the order in which rows happen to
//! come: not a sum of floating point numbers, nor which of several rows LIMIT lets through, nor which of several equal
//! values that are not identical (1.0 and 1.00) stands for them.

use super::{Ability, Refusal, aggregate, legs, reason};
use crate::pg::aggregates;
use crate::pg::facts;
use crate::pg::handle::{Any, Node};
use crate::pg::query::{self, Query};
use crate::pg::walk::{self, Scope, Visit};
use pgrx::pg_sys;

/// What in one query level speaks against computing it again. `only_presence`: whether there are any rows is all that matters.
pub fn refusals(query: Query, only_presence: bool) -> Vec<Refusal> {
    let mut found = vec![];
    let mut refuse = |detail: String| found.push(reason::UNDETERMINED_SUBQUERY.refuse(detail));
    for call in calls(query).into_iter().filter(|&call| !is_determined(call)) {
        let name = facts::function_signature(call.get().aggfnoid);
        refuse(format!("A subquery calls aggregate {name}, whose result depends on the order of its rows."));
    }
    if merges_other_images(query) {
        refuse("A subquery groups values that may be equal without being identical.".to_owned());
    }
    if query.is_cut() && !(only_presence && is_cut_to_some(query)) && !is_ordered_totally(query) {
        refuse("A subquery uses LIMIT, OFFSET or DISTINCT ON, and does not order by all of its columns.".to_owned());
    }
    found
}

/// `ARRAY(query)` has its elements in the order of the query's rows.
pub fn array_refusals(query: Query) -> Vec<Refusal> {
    if is_ordered_totally(query) {
        return vec![];
    }
    vec![reason::UNDETERMINED_SUBQUERY.refuse("The query uses ARRAY(SELECT ...) without ordering by its column.")]
}

/// The aggregate calls of a level.
fn calls(query: Query) -> Vec<Node<pg_sys::Aggref>> {
    let mut found = vec![];
    let trees = query.targets().into_iter().map(Node::any).chain(query.child(|query| query.havingQual));
    for tree in trees {
        walk::walk(tree, Scope::EXPRESSIONS, &mut |node, _| {
            found.extend(node.cast::<pg_sys::Aggref>());
            if node.is::<pg_sys::Query>() { Visit::Over } else { Visit::Into }
        });
    }
    found
}

/// Whether the result, as bytes, is the same in whatever order the rows come.
fn is_determined(call: Node<pg_sys::Aggref>) -> bool {
    let arguments: Vec<query::Target> = call.list(|call| call.args);
    let are_identical = arguments.iter().all(|argument| is_identical(argument.expression()));
    let is_set = !call.get().aggdistinct.is_null() || !call.get().aggorder.is_null();
    if is_set {
        // Every value has its place among the others, and those in one place are the same.
        return are_identical && call.get().aggkind as u8 == b'n' && all_are_sorted(call, &arguments);
    }
    match aggregate::resolve(call).ability {
        Ability::Invertible => true,
        Ability::InsertOnly { extremum: Some(_) } => are_identical,
        _ => is_commutative(call) && are_identical,
    }
}

/// Combining results is taking in values: that does not depend on the order by what is asked of combining functions.
fn is_commutative(call: Node<pg_sys::Aggref>) -> bool {
    let row = aggregates::read(call.get().aggfnoid);
    row.combine == row.plain.transition && row.plain.finish == pg_sys::InvalidOid
}

fn all_are_sorted(call: Node<pg_sys::Aggref>, arguments: &[query::Target]) -> bool {
    let lists: [Vec<Node<pg_sys::SortGroupClause>>; 2] =
        [call.list(|call| call.aggorder), call.list(|call| call.aggdistinct)];
    let sorted: Vec<u32> = lists.concat().into_iter().map(|clause| clause.get().tleSortGroupRef).collect();
    let is_placed = |argument: &query::Target| {
        sorted.contains(&argument.get().ressortgroupref) || argument.expression().is::<pg_sys::Const>()
    };
    arguments.iter().all(is_placed)
}

fn is_identical(expression: Any) -> bool {
    let of = query::type_of(expression);
    facts::equal_is_identical(of.typid, of.typmod, of.collation)
}

/// One of several equal values stands for a group, or for rows that are alike.
fn merges_other_images(query: Query) -> bool {
    if query.set_operation().is_some_and(|top| !legs::is_union_all(top.any())) {
        return !query.outputs().into_iter().all(|output| is_identical(output.expression()));
    }
    let lists: [Vec<Node<pg_sys::SortGroupClause>>; 2] =
        [query.list(|query| query.groupClause), query.list(|query| query.distinctClause)];
    !lists.concat().into_iter().all(|clause| is_identical(query.target_of(clause).expression()))
}

/// A LIMIT that lets rows through if there are any.
fn is_cut_to_some(query: Query) -> bool {
    let is_positive = |count: Any| {
        // A number is converted to bigint.
        let converted = count.cast::<pg_sys::FuncExpr>().filter(|call| facts::is_builtin(call.get().funcid));
        let count = converted.and_then(|call| call.nodes(|call| call.args).first().copied()).unwrap_or(count);
        let count = count.cast::<pg_sys::Const>().map(Node::get);
        count.is_some_and(|count| count.constisnull || count.constvalue.value() as i32 > 0)
    };
    query.get().limitOffset.is_null() && query.child(|query| query.limitCount).is_none_or(is_positive)
}

/// Rows between which ORDER BY does not decide are the same.
fn is_ordered_totally(query: Query) -> bool {
    let clauses: Vec<Node<pg_sys::SortGroupClause>> = query.list(|query| query.sortClause);
    let sorted: Vec<u32> = clauses.into_iter().map(|clause| clause.get().tleSortGroupRef).collect();
    let decides = |output: query::Target| {
        is_identical(output.expression()) && sorted.contains(&output.get().ressortgroupref)
            || output.expression().is::<pg_sys::Const>()
    };
    !query.get().hasTargetSRFs && query.targets().into_iter().all(decides)
}
