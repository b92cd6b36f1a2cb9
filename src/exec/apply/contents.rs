//! The whole new contents of a view, for stored rows to take theirs from (see `compare`).
//!
//! They are consolidated by image, in memory under a hash of the columns that stored rows find them by: the key, or in a bag all. Contents
//! that outgrow work_mem are divided by that hash into parts, kept in tuplestores that spill to disk. As many parts as fit
//! into memory are compared in one pass over the stored rows. Where that would take too many passes they are sorted instead.

use super::change::{Change, Grouping, Place};
use super::net::{Net, Taken};
use super::runs::{Consolidation, Reader};
use super::spill::Spill;
use crate::error;
use crate::pg::image::Row;
use crate::pg::interrupt;
use crate::pg::slot::Slot;
use pgrx::pg_sys;

/// Parts that contents are divided into.
const PARTS: usize = 8;
/// Contents that take more than so many times work_mem are sorted: each pass reads all stored rows.
const MOST_PASSES: usize = 6;

pub struct Contents {
    net: Net,
    columns: Vec<usize>,
    key: Option<Vec<usize>>,
    parts: Option<Parts>,
    /// A pass over contents in memory has begun.
    begun: bool,
    /// Rows of the parts which no stored row has taken.
    left: Option<Spill>,
}

impl Contents {
    pub fn new(reader: &Reader, key: Option<&[usize]>) -> Self {
        let columns = key.map_or_else(|| (0..reader.shape.len()).collect(), <[usize]>::to_vec);
        let (net, key) = (reader.net(), key.map(<[usize]>::to_vec));
        Self { net, columns, key, parts: None, begun: false, left: None }
    }

    /// # Safety
    /// `row` is a live row of the reader's shape.
    pub unsafe fn add(&mut self, reader: &Reader, row: Row, weight: i64) {
        // SAFETY: a live row of the shape, and so are those in memory.
        unsafe {
            let hash = reader.shape.hash(row, self.columns.iter().copied());
            match &mut self.parts {
                Some(parts) => parts.put(row, hash, weight),
                None => {
                    add(&mut self.net, self.key.is_some(), reader, row, change(hash, weight));
                    if self.net.overflows() {
                        self.divide(reader);
                    }
                }
            }
        }
    }

    fn divide(&mut self, reader: &Reader) {
        let mut parts = Parts::new(reader.desc, self.net.bytes() / self.net.len().max(1));
        self.empty(reader, |row, change| parts.put(row, change.image, change.weight));
        self.parts = Some(parts);
    }

    /// Gives the rows in memory away.
    fn empty(&mut self, reader: &Reader, mut take: impl FnMut(Row, Change)) {
        let net = std::mem::replace(&mut self.net, reader.net());
        let context = net.context();
        for change in net.into_changes() {
            interrupt::check();
            take(reader.read(1, &change), change);
        }
        reader.clear();
        // SAFETY: whoever took the rows has copied them.
        unsafe { pg_sys::MemoryContextDelete(context) };
    }

    /// All rows are in; whether they can be compared in passes.
    pub fn are_comparable(&self) -> bool {
        self.parts
            .as_ref()
            .is_none_or(|parts| parts.rows.iter().sum::<usize>() * parts.row_bytes <= MOST_PASSES * limit())
    }

    /// The same rows, in a sort.
    pub fn into_sorted(self, reader: &Reader, grouping: &Grouping) -> Consolidation {
        let spill = Spill::new(reader.desc, grouping);
        let put = |row: Row| {
            // SAFETY: a live row of the shape.
            let (image, group) = unsafe { grouping.hashes(&reader.shape, row) };
            spill.put(row, Change { image, group, ..change(0, 1) });
        };
        if let Some(mut parts) = self.parts {
            (0..PARTS).for_each(|part| parts.empty(part, reader.shape.len(), put));
            parts.end();
        }
        Consolidation::sorted(reader, spill)
    }

    /// Gets rows into memory for a pass over the stored rows; false when all have been there.
    pub fn next_pass(&mut self, reader: &Reader) -> bool {
        let Some(parts) = &mut self.parts else { return !std::mem::replace(&mut self.begun, true) };
        parts.loaded = 0;
        let columns = reader.shape.len();
        // A part without rows counts as well: stored rows may belong there.
        while let Some(part) = (0..PARTS).find(|&part| parts.seen & (1 << part) == 0) {
            if parts.loaded != 0 && self.net.bytes() + parts.rows[part] * parts.row_bytes > limit() {
                break;
            }
            parts.loaded |= 1 << part;
            parts.seen |= 1 << part;
            let (net, by, keyed) = (&mut self.net, &self.columns, self.key.is_some());
            parts.empty(part, columns, |row| {
                // SAFETY: a live row of the shape, and so are those in memory.
                unsafe {
                    let hash = reader.shape.hash(row, by.iter().copied());
                    add(net, keyed, reader, row, change(hash, 1));
                }
            });
        }
        parts.loaded != 0
    }

    /// A stored row takes a new one (see `Net::take`); None when its turn is in another pass.
    ///
    /// # Safety
    /// `row` is a live row of the reader's shape.
    pub unsafe fn take(&mut self, reader: &Reader, row: Row) -> Option<Taken> {
        // SAFETY: a live row of the shape, and so are those in memory.
        unsafe {
            let hash = reader.shape.hash(row, self.columns.iter().copied());
            if self.parts.as_ref().is_some_and(|parts| parts.loaded & (1 << Parts::of(hash)) == 0) {
                return None;
            }
            Some(self.net.take(&reader.shape, row, hash, self.key.as_deref()))
        }
    }

    /// Rows in memory that no stored row has taken.
    pub fn untaken(&self) -> u64 {
        self.net.changes() as u64
    }

    /// The pass is over, and what was taken is written.
    pub fn end_pass(&mut self, reader: &Reader, grouping: &Grouping) {
        if self.parts.is_some() {
            let left = self.left.take().unwrap_or_else(|| Spill::new(reader.desc, grouping));
            self.empty(reader, |row, change| left.put(row, change));
            self.left = Some(left);
        }
    }

    /// The rows that no stored row has taken.
    pub fn into_left(self, reader: &Reader) -> Consolidation {
        self.parts.into_iter().for_each(Parts::end);
        match self.left {
            Some(left) => Consolidation::sorted(reader, left),
            None => Consolidation::of(self.net),
        }
    }
}

/// Equal rows of a bag become one entry; rows of a key differ.
///
/// # Safety
/// `row` is a live row of the reader's shape.
unsafe fn add(net: &mut Net, keyed: bool, reader: &Reader, row: Row, change: Change) {
    // SAFETY: a live row of the shape, and so are those in memory.
    unsafe {
        if keyed {
            net.append(row, change);
        } else {
            net.add(&reader.shape, row, change);
        }
    }
}

/// A new row; the hash stands for those of its image and its group.
fn change(hash: i64, weight: i64) -> Change {
    Change { tuple: std::ptr::null_mut(), weight, image: hash, group: hash, place: Place::NONE }
}

fn limit() -> usize {
    // SAFETY: a setting.
    unsafe { pg_sys::work_mem as usize * 1024 }
}

/// Rows divided by their hash, each as often as its weight says.
struct Parts {
    desc: pg_sys::TupleDesc,
    stores: [*mut pg_sys::Tuplestorestate; PARTS],
    rows: [usize; PARTS],
    /// What a row takes in memory.
    row_bytes: usize,
    /// The parts in memory, and those that have been there, a bit each.
    loaded: u32,
    seen: u32,
    row: Slot,
}

impl Parts {
    /// The descriptor lives until `end`.
    fn new(desc: pg_sys::TupleDesc, row_bytes: usize) -> Self {
        // SAFETY: the stores live in the query's context, or until `end`.
        unsafe {
            let kilobytes = (pg_sys::work_mem / PARTS as i32).max(64);
            let stores = [(); PARTS].map(|()| pg_sys::tuplestore_begin_heap(false, false, kilobytes));
            let row = Slot::make(desc, &raw const pg_sys::TTSOpsMinimalTuple);
            Self { desc, stores, rows: [0; PARTS], row_bytes: row_bytes.max(1), loaded: 0, seen: 0, row }
        }
    }

    /// The hash table in memory goes by the other bits.
    fn of(hash: i64) -> usize {
        (hash as u64 >> 40) as usize % PARTS
    }

    fn put(&mut self, row: Row, hash: i64, weight: i64) {
        let part = Self::of(hash);
        if weight < 0 {
            error::cannot_happen("whole contents remove rows");
        }
        for _ in 0..weight {
            interrupt::check();
            // SAFETY: the store copies the row, which has the descriptor's columns.
            unsafe {
                pg_sys::tuplestore_putvalues(self.stores[part], self.desc, row.values.as_ptr(), row.nulls.as_ptr());
            }
            self.rows[part] += 1;
        }
    }

    /// Gives the rows of a part away.
    fn empty(&mut self, part: usize, columns: usize, mut take: impl FnMut(Row)) {
        // SAFETY: a live store; each row stays valid until the next is fetched.
        unsafe {
            while pg_sys::tuplestore_gettupleslot(self.stores[part], true, false, self.row.as_ptr()) {
                interrupt::check();
                take(self.row.row(columns));
            }
            self.row.clear();
            pg_sys::tuplestore_clear(self.stores[part]);
        }
        self.rows[part] = 0;
    }

    fn end(self) {
        self.row.drop();
        // SAFETY: begun by `new`, ended once.
        self.stores.into_iter().for_each(|store| unsafe { pg_sys::tuplestore_end(store) });
    }
}
