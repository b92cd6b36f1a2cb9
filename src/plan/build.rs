//! From terms to PlannedStmt: one Query per term, one UNION ALL, the core planner, our operators on top.

use super::grouped::{self, Leaves};
use super::query;
use super::weigh::{Readings, weigh};
use crate::circuit::{Accumulate, Block, Circuit, GroupKey, Operator};
use crate::delta::{self, Reading};
use crate::exec::fold::definition::Definition;
use crate::exec::{accumulate, apply};
use crate::pg::identity::AsOwner;
use crate::pg::memory::Owned;
use crate::pg::node;
use crate::pg::tree::Tree;
use bitvec::slice::BitSlice;
use pgrx::pg_sys;

/// A finished plan and its estimated cost in the planner's units.
pub struct Plan {
    pub stmt: Tree<pg_sys::PlannedStmt>,
    pub cost: f64,
    /// The part of it that is for sorting by group key.
    pub sorting: f64,
    /// Estimated rows entering the fold, or else the apply node.
    pub rows: f64,
    /// There is a fold, which turns them into one or two for each group.
    pub folds: bool,
    /// Where the statement is kept, of a plan that is.
    pub memory: Option<Owned>,
}

/// What processing one row costs in the planner's units.
pub fn cpu_tuple_cost() -> f64 {
    // SAFETY: a planner setting, read only.
    unsafe { pg_sys::cpu_tuple_cost }
}

/// Everything a plan needs to know about where its operator and its view keep what they keep.
pub struct Target {
    pub view: pg_sys::Oid,
    pub index: apply::ApplyIndex,
    /// State table of the block, when its operator has one.
    pub state: Option<pg_sys::Oid>,
}

impl Target {
    /// False for a block whose state is not kept, since its view is always recomputed.
    fn can_run(&self, block: &Block) -> bool {
        matches!(block.operator, Operator::Pass) || self.state.is_some()
    }
}

/// The delta plan for the inputs in `changed`, with `pending` versions each.
pub fn delta(block: &Block, target: &Target, changed: &BitSlice, pending: &[f64], owner: &AsOwner) -> Plan {
    let linearity: Vec<_> = block.inputs.iter().map(|input| input.linearity).collect();
    let terms = delta::terms(&linearity, changed);
    let realised =
        |term: &delta::Term| weigh(&block.template, &Readings { input: Some(term.input), of: &term.readings, pending });
    let queries: Vec<_> = terms.iter().map(realised).collect();
    // SAFETY: the queries are private copies.
    let query = unsafe { query::union_all(&queries) };
    finish(block, target, query, accumulate::Mode::Delta, apply::Mode::Delta, owner)
}

/// The plan that computes the whole contents: to be written into an empty view, or compared with the stored rows.
pub fn full(circuit: &Circuit, target: &Target, mode: apply::Mode, owner: &AsOwner) -> Plan {
    match circuit.blocks.last().filter(|block| target.can_run(block)) {
        Some(block) => grouped(block, target, mode, owner).unwrap_or_else(|| {
            let query = contents(block);
            finish(block, target, query, accumulate::Mode::Rebuild, mode, owner)
        }),
        _ => {
            // SAFETY: a private copy, below a query that leaves its junk columns behind.
            let child = unsafe {
                let query = query::select_subquery(circuit.query.copy());
                query::append_weight(query, query::int8(1).cast());
                plan(query, mode, owner)
            };
            wrap(child, |tree| write(tree, apply_node(target, mode, false)))
        }
    }
}

/// The recompute whose groups the server's own aggregation makes, where it can.
fn grouped(block: &Block, target: &Target, mode: apply::Mode, owner: &AsOwner) -> Option<Plan> {
    let Operator::Accumulate(spec) = &block.operator else { return None };
    let definitions: Vec<_> = spec.aggregates.iter().map(|aggregate| Definition::resolve(aggregate, owner)).collect();
    let leaves = grouped::leaves(&definitions)?;
    // SAFETY: private queries, whose first columns are the group keys, and the plan made of them.
    let child = unsafe {
        let child = plan(grouped::query(contents(block), spec, &definitions, &leaves), mode, owner);
        if matches!(leaves, Leaves::States(_)) && !grouped::leave_states((*child).planTree) {
            return None;
        }
        child
    };
    let fold = fold_node(block, spec, target, accumulate::Mode::Groups, owner);
    Some(folded(child, fold, apply_node(target, mode, true), owner))
}

/// The query of the whole contents, each row with weight 1.
fn contents(block: &Block) -> *mut pg_sys::Query {
    let new = vec![Reading::New; block.inputs.len()];
    weigh(&block.template, &Readings { input: None, of: &new, pending: &[] })
}

/// Sorts for the operator, plans, and puts the operator and the apply node on top.
fn finish(
    block: &Block,
    target: &Target,
    query: *mut pg_sys::Query,
    fold: accumulate::Mode,
    mode: apply::Mode,
    owner: &AsOwner,
) -> Plan {
    match &block.operator {
        Operator::Pass => {
            // SAFETY: a private query.
            let child = unsafe { plan(query, mode, owner) };
            wrap(child, |tree| write(tree, apply_node(target, mode, false)))
        }
        Operator::Accumulate(spec) => {
            // SAFETY: a private query whose first columns are the group keys.
            let child = unsafe {
                query::order_by(query, spec.keys.iter().map(|key| (key.eq_op, key.lt_op)));
                plan(query, mode, owner)
            };
            folded(child, fold_node(block, spec, target, fold, owner), apply_node(target, mode, true), owner)
        }
    }
}

fn folded(
    child: *mut pg_sys::PlannedStmt,
    fold: accumulate::AccumulateNode,
    apply: apply::ApplyNode,
    owner: &AsOwner,
) -> Plan {
    // SAFETY: a finished plan.
    let plan = wrap(child, |tree| write(unsafe { accumulate::wrap(tree, fold, owner) }, apply));
    Plan { folds: true, ..plan }
}

fn fold_node<'a>(
    block: &Block,
    spec: &'a Accumulate,
    target: &Target,
    mode: accumulate::Mode,
    owner: &AsOwner,
) -> accumulate::AccumulateNode<'a> {
    let restricted = |nulls| match mode {
        accumulate::Mode::Delta => Some(recompute(block, spec, nulls, owner)),
        accumulate::Mode::Rebuild | accumulate::Mode::Groups => None,
    };
    accumulate::AccumulateNode {
        spec,
        state: target.state.expect("an accumulating block has a state table"),
        mode,
        recompute: restricted(false),
        recompute_nulls: restricted(true),
    }
}

fn write(tree: *mut pg_sys::Plan, node: apply::ApplyNode) -> *mut pg_sys::Plan {
    // SAFETY: a finished plan.
    unsafe { apply::wrap(tree, node) }
}

fn apply_node(target: &Target, mode: apply::Mode, grouped: bool) -> apply::ApplyNode<'_> {
    apply::ApplyNode { view: target.view, mode, index: &target.index, grouped }
}

/// The template under the new reading, joined to the keys of the groups to recompute and ordered by key.
/// The keys are distinct, so a plain join is a restriction. Without keys there is one group: all rows.
fn recompute(block: &Block, spec: &Accumulate, nulls: bool, owner: &AsOwner) -> *mut pg_sys::PlannedStmt {
    // SAFETY: private queries; the template's columns start with the keys.
    unsafe {
        let template = contents(block);
        if spec.keys.is_empty() {
            return plan(template, apply::Mode::Delta, owner);
        }
        let outer = query::select_subquery(template);
        query::append_entry(outer, keys_entry(spec));
        for (index, key) in spec.keys.iter().enumerate() {
            query::add_qual(outer, key_match(key, index as i16 + 1, nulls));
        }
        query::order_by(outer, spec.keys.iter().map(|key| (key.eq_op, key.lt_op)));
        plan(outer, apply::Mode::Delta, owner)
    }
}

unsafe fn key_match(key: &GroupKey, column: i16, nulls: bool) -> *mut pg_sys::Expr {
    let var = |varno| {
        // SAFETY: plain node construction.
        unsafe { pg_sys::makeVar(varno, column, key.typid, key.typmod, key.collation, 0).cast::<pg_sys::Expr>() }
    };
    // SAFETY: the operator is the key type's equality.
    unsafe { query::equal(key.eq_op, key.collation, var(1), var(2), nulls) }
}

unsafe fn keys_entry(spec: &Accumulate) -> *mut pg_sys::RangeTblEntry {
    // SAFETY: an ephemeral relation entry as addRangeTableEntryForENR builds it.
    unsafe {
        let rte: *mut pg_sys::RangeTblEntry = node::make(pg_sys::NodeTag::T_RangeTblEntry);
        (*rte).rtekind = pg_sys::RTEKind::RTE_NAMEDTUPLESTORE;
        (*rte).enrname = pg_sys::pstrdup(accumulate::KEYS.as_ptr());
        (*rte).enrtuples = 10.0;
        (*rte).inFromCl = true;
        let mut names = std::ptr::null_mut();
        for (index, key) in spec.keys.iter().enumerate() {
            let name = node::cstring(&format!("k{}", index + 1));
            names = pg_sys::lappend(names, pg_sys::makeString(name).cast());
            (*rte).coltypes = pg_sys::lappend_oid((*rte).coltypes, key.typid);
            (*rte).coltypmods = pg_sys::lappend_int((*rte).coltypmods, key.typmod);
            (*rte).colcollations = pg_sys::lappend_oid((*rte).colcollations, key.collation);
        }
        (*rte).eref = pg_sys::makeAlias(c"keys".as_ptr(), names);
        rte
    }
}

/// Runs the planner without what does not hold for deltas: self-join elimination would merge a table's delta with the
/// table; constraint exclusion would believe of a delta what the table's constraints say of the rows it has now (NO INHERIT:
/// without its children's).
unsafe fn plan(query: *mut pg_sys::Query, mode: apply::Mode, owner: &AsOwner) -> *mut pg_sys::PlannedStmt {
    owner.check();
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
            pg_sys::standard_planner(query, c"".as_ptr(), options as i32, std::ptr::null_mut())
        }))
        .finally(|| {
            pg_sys::enable_self_join_elimination = eliminate;
            pg_sys::constraint_exclusion = exclude;
        })
        .execute()
    }
}

fn wrap(stmt: *mut pg_sys::PlannedStmt, top: impl FnOnce(*mut pg_sys::Plan) -> *mut pg_sys::Plan) -> Plan {
    // SAFETY: the statement is ours until it is put into the cache.
    unsafe {
        let child = (*stmt).planTree;
        let (cost, rows, sorting) = ((*child).total_cost, (*child).plan_rows, sorting(child));
        (*stmt).planTree = top(child);
        apply::complete(stmt);
        Plan { stmt: Tree::new(stmt), cost, sorting, rows, folds: false, memory: None }
    }
}

/// The cost of a sort on top of a plan.
unsafe fn sorting(plan: *mut pg_sys::Plan) -> f64 {
    // SAFETY: a finished plan; a sort has an input.
    unsafe {
        let sorts = [pg_sys::NodeTag::T_Sort, pg_sys::NodeTag::T_IncrementalSort];
        if sorts.into_iter().any(|tag| node::is_a(plan, tag)) {
            (*plan).total_cost - (*(*plan).lefttree).total_cost
        } else {
            0.0
        }
    }
}
