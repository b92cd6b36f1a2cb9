//! Invalidations that arrive while something is being made for a cache.
//!
//! A callback can mark only what is in the cache already. So what is being made notes where it began, and when it is done asks
//! which relations were invalidated since.

use pgrx::pg_sys;
use std::cell::{Cell, RefCell};

thread_local! {
    static WATCHERS: Cell<usize> = const { Cell::new(0) };
    static SEEN: RefCell<Vec<pg_sys::Oid>> = const { RefCell::new(Vec::new()) };
}

/// With more than that, everything is taken for invalidated.
const MANY: usize = 256;

/// Notes what is invalidated as long as it lives.
pub struct Watch {
    from: usize,
}

pub fn watch() -> Watch {
    WATCHERS.set(WATCHERS.get() + 1);
    Watch { from: SEEN.with_borrow(Vec::len) }
}

/// To be called by the callbacks of the caches; InvalidOid stands for everything.
pub fn note(relid: pg_sys::Oid) {
    if WATCHERS.get() > 0 {
        SEEN.with_borrow_mut(|seen| {
            if seen.len() < MANY {
                seen.push(relid);
            }
        });
    }
}

impl Watch {
    /// Whether any of these relations, or everything, was invalidated.
    pub fn saw(&self, mut concerned: impl FnMut(pg_sys::Oid) -> bool) -> bool {
        let hit = |&relid: &pg_sys::Oid| relid == pg_sys::InvalidOid || concerned(relid);
        SEEN.with_borrow(|seen| seen.len() >= MANY || seen[self.from..].iter().any(hit))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        WATCHERS.set(WATCHERS.get() - 1);
        if WATCHERS.get() == 0 {
            SEEN.take();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn oid(n: u32) -> pg_sys::Oid {
        n.into()
    }

    #[test]
    fn only_what_came_since() {
        note(oid(1));
        let outer = watch();
        assert!(!outer.saw(|_| true));
        note(oid(2));
        let inner = watch();
        assert!(outer.saw(|relid| relid == oid(2)) && !outer.saw(|relid| relid == oid(1)));
        note(oid(3));
        assert!(outer.saw(|relid| relid == oid(3)) && inner.saw(|relid| relid == oid(3)));
        drop(inner);
        note(pg_sys::InvalidOid);
        assert!(outer.saw(|_| false), "everything");
        drop(outer);
        assert!(!watch().saw(|_| true), "forgotten");
    }

    #[test]
    fn too_many_are_everything() {
        let outer = watch();
        (0..2 * MANY as u32).for_each(|n| note(oid(n + 1)));
        let inner = watch();
        note(oid(1));
        assert!(outer.saw(|_| false) && inner.saw(|_| false));
    }
}
