//! Which stream tables have something to show that they do not, since when, and whether that is for too long.
//!
//! Whether anything is pending is read from the change buffers. Since when is not in them: the commit of a row has no time
//! unless `track_commit_timestamp` is on. It is known from shared memory, where writers note when they commit
//! (`../wakeup/mod.rs`) and the scheduler keeps the first such time of each view. Where nothing is noted, because the server
//! has been restarted or no scheduler has run since, it is the time of the snapshot that the view shows. So the time given is
//! never later than the first commit that the view does not show. It may be earlier.

use super::health::timestamp;
use crate::capture::{Frontier, Pending};
use crate::catalog::dependency::{self, Dependency};
use crate::catalog::stream_table::{self, StreamTable};
use crate::catalog::{source, version};
use crate::pg::{interrupt, storage};
use crate::runtime::Schedules;
use crate::schedule::Time;
use crate::schedule::graph::meet;
use crate::wakeup;
use bitvec::prelude::*;
use hashbrown::{HashMap, HashSet};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::iter::TableIterator;
use pgrx::{name, pg_extern, pg_sys};

/// The change buffers, each looked up once.
struct Buffers {
    /// Of a captured source: whether there is anything in its buffer. None: somebody is about to change that.
    filled: HashMap<u32, Option<bool>>,
}

impl Buffers {
    fn read() -> Self {
        let filled = source::all().into_iter().map(|source| {
            // Locks the segments as well, but waits for nobody.
            let bytes = source.segments.into_iter().map(storage::bytes_now).sum::<Option<u64>>();
            (source.relid.to_u32(), bytes.map(|bytes| bytes > 0))
        });
        Self { filled: filled.collect() }
    }

    /// Something waits there for a view with that frontier, or will in a moment.
    fn wait_for(&self, source: pg_sys::Oid, frontier: &Frontier) -> bool {
        match self.filled.get(&source.to_u32()) {
            None | Some(Some(false)) => false,
            Some(None) => true,
            Some(Some(true)) => Pending::is_any_now(source, frontier),
        }
    }
}

/// All stream tables, by their number in the graph of schedules.
struct State {
    rows: Vec<StreamTable>,
    schedules: Schedules,
    /// Changes have been captured that it does not show.
    behind: BitVec,
    /// Its changes are not captured, and it is older than its schedule lets it get.
    aged: BitVec,
}

impl State {
    fn read() -> Self {
        let rows = stream_table::all();
        let dependencies = dependency::all();
        let schedules = Schedules::of(&rows, &dependencies);
        let mut read: HashMap<u32, Vec<&Dependency>> = HashMap::new();
        for (view, dependency) in &dependencies {
            read.entry(view.to_u32()).or_default().push(dependency);
        }
        let (buffers, marked) = (Buffers::read(), stream_table::marked());
        let mut state = Self { behind: BitVec::new(), aged: BitVec::new(), rows: Vec::new(), schedules };
        for row in &rows {
            interrupt::check();
            let sources = read.get(&row.relid.to_u32()).map_or(&[][..], Vec::as_slice);
            let number = state.behind.len();
            state.behind.push(is_behind(row, sources, &buffers, &marked));
            let aged = || row.data_timestamp.is_none_or(|shown| state.schedules.is_late(number, shown, shown));
            state.aged.push(!row.captured && aged());
        }
        Self { rows, ..state }
    }

    /// In the view or a stream table it rests on.
    fn reaches(&self, set: &BitVec, number: usize) -> bool {
        set[number] || meet(self.schedules.ancestors(number), set)
    }

    fn since(&self, number: usize) -> Option<Time> {
        let shown = self.rows[number].data_timestamp?;
        if !self.reaches(&self.behind, number) {
            return None;
        }
        let noted = || wakeup::view::noted(self.schedules.relations(number));
        let known = wakeup::view::behind(self.rows[number].relid).or_else(noted);
        Some(known.map_or(shown, |known| known.max(shown)))
    }

    fn is_stale(&self, number: usize, since: Option<Time>) -> bool {
        // Without contents it does not show anything.
        let Some(shown) = self.rows[number].data_timestamp else { return true };
        since.is_some_and(|since| self.schedules.is_late(number, since, shown)) || self.reaches(&self.aged, number)
    }
}

/// As far as the stream table itself can tell: what it reads are not asked.
fn is_behind(row: &StreamTable, sources: &[&Dependency], buffers: &Buffers, marked: &HashSet<u32>) -> bool {
    let Some(frontier) = row.frontier.as_deref() else { return true };
    if marked.contains(&row.relid.to_u32()) {
        return true;
    }
    let Some(frontier) = Frontier::readable(frontier) else { return true };
    let captured = sources.iter().filter(|dependency| row.captured && dependency.capturable);
    captured.into_iter().any(|dependency| buffers.wait_for(dependency.source, &frontier))
}

/// Every stream table: the time of a commit that it does not show, or an earlier one; whether that is longer ago than its
/// schedule lets it be; how often a refresh found nothing to do. Tolerant: nothing, instead of an error, when the SQL objects
/// are not those of the library.
#[pg_extern]
fn freshness(
    tolerant: bool,
) -> TableIterator<
    'static,
    (
        name!(view, pg_sys::Oid),
        name!(pending_since, Option<TimestampWithTimeZone>),
        name!(stale, bool),
        name!(noops, i64),
    ),
> {
    if tolerant && version::mismatch().is_some() {
        return TableIterator::empty();
    }
    version::check();
    let state = State::read();
    let rows = (0..state.rows.len()).map(|number| {
        let (view, since) = (state.rows[number].relid, state.since(number));
        (view, since.map(timestamp), state.is_stale(number, since), wakeup::view::noops(view) as i64)
    });
    TableIterator::new(rows.collect::<Vec<_>>())
}
