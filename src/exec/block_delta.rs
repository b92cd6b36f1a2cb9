//! The deltas of blocks below the top, handed from one run of a refresh to the next in memory.
//!
//! The run that brings a block's hidden relation up to date puts in what it writes there; the runs of the blocks that read it scan that,
//! each as often as it likes. Beyond work_mem a delta goes to a temporary file.

use super::weighted::{self, Layout};
use crate::pg::memory;
use crate::pg::slot::Slot;
use pgrx::pg_sys::{self, Datum};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// The deltas of one refresh, alive until the end of it.
pub struct BlockDeltas {
    view: pg_sys::Oid,
    of: RefCell<Vec<Rc<Delta>>>,
    /// Where they are kept.
    context: pg_sys::MemoryContext,
}

/// What one hidden relation has gained and lost.
struct Delta {
    relation: pg_sys::Oid,
    /// Weighted rows of the relation.
    desc: pg_sys::TupleDesc,
    rows: *mut pg_sys::Tuplestorestate,
    count: Cell<u64>,
}

impl BlockDeltas {
    /// None yet, of a refresh of `view`.
    pub fn new(view: pg_sys::Oid) -> Self {
        // SAFETY: a plain global.
        Self { view, of: RefCell::default(), context: unsafe { pg_sys::CurrentMemoryContext } }
    }

    /// The view, which is no block below the top.
    pub fn view(&self) -> pg_sys::Oid {
        self.view
    }

    /// The number of rows in the delta of a hidden relation.
    pub fn rows(&self, relation: pg_sys::Oid) -> u64 {
        self.find(relation).map_or(0, |delta| delta.count.get())
    }

    fn find(&self, relation: pg_sys::Oid) -> Option<Rc<Delta>> {
        self.of.borrow().iter().find(|delta| delta.relation == relation).cloned()
    }

    /// Begins the delta of a hidden relation with this row type.
    ///
    /// # Safety
    /// The descriptor is alive.
    pub unsafe fn begin(&self, relation: pg_sys::Oid, desc: pg_sys::TupleDesc) -> BlockDeltaWriter {
        // SAFETY: the context lives as long as the refresh; the relation is open.
        let delta = unsafe {
            memory::within(self.context, || {
                let (desc, rows) = (with_weight(desc), pg_sys::tuplestore_begin_heap(true, false, pg_sys::work_mem));
                pg_sys::tuplestore_set_eflags(rows, pg_sys::EXEC_FLAG_REWIND as i32);
                Rc::new(Delta { relation, desc, rows, count: 0.into() })
            })
        };
        self.of.borrow_mut().push(delta.clone());
        // SAFETY: the descriptor lives as long as the delta.
        let row = unsafe { Slot::make(delta.desc, &raw const pg_sys::TTSOpsVirtual) };
        BlockDeltaWriter { delta, row }
    }

    /// A scan of the delta of a hidden relation; None for what is no hidden relation, or has not changed.
    pub fn scan(&self, relation: pg_sys::Oid) -> Option<BlockDeltaScan> {
        let delta = self.find(relation)?;
        // SAFETY: a live store that can be rewound; the first pointer is the writer's.
        let pointer = unsafe { pg_sys::tuplestore_alloc_read_pointer(delta.rows, pg_sys::EXEC_FLAG_REWIND as i32) };
        let mut scan = BlockDeltaScan { delta, pointer };
        scan.rescan();
        Some(scan)
    }

    /// Frees them.
    pub fn end(self) {
        for delta in self.of.into_inner() {
            // SAFETY: no run uses it any more.
            unsafe { pg_sys::tuplestore_end(delta.rows) };
        }
    }
}

/// Takes in what a run writes.
pub struct BlockDeltaWriter {
    delta: Rc<Delta>,
    row: Slot,
}

impl BlockDeltaWriter {
    /// Adds a row of the relation with a weight.
    pub fn put(&mut self, slot: Slot, weight: i64) {
        // SAFETY: a slot of the relation's rows; the store copies the row.
        unsafe {
            let layout = Layout::described(self.delta.desc);
            self.row.store(slot.row(layout.columns()), &[Datum::from(weight)]);
            pg_sys::tuplestore_puttupleslot(self.delta.rows, self.row.as_ptr());
        }
        self.delta.count.set(self.delta.count.get() + 1);
    }

    pub fn end(self) {
        self.row.drop();
    }
}

/// Reads a delta.
pub struct BlockDeltaScan {
    delta: Rc<Delta>,
    pointer: i32,
}

impl BlockDeltaScan {
    /// The row type: weighted rows of the relation.
    pub fn desc(&self) -> pg_sys::TupleDesc {
        self.delta.desc
    }

    /// Puts the next row into a slot for minimal tuples, where it stays until the next call; false at the end.
    pub fn next(&mut self, slot: Slot) -> bool {
        // SAFETY: a live store with this pointer.
        unsafe {
            pg_sys::tuplestore_select_read_pointer(self.delta.rows, self.pointer);
            pg_sys::tuplestore_gettupleslot(self.delta.rows, true, false, slot.as_ptr())
        }
    }

    pub fn rescan(&mut self) {
        // SAFETY: as above.
        unsafe {
            pg_sys::tuplestore_select_read_pointer(self.delta.rows, self.pointer);
            pg_sys::tuplestore_rescan(self.delta.rows);
        }
    }
}

unsafe fn with_weight(desc: pg_sys::TupleDesc) -> pg_sys::TupleDesc {
    // SAFETY: a live descriptor; every column of the new one is initialised.
    unsafe {
        let natts = (*desc).natts as i16;
        let wide = pg_sys::CreateTemplateTupleDesc(i32::from(natts) + 1);
        (1..=natts).for_each(|number| pg_sys::TupleDescCopyEntry(wide, number, desc, number));
        let (typid, typmod, _) = weighted::ATTRIBUTE;
        pg_sys::TupleDescInitEntry(wide, natts + 1, c"weight".as_ptr(), typid, typmod, 0);
        wide
    }
}
