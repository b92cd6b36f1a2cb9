//! Starting, widening and ending the capture of a source.
//!
//! Capture starts or widens under ShareRowExclusiveLock on all members: afterwards every transaction that captured less
//! has ended, so a snapshot taken from then on contains all that was not captured.

use super::{family, fingerprint, lock, segment, triggers};
use crate::catalog::dependency;
use crate::catalog::source::{self, Source};
use crate::pg::memory::Scratch;
use crate::pg::relation::Relation;
use pgrx::pg_sys;

/// Captures at least `columns` (attribute numbers) of `relid` from now on, and keeps its changes from being trimmed
/// until the end of the transaction. A snapshot taken after this call contains whatever is not captured.
///
/// `relid` is a table the circuit found capturable, or a stream table, whose own refreshes capture it (DeltaWriter).
pub fn install(relid: pg_sys::Oid, columns: &[i16]) {
    lock::keep(relid);
    let source = match source::get(relid).filter(|source| captures(source, columns)) {
        Some(source) => source,
        None => widen(relid, columns),
    };
    segment::pin(source.segments);
}

fn captures(source: &Source, columns: &[i16]) -> bool {
    columns.iter().all(|column| source.columns.contains(column))
}

fn widen(relid: pg_sys::Oid, columns: &[i16]) -> Source {
    let members = exclude_writers(relid);
    lock::alter(relid);
    match source::get(relid) {
        Some(source) if captures(&source, columns) => source,
        Some(source) => grow(source, columns),
        None => start(relid, columns, members),
    }
}

/// Waits until no transaction is left that wrote to the family of `relid`, and excludes new ones.
pub fn exclude_writers(relid: pg_sys::Oid) -> Vec<pg_sys::Oid> {
    let mode = pg_sys::ShareRowExclusiveLock;
    // SAFETY: a lock by oid.
    unsafe { pg_sys::LockRelationOid(relid, mode as i32) };
    family::members(relid, mode)
}

fn start(relid: pg_sys::Oid, columns: &[i16], members: Vec<pg_sys::Oid>) -> Source {
    let mut source = Source {
        relid,
        segments: segment::create(relid),
        active: 0,
        level: family::level(&members),
        cdc: "trigger".to_owned(),
        columns: live(relid, columns),
        members,
        shape: 0,
        proofs: 0,
    };
    fingerprint::take(&mut source);
    source::insert(&source);
    arm(&source.members);
    source
}

fn grow(mut source: Source, columns: &[i16]) -> Source {
    let wanted: Vec<i16> = source.columns.iter().chain(columns).copied().collect();
    let columns = live(source.relid, &wanted);
    set_columns(&mut source, columns);
    source
}

fn set_columns(source: &mut Source, columns: Vec<i16>) {
    source.columns = columns;
    fingerprint::take(source);
    source::update(source);
    segment::invalidate(source.segments);
}

/// The columns among `wanted` that (still) exist, ascending.
pub fn live(relid: pg_sys::Oid, wanted: &[i16]) -> Vec<i16> {
    let mut columns = Relation::open(relid, pg_sys::AccessShareLock).live_columns();
    columns.retain(|attno| wanted.contains(attno));
    columns
}

/// Brings the triggers of `members`, on which ShareRowExclusiveLock is held, in line with the catalog.
pub fn arm(members: &[pg_sys::Oid]) {
    for &member in members {
        triggers::reconcile(member);
        // SAFETY: the member exists; writers' caches learn of the new source even if its triggers were there.
        unsafe { pg_sys::CacheInvalidateRelcacheByRelid(member) };
    }
}

/// Stops capturing columns that no view reads any more; everything, when no view is left. To be called after the
/// dependency rows are gone. While somebody is about to use the source it stays as it is, until the next call.
pub fn shrink(relid: pg_sys::Oid) {
    // Looks at every reader, and many may call this one after the other.
    Scratch::make().run(|| shrink_now(relid));
}

fn shrink_now(relid: pg_sys::Oid) {
    let exists = Relation::try_open(relid, pg_sys::AccessShareLock).is_some();
    if !exists || dependency::readers_of(relid).is_empty() {
        return uninstall(relid);
    }
    if let Some(mut source) = source::get(relid)
        && lock::try_narrow(relid)
    {
        let columns = live(relid, &dependency::columns_read(relid));
        set_columns(&mut source, columns);
    }
}

/// Ends the capture of a source no view reads, which may be gone itself. As `shrink` otherwise.
pub fn uninstall(relid: pg_sys::Oid) {
    let Some(source) = source::get(relid) else { return };
    if !dependency::readers_of(relid).is_empty() {
        return;
    }
    let there = |member: &pg_sys::Oid| Relation::try_open(*member, pg_sys::ShareRowExclusiveLock).is_some();
    let members: Vec<_> = source.members.into_iter().filter(there).collect();
    // Another session may have done it while we waited for the members.
    if lock::try_narrow(relid) && source::get(relid).is_some() && dependency::readers_of(relid).is_empty() {
        source::delete(relid);
        arm(&members);
        segment::drop(source.segments);
    }
}

/// Keeps the changes of `relid` from being trimmed until the end of the transaction. A refresh that starts from nothing
/// (population, recompute) calls this for every source before it takes its snapshot: until it commits, its frontier does
/// not protect what comes after the snapshot.
pub fn pin(relid: pg_sys::Oid) {
    if let Some(source) = source::get(relid) {
        segment::pin(source.segments);
    }
}
