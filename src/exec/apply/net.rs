//! Netting changes in memory: one entry per image, its weight the sum of what came in.

use super::change::{Change, Grouping, Key, Place};
use crate::exec::weighted;
use crate::pg::image::{Row, Shape};
use crate::pg::interrupt;
use crate::pg::slot::Slot;
use hashbrown::HashTable;
use pgrx::{PgMemoryContexts, pg_sys};

/// Net changes, as long as they fit into work_mem.
pub struct Net {
    desc: pg_sys::TupleDesc,
    entries: Vec<Change>,
    /// Positions in `entries` by image, of all but the rows appended since `index`.
    positions: HashTable<usize>,
    /// Entries that have their positions.
    indexed: usize,
    /// The entry after the one taken last.
    next: usize,
    /// Holds the entries' tuples.
    context: pg_sys::MemoryContext,
    bytes: usize,
    reader: Slot,
}

/// What a stored row has taken of the new ones.
pub enum Taken {
    /// Its image: it stays.
    Same,
    /// Another row of its key.
    Other(Change),
    Nothing,
}

/// What a stored row and a new one have in common.
enum Match {
    Image,
    Key,
}

/// What an entry takes besides its tuple.
const OVERHEAD: usize = 96;

impl Net {
    /// An empty table for rows of `desc`; `reader` is a scratch slot for minimal tuples of it.
    pub fn new(desc: pg_sys::TupleDesc, reader: Slot) -> Self {
        // SAFETY: the context is a child of the query's and goes with it.
        let context = unsafe {
            pg_sys::AllocSetContextCreateInternal(
                pg_sys::CurrentMemoryContext,
                c"TrickleApply changes".as_ptr(),
                pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
            )
        };
        Self { desc, entries: Vec::new(), positions: HashTable::new(), indexed: 0, next: 0, context, bytes: 0, reader }
    }

    /// Adds `weight` to the entry of this image.
    ///
    /// # Safety
    /// `row` is a live row of `shape`, which is the table's; `image` and `group` are its hashes.
    pub unsafe fn add(&mut self, shape: &Shape, row: Row, change: Change) {
        let (entries, reader) = (&self.entries, self.reader);
        let same = |&position: &usize| {
            let entry = &entries[position];
            // SAFETY: both are live rows of the shape.
            entry.image == change.image && unsafe { shape.equal(row, read(&reader, entry.tuple, shape.len())) }
        };
        match self.positions.find(change.image as u64, same) {
            Some(&position) => {
                let entry = &mut self.entries[position];
                entry.weight = weighted::sum(entry.weight, change.weight);
                entry.place = entry.place.or(change.place);
            }
            // SAFETY: as above.
            None => unsafe { self.insert(row, change) },
        }
    }

    unsafe fn insert(&mut self, row: Row, change: Change) {
        let position = self.entries.len();
        // SAFETY: the row has the descriptor's columns.
        unsafe { self.push(row, change) };
        let entries = &self.entries;
        self.positions.insert_unique(change.image as u64, position, |&position| entries[position].image as u64);
        self.indexed = entries.len();
    }

    unsafe fn push(&mut self, row: Row, change: Change) {
        // SAFETY: the row has the descriptor's columns.
        let tuple = unsafe {
            PgMemoryContexts::For(self.context)
                .switch_to(|_| pg_sys::heap_form_minimal_tuple(self.desc, row.values.as_ptr(), row.nulls.as_ptr(), 0))
        };
        // SAFETY: just formed.
        self.bytes += unsafe { (*tuple).t_len } as usize + OVERHEAD;
        self.entries.push(Change { tuple, ..change });
    }

    /// Adds an entry, whether or not there is one of this image. Nothing but `take` may be asked for then.
    ///
    /// # Safety
    /// As `add`.
    pub unsafe fn append(&mut self, row: Row, change: Change) {
        // SAFETY: the row has the descriptor's columns.
        unsafe { self.push(row, change) };
    }

    /// Appended rows are looked for from now on.
    fn index(&mut self) {
        let entries = &self.entries;
        let hash = |&position: &usize| entries[position].image as u64;
        self.positions.reserve(entries.len() - self.indexed, hash);
        for (position, entry) in entries.iter().enumerate().skip(self.indexed) {
            interrupt::check();
            self.positions.insert_unique(entry.image as u64, position, hash);
        }
        self.indexed = entries.len();
    }

    /// A stored row takes a new one, of its own image if there is one, else of the same `key`. Both often come in one order: the entry
    /// after the one taken last is looked at first.
    ///
    /// # Safety
    /// `row` is a live row of `shape`, which is the table's; `hash` is what equal images and equal keys share.
    pub unsafe fn take(&mut self, shape: &Shape, row: Row, hash: i64, key: Option<&[usize]>) -> Taken {
        // SAFETY: as the caller says.
        if let Some(found) = unsafe { self.match_at(self.next, shape, row, hash, key) } {
            return self.taken(self.next, found);
        }
        if self.indexed < self.entries.len() {
            self.index();
        }
        let mut found = None;
        for &position in self.positions.iter_hash(hash as u64) {
            // SAFETY: as the caller says.
            match unsafe { self.match_at(position, shape, row, hash, key) } {
                Some(Match::Image) => {
                    found = Some((position, Match::Image));
                    break;
                }
                Some(Match::Key) if found.is_none() => found = Some((position, Match::Key)),
                Some(Match::Key) | None => (),
            }
        }
        found.map_or(Taken::Nothing, |(position, found)| self.taken(position, found))
    }

    /// What the row has in common with this entry, if that is still to be had.
    unsafe fn match_at(
        &self,
        position: usize,
        shape: &Shape,
        row: Row,
        hash: i64,
        key: Option<&[usize]>,
    ) -> Option<Match> {
        let entry = self.entries.get(position).filter(|entry| entry.image == hash && entry.weight > 0)?;
        let new = read(&self.reader, entry.tuple, shape.len());
        // SAFETY: the caller says that both are live rows of the shape.
        unsafe {
            if shape.equal(row, new) {
                return Some(Match::Image);
            }
            let paired = key.is_some_and(|key| key.iter().all(|&column| shape.equal_at(column, row, new)));
            paired.then_some(Match::Key)
        }
    }

    fn taken(&mut self, position: usize, found: Match) -> Taken {
        let entry = &mut self.entries[position];
        entry.weight -= 1;
        self.next = position + 1;
        match found {
            Match::Image => Taken::Same,
            Match::Key => Taken::Other(Change { weight: 1, ..*entry }),
        }
    }

    /// Images of which rows are to be removed.
    pub fn removed(&self) -> usize {
        self.entries.iter().filter(|entry| entry.weight < 0).count()
    }

    /// Whether the place of every row to be removed is known.
    pub fn is_located(&self) -> bool {
        self.entries.iter().all(|entry| entry.weight >= 0 || entry.place != Place::NONE)
    }

    /// Images that come or go.
    pub fn changes(&self) -> usize {
        self.entries.iter().filter(|entry| entry.weight != 0).count()
    }

    /// A stored row: if such a row is to be removed, this is its place.
    ///
    /// # Safety
    /// `row` is a live row of `shape`, which is the table's; `image` is its hash.
    pub unsafe fn locate(&mut self, shape: &Shape, row: Row, image: i64, place: Place) {
        let (entries, reader) = (&self.entries, self.reader);
        let same = |&position: &usize| {
            let entry = &entries[position];
            // SAFETY: both are live rows of the shape.
            entry.image == image && unsafe { shape.equal(row, read(&reader, entry.tuple, shape.len())) }
        };
        if let Some(&position) = self.positions.find(image as u64, same) {
            self.entries[position].place = place;
        }
    }

    /// Bytes in use.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the table outgrew work_mem, even after forgetting what cancelled.
    pub fn overflows(&mut self) -> bool {
        // SAFETY: a setting.
        let limit = unsafe { pg_sys::work_mem } as usize * 1024;
        if self.bytes <= limit {
            return false;
        }
        self.forget_cancelled();
        self.bytes > limit / 2
    }

    fn forget_cancelled(&mut self) {
        let bytes = &mut self.bytes;
        self.entries.retain(|entry| {
            interrupt::check();
            if entry.weight == 0 {
                // SAFETY: palloc'd by `insert`, referenced by this entry only.
                unsafe {
                    *bytes -= (*entry.tuple).t_len as usize + OVERHEAD;
                    pg_sys::pfree(entry.tuple.cast());
                }
            }
            entry.weight != 0
        });
        self.positions.clear();
        let is_indexed = self.indexed > 0;
        self.indexed = 0;
        if is_indexed {
            self.index();
        }
    }

    /// The net changes, unordered. Their tuples live until the query ends or `release`.
    pub fn into_changes(mut self) -> Vec<Change> {
        self.entries.retain(|entry| entry.weight != 0);
        self.entries
    }

    /// The context of the entries' tuples.
    pub fn context(&self) -> pg_sys::MemoryContext {
        self.context
    }
}

/// The row in a minimal tuple, deformed into `reader`, a scratch slot for minimal tuples. It is valid until the slot is
/// used again, and as long as the tuple, which the caller keeps.
pub fn read(reader: &Slot, tuple: pg_sys::MinimalTuple, columns: usize) -> Row<'_> {
    // SAFETY: as above; what the slot held before is not used any more.
    unsafe { reader.store_minimal(tuple) };
    reader.row(columns)
}

/// Orders changes so that those of one group are adjacent, and within it those of one image hash.
///
/// # Safety
/// The changes' tuples are live and have `columns` columns; `reader` is a scratch slot for them.
pub unsafe fn order(changes: &mut [Change], grouping: &mut Grouping, reader: Slot, columns: usize) {
    let Grouping::Key(order) = grouping else {
        return order_by_hash(changes);
    };
    let mut keyed: Vec<(Key, Change)> =
        changes.iter().map(|&change| (order.key(read(&reader, change.tuple, columns)), change)).collect();
    // SAFETY: by-reference key values point into the changes' tuples, which are live.
    keyed.sort_unstable_by(|(a, x), (b, y)| unsafe { order.compare(a, b) }.then(x.image.cmp(&y.image)));
    for (change, (_, sorted)) in changes.iter_mut().zip(keyed) {
        *change = sorted;
    }
}

/// Orders changes by the hash of their group, then of their image.
pub fn order_by_hash(changes: &mut [Change]) {
    changes.sort_unstable_by(|a, b| {
        interrupt::check();
        (a.group, a.image).cmp(&(b.group, b.image))
    });
}
