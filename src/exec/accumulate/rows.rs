//! A sorted stream of weighted rows, read one ahead so that the end of a group is seen without consuming the next.

use crate::exec::node::Child;
use crate::exec::weighted::Layout;
use crate::pg::image::Row;
use crate::pg::memory::within;
use crate::pg::slot::Slot;

pub struct Rows {
    child: Child,
    /// The row looked at; None when there is none yet, or none left.
    ahead: Option<Slot>,
    ended: bool,
    layout: Layout,
}

impl Rows {
    pub fn new(child: Child) -> Self {
        Self { child, ahead: None, ended: false, layout: Layout::of_child(child) }
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

    /// A row's columns and its weight.
    pub fn split<'a>(&self, slot: &'a Slot) -> (Row<'a>, i64) {
        self.layout.split(slot)
    }
}
