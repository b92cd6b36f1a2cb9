//! What the scheduler reads of the catalog when stream tables came, went or were set otherwise.

use crate::catalog::dependency::{self, Dependency};
use crate::catalog::stream_table::{self, Status, StreamTable};
use crate::catalog::version::{self, Mismatch};
use crate::catalog::{self, control, history};
use crate::circuit;
use crate::error::cannot_happen;
use crate::pg::{clock, names};
use crate::registration::options::{Consistency, Stored};
use crate::registration::refusal;
use crate::schedule::graph::{Graph, Node, Set};
use crate::schedule::recompute::{self, Recomputes, Work};
use crate::schedule::{Time, freshness, retry, spec};
use hashbrown::HashMap;
use pgrx::pg_sys;

/// What the catalog says of a stream table's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    Well,
    /// The last refreshes failed, but might not the next time: not before this.
    Failing(Time),
    /// As Failing, if something has changed since.
    Broken(Time),
    /// Somebody, or too many failures, stopped it.
    Suspended,
    /// Without contents.
    Empty,
}

impl Health {
    /// It is not refreshed by schedule.
    pub fn is_out(self) -> bool {
        matches!(self, Health::Suspended | Health::Empty)
    }

    /// It is not, or not with success.
    pub fn has_stopped(self) -> bool {
        matches!(self, Health::Suspended | Health::Broken(_))
    }
}

/// All that matters for scheduling.
#[derive(Default)]
pub struct Picture {
    pub nodes: Vec<Node>,
    /// Of each node.
    pub health: Vec<Health>,
    pub last: Vec<Option<Time>>,
    /// It has a delta plan.
    pub by_delta: Vec<bool>,
    pub paused: bool,
    /// The SQL objects are not those of the library: nothing is known, and nothing refreshed.
    pub mismatch: Option<Mismatch>,
}

/// None: the extension is not there.
pub fn read() -> Option<Picture> {
    if !catalog::installed() {
        return None;
    }
    if let Some(mismatch) = version::mismatch() {
        return Some(Picture { paused: true, mismatch: Some(mismatch), ..Picture::default() });
    }
    let mut sources = sources(&dependency::all());
    let mut picture = Picture { paused: control::paused(), ..Picture::default() };
    for row in stream_table::all() {
        picture.health.push(health(&row));
        picture.last.push(row.last_refresh_at);
        picture.by_delta.push(is_by_delta(&row));
        picture.nodes.push(node(&row, &mut sources));
    }
    Some(picture)
}

/// What each view reads.
fn sources(dependencies: &[(pg_sys::Oid, Dependency)]) -> HashMap<u32, Vec<u32>> {
    let mut sources: HashMap<u32, Vec<u32>> = HashMap::new();
    for (view, dependency) in dependencies {
        sources.entry(view.to_u32()).or_default().push(dependency.source.to_u32());
    }
    sources
}

fn node(row: &StreamTable, sources: &mut HashMap<u32, Vec<u32>>) -> Node {
    let options = Stored::read(row.relid).options();
    let view = row.relid.to_u32();
    let reason = row.downgrade_reason.as_deref().map(refusal::code);
    Node {
        view,
        // It may just have been dropped.
        owner: names::try_owner(row.relid).unwrap_or(pg_sys::InvalidOid).to_u32(),
        schedule: spec::parse(&options.schedule).unwrap_or_else(|_| cannot_happen("a stored schedule is malformed")),
        // A view may read no relation at all.
        sources: sources.remove(&view).unwrap_or_default(),
        captured: row.captured,
        varies: reason.is_some_and(circuit::varies),
        clock: row.captured && row.clock.is_some(),
        snapshot: options.consistency == Consistency::Snapshot,
    }
}

fn is_by_delta(row: &StreamTable) -> bool {
    row.captured && row.effective_mode == "DIFFERENTIAL"
}

/// What the history says of the recomputes of each node.
pub fn recomputes(picture: &Picture) -> Vec<Recomputes> {
    picture.nodes.iter().map(|node| recomputes_of(node.view.into())).collect()
}

fn recomputes_of(view: pg_sys::Oid) -> Recomputes {
    let mut refreshes = history::last_scheduled(view);
    refreshes.reverse();
    Recomputes::of(refreshes.into_iter().map(|refresh| {
        let work = match refresh.action.as_str() {
            "DIFFERENTIAL" => Work::Delta,
            _ => Work::Recompute((refresh.ended - refresh.started).max(1)),
        };
        (work, refresh.ended)
    }))
}

/// Until when a default schedule lets the view rest, by what the history says; None: it does not, or a schedule was set.
pub fn rests_until(view: pg_sys::Oid) -> Option<Time> {
    let Picture { nodes, by_delta, .. } = read()?;
    let graph = Graph::new(nodes);
    let own = |n: usize| recomputes_of(graph.nodes()[n].view.into()).rests_until(by_delta[n]);
    recompute::rests_until(&graph, graph.number(view.to_u32())?, own)
}

/// The schedules of all stream tables, numbered as they come in the catalog.
pub struct Schedules {
    graph: Graph,
    by_delta: Vec<bool>,
    now: Time,
}

impl Schedules {
    pub fn of(rows: &[StreamTable], dependencies: &[(pg_sys::Oid, Dependency)]) -> Self {
        let mut sources = sources(dependencies);
        let nodes = rows.iter().map(|row| node(row, &mut sources)).collect();
        Self { graph: Graph::new(nodes), by_delta: rows.iter().map(is_by_delta).collect(), now: clock::now() }
    }

    /// The stream tables that it rests on.
    pub fn ancestors(&self, n: usize) -> &Set {
        self.graph.ancestors(n)
    }

    /// The relations whose changes concern the view: what it and its ancestors read, and they themselves.
    pub fn relations(&self, n: usize) -> impl Iterator<Item = u32> {
        let nodes = self.graph.ancestors(n).iter_ones().chain([n]).map(|n| &self.graph.nodes()[n]);
        nodes.flat_map(|node| node.sources.iter().copied().chain([node.view]))
    }

    /// Whether something that was committed then, and that the view does not show, has had to wait for longer than its
    /// schedule lets it: once more its cadence after it was due. `shown` is when the view's contents were taken.
    pub fn is_late(&self, n: usize, since: Time, shown: Time) -> bool {
        let late = |rested| {
            let at = freshness::late(self.graph.cadence(n), since, Some(shown), rested, 1);
            at.is_some_and(|at| at <= self.now)
        };
        // How long it rests is in the history, which is looked at when that matters.
        let own = |n: usize| recomputes_of(self.graph.nodes()[n].view.into()).rests_until(self.by_delta[n]);
        late(Time::MIN) && late(recompute::rests_until(&self.graph, n, own).unwrap_or(Time::MIN))
    }
}

fn health(row: &StreamTable) -> Health {
    let failures = row.consecutive_errors as u32;
    let after = |class| row.last_error_at.map_or(Time::MIN, |at| at + retry::pause(class, failures));
    match row.status {
        _ if row.frontier.is_none() => Health::Empty,
        Status::Initializing => Health::Empty,
        Status::Suspended => Health::Suspended,
        Status::Error => Health::Broken(after(retry::Class::Permanent)),
        Status::Active if failures > 0 => Health::Failing(after(retry::Class::Transient)),
        Status::Active => Health::Well,
    }
}
