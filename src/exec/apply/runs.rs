//! From the child's weighted rows to runs of net changes, one run per group.
//!
//! Input: weighted rows of the view in any order, with any weights.
//! 1. Rows are netted by image in memory; when what is left outgrows work_mem, all rows go through an external sort.
//! 2. Either way they come back ordered by group, then by image hash.
//! 3. Adjacent changes of one group are a run; within it equal images net to one change, or to none.
//!
//! Where keys are equal exactly if their images are, and stored rows are known, changes are paired by a hash of the key.
//! A child that promises grouped rows skips 1 and 2.
//! Output: runs of changes with different images and nonzero weights. An image hash may collide: images are compared.

use super::Mode;
use super::change::{Change, Grouping, Place};
use super::net::{self, Net};
use super::spill::Spill;
use crate::exec::node::Child;
use crate::exec::store::Store;
use crate::exec::weighted::{self, Layout};
use crate::pg::image::{Row, Shape};
use crate::pg::interrupt;
use crate::pg::progress::{self, Phase};
use crate::pg::slot::Slot;
use pgrx::pg_sys;

/// The shape of the view's rows and two scratch slots to read them from minimal tuples.
pub struct Reader {
    pub desc: pg_sys::TupleDesc,
    pub shape: Shape,
    slots: [Slot; 2],
}

impl Reader {
    /// # Safety
    /// The descriptor lives until `end`.
    pub unsafe fn new(desc: pg_sys::TupleDesc) -> Self {
        // SAFETY: the descriptor outlives the slots, which `end` drops.
        unsafe {
            let slot = || Slot::make(desc, &raw const pg_sys::TTSOpsMinimalTuple);
            Self { desc, shape: Shape::of(desc), slots: [slot(), slot()] }
        }
    }

    /// The view's columns of a change, valid until the next read into the same slot.
    pub fn read(&self, slot: usize, change: &Change) -> Row<'_> {
        net::read(&self.slots[slot], change.tuple, self.shape.len())
    }

    /// An empty table for such rows.
    pub fn net(&self) -> Net {
        Net::new(self.desc, self.slots[0])
    }

    /// Forgets the rows last read.
    pub fn clear(&self) {
        self.slots.iter().for_each(|slot| slot.clear());
    }

    pub fn end(&self) {
        self.slots.iter().for_each(|slot| slot.drop());
    }
}

/// More keys than this are sorted by the server.
const SORT_HERE: usize = 256;

/// A search through an index takes as long as hashing this many rows of a scan, or a little longer.
const SCAN_FROM: f64 = 6.0;

/// Takes rows in, gives runs out.
pub struct Consolidation {
    net: Net,
    spill: Option<Spill>,
    /// Rows taken in.
    added: u64,
}

impl Consolidation {
    pub fn new(reader: &Reader) -> Self {
        Self::of(reader.net())
    }

    /// Changes in memory.
    pub fn of(net: Net) -> Self {
        Self { net, spill: None, added: 0 }
    }

    /// Changes in a sort.
    pub fn sorted(reader: &Reader, spill: Spill) -> Self {
        Self { spill: Some(spill), ..Self::new(reader) }
    }

    /// # Safety
    /// `row` is a live row of the reader's shape, stored at `place` if that is one.
    pub unsafe fn add(&mut self, reader: &Reader, grouping: &Grouping, row: Row, weight: i64, place: Place) {
        let none = std::ptr::null_mut();
        // SAFETY: a live row of the shape.
        unsafe {
            let (image, group) = grouping.hashes(&reader.shape, row);
            let change = Change { tuple: none, weight, image, group, place };
            self.added += 1;
            match &self.spill {
                Some(spill) => spill.put(row, change),
                None => {
                    self.net.add(&reader.shape, row, change);
                    if self.net.overflows() {
                        self.spill(reader, grouping);
                    }
                }
            }
        }
    }

    fn spill(&mut self, reader: &Reader, grouping: &Grouping) {
        let spill = Spill::new(reader.desc, grouping);
        let net = std::mem::replace(&mut self.net, reader.net());
        let context = net.context();
        for change in net.into_changes() {
            interrupt::check();
            spill.put(reader.read(1, &change), change);
        }
        reader.clear();
        // SAFETY: the sort has copied every tuple of the context.
        unsafe { pg_sys::MemoryContextDelete(context) };
        self.spill = Some(spill);
    }

    /// Changes there may be. What whole contents come to that do not fit into memory, nobody knows yet.
    pub fn expected(&self, mode: Mode) -> Option<u64> {
        match (&self.spill, mode) {
            (None, _) => Some(self.net.changes() as u64),
            (Some(_), Mode::Delta) => Some(self.added),
            (Some(_), _) => None,
        }
    }

    /// Looks for the rows to be removed in the whole view, if they are so many that this is cheaper than to search for each.
    ///
    /// # Safety
    /// The writer's view has the reader's shape.
    pub unsafe fn locate(&mut self, reader: &Reader, writer: &Store) {
        let removed = self.net.removed() as f64;
        if self.spill.is_some() || removed < SORT_HERE as f64 || removed < writer.stored_rows() / SCAN_FROM {
            return;
        }
        let (net, columns) = (&mut self.net, reader.shape.len());
        writer.scan(|slot| {
            let row = slot.row(columns);
            // SAFETY: a live row of the shape.
            unsafe {
                let image = reader.shape.hash(row, 0..columns);
                net.locate(&reader.shape, row, image, Place::of((*slot.as_ptr()).tts_tid));
            }
        });
    }

    pub fn finish(mut self, reader: &Reader, grouping: &mut Grouping) -> Runs {
        // What went through the sort is not netted yet.
        progress::phase(Phase::Writing, self.spill.is_none().then_some(self.net.len() as u64));
        if self.spill.is_none() && self.net.len() > SORT_HERE {
            match &*grouping {
                Grouping::Key(order) if order.by_image && self.net.is_located() => {
                    let columns = order.columns.clone();
                    return self.paired(reader, grouping, Some(&columns));
                }
                Grouping::Hash(_) if self.net.is_located() => return self.paired(reader, grouping, None),
                // The server's sort is the faster one for keys, once it is set up.
                Grouping::Key(_) => self.spill(reader, grouping),
                Grouping::Hash(_) | Grouping::One => (),
            }
        }
        let feed = match self.spill {
            Some(spill) => {
                spill.sort();
                Feed::Sorted(spill)
            }
            None => {
                let mut changes = self.net.into_changes();
                // SAFETY: the tuples live until the query ends.
                unsafe { net::order(&mut changes, grouping, reader.slots[0], reader.shape.len()) };
                Feed::Memory(changes.into_iter())
            }
        };
        Runs::over(feed)
    }

    /// Changes of stored rows in the order of their places, where pages are visited once, and then those of new ones in the order
    /// of the index. Both are grouped by a hash: of the key's image, if these columns are the key.
    fn paired(self, reader: &Reader, grouping: &Grouping, key: Option<&[usize]>) -> Runs {
        let mut changes = self.net.into_changes();
        if let Some(columns) = key {
            for change in &mut changes {
                interrupt::check();
                // SAFETY: a live row of the shape.
                change.group = unsafe { reader.shape.hash(reader.read(0, change), columns.iter().copied()) };
            }
        }
        net::order_by_hash(&mut changes);
        let (mut stored, mut new) = (Vec::new(), Vec::new());
        for run in changes.chunk_by(|a, b| a.group == b.group) {
            interrupt::check();
            match run.iter().find(|change| change.weight < 0) {
                Some(old) => stored.push((old.place.0, run)),
                None => new.extend_from_slice(run),
            }
        }
        stored.sort_unstable_by_key(|&(place, _)| place);
        let stored: Vec<Change> = stored.into_iter().flat_map(|(_, run)| run).copied().collect();
        Runs::over(Feed::Paired(stored.into_iter(), New::of(new, reader, grouping)))
    }
}

/// Changes of new rows in the order of the index.
enum New {
    Memory(std::vec::IntoIter<Change>),
    Sorted(Spill),
}

impl New {
    /// The changes are in the order of their hashes.
    fn of(changes: Vec<Change>, reader: &Reader, grouping: &Grouping) -> Self {
        if !matches!(grouping, Grouping::Key(_)) {
            return Self::Memory(changes.into_iter());
        }
        let sorted = Spill::new(reader.desc, grouping);
        for change in &changes {
            interrupt::check();
            sorted.put(reader.read(1, change), *change);
        }
        sorted.sort();
        Self::Sorted(sorted)
    }

    fn next(&mut self) -> Option<Change> {
        match self {
            Self::Memory(changes) => changes.next(),
            Self::Sorted(spill) => spill.next(),
        }
    }
}

enum Feed {
    Memory(std::vec::IntoIter<Change>),
    Sorted(Spill),
    /// Changes of stored rows, of new ones; runs have one hash.
    Paired(std::vec::IntoIter<Change>, New),
    /// The child's rows as they come.
    Grouped(Child, Layout),
}

/// Runs of net changes.
pub struct Runs {
    feed: Feed,
    /// The first change of the next run.
    ahead: Option<Change>,
    run: Vec<Change>,
    /// Tuple of a run's first change which cancelled.
    spent: Option<pg_sys::MinimalTuple>,
}

impl Runs {
    fn over(feed: Feed) -> Self {
        Self { feed, ahead: None, run: Vec::new(), spent: None }
    }

    /// Runs of a child whose rows arrive grouped.
    pub fn grouped(child: Child, layout: Layout) -> Self {
        Self::over(Feed::Grouped(child, layout))
    }

    /// The next run, valid until the following call; it may be empty.
    ///
    /// # Safety
    /// The child's rows, if any, are weighted rows of the reader's shape.
    pub unsafe fn next(&mut self, reader: &Reader, grouping: &mut Grouping) -> Option<&[Change]> {
        self.recycle();
        // SAFETY: the child's rows are as the caller says, and the feed lives as long as the runs.
        let head = self.ahead.take().or_else(|| unsafe { self.fetch(reader, grouping) })?;
        self.run.push(head);
        // SAFETY: as above.
        while let Some(change) = unsafe { self.fetch(reader, grouping) } {
            interrupt::check();
            if !self.same_group(reader, grouping, &head, &change) {
                self.ahead = Some(change);
                break;
            }
            self.push(reader, change);
        }
        self.forget_cancelled();
        Some(&self.run)
    }

    unsafe fn fetch(&mut self, reader: &Reader, grouping: &Grouping) -> Option<Change> {
        match &mut self.feed {
            Feed::Memory(changes) => changes.next(),
            Feed::Sorted(spill) => spill.next(),
            Feed::Paired(stored, new) => stored.next().or_else(|| new.next()),
            // SAFETY: the caller of `next` says that the child's rows fit the reader.
            Feed::Grouped(child, layout) => unsafe { fetch_grouped(*child, *layout, reader, grouping) },
        }
    }

    fn same_group(&self, reader: &Reader, grouping: &mut Grouping, head: &Change, change: &Change) -> bool {
        match grouping {
            _ if matches!(self.feed, Feed::Paired(..)) => head.group == change.group,
            Grouping::Hash(_) => head.group == change.group,
            Grouping::One => true,
            Grouping::Key(order) => {
                let (a, b) = (order.key(reader.read(0, head)), order.key(reader.read(1, change)));
                // SAFETY: keys of two live rows.
                unsafe { order.compare(&a, &b) }.is_eq()
            }
        }
    }

    /// Adds a change to the run, netting equal images, which are adjacent (but for collisions of their hash).
    fn push(&mut self, reader: &Reader, change: Change) {
        let rivals = self.run.iter().rev().take_while(|other| other.image == change.image).count();
        let start = self.run.len() - rivals;
        for i in start..self.run.len() {
            // SAFETY: both changes are live.
            if unsafe { reader.shape.equal(reader.read(0, &self.run[i]), reader.read(1, &change)) } {
                self.run[i].weight = weighted::sum(self.run[i].weight, change.weight);
                self.run[i].place = self.run[i].place.or(change.place);
                return self.free(change.tuple);
            }
        }
        while rivals == 0 && self.run.len() > 1 && self.run[self.run.len() - 1].weight == 0 {
            let cancelled = self.run.pop();
            cancelled.into_iter().for_each(|change| self.free(change.tuple));
        }
        self.run.push(change);
    }

    fn forget_cancelled(&mut self) {
        self.spent = (self.run[0].weight == 0).then_some(self.run[0].tuple);
        for i in 1..self.run.len() {
            if self.run[i].weight == 0 {
                self.free(self.run[i].tuple);
            }
        }
        self.run.retain(|change| change.weight != 0);
    }

    fn recycle(&mut self) {
        let mut run = std::mem::take(&mut self.run);
        run.drain(..).map(|change| change.tuple).chain(self.spent.take()).for_each(|tuple| self.free(tuple));
        self.run = run;
    }

    /// Frees a tuple nobody needs any more; those netted in memory go together at the end.
    fn free(&self, tuple: pg_sys::MinimalTuple) {
        if !matches!(self.feed, Feed::Memory(_)) {
            // SAFETY: palloc'd by the feed and owned by the run.
            unsafe { pg_sys::pfree(tuple.cast()) };
        }
    }

    pub fn end(&self) {
        if let Feed::Sorted(spill) | Feed::Paired(_, New::Sorted(spill)) = &self.feed {
            spill.end();
        }
    }
}

/// The child's next row with a weight; its tuple is palloc'd. Image hashes are not needed in so short runs.
unsafe fn fetch_grouped(child: Child, layout: Layout, reader: &Reader, grouping: &Grouping) -> Option<Change> {
    loop {
        let slot = child.next()?;
        let (row, weight) = layout.split(&slot);
        if weight != 0 {
            // SAFETY: a live row of the shape.
            let group = unsafe { grouping.group(&reader.shape, row) };
            // SAFETY: the row has the descriptor's columns.
            let tuple =
                unsafe { pg_sys::heap_form_minimal_tuple(reader.desc, row.values.as_ptr(), row.nulls.as_ptr(), 0) };
            return Some(Change { tuple, weight, image: 0, group, place: Place::NONE });
        }
    }
}
