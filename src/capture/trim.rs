//! Keeping change buffers short without deleting rows and without waiting.
//!
//! Writers append to the *active* segment. When it has grown and the other is empty they change places. When every view
//! has seen all that is in the inactive one, it is truncated: no dead rows, no vacuum. State of a segment:
//!
//! ```text
//! active, growing --(flip: grown, other empty)--> inactive, being consumed --(all seen: truncate)--> empty --> active
//! ```
//!
//! Truncation is not transactional, so what counts as seen are committed frontiers, and rows of transactions in progress
//! must be excluded: their locks on the segment make ours fail, and then there is always another time. For the same reason it
//! leaves no lock behind, and can be interrupted anywhere: the transaction may go on for long, or fail.
//!
//! The flip is an update of the source's row, so it is for the end of the transaction to make: a REFRESH may stay open for hours
//! after it has found a segment grown, and whoever must change the same row (more columns, another partition) holds the table
//! against writers while waiting. Just before the commit the lock is tried, and held for as long as a commit takes (lock.rs).
//!
//! Races this must survive:
//! * a writer that still takes the segment for active: its rows are found when all of it is checked under ShareLock;
//! * a view being created or populated, whose frontier nobody sees yet: it pins the segments (install, pin), and if it
//!   commits while rows are checked it is looked at again;
//! * a refresh in progress: its committed frontier still is the old one;
//! * this very transaction having moved a frontier or dropped a view, and rolling that back: it must not have written.

use super::buffer::StoredRow;
use super::frontier::Frontier;
use super::{cache, lock, segment};
use crate::catalog::source;
use crate::catalog::{dependency, stream_table};
use crate::pg::relation::Relation;
use crate::pg::xact::{self, Postponed};
use crate::pg::{interrupt, server, snapshot, storage};
use pgrx::pg_sys;
use std::cell::{Cell, RefCell};
use std::ptr::null_mut;

/// Size from which the active segment is worth replacing. A refresh may find that many pages of rows already seen in
/// its way; a truncation flushes WAL and searches the buffer pool once (docs: measured figures).
const FLIP_BLOCKS: u32 = 64;

/// Does what can be done at once for these sources, which are locked (in any mode); only looks when there is nothing to
/// do. Does nothing in a transaction that has written something: that might be frontiers or dependencies, and be rolled
/// back.
pub fn trim(sources: impl IntoIterator<Item = pg_sys::Oid>) {
    // SAFETY: asks for this transaction's id.
    let wrote = unsafe { pg_sys::GetTopFullTransactionIdIfAny() }.value != 0;
    if !wrote {
        sources.into_iter().for_each(trim_one);
    }
}

fn trim_one(relid: pg_sys::Oid) {
    let Some(segments) = cache::segments(relid) else { return };
    let segments = segments.map(|segment| Relation::open(segment, pg_sys::AccessShareLock));
    let blocks = segments.each_ref().map(Relation::blocks);
    let idle = blocks.contains(&0) && blocks.iter().all(|&blocks| blocks < FLIP_BLOCKS);
    let Some(source) = (!idle).then(|| source::get(relid)).flatten() else { return };
    let (active, inactive) = (source.active, 1 - source.active);
    if blocks[inactive] > 0 {
        truncate_if_seen(relid, &segments[inactive]);
    }
    if blocks[active] >= FLIP_BLOCKS && segments[inactive].blocks() == 0 {
        flip_at_commit(relid);
    }
}

thread_local! {
    /// The sources whose segments change places when this transaction commits.
    static GROWN: RefCell<Vec<pg_sys::Oid>> = const { RefCell::new(Vec::new()) };
    static POSTPONED: Cell<bool> = const { Cell::new(false) };
}

fn flip_at_commit(relid: pg_sys::Oid) {
    xact::postpone::<Flips>(&POSTPONED);
    GROWN.with_borrow_mut(|grown| {
        if !grown.contains(&relid) {
            grown.push(relid);
        }
    });
}

struct Flips;

impl Postponed for Flips {
    fn commit() {
        let grown = GROWN.take();
        if !grown.is_empty() {
            snapshot::with_active(|| grown.into_iter().for_each(flip));
        }
    }

    fn forget() {
        GROWN.take();
    }
}

/// Lets writers use the other segment. The source may be another one by now than when it was found grown, or none: the next
/// trim finds what is left to do.
fn flip(relid: pg_sys::Oid) {
    if lock::try_alter(relid)
        && let Some(mut source) = source::get(relid)
        && is_empty(source.segments[1 - source.active])
    {
        source.active = 1 - source.active;
        source::update(&source);
        segment::invalidate(source.segments);
    }
}

fn is_empty(segment: pg_sys::Oid) -> bool {
    Relation::try_open(segment, pg_sys::AccessShareLock).is_some_and(|segment| segment.blocks() == 0)
}

/// 1. ShareLock: no writer is left, and none comes. 2. Check the rows, while readers go on. 3. AccessExclusiveLock: no
///    view is being populated. 4. Views populated meanwhile may be at an older snapshot than those checked against.
fn truncate_if_seen(relid: pg_sys::Oid, segment: &Relation) {
    let seen = frontiers(relid);
    let Some(_no_writers) = Held::take(segment, pg_sys::ShareLock) else { return };
    if !all_seen(segment, &seen) {
        return;
    }
    let Some(_nobody) = Held::take(segment, pg_sys::AccessExclusiveLock) else { return };
    let checked = |now: &Frontier| {
        interrupt::check();
        seen.iter().any(|then| then.precedes(now))
    };
    if frontiers(relid).iter().all(checked) {
        truncate(segment);
    }
}

/// How far the views that read the buffer are, as far as they are populated.
fn frontiers(relid: pg_sys::Oid) -> Vec<Frontier> {
    let views = dependency::readers_of(relid).into_iter().filter_map(stream_table::get);
    let decode = |bytes: Vec<u8>| Frontier::stored(&bytes);
    views.filter_map(|view| view.frontier).map(decode).collect()
}

/// Looks at the newest rows first: they are the ones not seen, if any.
fn all_seen(segment: &Relation, frontiers: &[Frontier]) -> bool {
    // SAFETY: the snapshot is registered during the scan; nothing in the closure has a destructor or panics.
    unsafe {
        let snapshot = pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot());
        let flags = pg_sys::ScanOptions::SO_TYPE_SEQSCAN | pg_sys::ScanOptions::SO_ALLOW_PAGEMODE;
        let scan = pg_sys::heap_beginscan(segment.as_ptr(), snapshot, 0, null_mut(), null_mut(), flags);
        let all = server::guarded(|| {
            loop {
                interrupt::check_inside_guard();
                let tuple = server::heap_getnext(scan, pg_sys::ScanDirection::BackwardScanDirection);
                if tuple.is_null() {
                    return true;
                }
                let row = StoredRow::of((*tuple).t_data);
                if !frontiers.iter().all(|frontier| frontier.covers(row.xid(), row.cid())) {
                    return false;
                }
            }
        });
        pg_sys::heap_endscan(scan);
        pg_sys::UnregisterSnapshot(snapshot);
        all
    }
}

/// Truncates the segment and, if used, its toast table, unless somebody is in the way there.
fn truncate(segment: &Relation) {
    let toast = Relation::open(segment.form().reltoastrelid, pg_sys::AccessShareLock);
    let used = toast.blocks() > 0;
    let nobody = used.then(|| Held::take(&toast, pg_sys::AccessExclusiveLock)).flatten();
    if used && nobody.is_none() {
        return;
    }
    // SAFETY: we hold AccessExclusiveLock; rows not seen by the check are dead.
    unsafe { pg_sys::RelationTruncate(segment.as_ptr(), 0) };
    if used {
        storage::empty_toast(&toast);
    }
}

/// A lock taken without waiting and given back early: what it protected is done, not pending until commit.
struct Held {
    relid: pg_sys::Oid,
    mode: i32,
}

impl Held {
    /// None when somebody is in the way, this transaction's own writes included.
    fn take(segment: &Relation, mode: u32) -> Option<Self> {
        let (relid, mode) = (segment.oid(), mode as i32);
        // SAFETY: a conditional lock.
        unsafe {
            let wrote = pg_sys::CheckRelationOidLockedByMe(relid, pg_sys::RowExclusiveLock as i32, false);
            // Not then_some: a value made for nothing would give back a lock we do not have when it is dropped.
            (!wrote && pg_sys::ConditionalLockRelationOid(relid, mode)).then(|| Self { relid, mode })
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: taken by `take`.
            unsafe { pg_sys::UnlockRelationOid(self.relid, self.mode) };
        }
    }
}
