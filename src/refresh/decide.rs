//! What is to be done for a view: a delta, a recompute, or nothing.

use super::choice::Costs;
use super::contents::Contents;
use super::pending::{PendingChanges, Versions};
use super::scope::{Asked, Scope};
use crate::capture;
use crate::capture::frontier::Frontier;
use crate::catalog::recompute_reason::RecomputeReason;
use crate::catalog::stream_table::{self, StreamTable};
use crate::exec::apply;
use crate::identity::AsOwner;
use crate::plan::build::{self, Plan};
use crate::plan::cache::Entry;
use crate::plan::magnitude::{self, Magnitudes};
use crate::settings::{self, RefreshStrategy};
use bitvec::prelude::*;
use pgrx::pg_sys;
use std::rc::Rc;

/// Why the contents are computed anew instead of continued.
pub enum Recompute {
    /// First population.
    Populate,
    /// Recompute is how this view is maintained, if only for now.
    Always,
    /// The planner's estimate favours it.
    Cheaper,
    /// A user wants it, though nothing is pending.
    Requested,
    /// The delta raised an error.
    Failed,
    /// The stored contents cannot be continued.
    Reinitialize,
    /// Nor can the index that finds them be relied on.
    Upgrade,
}

/// What one view needs; the estimates where there was a choice.
pub enum Work {
    Nothing,
    Delta(Rc<Plan>, Costs),
    Recompute(Recompute, Option<Costs>),
}

/// The work that such contents need; and what is pending, where that was asked.
pub fn work(contents: &Contents, entry: &Entry, row: &StreamTable, scope: Scope) -> (Work, Option<PendingChanges>) {
    let anew = |why| (Work::Recompute(why, None), None);
    match contents {
        Contents::Unpopulated => anew(Recompute::Populate),
        // Their age is unknown: they are compared.
        Contents::Adopted => anew(Recompute::Always),
        Contents::Replaced(_) | Contents::Due(_) if renews_index(row.relid, contents) => anew(Recompute::Upgrade),
        Contents::Replaced(_) | Contents::Due(_) => anew(Recompute::Reinitialize),
        Contents::Current(_) if !row.captured || entry.circuit.always_recompute => anew(Recompute::Always),
        Contents::Current(frontier) => continued(frontier, entry, scope),
    }
}

/// Another major version of the server may give rows other hashes.
fn renews_index(view: pg_sys::Oid, contents: &Contents) -> bool {
    let reason = RecomputeReason::PgUpgradeMajor;
    let is_it = |due: &String| *due == reason.to_string();
    matches!(contents, Contents::Due(due) if is_it(due)) || stream_table::is_due_for(view, reason)
}

fn continued(frontier: &Frontier, entry: &Entry, scope: Scope) -> (Work, Option<PendingChanges>) {
    let pending = PendingChanges::since(frontier, entry, scope.snapshot);
    let work = match () {
        _ if pending.unreadable.is_some() => Work::Recompute(Recompute::Reinitialize, None),
        _ if pending.is_empty() => idle(scope.asked),
        _ => choose(entry, &pending, scope.owner),
    };
    (work, Some(pending))
}

/// Nothing is pending. A user who names the view and demands a full recompute has a reason to: what changed, nobody told
/// us. Never so by schedule, which would not come to an end.
fn idle(asked: Asked) -> Work {
    if asked == Asked::ByName && settings::refresh_strategy() == RefreshStrategy::Full {
        Work::Recompute(Recompute::Requested, None)
    } else {
        Work::Nothing
    }
}

fn choose(entry: &Entry, pending: &PendingChanges, owner: &AsOwner) -> Work {
    let detaching = || entry.circuit.sources.iter().any(|source| capture::is_detaching(source.relid));
    if entry.circuit.blocks.is_empty() || detaching() {
        return Work::Recompute(Recompute::Always, None);
    }
    let plan = delta_plan(entry, &pending.versions, owner);
    let costs = costs(entry, &plan, pending.removed(), owner);
    if costs.prefer_delta() { Work::Delta(plan, costs) } else { Work::Recompute(Recompute::Cheaper, Some(costs)) }
}

/// The plan for these pending changes; one is kept per set of changed inputs and order of magnitude.
pub fn delta_plan(entry: &Entry, pending: &Versions, owner: &AsOwner) -> Rc<Plan> {
    let block = entry.circuit.blocks.last().expect("a delta needs a block");
    let versions = |relid| pending.iter().find(|(oid, _)| *oid == relid).map_or(0, |(_, versions)| *versions);
    let magnitudes: Magnitudes = block.inputs.iter().map(|input| magnitude::of(versions(input.relid))).collect();
    entry.delta(&magnitudes, |entry| {
        let changed: BitVec = magnitudes.iter().map(|&m| m > 0).collect();
        let estimates: Vec<f64> = magnitudes.iter().map(|&m| magnitude::versions(m)).collect();
        build::delta(block, &entry.target, &changed, &estimates, owner)
    })
}

/// The plan that computes the whole contents and compares them with the stored ones.
pub fn full_plan(entry: &Entry, owner: &AsOwner) -> Rc<Plan> {
    entry.full(|entry| build::full(&entry.circuit, &entry.target, apply::Mode::Diff, owner))
}

/// Estimates of the delta plan, over changes of which this share are removals, and of recompute.
pub fn costs(entry: &Entry, delta: &Plan, removed: f64, owner: &AsOwner) -> Costs {
    Costs::of(delta, &full_plan(entry, owner), build::stored_rows(entry.circuit.view), removed)
}
