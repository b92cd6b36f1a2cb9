//! Skeletons: what of a query tells which of its rows a change of an input can reach.
//!
//! A *skeleton* of a query for an input is a query such that for each row of FROM and WHERE that comes, goes or changes with the
//! input there is a row of the skeleton with the same values in the columns that the skeleton keeps. It is made like this:
//!
//! 1. The input's own entry reads its delta. A row changes only with a row of that, be it one added or one removed.
//! 2. Of the joins around the input, an outer join that has it on the side which may be missing becomes an inner one: a row of the
//!    other side is reached only if some changed row, past or present, joins it.
//! 3. What else is optional is left out, as it removes no row: the far sides of outer joins that have the input, or nothing
//!    of it, on the side that is preserved.
//! 4. Of the conditions, those stay which look only at what is kept and is not replaced by NULL at their place. Leaving
//!    conditions out makes the skeleton larger, which is right. Grouping, DISTINCT, ORDER BY and LIMIT depend on the rows below
//!    them alone, so they are left out, and so are the columns they compute.
//!    A subquery with a security barrier becomes part of the skeleton without it: of the conditions from outside the barrier
//!    that look at its columns, only leakproof ones stay.
//! 5. If the input is in a subquery of an expression, rows are kept whose expression a change can reach: those for which the
//!    skeleton of the subquery has a row or, for ANY and ALL, a row that decides: `(x = y) IS NOT FALSE`, `IS NOT TRUE`.

use super::place::{Join, Place, SubLink, conditions, conjuncts, leaves, sides, sublinks, subselect};
use crate::circuit::{legs, tag};
use crate::delta::Reading;
use crate::pg::handle::{Any, Node, to_list};
use crate::pg::query::{self, Entry, Query, Target};
use crate::pg::stack;
use crate::pg::walk::{self, Scope, Visit};
use pgrx::pg_sys;

/// Which columns of a query level a skeleton may look at, and of the levels above.
#[derive(Clone, Copy)]
pub(super) struct Level<'a> {
    pub(super) usable: &'a dyn Fn(&pg_sys::Var) -> bool,
    pub(super) above: Option<&'a Level<'a>>,
}

impl Level<'_> {
    /// Of a column so many levels up. Nothing is wrong with columns beyond the level that is restricted.
    fn has(&self, var: &pg_sys::Var, up: u32) -> bool {
        match (up, self.above) {
            (0, _) => (self.usable)(var),
            (_, Some(above)) => above.has(var, up - 1),
            (_, None) => true,
        }
    }

    /// A tree, of `below` levels under this one, looks at nothing else.
    fn has_all_of(&self, tree: Any, below: u32) -> bool {
        !walk::any(tree, Scope::EXPRESSIONS, |node, depth| {
            let var = node.cast::<pg_sys::Var>().map(Node::get);
            var.is_some_and(|var| var.varlevelsup >= depth + below && !self.has(&var, var.varlevelsup - depth - below))
        })
    }

    /// A row alone decides the expression.
    fn decides(&self, expression: Any) -> bool {
        let depends = |node: Any, _| {
            node.is::<pg_sys::SubLink>()
                || node.is::<pg_sys::Aggref>()
                || node.is::<pg_sys::GroupingFunc>()
                || node.is::<pg_sys::WindowFunc>()
        };
        !walk::any(expression, Scope::EXPRESSIONS, depends)
            && !query::returns_set(expression)
            && self.has_all_of(expression, 0)
    }

    fn has_all_of_entry(&self, entry: Entry) -> bool {
        query::expressions_of(entry).into_iter().all(|tree| self.has_all_of(tree, 0))
            && entry.child(|entry| entry.subquery).is_none_or(|inner| self.has_all_of(inner.any(), 1))
    }
}

/// A skeleton, and which of the query's columns it has (numbered from 1).
pub(super) struct Skeleton {
    pub(super) query: Query,
    columns: Vec<i16>,
    guarded: Vec<i32>,
}

/// None if none can be derived. The query stays as it is.
pub(super) fn skeleton(query: Query, input: usize, above: &Level) -> Option<Skeleton> {
    stack::check();
    if let Some(top) = query.set_operation() {
        let leg = query.entries()[legs::leg_of(query, input)?];
        let own = Level { usable: &|_| true, above: Some(above) };
        let mut of_leg = skeleton(leg.child(|leg| leg.subquery)?, input, &own)?;
        query::lift_levels(of_leg.query);
        if !legs::is_union_all(top.any()) || query.is_cut() {
            of_leg.columns.clear();
        }
        return Some(of_leg);
    }
    let place = Place::find(query, input)?;
    let mut parts = Parts::default();
    parts.gather(query.from().any(), Some(place));
    let is_inside = |_: &pg_sys::Var| true;
    let draft = Draft::make(query, parts, &is_inside, place, input, above)?;
    let own = |var: &pg_sys::Var| draft.keeps(var);
    let level = Level { usable: &own, above: Some(above) };
    let looks_at_several = query.is_grouped() || query.is_cut() || !query.get().windowClause.is_null();
    let (mut columns, mut targets) = (vec![], vec![]);
    for output in query.outputs() {
        let number = output.get().resno;
        let is_kept = !looks_at_several && level.decides(output.expression());
        let expression = match is_kept {
            true => draft.substituted(output.expression()),
            false => query::null(query::type_of(output.expression())),
        };
        columns.extend(is_kept.then_some(number));
        targets.push(query::target(expression, number, &query::name_of(output)));
    }
    let query = draft.query(&targets);
    Some(Skeleton { query, columns, guarded: draft.guarded })
}

/// What of a join tree makes a skeleton.
#[derive(Default)]
pub(super) struct Parts {
    leaves: Vec<i32>,
    pub(super) conditions: Vec<Any>,
}

impl Parts {
    /// Leaves without which the rows at hand are not there, the place's own included, and conditions they satisfy.
    pub(super) fn gather(&mut self, item: Any, place: Option<Place>) {
        stack::check();
        let place = place.filter(|place| place.is_below(item));
        if let Some(from) = item.cast::<pg_sys::FromExpr>() {
            from.nodes(|from| from.fromlist).into_iter().for_each(|item| self.gather(item, place));
            from.child(|from| from.quals).into_iter().for_each(|quals| conjuncts(quals, &mut self.conditions));
        } else if let Some(join) = item.cast::<pg_sys::JoinExpr>() {
            let [left, right] = sides(join);
            let preserved = match join.get().jointype {
                pg_sys::JoinType::JOIN_LEFT => left,
                pg_sys::JoinType::JOIN_RIGHT => right,
                pg_sys::JoinType::JOIN_INNER => return self.gather_joined(join, place),
                // Either side may be missing: only the one with the place is certain to take part in a change.
                _ => {
                    let side = [left, right].into_iter().find(|&side| place.is_some_and(|place| place.is_below(side)));
                    return side.into_iter().for_each(|side| self.gather(side, place));
                }
            };
            match place {
                Some(place) if !place.is_below(preserved) => self.gather_joined(join, Some(place)),
                _ => self.gather(preserved, place),
            }
        } else {
            self.leaves.extend(leaves(item));
        }
    }

    fn gather_joined(&mut self, join: Join, place: Option<Place>) {
        sides(join).into_iter().for_each(|side| self.gather(side, place));
        join.child(|join| join.quals).into_iter().for_each(|quals| conjuncts(quals, &mut self.conditions));
    }

    /// If a condition links the place with what is outside, the other leaves do not help to find the rows that are reached.
    pub(super) fn keep_only_the_linked(&mut self, place: Place, inside: &[i32]) {
        let Place::Leaf(leaf) = place else { return };
        let links = |condition: &Any| {
            let (mut within, mut outside, mut others) = (false, false, false);
            walk::walk(*condition, Scope::EXPRESSIONS, &mut |node, depth| {
                if let Some(var) = node.cast::<pg_sys::Var>().map(Node::get).filter(|var| var.varlevelsup == depth) {
                    match () {
                        _ if var.varno == leaf => within = true,
                        _ if inside.contains(&var.varno) => others = true,
                        _ => outside = true,
                    }
                }
                others |= node.is::<pg_sys::SubLink>();
                Visit::Into
            });
            within && outside && !others && condition.is::<pg_sys::OpExpr>()
        };
        if self.conditions.iter().any(links) {
            self.leaves.retain(|&kept| kept == leaf);
        }
    }
}

/// A skeleton in the making: entries keep their numbers.
pub(super) struct Draft {
    entries: Vec<Entry>,
    permissions: Vec<Node<pg_sys::RTEPermissionInfo>>,
    leaves: Vec<i32>,
    conditions: Vec<Any>,
    /// The input's subquery, whose skeleton became part of this one, and what its columns are there.
    absorbed: Option<(i32, Vec<(i16, Any)>)>,
    /// Entries of a subquery with a security barrier that became part of this one. Which of their rows may be seen is decided by
    /// conditions here, so no condition from outside the barrier may tell anything of a row before.
    guarded: Vec<i32>,
}

impl Draft {
    /// `is_inside` tells columns of the level that may be dropped from those that stay in reach, outside the skeleton.
    pub(super) fn make(
        query: Query,
        parts: Parts,
        is_inside: &dyn Fn(&pg_sys::Var) -> bool,
        place: Place,
        input: usize,
        above: &Level,
    ) -> Option<Self> {
        let permissions: Vec<Node<pg_sys::RTEPermissionInfo>> = query.list(|query| query.rteperminfos);
        let permissions = permissions.into_iter().map(Node::copy).collect();
        let (entries, leaves) = (query.entries(), parts.leaves);
        let mut draft = Self { entries, permissions, leaves, conditions: vec![], absorbed: None, guarded: vec![] };
        draft.drop_dependent(place, is_inside, above);
        for (entry, number) in draft.entries.iter_mut().zip(1..) {
            *entry = if draft.leaves.contains(&number) { entry.copy() } else { query::no_entry() };
        }
        if let Place::Leaf(leaf) = place {
            draft.read_delta(leaf, input, is_inside, above)?;
        }
        let own = |var: &pg_sys::Var| !is_inside(var) || draft.keeps(var);
        let level = Level { usable: &own, above: Some(above) };
        let decided = parts.conditions.iter().filter(|&&part| level.decides(part)).copied();
        let substituted = decided.map(|part| draft.substituted(part));
        let mut conditions: Vec<Any> = substituted.filter(|&part| !leaks(part, &draft.guarded)).collect();
        if let Place::SubLink(sublink) = place {
            conditions.extend(reached(sublink, parts.conditions.contains(&sublink.any()), input, &level));
        }
        draft.conditions.extend(conditions);
        Some(draft)
    }

    /// Leaves out what depends on something that is left out, or on the input's subquery, which is taken apart.
    fn drop_dependent(&mut self, place: Place, is_inside: &dyn Fn(&pg_sys::Var) -> bool, above: &Level) {
        let is_taken_apart = |var: &pg_sys::Var| place == Place::Leaf(var.varno) && self.subquery(var.varno).is_some();
        let mut kept = self.leaves.clone();
        loop {
            let is_there = |var: &pg_sys::Var| kept.contains(&var.varno) && var.varnullingrels.is_null();
            let own = |var: &pg_sys::Var| !is_inside(var) || is_there(var) && !is_taken_apart(var);
            let level = Level { usable: &own, above: Some(above) };
            let is_kept =
                |&leaf: &i32| place == Place::Leaf(leaf) || level.has_all_of_entry(self.entries[leaf as usize - 1]);
            let fewer: Vec<i32> = kept.iter().copied().filter(is_kept).collect();
            if fewer.len() == kept.len() {
                break;
            }
            kept = fewer;
        }
        self.leaves = kept;
    }

    fn subquery(&self, leaf: i32) -> Option<Query> {
        self.entries[leaf as usize - 1].child(|entry| entry.subquery)
    }

    /// The leaf with the input reads what changes. None if that cannot be told of a subquery.
    fn read_delta(
        &mut self,
        leaf: i32,
        input: usize,
        is_inside: &dyn Fn(&pg_sys::Var) -> bool,
        above: &Level,
    ) -> Option<()> {
        let Some(inner) = self.subquery(leaf) else {
            tag::write(self.entries[leaf as usize - 1], input, Reading::Delta);
            return Some(());
        };
        let own = |var: &pg_sys::Var| !is_inside(var) || self.keeps(var);
        let level = Level { usable: &own, above: Some(above) };
        let skeleton = skeleton(inner, input, &level)?;
        self.absorb(leaf, skeleton);
        Some(())
    }

    /// Puts the skeleton of a subquery in its place, without a level between: the planner makes a semijoin of EXISTS only where
    /// what is outside is mentioned in its own WHERE.
    fn absorb(&mut self, leaf: i32, skeleton: Skeleton) {
        let (by, permissions) = (self.entries.len() as i32, self.permissions.len() as u32);
        let inner = skeleton.query;
        let is_barrier = self.entries[leaf as usize - 1].get().security_barrier;
        let guarded = if is_barrier { leaves(inner.from().any()) } else { skeleton.guarded };
        self.guarded.extend(guarded.into_iter().map(|leaf| leaf + by));
        for entry in inner.entries() {
            entry.child(|entry| entry.subquery).into_iter().for_each(|query| renumber(query.any(), 1, by));
            query::expressions_of(entry).into_iter().for_each(|tree| renumber(tree, 0, by));
            if entry.get().perminfoindex > 0 {
                entry.set(|entry| entry.perminfoindex += permissions);
            }
            self.entries.push(entry);
        }
        self.permissions.extend(inner.list::<pg_sys::RTEPermissionInfo>(|query| query.rteperminfos));
        self.entries[leaf as usize - 1] = query::no_entry();
        self.leaves.retain(|&kept| kept != leaf);
        self.leaves.extend(leaves(inner.from().any()).into_iter().map(|leaf| leaf + by));
        let conditions = conditions(inner.from().any());
        conditions.iter().for_each(|&condition| renumber(condition, 0, by));
        self.conditions.extend(conditions);
        let columns = inner.targets().into_iter().filter(|target| skeleton.columns.contains(&target.get().resno));
        let column = |target: Target| {
            renumber(target.expression(), 0, by);
            (target.get().resno, target.expression())
        };
        self.absorbed = Some((leaf, columns.map(column).collect()));
    }

    /// The expression over what the skeleton has.
    fn substituted(&self, expression: Any) -> Any {
        let Some((leaf, columns)) = &self.absorbed else { return expression.copy() };
        walk::mutate(expression, &mut |node, depth| {
            let var = node.cast::<pg_sys::Var>().map(Node::get);
            let var = var.filter(|var| var.varlevelsup == depth && var.varno == *leaf)?;
            let (_, column) = columns.iter().find(|(number, _)| *number == var.varattno)?;
            let column = column.copy();
            query::raise_levels(column, depth, 0);
            Some(column)
        })
    }

    /// Whether the skeleton has a column of its level, with the value it has at its place.
    fn keeps(&self, var: &pg_sys::Var) -> bool {
        let is_there = match &self.absorbed {
            Some((leaf, columns)) if *leaf == var.varno => columns.iter().any(|(number, _)| *number == var.varattno),
            _ => self.leaves.contains(&var.varno),
        };
        is_there && var.varnullingrels.is_null()
    }

    /// Brings the parts one level down, from where what is not kept is outside.
    pub(super) fn sink(&self) {
        for &leaf in &self.leaves {
            let entry = self.entries[leaf as usize - 1];
            entry.child(|entry| entry.subquery).into_iter().for_each(|inner| self.sink_tree(inner.any(), 1));
            query::expressions_of(entry).into_iter().for_each(|tree| self.sink_tree(tree, 0));
        }
        self.conditions.iter().for_each(|&condition| self.sink_tree(condition, 0));
    }

    fn sink_tree(&self, tree: Any, below: u32) {
        walk::walk(tree, Scope::EXPRESSIONS, &mut |node, depth| {
            if let Some(node) = node.cast::<pg_sys::Var>() {
                let var = node.get();
                let own = var.varlevelsup == depth + below && self.leaves.contains(&var.varno);
                if var.varlevelsup >= depth + below && !own {
                    node.set(|var| var.varlevelsup += 1);
                }
            }
            Visit::Into
        });
    }

    pub(super) fn query(&self, targets: &[Target]) -> Query {
        let skeleton = query::nothing();
        skeleton.set_entries(&self.entries);
        skeleton.set_targets(targets);
        let from = query::from_all(&self.leaves);
        let has_row_security = self.entries.iter().any(|entry| !entry.get().securityQuals.is_null());
        skeleton.set(|skeleton| {
            skeleton.jointree = from.as_ptr();
            skeleton.rteperminfos = to_list(&self.permissions);
            skeleton.hasRowSecurity = has_row_security;
        });
        add_conditions(skeleton, &self.conditions);
        skeleton
    }
}

/// Trees of an absorbed query: its entries have higher numbers, and it is no level any more.
fn renumber(tree: Any, below: u32, by: i32) {
    walk::walk(tree, Scope::EXPRESSIONS, &mut |node, depth| {
        if let Some(node) = node.cast::<pg_sys::Var>() {
            node.set(|var| match var.varlevelsup.cmp(&(depth + below)) {
                std::cmp::Ordering::Equal => {
                    var.varno += by;
                    var.varnosyn = 0;
                }
                std::cmp::Ordering::Greater => var.varlevelsup -= 1,
                std::cmp::Ordering::Less => (),
            });
        }
        Visit::Into
    });
}

/// Whether an expression could tell somebody of the values in guarded entries: only leakproof functions do not.
fn leaks(expression: Any, guarded: &[i32]) -> bool {
    let is_guarded = |node: Any, depth: u32| {
        let var = node.cast::<pg_sys::Var>().map(Node::get);
        var.is_some_and(|var| var.varlevelsup == depth && guarded.contains(&var.varno))
    };
    if !walk::any(expression, Scope::EXPRESSIONS, is_guarded) {
        return false;
    }
    // SAFETY: a live expression, of which only the catalogs are asked.
    unsafe { pg_sys::contain_leaked_vars(expression.as_ptr()) }
}

pub(super) fn add_conditions(query: Query, conditions: &[Any]) {
    let from = query.from();
    let all = conditions.iter().fold(from.child(|from| from.quals), |all, &part| query::and(all, Some(part)));
    from.set(|from| from.quals = all.map_or(std::ptr::null_mut(), Node::as_ptr));
    let has_sublinks = conditions.iter().any(|&condition| !sublinks(condition).is_empty());
    query.set(|query| query.hasSubLinks |= has_sublinks);
}

/// The condition that a change can reach the value of a sublink or, of a condition, whether it is true.
pub(super) fn reached(sublink: SubLink, is_condition: bool, input: usize, level: &Level) -> Option<Any> {
    let of = subselect(sublink)?;
    let skeleton = skeleton(of, input, level)?;
    let kind = sublink.get().subLinkType;
    let is_comparison = [pg_sys::SubLinkType::ANY_SUBLINK, pg_sys::SubLinkType::ALL_SUBLINK].contains(&kind);
    // A correlation links rows to changes by itself, and can be searched for.
    let is_searched = is_condition && kind == pg_sys::SubLinkType::ANY_SUBLINK;
    let is_useful = is_comparison && (is_searched || !is_correlated(skeleton.query));
    let is_whole = skeleton.columns.len() == of.outputs().len();
    let test = sublink.child(|sublink| sublink.testexpr).filter(|&test| is_useful && is_whole && level.decides(test));
    let test = test.filter(|&test| !leaks(with_outputs(test, skeleton.query), &skeleton.guarded));
    let Some(test) = test else { return Some(exists(skeleton.query)) };
    let compared = Node::<pg_sys::SubLink>::make();
    compared.set(|compared| {
        *compared = sublink.get();
        compared.testexpr = test.copy().as_ptr();
        compared.subselect = skeleton.query.any().as_ptr();
    });
    Some(match kind {
        pg_sys::SubLinkType::ANY_SUBLINK if is_condition => compared.any(),
        pg_sys::SubLinkType::ANY_SUBLINK => query::boolean_test(compared.any(), pg_sys::BoolTestType::IS_NOT_FALSE),
        _ => query::boolean_test(compared.any(), pg_sys::BoolTestType::IS_NOT_TRUE),
    })
}

/// The comparison of a sublink with what its query computes in the place of the parameters.
fn with_outputs(test: Any, query: Query) -> Any {
    let outputs = query.outputs();
    walk::mutate(test, &mut |node, _| {
        let parameter = node.cast::<pg_sys::Param>()?.get();
        let is_output = parameter.paramkind == pg_sys::ParamKind::PARAM_SUBLINK;
        outputs
            .get(usize::try_from(parameter.paramid - 1).ok()?)
            .filter(|_| is_output)
            .map(|output| output.expression())
    })
}

fn is_correlated(query: Query) -> bool {
    walk::any(query, Scope::EXPRESSIONS, |node, depth| {
        node.cast::<pg_sys::Var>().is_some_and(|var| var.get().varlevelsup > depth)
    })
}

pub(super) fn exists(skeleton: Query) -> Any {
    skeleton.set_targets(&[]);
    query::exists(skeleton)
}
