//! Runs the work that was decided on, and another when the first one cannot be finished.

use super::choice::Costs;
use super::decide::{self, Changes, Recompute, Work};
use super::entry::{self, name};
use super::pending::Versions;
use super::scope::Scope;
use super::{Action, Outcome};
use crate::capture::frontier::Frontier;
use crate::catalog::recompute_reason::RecomputeReason;
use crate::catalog::state;
use crate::catalog::stream_table;
use crate::circuit::Block;
use crate::error::{cannot_happen, error, is_over_values};
use crate::exec::apply;
use crate::exec::block_delta::BlockDeltas;
use crate::exec::mismatch::{self, Note};
use crate::exec::run::{Execution, Purpose, Run};
use crate::identity::AsOwner;
use crate::pg::elog::advise;
use crate::pg::names;
use crate::pg::privilege;
use crate::pg::progress::{self, Phase};
use crate::pg::xact::{self, Failure};
use crate::plan::build::{self, Plan};
use crate::plan::cache::{self, Entry};
use crate::settings::{self, RefreshStrategy};
use pgrx::PgSqlErrorCode;
use std::rc::Rc;

/// What EXPLAIN wants to know of a run.
pub struct Probe<'a> {
    /// InstrumentOption mask.
    pub instrument: i32,
    /// Called with the finished run before it is torn down: the one that brought the view up to date.
    pub show: &'a mut dyn FnMut(&Execution, Option<Costs>),
}

/// What a delta may fail over and the query would not.
const BEYOND_QUERY: &str = "A delta also computes row versions that came and went since the last refresh, and sums on the \
    way. If the query itself does not fail, SET pg_trickle.refresh_strategy = full for one refresh gets past them.";

/// Does the work on a view whose contents are those of `frontier`, if they are continued.
pub fn perform(
    entry: &Rc<Entry>,
    work: &Work,
    frontier: Option<&Frontier>,
    scope: Scope,
    probe: Option<&mut Probe>,
) -> Outcome {
    // The executor checks the tables that it reads. The blocks that are not computed now are read from their hidden relations, by
    // right of the owner of these, also when a privilege on the tables below has been revoked.
    privilege::check_query(entry.circuit.query.node(), scope.owner);
    match work {
        Work::Nothing => cannot_happen("there is nothing to perform"),
        Work::Recompute(why, costs) => recompute(entry, why, *costs, scope, probe),
        Work::Delta(pending, costs) => {
            let frontier = frontier.unwrap_or_else(|| cannot_happen("a delta needs a frontier"));
            delta(entry, &Pending { versions: pending, frontier }, *costs, scope, probe)
        }
    }
}

/// What a delta starts from.
struct Pending<'a> {
    versions: &'a Versions,
    frontier: &'a Frontier,
}

fn delta(entry: &Rc<Entry>, pending: &Pending, costs: Costs, scope: Scope, mut probe: Option<&mut Probe>) -> Outcome {
    // The scheduler comes again, and recomputes then.
    let counters = if scope.asked.by_hand() && settings::refresh_strategy() == RefreshStrategy::Auto {
        let attempt = || by_blocks(entry, pending, costs, scope, probe.as_deref_mut());
        match xact::attempt(is_over_values, attempt) {
            Ok(counters) => counters,
            Err(failure) => {
                report_failure(entry, &failure);
                return anew(entry, &Recompute::Failed, apply::Counters::default(), scope, probe);
            }
        }
    } else {
        advise(BEYOND_QUERY, is_over_values, || by_blocks(entry, pending, costs, scope, probe.as_deref_mut()))
    };
    if mismatch::is_too_dear() {
        return anew(entry, &Recompute::Cheaper, counters, scope, probe);
    }
    checked(entry, Action::Differential, counters, scope)
}

/// Brings the blocks up to date, bottom-up, each by the delta of what it reads (theorem A); what was written to the view. A block whose
/// inputs have not changed, also because the blocks below changed nothing, has no delta.
fn by_blocks(
    entry: &Entry,
    pending: &Pending,
    costs: Costs,
    scope: Scope,
    mut probe: Option<&mut Probe>,
) -> apply::Counters {
    let deltas = BlockDeltas::new(entry.circuit.view);
    let mut changes = Changes::new(pending.versions);
    let mut counters = apply::Counters::default();
    for block in &entry.circuit.blocks {
        let Some(plan) = decide::delta_plan(entry, block, &changes, scope) else { continue };
        let relation = entry.targets.of(block.id).relation;
        let run = Run {
            snapshot: scope.snapshot,
            frontier: pending.frontier,
            most_groups: costs.most_groups(&plan),
            deltas: Some(&deltas),
            clock: scope.clock,
        };
        counters = execute(&plan, &run, Some(costs), probe.as_deref_mut(), scope.owner);
        if mismatch::is_noted() {
            break;
        }
        if relation != entry.circuit.view {
            changes.add(block.id, deltas.rows(relation));
            counters = apply::Counters::default();
            scope.snapshot.advance();
        }
    }
    deltas.end();
    counters
}

fn recompute(
    entry: &Rc<Entry>,
    why: &Recompute,
    costs: Option<Costs>,
    scope: Scope,
    probe: Option<&mut Probe>,
) -> Outcome {
    let (entry, action) = prepared(entry, why, scope);
    let counters = whole(&entry, why, costs, scope, probe);
    let outcome = checked(&entry, action, counters, scope);
    if matches!(why, Recompute::Populate) {
        names::set_populated(entry.circuit.view);
        progress::phase(Phase::Indexing, None);
        apply::ensure_index(entry.circuit.view, entry.circuit.key.as_deref());
        cache::forget(entry.circuit.view);
    }
    outcome
}

/// The outcome of a run, or of another one if what this one found does not fit.
fn checked(entry: &Rc<Entry>, action: Action, counters: apply::Counters, scope: Scope) -> Outcome {
    match mismatch::take() {
        None => Outcome::new(action, counters),
        Some(Note::TooDear) => cannot_happen("a recompute recomputes groups"),
        Some(Note::Mismatch(what)) => {
            report_mismatch(entry, &what);
            let reason = Some(RecomputeReason::Mismatch.with(&what));
            Outcome { reason, ..anew(entry, &Recompute::Reinitialize, counters, scope, None) }
        }
    }
}

/// Computes the view anew after a run that was given up, which has left `before` rows written.
fn anew(
    entry: &Rc<Entry>,
    why: &Recompute,
    before: apply::Counters,
    scope: Scope,
    probe: Option<&mut Probe>,
) -> Outcome {
    scope.snapshot.advance();
    let (entry, action) = prepared(entry, why, scope);
    let counters = whole(&entry, why, None, scope, probe) + before;
    if let Some(Note::Mismatch(what)) = mismatch::take() {
        cannot_happen(what);
    }
    Outcome::new(action, counters)
}

/// Prepares a recompute: empty state and hidden relations, markers answered, the index that finds stored rows.
fn prepared(entry: &Rc<Entry>, why: &Recompute, scope: Scope) -> (Rc<Entry>, Action) {
    let view = entry.circuit.view;
    if entry.targets.are_kept(&entry.circuit) {
        state::clear_all(view);
    }
    stream_table::clear_reinit(view);
    scope.snapshot.advance();
    if matches!(why, Recompute::Populate) {
        return (entry.clone(), Action::Full);
    }
    let entry = entry::with_index(entry, scope.owner);
    let action = match why {
        Recompute::Reinitialize | Recompute::Upgrade => {
            apply::renew_index(view, &entry.targets.view().index, matches!(why, Recompute::Upgrade));
            Action::Reinitialize
        }
        _ => Action::Full,
    };
    (entry, action)
}

/// Computes all blocks anew, bottom-up: hidden relations, which are empty, are filled, and the view's rows are replaced by those that differ.
/// What was written to the view.
fn whole(
    entry: &Entry,
    why: &Recompute,
    costs: Option<Costs>,
    scope: Scope,
    mut probe: Option<&mut Probe>,
) -> apply::Counters {
    let frontier = Frontier::now(scope.snapshot);
    let run =
        Run { snapshot: scope.snapshot, frontier: &frontier, most_groups: u64::MAX, deltas: None, clock: scope.clock };
    for block in below_view(entry) {
        // How large what it reads is the planner sees only now.
        let plan = build::full(block, &entry.targets, apply::Mode::Populate, scope.planner());
        execute(&plan, &run, costs, probe.as_deref_mut(), scope.owner);
        scope.snapshot.advance();
        if mismatch::is_noted() {
            return apply::Counters::default();
        }
    }
    let mode = if matches!(why, Recompute::Populate) { apply::Mode::Populate } else { apply::Mode::Diff };
    let plan = match entry.circuit.blocks.last().filter(|_| entry.targets.are_kept(&entry.circuit)) {
        Some(block) if entry.targets.hidden().is_empty() && mode == apply::Mode::Diff => {
            decide::full_plan(entry, Some(block), scope)
        }
        Some(block) => Rc::new(build::full(block, &entry.targets, mode, scope.planner())),
        None if mode == apply::Mode::Diff => decide::full_plan(entry, None, scope),
        None => Rc::new(build::whole(&entry.circuit, &entry.targets, mode, scope.planner())),
    };
    execute(&plan, &run, costs, probe, scope.owner)
}

/// The blocks that have hidden relations.
fn below_view(entry: &Entry) -> &[Block] {
    let blocks = &entry.circuit.blocks;
    if entry.targets.are_kept(&entry.circuit) { &blocks[..blocks.len() - 1] } else { &[] }
}

fn execute(
    plan: &Plan,
    run: &Run,
    costs: Option<Costs>,
    probe: Option<&mut Probe>,
    owner: &AsOwner,
) -> apply::Counters {
    let instrument = probe.as_ref().map_or(0, |probe| probe.instrument);
    // What an error may have left.
    mismatch::take();
    let execution = Execution::start(&plan.stmt, run, instrument, Purpose::Refresh, owner);
    execution.run();
    let counters = execution.counters();
    // One that is given up for another, which is shown then.
    if let Some(probe) = probe.filter(|_| !mismatch::is_too_dear()) {
        (probe.show)(&execution, costs);
    }
    execution.finish();
    counters
}

/// Whether the query fails as well, it will say itself.
fn report_failure(entry: &Entry, failure: &Failure) {
    let message = format!("delta of materialized view \"{}\" failed, computing it anew", name(entry.circuit.view));
    error(failure.code.into(), message).detail(&failure.message).debug();
}

/// A wrong answer has shown itself (promise 1).
fn report_mismatch(entry: &Entry, what: &str) {
    let message = format!("changes of materialized view \"{}\" do not fit its contents", name(entry.circuit.view));
    let report = error(PgSqlErrorCode::ERRCODE_DATA_CORRUPTED, message).detail(what);
    if settings::rebuild_mismatched() {
        report
            .hint("The view is computed anew. If nothing but refreshes changed it, this is a bug in pg_trickle.")
            .warn()
    } else {
        report.hint("If nothing but refreshes changed it, this is a bug in pg_trickle.").raise()
    }
}
