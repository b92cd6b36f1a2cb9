//! The plan node: what is to be written where.

use super::{Apply, ApplyIndex};
use crate::exec::node;
use crate::exec::private::{Private, private};
use crate::pg::node as tree;
use pgrx::pg_sys;

/// What the child's rows are to the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Changes of its contents.
    Delta,
    /// Its contents, to be compared with the stored rows.
    Diff,
    /// Its contents; the view is empty and nobody can see it.
    Populate,
}

private!(
    enum Mode {
        Delta,
        Diff,
        Populate,
    }
);

/// What to write where.
pub struct ApplyNode<'a> {
    pub view: pg_sys::Oid,
    pub mode: Mode,
    pub index: &'a ApplyIndex,
    /// The child promises grouped rows (see `exec/apply.rs`).
    pub grouped: bool,
}

/// What the plan carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    pub view: pg_sys::Oid,
    pub mode: Mode,
    pub grouped: bool,
    /// The child needs parallel mode.
    pub parallel: bool,
    pub index: ApplyIndex,
}

private!(struct Spec { view, mode, grouped, parallel, index });
private!(enum ApplyIndex { Key { index, columns }, Hash { index, columns }, Single, None });

/// Puts a TrickleApply node over `child`.
///
/// # Safety
/// `child` is a finished plan.
pub unsafe fn wrap(child: *mut pg_sys::Plan, node: ApplyNode) -> *mut pg_sys::Plan {
    let ApplyNode { view, mode, index, grouped } = node;
    let spec = Spec { view, mode, grouped, parallel: false, index: index.clone() };
    // SAFETY: the caller has a finished plan.
    unsafe { node::plan_over::<Apply>(child, std::ptr::null_mut(), &spec).cast() }
}

/// Completes a statement whose top node is a TrickleApply:
/// - it, and not the executor, enters parallel mode, in which rows can be read but not changed (`parallel`);
/// - the view gets an entry, so that EXPLAIN says which one. Not for Populate: the executor opens no unpopulated view.
///
/// # Safety
/// `stmt` is a private statement; the view is locked when it runs.
pub unsafe fn complete(stmt: *mut pg_sys::PlannedStmt) {
    // SAFETY: plain node construction; the top node was made by `wrap`, and nobody else has it.
    unsafe {
        let scan: *mut pg_sys::CustomScan = (*stmt).planTree.cast();
        let parallel = std::mem::replace(&mut (*stmt).parallelModeNeeded, false);
        let spec = Spec { parallel, ..Spec::from_private((*scan).custom_private) };
        (*scan).custom_private = spec.to_private();
        if spec.mode == Mode::Populate {
            return;
        }
        (*stmt).rtable = pg_sys::lappend((*stmt).rtable, target_entry(spec.view).cast());
        let index = (*(*stmt).rtable).length;
        (*stmt).unprunableRelids = pg_sys::bms_add_member((*stmt).unprunableRelids, index);
        (*scan).scan.scanrelid = index as u32;
        (*scan).custom_relids = pg_sys::bms_make_singleton(index);
    }
}

unsafe fn target_entry(view: pg_sys::Oid) -> *mut pg_sys::RangeTblEntry {
    // SAFETY: plain node construction; the view exists.
    unsafe {
        let entry: *mut pg_sys::RangeTblEntry = tree::make(pg_sys::NodeTag::T_RangeTblEntry);
        (*entry).rtekind = pg_sys::RTEKind::RTE_RELATION;
        (*entry).relid = view;
        (*entry).relkind = pg_sys::RELKIND_MATVIEW as i8;
        (*entry).rellockmode = pg_sys::AccessShareLock as i32;
        (*entry).eref = pg_sys::makeAlias(pg_sys::get_rel_name(view), std::ptr::null_mut());
        entry
    }
}
