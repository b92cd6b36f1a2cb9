//! Row images: what the values of a row *are* (their detoasted bytes), whatever their types call equal.
//!
//! Cancellation and bag apply compare images (DESIGN section 4), so that a view holds exactly the values its query
//! gives: 1.0 and 1.00 are different rows. A composite value's image is the images of its fields, because the same
//! record may hold a field compressed in one place and plain in another.
//!
//! The hash stands in indexes on disk (`pgtrickle.row_image_hash`): its definition must never change.

use crate::pg::server;
use pgrx::pg_sys::{self, Datum};
use pgrx::varlena;

/// How the values of one column lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    by_value: bool,
    length: i16,
    composite: bool,
}

impl Layout {
    /// The layout of a type; -1 is a varlena, -2 a C string, as in pg_type.
    pub fn of(typid: pg_sys::Oid, length: i16, by_value: bool) -> Self {
        Self { by_value, length, composite: length == -1 && is_composite(typid) }
    }

    /// The layout of a type that is not composite.
    #[cfg(feature = "pg_test")]
    pub const fn plain(length: i16, by_value: bool) -> Self {
        Self { by_value, length, composite: false }
    }

    pub fn length(self) -> i16 {
        self.length
    }

    pub fn is_by_value(self) -> bool {
        self.by_value
    }

    /// # Safety
    /// Both are live values of this layout.
    pub unsafe fn equal(self, a: Datum, b: Datum) -> bool {
        if self.by_value {
            return self.word(a) == self.word(b);
        }
        if a.value() == b.value() {
            return true;
        }
        // SAFETY: by-reference values of this layout by contract.
        unsafe {
            match self.length {
                -1 if self.composite => record_equal(a, b),
                -1 => varlena_equal(a, b),
                // SAFETY: datum_image_eq only reads; nothing here has a destructor.
                length => server::guarded(|| server::datum_image_eq(a, b, false, length.into())),
            }
        }
    }

    /// # Safety
    /// `value` is a live value of this layout.
    pub unsafe fn hash(self, value: Datum) -> u64 {
        if self.by_value {
            return self.word(value);
        }
        // SAFETY: by-reference value of this layout by contract.
        unsafe {
            match self.length {
                -1 if self.composite => record_hash(value),
                -1 => varlena_hash(value),
                -2 => hash_bytes(std::ffi::CStr::from_ptr(value.cast_mut_ptr()).to_bytes()),
                length => hash_bytes(std::slice::from_raw_parts(value.cast_mut_ptr(), length as usize)),
            }
        }
    }

    /// The significant bits of a by-value datum: what its column stores.
    fn word(self, value: Datum) -> u64 {
        let word = value.value() as u64;
        match self.length {
            1 => word & 0xff,
            2 => word & 0xffff,
            4 => word & 0xffff_ffff,
            _ => word,
        }
    }
}

/// The layouts of some columns of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape(Vec<Layout>);

impl Shape {
    /// All columns of a row type.
    ///
    /// # Safety
    /// The descriptor is live.
    pub unsafe fn of(desc: pg_sys::TupleDesc) -> Self {
        // SAFETY: a tuple descriptor has natts attributes.
        unsafe { Self((0..(*desc).natts).map(|i| layout_at(desc, i)).collect()) }
    }

    pub fn new(layouts: Vec<Layout>) -> Self {
        Self(layouts)
    }

    /// The shape of the first `columns` columns.
    pub fn first(mut self, columns: usize) -> Self {
        self.0.truncate(columns);
        self
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether rows of `other` begin with columns of this shape.
    pub fn is_prefix_of(&self, other: &Shape) -> bool {
        other.0.starts_with(&self.0)
    }

    /// Whether two rows have the same image.
    ///
    /// # Safety
    /// The rows hold live values of this shape.
    pub unsafe fn equal(&self, a: Row, b: Row) -> bool {
        // SAFETY: the rows are of this shape.
        (0..self.len()).all(|i| unsafe { self.equal_at(i, a, b) })
    }

    /// Whether two rows have the same image in one column.
    ///
    /// # Safety
    /// As `equal`; `column` is in the shape.
    pub unsafe fn equal_at(&self, column: usize, a: Row, b: Row) -> bool {
        match (a.nulls[column], b.nulls[column]) {
            // SAFETY: live values of this layout by contract.
            (false, false) => unsafe { self.0[column].equal(a.values[column], b.values[column]) },
            (a, b) => a == b,
        }
    }

    /// The 64-bit hash of the image of the given columns, in this order, exactly as the (nested)
    /// call `row_image_hash(..)` of these columns computes it.
    ///
    /// # Safety
    /// The row holds live values of this shape; `columns` are in it.
    pub unsafe fn hash(&self, row: Row, columns: impl IntoIterator<Item = usize>) -> i64 {
        let mut hash = Hash::new();
        for (i, column) in columns.into_iter().enumerate() {
            if i > 0 && i % HASH_CHUNK == 0 {
                let inner = hash.finish();
                hash = Hash::new();
                hash.word(inner as u64);
            }
            // SAFETY: live values of this shape by contract.
            unsafe { hash.value(self.0[column], row.values[column], row.nulls[column]) };
        }
        hash.finish()
    }
}

/// A call passes at most 100 arguments (FUNC_MAX_ARGS): every call but the innermost takes the hash of the columns
/// before it as its first one.
pub const HASH_CHUNK: usize = 99;

/// The values of a deformed row.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    pub values: &'a [Datum],
    pub nulls: &'a [bool],
}

impl<'a> Row<'a> {
    /// The first `columns` columns.
    pub fn first(self, columns: usize) -> Row<'a> {
        Row { values: &self.values[..columns], nulls: &self.nulls[..columns] }
    }

    /// The value of a 0-based column.
    #[inline]
    pub fn at(self, column: usize) -> pg_sys::NullableDatum {
        pg_sys::NullableDatum { value: self.values[column], isnull: self.nulls[column] }
    }
}

/// A running image hash: one 64-bit word per value.
pub struct Hash(u64);

impl Hash {
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self(0x5f1d_36f1_0df6_3ab1)
    }

    pub fn word(&mut self, word: u64) {
        self.0 = scramble(self.0 ^ word);
    }

    pub fn null(&mut self) {
        self.word(0x9e37_79b9_7f4a_7c15);
    }

    /// # Safety
    /// `value` is a live value of `layout` unless `null`.
    pub unsafe fn value(&mut self, layout: Layout, value: Datum, null: bool) {
        if null {
            self.null();
        } else {
            // SAFETY: by contract.
            let word = unsafe { layout.hash(value) };
            self.word(word);
        }
    }

    pub fn finish(self) -> i64 {
        self.0 as i64
    }
}

/// A bijective mixer (the finalizer of MurmurHash3).
fn scramble(word: u64) -> u64 {
    let word = (word ^ (word >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let word = (word ^ (word >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    word ^ (word >> 33)
}

fn hash_bytes(bytes: &[u8]) -> u64 {
    // SAFETY: reads `bytes` and cannot raise.
    unsafe { server::hash_bytes_extended(bytes.as_ptr(), bytes.len() as i32, 0) }
}

/// # Safety
/// Both are live varlenas.
unsafe fn varlena_equal(a: Datum, b: Datum) -> bool {
    // SAFETY: live varlenas; datum_image_eq detoasts what is not plain.
    unsafe {
        match (plain_bytes(a), plain_bytes(b)) {
            (Some(a), Some(b)) => a == b,
            _ if same_pointer(a, b) => true,
            _ => server::guarded(|| server::datum_image_eq(a, b, false, -1)),
        }
    }
}

/// Both point to the same TOAST value.
///
/// # Safety
/// Both are live varlenas.
unsafe fn same_pointer(a: Datum, b: Datum) -> bool {
    let (a, b): (*const pg_sys::varlena, *const pg_sys::varlena) = (a.cast_mut_ptr(), b.cast_mut_ptr());
    // SAFETY: reads the headers; a pointer of either kind has as many bytes as its header says.
    unsafe {
        let bytes =
            |value: *const pg_sys::varlena| std::slice::from_raw_parts(value.cast::<u8>(), varlena::varsize_any(value));
        let on_disk = |value: *const pg_sys::varlena| {
            varlena::varatt_is_1b_e(value) && *value.cast::<u8>().add(1) == pg_sys::vartag_external::VARTAG_ONDISK as u8
        };
        on_disk(a) && on_disk(b) && bytes(a) == bytes(b)
    }
}

/// # Safety
/// `value` is a live varlena.
unsafe fn varlena_hash(value: Datum) -> u64 {
    // SAFETY: a live varlena; the copy made by detoasting is freed here.
    unsafe {
        if let Some(bytes) = plain_bytes(value) {
            return hash_bytes(bytes);
        }
        let plain = pg_sys::pg_detoast_datum_packed(value.cast_mut_ptr());
        let hash = hash_bytes(payload(plain));
        pg_sys::pfree(plain.cast());
        hash
    }
}

/// The payload of a varlena that is neither compressed nor out of line.
unsafe fn plain_bytes<'a>(value: Datum) -> Option<&'a [u8]> {
    // SAFETY: reads the header of a live varlena.
    unsafe {
        let value: *const pg_sys::varlena = value.cast_mut_ptr();
        let plain = varlena::varatt_is_4b_u(value) || (varlena::varatt_is_1b(value) && !varlena::varatt_is_1b_e(value));
        plain.then(|| payload(value))
    }
}

unsafe fn payload<'a>(value: *const pg_sys::varlena) -> &'a [u8] {
    // SAFETY: a plain varlena holds its payload right after the header.
    unsafe { std::slice::from_raw_parts(varlena::vardata_any(value).cast(), varlena::varsize_any_exhdr(value)) }
}

fn is_composite(typid: pg_sys::Oid) -> bool {
    match typid {
        // A dropped column has no type.
        pg_sys::InvalidOid => false,
        pg_sys::RECORDOID => true,
        // SAFETY: catalog lookups.
        _ => unsafe { pg_sys::get_typtype(pg_sys::getBaseType(typid)) == pg_sys::TYPTYPE_COMPOSITE as i8 },
    }
}

/// The layout of a 0-based column.
///
/// # Safety
/// `index` is a column of the live descriptor.
pub unsafe fn layout_at(desc: pg_sys::TupleDesc, index: i32) -> Layout {
    // SAFETY: index < natts.
    let attribute = unsafe { &*pg_sys::TupleDescAttr(desc, index) };
    Layout::of(attribute.atttypid, attribute.attlen, attribute.attbyval)
}

/// The fields of a composite value. Its header names the row type; dropped fields read as null.
struct Record {
    shape: Shape,
    values: Vec<Datum>,
    nulls: Vec<bool>,
    /// The value detoasted, when that took a copy.
    copy: Option<pg_sys::HeapTupleHeader>,
}

impl Record {
    /// # Safety
    /// `value` is a live composite value.
    unsafe fn open(value: Datum) -> Self {
        // SAFETY: a composite datum names its row type, whose descriptor stays pinned while it is read.
        unsafe {
            let header: pg_sys::HeapTupleHeader = pg_sys::pg_detoast_datum(value.cast_mut_ptr()).cast();
            let datum = &(*header).t_choice.t_datum;
            let desc = pg_sys::lookup_rowtype_tupdesc(datum.datum_typeid, datum.datum_typmod);
            let mut record = Self::empty(desc, (header != value.cast_mut_ptr()).then_some(header));
            record.deform(header, desc);
            if (*desc).tdrefcount >= 0 {
                pg_sys::DecrTupleDescRefCount(desc);
            }
            record
        }
    }

    unsafe fn empty(desc: pg_sys::TupleDesc, copy: Option<pg_sys::HeapTupleHeader>) -> Self {
        // SAFETY: a pinned descriptor.
        let shape = unsafe { Shape::of(desc) };
        let natts = shape.len();
        Self { shape, values: vec![Datum::null(); natts], nulls: vec![true; natts], copy }
    }

    unsafe fn deform(&mut self, header: pg_sys::HeapTupleHeader, desc: pg_sys::TupleDesc) {
        // SAFETY: the header is a plain composite datum of the row type; both arrays have natts elements.
        unsafe {
            let t_len = varlena::varsize(header.cast()) as u32;
            let mut tuple = pg_sys::HeapTupleData { t_len, t_data: header, ..Default::default() };
            pg_sys::heap_deform_tuple(&mut tuple, desc, self.values.as_mut_ptr(), self.nulls.as_mut_ptr());
            for (i, null) in self.nulls.iter_mut().enumerate() {
                *null |= (*pg_sys::TupleDescCompactAttr(desc, i as i32)).attisdropped;
            }
        }
    }

    fn row(&self) -> Row<'_> {
        Row { values: &self.values, nulls: &self.nulls }
    }

    fn close(self) {
        if let Some(copy) = self.copy {
            // SAFETY: palloc'd by detoasting in `open`.
            unsafe { pg_sys::pfree(copy.cast()) }
        }
    }
}

unsafe fn record_equal(a: Datum, b: Datum) -> bool {
    // SAFETY: live composite values by contract of the caller.
    unsafe {
        let (a, b) = (Record::open(a), Record::open(b));
        let equal = a.shape == b.shape && a.shape.equal(a.row(), b.row());
        a.close();
        b.close();
        equal
    }
}

unsafe fn record_hash(value: Datum) -> u64 {
    // SAFETY: a live composite value by contract of the caller.
    unsafe {
        let record = Record::open(value);
        let mut hash = Hash::new();
        // Fields that are NULL leave no trace: a column added to the row type later, or one that has gone, is NULL.
        for (i, &layout) in record.shape.0.iter().enumerate().filter(|&(i, _)| !record.nulls[i]) {
            hash.word(i as u64);
            hash.value(layout, record.values[i], false);
        }
        record.close();
        hash.finish() as u64
    }
}
