//! Paths over a change buffer: one plain path, and one per way in which join clauses can be pushed into the scan.
//!
//! The parameterised paths matter below an Append (the old reading): the planner builds a parameterised Append only
//! if every child offers the same parameterisation, and without it no index would serve the table's side.

use crate::exec::delta_scan;
use crate::pg::{list, node};
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::ffi::c_void;

const PATH_METHODS: &pg_sys::CustomPathMethods = &pg_sys::CustomPathMethods {
    CustomName: c"TrickleDelta".as_ptr(),
    PlanCustomPath: Some(plan_path),
    ReparameterizeCustomPathByChild: None,
};

/// Adds every path of the delta entry `rel`.
///
/// # Safety
/// Called from set_rel_pathlist_hook with the planner's live structures.
pub unsafe fn add_paths(root: *mut pg_sys::PlannerInfo, rel: *mut pg_sys::RelOptInfo) {
    // SAFETY: by contract.
    unsafe {
        add_path(root, rel, (*rel).lateral_relids);
        for outer in parameterisations(root, rel) {
            add_path(root, rel, outer);
        }
    }
}

unsafe fn add_path(root: *mut pg_sys::PlannerInfo, rel: *mut pg_sys::RelOptInfo, outer: pg_sys::Relids) {
    // SAFETY: plain path construction as in create_seqscan_path.
    unsafe {
        let path: *mut pg_sys::CustomPath = node::make(pg_sys::NodeTag::T_CustomPath);
        let base = &mut (*path).path;
        base.pathtype = pg_sys::NodeTag::T_CustomScan;
        base.parent = rel;
        base.pathtarget = (*rel).reltarget;
        base.param_info = pg_sys::get_baserel_parampathinfo(root, rel, outer);
        base.rows = if base.param_info.is_null() { (*rel).rows } else { (*base.param_info).ppi_rows };
        let per_row = pg_sys::cpu_tuple_cost + (*rel).baserestrictcost.per_tuple;
        base.total_cost = (*rel).tuples * per_row;
        (*path).flags = pg_sys::CUSTOMPATH_SUPPORT_PROJECTION;
        (*path).methods = PATH_METHODS;
        pg_sys::add_path(rel, path.cast());
    }
}

/// The distinct sets of other relations whose join clauses could be evaluated by the scan itself.
unsafe fn parameterisations(root: *mut pg_sys::PlannerInfo, rel: *mut pg_sys::RelOptInfo) -> Vec<pg_sys::Relids> {
    let mut found: Vec<pg_sys::Relids> = Vec::new();
    // SAFETY: reads the relation's join clauses as postgres_fdw does for its parameterised paths.
    unsafe {
        let mut clauses: Vec<*mut pg_sys::RestrictInfo> = list::iter((*rel).joininfo).collect();
        if (*rel).has_eclass_joins {
            let mut tried = Tried { done: std::ptr::null_mut(), current: std::ptr::null_mut() };
            loop {
                tried.current = std::ptr::null_mut();
                let context = (&raw mut tried).cast::<c_void>();
                let derived = pg_sys::generate_implied_equalities_for_column(
                    root,
                    rel,
                    Some(any_member),
                    context,
                    (*rel).lateral_referencers,
                );
                if tried.current.is_null() {
                    break;
                }
                clauses.extend(list::iter::<pg_sys::RestrictInfo>(derived));
                tried.done = pg_sys::lappend(tried.done, tried.current.cast());
            }
        }
        for clause in clauses {
            if !pg_sys::join_clause_is_movable_to(clause, rel) {
                continue;
            }
            let outer = pg_sys::bms_difference((*clause).clause_relids, (*rel).relids);
            let outer = pg_sys::bms_union(outer, (*rel).lateral_relids);
            if !outer.is_null() && !found.iter().any(|&f| pg_sys::bms_equal(f, outer)) {
                found.push(outer);
            }
        }
    }
    found
}

/// Walks the equivalence members of one relation, one expression per call of the generator.
struct Tried {
    done: *mut pg_sys::List,
    current: *mut pg_sys::Expr,
}

#[pg_guard]
unsafe extern "C-unwind" fn any_member(
    _root: *mut pg_sys::PlannerInfo,
    _rel: *mut pg_sys::RelOptInfo,
    _class: *mut pg_sys::EquivalenceClass,
    member: *mut pg_sys::EquivalenceMember,
    context: *mut c_void,
) -> bool {
    // SAFETY: `context` is the Tried of the caller, `member` a live member.
    unsafe {
        let tried = &mut *context.cast::<Tried>();
        let expression = (*member).em_expr;
        if !tried.current.is_null() {
            return pg_sys::equal(expression.cast(), tried.current.cast());
        }
        if pg_sys::list_member(tried.done, expression.cast()) {
            return false;
        }
        tried.current = expression;
        true
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn plan_path(
    root: *mut pg_sys::PlannerInfo,
    rel: *mut pg_sys::RelOptInfo,
    _path: *mut pg_sys::CustomPath,
    tlist: *mut pg_sys::List,
    clauses: *mut pg_sys::List,
    _custom_plans: *mut pg_sys::List,
) -> *mut pg_sys::Plan {
    // SAFETY: the planner passes live structures; the plan owns what it is given.
    unsafe {
        let quals = pg_sys::extract_actual_clauses(clauses, false);
        delta_scan::plan(root, (*rel).relid, tlist, quals)
    }
}
