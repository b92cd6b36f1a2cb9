//! The pages of a change buffer, and the rows on them that are pending.
//!
//! Another view that is refreshed more rarely keeps rows in the buffer which this one has long seen. Their pages are
//! skipped by a look at their header:
//!
//! *Horizon.* Let L be the WAL position before a walk begins, lowered below the LSN of every page on which the walk sees
//! a row that the snapshot does not, unless its transaction has aborted. Then all rows on pages whose LSN is at most L
//! are contained in the snapshot's frontier, and stay so: a row inserted later gives its page an LSN beyond L, and one
//! inserted before the walk came by was looked at, since page and LSN are changed under the lock the walk takes. Rows
//! of a segment made in this transaction may have been written without WAL, so nothing is known of it; under
//! `wal_level = minimal` such a page, or one that VACUUM FULL wrote, keeps LSN 0, and is always looked at.
//!
//! *Beginnings.* Even headers are too many when a view lags far behind, so that the first pages of a long segment are not
//! looked at at all once they are closed. A writer chooses a page for a row when it has a transaction id, and then
//! only one of the last [`REACH`] of the segment (buffer.rs); further rows of its transaction may follow to that page, and to
//! pages it adds, and so may rows of its session's next transactions, as long as fewer than [`PATIENCE`] ids were given
//! out since. So who writes more than `REACH` pages before what was the end once had chosen before then, and has an id
//! less than `PATIENCE` beyond those given out then. When all of these have ended, and a refresh has seen what they did,
//! those pages hold nothing that it does not contain, and never will. "The end" is a page with a row that has committed:
//! crash recovery brings back no more.

use super::buffer::StoredRow;
use super::cache;
use super::frontier::{Beginning, Frontier};
use crate::error::{cannot_happen, error};
use crate::pg::relation::Relation;
use crate::pg::{interrupt, server};
use pgrx::{PgSqlErrorCode, pg_sys};
use smallvec::SmallVec;

/// Most rows a page can hold (MaxHeapTuplesPerPage): each has a header and a line pointer.
const ROWS: usize = (pg_sys::BLCKSZ as usize - 24) / (24 + size_of::<pg_sys::ItemIdData>());

/// Visits the pending rows of both segments. A walk that an error cuts short is dropped without calling the server.
pub struct Walk {
    frontier: Frontier,
    snapshot: pg_sys::Snapshot,
    /// Those with pages, open until `end`.
    segments: SmallVec<[Segment; 2]>,
    /// The segment being walked, its next page, and the page at hand (pinned), if any.
    segment: usize,
    block: u32,
    buffer: pg_sys::Buffer,
    /// Offsets on the page at hand of rows that the snapshot sees, and how many have been visited.
    visible: [u16; ROWS],
    count: usize,
    at: usize,
    /// See above; final once the walk is through.
    horizon: u64,
    /// Its reader has met a row of an unknown format.
    pub met_unreadable: bool,
    /// A page had more rows than a page can hold, and the walk ended there.
    damaged: bool,
}

/// Where a row is: its segment, as the walk counts them, its page, and its line pointer.
#[derive(Clone, Copy)]
pub struct Place {
    segment: u16,
    block: u32,
    offset: u16,
}

/// How far from the end of a segment, in pages, a transaction may begin to write.
pub const REACH: u32 = 128;
/// For how many transaction ids a writer may rely on its choice, which takes a look at the segment's size.
pub const PATIENCE: u64 = 64;

#[derive(Clone, Copy)]
struct Segment {
    relation: pg_sys::Relation,
    blocks: u32,
    /// What the frontier knows of a long one.
    beginning: Option<Beginning>,
    /// No transaction with this id may write more than REACH pages before `blocks`.
    fence: u64,
    /// The last page on which a row that the snapshot sees was found.
    last: u32,
}

impl Segment {
    fn oid(&self) -> pg_sys::Oid {
        // SAFETY: open until the walk ends.
        unsafe { (*self.relation).rd_id }
    }

    fn first_page(&self) -> u32 {
        self.beginning.map_or(0, |beginning| beginning.closed)
    }
}

const NO_BUFFER: pg_sys::Buffer = pg_sys::InvalidBuffer as pg_sys::Buffer;

impl Walk {
    pub fn begin(source: pg_sys::Oid, frontier: &Frontier, snapshot: pg_sys::Snapshot) -> Self {
        let Some(segments) = cache::segments(source) else {
            cannot_happen(format!("changes of relation {} are not captured", source.to_u32()))
        };
        // SAFETY: reads a position.
        let mut horizon = unsafe { pg_sys::GetXLogInsertRecPtr() };
        let open = |segment| {
            let segment = Relation::open(segment, pg_sys::AccessShareLock);
            // An empty one too: that nothing is pending is read from both.
            // SAFETY: the segment is open and the snapshot alive.
            unsafe { server::guarded(|| server::PredicateLockRelation(segment.as_ptr(), snapshot)) };
            if segment.has_new_file() {
                horizon = 0;
            }
            let blocks = segment.blocks();
            // SAFETY: reads a counter; the segment is open.
            let fence = unsafe { pg_sys::ReadNextFullTransactionId() }.value + PATIENCE;
            let beginning = if blocks > REACH { beginning(&segment, frontier) } else { None };
            (blocks > 0).then(|| Segment { relation: segment.into_raw(), blocks, beginning, fence, last: 0 })
        };
        let segments: SmallVec<[Segment; 2]> = segments.into_iter().filter_map(open).collect();
        Self {
            frontier: frontier.clone(),
            snapshot,
            block: segments.first().map_or(0, Segment::first_page),
            segments,
            segment: 0,
            buffer: NO_BUFFER,
            visible: [0; ROWS],
            count: 0,
            at: 0,
            horizon,
            met_unreadable: false,
            damaged: false,
        }
    }

    pub fn end(&mut self) {
        self.rewind();
        let close = |segment: Segment| {
            // SAFETY: opened by `begin`, closed once; the locks stay.
            unsafe { pg_sys::relation_close(segment.relation, pg_sys::NoLock as i32) };
        };
        self.segments.drain(..).for_each(close);
    }

    pub fn rewind(&mut self) {
        (self.segment, self.count, self.at) = (0, 0, 0);
        self.block = self.segments.first().map_or(0, Segment::first_page);
        if self.buffer != NO_BUFFER {
            // SAFETY: pinned by us.
            unsafe { pg_sys::ReleaseBuffer(std::mem::replace(&mut self.buffer, NO_BUFFER)) };
        }
    }

    /// The horizon of a frontier that contains what this walk, which is through, has seen.
    pub fn horizon(&self) -> u64 {
        self.horizon
    }

    /// What a frontier with this `xmin` that contains what this walk has seen knows of the segments' beginnings.
    pub fn beginnings(&self, xmin: u64) -> SmallVec<[Beginning; 2]> {
        let after =
            |segment: &Segment| Some(segment.beginning?.after(xmin, segment.last.saturating_sub(REACH), segment.fence));
        self.segments.iter().filter_map(after).collect()
    }

    /// Raises the error that could not be raised inside the guard. To be called after it.
    pub fn check_sound(&self) {
        if self.damaged {
            let relation = self.segments.get(self.segment).map_or(0, |segment| segment.oid().to_u32());
            error(PgSqlErrorCode::ERRCODE_DATA_CORRUPTED, "page of a change buffer is damaged")
                .detail(format!("Block {} of relation {relation} has more rows than a page can hold.", self.block))
                .raise()
        }
    }

    /// # Safety
    /// Inside a guard; the row is valid until the next call.
    #[inline]
    pub unsafe fn next_pending(&mut self) -> Option<StoredRow> {
        // SAFETY: inside a guard; the page is pinned while its rows are visited.
        unsafe {
            loop {
                while self.at < self.count {
                    let offset = *self.visible.get_unchecked(self.at);
                    self.at += 1;
                    let row = StoredRow::of(header(page(self.buffer), offset));
                    if !self.frontier.covers(row.xid(), row.cid()) {
                        return Some(row);
                    }
                }
                if !self.next_page() {
                    return None;
                }
            }
        }
    }

    pub fn frontier(&self) -> &Frontier {
        &self.frontier
    }

    pub fn snapshot(&self) -> pg_sys::Snapshot {
        self.snapshot
    }

    /// Has `next_pending` return again what it has returned last.
    pub fn step_back(&mut self) {
        self.at = self.at.saturating_sub(1);
    }

    /// Where the row is that `next_pending` returned last.
    pub fn place(&self) -> Place {
        let offset = self.visible.get(self.at.wrapping_sub(1)).copied().unwrap_or(0);
        Place { segment: self.segment as u16, block: self.block.wrapping_sub(1), offset }
    }

    /// Reads a row that was found before.
    ///
    /// # Safety
    /// Inside a guard; `place` is of this walk, or of one over the same segments.
    pub unsafe fn with_row<R>(&self, place: Place, read: impl FnOnce(StoredRow) -> R) -> R {
        // SAFETY: rows that a snapshot sees stay where they are as long as their segment is locked; a pin keeps the page.
        unsafe {
            let segment = self.segments.get_unchecked(usize::from(place.segment));
            let (fork, mode) = (pg_sys::ForkNumber::MAIN_FORKNUM, pg_sys::ReadBufferMode::RBM_NORMAL);
            let buffer = server::ReadBufferExtended(segment.relation, fork, place.block, mode, std::ptr::null_mut());
            let result = read(StoredRow::of(header(page(buffer), place.offset)));
            server::ReleaseBuffer(buffer);
            result
        }
    }

    /// Goes to the next page that may hold something; false at the end of the last segment.
    unsafe fn next_page(&mut self) -> bool {
        // SAFETY: inside a guard; segments are open and have that many blocks.
        unsafe {
            if self.buffer != NO_BUFFER {
                server::ReleaseBuffer(std::mem::replace(&mut self.buffer, NO_BUFFER));
            }
            while let Some(&segment) = self.segments.get(self.segment) {
                let Segment { relation, blocks, .. } = segment;
                while self.block < blocks {
                    let (fork, mode) = (pg_sys::ForkNumber::MAIN_FORKNUM, pg_sys::ReadBufferMode::RBM_NORMAL);
                    let buffer = server::ReadBufferExtended(relation, fork, self.block, mode, std::ptr::null_mut());
                    if self.look_at(relation, buffer) {
                        self.buffer = buffer;
                    } else {
                        server::ReleaseBuffer(buffer);
                    }
                    if self.damaged {
                        return false;
                    }
                    self.block += 1;
                    if self.buffer != NO_BUFFER {
                        return true;
                    }
                }
                self.segment += 1;
                self.block = self.segments.get(self.segment).map_or(0, Segment::first_page);
            }
            false
        }
    }

    /// Notes the visible rows of a pinned page; false if there are none, or the page is within the frontier's horizon.
    unsafe fn look_at(&mut self, relation: pg_sys::Relation, buffer: pg_sys::Buffer) -> bool {
        (self.count, self.at) = (0, 0);
        // SAFETY: inside a guard; the page is pinned, and locked while it is looked at.
        unsafe {
            interrupt::check_inside_guard();
            server::LockBuffer(buffer, pg_sys::BUFFER_LOCK_SHARE as i32);
            let lsn = server::BufferGetLSNAtomic(buffer);
            if (lsn == 0 || lsn > self.frontier.horizon()) && !self.note_visible(relation, buffer) {
                self.horizon = self.horizon.min(lsn.saturating_sub(1));
            }
            server::LockBuffer(buffer, pg_sys::BUFFER_LOCK_UNLOCK as i32);
        }
        if self.count > 0
            && let Some(segment) = self.segments.get_mut(self.segment)
        {
            segment.last = self.block;
        }
        self.count > 0
    }

    /// False if there are rows which the snapshot does not see but a later one may.
    unsafe fn note_visible(&mut self, relation: pg_sys::Relation, buffer: pg_sys::Buffer) -> bool {
        let mut all = true;
        // SAFETY: as above; line pointers in use point to rows.
        unsafe {
            let (page, snapshot) = (page(buffer), self.snapshot);
            let conflicts = server::CheckForSerializableConflictOutNeeded(relation, snapshot);
            for offset in 1..=line_pointers(page) {
                let pointer = line_pointer(page, offset);
                if pointer.lp_flags() != pg_sys::LP_NORMAL {
                    continue;
                }
                let mut tuple = pg_sys::HeapTupleData {
                    t_len: pointer.lp_len(),
                    t_self: pg_sys::ItemPointerData {
                        ip_blkid: pg_sys::BlockIdData { bi_hi: (self.block >> 16) as u16, bi_lo: self.block as u16 },
                        ip_posid: offset,
                    },
                    t_tableOid: (*relation).rd_id,
                    t_data: header(page, offset),
                };
                let visible = server::HeapTupleSatisfiesVisibility(&mut tuple, snapshot, buffer);
                if conflicts {
                    server::HeapCheckForSerializableConflictOut(visible, relation, &mut tuple, buffer, snapshot);
                }
                if visible {
                    // Nothing here may panic: it would unwind through the guard's frames, with the page locked.
                    let Some(place) = self.visible.get_mut(self.count) else {
                        self.damaged = true;
                        break;
                    };
                    *place = offset;
                    self.count += 1;
                } else {
                    all &= is_aborted(tuple.t_data);
                }
            }
        }
        all
    }
}

/// What the frontier knows of a segment that has pages; nothing yet, if this is the first look at its present life. None when its
/// first row is not there.
fn beginning(segment: &Relation, frontier: &Frontier) -> Option<Beginning> {
    let file = segment.form().relfilenode.to_u32();
    // SAFETY: the segment is open; nothing in the closure has a destructor or panics.
    let first = unsafe { server::guarded(|| first_row(segment.as_ptr())) };
    let unknown = |first| Beginning { file, first, closed: 0, closing: 0, fence: 0 };
    first.map(|first| frontier.beginning(file, first).unwrap_or_else(|| unknown(first)))
}

/// The transaction and the command that wrote the first row of a segment's first page, if there is one.
unsafe fn first_row(relation: pg_sys::Relation) -> Option<(u64, u32)> {
    // SAFETY: inside a guard; the page is pinned and locked while it is looked at.
    unsafe {
        let (fork, mode) = (pg_sys::ForkNumber::MAIN_FORKNUM, pg_sys::ReadBufferMode::RBM_NORMAL);
        let buffer = server::ReadBufferExtended(relation, fork, 0, mode, std::ptr::null_mut());
        server::LockBuffer(buffer, pg_sys::BUFFER_LOCK_SHARE as i32);
        let page = page(buffer);
        let there = line_pointers(page) > 0 && line_pointer(page, 1).lp_flags() == pg_sys::LP_NORMAL;
        let row = there.then(|| StoredRow::of(header(page, 1)));
        let first = row.map(|row| (row.xid(), row.cid()));
        server::UnlockReleaseBuffer(buffer);
        first
    }
}

/// The visibility check has found out that the row's transaction aborted.
unsafe fn is_aborted(row: pg_sys::HeapTupleHeader) -> bool {
    // SAFETY: a row on a locked page.
    unsafe { u32::from((*row).t_infomask) & pg_sys::HEAP_XMIN_FROZEN == pg_sys::HEAP_XMIN_INVALID }
}

#[inline]
unsafe fn page(buffer: pg_sys::Buffer) -> *mut pg_sys::PageHeaderData {
    // SAFETY: a pinned buffer of the shared pool: segments are permanent tables.
    unsafe { pg_sys::BufferBlocks.add((buffer as usize - 1) * pg_sys::BLCKSZ as usize).cast() }
}

unsafe fn line_pointers(page: *mut pg_sys::PageHeaderData) -> u16 {
    const HEADER: usize = std::mem::offset_of!(pg_sys::PageHeaderData, pd_linp);
    // SAFETY: a page of the buffer pool.
    let lower = unsafe { (*page).pd_lower } as usize;
    (lower.saturating_sub(HEADER) / size_of::<pg_sys::ItemIdData>()) as u16
}

#[inline]
unsafe fn line_pointer(page: *mut pg_sys::PageHeaderData, offset: u16) -> pg_sys::ItemIdData {
    // SAFETY: the page has that many line pointers.
    unsafe { (&raw const (*page).pd_linp).cast::<pg_sys::ItemIdData>().add(offset as usize - 1).read() }
}

#[inline]
unsafe fn header(page: *mut pg_sys::PageHeaderData, offset: u16) -> pg_sys::HeapTupleHeader {
    // SAFETY: a line pointer in use.
    unsafe { page.cast::<u8>().add(line_pointer(page, offset).lp_off() as usize).cast() }
}
