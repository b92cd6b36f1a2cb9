//! Rewrites that bring a query into the form blocks are cut from. Each keeps the query's result as a bag.
//!
//! One list, in order. A rewrite leaves alone what it does not understand: shapes that cannot be maintained
//! incrementally are named by `shape`, after this.

use crate::pg::identity::AsOwner;
use crate::pg::query::Query;
use crate::pg::stack;
use crate::pg::walk::{self, Scope};
use pgrx::pg_sys;
use std::cell::RefCell;
use std::collections::BTreeSet;

pub mod calls;
pub mod conversions;
mod cte;
mod distinct;
mod full;
mod grouping_sets;
mod groups;
mod joins;
mod lift;
mod limits;
pub mod order;
mod outputs;
pub mod rows;
mod scalar;
mod set_operations;

pub struct Rewrite {
    pub name: &'static str,
    pub reason: &'static str,
    apply: fn(Query, &Scene) -> Query,
}

/// What rewrites have besides the query.
pub struct Scene<'a> {
    owner: &'a AsOwner,
    /// The unique indexes that the result relies on.
    keys: RefCell<BTreeSet<u32>>,
}

pub const REWRITES: &[Rewrite] = &[
    Rewrite {
        name: "inline functions",
        reason: "what the planner does with calls of SQL functions is done before anything looks at volatility labels",
        apply: |query, scene| calls::inline(query, scene.owner),
    },
    Rewrite {
        name: "inline CTEs",
        reason: "each reference becomes an input of its own; a CTE is evaluated once only to save work",
        apply: |query, _| cte::inline(query),
    },
    Rewrite {
        name: "spell out rows",
        reason: "a whole row would hold the weight that tables and subqueries gain",
        apply: |query, _| rows::spell_out(query),
    },
    Rewrite {
        name: "flatten join aliases",
        reason: "merged columns of USING and NATURAL become columns of the inputs",
        apply: |query, _| flatten_join_aliases(query),
    },
    Rewrite {
        name: "flatten grouping",
        reason: "grouping expressions stand where they are used; the grouping step belongs to the operator",
        apply: |query, _| groups::flatten(query),
    },
    Rewrite {
        name: "unfold subqueries without FROM",
        reason: "a scalar subquery that reads nothing is its expression",
        apply: |query, _| scalar::unfold(query),
    },
    Rewrite {
        name: "reduce outer joins",
        reason: "where a condition drops the rows that an outer join adds, it is an inner join",
        apply: |query, _| joins::reduce(query),
    },
    Rewrite {
        name: "drop idle limits",
        reason: "OFFSET 0 and LIMIT ALL cut nothing off; they are written to steer the planner",
        apply: |query, scene| limits::drop_idle(query, scene.owner),
    },
    Rewrite {
        name: "drop orders",
        reason: "a bag has no order; it stays where LIMIT or an order-sensitive aggregate looks at it",
        apply: |query, _| order::drop_irrelevant(query),
    },
    Rewrite {
        name: "drop idle DISTINCT",
        reason: "groups are distinct by their keys",
        apply: |query, _| distinct::drop_idle(query),
    },
    Rewrite {
        name: "grouping sets are one grouping",
        reason: "by the number of the set and the keys in it",
        apply: |query, _| grouping_sets::as_grouping(query),
    },
    Rewrite {
        name: "mixed set operations are groupings",
        reason: "how many rows there are of a kind follows from how many are on each side",
        apply: |query, _| set_operations::as_grouping(query),
    },
    Rewrite {
        name: "UNION is DISTINCT over UNION ALL",
        reason: "removing duplicates once at the top removes them all",
        apply: |query, _| distinct::over_union_all(query),
    },
    Rewrite {
        name: "DISTINCT is GROUP BY",
        reason: "grouping by every column without aggregates keeps one row of each",
        apply: |query, _| distinct::as_grouping(query),
    },
    Rewrite {
        name: "the same below the top",
        reason: "a subquery that removes duplicates groups, and is a block of its own",
        apply: |query, _| distinct::nested(query),
    },
    Rewrite {
        name: "lift grouping",
        reason: "a plain SELECT over one grouped subquery is that subquery with other outputs and a HAVING",
        apply: |query, _| lift::grouping(query),
    },
    Rewrite {
        name: "trim outputs",
        reason: "columns nobody reads need not be captured",
        apply: |query, _| outputs::trim(query),
    },
    Rewrite {
        name: "remove idle joins",
        reason: "an outer join with at most one partner of which nothing is read adds and drops no row",
        apply: joins::remove_idle,
    },
    Rewrite {
        name: "split full joins",
        reason: "a full join is linear in neither side; each half is linear in one",
        apply: |query, _| full::split(query),
    },
    Rewrite {
        name: "convert UNION ALL legs",
        reason: "every leg has the types of the whole, so that a leg can stand for it",
        apply: |query, _| conversions::convert(query),
    },
];

/// All rewrites in order, on a private copy. With the unique indexes that the result relies on.
pub fn normalised(query: Query, owner: &AsOwner) -> (Query, BTreeSet<u32>) {
    let scene = Scene { owner, keys: RefCell::default() };
    let normal = REWRITES.iter().fold(query, |query, rewrite| {
        let query = (rewrite.apply)(query, &scene);
        debug_assert!(is_well_formed(query), "after \"{}\" ({})", rewrite.name, rewrite.reason);
        query
    });
    (normal, scene.keys.into_inner())
}

fn flatten_join_aliases(query: Query) -> Query {
    stack::check();
    let is_join = |kind| kind == pg_sys::RTEKind::RTE_JOIN;
    if query.entries().iter().any(|entry| is_join(entry.get().rtekind)) {
        query.flatten_join_aliases();
    }
    query.inner().into_iter().for_each(|inner| {
        flatten_join_aliases(inner);
    });
    query
}

/// Every Var and join tree leaf of every level points at an entry of that level.
fn is_well_formed(query: Query) -> bool {
    query.nest().into_iter().all(|level| {
        let entries = level.entries().len() as i32;
        let within = |number: i32| (1..=entries).contains(&number);
        !walk::any(level, Scope::EXPRESSIONS, |node, depth| {
            let var_out = node
                .cast::<pg_sys::Var>()
                .is_some_and(|var| var.get().varlevelsup == depth && !within(var.get().varno));
            let leaf = (depth == 0).then(|| node.cast::<pg_sys::RangeTblRef>()).flatten();
            var_out || leaf.is_some_and(|leaf| !within(leaf.get().rtindex))
        })
    })
}
