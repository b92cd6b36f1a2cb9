//! The plan a refresh would run now, without refreshing anything.

use super::choice::Costs;
use super::contents::{Contents, due_or_doubtful};
use super::decide::{self, Work};
use super::entry;
use super::pending::Versions;
use super::perform::Probe;
use super::scope::{Asked, Scope};
use crate::capture::frontier::Frontier;
use crate::catalog::stream_table::{self, StreamTable};
use crate::exec::clock::Clock;
use crate::exec::run::{Execution, Purpose, Run};
use crate::identity::as_owner_with;
use crate::pg::{names, snapshot};
use crate::plan::build::Plan;
use crate::plan::cache::Entry;
use crate::registration::named::not_a_stream_table;
use pgrx::pg_sys;
use std::rc::Rc;

/// Shows the plan a refresh of `view` would run now.
pub fn preview(view: pg_sys::Oid, probe: &mut Probe) {
    names::lock(view, pg_sys::AccessShareLock);
    let entry = entry::locked(view);
    let Some(row) = stream_table::get(view) else { not_a_stream_table(view).raise() };
    snapshot::with_wave(|snapshot| {
        as_owner_with(view, &row.pinned, |owner| {
            let clock = Clock::read(&entry.circuit.clock, row.clock.as_deref(), owner);
            let (plans, costs) = plans(&entry, &row, Scope { owner, snapshot, asked: Asked::ByName, clock: &clock });
            let frontier = Frontier::now(snapshot);
            let run = Run { snapshot, frontier: &frontier, most_groups: u64::MAX, deltas: None, clock: &clock };
            for plan in plans {
                let execution = Execution::start(&plan.stmt, &run, probe.instrument, Purpose::Display, owner);
                (probe.show)(&execution, costs);
                execution.finish();
            }
        });
    });
}

/// Bottom-up, with the estimates where there is a choice.
type Shown = (Vec<Rc<Plan>>, Option<Costs>);

fn plans(entry: &Entry, row: &StreamTable, scope: Scope) -> Shown {
    let whole = |costs| (only(decide::full_plans(entry, scope)), costs);
    let Some(frontier) = row.frontier.as_deref().map(Frontier::stored) else { return whole(None) };
    // A refresh would first follow a query that has become another one.
    if due_or_doubtful(row, entry).is_some() || row.fingerprint != entry.circuit.fingerprint {
        return whole(None);
    }
    match decide::work(&Contents::Current(frontier), entry, row, scope).0 {
        Work::Delta(pending, costs) => (only(decide::expected_plans(entry, &pending, scope)), Some(costs)),
        Work::Nothing if entry.targets.are_kept(&entry.circuit) => of_one_row_each(entry, scope),
        Work::Recompute(_, costs) => whole(costs),
        Work::Nothing => whole(None),
    }
}

/// The delta plans for one changed row in every source.
fn of_one_row_each(entry: &Entry, scope: Scope) -> Shown {
    let one: Versions = entry.circuit.sources.iter().map(|source| (source.relid, 1)).collect();
    let plans = decide::expected_plans(entry, &one, scope);
    // Of an update.
    let costs = decide::costs(entry, &plans, 0.5, scope);
    (only(plans), Some(costs))
}

fn only<T>(plans: Vec<(T, Rc<Plan>)>) -> Vec<Rc<Plan>> {
    plans.into_iter().map(|(_, plan)| plan).collect()
}
