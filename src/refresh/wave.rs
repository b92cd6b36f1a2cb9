//! Which views a refresh touches, and the locks it takes without deadlocks between refreshes.
//!
//! A wave has done nothing yet while it collects its refresh locks. So it never waits for one while it has others: it
//! lets go of them, waits for the missing one alone, and tries the others again. Neither another wave nor a transaction
//! that refreshes one ancestor after the other can then end up waiting for us while we wait for it.

use super::{entry, progress};
use crate::capture;
use crate::catalog::state;
use crate::catalog::stream_table::{self, StreamTable};
use crate::pg::names;
use crate::plan::cache::{self, Entry};
use crate::registration;
use crate::registration::named::not_a_stream_table;
use hashbrown::HashMap;
use pgrx::pg_sys;
use smallvec::SmallVec;
use std::rc::Rc;

/// A view of the wave with what the backend knows about it.
pub struct Member {
    pub view: pg_sys::Oid,
    pub entry: Rc<Entry>,
    /// As it stands under the refresh lock.
    pub row: StreamTable,
}

impl Member {
    /// Keeps the changes of its sources if it is not populated: until we commit, its frontier does not protect what
    /// comes after our snapshot.
    pub fn pin(&self) {
        if self.row.frontier.is_none() {
            self.entry.circuit.sources.iter().for_each(|source| capture::pin(source.relid));
        }
    }

    /// What it reads whose changes are captured.
    pub fn captured_sources(&self) -> impl Iterator<Item = pg_sys::Oid> {
        self.entry.circuit.sources.iter().filter(|source| source.capturable).map(|source| source.relid)
    }

    /// What it reads.
    pub fn sources(&self) -> impl Iterator<Item = pg_sys::Oid> {
        self.entry.circuit.sources.iter().map(|source| source.relid)
    }
}

/// Locks views for refreshing, with their ancestors and the views with snapshot consistency that rest on any of them, and
/// returns them in topological order.
pub fn lock(views: &[pg_sys::Oid]) -> Vec<Member> {
    loop {
        let order = collect(views);
        lock_all(order.iter().map(|&(_, oid)| oid));
        // A view may have been populated while we waited for the refresh that did it.
        if !followers(order.iter().map(|&(_, oid)| oid)).is_empty() {
            order.iter().for_each(|&(_, oid)| refresh_lock::give_back(oid));
            continue;
        }
        let members: Vec<_> = order.iter().map(|&(_, view)| member(view)).collect();
        for member in &members {
            progress::locking(member.view);
            member.entry.lock_relations();
        }
        if members.iter().any(|member| !member.entry.is_valid() || resync(member))
            || !members.iter().all(|member| locked_upstream(&member.entry, &order))
        {
            continue;
        }
        return members;
    }
}

/// All that is refreshed with these views, by depth.
fn collect(views: &[pg_sys::Oid]) -> Vec<(usize, pg_sys::Oid)> {
    let mut depths = HashMap::new();
    let mut more = views.to_vec();
    while !more.is_empty() {
        more.iter().for_each(|&view| visit(view, &mut depths));
        more = followers(depths.keys().copied());
        more.retain(|&view| {
            // Whoever is dropping it is waited for.
            progress::locking(view);
            names::lock(view, pg_sys::RowExclusiveLock);
            stream_table::exists(view)
        });
    }
    let mut order: Vec<_> = depths.into_iter().map(|(oid, depth)| (depth, oid)).collect();
    order.sort_unstable_by_key(|&(depth, oid)| (depth, oid.to_u32()));
    order
}

fn followers(views: impl Iterator<Item = pg_sys::Oid>) -> Vec<pg_sys::Oid> {
    registration::followers(&views.map(pg_sys::Oid::to_u32).collect())
}

fn member(view: pg_sys::Oid) -> Member {
    let Some(row) = stream_table::get(view) else { not_a_stream_table(view).raise() };
    Member { view, entry: entry::of(view), row }
}

/// A view on the way from one that is wanted to what it rests on.
struct Visit {
    view: pg_sys::Oid,
    /// The stream tables it reads and that are still to be visited.
    upstream: Vec<pg_sys::Oid>,
    depth: usize,
}

impl Visit {
    fn of(view: pg_sys::Oid) -> Self {
        progress::locking(view);
        // Waits for concurrent DDL as any UPDATE would; what follows raises if the view is gone.
        names::lock(view, pg_sys::RowExclusiveLock);
        Self { view, upstream: upstream(&entry::of(view)).collect(), depth: 0 }
    }

    fn rests_on(&mut self, depth: usize) {
        self.depth = self.depth.max(depth + 1);
    }
}

/// Records the depth of `view` and of all its ancestors: 0 for a view over base tables only. Chains may be long, and a view
/// may read itself all the same: CREATE RULE can do that behind our back.
fn visit(view: pg_sys::Oid, depths: &mut HashMap<pg_sys::Oid, usize>) {
    if depths.contains_key(&view) {
        return;
    }
    let mut path = vec![Visit::of(view)];
    while let Some(last) = path.last_mut() {
        match last.upstream.pop() {
            Some(source) => match depths.get(&source) {
                Some(&depth) => last.rests_on(depth),
                None => {
                    if let Some(start) = path.iter().position(|visit| visit.view == source) {
                        let cycle = path[start..].iter().map(|visit| visit.view).chain([source]);
                        registration::reads_itself(&cycle.collect::<Vec<_>>()).raise()
                    }
                    path.push(Visit::of(source));
                }
            },
            None => {
                let done = path.pop().expect("the loop looked at it");
                depths.insert(done.view, done.depth);
                path.iter_mut().next_back().into_iter().for_each(|reader| reader.rests_on(done.depth));
            }
        }
    }
}

/// The stream tables among the view's sources.
fn upstream(entry: &Entry) -> impl Iterator<Item = pg_sys::Oid> {
    entry.circuit.sources.iter().map(|source| source.relid).filter(|&relid| stream_table::exists(relid))
}

/// False when the definition changed while we waited and the view now reads a stream table we have not locked.
fn locked_upstream(entry: &Entry, order: &[(usize, pg_sys::Oid)]) -> bool {
    upstream(entry).all(|source| order.iter().any(|&(_, oid)| oid == source))
}

/// Follows a query that became another one, say because a plain view below it was replaced, and a library that keeps its state in
/// another format. True if it had to.
fn resync(member: &Member) -> bool {
    let stale = member.row.fingerprint != member.entry.circuit.fingerprint;
    let keeps_something = || member.entry.targets.relations().next().is_some();
    let unreadable = !stale && (is_incomplete(member) || (keeps_something() && !state::are_readable(member.view)));
    if stale {
        registration::resync(member.view);
    }
    if unreadable {
        registration::renew_state(member.view);
    }
    if stale || unreadable {
        cache::forget(member.view);
    }
    stale || unreadable
}

/// Something of what the view's blocks keep is missing.
fn is_incomplete(member: &Member) -> bool {
    let Entry { circuit, targets, .. } = &*member.entry;
    member.row.captured && !circuit.blocks.is_empty() && !targets.are_kept(circuit)
}

/// Excludes other refreshes of these views, and nobody else, until the end of the transaction.
fn lock_all(views: impl Iterator<Item = pg_sys::Oid> + Clone) {
    let mut awaited = None;
    loop {
        let mut held: SmallVec<[pg_sys::Oid; 8]> = awaited.into_iter().collect();
        for &view in &held {
            progress::locking(view);
            refresh_lock::wait(view);
        }
        let mut others = views.clone().filter(|&view| Some(view) != awaited);
        awaited = others.find(|&view| {
            let free = refresh_lock::try_take(view);
            held.extend(free.then_some(view));
            !free
        });
        if awaited.is_none() {
            return;
        }
        held.into_iter().for_each(refresh_lock::give_back);
    }
}

/// An object lock on (our catalog, view), which only refreshes take.
mod refresh_lock {
    use crate::catalog::STREAM_TABLE;
    use crate::pg::lock;
    use pgrx::pg_sys;

    const MODE: u32 = pg_sys::ExclusiveLock;

    pub fn wait(view: pg_sys::Oid) {
        lock::take(STREAM_TABLE.oid(), view, MODE);
    }

    /// False when another transaction has it.
    pub fn try_take(view: pg_sys::Oid) -> bool {
        lock::try_take(STREAM_TABLE.oid(), view, MODE)
    }

    /// What the transaction took before, it keeps.
    pub fn give_back(view: pg_sys::Oid) {
        lock::give_back(STREAM_TABLE.oid(), view, MODE);
    }
}
