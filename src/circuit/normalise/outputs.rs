//! Subquery outputs that nobody reads become NULL, so that the columns under them need not be captured.
//!
//! Equal subqueries, as the references to one CTE are, stay equal: what one of them is read for is left in all. They are one block then,
//! whose rows all of them see, also where several results are right (LIMIT without ORDER BY, which of two equal values stands for
//! a group).

use crate::circuit::legs::is_union_all;
use crate::pg::handle::Node;
use crate::pg::query::{self, Query};
use crate::pg::stack;
use crate::pg::walk::{self, Scope};
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use pgrx::pg_sys;
use std::collections::BTreeSet;

/// Column numbers of a subquery that are read; None: all of them.
type Needed = Option<BTreeSet<i16>>;

pub fn trim(query: Query) -> Query {
    let mut reads = Reads(HashMap::new());
    trim_to(query.copy(), &None, &mut |subquery, needed| reads.note(subquery, needed));
    trim_to(query, &None, &mut |subquery, _| reads.of(subquery));
    query
}

/// What is read of each subquery, or of any that is equal to it, by its text before it is trimmed.
struct Reads(HashMap<String, Needed>);

impl Reads {
    fn note(&mut self, subquery: Query, needed: &Needed) -> Needed {
        match self.0.entry(subquery.text()) {
            Entry::Vacant(entry) => drop(entry.insert(needed.clone())),
            Entry::Occupied(mut entry) => match (entry.get_mut(), needed) {
                (Some(all), Some(needed)) => all.extend(needed),
                (all, _) => *all = None,
            },
        }
        needed.clone()
    }

    fn of(&self, subquery: Query) -> Needed {
        self.0.get(&subquery.text()).cloned().flatten()
    }
}

/// `reads` is told what a subquery, not trimmed yet, is read for, and says what to leave in it.
fn trim_to(query: Query, needed: &Needed, reads: &mut dyn FnMut(Query, &Needed) -> Needed) {
    stack::check();
    match query.set_operation() {
        Some(top) => {
            // Duplicates are recognised by whole rows.
            let needed = if is_union_all(top.any()) { needed } else { &None };
            leaves(query).for_each(|leaf| {
                let needed = reads(leaf, needed);
                trim_to(leaf, &needed, reads);
            });
        }
        None => trim_plain(query, needed, reads),
    }
}

fn leaves(query: Query) -> impl Iterator<Item = Query> {
    query.entries().into_iter().filter_map(|entry| entry.child(|entry| entry.subquery))
}

fn trim_plain(query: Query, needed: &Needed, reads: &mut dyn FnMut(Query, &Needed) -> Needed) {
    if let Some(needed) = needed
        && query.get().distinctClause.is_null()
        && !query.get().hasTargetSRFs
    {
        let unread =
            |target: &query::Target| target.get().ressortgroupref == 0 && !needed.contains(&target.get().resno);
        for target in query.outputs().into_iter().filter(unread) {
            let expression = target.expression();
            if !expression.is::<pg_sys::Const>() {
                target.set_expression(query::null(query::type_of(expression)));
            }
        }
    }
    let subqueries = query.entries().into_iter().enumerate().filter_map(|(i, entry)| {
        let inner = entry.child(|entry| entry.subquery)?;
        Some((inner, read_columns(query, i as i32 + 1)))
    });
    subqueries.for_each(|(inner, read)| {
        let needed = reads(inner, &read);
        trim_to(inner, &needed, reads);
    });
}

/// The columns of an entry that the query or anything inside it reads.
fn read_columns(query: Query, entry: i32) -> Needed {
    let mut read = BTreeSet::new();
    let whole = walk::any(query, Scope::EXPRESSIONS, |node, depth| {
        let var: Option<Node<pg_sys::Var>> = node.cast();
        var.filter(|var| var.get().varno == entry && var.get().varlevelsup == depth).is_some_and(|var| {
            read.insert(var.get().varattno);
            var.get().varattno == 0
        })
    });
    (!whole).then_some(read)
}
