//! What is known of single stream tables in shared memory only: a place per view, found by hashing.
//!
//! Places are looked up without a lock, taken and freed under that of the area (`Shared::locked`). A view that finds all its
//! possible places taken has none, and what would stand there is not known.

use super::shared::Shared;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::SeqCst};

/// More stream tables than these, in all databases of a server, have no places.
pub const PLACES: usize = 8192;
/// A view's place is one of so many.
const REACH: usize = 32;

/// What is known of a stream table. All zero: the place is free.
#[repr(C)]
pub struct Note {
    /// Database and view.
    key: AtomicU64,
    /// Refreshes that had nothing to do.
    noops: AtomicU64,
    /// The first commit that the view may not show, as its scheduler knows; 0: there is none.
    behind: AtomicI64,
}

fn key(database: u32, view: u32) -> u64 {
    u64::from(database) << 32 | u64::from(view)
}

fn places(notes: &'static [Note], key: u64) -> impl Iterator<Item = &'static Note> {
    // Fibonacci hashing: oids lie close together.
    let first = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - PLACES.ilog2())) as usize;
    (first..first + REACH).map(|place| &notes[place % PLACES])
}

fn find_in(notes: &'static [Note], key: u64) -> Option<&'static Note> {
    places(notes, key).find(|note| note.key.load(SeqCst) == key)
}

/// The place of a view that has one.
pub fn find(shared: Shared, database: u32, view: u32) -> Option<&'static Note> {
    find_in(shared.notes, key(database, view))
}

/// The place of a view, which gets one if it can.
pub fn place(shared: Shared, database: u32, view: u32) -> Option<&'static Note> {
    let key = key(database, view);
    let take = || {
        let note = find_in(shared.notes, key).or_else(|| find_in_free(shared.notes, key))?;
        note.key.store(key, SeqCst);
        Some(note)
    };
    find_in(shared.notes, key).or_else(|| shared.locked(take))
}

fn find_in_free(notes: &'static [Note], key: u64) -> Option<&'static Note> {
    places(notes, key).find(|note| note.key.load(SeqCst) == 0)
}

/// Frees the places of views that are not to be kept. `keep` must not raise.
pub fn sweep(shared: Shared, keep: impl Fn(u32, u32) -> bool) {
    let free = |note: &&Note| {
        let key = note.key.load(SeqCst);
        key != 0 && !keep((key >> 32) as u32, key as u32)
    };
    shared.locked(|| shared.notes.iter().filter(free).for_each(Note::clear));
}

impl Note {
    fn clear(&self) {
        self.noops.store(0, SeqCst);
        self.behind.store(0, SeqCst);
        self.key.store(0, SeqCst);
    }

    pub fn count_noop(&self) {
        self.noops.fetch_add(1, SeqCst);
    }

    pub fn noops(&self) -> u64 {
        self.noops.load(SeqCst)
    }

    pub fn reset(&self) {
        self.noops.store(0, SeqCst);
    }

    pub fn set_behind(&self, since: Option<i64>) {
        self.behind.store(since.unwrap_or(0), SeqCst);
    }

    pub fn behind(&self) -> Option<i64> {
        Some(self.behind.load(SeqCst)).filter(|since| *since != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notes() -> &'static [Note] {
        let note = || Note { key: AtomicU64::new(0), noops: AtomicU64::new(0), behind: AtomicI64::new(0) };
        Vec::leak((0..PLACES).map(|_| note()).collect())
    }

    #[test]
    fn a_view_has_as_many_possible_places_as_it_should() {
        let notes = notes();
        let key = key(5, 16384);
        for taken in 0..REACH {
            find_in_free(notes, key).unwrap().key.store(1000 + taken as u64, SeqCst);
        }
        assert!(find_in_free(notes, key).is_none());
        assert!(find_in(notes, key).is_none());
        places(notes, key).last().unwrap().clear();
        find_in_free(notes, key).unwrap().key.store(key, SeqCst);
        assert!(std::ptr::eq(find_in(notes, key).unwrap(), places(notes, key).last().unwrap()));
    }

    #[test]
    fn many_views_find_places() {
        let notes = notes();
        for view in 0..PLACES as u32 / 2 {
            let key = key(7, 16384 + 3 * view);
            find_in_free(notes, key).unwrap().key.store(key, SeqCst);
        }
    }

    #[test]
    fn nothing_is_behind_at_first() {
        let note = &notes()[0];
        assert_eq!(note.behind(), None);
        note.set_behind(Some(3));
        assert_eq!(note.behind(), Some(3));
        note.set_behind(None);
        assert_eq!(note.behind(), None);
    }
}
