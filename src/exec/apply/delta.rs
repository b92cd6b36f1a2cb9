//! Runs of net changes -> writes.
//!
//! A keyed view has at most one old (-1) and one new (+1) row per key: both are an update, one is a delete or an
//! insert. In a bag each unit of weight is a row of its own. Every old row is found by its image before it is touched;
//! one that is missing is noted and ends the run (mismatch.rs). So are new rows of a delta that have one key; where the
//! stored rows are compared with the query's, both are taken as they are: some may be older than the key.
//!
//! What is written also goes to the change buffer of the views that read this one, if any do, and what is written to a hidden relation to
//! the blocks above.
//!
//! When the view has unique indexes besides the one on its key (the user's own), rows which take a new place in one
//! of them are inserted after everything else, so that values may move from row to row within one refresh.

use super::Mode;
use super::change::{Change, Grouping, KeyOrder};
use super::find::Finder;
use super::index::{ApplyIndex, columns_read};
use super::runs::{Reader, Runs};
use crate::capture::DeltaWriter;
use crate::exec::block_delta::BlockDeltaWriter;
use crate::exec::mismatch;
use crate::exec::store::{self, Store};
use crate::pg::slot::Slot;
use crate::pg::{interrupt, node, progress};
use pgrx::pg_sys;

/// Where the whole contents go by, the share of rows that change is measured each time so many keys have.
const PERIOD: u64 = 1024;

/// Applies net changes to an open view.
pub struct Delta {
    pub reader: Reader,
    pub grouping: Grouping,
    /// Columns that pair an old with a new row; None for a bag.
    key: Option<Vec<usize>>,
    /// New rows differ in their keys.
    strict: bool,
    finder: Finder,
    /// Virtual slots of the view's descriptor: the row to find, the row to write.
    old: Slot,
    new: Slot,
    late: Option<Late>,
    sink: Option<Sink>,
}

/// Takes in what is written, for those who read it.
pub enum Sink {
    /// The views that read a view.
    Views(DeltaWriter),
    /// The blocks that read a hidden relation.
    Blocks(BlockDeltaWriter),
}

impl Sink {
    fn put(&mut self, slot: Slot, weight: i64) {
        match self {
            Self::Views(writer) => writer.put(slot, weight),
            Self::Blocks(writer) => writer.put(slot, weight),
        }
    }

    fn end(self) {
        match self {
            Self::Views(writer) => writer.end(),
            Self::Blocks(writer) => writer.end(),
        }
    }
}

/// Inserts put off to the end.
struct Late {
    rows: *mut pg_sys::Tuplestorestate,
    /// Columns whose change makes an update a delete and a late insert.
    columns: Vec<usize>,
}

impl Delta {
    pub fn begin(writer: &Store, index: &ApplyIndex, mode: Mode, sink: Option<Sink>) -> Self {
        let strict = mode == Mode::Delta;
        let desc = writer.desc();
        // SAFETY: an open view.
        let natts = unsafe { (*desc).natts } as usize;
        let (grouping, key) = match index {
            ApplyIndex::Key { columns, .. } => (Grouping::Key(KeyOrder::new(desc, columns)), Some(columns.clone())),
            ApplyIndex::Hash { columns, .. } => {
                (Grouping::Hash(columns.clone()), (columns.len() < natts).then(|| columns.clone()))
            }
            ApplyIndex::Single => (Grouping::One, Some(Vec::new())),
            ApplyIndex::None => (Grouping::Hash((0..natts).collect()), None),
        };
        // SAFETY: the view is open until the slots are dropped.
        let slot = || unsafe { Slot::make(desc, &raw const pg_sys::TTSOpsVirtual) };
        let (old, new) = (slot(), slot());
        let (finder, late) = (Finder::new(writer, index), Late::begin(writer, index));
        // SAFETY: the view's descriptor.
        let reader = unsafe { Reader::new(desc) };
        Self { reader, grouping, key, strict, finder, old, new, late, sink }
    }

    pub fn key(&self) -> Option<&[usize]> {
        self.key.as_deref()
    }

    pub fn keyed(&self) -> bool {
        self.key.is_some()
    }

    /// Writing asks for the values of old rows, even where their places are known.
    pub(super) fn needs_old(&self) -> bool {
        self.late.is_some() || self.sink.is_some()
    }

    /// Gets ready to write so many changes, as far as that is known.
    pub(super) fn prepare(&self, writer: &mut Store, changes: Option<u64>) {
        if changes.is_none_or(|changes| changes as f64 >= store::MANY) {
            writer.expect_many(self.key.as_deref().unwrap_or_default());
        }
    }

    /// Writes every run; `expected` is how many changes there may be in all of them.
    ///
    /// # Safety
    /// As `Runs::next`.
    pub unsafe fn apply(&mut self, writer: &mut Store, runs: Runs, expected: Option<u64>) {
        self.prepare(writer, expected);
        // An update is two changes.
        expected.into_iter().for_each(|expected| writer.expect_share(expected as f64 / 2.0 / writer.stored_rows()));
        // SAFETY: as the caller says.
        unsafe { self.write(writer, runs, expected.is_none()) };
    }

    /// Writes every run, the last ones of the refresh. `measuring` is to find out which share of the rows changes.
    ///
    /// # Safety
    /// As `Runs::next`.
    pub(super) unsafe fn write(&mut self, writer: &mut Store, mut runs: Runs, measuring: bool) {
        let (mut shown, mut count) = (progress::Rows::default(), 0);
        // SAFETY: the caller says that the rows fit; changes are live until the next run is asked for.
        unsafe {
            while let Some(run) = runs.next(&self.reader, &mut self.grouping).filter(|_| !mismatch::is_noted()) {
                if self.keyed() {
                    self.apply_keyed(writer, run);
                } else {
                    for change in run {
                        interrupt::check();
                        self.apply_bag(writer, change);
                    }
                }
                shown.add(run.len() as u64);
                count += 1;
                if measuring && count % PERIOD == 0 {
                    writer.expect_share(writer.counters.updated as f64 / count as f64);
                }
            }
            runs.end();
            self.insert_late(writer);
        }
    }

    unsafe fn apply_bag(&mut self, writer: &mut Store, change: &Change) {
        // SAFETY: a live change.
        unsafe {
            if change.weight < 0 {
                self.delete(writer, change);
            } else {
                self.insert(writer, change);
            }
        }
    }

    /// Pairs the old and new rows of each key; a run has one key, but for collisions of its hash.
    unsafe fn apply_keyed(&mut self, writer: &mut Store, run: &[Change]) {
        let mut new: smallvec::SmallVec<[&Change; 2]> = run.iter().filter(|change| change.weight > 0).collect();
        let is_copied = |(i, change): (usize, &&Change)| {
            change.weight > 1 || new[..i].iter().any(|other| self.same_key(change, other))
        };
        if self.strict && new.iter().enumerate().any(is_copied) {
            return mismatch::note("Two new rows have the same key.");
        }
        for old in run.iter().filter(|change| change.weight < 0) {
            interrupt::check();
            // One row becomes one row; copies are deleted and inserted.
            let fits = |change: &&Change| (old.weight, change.weight) == (-1, 1) && self.same_key(old, change);
            let pair = new.iter().position(fits);
            // SAFETY: live changes.
            unsafe {
                match pair.map(|position| new.swap_remove(position)) {
                    Some(new) => self.replace(writer, old, new),
                    None => self.delete(writer, old),
                }
            }
        }
        // SAFETY: live changes.
        new.into_iter().for_each(|change| unsafe { self.insert(writer, change) });
    }

    /// Within a run of equal hashes the images of the key tell; otherwise all rows of a run have one key.
    fn same_key(&self, a: &Change, b: &Change) -> bool {
        match &self.grouping {
            Grouping::Hash(columns) => self.same(columns, a, b),
            Grouping::Key(order) if order.by_image => self.same(&order.columns, a, b),
            Grouping::Key(_) | Grouping::One => true,
        }
    }

    fn same(&self, columns: &[usize], a: &Change, b: &Change) -> bool {
        let (a, b) = (self.reader.read(0, a), self.reader.read(1, b));
        // SAFETY: two live rows.
        columns.iter().all(|&column| unsafe { self.reader.shape.equal_at(column, a, b) })
    }

    pub(super) unsafe fn replace(&mut self, writer: &mut Store, old: &Change, new: &Change) {
        // SAFETY: live changes.
        unsafe {
            if self.late.as_ref().is_some_and(|late| !self.same(&late.columns, old, new)) {
                self.delete(writer, old);
                return self.insert(writer, new);
            }
            let mut found = None;
            self.find(writer, old, |_, tid| found = Some(tid));
            if let Some(tid) = found {
                self.take(new);
                writer.update(tid, self.new);
                feed(&mut self.sink, self.new, 1);
            }
        }
    }

    pub(super) unsafe fn delete(&mut self, writer: &mut Store, old: &Change) {
        // SAFETY: a live change; rows were found by the writer's finder.
        unsafe { self.find(writer, old, |writer, tid| writer.delete(tid)) };
    }

    /// Calls `each` for as many stored rows with the image of `old` as its weight says.
    unsafe fn find(
        &mut self,
        writer: &mut Store,
        old: &Change,
        mut each: impl FnMut(&mut Store, pg_sys::ItemPointerData),
    ) {
        if let (-1, Some(tid)) = (old.weight, old.place.tid()) {
            each(writer, tid);
            if self.sink.is_some() {
                self.old.store(self.reader.read(0, old), &[]);
                feed(&mut self.sink, self.old, -1);
            }
            return;
        }
        self.old.store(self.reader.read(0, old), &[]);
        let row = self.old.row(self.reader.shape.len());
        // SAFETY: the old row stays live during the search.
        unsafe {
            self.finder.search(&self.reader.shape, row);
            for missing in (1..=old.weight.unsigned_abs()).rev() {
                match self.finder.next(&self.reader.shape, row) {
                    Some(tid) => {
                        each(writer, tid);
                        feed(&mut self.sink, self.old, -1);
                    }
                    None => return self.missing(writer, missing, old.weight.unsigned_abs()),
                }
            }
        }
    }

    fn missing(&self, writer: &Store, missing: u64, copies: u64) {
        pgrx::debug1!("pg_trickle: row not found in {}: {}", writer.name(), describe(self.reader.desc, self.old));
        mismatch::note(format!("{missing} of {copies} copies of a row to be removed were not found."));
    }

    /// Puts a row to write into its slot.
    fn take(&mut self, new: &Change) {
        self.new.store(self.reader.read(1, new), &[]);
    }

    unsafe fn insert(&mut self, writer: &mut Store, new: &Change) {
        self.take(new);
        for _ in 0..new.weight {
            interrupt::check();
            match &self.late {
                Some(late) => late.put(self.new),
                // SAFETY: a row of the view.
                None => unsafe { writer.insert(self.new) },
            }
        }
        if self.late.is_none() {
            feed(&mut self.sink, self.new, new.weight);
        }
    }

    unsafe fn insert_late(&mut self, writer: &mut Store) {
        let Some(late) = self.late.take() else { return };
        // SAFETY: the store holds rows of the view; each stays valid until the next is fetched.
        unsafe {
            let row = Slot::make(self.reader.desc, &raw const pg_sys::TTSOpsMinimalTuple);
            while !mismatch::is_noted() && pg_sys::tuplestore_gettupleslot(late.rows, true, false, row.as_ptr()) {
                interrupt::check();
                writer.insert(row);
                feed(&mut self.sink, row, 1);
            }
            row.drop();
            pg_sys::tuplestore_end(late.rows);
        }
    }

    pub fn end(self) {
        self.finder.end();
        self.old.drop();
        self.new.drop();
        self.reader.end();
        self.sink.into_iter().for_each(Sink::end);
    }
}

/// A row as text, for debugging: error messages must not show data to whoever may refresh.
fn describe(desc: pg_sys::TupleDesc, slot: Slot) -> String {
    // SAFETY: the slot's row is of the descriptor.
    unsafe {
        let row = slot.row((*desc).natts as usize);
        let text = |column: usize| {
            let (mut output, mut varlena) = (pg_sys::InvalidOid, false);
            pg_sys::getTypeOutputInfo(
                (*pg_sys::TupleDescAttr(desc, column as i32)).atttypid,
                &mut output,
                &mut varlena,
            );
            node::string(pg_sys::OidOutputFunctionCall(output, row.values[column]))
        };
        let values = (0..row.values.len()).map(|column| if row.nulls[column] { "null".into() } else { text(column) });
        format!("({})", values.collect::<Vec<String>>().join(", "))
    }
}

fn feed(sink: &mut Option<Sink>, slot: Slot, weight: i64) {
    if let Some(sink) = sink {
        sink.put(slot, weight);
    }
}

impl Late {
    /// None when no unique index but the key's could stand in the way.
    fn begin(writer: &Store, index: &ApplyIndex) -> Option<Self> {
        // SAFETY: open indexes.
        let others = writer.indexes().iter().copied().filter(|&other| unsafe {
            (*(*other).rd_index).indisunique
                && !matches!(index, ApplyIndex::Key { index, .. } if *index == (*other).rd_id)
        });
        let unique: Vec<pg_sys::Relation> = others.collect();
        // SAFETY: open indexes.
        let columns = unique.iter().flat_map(|&other| unsafe { columns_read(other) }).collect();
        // SAFETY: the store lives in the query's context.
        let rows = || unsafe { pg_sys::tuplestore_begin_heap(false, false, pg_sys::work_mem) };
        (!unique.is_empty()).then(|| Self { rows: rows(), columns })
    }

    fn put(&self, slot: Slot) {
        // SAFETY: the store copies the row.
        unsafe { pg_sys::tuplestore_puttupleslot(self.rows, slot.as_ptr()) };
    }
}
