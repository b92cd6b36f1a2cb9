//! A refresh: from snapshot to new contents, as named steps (DESIGN section 7).
//!
//! Refreshing a view first refreshes every stale upstream stream table, in topological order, in the same transaction
//! at the same snapshot: diamonds agree, and the view equals its query expanded down to base tables (promise 1).
//!
//! 1. [`wave`]: collect the view's ancestors, lock them against other refreshes, lock the sources.
//! 2. Take one snapshot, after the locks, so that no change can fall between.
//! 3. [`step`]: per view, find what is pending, choose delta or recompute, run the plan, move the frontier.
//!
//! Readers and writers never wait (promise 3): a refresh takes on the view what any UPDATE takes, on the sources what
//! any SELECT takes, and a lock of its own that only other refreshes of the same view want.

mod choice;
mod entrance;
mod explain;
pub mod progress;
mod step;
mod wave;

pub use entrance::{lock_level, prepare};
pub use explain::explain;

use crate::capture;
use crate::catalog::stream_table;
use crate::pg::{names, snapshot};
use pgrx::pg_sys;
use wave::Member;

/// Who asked for a refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Initiator {
    Manual,
    /// First population at creation.
    Initial,
    Scheduler,
}

impl Initiator {
    /// As written in the history.
    pub fn as_str(self) -> &'static str {
        match self {
            Initiator::Manual => "MANUAL",
            Initiator::Initial => "INITIAL",
            Initiator::Scheduler => "SCHEDULER",
        }
    }
}

/// What a refresh did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing was pending.
    NoData,
    /// Only what changed was computed.
    Differential,
    /// The whole contents were computed and compared, or written for the first time.
    Full,
    /// As Full, because the stored state could not be trusted or continued (TRUNCATE, changed definition, ...).
    Reinitialize,
}

impl Action {
    /// As written in the history.
    pub fn as_str(self) -> &'static str {
        match self {
            Action::NoData => "NO_DATA",
            Action::Differential => "DIFFERENTIAL",
            Action::Full => "FULL",
            Action::Reinitialize => "REINITIALIZE",
        }
    }
}

/// Result of refreshing one view.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    pub action: Action,
    pub inserted: u64,
    pub updated: u64,
    pub deleted: u64,
}

/// Refreshes `view` and its stale ancestors in the current transaction; returns what happened to `view` itself.
///
/// The caller has checked that the user may refresh it.
pub fn refresh(view: pg_sys::Oid, initiator: Initiator) -> Outcome {
    let wave = wave::lock(&[view]);
    capture::trim(wave.iter().flat_map(Member::sources));
    wave.iter().for_each(Member::pin);
    snapshot::with_wave(|snapshot| {
        let mut outcome = None;
        for member in &wave {
            outcome = Some(step::run(member, Some(view), snapshot, initiator, None));
        }
        outcome.expect("a wave ends with the view itself")
    })
}

/// Refreshes these views, populated ones, and all they read, as the scheduler wants it. False, with nothing done: one of
/// them is not what it was.
pub fn scheduled(views: &[pg_sys::Oid]) -> bool {
    for &view in views {
        progress::set(view);
        names::lock(view, pg_sys::RowExclusiveLock);
        if !stream_table::exists(view) {
            return false;
        }
    }
    let wave = wave::lock(views);
    if wave.iter().any(|member| member.row.frontier.is_none()) {
        return false;
    }
    capture::trim(wave.iter().flat_map(Member::sources));
    snapshot::with_wave(|snapshot| {
        for member in &wave {
            step::run(member, None, snapshot, Initiator::Scheduler, None);
        }
    });
    true
}
