//! The delta of a stream table, written by its own refresh for the views that read it.

use super::buffer::{Page, Writer};
use super::image::Image;
use crate::catalog::source;
use crate::pg::relation::Relation;
use crate::pg::slot::Slot;
use crate::pg::{interrupt, server};
use crate::wakeup;
use pgrx::pg_sys;

/// Writes a stream table's change buffer. After an error nothing needs to be done.
pub struct DeltaWriter {
    view: pg_sys::Oid,
    writer: Writer,
    image: Image,
    _page: Box<Page>,
}

impl DeltaWriter {
    /// None when no view reads the stream table.
    pub fn begin(view: pg_sys::Oid) -> Option<Self> {
        let source = source::get(view)?;
        let relation = Relation::open(view, pg_sys::AccessShareLock);
        let mut page = Box::new(Page::new());
        let memory: *mut Page = &raw mut *page;
        // SAFETY: the relation is open; the page lives as long as the writer and is nobody else's.
        unsafe {
            let image = Image::new(relation.tuple_desc(), relation.tuple_desc(), &source.columns);
            let segment = source.segments[source.active];
            let mut writer = None;
            server::guarded(|| writer = Some(Writer::begin(segment, memory, pg_sys::InvalidOid)));
            Some(Self { view, writer: writer?, image, _page: page })
        }
    }

    /// Adds a row of the view, in a slot of any kind, `weight` times (removes it when negative).
    pub fn put(&mut self, slot: Slot, weight: i64) {
        // SAFETY: the slot holds a row of the view; nothing in the closure has a destructor or panics.
        unsafe {
            server::guarded(|| {
                self.writer.next_command();
                for _ in 0..weight.unsigned_abs() {
                    interrupt::check_inside_guard();
                    self.image.form(&mut self.writer, slot.as_ptr(), weight);
                }
            });
        }
    }

    /// Writes out what is still in memory.
    pub fn end(mut self) {
        // SAFETY: ends the writer.
        unsafe { server::guarded(|| self.writer.finish()) };
        wakeup::touch_refreshed(self.view);
    }
}
