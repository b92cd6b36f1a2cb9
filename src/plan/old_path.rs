//! Paths that read a table as it was: each path of the table as it is, below a scan that takes the pending changes back
//! (`exec/old_scan.rs`).
//!
//! The path below delivers every column that is read or that a condition looks at, whatever the relation is asked for: only then
//! does the image of a row tell whether the row satisfies the conditions. It keeps its parameters, so that the table's
//! indexes serve this reading as they serve the table; it loses its order, since rows that were removed come last.

use crate::exec::node::scan_methods;
use crate::exec::old_scan::{KeySpec, OldScan, Spec};
use crate::exec::private::Private;
use crate::pg::{list, node, stack};
use pgrx::pg_sys;
use pgrx::prelude::*;

const PATH_METHODS: &pg_sys::CustomPathMethods = &pg_sys::CustomPathMethods {
    CustomName: c"TrickleOld".as_ptr(),
    PlanCustomPath: Some(plan_path),
    ReparameterizeCustomPathByChild: None,
};

/// What holds of the table now need not have held before: keys and NOT NULL may have come since.
///
/// # Safety
/// Called from get_relation_info_hook with the planner's live structures.
pub unsafe fn forget_constraints(rel: *mut pg_sys::RelOptInfo) {
    // SAFETY: by contract; index descriptions are made for each query.
    unsafe {
        (*rel).notnullattnums = std::ptr::null_mut();
        for index in list::iter::<pg_sys::IndexOptInfo>((*rel).indexlist) {
            (*index).unique = false;
        }
    }
}

/// Puts the scan above every path of `rel`, of which so many changes are pending.
///
/// # Safety
/// Called from set_rel_pathlist_hook with the planner's live structures.
pub unsafe fn wrap_paths(root: *mut pg_sys::PlannerInfo, rel: *mut pg_sys::RelOptInfo, pending: f64) {
    // SAFETY: by contract; nothing refers to the paths yet.
    unsafe {
        let paths: Vec<*mut pg_sys::Path> = list::iter((*rel).pathlist).collect();
        let columns = columns(rel, &paths);
        (*rel).pathlist = std::ptr::null_mut();
        (*rel).partial_pathlist = std::ptr::null_mut();
        (*rel).consider_parallel = false;
        // Partitions joined one by one would be read as they are. So they would be where the table is all that a query reads: then
        // the planner makes the paths of a partitioned table once more, with the query's target list in each partition.
        (*rel).consider_partitionwise_join = false;
        if pg_sys::bms_membership((*root).all_baserels) == pg_sys::BMS_Membership::BMS_SINGLETON {
            (*rel).part_scheme = std::ptr::null_mut();
        }
        for path in paths {
            pg_sys::add_path(rel, wrapped(root, rel, path, columns, pending).cast());
        }
    }
}

/// The columns of `rel` that it is asked for or that a condition looks at, each once. If there is none, a NULL: a scan of no columns
/// would be taken for one of all.
unsafe fn columns(rel: *mut pg_sys::RelOptInfo, paths: &[*mut pg_sys::Path]) -> *mut pg_sys::List {
    // SAFETY: a relation with its paths; only copies are changed.
    unsafe {
        let mut vars: Vec<*mut pg_sys::Var> = list::iter(vars_in((*(*rel).reltarget).exprs.cast())).collect();
        let pushed = paths.iter().map(|&path| (*path).param_info).filter(|info| !info.is_null());
        let clauses = pushed.map(|info| (*info).ppi_clauses).chain([(*rel).baserestrictinfo]);
        for clause in clauses.flat_map(|clauses| list::iter::<pg_sys::RestrictInfo>(clauses)) {
            vars.extend(list::iter::<pg_sys::Var>(vars_in((*clause).clause.cast())));
        }
        vars.retain(|&var| (*var).varno as u32 == (*rel).relid);
        vars.sort_by_key(|&var| (*var).varattno);
        vars.dedup_by_key(|var| (**var).varattno);
        if vars.is_empty() {
            return list::make([pg_sys::makeNullConst(pg_sys::INT4OID, -1, pg_sys::InvalidOid)]);
        }
        list::make(vars.into_iter().map(|var| {
            let var = node::copy(var);
            (*var).varnullingrels = std::ptr::null_mut();
            var
        }))
    }
}

/// The columns in an expression; those of what has to be computed here for an outer join above, too.
unsafe fn vars_in(expression: *mut pg_sys::Node) -> *mut pg_sys::List {
    // SAFETY: a live expression, or a list of them.
    unsafe { pg_sys::pull_var_clause(expression, pg_sys::PVC_RECURSE_PLACEHOLDERS as i32) }
}

unsafe fn wrapped(
    root: *mut pg_sys::PlannerInfo,
    rel: *mut pg_sys::RelOptInfo,
    child: *mut pg_sys::Path,
    columns: *mut pg_sys::List,
    pending: f64,
) -> *mut pg_sys::CustomPath {
    // SAFETY: plain path construction.
    unsafe {
        let path: *mut pg_sys::CustomPath = node::make(pg_sys::NodeTag::T_CustomPath);
        let base = &mut (*path).path;
        base.pathtype = pg_sys::NodeTag::T_CustomScan;
        base.parent = rel;
        base.pathtarget = (*rel).reltarget;
        base.param_info = (*child).param_info;
        base.rows = (*child).rows;
        base.disabled_nodes = (*child).disabled_nodes;
        let again = is_scanned_again(rel, child);
        let searched = if again && is_keyed(rel, child) { 1.0 } else { pending };
        let look = pg_sys::cpu_operator_cost * base.rows + pg_sys::cpu_tuple_cost * searched;
        // The changes are collected once, however often the table is scanned.
        let collect = if again { 0.0 } else { pg_sys::cpu_tuple_cost * pending };
        base.startup_cost = (*child).startup_cost + collect;
        base.total_cost = (*child).total_cost + collect + look;
        (*path).flags = pg_sys::CUSTOMPATH_SUPPORT_PROJECTION;
        (*path).custom_paths = list::make([retargeted(root, rel, child, columns)]);
        (*path).methods = PATH_METHODS;
        path
    }
}

/// With a value from outside, a condition is another one in each scan.
unsafe fn is_scanned_again(rel: *mut pg_sys::RelOptInfo, path: *mut pg_sys::Path) -> bool {
    // SAFETY: live structures.
    unsafe {
        !(*path).param_info.is_null()
            || list::iter::<pg_sys::RestrictInfo>((*rel).baserestrictinfo)
                .any(|clause| has_parameter((*clause).clause.cast(), std::ptr::null_mut()))
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn has_parameter(node: *mut pg_sys::Node, context: *mut std::ffi::c_void) -> bool {
    // SAFETY: a live expression or null.
    unsafe {
        !node.is_null() && (is_varying(node) || pg_sys::expression_tree_walker_impl(node, Some(has_parameter), context))
    }
}

/// Parameters from outside of the query, the values of the clock, are the same in all scans.
unsafe fn is_varying(node: *mut pg_sys::Node) -> bool {
    // SAFETY: a live node.
    unsafe {
        node::is_a(node, pg_sys::NodeTag::T_Param)
            && (*node.cast::<pg_sys::Param>()).paramkind != pg_sys::ParamKind::PARAM_EXTERN
    }
}

unsafe fn is_keyed(rel: *mut pg_sys::RelOptInfo, path: *mut pg_sys::Path) -> bool {
    // SAFETY: live structures.
    unsafe {
        let info = (*path).param_info;
        let pushed = if info.is_null() { std::ptr::null_mut() } else { (*info).ppi_clauses };
        list::iter::<pg_sys::RestrictInfo>(pushed)
            .chain(list::iter::<pg_sys::RestrictInfo>((*rel).baserestrictinfo))
            .any(|clause| key((*clause).clause.cast(), (*rel).relid).is_some())
    }
}

/// The same path, delivering these columns of `rel`. Paths of children deliver theirs.
unsafe fn retargeted(
    root: *mut pg_sys::PlannerInfo,
    rel: *mut pg_sys::RelOptInfo,
    path: *mut pg_sys::Path,
    columns: *mut pg_sys::List,
) -> *mut pg_sys::Path {
    stack::check();
    // SAFETY: a path is copied with all fields of its kind.
    unsafe {
        let of_parent = |child: *mut pg_sys::RelOptInfo| {
            if child == rel {
                return columns;
            }
            pg_sys::adjust_appendrel_attrs_multilevel(root, columns.cast(), child, rel).cast()
        };
        let all = |paths: *mut pg_sys::List| {
            list::make(list::iter::<pg_sys::Path>(paths).map(|path| retargeted(root, rel, path, columns)))
        };
        let columns_here = of_parent((*path).parent);
        let copy: *mut pg_sys::Path = match (*path).type_ {
            pg_sys::NodeTag::T_AppendPath => {
                let copy = flat_copy(path.cast::<pg_sys::AppendPath>());
                (*copy).subpaths = all((*copy).subpaths);
                copy.cast()
            }
            pg_sys::NodeTag::T_MergeAppendPath => {
                let copy = flat_copy(path.cast::<pg_sys::MergeAppendPath>());
                (*copy).subpaths = all((*copy).subpaths);
                copy.cast()
            }
            pg_sys::NodeTag::T_IndexPath => {
                let copy = flat_copy(path.cast::<pg_sys::IndexPath>());
                if !covers((*copy).indexinfo, columns_here) {
                    (*copy).path.pathtype = pg_sys::NodeTag::T_IndexScan;
                }
                copy.cast()
            }
            pg_sys::NodeTag::T_BitmapHeapPath => flat_copy(path.cast::<pg_sys::BitmapHeapPath>()).cast(),
            pg_sys::NodeTag::T_TidPath => flat_copy(path.cast::<pg_sys::TidPath>()).cast(),
            pg_sys::NodeTag::T_TidRangePath => flat_copy(path.cast::<pg_sys::TidRangePath>()).cast(),
            pg_sys::NodeTag::T_MaterialPath => {
                let copy = flat_copy(path.cast::<pg_sys::MaterialPath>());
                (*copy).subpath = retargeted(root, rel, (*copy).subpath, columns);
                copy.cast()
            }
            pg_sys::NodeTag::T_Path => flat_copy(path),
            other => pgrx::error!("a path of type {other:?} cannot be read as it was"),
        };
        let target: *mut pg_sys::PathTarget = pg_sys::make_pathtarget_from_tlist(std::ptr::null_mut());
        (*target).exprs = columns_here;
        (*copy).pathtarget = pg_sys::set_pathtarget_cost_width(root, target);
        copy
    }
}

unsafe fn flat_copy<T>(node: *mut T) -> *mut T {
    // SAFETY: a node of the type.
    unsafe {
        let copy: *mut T = node::make((*node.cast::<pg_sys::Node>()).type_);
        std::ptr::copy_nonoverlapping(node, copy, 1);
        copy
    }
}

/// Whether an index returns these columns.
unsafe fn covers(index: *mut pg_sys::IndexOptInfo, columns: *mut pg_sys::List) -> bool {
    // SAFETY: an index has as many keys and flags as columns.
    unsafe {
        list::iter::<pg_sys::Node>(columns).all(|column| {
            if !node::is_a(column, pg_sys::NodeTag::T_Var) {
                return node::is_a(column, pg_sys::NodeTag::T_Const);
            }
            let attribute = i32::from((*column.cast::<pg_sys::Var>()).varattno);
            let mut places = 0..(*index).ncolumns as usize;
            attribute != 0 && places.any(|i| *(*index).canreturn.add(i) && *(*index).indexkeys.add(i) == attribute)
        })
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn plan_path(
    _root: *mut pg_sys::PlannerInfo,
    rel: *mut pg_sys::RelOptInfo,
    _path: *mut pg_sys::CustomPath,
    tlist: *mut pg_sys::List,
    clauses: *mut pg_sys::List,
    custom_plans: *mut pg_sys::List,
) -> *mut pg_sys::Plan {
    // SAFETY: the planner passes live structures; the plan owns what it is given.
    unsafe {
        let child = list::iter::<pg_sys::Plan>(custom_plans).next().expect("one path below");
        let columns = (*child).targetlist;
        let quals: Vec<*mut pg_sys::Expr> = list::iter(pg_sys::extract_actual_clauses(clauses, false)).collect();
        let keys: Vec<Key> = quals.iter().filter_map(|&qual| key(qual, (*rel).relid)).collect();
        let spec_of = |key: &Key| {
            let mut targets = list::iter::<pg_sys::TargetEntry>(columns);
            let column = targets.position(|target| (*(*target).expr.cast::<pg_sys::Var>()).varattno == key.column);
            let column = column.expect("a column that a condition looks at is read");
            let Key { hash_column, hash_value, collation, .. } = *key;
            KeySpec { column, hash_column, hash_value, collation }
        };
        let spec = Spec { quals: quals.len(), keys: keys.iter().map(spec_of).collect() };
        let values = keys.iter().map(|key| node::copy(key.value));
        let scan: *mut pg_sys::CustomScan = node::make(pg_sys::NodeTag::T_CustomScan);
        (*scan).scan.plan.targetlist = tlist;
        (*scan).scan.scanrelid = (*rel).relid;
        (*scan).flags = pg_sys::CUSTOMPATH_SUPPORT_PROJECTION;
        (*scan).custom_plans = custom_plans;
        (*scan).custom_scan_tlist = node::copy(columns);
        // Only rows that are put back are looked at: the others satisfy the conditions already.
        (*scan).custom_exprs = list::make(quals.iter().copied().chain(values));
        (*scan).custom_private = spec.to_private();
        (*scan).methods = scan_methods::<OldScan>();
        scan.cast()
    }
}

/// `column = value` by an operator whose operands have hashes that are equal where they are.
struct Key {
    column: i16,
    value: *mut pg_sys::Expr,
    hash_column: pg_sys::Oid,
    hash_value: pg_sys::Oid,
    collation: pg_sys::Oid,
}

/// What a condition says of a column of the relation, if it equates one with a value from elsewhere.
unsafe fn key(condition: *mut pg_sys::Expr, relid: pg_sys::Index) -> Option<Key> {
    // SAFETY: a live expression.
    unsafe {
        if !node::is_a(condition, pg_sys::NodeTag::T_OpExpr) {
            return None;
        }
        let operator = condition.cast::<pg_sys::OpExpr>();
        let operands: Vec<*mut pg_sys::Expr> = list::iter((*operator).args).collect();
        let [left, right] = operands[..] else { return None };
        if !pg_sys::op_hashjoinable((*operator).opno, pg_sys::exprType(left.cast())) {
            return None;
        }
        let (mut hash_left, mut hash_right) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
        if !pg_sys::get_op_hash_functions((*operator).opno, &mut hash_left, &mut hash_right) {
            return None;
        }
        let collation = (*operator).inputcollid;
        let foreign = |value: *mut pg_sys::Expr| {
            !pg_sys::bms_is_member(relid as i32, pg_sys::pull_varnos(std::ptr::null_mut(), value.cast()))
        };
        match (column(left, relid), column(right, relid)) {
            (Some(column), _) if foreign(right) => {
                Some(Key { column, value: right, hash_column: hash_left, hash_value: hash_right, collation })
            }
            (_, Some(column)) if foreign(left) => {
                Some(Key { column, value: left, hash_column: hash_right, hash_value: hash_left, collation })
            }
            _ => None,
        }
    }
}

/// The column of the relation that an expression is, whatever type it is taken for.
unsafe fn column(mut expression: *mut pg_sys::Expr, relid: pg_sys::Index) -> Option<i16> {
    // SAFETY: a live expression.
    unsafe {
        while node::is_a(expression, pg_sys::NodeTag::T_RelabelType) {
            expression = (*expression.cast::<pg_sys::RelabelType>()).arg;
        }
        let var = node::is_a(expression, pg_sys::NodeTag::T_Var).then(|| expression.cast::<pg_sys::Var>())?;
        ((*var).varno as u32 == relid && (*var).varlevelsup == 0 && (*var).varattno > 0).then(|| (*var).varattno)
    }
}
