//! The clock as an input (theorem H).
//!
//! Let v_1, v_2, .. be the expressions in a block's template that depend on the clock and on no column. The clock is one more input of
//! the block, whose value are those of v_1, v_2, ..; a refresh stores these, not the time.
//!
//! **Theorem H.** Let the tables and blocks that a block reads be stepped first, while v_1, v_2, .. have their old values, and then each v_j
//! by itself, by `Q(.. new v_j ..) - Q(.. old v_j ..)` over the new readings. The sum of all is the change of the block. Where v_j is
//! only compared with an expression e of a row, both sides may be restricted to the rows whose e lies between the two values.
//!
//! *Proof.*
//! 1. The first part is the telescoping rule (`delta`) with more inputs, which come last.
//! 2. A comparison of e with v_j belongs to a total order and is strict. For e below both values, above both, or NULL, its result is the
//!    same for both, and so is everything else about that row: both sides have it, and it cancels.
//! 3. Where either value is NULL the comparison changes for every e, and nothing is restricted. ∎
//!
//! Nothing is said about how v_j depends on the clock, or in which direction the clock moves. Every place in which such an expression
//! stands is a v_j of its own: then each has one comparison, and its rows are a range of e, which an index may find.
//!
//! Here the v_j are found and replaced by parameters. A place must be one where more or fewer rows mean more or fewer rows of the block: the
//! conditions and outputs of the template and of plain subqueries in linear places. Where the clock stands elsewhere (an output of its own,
//! arithmetic with a column, HAVING, a sublink, the nullable side of an outer join) the view is recomputed at every refresh.

use super::functions;
use super::legs;
use super::normalise::conversions;
use super::tag;
use super::{Block, Operator};
use crate::pg::comparison::{self, Order};
use crate::pg::construct;
use crate::pg::handle::{Any, Node, to_list};
use crate::pg::identity::AsOwner;
use crate::pg::query::{self, Entry, Query, TypeOf};
use crate::pg::stack;
use crate::pg::tree::Tree;
use crate::pg::walk::{self, Scope, Visit};
use pgrx::pg_sys;

/// One v_j, which stands in one place of one block's template.
pub struct ClockValue {
    /// Without variables.
    pub expression: Tree<pg_sys::Node>,
    pub of: TypeOf,
    /// That of the comparison, and the collation it compares by.
    pub order: Order,
    pub collation: pg_sys::Oid,
}

impl ClockValue {
    pub(super) fn moved(self) -> Self {
        Self { expression: self.expression.moved(), ..self }
    }
}

/// What a parameter of a plan stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// The value that the last refresh has stored, which is what templates have.
    Old,
    New,
    /// The smaller and the larger one of the two.
    Low,
    High,
}

/// The number of a parameter. The first one of a plan is its run's (`exec/run.rs`).
pub fn parameter(value: usize, at: At) -> i32 {
    2 + 4 * value as i32 + at as i32
}

/// The value whose old one a node stands for.
pub fn value_of(node: Any) -> Option<usize> {
    let fields = node.cast::<pg_sys::Param>()?.get();
    let value = usize::try_from(fields.paramid - parameter(0, At::Old)).ok()? / 4;
    let is_old = fields.paramkind == pg_sys::ParamKind::PARAM_EXTERN && fields.paramid == parameter(value, At::Old);
    is_old.then_some(value)
}

/// What the value is compared with in a template, and the query level that stands on.
pub fn compared(template: Query, value: usize) -> Option<(Query, Any)> {
    let on_level = |level: Query| {
        let mut found = None;
        walk::walk(level, Scope::EXPRESSIONS, &mut |node, _| {
            let is_it = |side: &Any| value_of(*side) == Some(value);
            let operator: Option<Node<pg_sys::OpExpr>> = node.cast();
            let sides = operator.map_or(vec![], |operator| operator.nodes(|operator| operator.args));
            if sides.iter().any(is_it) {
                found = sides.into_iter().find(|side| !is_it(side));
                return Visit::Stop;
            }
            if node.is::<pg_sys::Query>() { Visit::Over } else { Visit::Into }
        });
        Some((level, found?))
    };
    template.nest().into_iter().find_map(on_level)
}

/// Replaces what depends on the clock in the blocks' templates by parameters, numbered through all blocks. None, and the blocks are of no use: it
/// stands somewhere where that cannot be done.
pub fn take_out(blocks: &mut [Block], owner: &AsOwner) -> Option<Vec<ClockValue>> {
    let mut taker = Taker { values: vec![], owner };
    for block in blocks {
        let first = taker.values.len();
        let template = block.template.node().copy();
        if block.fallback().is_none() {
            taker.take_from_query(template);
        }
        block.clock = first..taker.values.len();
        block.template = template.tree();
        if taker.is_left(block) {
            return None;
        }
    }
    Some(taker.values)
}

struct Taker<'a> {
    values: Vec<ClockValue>,
    owner: &'a AsOwner,
}

impl Taker<'_> {
    /// Whether the clock still has a say in what the block computes.
    fn is_left(&self, block: &Block) -> bool {
        // The planner converts the legs of a set operation by functions that do not stand in the query.
        let template = without_blocks(conversions::convert(block.template.node().copy()));
        let in_outputs = match &block.operator {
            Operator::Accumulate(spec) => {
                let having = spec.having.as_ref().is_some_and(|having| self.reads_clock(having.node()));
                having || self.reads_clock(spec.output.node())
            }
            Operator::Pass | Operator::Recompute(_) => false,
        };
        in_outputs || self.reads_clock(template)
    }

    fn reads_clock<T>(&self, tree: Node<T>) -> bool {
        functions::reads_clock(tree, self.owner)
    }

    fn take_from_query(&mut self, query: Query) {
        stack::check();
        let entries = query.entries();
        let linear: Vec<Entry> = match query.set_operation() {
            Some(top) if legs::is_union_all(top.any()) => entries,
            Some(_) => return,
            None if !is_plain(query) => return,
            None => {
                self.take_from_level(query);
                legs::linear_entries(query).into_iter().map(|index| entries[index]).collect()
            }
        };
        for entry in linear.into_iter().filter(|entry| tag::read(*entry).is_none() && !entry.get().lateral) {
            entry.child(|entry| entry.subquery).into_iter().for_each(|inner| self.take_from_query(inner));
        }
    }

    fn take_from_level(&mut self, query: Query) {
        for target in query.targets() {
            target.set_expression(self.taken(target.expression()));
        }
        let from = query.from();
        let items = from.nodes(|from| from.fromlist);
        if items.iter().all(|item| joins_inwards(*item)) {
            let from = self.taken(from.any());
            query.set(|query| query.jointree = from.as_ptr().cast());
        } else if let Some(quals) = from.child(|from| from.quals) {
            let quals = self.taken(quals);
            from.set(|from| from.quals = quals.as_ptr());
        }
    }

    fn taken(&mut self, expression: Any) -> Any {
        walk::mutate(expression, &mut |node, _| match node.cast::<pg_sys::OpExpr>() {
            Some(operator) => self.comparison(operator),
            None => (node.is::<pg_sys::SubLink>() || node.is::<pg_sys::Query>()).then_some(node),
        })
    }

    /// The comparison with a parameter in the place of the value, if it is one of a row's expression with a value.
    fn comparison(&mut self, operator: Node<pg_sys::OpExpr>) -> Option<Any> {
        let [left, right] = operator.nodes(|operator| operator.args)[..] else { return None };
        let value_is_left = self.is_value(left);
        let (value, expression) = if value_is_left { (left, right) } else { (right, left) };
        if !self.is_value(value) || !self.is_of_row(expression) {
            return None;
        }
        let fields = operator.get();
        let order = comparison::order_of(fields.opno, value_is_left)?;
        let of = query::type_of(value);
        let parameter = construct::parameter(parameter(self.values.len(), At::Old), of).any();
        self.values.push(ClockValue { expression: value.tree(), of, order, collation: fields.inputcollid });
        let sides = if value_is_left { [parameter, expression] } else { [expression, parameter] };
        let compared = operator.copy();
        compared.set(|compared| compared.args = to_list(&sides));
        Some(compared.any())
    }

    /// An expression that depends on the clock and on no column.
    fn is_value(&self, expression: Any) -> bool {
        !holds(expression, |node| node.is::<pg_sys::Var>() || is_of_place(node)) && self.reads_clock(expression)
    }

    /// An expression that depends on columns and not on the clock.
    fn is_of_row(&self, expression: Any) -> bool {
        holds(expression, |node| node.is::<pg_sys::Var>())
            && !holds(expression, is_of_place)
            && !self.reads_clock(expression)
    }
}

/// Without the queries of the blocks that it reads, which are looked at by themselves. Changes the query.
fn without_blocks(query: Query) -> Query {
    let entries: Vec<Entry> = query.nest().into_iter().flat_map(Query::entries).collect();
    let of_blocks = entries.into_iter().filter(|entry| tag::read(*entry).is_some() && !entry.get().subquery.is_null());
    of_blocks.for_each(|entry| entry.set(|entry| entry.subquery = query::nothing().as_ptr()));
    query
}

fn holds(expression: Any, test: impl Fn(Any) -> bool) -> bool {
    walk::any(expression, Scope::EXPRESSIONS, |node, _| test(node))
}

/// What means something only in the place where it stands, or more than one value.
fn is_of_place(node: Any) -> bool {
    use pg_sys::NodeTag::*;
    let returns_set = node.cast::<pg_sys::FuncExpr>().is_some_and(|call| call.get().funcretset)
        || node.cast::<pg_sys::OpExpr>().is_some_and(|operator| operator.get().opretset);
    let tags =
        [T_Param, T_SubLink, T_Query, T_CaseTestExpr, T_CoerceToDomainValue, T_Aggref, T_WindowFunc, T_GroupingFunc];
    returns_set || tags.contains(&node.tag())
}

/// A SELECT each of whose rows stands for itself.
fn is_plain(query: Query) -> bool {
    let fields = query.get();
    legs::is_linear(query) && !fields.hasTargetSRFs && fields.rowMarks.is_null()
}

/// No outer join in an item of FROM.
fn joins_inwards(item: Any) -> bool {
    stack::check();
    if let Some(from) = item.cast::<pg_sys::FromExpr>() {
        return from.nodes(|from| from.fromlist).into_iter().all(joins_inwards);
    }
    let Some(join) = item.cast::<pg_sys::JoinExpr>() else { return true };
    let sides = [join.child(|join| join.larg), join.child(|join| join.rarg)];
    join.get().jointype == pg_sys::JoinType::JOIN_INNER && sides.into_iter().flatten().all(joins_inwards)
}
