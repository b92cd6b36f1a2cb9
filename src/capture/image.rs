//! From a row of a table to the version that is stored of it.
//!
//! A statement on a partition or inheritance child yields rows in that table's format; what is stored has the source's.
//! Two ways lead there:
//!
//! 1. *Copy* the row as it is, when it already has the source's format, every column is captured, no column is toasted
//!    outside the row, and no column lives only in the catalog as a missing value.
//! 2. *Form* it from its captured columns: others become null, toasted values are fetched, except those that an update
//!    has left alone (references.rs).
//!
//! A value that comes from outside its row is stored as it is there, compressed or not. Others are compressed, if their column
//! has it so, when the version is too large for a page; the change buffer itself compresses nothing.
//!
//! An update whose captured columns did not change says nothing and is left out. Columns are compared as they are
//! stored: values that differ in form only are written, which is correct, just not minimal.
//!
//! Methods marked so are called inside a guard: they have no destructors and do not panic.

use super::buffer::{CAPACITY, Writer, length, max_align};
use super::references::{self, Note};
use crate::pg::server;
use pgrx::{pg_sys, varlena};
use std::cell::Cell;

/// How rows of one table become versions of one source.
pub struct Image {
    /// Columns 1..=last captured of the source, without constraints.
    desc: pg_sys::TupleDesc,
    columns: Box<[Column]>,
    /// Input attributes to deform.
    deform: i32,
    /// Rows with at least this many attributes may be copied; None: never.
    copy_from: Option<u16>,
    /// Scratch space for forming, one entry per column of `desc`.
    values: Box<[Cell<pg_sys::Datum>]>,
    nulls: Box<[Cell<bool>]>,
    /// And one for the notes of a version, an entry per captured column.
    notes: Box<[Cell<Note>]>,
}

struct Column {
    /// Index in the input row.
    from: usize,
    /// Index in the stored row.
    to: usize,
    len: i16,
    byval: bool,
    /// How a value that is long is to be compressed, if at all.
    compression: Option<std::ffi::c_char>,
}

/// Values of fewer bytes are not worth compressing.
const LONG: usize = 512;

/// Start of the null bitmap of a minimal tuple, and of what lies behind transaction status.
const BITS: usize = 15;
const BODY: usize = 14;
/// Offset of a minimal tuple's `t_hoff` origin.
const MINIMAL_OFFSET: usize = 8;
const NATTS: u16 = pg_sys::HEAP_NATTS_MASK as u16;

impl Image {
    /// For rows of `input` as versions of `source`, of which `captured` (ascending, none dropped) is stored.
    ///
    /// # Safety
    /// Both descriptors are live.
    pub unsafe fn new(input: pg_sys::TupleDesc, source: pg_sys::TupleDesc, captured: &[i16]) -> Self {
        // SAFETY: attribute numbers are within the descriptors; the truncated copy lives in the cache's context.
        unsafe {
            let map = AttributeMap::new(input, source);
            let width = captured.last().map_or(0, |&attno| attno as usize);
            let columns: Box<[Column]> = captured
                .iter()
                .map(|&attno| {
                    let attribute = &*pg_sys::TupleDescCompactAttr(source, i32::from(attno) - 1);
                    let (len, byval) = (attribute.attlen, attribute.attbyval);
                    let full = &*pg_sys::TupleDescAttr(source, i32::from(attno) - 1);
                    let compressed = [pg_sys::TYPSTORAGE_EXTENDED, pg_sys::TYPSTORAGE_MAIN];
                    let compression = compressed.contains(&(full.attstorage as u8)).then_some(full.attcompression);
                    Column { from: map.input(attno) - 1, to: attno as usize - 1, len, byval, compression }
                })
                .collect();
            let old = pg_sys::MemoryContextSwitchTo(pg_sys::CacheMemoryContext);
            let desc = pg_sys::CreateTupleDescTruncatedCopy(source, width as i32);
            pg_sys::MemoryContextSwitchTo(old);
            Self {
                desc,
                deform: columns.iter().map(|c| c.from as i32 + 1).max().unwrap_or(0),
                copy_from: (map.is_identity() && all_live(source, captured)).then(|| complete_from(input)),
                notes: columns.iter().map(|_| Cell::new(Note::EMPTY)).collect(),
                columns,
                values: (0..width).map(|_| Cell::new(pg_sys::Datum::from(0usize))).collect(),
                nulls: (0..width).map(|_| Cell::new(true)).collect(),
            }
        }
    }

    /// Columns that may be stored outside their rows are captured.
    pub fn fetches(&self) -> bool {
        self.columns.iter().any(|column| column.len == -1)
    }

    /// Stores the row in `slot`.
    ///
    /// # Safety
    /// Inside a guard; `slot` holds a row of the input table as a minimal tuple.
    pub unsafe fn put(&self, writer: &mut Writer, slot: *mut pg_sys::TupleTableSlot, weight: i64) {
        // SAFETY: by contract.
        unsafe {
            match self.copyable(slot) {
                Some(tuple) => writer.put(tuple, (*tuple).t_len as usize, weight),
                None => self.form(writer, slot, weight),
            }
        }
    }

    /// Stores the deletion of one row and the insertion of another, unless their images are equal.
    ///
    /// # Safety
    /// As for `put`, for both slots.
    pub unsafe fn put_pair(
        &self,
        writer: &mut Writer,
        old: *mut pg_sys::TupleTableSlot,
        new: *mut pg_sys::TupleTableSlot,
    ) {
        // SAFETY: by contract.
        unsafe {
            if let (Some(before), Some(after)) = (self.copyable(old), self.copyable(new)) {
                if !same_body(before, after) {
                    writer.put(before, (*before).t_len as usize, -1);
                    writer.put(after, (*after).t_len as usize, 1);
                }
                return;
            }
            self.form_pair(writer, old, new);
        }
    }

    /// As `put_pair`, for rows in slots of any kind.
    ///
    /// # Safety
    /// Inside a guard; both slots hold rows of the input table.
    pub unsafe fn form_pair(
        &self,
        writer: &mut Writer,
        old: *mut pg_sys::TupleTableSlot,
        new: *mut pg_sys::TupleTableSlot,
    ) {
        // SAFETY: by contract.
        unsafe {
            self.deform(old);
            self.deform(new);
            if !self.columns.iter().all(|column| column.is_same(old, new)) {
                self.form_beside(writer, old, -1, new);
                self.form_beside(writer, new, 1, old);
            }
        }
    }

    /// The slot's tuple, when it may be stored as it is.
    unsafe fn copyable(&self, slot: *mut pg_sys::TupleTableSlot) -> Option<pg_sys::MinimalTuple> {
        let from = self.copy_from?;
        // SAFETY: a minimal tuple slot by contract of the callers.
        unsafe {
            let tuple = (*slot.cast::<pg_sys::MinimalTupleTableSlot>()).mintuple;
            let complete = (*tuple).t_infomask2 & NATTS >= from && (*tuple).t_len as usize <= CAPACITY;
            (complete && u32::from((*tuple).t_infomask) & pg_sys::HEAP_HASEXTERNAL == 0).then_some(tuple)
        }
    }

    #[inline]
    unsafe fn deform(&self, slot: *mut pg_sys::TupleTableSlot) {
        // SAFETY: inside a guard; the input table has that many columns.
        unsafe {
            if i32::from((*slot).tts_nvalid) < self.deform {
                server::slot_getsomeattrs_int(slot, self.deform);
            }
        }
    }

    /// Stores the row in `slot`, of any kind, from its captured columns.
    ///
    /// # Safety
    /// Inside a guard; `slot` holds a row of the input table.
    pub unsafe fn form(&self, writer: &mut Writer, slot: *mut pg_sys::TupleTableSlot, weight: i64) {
        // SAFETY: by contract.
        unsafe { self.form_beside(writer, slot, weight, std::ptr::null_mut()) }
    }

    /// As `form`; refers to values outside the row that `other`, the row before or after an update, has too.
    unsafe fn form_beside(
        &self,
        writer: &mut Writer,
        slot: *mut pg_sys::TupleTableSlot,
        weight: i64,
        other: *mut pg_sys::TupleTableSlot,
    ) {
        // SAFETY: scratch arrays have one entry per column of `desc`, or per captured column; both rows are deformed.
        unsafe {
            self.deform(slot);
            let mut made = std::ptr::null_mut();
            let mut notes = 0;
            for column in &self.columns {
                let value = (*slot).tts_values.add(column.from).read();
                let null = (*slot).tts_isnull.add(column.from).read();
                let mut inside = value;
                if !null && column.is_external(value) && !column.is_shared(value, other, writer.toast()) {
                    inside = fetch(value, &mut made);
                    if let (true, Some(value)) = (weight < 0, references::value_of(value)) {
                        let note = Note { column: column.to as u64, value };
                        self.notes.as_ptr().add(notes).cast_mut().cast::<Note>().write(note);
                        notes += 1;
                    }
                }
                self.set(column, inside, null);
            }
            let (mut start, mut data) = self.measure();
            if length(start + data, notes) > CAPACITY {
                self.compress(slot, &mut made);
                (start, data) = self.measure();
            }
            self.write(writer, weight, (start, data), notes);
            free(made);
        }
    }

    unsafe fn set(&self, column: &Column, value: pg_sys::Datum, null: bool) {
        // SAFETY: scratch arrays have one entry per column of `desc`.
        unsafe {
            self.values.as_ptr().add(column.to).cast_mut().cast::<pg_sys::Datum>().write(value);
            self.nulls.as_ptr().add(column.to).cast_mut().cast::<bool>().write(null);
        }
    }

    /// Where the data of the scratch values begins in a minimal tuple, and its bytes.
    unsafe fn measure(&self) -> (usize, usize) {
        let (values, nulls) = (self.values.as_ptr().cast::<pg_sys::Datum>(), self.nulls.as_ptr().cast::<bool>());
        let has_nulls = self.nulls.iter().any(Cell::get);
        let bitmap = if has_nulls { self.nulls.len().div_ceil(8) } else { 0 };
        // SAFETY: scratch arrays match `desc`.
        (max_align(BITS + bitmap), unsafe { server::heap_compute_data_size(self.desc, values, nulls) })
    }

    /// Compresses long scratch values that `slot` has inside its row, plain.
    unsafe fn compress(&self, slot: *mut pg_sys::TupleTableSlot, made: &mut *mut Made) {
        for column in &self.columns {
            let Some(compression) = column.compression else { continue };
            // SAFETY: inside a guard; the slot is deformed, and a varlena column's non-null datum points to a varlena.
            unsafe {
                let value = (*slot).tts_values.add(column.from).read();
                let plain: *const pg_sys::varlena = value.cast_mut_ptr();
                let is_long = |value| varlena::varatt_is_4b_u(value) && varlena::varsize_4b(value) > LONG;
                if column.len != -1 || *(*slot).tts_isnull.add(column.from) || !is_long(plain) {
                    continue;
                }
                let compressed = server::toast_compress_datum(value, compression);
                if compressed.value() != 0 {
                    remember(compressed.cast_mut_ptr(), made);
                    self.set(column, compressed, false);
                }
            }
        }
    }

    /// Writes the scratch values as a minimal tuple straight into the writer's page (as heap_form_minimal_tuple does).
    unsafe fn write(&self, writer: &mut Writer, weight: i64, (start, data): (usize, usize), notes: usize) {
        let (values, nulls) = (self.values.as_ptr().cast::<pg_sys::Datum>(), self.nulls.as_ptr().cast::<bool>());
        let has_nulls = self.nulls.iter().any(Cell::get);
        // SAFETY: scratch arrays match `desc`; the tuple has `start + data` bytes; `notes` notes are written.
        unsafe {
            let notes = std::slice::from_raw_parts(self.notes.as_ptr().cast::<Note>(), notes);
            let size = start + data;
            let room = writer.room(length(size, notes.len()));
            let wide = room.is_null();
            let tuple: pg_sys::MinimalTuple = if wide { server::palloc(size).cast() } else { room };
            tuple.cast::<u8>().write_bytes(0, size);
            (*tuple).t_infomask2 = self.nulls.len() as u16;
            (*tuple).t_hoff = (start + MINIMAL_OFFSET) as u8;
            let bits = if has_nulls { tuple.cast::<u8>().add(BITS) } else { std::ptr::null_mut() };
            let body = tuple.cast::<std::ffi::c_char>().add(start);
            server::heap_fill_tuple(self.desc, values, nulls, body, data, &raw mut (*tuple).t_infomask, bits);
            if wide {
                writer.put_wide(tuple, size, weight, notes);
                server::pfree(tuple.cast());
            } else {
                writer.commit(tuple, size, weight, notes);
            }
        }
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // SAFETY: our own copy, not reference-counted.
        unsafe { pg_sys::FreeTupleDesc(self.desc) };
    }
}

impl Column {
    #[inline]
    unsafe fn is_external(&self, value: pg_sys::Datum) -> bool {
        // SAFETY: a varlena column's non-null datum points to a varlena.
        self.len == -1 && unsafe { varlena::varatt_is_1b_e(value.cast_mut_ptr()) }
    }

    /// A value outside its row, to which a version may refer since `other` (or null) has it too.
    unsafe fn is_shared(&self, value: pg_sys::Datum, other: *mut pg_sys::TupleTableSlot, toast: pg_sys::Oid) -> bool {
        // SAFETY: `other` is deformed up to this column, if there is one.
        unsafe {
            !other.is_null()
                && !*(*other).tts_isnull.add(self.from)
                && references::share(value, *(*other).tts_values.add(self.from), toast)
        }
    }

    /// Whether two deformed rows hold the same stored bytes in this column.
    #[inline]
    unsafe fn is_same(&self, old: *mut pg_sys::TupleTableSlot, new: *mut pg_sys::TupleTableSlot) -> bool {
        // SAFETY: both rows are deformed up to this column.
        unsafe {
            let nulls = (*(*old).tts_isnull.add(self.from), *(*new).tts_isnull.add(self.from));
            match nulls {
                (true, true) => true,
                (false, false) => self.same_datum(*(*old).tts_values.add(self.from), *(*new).tts_values.add(self.from)),
                _ => false,
            }
        }
    }

    #[inline]
    unsafe fn same_datum(&self, a: pg_sys::Datum, b: pg_sys::Datum) -> bool {
        if self.byval {
            return a == b;
        }
        let (a, b): (*mut pg_sys::varlena, *mut pg_sys::varlena) = (a.cast_mut_ptr(), b.cast_mut_ptr());
        // SAFETY: datums of a by-reference type of this length.
        unsafe {
            let (size_a, size_b) = match self.len {
                -1 => (varlena::varsize_any(a), varlena::varsize_any(b)),
                -2 => (libc_strlen(a), libc_strlen(b)),
                len => (len as usize, len as usize),
            };
            size_a == size_b && same_bytes(a.cast(), b.cast(), size_a)
        }
    }
}

/// Length of a NUL-terminated datum.
unsafe fn libc_strlen(text: *const pg_sys::varlena) -> usize {
    // SAFETY: a cstring datum.
    unsafe { std::ffi::CStr::from_ptr(text.cast()).count_bytes() }
}

#[inline]
unsafe fn same_bytes(a: *const u8, b: *const u8, size: usize) -> bool {
    // SAFETY: both have `size` bytes.
    unsafe { std::slice::from_raw_parts(a, size) == std::slice::from_raw_parts(b, size) }
}

/// A value made for a version, to be freed.
struct Made {
    value: *mut pg_sys::varlena,
    next: *mut Made,
}

/// Brings a toasted value inside (compressed values stay compressed).
unsafe fn fetch(value: pg_sys::Datum, made: &mut *mut Made) -> pg_sys::Datum {
    // SAFETY: inside a guard; `value` is an external varlena.
    unsafe {
        let inside = server::detoast_external_attr(value.cast_mut_ptr());
        remember(inside, made);
        pg_sys::Datum::from(inside)
    }
}

unsafe fn remember(value: *mut pg_sys::varlena, made: &mut *mut Made) {
    // SAFETY: inside a guard.
    unsafe {
        let entry: *mut Made = server::palloc(size_of::<Made>()).cast();
        entry.write(Made { value, next: *made });
        *made = entry;
    }
}

unsafe fn free(mut made: *mut Made) {
    while !made.is_null() {
        // SAFETY: inside a guard; entries and values were made by palloc.
        unsafe {
            let next = (*made).next;
            server::pfree((*made).value.cast());
            server::pfree(made.cast());
            made = next;
        }
    }
}

/// Two rows that may be copied have equal columns: same null bitmap and data, transaction status aside.
unsafe fn same_body(a: pg_sys::MinimalTuple, b: pg_sys::MinimalTuple) -> bool {
    // SAFETY: both have t_len bytes.
    unsafe {
        let size = (*a).t_len as usize;
        let has_null = (*a).t_infomask ^ (*b).t_infomask;
        (*b).t_len as usize == size
            && u32::from(has_null) & pg_sys::HEAP_HASNULL == 0
            && ((*a).t_infomask2 ^ (*b).t_infomask2) & NATTS == 0
            && same_bytes(a.cast::<u8>().add(BODY), b.cast::<u8>().add(BODY), size - BODY)
    }
}

/// Every column that has a stored value is captured.
unsafe fn all_live(source: pg_sys::TupleDesc, captured: &[i16]) -> bool {
    // SAFETY: a live descriptor.
    unsafe {
        (1..=(*source).natts as i16).all(|attno| {
            let attribute = &*pg_sys::TupleDescAttr(source, i32::from(attno) - 1);
            let stored = !attribute.attisdropped && attribute.attgenerated as u8 != pg_sys::ATTRIBUTE_GENERATED_VIRTUAL;
            !stored || captured.contains(&attno)
        })
    }
}

/// Rows with this many attributes do not rely on missing values of the catalog, which a rewrite forgets.
unsafe fn complete_from(input: pg_sys::TupleDesc) -> u16 {
    // SAFETY: a live descriptor.
    unsafe {
        let missing = |i: &i32| (*pg_sys::TupleDescCompactAttr(input, *i)).atthasmissing;
        (0..(*input).natts).rev().find(missing).map_or(0, |i| i as u16 + 1)
    }
}

/// Which input column feeds each column of the source, by name.
struct AttributeMap(*mut pg_sys::AttrMap);

impl AttributeMap {
    unsafe fn new(input: pg_sys::TupleDesc, source: pg_sys::TupleDesc) -> Self {
        if std::ptr::eq(input, source) {
            return Self(std::ptr::null_mut());
        }
        // SAFETY: live descriptors; null when rows need no conversion.
        Self(unsafe { pg_sys::build_attrmap_by_name_if_req(input, source, false) })
    }

    fn is_identity(&self) -> bool {
        self.0.is_null()
    }

    /// Attribute number in the input of an attribute of the source.
    fn input(&self, attno: i16) -> usize {
        if self.is_identity() {
            return attno as usize;
        }
        // SAFETY: the map has one entry per source attribute.
        unsafe { *(*self.0).attnums.add(attno as usize - 1) as usize }
    }
}

impl Drop for AttributeMap {
    fn drop(&mut self) {
        if !self.is_identity() {
            // SAFETY: our own map.
            unsafe { pg_sys::free_attrmap(self.0) };
        }
    }
}
