//! After DDL: triggers on new members, recomputation where contents changed without a statement on them.

use super::frontier::Frontier;
use super::{Pending, family, fingerprint, install, lock, segment, triggers};
use crate::catalog::recompute_reason::RecomputeReason;
use crate::catalog::source::{self, Source};
use crate::catalog::{dependency, stream_table};
use crate::pg::relation::Relation;
use pgrx::pg_sys;

/// To be called at the end of a statement that created, altered or dropped the table `relid`, in its transaction, for
/// each table it names (ATTACH and DETACH name two). Cheap when the table has nothing to do with any source.
pub fn on_ddl(relid: pg_sys::Oid) {
    let sources = source::all();
    if sources.is_empty() {
        return;
    }
    let above = family::ancestors(relid);
    for source in sources {
        if source.members.contains(&relid) || above.contains(&source.relid) {
            sync(source.relid, Some(relid));
        }
    }
}

/// To be called after CREATE, ALTER and DROP SUBSCRIPTION: the triggers a source needs may have changed.
pub fn on_subscription_change() {
    source::all().iter().for_each(|source| sync(source.relid, None));
}

/// To be called before ALTER TABLE .. DETACH PARTITION CONCURRENTLY, with its parent: the partition's rows vanish when
/// that statement commits its first transaction, so that is where the recomputation must be ordered.
pub fn before_detach_concurrently(parent: pg_sys::Oid) {
    for source in family::ancestors(parent).into_iter().filter_map(source::get) {
        recompute(&source, RecomputeReason::MemberDetached);
    }
}

/// Brings capture of a source in line with its current definition, after DDL on `altered`.
pub(super) fn sync(relid: pg_sys::Oid, altered: Option<pg_sys::Oid>) {
    if let Some((before, now)) = compare(relid) {
        if before != now {
            lock_changed(&before, &now);
            lock::alter(relid);
            compare(relid).into_iter().for_each(|(before, now)| follow(&before, now));
        }
        // What ALTER TABLE .. DISABLE TRIGGER did is undone under the lock it took.
        altered.into_iter().filter(|relid| now.members.contains(relid)).for_each(triggers::reconcile);
    }
}

/// The catalog does not say of a source what it is now: DDL ran in a server without the library.
pub(super) fn is_outdated(relid: pg_sys::Oid) -> bool {
    compare(relid).is_some_and(|(before, now)| before != now)
}

/// A source as we remember it and as it is; None when the table or its capture is gone.
fn compare(relid: pg_sys::Oid) -> Option<(Source, Source)> {
    Relation::try_open(relid, pg_sys::AccessShareLock)?;
    let before = source::get(relid)?;
    let members = family::members(relid, pg_sys::AccessShareLock);
    let columns = install::live(relid, &before.columns);
    let mut now = Source { level: family::level(&members), members, columns, ..before.clone() };
    fingerprint::take(&mut now);
    Some((before, now))
}

/// Locks the tables whose triggers change (those the DDL statement names are locked already) and returns them.
fn lock_changed(before: &Source, now: &Source) -> Vec<pg_sys::Oid> {
    if before.level != now.level {
        install::exclude_writers(now.relid);
    }
    let all = before.level != now.level;
    let came = now.members.iter().filter(|&member| all || !before.members.contains(member));
    let went = before.members.iter().filter(|&member| !now.members.contains(member));
    let there = |member: &pg_sys::Oid| Relation::try_open(*member, pg_sys::ShareRowExclusiveLock).is_some();
    came.chain(went).copied().filter(there).collect()
}

fn follow(before: &Source, now: Source) {
    changed_contents(before, &now);
    source::update(&now);
    segment::invalidate(now.segments);
    install::arm(&lock_changed(before, &now));
}

fn changed_contents(before: &Source, now: &Source) {
    let went = before.members.iter().any(|member| !now.members.contains(member));
    let mut came = now.members.iter().filter(|member| !before.members.contains(member));
    if went {
        recompute(now, RecomputeReason::MemberDetached);
    } else if came.any(|&member| has_rows(member)) {
        recompute(now, RecomputeReason::MemberAttached);
    } else if fingerprint::shape(&now.columns, before) != before.shape {
        recompute(now, RecomputeReason::ColumnChanged);
    } else if fingerprint::proofs(&before.members) != before.proofs {
        recompute_pending(now, RecomputeReason::ConstraintsChanged);
    }
}

fn has_rows(relid: pg_sys::Oid) -> bool {
    let relation = Relation::open(relid, pg_sys::AccessShareLock);
    match relation.form().relkind as u8 {
        pg_sys::RELKIND_RELATION => relation.blocks() > 0,
        pg_sys::RELKIND_PARTITIONED_TABLE => false,
        _ => true,
    }
}

pub(super) fn recompute(source: &Source, reason: RecomputeReason) {
    for view in dependency::dependants_of(source.relid) {
        stream_table::set_reinit(view, reason);
    }
}

/// Marks the views for which changes of `source` are pending.
fn recompute_pending(source: &Source, reason: RecomputeReason) {
    for view in dependency::dependants_of(source.relid) {
        if stream_table::frontier(view).is_some_and(|frontier| is_pending(source, &frontier)) {
            stream_table::set_reinit(view, reason);
        }
    }
}

fn is_pending(source: &Source, frontier: &[u8]) -> bool {
    let frontier = Frontier::stored(frontier);
    !Pending::now(source.relid, &frontier).is_empty()
}
