//! Finding the view's rows of a given image.
//!
//! Every way ends with a comparison of images; an index only makes the candidates few. Scans use the run's
//! snapshot, so they neither see what this run writes nor return a row twice.

use super::index::ApplyIndex;
use crate::error;
use crate::pg::image::{Row, Shape};
use crate::pg::interrupt;
use crate::pg::slot::Slot;
use pgrx::pg_sys::{self, Datum};

/// Searches one view for rows.
pub struct Finder {
    view: pg_sys::Relation,
    snapshot: pg_sys::Snapshot,
    how: How,
    /// The candidate row.
    found: Slot,
}

enum How {
    Key { scan: IndexScan, columns: Vec<usize> },
    Hash { scan: IndexScan, columns: Vec<usize> },
    Scan(pg_sys::TableScanDesc),
}

impl Finder {
    /// # Safety
    /// The view is open and stays so; `open_index` gives the open relation of an index of it.
    pub unsafe fn new(
        view: pg_sys::Relation,
        snapshot: pg_sys::Snapshot,
        index: &ApplyIndex,
        open_index: impl Fn(pg_sys::Oid) -> Option<pg_sys::Relation>,
    ) -> Self {
        // SAFETY: the view is open.
        let found = unsafe { Slot::make((*view).rd_att, pg_sys::table_slot_callbacks(view)) };
        let how = match index {
            ApplyIndex::Key { index, columns } => open_index(*index).map(|index| How::Key {
                // SAFETY: an open index.
                scan: unsafe { IndexScan::new(index, columns.len()) },
                columns: columns.clone(),
            }),
            ApplyIndex::Hash { index, columns } => open_index(*index).map(|index| How::Hash {
                // SAFETY: an open index.
                scan: unsafe { IndexScan::new(index, 1) },
                columns: columns.clone(),
            }),
            ApplyIndex::Single | ApplyIndex::None => None,
        };
        Self { view, snapshot, how: how.unwrap_or(How::Scan(std::ptr::null_mut())), found }
    }

    /// Starts a search for rows with the image of `row`.
    ///
    /// # Safety
    /// `row` is a live row of the view's shape until the search is over.
    pub unsafe fn search(&mut self, shape: &Shape, row: Row) {
        // SAFETY: live scans of an open relation; search keys borrow the row's values.
        unsafe {
            match &mut self.how {
                How::Key { scan, columns } => {
                    let keys = columns.iter().map(|&column| (row.values[column], row.nulls[column]));
                    scan.start(self.view, self.snapshot, keys);
                }
                How::Hash { scan, columns } => {
                    let hash = shape.hash(row, columns.iter().copied());
                    scan.start(self.view, self.snapshot, std::iter::once((Datum::from(hash), false)));
                }
                How::Scan(scan) if scan.is_null() => {
                    *scan = pg_sys::table_beginscan(self.view, self.snapshot, 0, std::ptr::null_mut());
                }
                How::Scan(scan) => pg_sys::table_rescan(*scan, std::ptr::null_mut()),
            }
        }
    }

    /// The next row found.
    ///
    /// # Safety
    /// After `search` with the same row.
    pub unsafe fn next(&mut self, shape: &Shape, row: Row) -> Option<pg_sys::ItemPointerData> {
        loop {
            interrupt::check();
            // SAFETY: the scan is started; the slot is of the view.
            let more = unsafe {
                match &self.how {
                    How::Key { scan, .. } | How::Hash { scan, .. } => scan.next(self.found),
                    How::Scan(scan) => pg_sys::table_scan_getnextslot(
                        *scan,
                        pg_sys::ScanDirection::ForwardScanDirection,
                        self.found.as_ptr(),
                    ),
                }
            };
            if !more {
                return None;
            }
            // SAFETY: both are live rows of the view's shape.
            if unsafe { shape.equal(self.found.row(shape.len()), row) } {
                // SAFETY: the slot holds a stored row.
                return Some(unsafe { (*self.found.as_ptr()).tts_tid });
            }
        }
    }

    pub fn end(&self) {
        self.found.drop();
        // SAFETY: scans are ended once.
        unsafe {
            match &self.how {
                How::Key { scan, .. } | How::Hash { scan, .. } => scan.end(),
                How::Scan(scan) if scan.is_null() => (),
                How::Scan(scan) => pg_sys::table_endscan(*scan),
            }
        }
    }
}

/// An equality search in a btree.
struct IndexScan {
    index: pg_sys::Relation,
    /// Null until the first search.
    scan: pg_sys::IndexScanDesc,
    keys: Vec<pg_sys::ScanKeyData>,
}

impl IndexScan {
    unsafe fn new(index: pg_sys::Relation, columns: usize) -> Self {
        // SAFETY: the index has that many key columns.
        let keys = (0..columns).map(|i| unsafe { equality_key(index, i) }).collect();
        Self { index, scan: std::ptr::null_mut(), keys }
    }

    unsafe fn start(
        &mut self,
        view: pg_sys::Relation,
        snapshot: pg_sys::Snapshot,
        values: impl Iterator<Item = (Datum, bool)>,
    ) {
        for (key, (value, null)) in self.keys.iter_mut().zip(values) {
            key.sk_argument = value;
            key.sk_flags = if null { (pg_sys::SK_ISNULL | pg_sys::SK_SEARCHNULL) as i32 } else { 0 };
        }
        let count = self.keys.len() as i32;
        let none: pg_sys::ScanKey = std::ptr::null_mut();
        // SAFETY: an open index of the view; the scan copies the keys.
        unsafe {
            if self.scan.is_null() {
                self.scan = pg_sys::index_beginscan(view, self.index, snapshot, none.cast(), count, 0);
            }
            pg_sys::index_rescan(self.scan, self.keys.as_mut_ptr(), count, none, 0);
        }
    }

    unsafe fn next(&self, slot: Slot) -> bool {
        // SAFETY: a started scan.
        unsafe { pg_sys::index_getnext_slot(self.scan, pg_sys::ScanDirection::ForwardScanDirection, slot.as_ptr()) }
    }

    unsafe fn end(&self) {
        if !self.scan.is_null() {
            // SAFETY: begun by `start`.
            unsafe { pg_sys::index_endscan(self.scan) };
        }
    }
}

/// `index column i = ?` by the operator class's own equality.
unsafe fn equality_key(index: pg_sys::Relation, i: usize) -> pg_sys::ScanKeyData {
    // SAFETY: `i` is a key column of the open index.
    unsafe {
        let (family, input) = (*(*index).rd_opfamily.add(i), *(*index).rd_opcintype.add(i));
        let equal = pg_sys::BTEqualStrategyNumber as i16;
        let operator = pg_sys::get_opfamily_member(family, input, input, equal);
        if operator == pg_sys::InvalidOid {
            error::cannot_happen(format!(
                "missing equality of type {} in operator family {}",
                input.to_u32(),
                family.to_u32()
            ));
        }
        let mut key = pg_sys::ScanKeyData::default();
        let collation = *(*index).rd_indcollation.add(i);
        let procedure = pg_sys::get_opcode(operator);
        pg_sys::ScanKeyEntryInitialize(
            &mut key,
            0,
            i as i16 + 1,
            equal as u16,
            pg_sys::InvalidOid,
            collation,
            procedure,
            Datum::null(),
        );
        key
    }
}
