//! Many changes in one run.
//!
//! Rows to insert wait in a batch, which the server stores page by page with one WAL record each. A batch keeps the order
//! in which its rows came, and so do the index entries made for it: that of the key or of the hash.
//!
//! The new version of a row is cheap when it fits on the page of the old one and no indexed column changes: no
//! index then needs a new entry (heap-only). Pages are full when they were written by a population. So when a good part
//! of the table changes at once, a new version that its page has no room for is deleted and inserted into a new page, and
//! these pages keep as much room as the next run of this size needs. The pages that rows have left have room as well, once
//! the old versions are gone. Thus a table that is changed like this again and again soon has room everywhere.
//!
//! The table's own fillfactor is not touched; the server honours it in populations and inserts.

use super::Store;
use super::batch::{Batch, on_page};
use crate::pg::image::Row;
use crate::pg::slot::Slot;
use crate::pg::{interrupt, memory, server};
use pgrx::pg_sys;

/// Fewer changes are written one by one.
pub const MANY: f64 = 256.0;
/// Rows are moved when this share of the table changes.
const MOVE_FROM: f64 = 0.2;
/// Pages which rows are moved to have room for this many times the share that changes now. Not for more: the server prunes a
/// page that is visited only when less than a tenth of it is free, and the next versions need what the last ones leave.
const MARGIN: f64 = 1.1;
/// No page is added for the sake of room when the table takes this many times what its rows need.
const SPREAD_UNTIL: f64 = 3.6;
/// Pages added at once.
const EXTEND_BY: usize = 8;
/// What the header of a page leaves.
const PAGE: usize = pg_sys::BLCKSZ as usize - 24;
/// Longer rows are left to the server: it prunes a page of its own accord when less than a tenth is free.
const LONGEST: usize = pg_sys::BLCKSZ as usize / 10;

/// The changes of one run, when they are many.
pub struct Bulk {
    batch: Batch,
    /// The part of the stored rows that changes, as far as that is known.
    share: f64,
    /// The table is an ordinary heap.
    heap: bool,
    /// Updates may be heap-only: no index has columns that they change.
    heap_only: bool,
    /// Where moved rows go; None until the first are, or when they are packed as usual.
    spread: Option<Spread>,
    packed: bool,
    filling: Filling,
}

/// Whether the table is filled from nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Filling {
    No,
    /// It is, but its rows fit into a batch so far.
    Begun,
    /// Rows have been stored which the indexes do not have.
    Unindexed,
}

/// Pages that are filled in part.
struct Spread {
    /// Bytes per page.
    fill: usize,
    /// Blocks that the table may have.
    limit: u32,
    /// Pages added and not yet used.
    spare: Vec<u32>,
    /// The page last taken from the free space map.
    mapped: Option<u32>,
}

impl Bulk {
    fn moves(&self, length: usize) -> bool {
        self.heap && self.share >= MOVE_FROM && length <= LONGEST
    }

    fn is_full(&self) -> bool {
        let fill = self.spread.as_ref().map_or(usize::MAX, |spread| spread.fill);
        self.batch.is_full() || self.batch.bytes() >= fill
    }
}

impl Store {
    /// Many rows are going to be written. Updates leave the columns `kept` (0-based) alone.
    pub fn expect_many(&mut self, kept: &[usize]) {
        if self.bulk.is_some() {
            return;
        }
        // SAFETY: an open table.
        unsafe {
            let heap = (*(*self.table).rd_rel).relam == pg_sys::HEAP_TABLE_AM_OID;
            let batch = memory::within((*self.estate).es_query_cxt, || Batch::new(self.desc()));
            let heap_only = heap && !blocks_heap_only(self.table, kept);
            let filling = Filling::No;
            self.bulk = Some(Bulk { batch, share: 0.0, heap, heap_only, spread: None, packed: false, filling });
        }
    }

    /// All rows that the table is to have are going to be inserted, and nothing is searched for meanwhile. Nobody else can see the
    /// table, whose file this transaction has made. Its indexes are built at `end`, unless that is not worth it.
    pub fn expect_all(&mut self) {
        self.expect_many(&[]);
        self.bulk.iter_mut().for_each(|bulk| bulk.filling = Filling::Begun);
    }

    /// The part of the stored rows that is going to change.
    pub fn expect_share(&mut self, share: f64) {
        if let Some(bulk) = &mut self.bulk {
            bulk.share = share.min(1.0);
        }
    }

    /// Puts a row into the batch of a run of many changes.
    ///
    /// # Safety
    /// A live row of the table.
    pub(super) unsafe fn enqueue(&mut self, mut bulk: Bulk, row: Row) {
        // SAFETY: as the caller says.
        unsafe { bulk.batch.form(row) };
        self.keep(&mut bulk);
        self.bulk = Some(bulk);
    }

    fn keep(&mut self, bulk: &mut Bulk) {
        bulk.batch.keep();
        if bulk.is_full() {
            self.flush(bulk);
        }
    }

    /// Writes the new version of a row to the page of the old one, if there is room, or to another.
    ///
    /// # Safety
    /// As `update`.
    pub(super) unsafe fn update_or_move(&mut self, mut bulk: Bulk, tid: pg_sys::ItemPointerData, slot: Slot) {
        // SAFETY: a row of the table, which is open; the tid is of a stored row.
        unsafe {
            let new = bulk.batch.form(slot.row((*self.desc()).natts as usize));
            let length = bulk.batch.formed_length();
            if !bulk.moves(length) || has_room(self.table, tid, length) {
                self.update_in_place(tid, new);
                bulk.batch.forget();
            } else {
                self.remove(tid);
                self.begin_spread(&mut bulk, length);
                self.keep(&mut bulk);
            }
        }
        self.bulk = Some(bulk);
    }

    /// Builds the indexes, which have no page yet or their first one only, as TRUNCATE does. It compares keys as the owner of the
    /// table, by functions of operator classes, which nobody but a superuser can make.
    unsafe fn build_indexes(&self) {
        // SAFETY: set by ExecOpenIndices, one for each open index.
        let infos = unsafe { (*self.result).ri_IndexRelationInfo };
        // SAFETY: open indexes. One that is not ready is being made and gets no entries.
        let is_ready = |index: pg_sys::Relation| unsafe { (*(*index).rd_index).indisready };
        for (position, &index) in self.indexes().iter().enumerate().filter(|&(_, &index)| is_ready(index)) {
            // SAFETY: an open index of the table and what the executor knows of it. Nothing has read the index, so that nothing of
            // it is remembered, and its file is as new as the table's.
            unsafe {
                if has_pages(index) {
                    pg_sys::RelationTruncate(index, 0);
                }
                pg_sys::index_build(self.table, index, *infos.add(position), true, false);
            }
        }
    }

    fn begin_spread(&self, bulk: &mut Bulk, length: usize) {
        if bulk.spread.is_some() || bulk.packed || !bulk.heap_only {
            return;
        }
        let rows_per_page = (PAGE / on_page(length)).max(1) as f64;
        let needed = self.stored_rows() / rows_per_page;
        let fill = PAGE as f64 / (1.0 + MARGIN * bulk.share);
        let limit = (SPREAD_UNTIL * needed) as u32;
        bulk.spread = Some(Spread { fill: fill as usize, limit, spare: Vec::new(), mapped: None });
    }

    fn flush(&mut self, bulk: &mut Bulk) {
        if bulk.batch.is_empty() {
            return;
        }
        if bulk.filling != Filling::No {
            return self.fill(bulk);
        }
        if let Some(spread) = &mut bulk.spread {
            // SAFETY: an open table, which is a heap.
            match unsafe { spread.choose_page(self.table) } {
                // SAFETY: as above.
                Some(page) => unsafe { set_target(self.table, page) },
                None => {
                    bulk.spread = None;
                    bulk.packed = true;
                }
            }
        }
        // SAFETY: rows of the table.
        unsafe { self.insert_batch(bulk.batch.rows()) };
        bulk.batch.clear();
    }

    fn fill(&mut self, bulk: &mut Bulk) {
        bulk.filling = Filling::Unindexed;
        // SAFETY: rows of the table.
        unsafe { self.append(bulk.batch.rows()) };
        bulk.batch.clear();
    }

    /// Writes what still waits.
    pub(super) fn end_bulk(&mut self) {
        let Some(mut bulk) = self.bulk.take() else { return };
        if bulk.filling == Filling::Begun && self.indexes().iter().all(|&index| has_pages(index)) {
            bulk.filling = Filling::No;
        }
        self.flush(&mut bulk);
        bulk.batch.end();
        if bulk.filling != Filling::No {
            // SAFETY: the table was empty when the first row came, and its file is of this transaction.
            unsafe { self.build_indexes() };
        }
        if bulk.spread.is_some() || bulk.packed {
            // SAFETY: an open table, which is a heap. The room is for the rows there, not for those that other runs insert.
            unsafe {
                set_target(self.table, pg_sys::InvalidBlockNumber);
                bulk.spread.into_iter().for_each(|spread| spread.end(self.table));
            }
        }
    }
}

impl Spread {
    /// An empty page, or nearly so; None when the table is large enough without one more.
    unsafe fn choose_page(&mut self, table: pg_sys::Relation) -> Option<u32> {
        if let Some(page) = self.spare.pop() {
            return Some(page);
        }
        let empty = PAGE - PAGE / 8;
        // SAFETY: an open heap. A page that was taken counts as full until VACUUM looks at it.
        unsafe {
            let page = match self.mapped {
                Some(last) => pg_sys::RecordAndGetPageWithFreeSpace(table, last, 0, empty),
                None => pg_sys::GetPageWithFreeSpace(table, empty),
            };
            self.mapped = (page != pg_sys::InvalidBlockNumber).then_some(page);
            if self.mapped.is_none() {
                self.spare = extend(table, self.limit);
            }
        }
        self.mapped.or_else(|| self.spare.pop())
    }

    /// Pages added and not used are for whoever needs them.
    unsafe fn end(self, table: pg_sys::Relation) {
        for page in self.spare {
            // SAFETY: a page of an open heap.
            unsafe {
                pg_sys::RecordPageWithFreeSpace(table, page, PAGE);
                pg_sys::FreeSpaceMapVacuumRange(table, page, page + 1);
            }
        }
    }
}

/// Adds pages, the last first, but none at or beyond `limit`. They are empty and all zeros, as those that the server adds in
/// advance.
unsafe fn extend(table: pg_sys::Relation, limit: u32) -> Vec<u32> {
    let (mut buffers, mut added) = ([0; EXTEND_BY], 0);
    // SAFETY: an open heap; the array has room for as many buffers as are asked for, each of which is pinned once.
    unsafe {
        let blocks = pg_sys::RelationGetNumberOfBlocksInFork(table, pg_sys::ForkNumber::MAIN_FORKNUM);
        if blocks >= limit {
            return Vec::new();
        }
        let target = pg_sys::BufferManagerRelation { rel: table, smgr: std::ptr::null_mut(), relpersistence: 0 };
        let (fork, strategy) = (pg_sys::ForkNumber::MAIN_FORKNUM, std::ptr::null_mut());
        let count = EXTEND_BY as u32;
        let first = pg_sys::ExtendBufferedRelBy(target, fork, strategy, 0, count, buffers.as_mut_ptr(), &mut added);
        for &buffer in &buffers[..added as usize] {
            interrupt::check();
            pg_sys::ReleaseBuffer(buffer);
        }
        (first..first + added).rev().collect()
    }
}

fn has_pages(index: pg_sys::Relation) -> bool {
    // SAFETY: an open index.
    unsafe { pg_sys::RelationGetNumberOfBlocksInFork(index, pg_sys::ForkNumber::MAIN_FORKNUM) > 0 }
}

/// Makes the server try this page first for the next rows (RelationSetTargetBlock).
unsafe fn set_target(table: pg_sys::Relation, page: u32) {
    // SAFETY: an open relation; null when its storage is not open.
    unsafe {
        let storage = (*table).rd_smgr;
        if !storage.is_null() {
            (*storage).smgr_targblock = page;
        }
    }
}

/// Whether the page of a stored row has room for a tuple of this length. The server looks again when it has locked the page.
unsafe fn has_room(table: pg_sys::Relation, tid: pg_sys::ItemPointerData, length: usize) -> bool {
    // SAFETY: reads a field.
    let block = unsafe { pgrx::itemptr::item_pointer_get_block_number_no_check(tid) };
    // SAFETY: a page of an open heap, pinned while it is looked at; nothing here has a destructor.
    let free = unsafe {
        server::guarded(|| {
            let (fork, none) = (pg_sys::ForkNumber::MAIN_FORKNUM, std::ptr::null_mut());
            let normal = pg_sys::ReadBufferMode::RBM_NORMAL;
            let buffer = server::ReadBufferExtended(table, fork, block, normal, none);
            let free = pg_sys::PageGetHeapFreeSpace(pg_sys::BufferGetPage(buffer));
            server::ReleaseBuffer(buffer);
            free
        })
    };
    length.next_multiple_of(pg_sys::MAXIMUM_ALIGNOF as usize) <= free
}

/// Whether an index that keeps updates from being heap-only has other columns than `kept`.
unsafe fn blocks_heap_only(table: pg_sys::Relation, kept: &[usize]) -> bool {
    // SAFETY: an open relation; the set is a copy.
    unsafe {
        let blocking = pg_sys::IndexAttrBitmapKind::INDEX_ATTR_BITMAP_HOT_BLOCKING;
        let columns = pg_sys::RelationGetIndexAttrBitmap(table, blocking);
        let mut member = -1;
        loop {
            member = pg_sys::bms_next_member(columns, member);
            if member < 0 {
                return false;
            }
            let column = member + pg_sys::FirstLowInvalidHeapAttributeNumber - 1;
            if !usize::try_from(column).is_ok_and(|column| kept.contains(&column)) {
                return true;
            }
        }
    }
}
