//! Counters of stream tables begin anew.

use crate::catalog::{stream_table, version};
use crate::pg::names::{self, RangeVar};
use crate::pg::{interrupt, lock, privilege};
use crate::registration::named::stream_table_named;
use crate::wakeup;
use pgrx::{pg_extern, pg_sys};

/// Refreshes replace the row that counts them, and so do the notes of failed ones: all of them lock the view.
const MODE: u32 = pg_sys::ShareRowExclusiveLock;

/// Of one stream table, or of all.
#[pg_extern]
fn reset_stats(name: Option<&str>) {
    version::require();
    privilege::require_writable("reset_stats()");
    let views = match name {
        Some(name) => vec![stream_table_named(RangeVar::parse(name))],
        None => stream_table::views(),
    };
    lock_all(&views);
    for view in views.into_iter().filter(|view| stream_table::exists(*view)) {
        stream_table::reset_statistics(view);
        wakeup::view::reset(view);
    }
}

/// Never waits for one view while it has locked others: a refresh locks many, in an order of its own.
fn lock_all(views: &[pg_sys::Oid]) {
    let mut awaited = None;
    loop {
        interrupt::check();
        let mut held: Vec<pg_sys::Oid> = awaited.into_iter().collect();
        for &view in &held {
            names::lock(view, MODE);
        }
        awaited = views.iter().copied().filter(|&view| Some(view) != awaited).find(|&view| {
            let free = lock::try_take_relation(view, MODE);
            held.extend(free.then_some(view));
            !free
        });
        if awaited.is_none() {
            return;
        }
        held.into_iter().for_each(|view| names::unlock(view, MODE));
    }
}
