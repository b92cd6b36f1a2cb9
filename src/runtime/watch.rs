//! What goes wrong without a refresh failing, and is told all the same: data that get old, change buffers that grow,
//! stream tables that go on after they had stopped, and SQL objects that do not fit the library.
//!
//! An alert is sent once: again about the same view after it has been refreshed, about the same buffer when it has doubled.

use super::alert::{self, Value};
use super::views::Views;
use crate::capture::{self, Grown};
use crate::catalog::version::Mismatch;
use crate::catalog::{dependency, stream_table};
use crate::pg::{facts, xact};
use crate::schedule::{SECOND, Time};
use hashbrown::HashMap;

/// Buffers are looked at so long after the first change that waits, and after the last look: as long as the change has
/// been waiting, within these limits.
const SOONEST: i64 = 5 * SECOND;
const LATEST: i64 = 300 * SECOND;

pub struct Watch {
    looked: Time,
    /// Bytes of the buffers that have been told about.
    grown: HashMap<u32, u64>,
}

impl Watch {
    pub fn new() -> Self {
        Self { looked: Time::MIN, grown: HashMap::new() }
    }

    /// Tells what there is to tell; when there is more, if nothing else happens.
    pub fn work(&mut self, views: &mut Views, now: Time) -> Option<Time> {
        let (late, next) = views.late(now);
        if !late.is_empty() {
            report(|| late.iter().for_each(|late| stale(late.view, now - late.since)));
        }
        let look = views.waiting_since().map(|since| self.next_look(since));
        let look = match look {
            Some(at) if at <= now => {
                self.looked = now;
                report(|| self.look());
                views.waiting_since().map(|since| self.next_look(since))
            }
            later => later,
        };
        next.into_iter().chain(look).min()
    }

    fn next_look(&self, since: Time) -> Time {
        match self.looked < since {
            true => since + SOONEST,
            false => self.looked + (self.looked - since).clamp(SOONEST, LATEST),
        }
    }

    fn look(&mut self) {
        let grown = capture::grown_buffers();
        self.grown.retain(|source, _| grown.iter().any(|found| found.source.to_u32() == *source));
        for found in grown {
            let told = self.grown.get(&found.source.to_u32()).is_some_and(|bytes| found.bytes < bytes * 2);
            if !told {
                self.grown.insert(found.source.to_u32(), found.bytes);
                buffer_growth(&found);
            }
        }
    }
}

/// These go on.
pub fn resumed(views: &[u32]) {
    if !views.is_empty() {
        report(|| views.iter().for_each(|&view| alert::send("resumed", view.into(), &[])));
    }
}

/// The library and the SQL objects do not fit any more, or fit again.
pub fn versions(before: Option<Mismatch>, now: Option<Mismatch>) {
    if before == now {
        return;
    }
    match now {
        Some(mismatch) => {
            mismatch.report().warn();
            let detail = mismatch.detail();
            let details = [("detail", Value::Text(&detail)), ("hint", Value::Text(mismatch.hint()))];
            report(|| alert::send_of_database("versions_differ", &details));
        }
        None => report(|| alert::send_of_database("versions_agree", &[])),
    }
}

/// In a transaction of its own. What cannot be told is in the log; the next time is another one.
fn report(tell: impl FnOnce()) {
    if let Err(failure) = xact::run(tell) {
        failure.warn();
    }
}

fn stale(view: u32, age: i64) {
    alert::send("stale_data", view.into(), &[("seconds", Value::Number(age / SECOND))]);
}

/// Names the reader that is furthest behind: its share of the buffer is all of it.
fn buffer_growth(grown: &Grown) {
    let Some(source) = facts::try_relation_name(grown.source) else { return };
    let readers = dependency::readers_of(grown.source).into_iter().filter_map(stream_table::get);
    let Some(last) = readers.min_by_key(|reader| reader.data_timestamp) else { return };
    let details = [
        ("source_table", Value::Text(&source)),
        ("buffer_bytes", Value::Number(grown.bytes as i64)),
        ("limit_bytes", Value::Number(grown.limit as i64)),
    ];
    alert::send("buffer_growth_warning", last.relid, &details);
}
