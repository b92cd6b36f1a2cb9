//! The change buffer: what a row of it looks like, and writing rows.
//!
//! A buffer row holds what one statement did to one source, as much as fits a page, as a Z-set of row versions:
//!
//! ```text
//! xid xid8      top-level transaction; the top byte is the format of the row
//! cid int4      command that wrote this row
//! rows bytea    STORAGE PLAIN: minimal tuples back to back, each MAXALIGNed, in the source's row layout
//! wide bytea    one minimal tuple too large for a page, behind 4 bytes of padding; toasted by the server
//! ```
//!
//! Exactly one of `rows` and `wide` is not null. The top bit of a minimal tuple's length is its sign: set means -1.
//! The fixed columns put the first tuple at a multiple of 8, on the page and in memory. Captured columns only; others
//! are null. No value is toasted outside `wide`. Rows are never updated; a whole segment is truncated at a time.
//!
//! A server gets another library while rows of the former one wait in its buffers. Whatever their format, `xid` and `cid`
//! are where they are here: so rows of any format are known to be seen or pending, and their segment is trimmed. What
//! is behind `cid` is read of the present format only; a pending row of another one makes its readers recompute.
//!
//! Writing ignores logical decoding: nobody replicates a change buffer.

use super::walk::{PATIENCE, REACH};
use crate::pg::server;
use pgrx::{pg_sys, varlena};
use std::cell::Cell;

/// The format of a row, above the bits of a transaction id. Release 0.1.0 wrote the present one.
const FORMAT: u64 = 0;
const FORMAT_SHIFT: u32 = 56;
const XID: u64 = (1 << FORMAT_SHIFT) - 1;

/// Bit of `t_len` that marks a version of weight -1.
pub const NEGATIVE: u32 = 1 << 31;
/// Bytes of versions in a row that has a page of its own.
pub const CAPACITY: usize = 8120;

const ATTRIBUTES: u16 = 4;
const HEADER: u8 = 24;
/// Null bitmaps, a set bit for each column that is present.
const HAS_ROWS: u8 = 0b0111;
const HAS_WIDE: u8 = 0b1011;
/// `wide`'s padding, so that a detoasted tuple starts at a multiple of 8.
const WIDE_PADDING: usize = 4;
/// Where the version starts in a detoasted `wide`.
pub const WIDE_OFFSET: usize = 4 + WIDE_PADDING;

/// A buffer row as a heap tuple; the fixed part, then the payload.
#[repr(C, align(8))]
pub struct RowHead {
    tuple: [u8; HEADER as usize],
    /// With the format.
    xid: u64,
    cid: u32,
    /// The varlena header of `rows` or `wide`.
    payload: [u8; 4],
}

/// A buffer row under construction, in memory that is reused.
#[repr(C, align(8))]
pub struct Page {
    head: RowHead,
    versions: [u8; CAPACITY],
}

const HEAD: usize = size_of::<RowHead>();
const _: () = assert!(HEAD == 40 && size_of::<Page>() == 8160);

impl Page {
    pub const fn new() -> Self {
        let head = RowHead { tuple: [0; HEADER as usize], xid: 0, cid: 0, payload: [0; 4] };
        Self { head, versions: [0; CAPACITY] }
    }
}

thread_local! {
    /// The segment whose page was chosen last, and the transaction that chose it.
    static CHOSEN: Cell<(pg_sys::Oid, u64)> = const { Cell::new((pg_sys::Oid::INVALID, 0)) };
}

/// Appends versions to a segment. Its methods are called inside a guard: nothing here has a destructor or panics.
pub struct Writer {
    segment: pg_sys::Relation,
    page: *mut Page,
    used: usize,
    xid: u64,
    cid: u32,
    /// Lets the segment grow by many pages at a time; null until a second row is written.
    bulk: *mut server::BulkInsertStateData,
    rows: usize,
}

impl Writer {
    /// Opens `segment`, keeping its lock to the end of the transaction, so that it is not truncated before.
    ///
    /// # Safety
    /// Inside a guard. `page` is used by nobody else until `finish`.
    pub unsafe fn begin(segment: pg_sys::Oid, page: *mut Page) -> Self {
        // SAFETY: inside a guard; a transaction is in progress.
        unsafe {
            Self {
                segment: server::table_open(segment, pg_sys::RowExclusiveLock as i32),
                page,
                used: 0,
                xid: server::GetTopFullTransactionId().value,
                cid: server::GetCurrentCommandId(true),
                bulk: std::ptr::null_mut(),
                rows: 0,
            }
        }
    }

    /// Takes the current command id, when commands were counted since the writer began.
    ///
    /// # Safety
    /// Inside a guard.
    pub unsafe fn next_command(&mut self) {
        // SAFETY: rows so far go out under the command they belong to.
        unsafe {
            let cid = server::GetCurrentCommandId(true);
            if cid != self.cid {
                self.flush();
                self.cid = cid;
            }
        }
    }

    /// Room for a version of `size` bytes, to be filled and then `commit`ted; null when it must go through `put_wide`.
    ///
    /// # Safety
    /// Inside a guard.
    pub unsafe fn room(&mut self, size: usize) -> pg_sys::MinimalTuple {
        if size > CAPACITY {
            return std::ptr::null_mut();
        }
        // SAFETY: offsets stay below CAPACITY.
        unsafe {
            if size > CAPACITY - self.used {
                self.flush();
            }
            (&raw mut (*self.page).versions).cast::<u8>().add(self.used).cast()
        }
    }

    /// Takes in the version of `size` bytes last written to `room`.
    ///
    /// # Safety
    /// Follows `room(size)`.
    pub unsafe fn commit(&mut self, version: pg_sys::MinimalTuple, size: usize, weight: i64) {
        // SAFETY: the version lies in our page.
        unsafe { (*version).t_len = size as u32 | sign(weight) };
        self.used += max_align(size);
    }

    /// Takes in a version of any size by copying it.
    ///
    /// # Safety
    /// Inside a guard; `version` has `size` bytes, of which `t_len` is not read.
    pub unsafe fn put(&mut self, version: pg_sys::MinimalTuple, size: usize, weight: i64) {
        // SAFETY: room returns `size` bytes.
        unsafe {
            let room = self.room(size);
            if room.is_null() {
                return self.put_wide(version, size, weight);
            }
            std::ptr::copy_nonoverlapping(version.cast::<u8>(), room.cast::<u8>(), size);
            self.commit(room, size, weight);
        }
    }

    /// Takes in a version that does not fit a page.
    ///
    /// # Safety
    /// As for `put`.
    pub unsafe fn put_wide(&mut self, version: pg_sys::MinimalTuple, size: usize, weight: i64) {
        // SAFETY: the row has room for head, padding and version; palloc refuses what a varlena cannot hold.
        unsafe {
            let row = server::palloc(HEAD + WIDE_PADDING + size).cast::<u8>();
            let copy = row.add(HEAD + WIDE_PADDING).cast::<u8>();
            row.add(HEAD).cast::<u32>().write(0);
            std::ptr::copy_nonoverlapping(version.cast::<u8>(), copy, size);
            copy.cast::<u32>().write_unaligned(size as u32 | sign(weight));
            self.insert(row.cast(), HAS_WIDE, WIDE_PADDING + size);
            server::pfree(row.cast());
        }
    }

    /// Writes out what is pending in memory.
    ///
    /// # Safety
    /// Inside a guard.
    pub unsafe fn flush(&mut self) {
        if self.used > 0 {
            // SAFETY: `used` bytes of versions are initialised.
            unsafe { self.insert(self.page.cast(), HAS_ROWS, self.used) };
            self.used = 0;
        }
    }

    /// # Safety
    /// Inside a guard; ends the writer.
    pub unsafe fn finish(&mut self) {
        // SAFETY: opened by `begin`; the lock is kept.
        unsafe {
            self.flush();
            if !self.bulk.is_null() {
                server::FreeBulkInsertState(self.bulk);
            }
            server::table_close(self.segment, pg_sys::NoLock as i32);
        }
    }

    /// Gives up the page this backend wrote to last if that is not near the end any more: who reads relies on it (walk.rs,
    /// *Beginnings*). The free space map is not asked for the same reason. What was found holds for some transactions.
    unsafe fn choose_page(&mut self) {
        // SAFETY: inside a guard; the segment is open.
        unsafe {
            let segment = (*self.segment).rd_id;
            let (checked, at) = CHOSEN.get();
            if checked == segment && self.xid < at + PATIENCE {
                return;
            }
            CHOSEN.set((segment, self.xid));
            let storage = (*self.segment).rd_smgr;
            if !storage.is_null() && (*storage).smgr_targblock != pg_sys::InvalidBlockNumber {
                let blocks = server::RelationGetNumberOfBlocksInFork(self.segment, pg_sys::ForkNumber::MAIN_FORKNUM);
                if (*storage).smgr_targblock.saturating_add(REACH) < blocks {
                    (*storage).smgr_targblock = pg_sys::InvalidBlockNumber;
                }
            }
        }
    }

    unsafe fn insert(&mut self, row: *mut RowHead, present: u8, payload: usize) {
        // SAFETY: `row` is a head followed by `payload` bytes; heap_insert fills in the transaction's fields.
        unsafe {
            let header = row.cast::<pg_sys::HeapTupleHeaderData>();
            (*header).t_infomask2 = ATTRIBUTES;
            (*header).t_infomask = (pg_sys::HEAP_HASNULL | pg_sys::HEAP_HASVARWIDTH) as u16;
            (*header).t_hoff = HEADER;
            row.cast::<u8>().add(HEADER as usize - 1).write(present);
            (*row).xid = self.xid | FORMAT << FORMAT_SHIFT;
            (*row).cid = self.cid;
            varlena::set_varsize_4b((&raw mut (*row).payload).cast(), (payload + 4) as i32);
            let mut tuple = pg_sys::HeapTupleData {
                t_len: (HEAD + payload) as u32,
                t_data: header,
                ..pg_sys::HeapTupleData::default()
            };
            if self.rows == 0 {
                self.choose_page();
            }
            let options = (pg_sys::HEAP_INSERT_NO_LOGICAL | pg_sys::HEAP_INSERT_SKIP_FSM) as i32;
            server::heap_insert(self.segment, &raw mut tuple, self.cid, options, self.bulk);
            self.rows += 1;
            if self.rows > 1 && self.bulk.is_null() {
                self.bulk = bulk_state();
            }
        }
    }
}

/// A bulk insert state without its ring of buffers: what is captured is soon read, so it may stay.
unsafe fn bulk_state() -> *mut server::BulkInsertStateData {
    // SAFETY: inside a guard; the state is our own. A writer may outlive the context of the row at hand.
    unsafe {
        let context = pg_sys::CurrentMemoryContext;
        pg_sys::CurrentMemoryContext = pg_sys::TopTransactionContext;
        let bulk = server::GetBulkInsertState();
        pg_sys::CurrentMemoryContext = context;
        server::FreeAccessStrategy((*bulk).strategy);
        (*bulk).strategy = std::ptr::null_mut();
        bulk
    }
}

fn sign(weight: i64) -> u32 {
    if weight < 0 { NEGATIVE } else { 0 }
}

/// `MAXALIGN`.
#[inline]
pub const fn max_align(size: usize) -> usize {
    (size + 7) & !7
}

/// A row of a segment, where a scan found it.
#[derive(Clone, Copy)]
pub struct StoredRow(*const RowHead);

impl StoredRow {
    /// # Safety
    /// `row` is a row of a segment and outlives the result.
    pub unsafe fn of(row: pg_sys::HeapTupleHeader) -> Self {
        Self(row.cast())
    }

    pub fn xid(self) -> u64 {
        // SAFETY: alive by contract of `of`; heap tuples are MAXALIGNed.
        unsafe { (*self.0).xid & XID }
    }

    /// It is of the present format. Of another one, only transaction and command are known.
    pub fn is_readable(self) -> bool {
        // SAFETY: as above.
        unsafe { (*self.0).xid >> FORMAT_SHIFT == FORMAT }
    }

    pub fn cid(self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.0).cid }
    }

    pub fn is_wide(self) -> bool {
        // SAFETY: the null bitmap is the last byte of the header.
        unsafe { *self.0.cast::<u8>().add(HEADER as usize - 1) == HAS_WIDE }
    }

    /// The stored datum, possibly toasted when wide.
    pub fn payload(self) -> *mut pg_sys::varlena {
        // SAFETY: as above.
        unsafe { (&raw const (*self.0).payload).cast_mut().cast() }
    }

    /// Bytes that toasted data takes, where it is.
    pub fn stored_size(self) -> u64 {
        // SAFETY: a varlena in any form; an external one says its size outside in its second word.
        unsafe {
            let payload = self.payload();
            if varlena::varatt_is_1b_e(payload) {
                let pointer = payload.cast::<u8>().add(2).cast::<pg_sys::varatt_external>().read_unaligned();
                return u64::from(pointer.va_extinfo & pg_sys::VARLENA_EXTSIZE_MASK);
            }
            varlena::varsize_any(payload) as u64
        }
    }

    /// Start and size of the versions of a row that is not wide.
    pub fn versions(self) -> (*const u8, usize) {
        // SAFETY: STORAGE PLAIN: a plain four-byte header, then the versions.
        unsafe { (self.0.cast::<u8>().add(HEAD), varlena::varsize_4b(self.payload()) - 4) }
    }
}
