//! What is to be done for a view: a delta, a recompute, or nothing.

use super::choice::Costs;
use super::contents::Contents;
use super::pending::{PendingChanges, Versions};
use super::scope::{Asked, Scope};
use crate::capture;
use crate::capture::frontier::Frontier;
use crate::catalog::recompute_reason::RecomputeReason;
use crate::catalog::stream_table::{self, StreamTable};
use crate::circuit::{Block, BlockId, Input, Operator, Origin};
use crate::exec::apply;
use crate::plan::build::{self, Plan};
use crate::plan::cache::Entry;
use crate::plan::magnitude::{self, Magnitudes};
use crate::settings::{self, RefreshStrategy};
use bitvec::prelude::*;
use pgrx::pg_sys;
use smallvec::SmallVec;
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

/// What one view needs; the estimates where there was a choice, and how many row versions are pending of each source.
pub enum Work {
    Nothing,
    Delta(Versions, Costs),
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
        _ if pending.unreadable.is_some() || scope.clock.is_lost() => Work::Recompute(Recompute::Reinitialize, None),
        _ if pending.is_empty() && !scope.clock.has_moved() => idle(scope.asked),
        _ => choose(entry, &pending, scope),
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

fn choose(entry: &Entry, pending: &PendingChanges, scope: Scope) -> Work {
    let detaching = || entry.circuit.sources.iter().any(|source| capture::is_detaching(source.relid));
    if !entry.targets.are_kept(&entry.circuit) || detaching() {
        return Work::Recompute(Recompute::Always, None);
    }
    let plans = expected_plans(entry, &pending.versions, scope);
    // What the clock passes comes as well as goes.
    let removed = if pending.is_empty() { 0.5 } else { pending.removed() };
    let costs = costs(entry, &plans, removed, scope);
    if costs.prefer_delta() {
        Work::Delta(pending.versions.clone(), costs)
    } else {
        Work::Recompute(Recompute::Cheaper, Some(costs))
    }
}

/// The delta plans of the blocks that are expected to change, bottom-up.
pub fn expected_plans(entry: &Entry, pending: &Versions, scope: Scope) -> Vec<(BlockId, Rc<Plan>)> {
    let mut changes = Changes::new(pending);
    let mut plans = vec![];
    for block in &entry.circuit.blocks {
        let Some(plan) = delta_plan(entry, block, &changes, scope) else { continue };
        changes.add(block.id, expected_changes(entry, block, &plan, &changes));
        plans.push((block.id, plan));
    }
    plans
}

/// How many rows a block's delta may have.
fn expected_changes(entry: &Entry, block: &Block, plan: &Plan, changes: &Changes) -> u64 {
    let stored = 2.0 * build::stored_rows(entry.targets.of(block.id).relation).max(1.0);
    let rows = match &block.operator {
        Operator::Pass => plan.rows,
        Operator::Accumulate(_) => plan.rows.min(stored),
        // As if each change changed as many rows of the block.
        Operator::Recompute(_) => (block.inputs.iter().map(|input| changes.of(input)).sum::<u64>() as f64).min(stored),
    };
    rows.max(1.0) as u64
}

/// Row versions that a block's inputs have pending.
pub struct Changes<'a> {
    of_relations: &'a Versions,
    of_blocks: SmallVec<[(BlockId, u64); 8]>,
}

impl<'a> Changes<'a> {
    pub fn new(of_relations: &'a Versions) -> Self {
        Self { of_relations, of_blocks: SmallVec::new() }
    }

    pub fn add(&mut self, block: BlockId, versions: u64) {
        self.of_blocks.push((block, versions));
    }

    fn of(&self, input: &Input) -> u64 {
        let found = match input.origin {
            Origin::Relation(relid) => {
                self.of_relations.iter().find(|(of, _)| *of == relid).map(|(_, versions)| *versions)
            }
            Origin::Block(block) => self.of_blocks.iter().find(|(of, _)| *of == block).map(|(_, versions)| *versions),
        };
        found.unwrap_or(0)
    }
}

/// A block's plan for these changes, which may be to recompute it; one is kept per set of changed inputs, and moved values of the clock, and
/// order of magnitude. None when none has changed.
pub fn delta_plan(entry: &Entry, block: &Block, changes: &Changes, scope: Scope) -> Option<Rc<Plan>> {
    let of_inputs: Magnitudes = block.inputs.iter().map(|input| magnitude::of(changes.of(input))).collect();
    let magnitudes: Magnitudes = of_inputs.iter().copied().chain(scope.clock.magnitudes(block)).collect();
    let is_changed = magnitudes.iter().any(|&m| m > 0);
    if block.fallback().is_some() {
        return is_changed.then(|| full_plan(entry, Some(block), scope));
    }
    is_changed.then(|| {
        entry.delta(block.id, &magnitudes, |entry| {
            let changed: BitVec = of_inputs.iter().map(|&m| m > 0).collect();
            let estimates: Vec<f64> = of_inputs.iter().map(|&m| magnitude::versions(m)).collect();
            build::delta(block, &entry.circuit, &entry.targets, &changed, &estimates, scope.planner())
        })
    })
}

/// The plans that compute the whole contents and compare them with the stored ones, bottom-up. Without blocks that keep
/// something there is one, of the view.
pub fn full_plans(entry: &Entry, scope: Scope) -> Vec<(Option<BlockId>, Rc<Plan>)> {
    if !entry.targets.are_kept(&entry.circuit) {
        return vec![(None, full_plan(entry, None, scope))];
    }
    let of_block = |block: &Block| (Some(block.id), full_plan(entry, Some(block), scope));
    entry.circuit.blocks.iter().map(of_block).collect()
}

/// That of a block, or of the view.
pub fn full_plan(entry: &Entry, block: Option<&Block>, scope: Scope) -> Rc<Plan> {
    entry.full(block.map(|block| block.id), |entry| match block {
        Some(block) => build::full(block, &entry.targets, apply::Mode::Diff, scope.planner()),
        None => build::whole(&entry.circuit, &entry.targets, apply::Mode::Diff, scope.planner()),
    })
}

/// Estimates of the delta plans, over changes of which this share are removals, and of recompute.
pub fn costs(entry: &Entry, deltas: &[(BlockId, Rc<Plan>)], removed: f64, scope: Scope) -> Costs {
    let of_block = |(block, full): &(Option<BlockId>, Rc<Plan>)| {
        let delta = deltas.iter().find(|(of, _)| Some(*of) == *block).map(|(_, plan)| &**plan);
        let relation = block.map_or(entry.circuit.view, |block| entry.targets.of(block).relation);
        let stored = build::stored_rows(relation);
        let is_recomputed = block.is_some_and(|block| entry.circuit.blocks[block.index()].fallback().is_some());
        match delta {
            Some(_) if is_recomputed => Costs::recomputed(full, stored),
            _ => Costs::of(delta, full, stored, removed),
        }
    };
    full_plans(entry, scope).iter().map(of_block).sum()
}
