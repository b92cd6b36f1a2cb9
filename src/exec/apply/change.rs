//! Changes of a view and how they are grouped.

use crate::pg::image::{Row, Shape};
use crate::pg::{facts, server};
use pgrx::pg_sys;
use smallvec::SmallVec;
use std::cmp::Ordering;

/// A row, and how many times it comes (weight > 0) or goes (weight < 0).
#[derive(Clone, Copy)]
pub struct Change {
    /// The view's columns, perhaps followed by others.
    pub tuple: pg_sys::MinimalTuple,
    pub weight: i64,
    /// Hash of the row's image: different hashes mean different rows.
    pub image: i64,
    /// See `Grouping::Hash`.
    pub group: i64,
    /// Where a stored row of this image is, where that is known.
    pub place: Place,
}

/// The block and offset of a stored row in one number, which goes through sorts; 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place(pub i64);

impl Place {
    pub const NONE: Self = Self(0);

    pub fn of(tid: pg_sys::ItemPointerData) -> Self {
        Self(pgrx::itemptr::item_pointer_to_u64(tid) as i64)
    }

    pub fn tid(self) -> Option<pg_sys::ItemPointerData> {
        (self != Self::NONE).then(|| {
            let mut tid = pg_sys::ItemPointerData::default();
            pgrx::itemptr::u64_to_item_pointer(self.0 as u64, &mut tid);
            tid
        })
    }

    /// This place, or the other one where this is not known.
    pub fn or(self, other: Self) -> Self {
        if self == Self::NONE { other } else { self }
    }
}

/// Which changes must be seen together: those of one group are netted, paired and written as one run.
pub enum Grouping {
    /// Rows of equal key.
    Key(KeyOrder),
    /// Rows of which these columns have the same image hash (`Change::group`).
    Hash(Vec<usize>),
    /// All rows: the view has one row at most.
    One,
}

impl Grouping {
    /// `Change::image` and `Change::group` of a row.
    ///
    /// # Safety
    /// `row` is a live row of `shape`.
    pub unsafe fn hashes(&self, shape: &Shape, row: Row) -> (i64, i64) {
        // SAFETY: a live row of the shape.
        unsafe {
            let image = shape.hash(row, 0..shape.len());
            match self {
                Self::Hash(columns) if columns.len() == shape.len() => (image, image),
                _ => (image, self.group(shape, row)),
            }
        }
    }

    /// `Change::group` of a row.
    ///
    /// # Safety
    /// As `hashes`.
    pub unsafe fn group(&self, shape: &Shape, row: Row) -> i64 {
        match self {
            // SAFETY: a live row of the shape.
            Self::Hash(columns) => unsafe { shape.hash(row, columns.iter().copied()) },
            Self::Key(_) | Self::One => 0,
        }
    }
}

/// The order of a unique key: each column's default btree order, nulls last.
pub struct KeyOrder {
    pub columns: Vec<usize>,
    /// Keys are equal exactly if their images are.
    pub by_image: bool,
    supports: Vec<pg_sys::SortSupportData>,
}

impl KeyOrder {
    /// The order of these columns of `desc`, which have one.
    pub fn new(desc: pg_sys::TupleDesc, columns: &[usize]) -> Self {
        // SAFETY: the columns are in the descriptor.
        let supports = columns.iter().map(|&column| unsafe { sort_support(desc, column) }).collect();
        // SAFETY: as above.
        let by_image = columns.iter().all(|&column| unsafe { equal_by_image(desc, column) });
        Self { columns: columns.to_vec(), by_image, supports }
    }

    /// The key of a row.
    pub fn key(&self, row: Row) -> Key {
        self.columns
            .iter()
            .map(|&column| pg_sys::NullableDatum { value: row.values[column], isnull: row.nulls[column] })
            .collect()
    }

    /// # Safety
    /// Both are live keys of the descriptor's rows.
    pub unsafe fn compare(&mut self, a: &[pg_sys::NullableDatum], b: &[pg_sys::NullableDatum]) -> Ordering {
        for (support, (a, b)) in self.supports.iter_mut().zip(a.iter().zip(b)) {
            let ordering = match (a.isnull, b.isnull) {
                // SAFETY: live values of the column's type.
                (false, false) => unsafe { compare_values(support, a.value, b.value) },
                (a, b) => a.cmp(&b),
            };
            if ordering != Ordering::Equal {
                return ordering;
            }
        }
        Ordering::Equal
    }
}

/// The values of the key columns, in the order of the key.
pub type Key = SmallVec<[pg_sys::NullableDatum; 2]>;

/// The type's `<`, and the column's collation.
pub fn sort_operator(desc: pg_sys::TupleDesc, column: usize) -> (pg_sys::Oid, pg_sys::Oid) {
    // SAFETY: the column is in the descriptor; type cache entries live for ever.
    unsafe {
        let attribute = &*pg_sys::TupleDescAttr(desc, column as i32);
        let entry = pg_sys::lookup_type_cache(attribute.atttypid, pg_sys::TYPECACHE_LT_OPR as i32);
        ((*entry).lt_opr, attribute.attcollation)
    }
}

/// Whether the column's values are equal exactly if their images are.
unsafe fn equal_by_image(desc: pg_sys::TupleDesc, column: usize) -> bool {
    // SAFETY: the column is in the descriptor.
    let attribute = unsafe { &*pg_sys::TupleDescAttr(desc, column as i32) };
    facts::equal_is_identical(attribute.atttypid, attribute.atttypmod, attribute.attcollation)
}

unsafe fn sort_support(desc: pg_sys::TupleDesc, column: usize) -> pg_sys::SortSupportData {
    let (operator, collation) = sort_operator(desc, column);
    // SAFETY: a zeroed support with its context and collation set is what the server fills in.
    unsafe {
        let mut support = pg_sys::SortSupportData {
            ssup_cxt: pg_sys::CurrentMemoryContext,
            ssup_collation: collation,
            ..Default::default()
        };
        pg_sys::PrepareSortSupportFromOrderingOp(operator, &mut support);
        support
    }
}

unsafe fn compare_values(support: &mut pg_sys::SortSupportData, a: pg_sys::Datum, b: pg_sys::Datum) -> Ordering {
    let compare = support.comparator.expect("a prepared support has a comparator");
    let support: *mut pg_sys::SortSupportData = support;
    // SAFETY: two live values of the comparator's type; nothing here has a destructor.
    unsafe { server::guarded(|| compare(a, b, support)) }.cmp(&0)
}
