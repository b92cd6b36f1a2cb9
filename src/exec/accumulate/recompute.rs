//! Groups whose fold could not be finished from the delta: their keys wait here until the input is exhausted, then a
//! second plan gives their rows.
//!
//! The keys are in the order of the input, and the plan's rows are sorted the same way, so the two are merged. The
//! plan reads the keys as an ephemeral relation, which is why it can only start once they are all here. It is a query of
//! its own, which EXPLAIN shows below the node: what it did where it ran, and what it would be under VERBOSE.

use super::plan::KEYS;
use super::rows::Rows;
use crate::error::cannot_happen;
use crate::exec::node::{Child, Explain, Node};
use crate::pg::image::Row;
use crate::pg::memory::within;
use crate::pg::slot::Slot;
use pgrx::pg_sys;
use std::ffi::CStr;

pub struct Recompute {
    plan: *mut pg_sys::PlannedStmt,
    /// Null until the first key.
    keys: *mut pg_sys::Tuplestorestate,
    desc: pg_sys::TupleDesc,
    query: *mut pg_sys::QueryDesc,
    /// The key fetched last.
    key: Slot,
    node: Node,
}

impl Recompute {
    /// `desc` describes the keys; `plan` is null where it cannot be needed.
    pub fn new(plan: *mut pg_sys::PlannedStmt, desc: pg_sys::TupleDesc, node: Node) -> Self {
        // SAFETY: the slot lives as long as the query.
        let key = unsafe {
            Slot::new(pg_sys::ExecInitExtraTupleSlot(node.estate(), desc, &raw const pg_sys::TTSOpsMinimalTuple))
        };
        Self { plan, keys: std::ptr::null_mut(), desc, query: std::ptr::null_mut(), key, node }
    }

    /// Remembers a group, whose key is in `slot`.
    pub fn put(&mut self, slot: Slot) {
        self.open_keys();
        // SAFETY: the store lives until `end`; it copies the key.
        unsafe { pg_sys::tuplestore_puttupleslot(self.keys, slot.as_ptr()) };
    }

    fn open_keys(&mut self) {
        if self.keys.is_null() {
            // SAFETY: the store lives in the query's context until `end`.
            unsafe {
                let begin = || pg_sys::tuplestore_begin_heap(true, false, pg_sys::work_mem);
                self.keys = within((*self.node.estate()).es_query_cxt, begin);
            }
        }
    }

    /// Starts the plan only to be shown.
    pub fn preview(&mut self) {
        if !self.plan.is_null() {
            self.open_keys();
            self.start(pg_sys::EXEC_FLAG_EXPLAIN_ONLY);
        }
    }

    pub fn is_started(&self) -> bool {
        !self.query.is_null()
    }

    /// Shows the plan, if it was started.
    pub fn explain(&self, to: Explain, label: &CStr) {
        if self.is_started() {
            // SAFETY: started, and ended by `end`.
            unsafe { to.nested_plan(label, self.query) };
        }
    }

    /// Starts the plan over the keys put so far; None if there are none.
    pub fn begin(&mut self) -> Option<Rows> {
        if self.keys.is_null() {
            return None;
        }
        if self.plan.is_null() {
            cannot_happen("no plan to recompute groups with");
        }
        self.start(0);
        // SAFETY: just started, with the state of its plan.
        Some(Rows::new(unsafe { Child::of((*self.query).planstate) }))
    }

    fn start(&mut self, flags: u32) {
        // SAFETY: the plan outlives the query; its executor state is ended by `end`.
        unsafe {
            within((*self.node.estate()).es_query_cxt, || {
                self.query = self.query_desc();
                pg_sys::standard_ExecutorStart(self.query, (flags | pg_sys::EXEC_FLAG_SKIP_TRIGGERS) as i32);
            });
        }
    }

    /// The next group's key; None when all have been fetched.
    pub fn next_key(&mut self) -> Option<Row<'_>> {
        // SAFETY: the plan reads the store through a read pointer of its own; pointer 0 is ours.
        unsafe {
            pg_sys::tuplestore_select_read_pointer(self.keys, 0);
            pg_sys::tuplestore_gettupleslot(self.keys, true, true, self.key.as_ptr())
                .then(|| self.key.row((*self.desc).natts as usize))
        }
    }

    pub fn end(&mut self) {
        // SAFETY: started by `begin`, ended once.
        unsafe {
            if !self.query.is_null() {
                if (*(*self.query).estate).es_top_eflags & pg_sys::EXEC_FLAG_EXPLAIN_ONLY as i32 == 0 {
                    pg_sys::standard_ExecutorFinish(self.query);
                }
                pg_sys::standard_ExecutorEnd(self.query);
                pg_sys::FreeQueryDesc(self.query);
                self.query = std::ptr::null_mut();
            }
            if !self.keys.is_null() {
                pg_sys::tuplestore_end(self.keys);
                self.keys = std::ptr::null_mut();
            }
        }
    }

    unsafe fn query_desc(&self) -> *mut pg_sys::QueryDesc {
        // SAFETY: everything is made in the query's context, which outlives the plan's execution.
        unsafe {
            let estate = self.node.estate();
            let environment = pg_sys::create_queryEnv();
            let relation: *mut pg_sys::EphemeralNamedRelationData =
                pg_sys::palloc0(size_of::<pg_sys::EphemeralNamedRelationData>()).cast();
            (*relation).md.name = KEYS.as_ptr().cast_mut();
            (*relation).md.tupdesc = self.desc;
            (*relation).md.enrtype = pg_sys::EphemeralNameRelationType::ENR_NAMED_TUPLESTORE;
            (*relation).md.enrtuples = pg_sys::tuplestore_tuple_count(self.keys) as f64;
            (*relation).reldata = self.keys.cast();
            pg_sys::register_ENR(environment, relation);
            pg_sys::CreateQueryDesc(
                self.plan,
                (*estate).es_sourceText,
                (*estate).es_snapshot,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
                (*estate).es_param_list_info,
                environment,
                (*estate).es_instrument,
            )
        }
    }
}
