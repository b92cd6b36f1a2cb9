//! What a backend knows about sources, so that triggers and scans need not ask the catalog.
//!
//! For a table, the sources it feeds. An entry is made at a table's first captured statement and dropped after an invalidation of anything it was made
//! from: the table, its ancestors, or a buffer segment (sent when the captured columns or the active segment change).
//! The list of columns only grows under a lock that excludes writers, so a statement in progress never misses a
//! column; a stale active segment does no harm. For a source, its segments, which stay the same until they are dropped.

use super::family;
use super::image::Image;
use crate::catalog;
use crate::catalog::source::{Level, Source};
use crate::pg::invalidation;
use crate::pg::relation::Relation;
use hashbrown::HashMap;
use pgrx::pg_sys;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// The sources one table feeds.
pub struct Feeds {
    stale: Cell<bool>,
    watched: Vec<pg_sys::Oid>,
    /// Fed by the table's statement triggers.
    pub statement: Vec<Feed>,
    /// Fed by its row triggers.
    pub row: Vec<Feed>,
}

/// One source and how the table's rows get there.
pub struct Feed {
    pub source: pg_sys::Oid,
    /// Where to write.
    pub segment: pg_sys::Oid,
    pub image: Image,
}

impl Feeds {
    /// Every source.
    pub fn all(&self) -> impl Iterator<Item = &Feed> {
        self.statement.iter().chain(&self.row)
    }
}

thread_local! {
    static FEEDS: RefCell<HashMap<pg_sys::Oid, Rc<Feeds>>> = RefCell::default();
    static SEGMENTS: RefCell<HashMap<pg_sys::Oid, [pg_sys::Oid; 2]>> = RefCell::default();
}

/// What `table`, which a trigger is running for, feeds.
pub fn feeds(table: pg_sys::Relation) -> Rc<Feeds> {
    // SAFETY: an open relation.
    let relid = unsafe { (*table).rd_id };
    if let Some(feeds) = FEEDS.with_borrow(|cache| cache.get(&relid).filter(|feeds| !feeds.stale.get()).cloned()) {
        return feeds;
    }
    listen();
    let watch = invalidation::watch();
    // SAFETY: open by contract.
    let feeds = Rc::new(unsafe { look_up(table, relid) });
    // What changed meanwhile excludes no writer, and does this statement no harm; the next one looks again.
    feeds.stale.set(watch.saw(|relid| feeds.watched.contains(&relid)));
    FEEDS.with_borrow_mut(|cache| {
        cache.retain(|_, feeds| !feeds.stale.get());
        cache.insert(relid, feeds.clone());
    });
    feeds
}

/// The segments of a source; None when it is not captured.
pub fn segments(source: pg_sys::Oid) -> Option<[pg_sys::Oid; 2]> {
    if let Some(segments) = SEGMENTS.with_borrow(|cache| cache.get(&source).copied()) {
        return Some(segments);
    }
    listen();
    let watch = invalidation::watch();
    let segments = catalog::source::get(source)?.segments;
    if !watch.saw(|relid| segments.contains(&relid)) {
        SEGMENTS.with_borrow_mut(|cache| cache.insert(source, segments));
    }
    Some(segments)
}

unsafe fn look_up(table: pg_sys::Relation, relid: pg_sys::Oid) -> Feeds {
    let ancestors = family::ancestors(relid);
    let mut feeds = Feeds { stale: Cell::new(false), watched: ancestors.clone(), statement: vec![], row: vec![] };
    for source in ancestors.into_iter().filter_map(catalog::source::get) {
        feeds.watched.extend(source.segments);
        // It has just come, and the statement that made it a member is not through: its rows of that moment are
        // counted then (member_rows.rs).
        if !source.members.contains(&relid) {
            continue;
        }
        // SAFETY: `table` is open by contract.
        if let Some(feed) = unsafe { feed(table, relid, &source) } {
            match source.level {
                Level::Statement => feeds.statement.push(feed),
                Level::Row => feeds.row.push(feed),
            }
        }
    }
    feeds
}

/// None when the source, an ancestor, is just being dropped.
unsafe fn feed(table: pg_sys::Relation, relid: pg_sys::Oid, source: &Source) -> Option<Feed> {
    let parent =
        if source.relid == relid { None } else { Some(Relation::try_open(source.relid, pg_sys::AccessShareLock)?) };
    // SAFETY: both relations are open.
    unsafe {
        let input = (*table).rd_att;
        let desc = parent.as_ref().map_or(input, Relation::tuple_desc);
        let image = Image::new(input, desc, &source.columns);
        Some(Feed { source: source.relid, segment: source.segments[source.active], image })
    }
}

/// Registers for invalidations, once per backend.
fn listen() {
    thread_local!(static LISTENING: Cell<bool> = const { Cell::new(false) });
    if !LISTENING.replace(true) {
        // SAFETY: the callback lives as long as the library.
        unsafe { pg_sys::CacheRegisterRelcacheCallback(Some(invalidate), pg_sys::Datum::from(0usize)) };
    }
}

/// Forgets what depends on `relid` (everything, if none is named). Feeds may be in use: they go at the next look-up.
#[pgrx::pg_guard]
extern "C-unwind" fn invalidate(_arg: pg_sys::Datum, relid: pg_sys::Oid) {
    invalidation::note(relid);
    let all = relid == pg_sys::InvalidOid;
    FEEDS.with_borrow(|cache| {
        for feeds in cache.values().filter(|feeds| all || feeds.watched.contains(&relid)) {
            feeds.stale.set(true);
        }
    });
    SEGMENTS.with_borrow_mut(|cache| cache.retain(|_, segments| !all && !segments.contains(&relid)));
}
