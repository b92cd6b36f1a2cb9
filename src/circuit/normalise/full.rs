//! `x FULL JOIN y ON c` is what its two sides preserve, one after the other:
//!
//! ```text
//! SELECT x.*, y.* FROM x LEFT JOIN y ON c  UNION ALL  SELECT NULL.., y.* FROM y WHERE NOT EXISTS (SELECT FROM x WHERE c)
//! ```
//!
//! 1. The rows of a full join are the pairs that satisfy `c`, the rows of `x` without a partner and those of `y` without one.
//! 2. The first leg gives the first two kinds, the second leg the third.
//!
//! A join that is linear in neither side so becomes a sum of queries each of which is linear in one. Only the columns which
//! the query reads are columns of the union. The work of several full joins in one FROM clause doubles with each, and so it does
//! with each that is inside another: there is a limit for one clause, and one for all of a query.

use super::{joins, rows};
use crate::pg::handle::{Any, Node, to_list};
use crate::pg::query::{self, Entry, Query, Target, TypeOf};
use crate::pg::walk::{self, Scope, Visit};
use crate::pg::{construct, stack};
use pgrx::pg_sys;
use std::collections::BTreeSet;

type Join = Node<pg_sys::JoinExpr>;
type Var = Node<pg_sys::Var>;

/// More full joins than this in one FROM clause stay as they are.
const MOST: usize = 3;
/// All stay where a query has more, however they are distributed.
const MOST_OF_ALL: usize = 6;

pub fn split(query: Query) -> Query {
    let has_from = |level: &Query| !level.get().jointree.is_null();
    let all: usize = query.nest().into_iter().filter(has_from).map(count).sum();
    if all <= MOST_OF_ALL { split_nest(query) } else { query }
}

fn split_nest(query: Query) -> Query {
    stack::check();
    let is_split = count(query) <= MOST && split_level(query);
    query.inner().into_iter().for_each(|inner| {
        split_nest(inner);
    });
    if is_split { rows::spell_out(query) } else { query }
}

fn split_level(query: Query) -> bool {
    let mut is_split = false;
    while let Some(join) = find(query.from().any()).filter(|&join| Parts::of(query, join).is_self_contained()) {
        split_one(query, join);
        is_split = true;
    }
    is_split
}

fn count(query: Query) -> usize {
    fn below(item: Any) -> usize {
        stack::check();
        if let Some(from) = item.cast::<pg_sys::FromExpr>() {
            return from.nodes(|from| from.fromlist).into_iter().map(below).sum();
        }
        let Some(join) = item.cast::<pg_sys::JoinExpr>() else { return 0 };
        let own = usize::from(join.get().jointype == pg_sys::JoinType::JOIN_FULL);
        own + sides(join).into_iter().map(below).sum::<usize>()
    }
    below(query.from().any())
}

fn sides(join: Join) -> [Any; 2] {
    [join.child(|join| join.larg), join.child(|join| join.rarg)].map(|side| side.expect("a join has two sides"))
}

/// The uppermost full join.
fn find(item: Any) -> Option<Join> {
    stack::check();
    if let Some(from) = item.cast::<pg_sys::FromExpr>() {
        return from.nodes(|from| from.fromlist).into_iter().find_map(find);
    }
    let join: Join = item.cast()?;
    if join.get().jointype == pg_sys::JoinType::JOIN_FULL {
        return Some(join);
    }
    sides(join).into_iter().find_map(find)
}

/// Range table numbers below an item of a join tree, those of joins included.
fn numbers(item: Any) -> BTreeSet<i32> {
    stack::check();
    if let Some(leaf) = item.cast::<pg_sys::RangeTblRef>() {
        return BTreeSet::from([leaf.get().rtindex]);
    }
    let Some(join) = item.cast::<pg_sys::JoinExpr>() else { return BTreeSet::new() };
    let own = [join.get().rtindex].into_iter().filter(|&number| number > 0);
    sides(join).into_iter().flat_map(numbers).chain(own).collect()
}

/// A full join and what belongs to it.
struct Parts {
    query: Query,
    join: Join,
    left: BTreeSet<i32>,
    right: BTreeSet<i32>,
}

impl Parts {
    fn of(query: Query, join: Join) -> Self {
        let [left, right] = sides(join).map(numbers);
        Self { query, join, left, right }
    }

    fn has(&self, number: i32) -> bool {
        self.left.contains(&number) || self.right.contains(&number) || number == self.join.get().rtindex
    }

    /// Aggregates of levels above in conditions would have to change their level.
    fn is_self_contained(&self) -> bool {
        !walk::any(self.join, Scope::EXPRESSIONS, |node, depth| {
            node.cast::<pg_sys::Aggref>().is_some_and(|call| call.get().agglevelsup > depth)
        })
    }

    /// The range table with only these numbers in it, each a copy brought `by` levels down.
    fn entries(&self, is_kept: impl Fn(i32) -> bool, sink: &Sink) -> Vec<Entry> {
        let entry = |(entry, number): (Entry, i32)| {
            if !is_kept(number) {
                return query::no_entry();
            }
            let entry = entry.copy();
            sink.entry(entry);
            entry
        };
        self.query.entries().into_iter().zip(1..).map(entry).collect()
    }

    fn select(&self, entries: &[Entry], from: &[Any], condition: Option<Any>, targets: &[Target]) -> Query {
        let select = query::nothing();
        select.set_entries(entries);
        select.set_targets(targets);
        select.set(|select| {
            select.rteperminfos = self.query.copied_permissions();
            select.hasRowSecurity = self.query.get().hasRowSecurity;
        });
        let tree = select.from();
        tree.set(|tree| {
            tree.fromlist = to_list(from);
            tree.quals = condition.map_or(std::ptr::null_mut(), Node::as_ptr);
        });
        let has_sublinks = walk::any(tree, Scope::EXPRESSIONS, |node, _| node.is::<pg_sys::SubLink>());
        select.set(|select| select.hasSubLinks = has_sublinks);
        select
    }

    /// `SELECT columns FROM x LEFT JOIN y ON c`
    fn preserved(&self, columns: &[Var]) -> Query {
        let sink = Sink { stays: &|number| self.has(number).then_some(0), by: 2 };
        let entries = self.entries(|number| self.has(number), &sink);
        let join = self.join.copy();
        sink.tree(join.any(), 0);
        join.set(|join| join.jointype = pg_sys::JoinType::JOIN_LEFT);
        let number = self.join.get().rtindex;
        if number > 0 {
            entries[number as usize - 1].set(|entry| entry.jointype = pg_sys::JoinType::JOIN_LEFT);
        }
        let target = |(i, &column): (usize, &Var)| {
            let is_missing = self.right.contains(&column.get().varno);
            let column = self.own(column, |nulling| self.has(nulling) && (is_missing || nulling != number));
            query::target(column.any(), i as i16 + 1, &format!("c{}", i + 1))
        };
        let targets: Vec<Target> = columns.iter().enumerate().map(target).collect();
        self.select(&entries, &[join.any()], None, &targets)
    }

    /// `SELECT NULL.., columns FROM y WHERE NOT EXISTS (SELECT FROM x WHERE c)`
    fn alone(&self, columns: &[Var]) -> Query {
        let [left, right] = sides(self.join).map(Node::copy);
        let outer = Sink { stays: &|number| self.right.contains(&number).then_some(0), by: 2 };
        outer.tree(right, 0);
        let partners = {
            let level = |number| match (self.left.contains(&number), self.right.contains(&number)) {
                (true, _) => Some(0),
                (_, true) => Some(1),
                _ => None,
            };
            let inner = Sink { stays: &level, by: 3 };
            inner.tree(left, 0);
            let condition = self.join.child(|join| join.quals).map(Node::copy);
            condition.into_iter().for_each(|condition| inner.tree(condition, 0));
            self.select(&self.entries(|number| self.left.contains(&number), &inner), &[left], condition, &[])
        };
        let target = |(i, &column): (usize, &Var)| {
            let column = match self.left.contains(&column.get().varno) {
                true => query::null(query::type_of(column.any())),
                false => self.own(column, |nulling| self.right.contains(&nulling)).any(),
            };
            query::target(column, i as i16 + 1, &format!("c{}", i + 1))
        };
        let targets: Vec<Target> = columns.iter().enumerate().map(target).collect();
        let entries = self.entries(|number| self.right.contains(&number), &outer);
        self.select(&entries, &[right], Some(query::not_exists(partners)), &targets)
    }

    /// The column where the join makes it: of this level, and NULL by the joins inside alone.
    fn own(&self, column: Var, nulling: impl Fn(i32) -> bool) -> Var {
        let column = column.copy();
        column.set(|column| column.varlevelsup = 0);
        query::keep_nulling(column, nulling);
        column
    }
}

/// Brings trees of a level down: references to entries that come along get the level that `stays` says; all others
/// go `by` levels further.
struct Sink<'a> {
    stays: &'a dyn Fn(i32) -> Option<u32>,
    by: u32,
}

impl Sink<'_> {
    /// A tree `below` levels under the one that is brought down.
    fn tree(&self, tree: Any, below: u32) {
        walk::walk(tree, Scope::EXPRESSIONS, &mut |node, depth| {
            if let Some(node) = node.cast::<pg_sys::Var>() {
                let var = node.get();
                if var.varlevelsup >= depth + below {
                    let own = (var.varlevelsup == depth + below).then(|| (self.stays)(var.varno)).flatten();
                    node.set(|var| var.varlevelsup += own.unwrap_or(self.by));
                }
            }
            Visit::Into
        });
    }

    fn entry(&self, entry: Entry) {
        entry.child(|entry| entry.subquery).into_iter().for_each(|inner| self.tree(inner.any(), 1));
        query::expressions_of(entry).into_iter().for_each(|tree| self.tree(tree, 0));
    }
}

fn split_one(query: Query, join: Join) {
    let parts = Parts::of(query, join);
    let number = query.entries().len() as i32 + 1;
    let union = query::from_all(&[number]).nodes(|from| from.fromlist)[0];
    let from = joins::without(query.from().any(), join, union).cast().expect("a FROM clause stays one");
    query.set(|query| query.jointree = Node::<pg_sys::FromExpr>::as_ptr(from));
    // Its entries are needed by its legs; the query itself has others now.
    let entries: Vec<Entry> = query.entries();
    let remaining = |(&entry, number): (&Entry, i32)| if parts.has(number) { query::no_entry() } else { entry };
    let remaining: Vec<Entry> = entries.iter().zip(1..).map(remaining).collect();
    let columns = {
        query.set_entries(&remaining);
        let columns = redirect(query, &parts, number);
        query.set_entries(&entries);
        columns
    };
    let types: Vec<TypeOf> = columns.iter().map(|column| query::type_of(column.any())).collect();
    let union = construct::union_of(&[parts.preserved(&columns), parts.alone(&columns)], &types);
    let names: Vec<String> = (1..=columns.len()).map(|i| format!("c{i}")).collect();
    let entry = query::subquery(union, &names);
    let is_lateral = entries.iter().zip(1..).any(|(entry, number)| parts.has(number) && entry.get().lateral);
    entry.set(|entry| entry.lateral = is_lateral);
    query.set_entries(&[remaining, vec![entry]].concat());
}

/// Makes what reads columns of the join read those of the union; gives the columns, as they were.
fn redirect(query: Query, parts: &Parts, union: i32) -> Vec<Var> {
    let mut columns: Vec<Var> = vec![];
    walk::walk(query, Scope::EXPRESSIONS, &mut |node, depth| {
        let var: Option<Var> = node.cast();
        let Some(var) = var.filter(|var| var.get().varlevelsup == depth && parts.has(var.get().varno)) else {
            return Visit::Into;
        };
        let is_same = |column: &Var| {
            let (column, var) = (column.get(), var.get());
            (column.varno, column.varattno) == (var.varno, var.varattno)
        };
        let place = columns.iter().position(is_same).unwrap_or_else(|| {
            columns.push(var.copy());
            columns.len() - 1
        });
        query::keep_nulling(var, |nulling| !parts.has(nulling));
        var.set(|var| {
            (var.varno, var.varattno) = (union, place as i16 + 1);
            (var.varnosyn, var.varattnosyn) = (0, 0);
        });
        Visit::Into
    });
    columns
}
