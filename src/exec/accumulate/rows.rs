//! A sorted stream of weighted rows, read one ahead so that the end of a group is seen without consuming the next.

use crate::error::cannot_happen;
use crate::exec::node::Child;
use crate::pg::image::Row;
use crate::pg::memory::within;
use crate::pg::slot::Slot;

pub struct Rows {
    child: Child,
    /// The row looked at; None when there is none yet, or none left.
    ahead: Option<Slot>,
    ended: bool,
    width: usize,
}

impl Rows {
    pub fn new(child: Child) -> Self {
        // SAFETY: a begun child has a result descriptor.
        let width = unsafe { (*child.desc()).natts as usize };
        Self { child, ahead: None, ended: false, width }
    }

    /// The row at hand, which stays valid until `skip`.
    pub fn peek(&mut self) -> Option<Slot> {
        if self.ahead.is_none() && !self.ended {
            let child = self.child;
            // SAFETY: nodes run in their own query's context, which for a second plan is not the current one.
            self.ahead = unsafe { within(child.query_context(), || child.next()) };
            self.ended = self.ahead.is_none();
        }
        self.ahead
    }

    pub fn skip(&mut self) {
        self.ahead = None;
    }

    /// A row's columns, and its weight, the last of them.
    pub fn split<'a>(&self, slot: &'a Slot) -> (Row<'a>, i64) {
        let row = slot.row(self.width);
        let weight = row.at(self.width - 1);
        if weight.isnull {
            cannot_happen("row without a weight");
        }
        (row, weight.value.value() as i64)
    }
}
