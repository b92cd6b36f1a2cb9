//! What the scheduler reads of the catalog when stream tables came, went or were set otherwise.

use crate::catalog::stream_table::{self, Status, StreamTable};
use crate::catalog::version::{self, Mismatch};
use crate::catalog::{self, control, dependency};
use crate::error::cannot_happen;
use crate::registration::options::Stored;
use crate::schedule::graph::Node;
use crate::schedule::{Time, retry, spec};
use hashbrown::HashMap;

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
pub struct Picture {
    pub nodes: Vec<Node>,
    /// Of each node.
    pub health: Vec<Health>,
    pub last: Vec<Option<Time>>,
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
        return Some(Picture { nodes: vec![], health: vec![], last: vec![], paused: true, mismatch: Some(mismatch) });
    }
    let mut sources: HashMap<u32, Vec<u32>> = HashMap::new();
    for (view, dependency) in dependency::all() {
        sources.entry(view.to_u32()).or_default().push(dependency.source.to_u32());
    }
    let mut picture =
        Picture { nodes: vec![], health: vec![], last: vec![], paused: control::paused(), mismatch: None };
    for row in stream_table::all() {
        let text = Stored::read(row.relid).options().schedule;
        let schedule = spec::parse(&text).unwrap_or_else(|_| cannot_happen("a stored schedule is malformed"));
        let view = row.relid.to_u32();
        // A view may read no relation at all.
        let sources = sources.remove(&view).unwrap_or_default();
        picture.health.push(health(&row));
        picture.last.push(row.last_refresh_at);
        picture.nodes.push(Node { view, schedule, sources, captured: row.captured });
    }
    Some(picture)
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
