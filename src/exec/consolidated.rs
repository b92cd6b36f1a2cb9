//! A consolidated delta: one entry for each image, its weight the sum of the weights that came in.
//!
//! It serves a scan that reads a table as it was (`old_scan.rs`), which asks two things of it, many times over:
//!
//! 1. Is this row of the table one that the delta has added? Entries are found by a hash of their image.
//! 2. Which rows that the delta has removed may satisfy `column = value`? They are found by a hash of these columns.
//!
//! Rows are kept in memory up to the memory limit of a hash table; what comes after that goes to a temporary file, from which a
//! row is fetched when its hash says that it is the one. The entries themselves, a few dozen bytes each, stay in memory.

use crate::pg::image::{Row, Shape};
use crate::pg::interrupt;
use crate::pg::slot::Slot;
use hashbrown::{HashMap, HashTable};
use pgrx::{PgMemoryContexts, pg_sys};
use std::ffi::c_int;
use std::ptr::null_mut;

/// Where the values of an entry are.
#[derive(Clone, Copy)]
enum Place {
    Memory(pg_sys::MinimalTuple),
    File { number: c_int, offset: pg_sys::off_t },
}

struct Entry {
    image: u64,
    weight: i64,
    place: Place,
    /// How many copies the scan has left out in the pass with this number.
    left_out: i64,
    pass: u64,
}

/// What an entry takes besides its row: itself and its position, with room to grow.
const OVERHEAD: usize = 2 * (size_of::<Entry>() + size_of::<u32>());

pub struct Consolidated {
    shape: Shape,
    entries: Vec<Entry>,
    positions: HashTable<u32>,
    added: bool,
    /// Positions of entries whose rows were removed, and those by the hash of some columns.
    removed: Vec<u32>,
    by_key: Option<HashMap<u64, Vec<u32>>>,
    rows: Rows,
    pass: u64,
}

impl Consolidated {
    /// An empty one for rows of `desc`. `context` lives as long as it.
    ///
    /// # Safety
    /// The descriptor outlives it.
    pub unsafe fn new(desc: pg_sys::TupleDesc, context: pg_sys::MemoryContext) -> Self {
        // SAFETY: by contract.
        let (shape, rows) = unsafe { (Shape::of(desc), Rows::new(desc, context)) };
        let (entries, positions, removed) = (Vec::new(), HashTable::new(), Vec::new());
        Self { shape, entries, positions, added: false, removed, by_key: None, rows, pass: 0 }
    }

    /// Takes a version in.
    ///
    /// # Safety
    /// A live row of the descriptor.
    pub unsafe fn add(&mut self, row: Row, weight: i64) {
        // SAFETY: by contract; entries hold rows of the same descriptor.
        unsafe {
            let image = self.image(row);
            match self.find(image, row) {
                Some(position) => self.entries[position].weight += weight,
                None => {
                    let place = self.rows.put(row);
                    let position = u32::try_from(self.entries.len()).expect("a delta has fewer than 2^32 images");
                    let entries = &self.entries;
                    self.positions.insert_unique(image, position, |&position| entries[position as usize].image);
                    self.entries.push(Entry { image, weight, place, left_out: 0, pass: 0 });
                }
            }
        }
    }

    /// Ends taking in.
    pub fn finish(&mut self) {
        self.added = self.entries.iter().any(|entry| entry.weight > 0);
        let removed = self.entries.iter().enumerate().filter(|(_, entry)| entry.weight < 0);
        self.removed = removed.map(|(position, _)| position as u32).collect();
    }

    /// The next pass over the table begins.
    pub fn begin_pass(&mut self) {
        self.pass += 1;
    }

    /// Whether this row of the table is one of those that the delta has added, of which as many copies are left out in a pass.
    ///
    /// # Safety
    /// A live row of the descriptor.
    #[inline]
    pub unsafe fn leaves_out(&mut self, row: Row) -> bool {
        if !self.added {
            return false;
        }
        // SAFETY: by contract.
        let position = unsafe { self.find(self.image(row), row) };
        let Some(entry) = position.map(|position| &mut self.entries[position]) else { return false };
        if entry.pass != self.pass {
            (entry.pass, entry.left_out) = (self.pass, 0);
        }
        let leaves_out = entry.left_out < entry.weight;
        entry.left_out += i64::from(leaves_out);
        leaves_out
    }

    /// How many images the delta has removed rows of.
    pub fn removed(&self) -> usize {
        self.removed.len()
    }

    /// The n-th image that the delta has removed rows of, and how many. Valid until the next row is asked for.
    pub fn removed_at(&mut self, n: usize) -> (Row<'_>, i64) {
        self.row_at(self.removed[n])
    }

    /// Makes the removed rows to be found by a hash of some of their columns; rows without a hash are not found.
    pub fn hash_removed(&mut self, mut hash: impl FnMut(Row) -> Option<u64>) {
        let mut by_key: HashMap<u64, Vec<u32>> = HashMap::new();
        for n in 0..self.removed.len() {
            interrupt::check();
            let position = self.removed[n];
            if let Some(hash) = hash(self.row_at(position).0) {
                by_key.entry(hash).or_default().push(position);
            }
        }
        self.by_key = Some(by_key);
    }

    pub fn is_hashed(&self) -> bool {
        self.by_key.is_some()
    }

    /// The n-th removed image with this hash, and how many rows of it. Valid until the next row is asked for.
    pub fn removed_with(&mut self, hash: u64, n: usize) -> Option<(Row<'_>, i64)> {
        let position = *self.by_key.as_ref()?.get(&hash)?.get(n)?;
        Some(self.row_at(position))
    }

    fn row_at(&mut self, position: u32) -> (Row<'_>, i64) {
        let entry = &self.entries[position as usize];
        let (place, copies) = (entry.place, -entry.weight);
        (self.rows.get(place), copies)
    }

    unsafe fn image(&self, row: Row) -> u64 {
        // SAFETY: a live row of the shape.
        unsafe { self.shape.hash(row, 0..self.shape.len()) as u64 }
    }

    unsafe fn find(&mut self, image: u64, row: Row) -> Option<usize> {
        let Self { positions, entries, rows, shape, .. } = self;
        let same = |&position: &u32| {
            let entry = &entries[position as usize];
            // SAFETY: both are live rows of the shape.
            entry.image == image && unsafe { shape.equal(row, rows.get(entry.place)) }
        };
        positions.find(image, same).map(|&position| position as usize)
    }

    /// Closes what is open.
    pub fn end(self) {
        self.rows.end();
    }
}

/// The rows of entries.
struct Rows {
    desc: pg_sys::TupleDesc,
    context: pg_sys::MemoryContext,
    natts: usize,
    /// The row that was asked for last.
    slot: Slot,
    bytes: usize,
    limit: usize,
    file: *mut pg_sys::BufFile,
    /// Where the file ends.
    end: (c_int, pg_sys::off_t),
    /// Holds a row from the file.
    fetched: Vec<u64>,
}

impl Rows {
    unsafe fn new(desc: pg_sys::TupleDesc, context: pg_sys::MemoryContext) -> Self {
        // SAFETY: the descriptor outlives the slot.
        unsafe {
            let slot =
                PgMemoryContexts::For(context).switch_to(|_| Slot::make(desc, &raw const pg_sys::TTSOpsMinimalTuple));
            let (natts, limit) = ((*desc).natts as usize, pg_sys::get_hash_memory_limit());
            Self { desc, context, natts, slot, bytes: 0, limit, file: null_mut(), end: (0, 0), fetched: vec![] }
        }
    }

    unsafe fn put(&mut self, row: Row) -> Place {
        // SAFETY: the row has the descriptor's columns.
        unsafe {
            let tuple = PgMemoryContexts::For(self.context)
                .switch_to(|_| pg_sys::heap_form_minimal_tuple(self.desc, row.values.as_ptr(), row.nulls.as_ptr(), 0));
            let length = (*tuple).t_len as usize;
            if self.bytes + length + OVERHEAD <= self.limit {
                self.bytes += length + OVERHEAD;
                return Place::Memory(tuple);
            }
            let place = self.write(tuple, length);
            pg_sys::pfree(tuple.cast());
            self.bytes += OVERHEAD;
            place
        }
    }

    unsafe fn write(&mut self, tuple: pg_sys::MinimalTuple, length: usize) -> Place {
        // SAFETY: the file is the query's; its resource owner closes it after an error.
        unsafe {
            if self.file.is_null() {
                self.file = PgMemoryContexts::For(self.context).switch_to(|_| pg_sys::BufFileCreateTemp(false));
            }
            let (number, offset) = self.end;
            self.seek(number, offset);
            pg_sys::BufFileWrite(self.file, tuple.cast(), length);
            pg_sys::BufFileTell(self.file, &mut self.end.0, &mut self.end.1);
            Place::File { number, offset }
        }
    }

    unsafe fn seek(&self, number: c_int, offset: pg_sys::off_t) {
        const SEEK_SET: c_int = 0;
        // SAFETY: an open file and a place in it.
        unsafe {
            let failed = pg_sys::BufFileSeek(self.file, number, offset, SEEK_SET) != 0;
            assert!(!failed, "a place in a temporary file is within it");
        }
    }

    fn get(&mut self, place: Place) -> Row<'_> {
        // SAFETY: the tuple stays where it is until the next one is asked for.
        unsafe {
            let tuple = match place {
                Place::Memory(tuple) => tuple,
                Place::File { number, offset } => self.fetch(number, offset),
            };
            self.slot.store_minimal(tuple);
        }
        self.slot.row(self.natts)
    }

    unsafe fn fetch(&mut self, number: c_int, offset: pg_sys::off_t) -> pg_sys::MinimalTuple {
        // SAFETY: a tuple was written there, which starts with its length.
        unsafe {
            self.seek(number, offset);
            let mut length: u32 = 0;
            pg_sys::BufFileReadExact(self.file, (&raw mut length).cast(), size_of::<u32>());
            self.fetched.resize((length as usize).div_ceil(size_of::<u64>()), 0);
            let tuple: pg_sys::MinimalTuple = self.fetched.as_mut_ptr().cast();
            (*tuple).t_len = length;
            let rest = tuple.cast::<u8>().add(size_of::<u32>());
            pg_sys::BufFileReadExact(self.file, rest.cast(), length as usize - size_of::<u32>());
            tuple
        }
    }

    fn end(self) {
        self.slot.drop();
        if !self.file.is_null() {
            // SAFETY: open until now.
            unsafe { pg_sys::BufFileClose(self.file) };
        }
    }
}
