//! Planner hooks: a relation tagged *delta* is planned as a scan of the source's change buffer, one tagged *old* as a scan of the
//! table below one that takes the changes back.
//!
//! Nothing the catalogs say about the table holds for its delta: constraints may have been added since the frontier,
//! indexes and statistics describe other rows. So the relation info is emptied of proofs and sized by the true number
//! of pending versions, and every path is replaced by our own. Entries without a tag pass untouched; the pass-through
//! is unguarded so that core errors keep all their fields.

use super::{delta_path, old_path};
use crate::circuit::tag;
use crate::delta::Reading;
use crate::pg::handle::Node;
use crate::pg::{list, node, server};
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::sync::OnceLock;

static PREVIOUS_INFO: OnceLock<pg_sys::get_relation_info_hook_type> = OnceLock::new();
static PREVIOUS_PATHS: OnceLock<pg_sys::set_rel_pathlist_hook_type> = OnceLock::new();
static PREVIOUS_STATS: OnceLock<pg_sys::get_relation_stats_hook_type> = OnceLock::new();

/// Installs the hooks, once per process.
pub fn register() {
    // SAFETY: called from _PG_init in a single-threaded process.
    unsafe {
        PREVIOUS_INFO.get_or_init(|| pg_sys::get_relation_info_hook);
        PREVIOUS_PATHS.get_or_init(|| pg_sys::set_rel_pathlist_hook);
        PREVIOUS_STATS.get_or_init(|| pg_sys::get_relation_stats_hook);
        pg_sys::get_relation_stats_hook = Some(relation_stats);
        pg_sys::get_relation_info_hook = Some(relation_info);
        pg_sys::set_rel_pathlist_hook = Some(rel_pathlist);
    }
}

unsafe extern "C-unwind" fn relation_info(
    root: *mut pg_sys::PlannerInfo,
    relid: pg_sys::Oid,
    inhparent: bool,
    rel: *mut pg_sys::RelOptInfo,
) {
    // SAFETY: the planner passes live structures; the entry of `rel` is in simple_rte_array.
    unsafe {
        if let Some(Some(previous)) = PREVIOUS_INFO.get() {
            previous(root, relid, inhparent, rel);
        }
        let rte = *(*root).simple_rte_array.add((*rel).relid as usize);
        match relation_reading(rte) {
            Some(Reading::Delta) => forget_table(rel, (*rte).enrtuples),
            Some(Reading::Old) if !is_child(root, rel) => old_path::forget_constraints(rel),
            _ => (),
        }
    }
}

unsafe extern "C-unwind" fn rel_pathlist(
    root: *mut pg_sys::PlannerInfo,
    rel: *mut pg_sys::RelOptInfo,
    rti: pg_sys::Index,
    rte: *mut pg_sys::RangeTblEntry,
) {
    // SAFETY: as above.
    unsafe {
        if relation_reading(rte) == Some(Reading::Delta) {
            return replace_paths(root, rel);
        }
        if let Some(Some(previous)) = PREVIOUS_PATHS.get() {
            previous(root, rel, rti, rte);
        }
        if relation_reading(rte) == Some(Reading::Old) && !is_child(root, rel) {
            wrap_paths(root, rel, (*rte).enrtuples);
        }
    }
}

/// Gives a column of an *old* reading the statistics of the table it is made from. For the UNION ALL that it is, the
/// planner would assume two hundred different values, and hundreds of partners for each row joined by a key.
unsafe extern "C-unwind" fn relation_stats(
    root: *mut pg_sys::PlannerInfo,
    rte: *mut pg_sys::RangeTblEntry,
    column: pg_sys::AttrNumber,
    data: *mut pg_sys::VariableStatData,
) -> bool {
    // SAFETY: as above; nothing here has a destructor, so the look-up may raise.
    unsafe {
        if let Some((table, leg)) = table_of_old(rte) {
            let relid = (*table).relid;
            let inherited = (*table).inh && server::has_subclass(relid);
            let cache = pg_sys::SysCacheIdentifier::STATRELATTINH as i32;
            (*data).statsTuple = server::SearchSysCache3(cache, relid.into(), column.into(), inherited.into());
            (*data).freefunc = Some(server::ReleaseSysCache);
            // Without a row there is nothing to hide.
            (*data).acl_ok = (*data).statsTuple.is_null() || may_read_all(rte, table, leg, column);
            return true;
        }
        match PREVIOUS_STATS.get() {
            Some(Some(previous)) => previous(root, rte, column, data),
            _ => false,
        }
    }
}

/// The entry of the table below an entry that is read as old, and the query of that table alone.
unsafe fn table_of_old(rte: *mut pg_sys::RangeTblEntry) -> Option<(*mut pg_sys::RangeTblEntry, *mut pg_sys::Query)> {
    // SAFETY: a live entry; an old reading is a UNION ALL whose first leg is a query of the table alone.
    unsafe {
        if (*rte).rtekind != pg_sys::RTEKind::RTE_SUBQUERY || (*rte).enrname.is_null() {
            return None;
        }
        let is_old = Node::from_raw(rte).and_then(tag::read).is_some_and(|(_, reading)| reading == Reading::Old);
        let first = |query: *mut pg_sys::Query| list::iter::<pg_sys::RangeTblEntry>((*query).rtable).next();
        let leg = if is_old { first((*rte).subquery)? } else { return None };
        Some((first((*leg).subquery)?, (*leg).subquery))
    }
}

/// Whether statistics of a column may be shown to any operator, as `all_rows_selectable` in selfuncs.c decides: the user
/// the query is checked as may SELECT the column, and no policy or security barrier hides rows. If not, only leakproof
/// functions get to see them.
#[pg_guard]
unsafe extern "C-unwind" fn may_read_all(
    old: *mut pg_sys::RangeTblEntry,
    table: *mut pg_sys::RangeTblEntry,
    leg: *mut pg_sys::Query,
    column: pg_sys::AttrNumber,
) -> bool {
    // SAFETY: live entries; an entry's permissions stand in its own query.
    unsafe {
        let hides_rows = [old, table].into_iter().any(|entry| !(*entry).securityQuals.is_null());
        if hides_rows || (*table).perminfoindex == 0 {
            return false;
        }
        let checked_as = (*pg_sys::getRTEPermissionInfo((*leg).rteperminfos, table)).checkAsUser;
        let user = if checked_as == pg_sys::InvalidOid { pg_sys::GetUserId() } else { checked_as };
        let (relid, select) = ((*table).relid, pg_sys::ACL_SELECT as pg_sys::AclMode);
        let ok = pg_sys::AclResult::ACLCHECK_OK;
        pg_sys::pg_class_aclcheck(relid, user, select) == ok
            || pg_sys::pg_attribute_aclcheck(relid, column, user, select) == ok
    }
}

/// How a relation's entry is read, if it is one of ours.
unsafe fn relation_reading(rte: *mut pg_sys::RangeTblEntry) -> Option<Reading> {
    // SAFETY: a live entry.
    unsafe {
        if (*rte).enrname.is_null() || (*rte).rtekind != pg_sys::RTEKind::RTE_RELATION {
            return None;
        }
        Node::from_raw(rte).and_then(tag::read).map(|(_, reading)| reading)
    }
}

/// Whether a relation is a partition or another child that is read with its parent, from whose entry it has its tag.
unsafe fn is_child(root: *mut pg_sys::PlannerInfo, rel: *mut pg_sys::RelOptInfo) -> bool {
    // SAFETY: a member of an appended relation has a description of how.
    unsafe {
        (*rel).reloptkind == pg_sys::RelOptKind::RELOPT_OTHER_MEMBER_REL
            && (**(*root).append_rel_array.add((*rel).relid as usize)).parent_reloid != pg_sys::InvalidOid
    }
}

/// No index, no statistics, no NOT NULL: only the number of pending versions is known.
unsafe fn forget_table(rel: *mut pg_sys::RelOptInfo, pending: f64) {
    // SAFETY: plain fields of a RelOptInfo under construction.
    unsafe {
        (*rel).indexlist = std::ptr::null_mut();
        (*rel).statlist = std::ptr::null_mut();
        (*rel).notnullattnums = std::ptr::null_mut();
        (*rel).tuples = pending;
        (*rel).pages = (pending / 100.0).ceil() as pg_sys::BlockNumber;
        (*rel).allvisfrac = 0.0;
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn replace_paths(root: *mut pg_sys::PlannerInfo, rel: *mut pg_sys::RelOptInfo) {
    // SAFETY: the planner is about to choose among `pathlist`; nothing refers to the old paths yet.
    unsafe {
        debug_assert!(node::is_a(rel, pg_sys::NodeTag::T_RelOptInfo));
        // By a condition that is false of any row (see `plan` in build.rs): then below an Append it has no target.
        if pg_sys::is_dummy_rel(rel) {
            return;
        }
        (*rel).pathlist = std::ptr::null_mut();
        (*rel).partial_pathlist = std::ptr::null_mut();
        (*rel).consider_parallel = false;
        (*root).fkey_list = without_foreign_keys((*root).fkey_list, (*rel).relid);
        delta_path::add_paths(root, rel);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn wrap_paths(root: *mut pg_sys::PlannerInfo, rel: *mut pg_sys::RelOptInfo, pending: f64) {
    // SAFETY: as in `replace_paths`.
    unsafe {
        if !pg_sys::is_dummy_rel(rel) {
            old_path::wrap_paths(root, rel, pending);
        }
    }
}

/// A foreign key says of the table that each row has one partner. Of its delta it says nothing, and would make the
/// planner expect as many joined rows as the other table has.
unsafe fn without_foreign_keys(keys: *mut pg_sys::List, relid: pg_sys::Index) -> *mut pg_sys::List {
    // SAFETY: a list of ForeignKeyOptInfo; the join phase reads it after all base relations have paths.
    unsafe {
        let others = list::iter::<pg_sys::ForeignKeyOptInfo>(keys);
        list::make(others.filter(|&key| (*key).con_relid != relid && (*key).ref_relid != relid))
    }
}
