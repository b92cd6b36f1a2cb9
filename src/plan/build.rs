//! From terms to PlannedStmt: one Query per term, one UNION ALL, the core planner, our operators on top.

use super::clock;
use super::grouped::{self, Leaves};
use super::query;
use super::regroup::{self, Estimate};
use super::target::{Target, Targets};
use super::weigh::{self, Readings, weigh};
use crate::circuit::{Accumulate, Block, Circuit, Operator};
use crate::delta::{self, Reading};
use crate::error::cannot_happen;
use crate::exec::clock::Clock;
use crate::exec::fold::definition::Definition;
use crate::exec::{accumulate, apply, delta_scan};
use crate::pg::handle::Node;
use crate::pg::identity::AsOwner;
use crate::pg::memory::Owned;
use crate::pg::relation::Relation;
use crate::pg::tree::Tree;
use crate::pg::{node, stack};
use bitvec::prelude::*;
use pgrx::pg_sys;

/// A finished plan and its estimated cost in the planner's units.
pub struct Plan {
    pub stmt: Tree<pg_sys::PlannedStmt>,
    pub cost: f64,
    /// The part of it that is for sorting.
    pub sorting: f64,
    /// Estimated rows entering the fold, or else the apply node.
    pub rows: f64,
    /// The fold that turns them into one or two for each group, if there is one.
    pub fold: Option<Fold>,
    /// What it takes to recompute groups that a delta cannot continue, where there may be any.
    pub regroup: Option<Estimate>,
    /// Where the statement is kept, of a plan that is.
    pub memory: Option<Owned>,
}

/// As whom plans are made, and by which values of what depends on the clock their rows are estimated.
#[derive(Clone, Copy)]
pub struct Planner<'a> {
    pub owner: &'a AsOwner,
    pub clock: &'a Clock,
}

/// What a fold has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fold {
    /// Its input are groups that have been made already.
    pub of_groups: bool,
    pub aggregates: u32,
    /// Those of them that sort a group's rows by themselves.
    pub ordered: u32,
}

impl Fold {
    fn of(node: &accumulate::AccumulateNode) -> Self {
        let aggregates = &node.spec.aggregates;
        let is_ordered = |aggregate: &&crate::circuit::Aggregate| {
            let aggref = aggregate.aggref.node();
            !aggref.get().aggorder.is_null() || !aggref.get().aggdistinct.is_null()
        };
        Self {
            of_groups: node.mode == accumulate::Mode::Groups,
            aggregates: aggregates.len() as u32,
            ordered: aggregates.iter().filter(is_ordered).count() as u32,
        }
    }
}

/// What processing one row costs in the planner's units.
pub fn cpu_tuple_cost() -> f64 {
    // SAFETY: a planner setting, read only.
    unsafe { pg_sys::cpu_tuple_cost }
}

/// The delta plan for the inputs in `changed`, with `pending` versions each.
pub fn delta(
    block: &Block,
    circuit: &Circuit,
    targets: &Targets,
    changed: &BitSlice,
    pending: &[f64],
    planner: Planner,
) -> Plan {
    let relations = relations(block, targets);
    let linearity: Vec<_> = block.inputs.iter().map(|input| input.linearity).collect();
    let terms = delta::terms(&linearity, changed);
    let realised = |term: &delta::Term| {
        let (input, of) = (Some(term.input), &term.readings[..]);
        let (negative, restricted_by) = (term.negative, term.restricted_by);
        let (inputs, relations) = (&block.inputs[..], &relations[..]);
        weigh(&block.template, &Readings { inputs, input, of, negative, restricted_by, pending, relations })
    };
    let mut queries: Vec<_> = terms.iter().map(realised).collect();
    let moved = |value| block.clock.contains(&value) && planner.clock.has_moved_by(value);
    let moved: BitVec = (0..circuit.clock.len()).map(moved).collect();
    let of_clock = |term| clock::weigh(block, &relations, &circuit.clock, term, planner);
    queries.extend(delta::clock_terms(&moved).into_iter().map(of_clock));
    // SAFETY: the queries are private copies.
    let query = unsafe { query::union_all(&queries) };
    finish(block, targets, query, accumulate::Mode::Delta, apply::Mode::Delta, planner)
}

/// The relation that each input of a block is read from.
fn relations(block: &Block, targets: &Targets) -> Vec<pg_sys::Oid> {
    block.inputs.iter().map(|input| targets.relation_of(input)).collect()
}

/// The plan that computes the whole contents of a block from its inputs as they are now: to be written into an empty relation,
/// or compared with the stored rows.
pub fn full(block: &Block, targets: &Targets, mode: apply::Mode, planner: Planner) -> Plan {
    if block.fallback().is_some() {
        let relations = relations(block, targets);
        let target = targets.of(block.id);
        // SAFETY: private copies.
        return unsafe { of_query(weigh::resolved(&block.template, &relations), target, mode, planner) };
    }
    grouped(block, targets, mode, planner).unwrap_or_else(|| {
        let query = contents(block, targets);
        finish(block, targets, query, accumulate::Mode::Rebuild, mode, planner)
    })
}

/// The same for a whole view that keeps nothing beside its rows.
pub fn whole(circuit: &Circuit, targets: &Targets, mode: apply::Mode, planner: Planner) -> Plan {
    // SAFETY: a private copy.
    unsafe { of_query(circuit.query.copy(), targets.view(), mode, planner) }
}

/// The rows of a query as they are.
unsafe fn of_query(query: *mut pg_sys::Query, target: &Target, mode: apply::Mode, planner: Planner) -> Plan {
    // SAFETY: a private query, below one that leaves its junk columns behind.
    let child = unsafe {
        let query = query::select_subquery(query);
        query::append_weight(query, query::int8(1).cast());
        plan(query, mode, planner)
    };
    wrap(child, |tree| write(tree, apply_node(target, mode, false)))
}

/// The recompute whose groups the server's own aggregation makes, where it can.
fn grouped(block: &Block, targets: &Targets, mode: apply::Mode, planner: Planner) -> Option<Plan> {
    let Operator::Accumulate(spec) = &block.operator else { return None };
    let definitions: Vec<_> =
        spec.aggregates.iter().map(|aggregate| Definition::resolve(aggregate, planner.owner)).collect();
    let leaves = grouped::leaves(&definitions)?;
    // SAFETY: private queries, whose first columns are the group keys, and the plan made of them.
    let child = unsafe {
        let child = plan(grouped::query(contents(block, targets), spec, &definitions, &leaves), mode, planner);
        if matches!(leaves, Leaves::States(_)) && !grouped::leave_states((*child).planTree) {
            return None;
        }
        child
    };
    let target = targets.of(block.id);
    let fold = fold_node(spec, target, accumulate::Mode::Groups);
    Some(folded(child, fold, apply_node(target, mode, true), planner))
}

/// The query of the whole contents, each row with weight 1.
pub(super) fn contents(block: &Block, targets: &Targets) -> *mut pg_sys::Query {
    let (new, relations) = (vec![Reading::New; block.inputs.len()], relations(block, targets));
    let query = weigh(&block.template, &Readings::of_all(&block.inputs, &new, &relations));
    // SAFETY: a private query.
    clock::read_new(unsafe { Node::from_raw(query) }.expect("a query was made"), block.clock.end);
    query
}

/// Sorts for the operator, plans, and puts the operator and the apply node on top.
fn finish(
    block: &Block,
    targets: &Targets,
    query: *mut pg_sys::Query,
    fold: accumulate::Mode,
    mode: apply::Mode,
    planner: Planner,
) -> Plan {
    let target = targets.of(block.id);
    match &block.operator {
        Operator::Recompute(_) => cannot_happen("a block that is recomputed has no terms"),
        Operator::Pass => {
            // SAFETY: a private query.
            let child = unsafe { plan(query, mode, planner) };
            wrap(child, |tree| write(tree, apply_node(target, mode, false)))
        }
        Operator::Accumulate(spec) => {
            // SAFETY: a private query whose first columns are the group keys.
            let child = unsafe {
                query::order_by(query, spec.keys.iter().map(|key| (key.eq_op, key.lt_op)));
                plan(query, mode, planner)
            };
            let node = fold_node(spec, target, fold);
            if fold != accumulate::Mode::Delta {
                return folded(child, node, apply_node(target, mode, true), planner);
            }
            // SAFETY: a finished plan.
            let rows = unsafe { (*(*child).planTree).plan_rows };
            let regroup = regroup::plan(block, targets, spec, rows.min(stored_rows(target.relation)), planner);
            let node = accumulate::AccumulateNode { recompute: regroup.plans.map(Some), ..node };
            Plan { regroup: regroup.estimate, ..folded(child, node, apply_node(target, mode, true), planner) }
        }
    }
}

/// How many rows a view or hidden relation now holds: as analyzed, else a guess.
pub fn stored_rows(view: pg_sys::Oid) -> f64 {
    const ROWS_PER_BLOCK: f64 = 60.0;
    let view = Relation::open(view, pg_sys::NoLock);
    match view.form().reltuples {
        rows if rows >= 0.0 => f64::from(rows),
        _ => f64::from(view.blocks()) * ROWS_PER_BLOCK,
    }
}

fn folded(
    child: *mut pg_sys::PlannedStmt,
    fold: accumulate::AccumulateNode,
    apply: apply::ApplyNode,
    planner: Planner,
) -> Plan {
    let work = Fold::of(&fold);
    // SAFETY: a finished plan.
    let plan = wrap(child, |tree| write(unsafe { accumulate::wrap(tree, fold, planner.owner) }, apply));
    Plan { fold: Some(work), ..plan }
}

fn fold_node<'a>(spec: &'a Accumulate, target: &Target, mode: accumulate::Mode) -> accumulate::AccumulateNode<'a> {
    let state = target.state.expect("an accumulating block has a state table");
    accumulate::AccumulateNode { spec, state, mode, recompute: [None, None] }
}

fn write(tree: *mut pg_sys::Plan, node: apply::ApplyNode) -> *mut pg_sys::Plan {
    // SAFETY: a finished plan.
    unsafe { apply::wrap(tree, node) }
}

fn apply_node(target: &Target, mode: apply::Mode, grouped: bool) -> apply::ApplyNode<'_> {
    apply::ApplyNode { view: target.relation, mode, index: &target.index, grouped }
}

/// Runs the planner without what does not hold for deltas: self-join elimination would merge a table's delta with the
/// table; constraint exclusion would believe of a delta what the table's constraints say of the rows it has now (NO INHERIT:
/// without its children's).
unsafe fn plan(query: *mut pg_sys::Query, mode: apply::Mode, planner: Planner) -> *mut pg_sys::PlannedStmt {
    planner.owner.check();
    let is_delta = mode == apply::Mode::Delta;
    // Changes are applied while they are read, and seldom many.
    let options = if is_delta { 0 } else { pg_sys::CURSOR_OPT_PARALLEL_OK };
    // SAFETY: the settings are restored on both ways out; PgTryBuilder re-raises.
    unsafe {
        let (eliminate, exclude) = (pg_sys::enable_self_join_elimination, pg_sys::constraint_exclusion);
        pg_sys::enable_self_join_elimination = false;
        if is_delta {
            pg_sys::constraint_exclusion = pg_sys::ConstraintExclusionType::CONSTRAINT_EXCLUSION_OFF as i32;
        }
        pgrx::PgTryBuilder::new(std::panic::AssertUnwindSafe(|| {
            pg_sys::standard_planner(query, c"".as_ptr(), options as i32, planner.clock.estimates())
        }))
        .finally(|| {
            pg_sys::enable_self_join_elimination = eliminate;
            pg_sys::constraint_exclusion = exclude;
        })
        .execute()
    }
}

/// Plans what a delta reads besides its own input.
///
/// # Safety
/// `query` is private.
pub(super) unsafe fn plan_delta(query: *mut pg_sys::Query, planner: Planner) -> *mut pg_sys::PlannedStmt {
    // SAFETY: by contract.
    unsafe { plan(query, apply::Mode::Delta, planner) }
}

fn wrap(stmt: *mut pg_sys::PlannedStmt, top: impl FnOnce(*mut pg_sys::Plan) -> *mut pg_sys::Plan) -> Plan {
    // SAFETY: the statement is ours until it is put into the cache.
    unsafe {
        let child = (*stmt).planTree;
        let (cost, rows, sorting) = ((*child).total_cost, (*child).plan_rows, sorting(child));
        (*stmt).planTree = top(child);
        apply::complete(stmt);
        delta_scan::name_weights(stmt);
        Plan { stmt: Tree::new(stmt), cost, sorting, rows, fold: None, regroup: None, memory: None }
    }
}

/// What a plan spends on sorting, as far as it sorts its input or that of a join once.
pub(super) unsafe fn sorting(plan: *mut pg_sys::Plan) -> f64 {
    // SAFETY: a finished plan or null; a sort has an input.
    unsafe {
        stack::check();
        let Some(node) = plan.as_ref() else { return 0.0 };
        let tags = [pg_sys::NodeTag::T_Sort, pg_sys::NodeTag::T_IncrementalSort];
        let own = if tags.into_iter().any(|tag| node::is_a(plan, tag)) {
            node.total_cost - (*node.lefttree).total_cost
        } else {
            0.0
        };
        own + sorting(node.lefttree) + sorting(node.righttree)
    }
}
