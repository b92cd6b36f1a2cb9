//! After DDL: triggers on new members, recomputation where contents changed without a statement on them.

use super::departure::{self, Taken};
use super::frontier::Frontier;
use super::{Pending, family, fingerprint, install, lock, member_rows, segment, triggers};
use crate::catalog::recompute_reason::RecomputeReason;
use crate::catalog::source::{self, Source};
use crate::catalog::{dependency, moved, stream_table};
use crate::pg::facts;
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
    let taken = departure::taken(relid);
    if let Some((before, now)) = compare(relid) {
        if before != now {
            lock_changed(&before, &now);
            lock::alter(relid);
            compare(relid).into_iter().for_each(|(before, now)| follow(&before, now, &taken));
        }
        // Rows were taken along of a member that has stayed, which the statements that do so exclude.
        if taken.members.iter().any(|member| now.members.contains(member)) {
            recompute(&now, RecomputeReason::MemberDetached);
        }
        // What ALTER TABLE .. DISABLE TRIGGER did is undone under the lock it took.
        altered.into_iter().filter(|relid| now.members.contains(relid)).for_each(triggers::reconcile);
    }
}

/// The catalog does not say of a source what it is now: DDL ran in a server without the library.
pub(super) fn is_outdated(relid: pg_sys::Oid) -> bool {
    compare(relid).is_some_and(|(before, now)| before != now)
}

/// The fingerprints of a source, which is locked, are no longer those that the catalog has.
pub(super) fn has_other_fingerprints(relid: pg_sys::Oid) -> bool {
    compare(relid).is_some_and(|(before, now)| (before.shape, before.proofs) != (now.shape, now.proofs))
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

fn follow(before: &Source, now: Source, taken: &Taken) {
    let changed = lock_changed(before, &now);
    changed_contents(before, &now, taken);
    source::update(&now);
    segment::invalidate(now.segments);
    install::arm(&changed);
}

/// What members that left or came mean for the views, and what else has changed: the fingerprints of the other members say.
fn changed_contents(before: &Source, now: &Source, taken: &Taken) {
    let (rest, went): (Vec<_>, Vec<_>) = before.members.iter().partition(|member| now.members.contains(member));
    let came: Vec<_> = now.members.iter().copied().filter(|member| !before.members.contains(member)).collect();
    if !went.iter().all(|member| taken.members.contains(member)) {
        return recompute(now, RecomputeReason::MemberDetached);
    }
    let stayed = Source { members: rest, ..before.clone() };
    if fingerprint::shape(&now.columns, &stayed).wrapping_add(taken.shape) != before.shape {
        return recompute(now, RecomputeReason::ColumnChanged);
    }
    let arrived: Vec<_> = came.into_iter().filter(|&member| has_rows(member)).collect();
    if !arrived.iter().all(|&member| is_table(member)) || !member_rows::is_cheap(now, &arrived) {
        return recompute(now, RecomputeReason::MemberAttached);
    }
    if fingerprint::proofs(&stayed.members).wrapping_add(taken.proofs) != before.proofs {
        recompute_pending(now, RecomputeReason::ConstraintsChanged);
    }
    let arrived = arrived.into_iter().map(|member| member_rows::write(now, member, 1)).sum();
    note_moved(now, RecomputeReason::MemberDetached, taken.rows);
    note_moved(now, RecomputeReason::MemberAttached, arrived);
}

/// Tells the views of `source` that so many rows of its buffer come from no statement on rows.
pub(super) fn note_moved(source: &Source, how: RecomputeReason, rows: u64) {
    if rows > 0 {
        for view in dependency::dependants_of(source.relid) {
            moved::note(view, how, rows);
        }
    }
}

fn is_table(relid: pg_sys::Oid) -> bool {
    facts::relation_kind(relid).0 == pg_sys::RELKIND_RELATION
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

/// Marks the views for which changes of `source` are pending, or were until this transaction refreshed the view: that may have
/// been in the middle of the statement, by an event trigger.
fn recompute_pending(source: &Source, reason: RecomputeReason) {
    for view in dependency::dependants_of(source.relid) {
        let frontier = stream_table::frontier(view).map(|frontier| Frontier::stored(&frontier));
        if frontier.is_some_and(|frontier| frontier.is_of_this_transaction() || is_pending(source, &frontier)) {
            stream_table::set_reinit(view, reason);
        }
    }
}

fn is_pending(source: &Source, frontier: &Frontier) -> bool {
    !Pending::now(source.relid, frontier).is_empty()
}
