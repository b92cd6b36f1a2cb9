//! The whole contents of a view against its stored rows.
//!
//! Input: the new rows (`contents`), all of them in memory or those of some parts in each pass.
//! 1. A scan takes the stored rows in their order. A row whose image is among the new ones stays and takes it. Another takes a
//!    new row of its key, by which it is going to be replaced; without one it is going to be deleted.
//! 2. What is to be written to stored rows waits, so that the share of rows that change is known before the first is
//!    written. It is written in the order of the rows' places, page by page. Should it not fit into work_mem, parts of it are
//!    written while the scan goes on, which shows none of that.
//! 3. New rows that no stored row has taken are inserted, in the order of the index.
//!
//! A stored row's values are kept only where writing asks for them: for the view's readers, or for other unique indexes.

use super::change::{Change, Place};
use super::contents::Contents;
use super::delta::Delta;
use super::net::Taken;
use crate::exec::store::{Search, Store};
use crate::pg::interrupt;
use crate::pg::progress::{self, Phase};
use pgrx::pg_sys;

/// A stored row that goes, and the new one that takes its place; null for none.
struct Exchange {
    place: Place,
    /// Null where nobody asks for the values.
    old: pg_sys::MinimalTuple,
    new: pg_sys::MinimalTuple,
}

/// What is to be written to stored rows.
#[derive(Default)]
struct Waiting {
    exchanges: Vec<Exchange>,
    bytes: usize,
    /// Stored rows seen so far, and those of them that are replaced.
    seen: u64,
    replaced: u64,
}

impl Waiting {
    fn add(&mut self, exchange: Exchange) {
        self.replaced += u64::from(!exchange.new.is_null());
        self.bytes += size_of::<Exchange>();
        if !exchange.old.is_null() {
            // SAFETY: a tuple just formed.
            self.bytes += unsafe { (*exchange.old).t_len } as usize;
        }
        self.exchanges.push(exchange);
    }

    fn overflows(&self) -> bool {
        // SAFETY: a setting.
        self.bytes > unsafe { pg_sys::work_mem } as usize * 1024
    }

    fn share(&self) -> f64 {
        self.replaced as f64 / self.seen.max(1) as f64
    }
}

impl Delta {
    /// Makes the contents of the view the rows of `contents`.
    ///
    /// # Safety
    /// The rows have the view's shape.
    pub unsafe fn apply_contents(&mut self, writer: &mut Store, mut contents: Contents) {
        let mut stored = writer.search(None);
        while contents.next_pass(&self.reader) {
            let mut waiting = Waiting::default();
            progress::phase(Phase::Comparing, writer.estimated_rows());
            stored.start([]);
            // SAFETY: as the caller says; rows in memory live until the end of the pass.
            unsafe {
                self.compare(writer, &mut stored, &mut contents, &mut waiting);
                let changes = waiting.exchanges.len() as u64 + contents.untaken();
                progress::phase(Phase::Writing, Some(changes));
                self.prepare(writer, Some(changes));
                self.exchange(writer, &mut waiting, Some(&mut progress::Rows::default()));
            }
            contents.end_pass(&self.reader, &self.grouping);
        }
        stored.end();
        let runs = contents.into_left(&self.reader).finish(&self.reader, &mut self.grouping);
        // SAFETY: as the caller says.
        unsafe { self.write(writer, runs, false) };
    }

    /// Lets stored rows take new ones. What is to be written then waits, as far as there is memory.
    unsafe fn compare(
        &mut self,
        writer: &mut Store,
        stored: &mut Search,
        contents: &mut Contents,
        waiting: &mut Waiting,
    ) {
        let (columns, needs_old, mut shown) = (self.reader.shape.len(), self.needs_old(), progress::Rows::default());
        while let Some(slot) = stored.next() {
            let row = slot.row(columns);
            shown.add(1);
            // SAFETY: a stored row of the view, live until the next one.
            let new = match unsafe { contents.take(&self.reader, row) } {
                None => continue,
                Some(Taken::Same) => {
                    waiting.seen += 1;
                    continue;
                }
                Some(Taken::Other(new)) => new.tuple,
                Some(Taken::Nothing) => std::ptr::null_mut(),
            };
            waiting.seen += 1;
            // SAFETY: as above; the row has the descriptor's columns.
            unsafe {
                let mut old = std::ptr::null_mut();
                if needs_old {
                    old = pg_sys::heap_form_minimal_tuple(self.reader.desc, row.values.as_ptr(), row.nulls.as_ptr(), 0);
                }
                waiting.add(Exchange { place: Place::of((*slot.as_ptr()).tts_tid), old, new });
                if waiting.overflows() {
                    self.prepare(writer, None);
                    self.exchange(writer, waiting, None);
                }
            }
        }
    }

    unsafe fn exchange(&mut self, writer: &mut Store, waiting: &mut Waiting, mut shown: Option<&mut progress::Rows>) {
        writer.expect_share(waiting.share());
        for Exchange { place, old, new } in waiting.exchanges.drain(..) {
            interrupt::check();
            shown.iter_mut().for_each(|shown| shown.add(1));
            // SAFETY: a stored row, by its place, and a live row in memory.
            unsafe {
                let gone = Change { tuple: old, weight: -1, image: 0, group: 0, place };
                if new.is_null() {
                    self.delete(writer, &gone);
                } else {
                    self.replace(writer, &gone, &Change { tuple: new, weight: 1, place: Place::NONE, ..gone });
                }
                if !old.is_null() {
                    pg_sys::pfree(old.cast());
                }
            }
        }
        waiting.bytes = 0;
    }
}
