//! Where an input is in a query level, and the join tree around it.

use crate::circuit::legs;
use crate::pg::handle::{Any, Node};
use crate::pg::query::Query;
use crate::pg::stack;
use crate::pg::walk::{self, Scope, Visit};
use pgrx::pg_sys;

pub(super) type Join = Node<pg_sys::JoinExpr>;
pub(super) type SubLink = Node<pg_sys::SubLink>;

/// Where an input is within a query level.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Place {
    /// It is, or is in, this entry of the join tree.
    Leaf(i32),
    /// In a subquery of an expression.
    SubLink(SubLink),
}

impl Place {
    /// None where it is in an expression of a FROM item or of LIMIT, of which no restriction is derived.
    pub(super) fn find(query: Query, input: usize) -> Option<Self> {
        let holds = |&leaf: &i32| legs::holds(query.entry(leaf), input);
        let leaf = leaves(query.from().any()).into_iter().find(holds).map(Self::Leaf);
        leaf.or_else(|| {
            let targets = query.targets().into_iter().map(Node::any);
            let trees = targets.chain([query.from().any()]).chain(query.child(|query| query.havingQual));
            let subselect = |sublink: &SubLink| subselect(*sublink).is_some_and(|inner| legs::reads(inner, input));
            trees.flat_map(sublinks).find(subselect).map(Self::SubLink)
        })
    }

    /// The subquery in FROM that has the input, if the level is linear in it.
    pub(super) fn linear_level(self, query: Query) -> Option<Query> {
        let Self::Leaf(leaf) = self else { return None };
        let is_linear = outer_join(query.from().any(), self).is_none();
        let inner = query.entry(leaf).child(|entry| entry.subquery).filter(|_| is_linear)?;
        legs::is_linear(inner).then_some(inner)
    }

    /// Whether it is below an item of the join tree, conditions included.
    pub(super) fn is_below(self, item: Any) -> bool {
        match self {
            Self::Leaf(leaf) => leaves(item).contains(&leaf),
            Self::SubLink(sublink) => sublinks(item).contains(&sublink),
        }
    }
}

/// The leaves of a join tree that are not joins.
pub(super) fn leaves(item: Any) -> Vec<i32> {
    stack::check();
    if let Some(from) = item.cast::<pg_sys::FromExpr>() {
        return from.nodes(|from| from.fromlist).into_iter().flat_map(leaves).collect();
    }
    if let Some(join) = item.cast::<pg_sys::JoinExpr>() {
        return sides(join).into_iter().flat_map(leaves).collect();
    }
    item.cast::<pg_sys::RangeTblRef>().into_iter().map(|leaf| leaf.get().rtindex).collect()
}

pub(super) fn sides(join: Join) -> [Any; 2] {
    [join.child(|join| join.larg), join.child(|join| join.rarg)].map(|side| side.expect("a join has two sides"))
}

/// The sublinks in an expression or join tree, not those inside their queries.
pub(super) fn sublinks(tree: Any) -> Vec<SubLink> {
    let mut found = vec![];
    walk::walk(tree, Scope::EXPRESSIONS, &mut |node, _| {
        found.extend(node.cast::<pg_sys::SubLink>());
        if node.is::<pg_sys::Query>() { Visit::Over } else { Visit::Into }
    });
    found
}

pub(super) fn subselect(sublink: SubLink) -> Option<Query> {
    sublink.child(|sublink| sublink.subselect)?.cast()
}

/// The uppermost outer join that has the place on the side which may be missing, or in its condition; and that side.
pub(super) fn outer_join(item: Any, place: Place) -> Option<(Join, Any)> {
    stack::check();
    if let Some(from) = item.cast::<pg_sys::FromExpr>() {
        return from.nodes(|from| from.fromlist).into_iter().find_map(|item| outer_join(item, place));
    }
    let join: Join = item.cast().filter(|_| place.is_below(item))?;
    let [left, right] = sides(join);
    let (preserved, missing) = match join.get().jointype {
        pg_sys::JoinType::JOIN_LEFT => (left, right),
        pg_sys::JoinType::JOIN_RIGHT => (right, left),
        _ => return [left, right].into_iter().find_map(|side| outer_join(side, place)),
    };
    if place.is_below(preserved) { outer_join(preserved, place) } else { Some((join, missing)) }
}

/// Whether only the truth of a sublink matters: its being FALSE or NULL comes to the same.
pub(super) fn is_conjunct(query: Query, sublink: SubLink) -> bool {
    conditions(query.from().any()).contains(&sublink.any())
}

/// The parts of all conditions in a join tree.
pub(super) fn conditions(item: Any) -> Vec<Any> {
    stack::check();
    let (items, quals) = match (item.cast::<pg_sys::FromExpr>(), item.cast::<pg_sys::JoinExpr>()) {
        (Some(from), _) => (from.nodes(|from| from.fromlist), from.child(|from| from.quals)),
        (_, Some(join)) => (sides(join).to_vec(), join.child(|join| join.quals)),
        _ => return vec![],
    };
    let mut found: Vec<Any> = items.into_iter().flat_map(conditions).collect();
    quals.into_iter().for_each(|quals| conjuncts(quals, &mut found));
    found
}

pub(super) fn conjuncts(condition: Any, found: &mut Vec<Any>) {
    stack::check();
    match condition.cast::<pg_sys::BoolExpr>().filter(|b| b.get().boolop == pg_sys::BoolExprType::AND_EXPR) {
        Some(and) => and.nodes(|and| and.args).into_iter().for_each(|part| conjuncts(part, found)),
        None => found.push(condition),
    }
}
