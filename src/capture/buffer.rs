//! The change buffer: what a row of it looks like, and writing rows.
//!
//! A buffer row holds what one statement did to one source, as much as fits a page, as a Z-set of row versions:
//!
//! ```text
//! xid xid8      top-level transaction; the top byte is the format of the row
//! cid int4      command that wrote this row
//! rows bytea    STORAGE PLAIN: a stamp, then versions back to back; or, if `wide` is there, the notes of its version
//! wide bytea    STORAGE EXTERNAL: one version too large for a page, behind 4 bytes of padding
//! ```
//!
//! A version is a minimal tuple in the source's row layout, MAXALIGNed, captured columns only (others are null), and behind
//! it its notes. The top bit of the tuple's length is its sign: set means -1. The first two of its padding bytes count its
//! notes. A note names a TOAST value of which the version holds a copy, and the stamp says which TOAST table the
//! versions of this row may point into (references.rs).
//!
//! The fixed columns put the first tuple at a multiple of 8, on the page and in memory. Rows are never updated; a whole
//! segment is truncated at a time.
//!
//! A server gets another library while rows of the former one wait in its buffers. Whatever their format, `xid` and `cid`
//! are where they are here: so rows of any format are known to be seen or pending, and their segment is trimmed. What
//! is behind `cid` is read of known formats only; a pending row of another one makes its readers recompute. Format 0, of
//! release 0.1.0, has neither stamps nor notes, and `rows` is null beside `wide`.
//!
//! Writing ignores logical decoding: nobody replicates a change buffer.

use super::references::{Note, Origin, Referable};
use super::walk::{PATIENCE, REACH};
use crate::pg::server;
use pgrx::{pg_sys, varlena};
use std::cell::Cell;

/// The format of a row, above the bits of a transaction id. Release 0.1.0 wrote format 0.
const FORMAT: u64 = 1;
const FORMAT_SHIFT: u32 = 56;
const XID: u64 = (1 << FORMAT_SHIFT) - 1;

/// Bit of `t_len` that marks a version of weight -1.
pub const NEGATIVE: u32 = 1 << 31;
/// Bytes of versions in a row that has a page of its own.
pub const CAPACITY: usize = 8120 - STAMP;
/// As many as a row of any format may have.
pub const LARGEST: usize = 8120;

const ATTRIBUTES: u16 = 4;
const HEADER: u8 = 24;
/// Null bitmaps, a set bit for each column that is present. A row that has all of them has no bitmap.
const HAS_ROWS: u8 = 0b0111;
const HAS_ALL: u8 = 0;
const WIDE: u8 = 0b1000;
/// `wide`'s padding, so that a detoasted tuple starts at a multiple of 8.
const WIDE_PADDING: usize = 4;
/// Where the version starts in a detoasted `wide`.
pub const WIDE_OFFSET: usize = 4 + WIDE_PADDING;

/// What `rows` begins with.
#[repr(C)]
#[derive(Clone, Copy)]
struct Stamp {
    /// WAL position when the row was written, if it has references or notes.
    position: u64,
    /// Where its references lead, if it has any.
    toast: Referable,
}

const STAMP: usize = size_of::<Stamp>();
const NOTE: usize = size_of::<Note>();
const _: () = assert!(STAMP == 16 && NOTE == 16);

/// A buffer row as a heap tuple; the fixed part, then the payload.
#[repr(C, align(8))]
pub struct RowHead {
    tuple: [u8; HEADER as usize],
    /// With the format.
    xid: u64,
    cid: u32,
    /// The varlena header of `rows`, or that of `wide` in a row of format 0 that is wide.
    payload: [u8; 4],
}

/// A buffer row under construction, in memory that is reused.
#[repr(C, align(8))]
pub struct Page {
    head: RowHead,
    stamp: Stamp,
    versions: [u8; CAPACITY],
}

const HEAD: usize = size_of::<RowHead>();
const _: () = assert!(HEAD == 40 && size_of::<Page>() == 8160);

impl Page {
    pub const fn new() -> Self {
        let head = RowHead { tuple: [0; HEADER as usize], xid: 0, cid: 0, payload: [0; 4] };
        Self { head, stamp: Stamp { position: 0, toast: Referable::NOTHING }, versions: [0; CAPACITY] }
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
    /// The TOAST table that versions may point into, and what is known of it once one does.
    toast: pg_sys::Oid,
    referable: Referable,
    /// What is pending in memory has references; references or notes.
    refers: bool,
    stamped: bool,
}

impl Writer {
    /// Opens `segment`, keeping its lock to the end of the transaction, so that it is not truncated before. Versions may
    /// point into the TOAST table `toast` (`references::toast_of`).
    ///
    /// # Safety
    /// Inside a guard. `page` is used by nobody else until `finish`.
    pub unsafe fn begin(segment: pg_sys::Oid, page: *mut Page, toast: pg_sys::Oid) -> Self {
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
                toast,
                referable: Referable::NOTHING,
                refers: false,
                stamped: false,
            }
        }
    }

    /// The TOAST table that versions may point into, if any.
    pub fn toast(&self) -> pg_sys::Oid {
        self.toast
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

    /// Takes in the version last written to `room`, of `size` bytes with its notes.
    ///
    /// # Safety
    /// Follows `room`, for as much as `length` says with `notes`.
    pub unsafe fn commit(&mut self, version: pg_sys::MinimalTuple, size: usize, weight: i64, notes: &[Note]) {
        // SAFETY: version and notes lie in our page.
        unsafe {
            (*version).t_len = size as u32 | sign(weight);
            set_notes(version, notes.len());
            let behind = version.cast::<u8>().add(max_align(size));
            std::ptr::copy_nonoverlapping(notes.as_ptr().cast::<u8>(), behind, notes.len() * NOTE);
            self.used += length(size, notes.len());
            let refers = has_references(version);
            self.refers |= refers;
            self.stamped |= refers || !notes.is_empty();
        }
    }

    /// Takes in a version of any size, without notes and references, by copying it.
    ///
    /// # Safety
    /// Inside a guard; `version` has `size` bytes, of which `t_len` is not read.
    pub unsafe fn put(&mut self, version: pg_sys::MinimalTuple, size: usize, weight: i64) {
        // SAFETY: room returns `size` bytes.
        unsafe {
            let room = self.room(size);
            if room.is_null() {
                return self.put_wide(version, size, weight, &[]);
            }
            std::ptr::copy_nonoverlapping(version.cast::<u8>(), room.cast::<u8>(), size);
            self.commit(room, size, weight, &[]);
        }
    }

    /// Takes in a version that does not fit a page with its notes.
    ///
    /// # Safety
    /// As for `put`.
    pub unsafe fn put_wide(&mut self, version: pg_sys::MinimalTuple, size: usize, weight: i64, notes: &[Note]) {
        // SAFETY: the row has room for all its parts; palloc refuses what a varlena cannot hold.
        unsafe {
            let inline = STAMP + notes.len() * NOTE;
            let payload = inline + 4 + WIDE_PADDING + size;
            let row = server::palloc(HEAD + payload).cast::<u8>();
            let stamp = self.stamp(has_references(version), !notes.is_empty());
            row.add(HEAD).cast::<Stamp>().write(stamp);
            std::ptr::copy_nonoverlapping(notes.as_ptr().cast::<u8>(), row.add(HEAD + STAMP), inline - STAMP);
            let wide = row.add(HEAD + inline);
            varlena::set_varsize_4b(wide.cast(), (payload - inline) as i32);
            wide.add(4).cast::<u32>().write(0);
            let copy = wide.add(4 + WIDE_PADDING);
            std::ptr::copy_nonoverlapping(version.cast::<u8>(), copy, size);
            copy.cast::<u32>().write_unaligned(size as u32 | sign(weight));
            set_notes(copy.cast(), 0);
            self.insert(row.cast(), HAS_ALL, inline, payload);
            server::pfree(row.cast());
        }
    }

    /// What is to be said of versions with references, with notes.
    unsafe fn stamp(&mut self, refers: bool, notes: bool) -> Stamp {
        // SAFETY: inside a guard.
        unsafe {
            if refers && self.referable.is_nothing() {
                self.referable = Referable::now(self.toast);
            }
            let position = if refers || notes { server::GetXLogInsertRecPtr() } else { 0 };
            Stamp { position, toast: if refers { self.referable } else { Referable::NOTHING } }
        }
    }

    /// Writes out what is pending in memory.
    ///
    /// # Safety
    /// Inside a guard.
    pub unsafe fn flush(&mut self) {
        if self.used > 0 {
            // SAFETY: `used` bytes of versions are initialised.
            unsafe {
                (*self.page).stamp = self.stamp(self.refers, self.stamped);
                let inline = STAMP + self.used;
                self.insert(self.page.cast(), HAS_ROWS, inline, inline);
            }
            (self.used, self.refers, self.stamped) = (0, false, false);
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

    /// `rows` has `inline` bytes of the `payload`.
    unsafe fn insert(&mut self, row: *mut RowHead, present: u8, inline: usize, payload: usize) {
        // SAFETY: `row` is a head followed by `payload` bytes; heap_insert fills in the transaction's fields.
        unsafe {
            let header = row.cast::<pg_sys::HeapTupleHeaderData>();
            (*header).t_infomask2 = ATTRIBUTES;
            let nulls = if present == HAS_ALL { 0 } else { pg_sys::HEAP_HASNULL };
            (*header).t_infomask = (nulls | pg_sys::HEAP_HASVARWIDTH) as u16;
            (*header).t_hoff = HEADER;
            row.cast::<u8>().add(HEADER as usize - 1).write(present);
            (*row).xid = self.xid | FORMAT << FORMAT_SHIFT;
            (*row).cid = self.cid;
            varlena::set_varsize_4b((&raw mut (*row).payload).cast(), (inline + 4) as i32);
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

/// Bytes of a version of `size` bytes with its notes.
#[inline]
pub const fn length(size: usize, notes: usize) -> usize {
    max_align(size) + notes * NOTE
}

/// The bytes of a minimal tuple that no one else uses.
#[inline]
unsafe fn set_notes(version: pg_sys::MinimalTuple, notes: usize) {
    // SAFETY: a version in our memory, aligned or not.
    unsafe { (&raw mut (*version).mt_padding).cast::<u16>().write_unaligned(notes as u16) };
}

/// Some value of a version is a TOAST pointer.
#[inline]
pub unsafe fn has_references(version: pg_sys::MinimalTuple) -> bool {
    // SAFETY: a live version.
    u32::from(unsafe { (&raw const (*version).t_infomask).read_unaligned() }) & pg_sys::HEAP_HASEXTERNAL != 0
}

/// Weight of a version and its bytes with notes, wherever it is stored.
///
/// # Safety
/// A live version of the present format, at a multiple of 8.
#[inline]
pub unsafe fn measure(version: pg_sys::MinimalTuple) -> (i64, usize) {
    // SAFETY: by contract.
    unsafe {
        let signed = (*version).t_len;
        let notes = (&raw const (*version).mt_padding).cast::<u16>().read();
        (if signed & NEGATIVE == 0 { 1 } else { -1 }, length((signed & !NEGATIVE) as usize, notes as usize))
    }
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

    /// It is of a known format. Of another one, only transaction and command are known.
    pub fn is_readable(self) -> bool {
        self.format() <= FORMAT
    }

    fn format(self) -> u64 {
        // SAFETY: as above.
        unsafe { (*self.0).xid >> FORMAT_SHIFT }
    }

    pub fn cid(self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.0).cid }
    }

    pub fn is_wide(self) -> bool {
        // SAFETY: the null bitmap, if there is one, is the last byte of the header.
        unsafe {
            let has_nulls =
                u32::from((*self.0.cast::<pg_sys::HeapTupleHeaderData>()).t_infomask) & pg_sys::HEAP_HASNULL;
            has_nulls == 0 || *self.0.cast::<u8>().add(HEADER as usize - 1) & WIDE != 0
        }
    }

    /// The stored datum of a wide row, possibly toasted.
    pub fn payload(self) -> *mut pg_sys::varlena {
        // SAFETY: as above; `wide` follows `rows`, whose size is a multiple of 8 behind its header.
        unsafe {
            let first: *const u8 = (&raw const (*self.0).payload).cast();
            let before = if self.format() == 0 { 0 } else { varlena::varsize_4b(first.cast()) };
            first.add(before).cast_mut().cast()
        }
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

    /// Start and size of what `rows` holds behind its stamp: versions, or the notes of a wide one.
    fn body(self) -> (*const u8, usize) {
        // SAFETY: STORAGE PLAIN: a plain four-byte header, then stamp and body.
        unsafe {
            let stamp = if self.format() == 0 { 0 } else { STAMP };
            let size = varlena::varsize_4b((&raw const (*self.0).payload).cast()) - 4;
            (self.0.cast::<u8>().add(HEAD + stamp), size - stamp)
        }
    }

    /// Start and size of the versions of a row that is not wide. Those of format 0 have no count of notes.
    pub fn versions(self) -> (*const u8, usize) {
        self.body()
    }

    /// Its versions are laid out as the present format has them.
    pub fn is_present(self) -> bool {
        self.format() == FORMAT
    }

    /// Bytes of one of its versions.
    ///
    /// # Safety
    /// `version` is one of them.
    pub unsafe fn length_of(self, version: pg_sys::MinimalTuple) -> usize {
        // SAFETY: by contract.
        unsafe {
            if self.is_present() { measure(version).1 } else { max_align(((*version).t_len & !NEGATIVE) as usize) }
        }
    }

    /// The notes of a row that is wide.
    pub fn wide_notes<'a>(self) -> &'a [Note] {
        if self.format() == 0 {
            return &[];
        }
        let (start, size) = self.body();
        // SAFETY: notes back to back; valid as long as the row.
        unsafe { std::slice::from_raw_parts(start.cast(), size / NOTE) }
    }

    /// When and by whom its references and notes were written, and where references lead.
    pub fn origin(self) -> Origin {
        let xid = self.xid();
        if self.format() == 0 {
            return Origin { xid, position: 0, toast: Referable::NOTHING };
        }
        // SAFETY: a stamp behind the head of the row.
        let stamp = unsafe { self.0.cast::<u8>().add(HEAD).cast::<Stamp>().read() };
        Origin { xid, position: stamp.position, toast: stamp.toast }
    }
}

/// The notes behind a version of the present format.
///
/// # Safety
/// As for `measure`.
pub unsafe fn notes_of<'a>(version: pg_sys::MinimalTuple) -> &'a [Note] {
    // SAFETY: by contract.
    unsafe {
        let count = (&raw const (*version).mt_padding).cast::<u16>().read();
        let behind = version.cast::<u8>().add(max_align(((*version).t_len & !NEGATIVE) as usize));
        std::slice::from_raw_parts(behind.cast(), count as usize)
    }
}

/// Gives versions of format 0 the count of notes that the present one has: none.
///
/// # Safety
/// `size` bytes of whole versions, in our own memory.
pub unsafe fn adopt(versions: *mut u8, size: usize) {
    let mut at = 0;
    while at < size {
        // SAFETY: by contract.
        unsafe {
            let version: pg_sys::MinimalTuple = versions.add(at).cast();
            set_notes(version, 0);
            at += max_align(((*version).t_len & !NEGATIVE) as usize);
        }
    }
}
