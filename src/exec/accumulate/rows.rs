//! A sorted stream of weighted rows, read one ahead so that the end of a group is seen without consuming the next.

use crate::error::cannot_happen;
use crate::exec::node::Child;
use crate::pg::image::Row;
use crate::pg::memory::within;
use crate::pg::slot::Slot;
use pgrx::pg_sys;

pub struct Rows {
    child: Child,
    /// The row looked at; null when there is none yet, or none left.
    ahead: *mut pg_sys::TupleTableSlot,
    ended: bool,
    width: usize,
}

impl Rows {
    pub fn new(child: Child) -> Self {
        // SAFETY: a begun child has a result descriptor.
        let width = unsafe { (*child.desc()).natts as usize };
        Self { child, ahead: std::ptr::null_mut(), ended: false, width }
    }

    /// The row at hand, which stays valid until `skip`.
    pub fn peek(&mut self) -> Option<Slot> {
        if self.ahead.is_null() && !self.ended {
            let child = self.child;
            // SAFETY: nodes run in their own query's context, which for a second plan is not the current one.
            self.ahead = unsafe { within(child.query_context(), || child.next()) };
            self.ended = self.ahead.is_null();
        }
        // SAFETY: the child's slot lives as long as the child.
        (!self.ahead.is_null()).then(|| unsafe { Slot::new(self.ahead) })
    }

    pub fn skip(&mut self) {
        self.ahead = std::ptr::null_mut();
    }

    /// A row's columns, and its weight, the last of them.
    pub fn split<'a>(&self, slot: Slot) -> (Row<'a>, i64) {
        let row = slot.row(self.width);
        let weight = row.at(self.width - 1);
        if weight.isnull {
            cannot_happen("row without a weight");
        }
        (row, weight.value.value() as i64)
    }
}
