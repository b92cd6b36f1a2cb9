//! GROUPING SETS, ROLLUP and CUBE as one grouping (theorem C).
//!
//! **Theorem C.** The result is the bag union of one plain GROUP BY for each set. So it is one GROUP BY over the rows, each of which enters
//! once for each set, by the number of the set and the keys, which are NULL outside of it. *Proof.* Numbers keep the groups of different
//! sets apart; within a number the masked keys group as the set's keys do. ∎
//!
//! 1. The sets are expanded as the planner expands them, and numbered; equal sets keep their numbers apart.
//! 2. `generate_series(1, sets)` joins FROM. Key k becomes `CASE WHEN n = set with k THEN k .. END`, the number is a key as well.
//! 3. Aggregates take their arguments from the row as it is: a key that is masked in the output is not masked for them.
//! 4. `GROUPING()` is a constant for each set.
//! 5. A set without keys has its group even over no rows. It is a global aggregate of its own, in a UNION ALL with the others.

use super::distinct;
use crate::pg::handle::{Any, Node, to_list};
use crate::pg::query::{self, Query, TypeOf};
use crate::pg::walk;
use crate::pg::{construct, stack};
use pgrx::pg_sys;

/// Rewrites this query and those in its FROM, where they can be.
pub fn as_grouping(query: Query) -> Query {
    stack::check();
    for entry in query.entries() {
        let Some(inner) = entry.child(|entry| entry.subquery) else { continue };
        entry.set(|entry| entry.subquery = as_grouping(inner).as_ptr());
    }
    let fields = query.get();
    let is_plain = !fields.hasWindowFuncs
        && !fields.hasTargetSRFs
        && !fields.hasDistinctOn
        && fields.sortClause.is_null()
        && fields.limitCount.is_null()
        && fields.limitOffset.is_null()
        && !query.outputs().is_empty();
    // Sets without keys alone have no grouping step.
    let has_step = fields.hasGroupRTE || fields.groupClause.is_null();
    if fields.groupingSets.is_null() || !has_step || !is_plain {
        return query;
    }
    if !fields.distinctClause.is_null() {
        return distinct::over_groups_then(query, as_grouping);
    }
    expanded(query)
}

fn expanded(query: Query) -> Query {
    let sets = query.grouping_sets();
    let (empty, keyed): (Vec<_>, Vec<_>) = sets.into_iter().partition(Vec::is_empty);
    let mut legs: Vec<Query> = empty.iter().map(|_| global(query.copy())).collect();
    if !keyed.is_empty() {
        legs.insert(0, numbered(query.copy(), &keyed));
    }
    if let [only] = legs[..] {
        return only;
    }
    let types: Vec<TypeOf> = query.outputs().iter().map(|output| query::type_of(output.expression())).collect();
    construct::union_all(&legs.into_iter().map(query::select_from).collect::<Vec<_>>(), &types)
}

/// The group of a set without keys: an aggregate of all rows.
fn global(query: Query) -> Query {
    let keys = keys_of(query);
    replace(query, &|key| query::null(query::type_of(keys[key].expression)), &|call| {
        construct::int4(((1i64 << call.references.len()) - 1) as i32)
    });
    drop_grouping(query);
    query.set(|query| query.hasAggs = true);
    query
}

/// The groups of all sets with keys.
fn numbered(query: Query, sets: &[Vec<u32>]) -> Query {
    let keys = keys_of(query);
    let group_entry = query.entries().len() as i32;
    let number = || {
        let of = TypeOf { typid: pg_sys::INT4OID, typmod: -1, collation: pg_sys::InvalidOid };
        query::var(group_entry, 1, of).any()
    };
    let is_set = |set: usize| {
        construct::call(pg_sys::F_INT4EQ, pg_sys::BOOLOID, &[number(), construct::int4(set as i32 + 1)]).any()
    };
    let within = |reference: u32| (0..sets.len()).filter(move |&set| sets[set].contains(&reference));
    let masked = |key: usize| {
        let Key { expression, clause } = &keys[key];
        let reference = clause.get().tleSortGroupRef;
        if within(reference).count() == sets.len() {
            return expression.copy();
        }
        let branches: Vec<_> = within(reference).map(|set| (is_set(set), expression.copy())).collect();
        construct::case(&branches, query::type_of(*expression))
    };
    let grouping = |call: &Grouping| {
        let value = |set: &Vec<u32>| {
            call.references.iter().fold(0, |bits, reference| bits << 1 | i32::from(!set.contains(reference)))
        };
        let branches: Vec<_> =
            sets.iter().enumerate().map(|(i, set)| (is_set(i), construct::int4(value(set)))).collect();
        construct::case(&branches, query::type_of(call.node))
    };
    replace(query, &masked, &grouping);
    let shown: Vec<Any> = (0..keys.len()).map(masked).collect();
    drop_grouping(query);
    construct::add_to_from(query, construct::series(construct::int4(1), construct::int4(sets.len() as i32)));
    group_by(query, &keys, shown, number());
    query
}

/// Groups by the number of the set and the masked keys, which are hidden columns.
fn group_by(query: Query, keys: &[Key], masked: Vec<Any>, number: Any) {
    let mut targets = query.outputs();
    let mut clauses = vec![];
    let by_number = Node::<pg_sys::SortGroupClause>::make();
    by_number.set(|clause| {
        clause.eqop = pg_sys::Int4EqualOperator.into();
        clause.sortop = pg_sys::Int4LessOperator.into();
        clause.hashable = true;
    });
    let all = [(number, by_number)].into_iter().chain(masked.into_iter().zip(keys.iter().map(|key| key.clause.copy())));
    for (expression, clause) in all {
        let reference = targets.len() as u32 + 1;
        let target = query::target(expression, reference as i16, "key");
        target.set(|target| {
            target.resjunk = true;
            target.ressortgroupref = reference;
        });
        clause.set(|clause| clause.tleSortGroupRef = reference);
        targets.push(target);
        clauses.push(clause);
    }
    query.set_targets(&targets);
    query.set(|query| query.groupClause = to_list(&clauses));
}

/// Takes the grouping step off, with its entry, which is the last one, and the columns that were there to be grouped by.
fn drop_grouping(query: Query) {
    if query.get().hasGroupRTE {
        let mut entries = query.entries();
        entries.pop();
        query.set_entries(&entries);
    }
    let outputs = query.outputs();
    outputs.iter().for_each(|output| output.set(|output| output.ressortgroupref = 0));
    query.set_targets(&outputs);
    query.set(|query| {
        query.groupClause = std::ptr::null_mut();
        query.groupingSets = std::ptr::null_mut();
        query.groupDistinct = false;
        query.hasGroupRTE = false;
    });
}

/// A grouping expression, a column of the grouping step.
struct Key {
    expression: Any,
    clause: Node<pg_sys::SortGroupClause>,
}

/// GROUPING() of keys, given by references to targets.
struct Grouping {
    node: Any,
    references: Vec<u32>,
}

/// In the order of the grouping step's columns, which is that of GROUP BY.
fn keys_of(query: Query) -> Vec<Key> {
    if !query.get().hasGroupRTE {
        return vec![];
    }
    let entry = query.entries().pop().expect("a grouped query has the grouping step");
    let expressions = entry.nodes(|entry| entry.groupexprs);
    let clauses: Vec<Node<pg_sys::SortGroupClause>> = query.list(|query| query.groupClause);
    expressions.into_iter().zip(clauses).map(|(expression, clause)| Key { expression, clause }).collect()
}

/// Puts expressions in the place of the grouping step's columns and of GROUPING(), in outputs and HAVING.
fn replace(query: Query, key: &dyn Fn(usize) -> Any, grouping: &dyn Fn(&Grouping) -> Any) {
    // No column is of entry 0.
    let step = if query.get().hasGroupRTE { query.entries().len() as i32 } else { 0 };
    let replaced = |expression: Any| {
        walk::mutate(expression, &mut |node, depth| {
            if let Some(var) = node.cast::<pg_sys::Var>() {
                let is_key = var.get().varno == step && var.get().varlevelsup == depth;
                return is_key.then(|| raised(key(var.get().varattno as usize - 1), depth));
            }
            let call = node.cast::<pg_sys::GroupingFunc>().filter(|call| call.get().agglevelsup == depth)?;
            let references = call.ints(|call| call.refs).into_iter().map(|reference| reference as u32).collect();
            Some(raised(grouping(&Grouping { node, references }), depth))
        })
    };
    query.targets().into_iter().for_each(|target| target.set_expression(replaced(target.expression())));
    let having = query.child(|query| query.havingQual).map(|having| replaced(having.any()));
    query.set(|query| query.havingQual = having.map_or(std::ptr::null_mut(), Node::as_ptr));
}

/// An expression of this level, seen from a query inside it.
fn raised(expression: Any, depth: u32) -> Any {
    if depth > 0 {
        query::raise_levels(expression, depth, 0);
    }
    expression
}
