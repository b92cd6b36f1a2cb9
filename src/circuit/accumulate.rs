//! Cuts a grouped query in two: a template that yields each row's group keys and aggregate arguments, and the
//! operator that folds them.
//!
//! 1. The keys are the GROUP BY expressions, and columns that a grouped primary key determines (the analyzer has
//!    checked that); they are the template's first columns.
//! 2. The arguments, direct arguments and filters of the aggregate calls are its further columns.
//! 3. In the outputs and HAVING, every key expression becomes a reference to the key and every call a reference to
//!    its result.

use super::{Accumulate, Aggregate, GroupKey, Refusal, aggregate, reason};
use crate::pg::facts;
use crate::pg::handle::{Any, Node};
use crate::pg::query::{self, Query, Target};
use crate::pg::walk::{self, Scope, Visit};
use pgrx::pg_sys;

type Aggref = Node<pg_sys::Aggref>;

/// Takes grouping and aggregation off the query, which becomes the template.
pub fn cut(query: Query) -> Result<Accumulate, Refusal> {
    let outputs = query.outputs();
    let having = query.child(|query| query.havingQual);
    let mut cutter = Cutter::default();
    for clause in query.list::<pg_sys::SortGroupClause>(|query| query.groupClause) {
        cutter.add_key(query.target_of(clause).expression(), clause.get().eqop, clause.get().sortop)?;
    }
    for expression in outputs.iter().map(|output| output.expression()).chain(having) {
        cutter.collect(expression)?;
    }
    let aggregates = cutter.calls.clone().into_iter().map(|call| cutter.aggregate(call)).collect();
    for output in &outputs {
        output.set_expression(cutter.replaced(output.expression()));
    }
    let having = having.map(|having| cutter.replaced(having).tree());
    cutter.strip(query);
    let spec = Accumulate { keys: cutter.keys, aggregates, output: query::list_tree(&outputs), having };
    if spec.is_found_by_hash() && !spec.keys.iter().any(|key| facts::hash_function(key.eq_op, key.typid).is_some()) {
        let detail = "The values the query groups by may be too long for an index, and have no hash function.";
        return Err(reason::UNSORTABLE_KEY.refuse(detail.to_owned()));
    }
    if !spec.fits_row() {
        let (keys, aggregates) = (spec.keys.len(), spec.aggregates.len());
        let detail = format!("What is kept of a group, {keys} keys and {aggregates} aggregates, does not fit a row.");
        return Err(reason::WIDE_GROUP.refuse(detail));
    }
    Ok(spec)
}

#[derive(Default)]
struct Cutter {
    keys: Vec<GroupKey>,
    /// Template columns: the key expressions, then whatever the aggregates need. Equal ones once.
    columns: Vec<Any>,
    /// Aggregate calls, equal ones once.
    calls: Vec<Aggref>,
}

fn position<T, U>(items: &[Node<T>], wanted: Node<U>) -> Option<usize> {
    items.iter().position(|item| item.equals(wanted))
}

impl Cutter {
    fn add_key(&mut self, expression: Any, eq_op: pg_sys::Oid, lt_op: pg_sys::Oid) -> Result<(), Refusal> {
        if position(&self.columns, expression).is_none() {
            self.keys.push(group_key(expression, eq_op, lt_op)?);
            self.columns.push(expression);
        }
        Ok(())
    }

    /// Finds the calls in an expression, and the columns that stand neither in a key nor in a call.
    fn collect(&mut self, expression: Any) -> Result<(), Refusal> {
        let (mut dependent, mut has_sublink) = (vec![], false);
        walk::walk(expression, Scope::EXPRESSIONS, &mut |node, _| {
            if position(&self.columns, node).is_some() {
                return Visit::Over;
            }
            if let Some(call) = node.cast::<pg_sys::Aggref>() {
                if position(&self.calls, simplified(call)).is_none() {
                    self.calls.push(simplified(call));
                }
                return Visit::Over;
            }
            dependent.extend(node.cast::<pg_sys::Var>().map(Node::any));
            has_sublink |= node.is::<pg_sys::SubLink>();
            if has_sublink { Visit::Stop } else { Visit::Into }
        });
        if has_sublink {
            let detail =
                "The query uses a subquery in HAVING or in an output, outside grouping expressions and aggregates.";
            return Err(reason::SUBLINK.refuse(detail));
        }
        dependent.into_iter().try_for_each(|column| self.add_dependent(column))
    }

    fn add_dependent(&mut self, column: Any) -> Result<(), Refusal> {
        let ordering = facts::default_ordering(query::type_of(column).typid);
        let none = pg_sys::InvalidOid;
        self.add_key(column, ordering.map_or(none, |order| order.eq_op), ordering.map_or(none, |order| order.lt_op))
    }

    /// The 1-based template column with this value.
    fn column(&mut self, expression: Any) -> usize {
        position(&self.columns, expression).unwrap_or_else(|| {
            self.columns.push(expression);
            self.columns.len() - 1
        }) + 1
    }

    fn aggregate(&mut self, call: Aggref) -> Aggregate {
        let arguments: Vec<Target> = call.list(|call| call.args);
        Aggregate {
            arguments: arguments.into_iter().map(|argument| self.column(argument.expression())).collect(),
            direct: call.nodes(|call| call.aggdirectargs).into_iter().map(|argument| self.column(argument)).collect(),
            filter: call.child(|call| call.aggfilter).map(|filter| self.column(filter.any())),
            resolved: aggregate::resolve(call),
            aggref: call.tree(),
        }
    }

    /// The expression over (OUTER_VAR, n): the keys, then the calls' results.
    fn replaced(&self, expression: Any) -> Any {
        walk::mutate(expression, &mut |node, _| {
            let key = position(&self.columns[..self.keys.len()], node);
            let call = node.cast::<pg_sys::Aggref>().map(simplified);
            let slot = key.or_else(|| Some(self.keys.len() + position(&self.calls, call?)?))?;
            Some(query::var(pg_sys::OUTER_VAR, slot as i16 + 1, query::type_of(node)).any())
        })
    }

    /// Leaves of the query what the template is.
    fn strip(&self, query: Query) {
        let column = |(i, &column): (usize, &Any)| query::target(column, i as i16 + 1, &format!("column{}", i + 1));
        query.set_targets(&self.columns.iter().enumerate().map(column).collect::<Vec<_>>());
        query.set(|query| {
            query.hasAggs = false;
            query.groupClause = std::ptr::null_mut();
            query.groupDistinct = false;
            query.havingQual = std::ptr::null_mut();
        });
    }
}

/// The call without what cannot change its result: DISTINCT of a minimum or maximum.
fn simplified(call: Aggref) -> Aggref {
    if call.get().aggdistinct.is_null() || !aggregate::is_extremum(call) {
        return call;
    }
    let call = call.copy();
    call.set(|call| call.aggdistinct = std::ptr::null_mut());
    call
}

fn group_key(expression: Any, eq_op: pg_sys::Oid, lt_op: pg_sys::Oid) -> Result<GroupKey, Refusal> {
    let of = query::type_of(expression);
    if eq_op == pg_sys::InvalidOid || lt_op == pg_sys::InvalidOid {
        let name = facts::type_name(of.typid);
        return Err(reason::UNSORTABLE_KEY.refuse(format!("The query groups by a value of type {name}.")));
    }
    let image_equal = facts::equal_is_identical(of.typid, of.typmod, of.collation);
    Ok(GroupKey { typid: of.typid, typmod: of.typmod, collation: of.collation, eq_op, lt_op, image_equal })
}
