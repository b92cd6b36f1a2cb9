//! Putting capture right where its triggers were lost, and what follows for the views.
//!
//! A refresh that finds capture incomplete does not repair it: that takes a lock which excludes writers, and the
//! refresh may go on for long (promise 3). It recomputes instead, which needs nothing but the tables, and so does every
//! refresh after it until capture is repaired. The scheduler repairs each source in a transaction of its own, which
//! waits for its locks for a moment only and is tried again; pgtrickle.repair_capture() does it at once.
//!
//! Why that is exact. Let W be a transaction that changed a member without its trigger.
//! 1. The repair holds ShareRowExclusiveLock on all members, so W has ended before the repair commits.
//! 2. With the triggers the repair commits a marker for each reader. A refresh whose snapshot sees the marker sees what
//!    W did, and recomputes; a refresh whose snapshot does not see it leaves it in place.
//! 3. A refresh looks at the triggers first and at the markers second. So if it takes capture for complete after it was
//!    repaired, it finds the marker.
//!
//! After pg_upgrade the same holds of every source at once. What the catalog remembers of them stays true:
//! * relations, types, roles and attributes keep their numbers, so rows of our tables mean what they meant. Functions,
//!   operators, constraints, triggers and schemas get other oids. We store none, but fingerprints are made of them: those
//!   of sources are taken again by the repair, those of views by their recompute (registration::resync).
//! * transaction ids go on where the old cluster stopped (pg_resetwal -x and -e before the schema is restored), no
//!   transaction was running or prepared then, and commit status comes along: a frontier says of each row of a buffer what
//!   it said before.
//! * WAL positions go on beyond the last of the old cluster (pg_resetwal -l) and files keep their numbers, so horizons,
//!   beginnings and StreamTable::may_be_replaced still hold. None of them is relied on all the same: a view is recomputed
//!   before its pending changes are next counted, and its new frontier takes all three from the new cluster.
//! * a transition value may be stored in the format of another major version, and row_image_hash might give another
//!   value there: the recompute makes states anew, and the index too when the major version differs.

use super::triggers::State;
use super::{check, ddl, install, lock};
use crate::catalog::recompute_reason::RecomputeReason;
use crate::catalog::{installation, source, stream_table, version};
use crate::error::error;
use crate::pg::relation::Relation;
use crate::pg::{names, server};
use crate::wakeup;
use pgrx::{PgSqlErrorCode, pg_sys};

pub use super::check::{faulty, is_altered, is_complete};

/// Every change of these sources, which are locked, is in its buffer.
pub fn is_certain(sources: impl IntoIterator<Item = pg_sys::Oid>) -> bool {
    installation::is_of_this_server() && sources.into_iter().all(check::is_complete)
}

/// Why changes of these sources, which are locked, may be missing from their buffers.
pub fn doubt(sources: impl IntoIterator<Item = pg_sys::Oid>) -> Option<RecomputeReason> {
    if !installation::is_of_this_server() {
        return Some(upgrade_reason());
    }
    let incomplete = sources.into_iter().find(|&source| !check::is_complete(source))?;
    // The scheduler reads the catalog again and looks at capture.
    wakeup::graph_changed();
    let message = format!("changes of \"{}\" may not have been captured", names::display(incomplete));
    error(PgSqlErrorCode::ERRCODE_WARNING, message)
        .detail("A capture trigger is missing or disabled. What reads the table is recomputed.")
        .hint("The scheduler repairs capture; so does SELECT pgtrickle.repair_capture().")
        .warn();
    Some(RecomputeReason::CaptureIncomplete)
}

fn upgrade_reason() -> RecomputeReason {
    // Before there was a row, there was one major version only that the extension ran on.
    let known = installation::get().and_then(|installation| installation.server_catversion);
    match known.is_none_or(|known| known == server::catalog_version()) {
        true => RecomputeReason::PgUpgrade,
        false => RecomputeReason::PgUpgradeMajor,
    }
}

/// Brings the capture of a source, or the triggers of a table that is none, in line with the catalog. True if changes may
/// have been lost, and the source's readers are marked for recompute.
pub fn repair(relid: pg_sys::Oid) -> bool {
    if source::get(relid).is_none() {
        if Relation::try_open(relid, pg_sys::ShareRowExclusiveLock).is_some() {
            install::arm(&[relid]);
        }
        return false;
    }
    if check::examine(relid) == State::Complete {
        ddl::sync(relid, None);
        return false;
    }
    install::exclude_writers(relid);
    lock::alter(relid);
    let lost = check::examine(relid) == State::Incomplete;
    ddl::sync(relid, None);
    let Some(source) = source::get(relid) else { return false };
    install::arm(&source.members);
    if lost {
        ddl::recompute(&source, RecomputeReason::CaptureRepaired);
    }
    lost
}

/// If this is another server than the one on which capture was last found complete, and capture is complete now, every
/// view is marked for recompute and the server is remembered. Waits for nobody but DDL on a source: another transaction
/// that is at it is enough.
pub fn confirm_server() {
    // With SQL objects of another version nothing is refreshed, and rows may look otherwise.
    if version::mismatch().is_some() {
        return;
    }
    if installation::is_of_this_server() || installation::get().is_none() || !installation::try_lock() {
        return;
    }
    // Who held the lock may have done it.
    if installation::is_of_this_server() || !source::all().iter().all(|source| check::is_complete(source.relid)) {
        return;
    }
    let reason = upgrade_reason();
    for view in stream_table::all().into_iter().filter(|view| view.frontier.is_some()) {
        stream_table::set_reinit(view.relid, reason);
    }
    installation::confirm();
}
