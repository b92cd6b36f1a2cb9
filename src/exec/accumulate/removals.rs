//! The rows of a group's delta with negative weights, which wait until its positive ones are in (fold/mod.rs says why).

use crate::exec::node::Node;
use crate::pg::interrupt;
use crate::pg::memory::within;
use crate::pg::slot::Slot;
use pgrx::pg_sys;

pub struct Removals {
    /// Null until the first row; spills when large.
    store: *mut pg_sys::Tuplestorestate,
    row: Slot,
    node: Node,
    waiting: bool,
}

impl Removals {
    /// `desc` describes the input rows.
    pub fn new(desc: pg_sys::TupleDesc, node: Node) -> Self {
        // SAFETY: the slot lives as long as the query.
        let row = unsafe {
            Slot::new(pg_sys::ExecInitExtraTupleSlot(node.estate(), desc, &raw const pg_sys::TTSOpsMinimalTuple))
        };
        Self { store: std::ptr::null_mut(), row, node, waiting: false }
    }

    pub fn put(&mut self, slot: Slot) {
        // SAFETY: the store lives in the query's context until `end`; it copies the row.
        unsafe {
            if self.store.is_null() {
                let begin = || pg_sys::tuplestore_begin_heap(false, false, pg_sys::work_mem);
                self.store = within((*self.node.estate()).es_query_cxt, begin);
            }
            pg_sys::tuplestore_puttupleslot(self.store, slot.as_ptr());
        }
        self.waiting = true;
    }

    /// Hands out every row once, and forgets them.
    pub fn drain(&mut self, mut take: impl FnMut(Slot)) {
        if !self.waiting {
            return;
        }
        // SAFETY: the store exists since a row waits; a row stays valid until the next is fetched.
        unsafe {
            while pg_sys::tuplestore_gettupleslot(self.store, true, false, self.row.as_ptr()) {
                interrupt::check();
                take(self.row);
            }
            self.row.clear();
            pg_sys::tuplestore_clear(self.store);
        }
        self.waiting = false;
    }

    pub fn end(&mut self) {
        if !self.store.is_null() {
            self.row.clear();
            // SAFETY: begun here, ended once.
            unsafe { pg_sys::tuplestore_end(self.store) };
            self.store = std::ptr::null_mut();
        }
    }
}
