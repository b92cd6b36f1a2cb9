//! A unique key of a view's rows, from what is known about its inputs.
//!
//! A grouped query is keyed by its group keys. A join is keyed by any set of its columns that determines a row of
//! every input: a column determines what it is equated with, and a unique key of an input determines all of its
//! columns. Starting from all columns of the view, those that are not needed are left out one by one.

use super::legs;
use crate::pg::facts;
use crate::pg::handle::{Any, Node};
use crate::pg::query::{self, Entry, Query};
use crate::pg::relation::Relation;
use crate::pg::stack;
use crate::pg::unique;
use crate::pg::walk::{self, Scope};
use pgrx::pg_sys;
use std::collections::{BTreeMap, BTreeSet};

/// View columns (0-based) that are unique together; no column at all means there is at most one row.
pub fn of(query: Query) -> Option<Vec<usize>> {
    let key = if query.is_grouped() { group_keys(query) } else { Knowledge::of_join(query)?.smallest_key() };
    key.filter(|key| is_indexable(query, key))
}

/// A unique index over these columns is possible, and stays so: rows may become equal when their type loses a column.
fn is_indexable(query: Query, key: &[usize]) -> bool {
    let outputs = query.outputs();
    let typid = |&column: &usize| query::type_of(outputs[column].expression()).typid;
    let stays = |typid| facts::default_ordering(typid).is_some() && !facts::holds_rows(typid);
    key.len() <= pg_sys::INDEX_MAX_KEYS as usize && key.iter().map(typid).all(stays)
}

/// The output columns that are the group keys, when all of them are there. Not of a query that gives several rows for the same keys:
/// one for each grouping set, or as many as a function in the SELECT list returns.
fn group_keys(query: Query) -> Option<Vec<usize>> {
    if !query.get().groupingSets.is_null() || query.get().hasTargetSRFs {
        return None;
    }
    let outputs = query.outputs();
    let clauses: Vec<Node<pg_sys::SortGroupClause>> = query.list(|query| query.groupClause);
    let place = |clause: Node<pg_sys::SortGroupClause>| {
        let key = query.target_of(clause).expression();
        outputs.iter().position(|output| output.expression().equals(key))
    };
    let places: Option<BTreeSet<usize>> = clauses.into_iter().map(place).collect();
    Some(places?.into_iter().collect())
}

/// A column of an input: (input, attribute number).
type Column = (usize, i16);

/// The input columns behind the columns of a query level's range table entries.
type Origins = BTreeMap<(i32, i16), Column>;

/// What determines what among the inputs' columns.
#[derive(Default)]
struct Knowledge {
    /// The unique keys of each input.
    keys: Vec<Vec<Vec<i16>>>,
    equal: Vec<(Column, Column)>,
    constant: BTreeSet<Column>,
    /// The input column behind each view column.
    outputs: Vec<Option<Column>>,
}

impl Knowledge {
    /// None when nothing is known about the rows of some FROM item.
    fn of_join(query: Query) -> Option<Self> {
        let mut knowledge = Self::default();
        knowledge.outputs = knowledge.add(query)?;
        Some(knowledge)
    }

    /// Adds a query's inputs and equalities; gives the input column behind each of its outputs.
    fn add(&mut self, query: Query) -> Option<Vec<Option<Column>>> {
        if !query.get().setOperations.is_null() || !legs::is_linear(query) || query.get().hasTargetSRFs {
            return None;
        }
        let mut origins = Origins::new();
        let mut conditions = vec![];
        for number in leaves(query.from().any(), &mut conditions)? {
            self.add_entry(query.entry(number), number, &mut origins)?;
        }
        conditions.into_iter().for_each(|condition| self.add_condition(condition, &origins));
        Some(query.outputs().iter().map(|output| origin(output.expression(), &origins)).collect())
    }

    fn add_entry(&mut self, entry: Entry, number: i32, origins: &mut Origins) -> Option<()> {
        match entry.get().rtekind {
            pg_sys::RTEKind::RTE_RELATION => {
                let input = self.keys.len();
                let relation = Relation::open(entry.get().relid, pg_sys::NoLock);
                self.keys.push(unique_keys(&relation));
                let columns = relation.attributes().into_iter().map(|column| column.attnum);
                origins.extend(columns.map(|column| ((number, column), (input, column))));
                Some(())
            }
            pg_sys::RTEKind::RTE_SUBQUERY if entry.child(|entry| entry.subquery).is_some_and(Query::is_grouped) => {
                let grouped = entry.child(|entry| entry.subquery)?;
                let input = self.keys.len();
                let key = group_keys(grouped).map(|key| key.into_iter().map(|column| column as i16 + 1).collect());
                self.keys.push(key.into_iter().collect());
                let columns = grouped.outputs().into_iter().map(|output| output.get().resno);
                origins.extend(columns.map(|column| ((number, column), (input, column))));
                Some(())
            }
            pg_sys::RTEKind::RTE_SUBQUERY => {
                let outputs = self.add(entry.child(|entry| entry.subquery)?)?;
                let known = outputs.into_iter().zip(1..).filter_map(|(column, i)| Some(((number, i), column?)));
                origins.extend(known);
                Some(())
            }
            pg_sys::RTEKind::RTE_RESULT => Some(()),
            _ => None,
        }
    }

    /// Notes `column = column` and `column = constant` in a conjunction.
    fn add_condition(&mut self, condition: Any, origins: &Origins) {
        stack::check();
        if let Some(and) =
            condition.cast::<pg_sys::BoolExpr>().filter(|b| b.get().boolop == pg_sys::BoolExprType::AND_EXPR)
        {
            and.nodes(|and| and.args).into_iter().for_each(|part| self.add_condition(part, origins));
        }
        let Some(operator) = condition.cast::<pg_sys::OpExpr>() else { return };
        let [left, right] = operator.nodes(|operator| operator.args)[..] else { return };
        if !is_own_equality(operator, left) || !is_own_equality(operator, right) {
            return;
        }
        match (origin(left, origins), origin(right, origins)) {
            (Some(a), Some(b)) => self.equal.push((a, b)),
            (Some(a), None) if is_constant(right) => drop(self.constant.insert(a)),
            (None, Some(b)) if is_constant(left) => drop(self.constant.insert(b)),
            _ => (),
        }
    }

    /// View columns that determine every input's row, each of them needed.
    fn smallest_key(&self) -> Option<Vec<usize>> {
        let mut key: Vec<usize> = (0..self.outputs.len()).filter(|&i| self.outputs[i].is_some()).collect();
        if !self.is_key(&key) {
            return None;
        }
        // Columns of unique keys are tried last: what is left should read like a key.
        let (inside, outside): (Vec<usize>, Vec<usize>) = key.iter().rev().partition(|&&i| self.is_in_unique_key(i));
        for candidate in outside.into_iter().chain(inside) {
            let without: Vec<usize> = key.iter().copied().filter(|&i| i != candidate).collect();
            if self.is_key(&without) {
                key = without;
            }
        }
        Some(key)
    }

    fn is_in_unique_key(&self, output: usize) -> bool {
        self.outputs[output].is_some_and(|(input, column)| self.keys[input].iter().any(|key| key.contains(&column)))
    }

    fn is_key(&self, outputs: &[usize]) -> bool {
        let mut known: BTreeSet<Column> = outputs.iter().filter_map(|&i| self.outputs[i]).collect();
        known.extend(&self.constant);
        let mut rows = vec![false; self.keys.len()];
        while self.infer(&mut known, &mut rows) {}
        rows.into_iter().all(|row| row)
    }

    /// One round of inference; false when nothing new came of it.
    fn infer(&self, known: &mut BTreeSet<Column>, rows: &mut [bool]) -> bool {
        let before = (known.len(), rows.iter().filter(|&&row| row).count());
        for (input, keys) in self.keys.iter().enumerate() {
            rows[input] |= keys.iter().any(|key| key.iter().all(|&column| known.contains(&(input, column))));
        }
        for &(a, b) in &self.equal {
            if known.contains(&a) || rows[a.0] {
                known.insert(b);
            }
            if known.contains(&b) || rows[b.0] {
                known.insert(a);
            }
        }
        before != (known.len(), rows.iter().filter(|&&row| row).count())
    }
}

/// A parent table's unique indexes do not cover its children; a partitioned table's do.
fn unique_keys(relation: &Relation) -> Vec<Vec<i16>> {
    if is_parent(relation) { vec![] } else { unique::keys(relation) }
}

pub fn is_parent(relation: &Relation) -> bool {
    relation.form().relkind as u8 != pg_sys::RELKIND_PARTITIONED_TABLE && !facts::children(relation.oid()).is_empty()
}

/// The range table numbers in an inner join tree; conditions on the way are collected. None if a row of a join may have columns
/// of one side only.
fn leaves(item: Any, conditions: &mut Vec<Any>) -> Option<Vec<i32>> {
    stack::check();
    let (items, quals) = match (item.cast::<pg_sys::FromExpr>(), item.cast::<pg_sys::JoinExpr>()) {
        (Some(from), _) => (from.nodes(|from| from.fromlist), from.child(|from| from.quals)),
        (_, Some(join)) if join.get().jointype == pg_sys::JoinType::JOIN_INNER => {
            let sides = [join.child(|join| join.larg), join.child(|join| join.rarg)];
            (sides.into_iter().flatten().collect(), join.child(|join| join.quals))
        }
        (_, Some(_)) => return None,
        _ => return Some(item.cast::<pg_sys::RangeTblRef>().into_iter().map(|leaf| leaf.get().rtindex).collect()),
    };
    conditions.extend(quals);
    let leaves: Option<Vec<Vec<i32>>> = items.into_iter().map(|item| leaves(item, conditions)).collect();
    Some(leaves?.concat())
}

/// The input column an expression is, if it is one.
fn origin(expression: Any, origins: &Origins) -> Option<Column> {
    let var = unlabelled(expression).cast::<pg_sys::Var>().filter(|var| var.get().varlevelsup == 0)?;
    origins.get(&(var.get().varno, var.get().varattno)).copied()
}

/// Below relabellings, which change the type of a value but neither the value nor what it is equal to (as those of `text`
/// to `bpchar` do).
pub fn unlabelled(expression: Any) -> Any {
    stack::check();
    let arg = expression.cast::<pg_sys::RelabelType>().and_then(|relabel| relabel.child(|relabel| relabel.arg));
    let equality = |expression: Any| {
        let of = query::type_of(expression);
        (facts::default_ordering(of.typid).map(|order| order.family), facts::is_deterministic(of.collation))
    };
    match arg.filter(|arg| equality(arg.any()) == equality(expression)) {
        Some(arg) => unlabelled(arg.any()),
        None => expression,
    }
}

fn is_constant(expression: Any) -> bool {
    !walk::any(expression, Scope::EXPRESSIONS, |node, _| node.is::<pg_sys::Var>())
}

/// Whether the operator compares this side by its type's own equality, under which indexes are unique. Values equal to
/// the same third value need not be equal themselves under a nondeterministic collation, nor by an operator that is
/// only STABLE: times that a time zone skips equal those an hour later.
pub fn is_own_equality(operator: Node<pg_sys::OpExpr>, side: Any) -> bool {
    let of = query::type_of(unlabelled(side));
    facts::is_immutable_operator(operator.get().opno)
        && facts::is_deterministic(operator.get().inputcollid)
        && facts::is_deterministic(of.collation)
        && facts::default_ordering(of.typid)
            .is_some_and(|order| facts::is_equality_of(operator.get().opno, order.family))
}
