//! One view of a wave: what is pending, how to compute it, run, move the frontier.

use super::choice::Costs;
use super::wave::Member;
use super::{Action, Outcome, progress};
use crate::capture;
use crate::capture::Pending;
use crate::capture::frontier::{Beginning, Frontier};
use crate::catalog::dependency;
use crate::catalog::stream_table::{self, StreamTable};
use crate::circuit;
use crate::error::{advise, cannot_happen, error, is_over_values};
use crate::exec::run::{Execution, Purpose, Run};
use crate::exec::{apply, mismatch};
use crate::identity::{as_owner, as_owner_with};
use crate::pg::names;
use crate::pg::progress::{self as pg_progress, Phase};
use crate::pg::relation::Relation;
use crate::pg::snapshot::{self, WaveSnapshot};
use crate::pg::xact::{self, Failure};
use crate::plan::build::{self, Plan, Target};
use crate::plan::cache::{self, Entry};
use crate::plan::magnitude::{self, Magnitudes};
use crate::settings::{self, RefreshStrategy};
use bitvec::prelude::*;
use pgrx::{PgSqlErrorCode, pg_sys};
use smallvec::SmallVec;
use std::rc::Rc;

/// What this backend knows about `view`, built under its owner's identity if need be.
pub fn entry(view: pg_sys::Oid) -> Rc<Entry> {
    cache::entry(view, || {
        as_owner(view, || {
            let circuit = circuit::build(view);
            let index = apply::index::find(view, circuit.key.as_deref());
            let state = crate::catalog::state::get(view, 0);
            (circuit, Target { view, index, state })
        })
    })
}

/// Why the contents are computed anew instead of continued.
enum Recompute {
    /// First population.
    Populate,
    /// Recompute is how this view is maintained, if only for now.
    Always,
    /// The planner's estimate favours it.
    Cheaper,
    /// The delta raised an error.
    Failed,
    /// The stored contents cannot be continued.
    Reinitialize,
    /// Nor can the index that finds them be relied on.
    Upgrade,
}

/// What one view needs; the estimates where there was a choice.
enum Work {
    Nothing,
    Delta(Rc<Plan>, Costs),
    Recompute(Recompute, Option<Costs>),
}

/// What EXPLAIN wants to know of a run.
pub struct Probe<'a> {
    /// InstrumentOption mask.
    pub instrument: i32,
    /// Called with the finished run before it is torn down: the one that brought the view up to date.
    pub show: &'a mut dyn FnMut(&Execution, Option<Costs>),
}

/// Brings one view of the wave to the snapshot, which was `taken` then. `target` is the view the user asked for, if any
/// did.
pub fn run(
    member: &Member,
    target: Option<pg_sys::Oid>,
    snapshot: WaveSnapshot,
    taken: pg_sys::TimestampTz,
    probe: Option<&mut Probe>,
) -> Outcome {
    let view = member.view;
    progress::refreshing(view);
    let target = target.unwrap_or(pg_sys::InvalidOid);
    let row = &member.row;
    let old = row.frontier.as_deref().map(Frontier::stored);
    let new = Frontier::now(snapshot);
    check_order(view, old.as_ref(), &new);
    refuse_if_in_use(&member.entry);
    let entry = match &member.entry.target.index {
        apply::ApplyIndex::None if old.is_some() => with_index(&member.entry),
        _ => member.entry.clone(),
    };
    // What was committed between such a snapshot and the begin of capture is in neither the contents nor a buffer.
    // In this order: a repair that makes capture complete leaves a marker (capture::repair).
    let doubt = row.captured.then(|| capture::repair::doubt(captured_sources(&entry))).flatten();
    let due = old.as_ref().and_then(|_| stream_table::reinit(view).or_else(|| doubt.map(str::to_owned)));
    let again = (old.is_none() || due.is_some()) && new.is_outdated();
    // Nor does such a snapshot see all the rows that somebody else's REFRESH left in a view just adopted.
    let again = again || (old.is_none() && snapshot::is_kept() && names::is_populated(view));
    let replaced = old.is_some() && row.may_be_replaced();
    if replaced {
        // Those who read the view have not seen what replaced its rows.
        let mark = |reader| stream_table::set_reinit(reader, "rows of a stream table it reads were replaced");
        dependency::dependants_of(view).into_iter().for_each(mark);
    }
    let (work, seen) = match &old {
        // A view just adopted has rows of unknown age: they are compared.
        None if view == target && names::is_populated(view) => (Work::Recompute(Recompute::Always, None), None),
        None if view == target => (Work::Recompute(Recompute::Populate, None), None),
        None => unpopulated(view),
        Some(_) if replaced => (replace(view, target), None),
        Some(_) if renews_index(view, due.as_deref()) => (Work::Recompute(Recompute::Upgrade, None), None),
        Some(_) if due.is_some() => (Work::Recompute(Recompute::Reinitialize, None), None),
        Some(frontier) => decide(&entry, row, frontier, snapshot),
    };
    if matches!(work, Work::Nothing) {
        return Outcome::new(Action::NoData, apply::Counters::default());
    }
    let seen = seen.or_else(|| row.captured.then(|| pending(&entry, &new, snapshot)));
    let new = match seen {
        Some(seen) => new.with_horizon(seen.horizon).with_beginnings(seen.beginnings),
        None => new,
    };
    let mut outcome = as_owner_with(view, &row.pinned, || {
        perform(&entry, &work, old.as_ref(), snapshot, target != pg_sys::InvalidOid, probe)
    });
    if outcome.action == Action::Reinitialize && outcome.reason.is_none() {
        outcome.reason = if replaced { Some("its rows may have been replaced".to_owned()) } else { due };
    }
    snapshot.advance();
    stream_table::set_frontier(view, &new.to_bytes(), taken);
    if again {
        stream_table::set_reinit(view, "computed at a snapshot from before capture or adoption");
    }
    outcome
}

/// The sources whose changes are pending in buffers.
fn captured_sources(entry: &Entry) -> impl Iterator<Item = pg_sys::Oid> {
    entry.circuit.sources.iter().filter(|source| source.capturable).map(|source| source.relid)
}

/// Another major version of the server may give rows other hashes.
fn renews_index(view: pg_sys::Oid, due: Option<&str>) -> bool {
    let reason = capture::repair::PG_UPGRADE_MAJOR;
    due.is_some() && (due == Some(reason) || stream_table::is_due_for(view, reason))
}

/// Rows of unknown age are compared with the query, as far as there are any.
fn replace(view: pg_sys::Oid, target: pg_sys::Oid) -> Work {
    match names::is_populated(view) {
        true => Work::Recompute(Recompute::Reinitialize, None),
        false if view == target => Work::Recompute(Recompute::Populate, None),
        false => unpopulated(view),
    }
}

/// Delta, recompute, or nothing at all; and what is pending, where that was asked.
fn decide(
    entry: &Entry,
    row: &StreamTable,
    frontier: &Frontier,
    snapshot: WaveSnapshot,
) -> (Work, Option<PendingChanges>) {
    if !row.captured || entry.circuit.always_recompute {
        return (Work::Recompute(Recompute::Always, None), None);
    }
    let pending = pending(entry, frontier, snapshot);
    let work = choose(entry, &pending);
    (work, Some(pending))
}

fn choose(entry: &Entry, pending: &PendingChanges) -> Work {
    if pending.versions.iter().all(|&(_, versions)| versions == 0) {
        return Work::Nothing;
    }
    let detaching = || entry.circuit.sources.iter().any(|source| capture::is_detaching(source.relid));
    if entry.circuit.blocks.is_empty() || detaching() {
        return Work::Recompute(Recompute::Always, None);
    }
    let plan = delta_plan(entry, &pending.versions);
    let costs = costs(entry, &plan);
    if costs.prefer_delta() { Work::Delta(plan, costs) } else { Work::Recompute(Recompute::Cheaper, Some(costs)) }
}

/// What is pending for a view.
struct PendingChanges {
    /// Versions per source.
    versions: SmallVec<[(pg_sys::Oid, u64); 8]>,
    /// Of the frontier after it (Frontier::horizon).
    horizon: u64,
    beginnings: Vec<Beginning>,
}

fn pending(entry: &Entry, frontier: &Frontier, snapshot: WaveSnapshot) -> PendingChanges {
    let mut found = PendingChanges { versions: SmallVec::new(), horizon: u64::MAX, beginnings: vec![] };
    let xmin = Frontier::now(snapshot).xmin();
    for source in entry.circuit.sources.iter().filter(|source| source.capturable) {
        let pending = Pending::count(source.relid, frontier, snapshot.as_ptr(), xmin);
        found.versions.push((source.relid, pending.versions));
        found.horizon = found.horizon.min(pending.horizon);
        found.beginnings.extend(pending.beginnings);
    }
    if found.versions.is_empty() {
        found.horizon = 0;
    }
    found
}

/// The plan for these pending changes; one is kept per set of changed inputs and order of magnitude.
pub fn delta_plan(entry: &Entry, pending: &[(pg_sys::Oid, u64)]) -> Rc<Plan> {
    let block = entry.circuit.blocks.last().expect("a delta needs a block");
    let versions = |relid| pending.iter().find(|(oid, _)| *oid == relid).map_or(0, |(_, versions)| *versions);
    let magnitudes: Magnitudes = block.inputs.iter().map(|input| magnitude::of(versions(input.relid))).collect();
    entry.delta(&magnitudes, |entry| {
        let changed: BitVec = magnitudes.iter().map(|&m| m > 0).collect();
        let estimates: Vec<f64> = magnitudes.iter().map(|&m| magnitude::versions(m)).collect();
        build::delta(block, &entry.target, &changed, &estimates)
    })
}

/// A guess.
const ROWS_PER_BLOCK: f64 = 60.0;

/// Planner estimates of the delta plan and of recompute.
pub fn costs(entry: &Entry, delta: &Plan) -> Costs {
    let full = full_plan(entry);
    let view = Relation::open(entry.circuit.view, pg_sys::NoLock);
    // A view that was never analyzed has no count of rows.
    let stored = match view.form().reltuples {
        rows if rows >= 0.0 => f64::from(rows),
        _ => f64::from(view.blocks()) * ROWS_PER_BLOCK,
    };
    Costs::of(delta, &full, stored)
}

pub fn full_plan(entry: &Entry) -> Rc<Plan> {
    entry.full(|entry| build::full(&entry.circuit, &entry.target, apply::Mode::Diff))
}

/// What a delta may fail over and the query would not.
const BEYOND_QUERY: &str = "A delta also computes row versions that came and went since the last refresh, and sums on the \
    way. If the query itself does not fail, SET pg_trickle.refresh_strategy = full for one refresh gets past them.";

fn perform(
    entry: &Rc<Entry>,
    work: &Work,
    frontier: Option<&Frontier>,
    snapshot: WaveSnapshot,
    by_hand: bool,
    mut probe: Option<&mut Probe>,
) -> Outcome {
    let (action, plan, costs) = match work {
        Work::Nothing => cannot_happen("there is nothing to perform"),
        Work::Delta(plan, costs) => (Action::Differential, plan.clone(), Some(*costs)),
        Work::Recompute(why, costs) => {
            let (action, plan) = recompute_plan(entry, why, snapshot);
            (action, plan, *costs)
        }
    };
    let nothing = Frontier::now(snapshot);
    let run = Run { snapshot, frontier: frontier.unwrap_or(&nothing) };
    let counters = match work {
        // The scheduler comes again, and recomputes then.
        Work::Delta(..) if by_hand && settings::refresh_strategy() == RefreshStrategy::Auto => {
            match xact::attempt(is_over_values, || execute(&plan, &run, costs, probe.as_deref_mut())) {
                Ok(counters) => counters,
                Err(failure) => {
                    report_failure(entry, &failure);
                    return anew(entry, &Recompute::Failed, apply::Counters::default(), snapshot, probe);
                }
            }
        }
        Work::Delta(..) => advise(BEYOND_QUERY, || execute(&plan, &run, costs, probe)),
        _ => execute(&plan, &run, costs, probe),
    };
    if let Some(what) = mismatch::take() {
        report_mismatch(entry, &what);
        return Outcome { reason: Some(what), ..anew(entry, &Recompute::Reinitialize, counters, snapshot, None) };
    }
    if matches!(work, Work::Recompute(Recompute::Populate, _)) {
        names::set_populated(entry.circuit.view);
        pg_progress::phase(Phase::Indexing, None);
        apply::ensure_index(entry.circuit.view, entry.circuit.key.as_deref());
        cache::forget(entry.circuit.view);
    }
    Outcome::new(action, counters)
}

/// Computes the view anew after a run that was given up, which has left `before` rows written.
fn anew(
    entry: &Rc<Entry>,
    why: &Recompute,
    before: apply::Counters,
    snapshot: WaveSnapshot,
    probe: Option<&mut Probe>,
) -> Outcome {
    snapshot.advance();
    let (action, plan) = recompute_plan(entry, why, snapshot);
    let run = Run { snapshot, frontier: &Frontier::now(snapshot) };
    let counters = execute(&plan, &run, None, probe) + before;
    if let Some(what) = mismatch::take() {
        cannot_happen(what);
    }
    Outcome::new(action, counters)
}

/// Whether the query fails as well, it will say itself.
fn report_failure(entry: &Entry, failure: &Failure) {
    let message = format!("delta of materialized view \"{}\" failed, computing it anew", name(entry.circuit.view));
    error(failure.code, message).detail(&failure.message).debug();
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

fn execute(plan: &Plan, run: &Run, costs: Option<Costs>, probe: Option<&mut Probe>) -> apply::Counters {
    let instrument = probe.as_ref().map_or(0, |probe| probe.instrument);
    // What an error may have left.
    mismatch::take();
    let execution = Execution::start(&plan.stmt, run, instrument, Purpose::Refresh);
    execution.run();
    let counters = execution.counters();
    if let Some(probe) = probe {
        (probe.show)(&execution, costs);
    }
    execution.finish();
    counters
}

/// Shows the plan a refresh of `view` would run now, without refreshing anything.
pub fn preview(view: pg_sys::Oid, probe: &mut Probe) {
    names::lock(view, pg_sys::AccessShareLock);
    let entry = entry(view);
    entry.lock_relations();
    snapshot::with_wave(|snapshot| {
        let (plan, costs) = preview_plan(&entry, view, snapshot);
        let frontier = Frontier::now(snapshot);
        let run = Run { snapshot, frontier: &frontier };
        as_owner(view, || {
            let execution = Execution::start(&plan.stmt, &run, probe.instrument, Purpose::Display);
            (probe.show)(&execution, costs);
            execution.finish();
        });
    });
}

fn preview_plan(entry: &Entry, view: pg_sys::Oid, snapshot: WaveSnapshot) -> (Rc<Plan>, Option<Costs>) {
    let Some(row) = stream_table::get(view) else { not_a_stream_table(view) };
    let Some(frontier) = row.frontier.as_deref().map(Frontier::stored) else { return (full_plan(entry), None) };
    let doubtful = row.captured && !capture::repair::is_certain(captured_sources(entry));
    if doubtful || stream_table::reinit(view).is_some() {
        return (full_plan(entry), None);
    }
    match decide(entry, &row, &frontier, snapshot).0 {
        Work::Delta(plan, costs) => (plan, Some(costs)),
        Work::Nothing if !entry.circuit.blocks.is_empty() => {
            let one: SmallVec<[_; 8]> = entry.circuit.sources.iter().map(|source| (source.relid, 1)).collect();
            let plan = delta_plan(entry, &one);
            let costs = costs(entry, &plan);
            (plan, Some(costs))
        }
        Work::Recompute(_, costs) => (full_plan(entry), costs),
        Work::Nothing => (full_plan(entry), None),
    }
}

/// Prepares a recompute: empty state, markers answered, stored definition brought up to date.
fn recompute_plan(entry: &Rc<Entry>, why: &Recompute, snapshot: WaveSnapshot) -> (Action, Rc<Plan>) {
    let view = entry.circuit.view;
    if entry.target.state.is_some() {
        crate::catalog::state::clear_all(view);
    }
    stream_table::clear_reinit(view);
    let action = match why {
        Recompute::Reinitialize | Recompute::Upgrade => Action::Reinitialize,
        _ => Action::Full,
    };
    snapshot.advance();
    match why {
        Recompute::Populate => {
            let plan = build::full(&entry.circuit, &entry.target, apply::Mode::Populate);
            (action, Rc::new(plan))
        }
        _ => {
            let entry = with_index(entry);
            if matches!(why, Recompute::Reinitialize | Recompute::Upgrade) {
                apply::renew_index(view, &entry.target.index, matches!(why, Recompute::Upgrade));
            }
            (action, full_plan(&entry))
        }
    }
}

/// The view's entry, with the index that finds stored rows: it may have been dropped, or never made.
fn with_index(entry: &Rc<Entry>) -> Rc<Entry> {
    let view = entry.circuit.view;
    if apply::ensure_index(view, entry.circuit.key.as_deref()) == entry.target.index {
        return entry.clone();
    }
    cache::forget(view);
    self::entry(view)
}

/// In REPEATABLE READ the transaction's snapshot may be older than what the view already contains, or than the commit of
/// what was computed at an older one still: then the rows to continue are not seen.
fn check_order(view: pg_sys::Oid, old: Option<&Frontier>, new: &Frontier) {
    if old.is_some_and(|old| !old.precedes(new)) || snapshot::is_kept() && !stream_table::is_seen(view) {
        error(
            PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE,
            format!("could not refresh materialized view \"{}\" due to a concurrent refresh", name(view)),
        )
        .detail("The view already contains what this transaction's snapshot does not see.")
        .hint("Retry the transaction.")
        .raise()
    }
}

/// Changes of a statement still running are in its table but not yet captured.
fn refuse_if_in_use(entry: &Entry) {
    for source in entry.circuit.sources.iter().filter(|source| source.capturable) {
        if capture::in_use(source.relid) {
            error(
                PgSqlErrorCode::ERRCODE_OBJECT_IN_USE,
                format!("cannot refresh while a statement of this session is changing \"{}\"", name(source.relid)),
            )
            .hint("Call the refresh after the statement, not from within it.")
            .raise()
        }
    }
}

fn unpopulated(view: pg_sys::Oid) -> ! {
    error(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("materialized view \"{}\" has not been populated", name(view)),
    )
    .hint("Use the REFRESH MATERIALIZED VIEW command.")
    .raise()
}

pub fn not_a_stream_table(view: pg_sys::Oid) -> ! {
    error(PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE, format!("\"{}\" is not a stream table", name(view)))
        .hint("Use ALTER MATERIALIZED VIEW ... SET (pg_trickle.incremental = true) to make it one.")
        .raise()
}

fn name(relid: pg_sys::Oid) -> String {
    Relation::open(relid, pg_sys::NoLock).name()
}
