//! Reading a change buffer: the versions a snapshot sees and a frontier does not cover.
//!
//! 1. Segments are walked one after the other; empty ones cost a look at their size, pages that the frontier's horizon
//!    covers a look at their header (walk.rs).
//! 2. A buffer row is pending when the snapshot sees it (the heap's own check) and the frontier does not cover its
//!    transaction and command.
//! 3. Versions of pending rows are copied into private memory, as many as a batch holds under one guard: the shared
//!    page must not be written, and consumers need plain minimal tuples without the sign bit.
//! 4. A version that refers to a TOAST value of the table gets a copy in its place, if one is pending (references.rs).
//!
//! The order of versions means nothing. A scan that an error cuts short is dropped without calling the server: its
//! resource owner closes what is open.

use super::buffer::{LARGEST, NEGATIVE, WIDE_OFFSET, adopt, has_references, measure, notes_of};
use super::frontier::{Beginning, Frontier};
use super::references::{self, Copies, Origin, Referable};
use super::walk::Walk;
use crate::error::error;
use crate::pg::server;
use pgrx::{PgSqlErrorCode, pg_sys};
use smallvec::SmallVec;
use std::mem::MaybeUninit;
use std::ptr::null_mut;

/// Bytes of versions copied under one guard: several rows, few enough to stay in the processor's first cache.
const BATCH: usize = 3 * LARGEST;

/// A scan of the pending versions of one source.
pub struct BufferScan {
    walk: Walk,
    batch: Box<[MaybeUninit<u64>]>,
    /// Versions still to be returned: bytes `at..end` behind `base`, which is the batch or inside a wide payload.
    base: *mut u8,
    at: usize,
    end: usize,
    /// A wide payload that comes after the batch, and the one being returned.
    wide: *mut pg_sys::varlena,
    returned: *mut pg_sys::varlena,
    /// Of a batch with references, which is one row; the copies pending, once a version may need one; and such a version.
    origin: Origin,
    copies: Option<Box<Copies>>,
    resolved: pg_sys::MinimalTuple,
    source: pg_sys::Oid,
    context: pg_sys::MemoryContext,
}

impl BufferScan {
    /// Starts a scan. Memory it needs for wide versions comes from the current context, which must outlive the scan.
    /// The segments stay locked against truncation until the end of the transaction.
    pub fn begin(source: pg_sys::Oid, frontier: &Frontier, snapshot: pg_sys::Snapshot) -> Self {
        Self {
            walk: Walk::begin(source, frontier, snapshot),
            batch: Box::new_uninit_slice(BATCH / 8),
            base: null_mut(),
            at: 0,
            end: 0,
            wide: null_mut(),
            returned: null_mut(),
            origin: Origin::NOTHING,
            copies: None,
            resolved: null_mut(),
            source,
            // SAFETY: a plain global.
            context: unsafe { pg_sys::CurrentMemoryContext },
        }
    }

    /// The next version and its weight. The tuple, in the source's row layout with uncaptured columns null, is valid
    /// until the next call.
    #[expect(clippy::should_implement_trait, reason = "what it returns does not outlive the next call")]
    #[inline]
    pub fn next(&mut self) -> Option<(pg_sys::MinimalTuple, i64)> {
        if self.at == self.end && !self.fill() {
            return None;
        }
        // SAFETY: `at..end` holds whole versions.
        unsafe {
            let version: pg_sys::MinimalTuple = self.base.add(self.at).cast();
            let (weight, length) = measure(version);
            (*version).t_len &= !NEGATIVE;
            self.at += length;
            Some((if has_references(version) { self.resolve(version) } else { version }, weight))
        }
    }

    /// The version, with copies of values that may be gone.
    #[cold]
    fn resolve(&mut self, version: pg_sys::MinimalTuple) -> pg_sys::MinimalTuple {
        self.forget_resolved();
        let collect = || Box::new(Copies::collect(self.source, self.walk.frontier(), self.walk.snapshot()));
        let copies = self.copies.get_or_insert_with(collect);
        // SAFETY: the version is in our memory; the context outlives the scan.
        match unsafe { copies.resolve(version, self.origin, self.context) } {
            Some(resolved) => {
                self.resolved = resolved;
                resolved
            }
            None => version,
        }
    }

    fn forget_resolved(&mut self) {
        if !self.resolved.is_null() {
            // SAFETY: made by `resolve`.
            unsafe { pg_sys::pfree(std::mem::replace(&mut self.resolved, null_mut()).cast()) };
        }
    }

    /// Reads on; false at the end.
    #[cold]
    fn fill(&mut self) -> bool {
        self.release();
        if self.wide.is_null() {
            self.base = self.batch.as_mut_ptr().cast();
            // SAFETY: the batch has BATCH bytes; nothing in the closure has a destructor or panics.
            (self.end, self.wide, self.origin) =
                unsafe { server::guarded(|| self.walk.collect(self.base, self.context)) };
            if self.walk.met_unreadable {
                unreadable()
            }
            self.walk.check_sound();
        }
        if self.end == 0 && !self.wide.is_null() {
            self.returned = std::mem::replace(&mut self.wide, null_mut());
            // SAFETY: a wide payload holds one version behind header and padding.
            unsafe {
                self.base = self.returned.cast::<u8>().add(WIDE_OFFSET);
                adopt(self.base, 1);
                self.end = measure(self.base.cast()).1;
            }
        }
        self.end > 0
    }

    /// Forgets what has been returned.
    fn release(&mut self) {
        (self.at, self.end) = (0, 0);
        self.forget_resolved();
        if !self.returned.is_null() {
            // SAFETY: a payload copied by `collect`.
            unsafe { pg_sys::pfree(std::mem::replace(&mut self.returned, null_mut()).cast()) };
        }
    }

    /// Starts over.
    pub fn rescan(&mut self) {
        self.release();
        self.returned = std::mem::replace(&mut self.wide, null_mut());
        self.release();
        self.walk.rewind();
    }

    pub fn end(mut self) {
        self.rescan();
        self.walk.end();
        if let Some(copies) = self.copies.take() {
            copies.end();
        }
    }
}

/// Who reads versions has counted them before, at the same snapshot.
fn unreadable() -> ! {
    error(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, "a change buffer holds rows of an unknown format")
        .detail("Another version of the library has written them.")
        .hint("REFRESH MATERIALIZED VIEW computes the stream tables that read them anew.")
        .raise()
}

/// What is pending for a view from one source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// Row versions: an insert or delete is one, an update two.
    pub versions: u64,
    /// How many of them are removals; of those too wide for a page, where it takes a look at them to tell, none.
    pub removals: u64,
    /// Their bytes in the buffer (compressed, where wide).
    pub bytes: u64,
    /// How many of them are too wide for a page.
    pub wide: u64,
    /// Some of it was written by another release, in a format that this one does not know: the view must be recomputed.
    pub unreadable: bool,
    /// Notes of values that versions have copies of, and the TOAST tables that versions point into.
    pub notes: u64,
    pub referred: Vec<Referable>,
    /// The horizon of a frontier that contains them (Frontier::horizon), and what it knows of the segments' beginnings.
    pub horizon: u64,
    pub beginnings: SmallVec<[Beginning; 2]>,
}

impl Pending {
    /// Counts what a `BufferScan` would return. `xmin` is the snapshot's.
    pub fn count(source: pg_sys::Oid, frontier: &Frontier, snapshot: pg_sys::Snapshot, xmin: u64) -> Self {
        let mut walk = Walk::begin(source, frontier, snapshot);
        let mut referred = vec![];
        // SAFETY: nothing in the closure has a destructor or panics; the vector belongs to this frame.
        let counted = unsafe { server::guarded(|| walk.count(&mut referred)) };
        let Counted { versions, removals, bytes, wide, notes } = counted;
        walk.check_sound();
        let (horizon, beginnings) = (walk.horizon(), walk.beginnings(xmin));
        let unreadable = walk.met_unreadable;
        walk.end();
        Self { versions, removals, bytes, wide, unreadable, notes, referred, horizon, beginnings }
    }

    /// Counts what is pending now.
    pub fn now(source: pg_sys::Oid, frontier: &Frontier) -> Self {
        // SAFETY: registered for the duration of the count.
        unsafe {
            let snapshot = pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot());
            let pending = Self::count(source, frontier, snapshot, 0);
            pg_sys::UnregisterSnapshot(snapshot);
            pending
        }
    }

    /// Whether anything is pending now: looks no further than the first row.
    pub fn is_any_now(source: pg_sys::Oid, frontier: &Frontier) -> bool {
        // SAFETY: registered until the walk has ended; nothing in the closure has a destructor or panics.
        unsafe {
            let snapshot = pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot());
            let mut walk = Walk::begin(source, frontier, snapshot);
            let found = server::guarded(|| walk.next_pending().is_some());
            walk.check_sound();
            walk.end();
            pg_sys::UnregisterSnapshot(snapshot);
            found
        }
    }

    pub fn is_empty(&self) -> bool {
        self.versions == 0
    }

    /// The values it refers to are found until the end of the transaction. Takes locks for that.
    pub fn has_values(&self) -> bool {
        let few = self.referred.is_empty() || self.notes <= references::limit();
        few && self.referred.iter().all(|referable| referable.holds())
    }
}

#[derive(Clone, Copy, Default)]
struct Counted {
    versions: u64,
    removals: u64,
    bytes: u64,
    wide: u64,
    notes: u64,
}

/// Bytes of versions in the batch, the wide payload behind them, and the origin of what has references.
type Collected = (usize, *mut pg_sys::varlena, Origin);

impl Walk {
    /// Copies versions to `batch` until it is full or a wide one comes along, which is copied to `context`. A row with
    /// references is alone.
    unsafe fn collect(&mut self, batch: *mut u8, context: pg_sys::MemoryContext) -> Collected {
        let mut used = 0;
        // SAFETY: inside a guard; a row's versions are at most LARGEST bytes.
        unsafe {
            while used + LARGEST <= BATCH {
                let Some(row) = self.next_pending() else { break };
                if !row.is_readable() {
                    self.met_unreadable = true;
                    break;
                }
                let origin = row.origin();
                let refers = !origin.toast.is_nothing();
                if refers && used > 0 {
                    self.step_back();
                    break;
                }
                if row.is_wide() {
                    let old = pg_sys::CurrentMemoryContext;
                    pg_sys::CurrentMemoryContext = context;
                    let payload = server::pg_detoast_datum_copy(row.payload());
                    pg_sys::CurrentMemoryContext = old;
                    return (used, payload, origin);
                }
                let (versions, size) = row.versions();
                std::ptr::copy_nonoverlapping(versions, batch.add(used), size);
                if !row.is_present() {
                    adopt(batch.add(used), size);
                }
                used += size;
                if refers {
                    return (used, null_mut(), origin);
                }
            }
        }
        (used, null_mut(), Origin::NOTHING)
    }

    unsafe fn count(&mut self, referred: &mut Vec<Referable>) -> Counted {
        let mut pending = Counted::default();
        // SAFETY: inside a guard.
        while let Some(row) = unsafe { self.next_pending() } {
            if !row.is_readable() {
                self.met_unreadable = true;
                pending.versions += 1;
                continue;
            }
            let toast = row.origin().toast;
            if !toast.is_nothing() && referred.last() != Some(&toast) && !referred.contains(&toast) {
                referred.push(toast);
            }
            if row.is_wide() {
                pending.wide += 1;
                pending.versions += 1;
                pending.bytes += row.stored_size();
                pending.notes += row.wide_notes().len() as u64;
                continue;
            }
            let (versions, size) = row.versions();
            let mut at = 0;
            while at < size {
                // SAFETY: whole versions lie in `size` bytes.
                at += unsafe {
                    let version: pg_sys::MinimalTuple = versions.add(at).cast_mut().cast();
                    pending.notes += if row.is_present() { notes_of(version).len() as u64 } else { 0 };
                    pending.removals += u64::from((*version).t_len & NEGATIVE != 0);
                    row.length_of(version)
                };
                pending.versions += 1;
            }
            pending.bytes += size as u64;
        }
        pending
    }
}
