//! Versions that point into the TOAST table of their source, so that a wide value which an update leaves alone is neither
//! read nor written again.
//!
//! An update of a row keeps the TOAST pointers of the columns it does not change. The two versions that are stored of such
//! a row keep the pointer too: they *refer* to the value. The value may be gone when the change buffer is read, which is
//! provided for as follows.
//!
//! *Rule for writers.* A version refers to a value only if it belongs to a pair (the row before and after one update),
//! and both rows have the same on-disk pointer in the same column, which leads into the TOAST table of the table whose
//! trigger is running, a permanent heap. Any other value outside its row is fetched, as it is stored there (compressed or
//! not), and becomes part of the version. If the version has weight -1, a *note* at it says which value that was. The stamp of a
//! buffer row has the WAL position at which it was written, the TOAST table, and that table's file.
//!
//! *Rule for readers.* A reader has a snapshot S and a frontier F. It looks for a note of the value among the pending rows.
//! If there is one, it takes the copy there. Otherwise it hands the pointer on, as a scan of the table does.
//! If the TOAST table has another file than the stamp says, or none, the view is recomputed.
//!
//! *Proof that the value is found and is the right one.* Let version R, written by transaction W, refer to value V in
//! column c of table T, be pending, and let the reader use column c, so that c has been captured for all rows that are pending.
//!
//! 1. After the update of W the row has V: the server keeps a value whose pointer is the same in the old and the new
//!    row, and an UPDATE of a plain heap never moves its rows to another table (an update of a partitioned table may,
//!    but its TOAST table is not where the pointer leads). V belongs to this row and its later versions alone.
//! 2. Without another file, V goes only when a transaction X deletes the row or changes its column c, X has ended, and
//!    VACUUM sees that no snapshot needs it. X waits for the end of W, or is W.
//! 3. If X is not contained in S, V is there: it belongs to a row that S sees, and S is held while versions are used.
//! 4. If X is contained in S, its change was captured, as every change is that a delta may be computed from: there is a
//!    version of weight -1 of the old row, and c was fetched for it, since its pair (if it has one) has another value
//!    there. So a note of V is visible to S. It is pending: a frontier that covers X covers W, which ended before
//!    X could delete; and if X is W, the frontier of a refresh inside W lies between two of its statements, where everything
//!    that a statement did, and what its triggers did, has been captured or nothing has. For the same reason a segment is
//!    not truncated with the note in it while R is pending anywhere.
//! 5. A TRUNCATE, a table that is rewritten or dropped, VACUUM FULL, CLUSTER: these give the TOAST table another file or
//!    make another one. The reader compares under a lock on the TOAST table that excludes all of them and is kept.
//! 6. The number of a value is given to another value once V has been vacuumed and the counter of object ids has come
//!    round, so notes of V and of a later value V' may both be pending. V' was made after X had ended. References and notes of V'
//!    are therefore stamped behind the commit record of X, and notes of V before it. References to V are stamped before
//!    the note that X wrote, since X waited for W, unless X is W, where a nested statement may capture the death of V before the
//!    outer one captures R. So the note for R is the one of the same transaction if there is one, else the first one
//!    that is stamped at or behind the stamp of R. (W cannot have noted V' as well, because it would have to end first.)
//! 7. A note may also be written for a value that lives on, as when the rows of an update cannot be paired. That does no harm:
//!    a value never changes, so that the copy is as good as the value.
//! 8. Nothing of this depends on columns that a reader does not use. Their references may lead nowhere; nobody follows them.

use super::buffer::{NEGATIVE, StoredRow, WIDE_OFFSET, length, measure, notes_of};
use super::frontier::Frontier;
use super::walk::{Place, Walk};
use crate::error::cannot_happen;
use crate::pg::memory::within;
use crate::pg::relation::Relation;
use crate::pg::{interrupt, server};
use pgrx::{pg_sys, varlena};

/// What identifies a TOAST value at a time.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ValueId {
    toast: u32,
    value: u32,
}

/// Says that a version has a copy of this value in a column (its index).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Note {
    pub column: u64,
    pub value: ValueId,
}

impl Note {
    pub const EMPTY: Self = Self { column: 0, value: ValueId { toast: 0, value: 0 } };
}

/// A TOAST table and its file.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Referable {
    toast: u32,
    file: u32,
}

impl Referable {
    pub const NOTHING: Self = Self { toast: 0, file: 0 };

    pub fn is_nothing(self) -> bool {
        self == Self::NOTHING
    }

    /// A TOAST table as it is now.
    ///
    /// # Safety
    /// Inside a guard. The table it belongs to is locked by a statement that writes to it.
    pub unsafe fn now(toast: pg_sys::Oid) -> Self {
        // SAFETY: inside a guard; the row is released after it has been read.
        unsafe {
            let cache = pg_sys::SysCacheIdentifier::RELOID as i32;
            let row = server::SearchSysCache1(cache, pg_sys::Datum::from(toast));
            if row.is_null() {
                return Self::NOTHING;
            }
            let header = (*row).t_data.cast::<u8>();
            let form = header.add((*(*row).t_data).t_hoff as usize).cast::<pg_sys::FormData_pg_class>();
            let file = (*form).relfilenode.to_u32();
            server::ReleaseSysCache(row);
            Self { toast: toast.to_u32(), file }
        }
    }

    /// The values there still are where they were. The lock that keeps it so is held to the end of the transaction.
    pub fn holds(self) -> bool {
        interrupt::check();
        let toast = Relation::try_open(self.toast.into(), pg_sys::AccessShareLock);
        toast.is_some_and(|toast| {
            let form = toast.form();
            form.relkind as u8 == pg_sys::RELKIND_TOASTVALUE && form.relfilenode.to_u32() == self.file
        })
    }
}

/// By whom and when the references and notes of a buffer row were written, and where references lead.
#[derive(Clone, Copy)]
pub struct Origin {
    pub xid: u64,
    pub position: u64,
    pub toast: Referable,
}

impl Origin {
    pub const NOTHING: Self = Self { xid: 0, position: 0, toast: Referable::NOTHING };
}

/// The TOAST table that versions of this table's rows may point into, if any.
///
/// # Safety
/// An open relation.
pub unsafe fn toast_of(table: pg_sys::Relation) -> pg_sys::Oid {
    // SAFETY: open by contract.
    let form = unsafe { &*(*table).rd_rel };
    let heap = form.relam == pg_sys::HEAP_TABLE_AM_OID && form.relkind as u8 == pg_sys::RELKIND_RELATION;
    let permanent = form.relpersistence as u8 == pg_sys::RELPERSISTENCE_PERMANENT;
    if heap && permanent { form.reltoastrelid } else { pg_sys::InvalidOid }
}

/// The TOAST value that a datum points to, if it does.
///
/// # Safety
/// `value` is a live varlena.
#[inline]
pub unsafe fn value_of(value: pg_sys::Datum) -> Option<ValueId> {
    const ON_DISK: u8 = pg_sys::vartag_external::VARTAG_ONDISK as u8;
    let value: *const pg_sys::varlena = value.cast_mut_ptr();
    // SAFETY: alive by contract; the tag is the second byte of an external varlena.
    unsafe {
        let on_disk = varlena::varatt_is_1b_e(value) && value.cast::<u8>().add(1).read() == ON_DISK;
        on_disk.then(|| {
            let pointer = value.cast::<u8>().add(2).cast::<pg_sys::varatt_external>().read_unaligned();
            ValueId { toast: pointer.va_toastrelid.to_u32(), value: pointer.va_valueid.to_u32() }
        })
    }
}

/// Both datums point to the same value in `toast`.
///
/// # Safety
/// Live varlenas.
pub unsafe fn share(a: pg_sys::Datum, b: pg_sys::Datum, toast: pg_sys::Oid) -> bool {
    // SAFETY: by contract.
    let (a, b) = unsafe { (value_of(a), value_of(b)) };
    toast != pg_sys::InvalidOid && a == b && a.is_some_and(|value| value.toast == toast.to_u32())
}

/// How many notes may be pending where there are references: as many as there is memory for, as for a hash table.
pub fn limit() -> u64 {
    // SAFETY: computes from settings.
    (unsafe { pg_sys::get_hash_memory_limit() } / size_of::<Copy>()) as u64
}

/// Where a note says that a copy of a value is.
#[derive(Clone, Copy)]
struct Copy {
    value: ValueId,
    xid: u64,
    position: u64,
    place: Place,
    /// Of the version within the buffer row; wide versions have a row of their own.
    at: Option<u16>,
    column: u16,
}

/// The notes that are pending for a view from one source. An error while it is in use drops it without calling the server.
pub struct Copies {
    /// By value and position.
    notes: Vec<Copy>,
    walk: Walk,
    source: pg_sys::Relation,
}

impl Copies {
    pub fn collect(source: pg_sys::Oid, frontier: &Frontier, snapshot: pg_sys::Snapshot) -> Self {
        let source = Relation::open(source, pg_sys::AccessShareLock);
        let walk = Walk::begin(source.oid(), frontier, snapshot);
        let mut copies = Self { notes: vec![], walk, source: source.into_raw() };
        // SAFETY: nothing in the closure has a destructor or panics; a row is read before the next one is asked for.
        while let Some(row) = unsafe { server::guarded(|| copies.walk.next_pending()) } {
            if row.origin().position != 0 {
                copies.read(row);
            }
        }
        copies.walk.check_sound();
        copies.notes.sort_unstable_by_key(|copy| (copy.value, copy.position));
        copies
    }

    fn read(&mut self, row: StoredRow) {
        let (Origin { xid, position, .. }, place) = (row.origin(), self.walk.place());
        let mut add = |note: &Note, at| {
            self.notes.push(Copy { value: note.value, xid, position, place, at, column: note.column as u16 });
        };
        if row.is_wide() {
            return row.wide_notes().iter().for_each(|note| add(note, None));
        }
        let (versions, size) = row.versions();
        let mut at = 0;
        while at < size {
            // SAFETY: whole versions lie in `size` bytes of the pinned page.
            unsafe {
                let version = versions.add(at).cast_mut().cast();
                notes_of(version).iter().for_each(|note| add(note, Some(at as u16)));
                at += measure(version).1;
            }
        }
    }

    /// The copy that a reference of `origin` needs, if it needs one.
    fn find(&self, value: ValueId, origin: Origin) -> Option<Copy> {
        let first = self.notes.partition_point(|copy| copy.value < value);
        let copies = || self.notes[first..].iter().take_while(|copy| copy.value == value);
        let own = copies().find(|copy| copy.xid == origin.xid);
        own.or_else(|| copies().find(|copy| copy.position >= origin.position)).copied()
    }

    /// The version with copies in the place of references that need them, in `memory`; None when none does.
    ///
    /// # Safety
    /// `version` is a live minimal tuple of the source; `memory` is alive.
    pub unsafe fn resolve(
        &self,
        version: pg_sys::MinimalTuple,
        origin: Origin,
        memory: pg_sys::MemoryContext,
    ) -> Option<pg_sys::MinimalTuple> {
        if self.notes.is_empty() {
            return None;
        }
        // SAFETY: the tuple is alive; the relation is open until `end`.
        unsafe {
            let desc = (*self.source).rd_att;
            let (mut values, nulls) = deform(version, desc);
            let mut copied: Vec<*mut pg_sys::varlena> = vec![];
            for column in 0..values.len() {
                let is_varlena = (*pg_sys::TupleDescCompactAttr(desc, column as i32)).attlen == -1;
                if nulls[column] || !is_varlena {
                    continue;
                }
                let copy = value_of(values[column]).and_then(|value| self.find(value, origin));
                if let Some(copy) = copy {
                    let inside = within(memory, || self.fetch(copy));
                    values[column] = pg_sys::Datum::from(inside);
                    copied.push(inside);
                }
            }
            let formed = (!copied.is_empty())
                .then(|| within(memory, || pg_sys::heap_form_minimal_tuple(desc, values.as_ptr(), nulls.as_ptr(), 0)));
            copied.into_iter().for_each(|copy| pg_sys::pfree(copy.cast()));
            formed
        }
    }

    /// The value, in the current memory context.
    unsafe fn fetch(&self, copy: Copy) -> *mut pg_sys::varlena {
        // SAFETY: the row is visible to the reader's snapshot and its segment is not truncated before the reader has ended.
        unsafe {
            let memory = server::guarded(|| self.walk.with_row(copy.place, |row| copy_version(row, copy.at)));
            let version: pg_sys::MinimalTuple = match copy.at {
                Some(_) => memory.cast(),
                None => memory.cast::<u8>().add(WIDE_OFFSET).cast(),
            };
            (*version).t_len &= !NEGATIVE;
            let (values, nulls) = deform(version, (*self.source).rd_att);
            let column = usize::from(copy.column);
            if nulls.get(column).is_none_or(|&null| null) {
                cannot_happen("a note in a change buffer names no value");
            }
            let value: *mut pg_sys::varlena = values[column].cast_mut_ptr();
            let size = varlena::varsize_any(value);
            let inside = pg_sys::palloc(size);
            std::ptr::copy_nonoverlapping(value.cast::<u8>(), inside.cast(), size);
            pg_sys::pfree(memory.cast());
            inside.cast()
        }
    }

    /// Closes what is open.
    pub fn end(mut self) {
        self.walk.end();
        // SAFETY: opened by `collect`, closed once; the lock stays.
        unsafe { pg_sys::relation_close(self.source, pg_sys::NoLock as i32) };
    }
}

/// The version at `at` of a row, or the payload of a wide one, in memory of our own.
unsafe fn copy_version(row: StoredRow, at: Option<u16>) -> *mut pg_sys::varlena {
    // SAFETY: inside a guard; the row's page is pinned.
    unsafe {
        let Some(at) = at else { return server::pg_detoast_datum_copy(row.payload()) };
        let version = row.versions().0.add(usize::from(at));
        let size = length(((*version.cast::<pg_sys::MinimalTupleData>()).t_len & !NEGATIVE) as usize, 0);
        let memory = server::palloc(size).cast::<u8>();
        std::ptr::copy_nonoverlapping(version, memory, size);
        memory.cast()
    }
}

unsafe fn deform(version: pg_sys::MinimalTuple, desc: pg_sys::TupleDesc) -> (Vec<pg_sys::Datum>, Vec<bool>) {
    // SAFETY: a minimal tuple is a heap tuple without the first bytes of its header, which are not read; the arrays have
    // one entry per column.
    unsafe {
        let natts = (*desc).natts as usize;
        let (mut values, mut nulls) = (vec![pg_sys::Datum::null(); natts], vec![true; natts]);
        let mut tuple = pg_sys::HeapTupleData {
            t_len: (*version).t_len + MINIMAL_OFFSET as u32,
            t_data: version.cast::<u8>().sub(MINIMAL_OFFSET).cast(),
            ..Default::default()
        };
        pg_sys::heap_deform_tuple(&raw mut tuple, desc, values.as_mut_ptr(), nulls.as_mut_ptr());
        (values, nulls)
    }
}

/// `MINIMAL_TUPLE_OFFSET`.
const MINIMAL_OFFSET: usize = 8;
