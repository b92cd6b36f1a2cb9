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
use crate::exec::run::{Execution, Purpose, Run};
use crate::identity::{AsOwner, as_owner_with};
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
            let (plan, costs) = plan(&entry, &row, Scope { owner, snapshot, asked: Asked::ByName });
            let frontier = Frontier::now(snapshot);
            let run = Run { snapshot, frontier: &frontier, most_groups: u64::MAX };
            let execution = Execution::start(&plan.stmt, &run, probe.instrument, Purpose::Display, owner);
            (probe.show)(&execution, costs);
            execution.finish();
        });
    });
}

fn plan(entry: &Entry, row: &StreamTable, scope: Scope) -> (Rc<Plan>, Option<Costs>) {
    let whole = |costs| (decide::full_plan(entry, scope.owner), costs);
    let Some(frontier) = row.frontier.as_deref().map(Frontier::stored) else { return whole(None) };
    // A refresh would first follow a query that has become another one.
    if due_or_doubtful(row, entry).is_some() || row.fingerprint != entry.circuit.fingerprint {
        return whole(None);
    }
    match decide::work(&Contents::Current(frontier), entry, row, scope).0 {
        Work::Delta(plan, costs) => (plan, Some(costs)),
        Work::Nothing if !entry.circuit.blocks.is_empty() => of_one_row_each(entry, scope.owner),
        Work::Recompute(_, costs) => whole(costs),
        Work::Nothing => whole(None),
    }
}

/// The delta plan for one changed row in every source.
fn of_one_row_each(entry: &Entry, owner: &AsOwner) -> (Rc<Plan>, Option<Costs>) {
    let one: Versions = entry.circuit.sources.iter().map(|source| (source.relid, 1)).collect();
    let plan = decide::delta_plan(entry, &one, owner);
    // Of an update.
    let costs = decide::costs(entry, &plan, 0.5, owner);
    (plan, Some(costs))
}
