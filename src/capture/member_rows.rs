//! The rows of a member as a change of the source it belongs to: those that leave with a partition, and those that come.
//!
//! Let M be the member and T the transaction of the statement that takes it out of the source S, or into it.
//!
//! 1. The caller holds a lock on M that excludes writers (ShareRowExclusiveLock or more) to the end of T. Writers keep their
//!    lock to the end of their transaction, prepared ones too, and a transaction ends for snapshots before it lets go of its locks.
//!    So no transaction but T has changes of M that a snapshot taken now might not see: it sees exactly the rows of M.
//! 2. M *leaves*. The buffer of S holds the changes of M so far, T's own included: its triggers have fired, since they
//!    fire when their statement ends. For each view of S with frontier F, the rows of M that it contains plus those of its changes
//!    pending since F are the rows of M now. With a version of weight -1 for each of them the sum is 0: what is left of M is
//!    nothing, as in S without it.
//! 3. M *comes*. Nothing of M was captured for S: a table feeds those sources only whose catalog row names it as a member
//!    (cache.rs), and that row changes in T. A version of weight +1 for each row of M makes the sum the rows of M.
//! 4. The versions carry T and its command, as those of any statement do. They are pending for a view exactly when T is
//!    visible to its refresh and its frontier does not cover it; so is the change of pg_inherits, or of the file. With a savepoint
//!    that is taken back all of them are gone; a prepared transaction keeps all of them.
//! 5. A refresh reads its sources at its snapshot, but finds members and files as they are when it plans. It locks every
//!    member before it takes the snapshot. Who takes a member out, or truncates it, holds AccessExclusiveLock on it or on a
//!    member above it. So these commit before the snapshot, or after the refresh has ended. A member may come in between, and a
//!    snapshot that a transaction keeps (REPEATABLE READ) may be older than its locks: `overtaken.rs` tells, and then the refresh
//!    orders a recompute.
//!
//! It takes about a tenth of a microsecond per narrow row beside what the log takes, in the statement of a user, so it has a limit; and
//! where it moves more than a fraction of the source, a recompute is likely to be cheaper (`benches/retention.sh`).

use super::buffer::{Page, Writer};
use super::cache::Feed;
use super::image::Image;
use super::references;
use crate::catalog::source::Source;
use crate::pg::relation::Relation;
use crate::pg::{interrupt, server};
use crate::wakeup;
use pgrx::pg_sys;

/// The rows of `member`, which is locked against writers, become versions of `source`. Returns how many.
pub fn write(source: &Source, member: pg_sys::Oid, weight: i64) -> u64 {
    let parent = Relation::open(source.relid, pg_sys::AccessShareLock);
    let member = Relation::open(member, pg_sys::AccessShareLock);
    // SAFETY: both relations are open.
    let image = unsafe { Image::new(member.tuple_desc(), parent.tuple_desc(), &source.columns) };
    let feed = Feed { source: source.relid, segment: source.segments[source.active], image };
    write_to(&feed, &member, weight)
}

/// As `write`. It locks nothing more.
pub fn write_to(feed: &Feed, member: &Relation, weight: i64) -> u64 {
    if member.form().relkind as u8 != pg_sys::RELKIND_RELATION || member.blocks() == 0 {
        return 0;
    }
    let mut page = Box::new(Page::new());
    let memory: *mut Page = &raw mut *page;
    let relation = member.as_ptr();
    // SAFETY: the member is open while it is scanned; the page lives as long as the writer and is nobody else's; nothing in the
    // closure has a destructor or panics.
    let rows = unsafe {
        // Rows that leave are noted as those whose wide values pending updates may refer to.
        let toast = references::toast_of(relation);
        server::guarded(|| copy(&feed.image, &mut Writer::begin(feed.segment, memory, toast), relation, weight))
    };
    if rows > 0 {
        wakeup::touch(feed.source);
    }
    rows
}

/// Every row that a snapshot of this moment sees.
unsafe fn copy(image: &Image, writer: &mut Writer, relation: pg_sys::Relation, weight: i64) -> u64 {
    let mut rows = 0;
    // SAFETY: inside a guard; the relation is open, the snapshot registered and the slot of the relation's kind.
    unsafe {
        let snapshot = server::RegisterSnapshot(server::GetLatestSnapshot());
        let slot = server::table_slot_create(relation, std::ptr::null_mut());
        let flags = pg_sys::ScanOptions::SO_TYPE_SEQSCAN
            | pg_sys::ScanOptions::SO_ALLOW_STRAT
            | pg_sys::ScanOptions::SO_ALLOW_PAGEMODE;
        let routines = &*(*relation).rd_tableam;
        let (Some(begin), Some(next), Some(end)) = (routines.scan_begin, routines.scan_getnextslot, routines.scan_end)
        else {
            return 0;
        };
        let none = std::ptr::null_mut();
        let scan = begin(relation, snapshot, 0, none, none.cast(), flags);
        while next(scan, pg_sys::ScanDirection::ForwardScanDirection, slot) {
            interrupt::check_inside_guard();
            image.form(writer, slot, weight);
            rows += 1;
        }
        end(scan);
        server::ExecDropSingleTupleTableSlot(slot);
        server::UnregisterSnapshot(snapshot);
        writer.finish();
    }
    rows
}

/// Pages up to which rows are always moved by delta: a statement takes a millisecond or two more, and so does a refresh at most.
const FEW: u64 = 128;
/// Most pages of rows that one statement copies to one buffer: a gigabyte. A page takes 10 to 20 microseconds of the
/// processor, measured on up to 40 MB, which makes this between one second and three.
const MOST: u64 = 131_072;
/// Beyond them, the source without the moving members must have so many times as many pages. At this share a delta still
/// takes less than a recompute of a cheap GROUP BY, at a quarter it does not; of filters and joins it would up to about one half.
const SHARE: u64 = 5;

/// Moving the rows of `moving`, members of `source` that are locked, by delta is likely to be cheaper than computing the views of
/// `source` anew.
pub fn is_cheap(source: &Source, moving: &[pg_sys::Oid]) -> bool {
    let parent = Relation::open(source.relid, pg_sys::AccessShareLock);
    let fetches = source.columns.iter().any(|&attno| parent.attribute(attno).attlen == -1);
    let there = moving.iter().filter_map(|&member| Relation::try_open(member, pg_sys::AccessShareLock));
    let pages = there.map(|member| pages_of(&member, fetches)).sum();
    are_few(source, pages, moving, fetches)
}

/// As `is_cheap`, for who knows that a scan of them reads so many pages, and whether it `fetches` long values. It waits for no lock.
pub fn are_few(source: &Source, pages: u64, moving: &[pg_sys::Oid], fetches: bool) -> bool {
    pages <= FEW
        || pages <= MOST && {
            let mut rest = source.members.iter().filter(|member| !moving.contains(member));
            let mut others = 0;
            rest.any(|&member| {
                others += if_free(member, |table| {
                    own_pages(table) + toast_of(table, fetches).map_or(0, |toast| if_free(toast, own_pages))
                });
                others >= pages * SHARE
            })
        }
}

/// What a scan of the table reads, also when it `fetches` long values from outside the rows.
pub fn pages_of(table: &Relation, fetches: bool) -> u64 {
    let toast = toast_of(table, fetches).and_then(|toast| Relation::try_open(toast, pg_sys::AccessShareLock));
    own_pages(table) + toast.map_or(0, |toast| own_pages(&toast))
}

fn toast_of(table: &Relation, fetches: bool) -> Option<pg_sys::Oid> {
    Some(table.form().reltoastrelid).filter(|&toast| fetches && toast != pg_sys::InvalidOid)
}

fn own_pages(table: &Relation) -> u64 {
    let kind = table.form().relkind as u8;
    let is_stored = matches!(kind, pg_sys::RELKIND_RELATION | pg_sys::RELKIND_TOASTVALUE);
    if is_stored { u64::from(table.blocks()) } else { 0 }
}

/// The pages of another table. A statement that holds a strong lock must not wait for one that may wait for it, nor keep a
/// lock for which others would wait: a table that is not free counts for nothing.
fn if_free(relid: pg_sys::Oid, pages: impl FnOnce(&Relation) -> u64) -> u64 {
    let mode = pg_sys::AccessShareLock;
    // SAFETY: a lock by oid, given back below, whatever the transaction holds besides.
    if !unsafe { pg_sys::ConditionalLockRelationOid(relid, mode as i32) } {
        return 0;
    }
    let pages = Relation::try_open(relid, pg_sys::NoLock).map_or(0, |table| pages(&table));
    // SAFETY: taken above.
    unsafe { pg_sys::UnlockRelationOid(relid, mode as i32) };
    pages
}
