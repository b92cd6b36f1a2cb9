//! One view of a wave, from top to bottom inside one identity: its owner, restricted, under the settings pinned with
//! it, as RefreshMatViewByOid does. Nothing of the view is planned, folded or run outside.

use super::contents::Contents;
use super::decide::{self, Work};
use super::pending::PendingChanges;
use super::perform::{Probe, perform};
use super::scope::{Asked, Scope};
use super::wave::Member;
use super::{Action, Outcome, Step, entrance, entry, progress};
use crate::capture;
use crate::capture::frontier::Frontier;
use crate::capture::repair;
use crate::catalog::recompute_reason::RecomputeReason;
use crate::catalog::{moved, stream_table};
use crate::exec::apply::ApplyIndex;
use crate::exec::clock::Clock;
use crate::identity::{AsOwner, as_owner_with};
use crate::pg::clock;
use crate::pg::snapshot::WaveSnapshot;
use crate::plan::cache::Entry;
use pgrx::pg_sys;
use std::rc::Rc;

/// Brings one view of the wave to the snapshot, which was `taken` then.
pub fn run(
    member: &Member,
    asked: Asked,
    snapshot: WaveSnapshot,
    taken: pg_sys::TimestampTz,
    probe: Option<&mut Probe>,
) -> Step {
    progress::refreshing(member.view);
    as_owner_with(member.view, &member.row.pinned, |owner| {
        let clock = Clock::read(&member.entry.circuit.clock, member.row.clock.as_deref(), owner);
        refresh(member, Scope { owner, snapshot, asked, clock: &clock }, taken, probe)
    })
}

fn refresh(member: &Member, scope: Scope, taken: pg_sys::TimestampTz, probe: Option<&mut Probe>) -> Step {
    let Member { view, row, .. } = member;
    let started = clock::now();
    let step = |outcome, ended| Step { view: *view, outcome, started, ended, before: row.data_timestamp };
    let new = Frontier::now(scope.snapshot);
    entrance::check_order(*view, row, &new);
    entrance::refuse_if_in_use(&member.entry);

    let contents = Contents::of(*view, row, &member.entry, scope.asked);
    let again = contents.are_too_old_at(&new);
    let entry = indexed(&member.entry, &contents, scope.owner);

    let moved_rows = moved::seen(*view);
    let (work, pending) = decide::work(&contents, &entry, row, scope);
    let unreadable = pending.as_ref().and_then(|pending| pending.unreadable);
    let unreadable = unreadable.or(scope.clock.is_lost().then_some(RecomputeReason::FormatChanged));
    if matches!(work, Work::Nothing) {
        return step(Outcome::nothing(), clock::now());
    }
    entrance::refuse_rewritten(&entry);
    // Of a recompute as well: where its buffers begin is part of the frontier.
    let pending = pending.or_else(|| row.captured.then(|| PendingChanges::since(&new, &entry, scope.snapshot)));

    let mut outcome = perform(&entry, &work, contents.frontier(), scope, probe);
    if outcome.action == Action::Reinitialize {
        let unreadable = unreadable.map(|reason| reason.to_string());
        outcome.reason = outcome.reason.or_else(|| contents.reason()).or(unreadable);
    } else {
        outcome.reason = moved_rows;
    }

    scope.snapshot.advance();
    let again = again.then_some(RecomputeReason::OldSnapshot).or_else(|| overtaken(member, scope.asked));
    moved::clear(*view);
    let new = match pending {
        Some(pending) => pending.behind(new),
        None => new,
    };
    let ended = clock::now();
    let done = stream_table::Done {
        recompute: outcome.action != Action::Differential,
        inserted: outcome.inserted,
        updated: outcome.updated,
        deleted: outcome.deleted,
        milliseconds: clock::milliseconds(started, ended),
    };
    stream_table::set_frontier(*view, &new.to_bytes(), scope.clock.encode(), taken, &done);
    if let Some(reason) = again {
        stream_table::set_reinit(*view, reason);
    }
    step(outcome, ended)
}

/// What was read of the sources is not what the snapshot knows of them: why it must be read once more.
fn overtaken(member: &Member, asked: Asked) -> Option<RecomputeReason> {
    if !member.row.captured {
        return None;
    }
    // In the middle of a statement that changes what its members are (an event trigger refreshes), rows that were read
    // have still to be captured. The scheduler is never there: while it waits for a repair it would recompute without an end.
    let certain = asked == Asked::BySchedule || member.captured_sources().all(repair::is_complete);
    let doubt = (!certain).then_some(RecomputeReason::CaptureIncomplete);
    let planned = |relid| member.entry.reads(relid);
    doubt.or_else(|| member.sources().find_map(|source| capture::overtaken(source, planned)))
}

/// Stored rows are found by an index, which may have been dropped.
fn indexed(entry: &Rc<Entry>, contents: &Contents, owner: &AsOwner) -> Rc<Entry> {
    match &entry.targets.view().index {
        ApplyIndex::None if contents.are_stored() => entry::with_index(entry, owner),
        _ => entry.clone(),
    }
}
