//! MERGE that moves rows between partitions.
//!
//! The server splits such an update into a delete and an insert and puts them into the transition tables of those two
//! events, but fires the statement triggers of the actions that MERGE names only: with none but UPDATE the move would
//! go unseen. So before the executor queues its last triggers ours are queued for the events that are missing. A user's
//! own triggers on them do not fire, as without us.

use super::triggers::Kind;
use crate::pg::list;
use pgrx::{pg_guard, pg_sys};
use std::ptr;

type Table = *mut pg_sys::ModifyTableState;
type Fire = unsafe fn(*mut pg_sys::EState, *mut pg_sys::ResultRelInfo, *mut pg_sys::TransitionCaptureState);

static mut NEXT: pg_sys::ExecutorFinish_hook_type = None;

unsafe extern "C-unwind" {
    // Not pgrx's binding: that one turns errors into panics and loses fields on the way.
    fn standard_ExecutorFinish(query: *mut pg_sys::QueryDesc);
}

/// Installs the hook; called once, in the postmaster.
pub fn register() {
    // SAFETY: single-threaded start-up.
    unsafe {
        NEXT = pg_sys::ExecutorFinish_hook;
        pg_sys::ExecutorFinish_hook = Some(executor_finish);
    }
}

unsafe extern "C-unwind" fn executor_finish(query: *mut pg_sys::QueryDesc) {
    // SAFETY: a running query's descriptor; plain frames; NEXT is set once at start-up.
    unsafe {
        let merges = (*query).operation == pg_sys::CmdType::CMD_MERGE;
        if merges || !(*(*query).estate).es_auxmodifytables.is_null() {
            complete(query);
        }
        match NEXT {
            Some(next) => next(query),
            None => standard_ExecutorFinish(query),
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn complete(query: *mut pg_sys::QueryDesc) {
    // SAFETY: the state trees of a running query.
    unsafe {
        let estate = (*query).estate;
        if (*estate).es_top_eflags & pg_sys::EXEC_FLAG_SKIP_TRIGGERS as i32 != 0 {
            return;
        }
        let mut tables: Vec<Table> = list::iter((*estate).es_auxmodifytables).collect();
        if (*(*query).planstate).type_ == pg_sys::NodeTag::T_ModifyTableState {
            tables.push((*query).planstate.cast());
        }
        tables.iter().filter(|&&table| moves_rows(table)).for_each(|&table| announce(estate, table, &tables));
    }
}

unsafe fn moves_rows(table: Table) -> bool {
    // SAFETY: a live state node; its relation is open.
    unsafe {
        let updates = (*table).mt_merge_subcommands & pg_sys::MERGE_UPDATE as i32 != 0;
        let form = (*(*(*table).rootResultRelInfo).ri_RelationDesc).rd_rel;
        let captured = !(*table).mt_transition_capture.is_null();
        updates && captured && (*form).relkind as u8 == pg_sys::RELKIND_PARTITIONED_TABLE
    }
}

unsafe fn announce(estate: *mut pg_sys::EState, table: Table, all: &[Table]) {
    use pg_sys::CmdType::{CMD_DELETE, CMD_INSERT};
    let events = [
        (Kind::Insert, CMD_INSERT, pg_sys::MERGE_INSERT, pg_sys::ExecASInsertTriggers as Fire),
        (Kind::Delete, CMD_DELETE, pg_sys::MERGE_DELETE, pg_sys::ExecASDeleteTriggers as Fire),
    ];
    for (kind, command, action, fire) in events {
        // SAFETY: live state nodes.
        unsafe {
            let target = relid(table);
            let fires = |&other: &Table| {
                let acts = (*other).operation == command || (*other).mt_merge_subcommands & action as i32 != 0;
                acts && relid(other) == target
            };
            // What the statement does to the same table elsewhere shares the transition table.
            if !all.iter().any(fires) {
                queue(estate, table, kind, fire);
            }
        }
    }
}

unsafe fn relid(table: Table) -> pg_sys::Oid {
    // SAFETY: a live state node; its relation is open.
    unsafe { (*(*(*table).rootResultRelInfo).ri_RelationDesc).rd_id }
}

/// Queues our trigger of this kind alone.
unsafe fn queue(estate: *mut pg_sys::EState, table: Table, kind: Kind, fire: Fire) {
    // SAFETY: copies of the table's description that outlive the call, which keeps none of them.
    unsafe {
        let mut target = ptr::read((*table).rootResultRelInfo);
        let Some(trigger) = find(target.ri_TrigDesc, kind) else { return };
        let mut trigger = ptr::read(trigger);
        let mut only = pg_sys::TriggerDesc { triggers: &raw mut trigger, numtriggers: 1, ..Default::default() };
        only.trig_insert_after_statement = kind == Kind::Insert;
        only.trig_delete_after_statement = kind == Kind::Delete;
        target.ri_TrigDesc = &raw mut only;
        fire(estate, &raw mut target, (*table).mt_transition_capture);
    }
}

unsafe fn find(desc: *mut pg_sys::TriggerDesc, kind: Kind) -> Option<*mut pg_sys::Trigger> {
    // SAFETY: null, or an array with its length.
    unsafe {
        let desc = desc.as_ref()?;
        let triggers = (0..desc.numtriggers as usize).map(|i| desc.triggers.add(i));
        triggers.into_iter().find(|&trigger| (*trigger).tgisinternal && Kind::of((*trigger).tgtype) == Some(kind))
    }
}
