//! A refresh: from snapshot to new contents, as named steps (DESIGN section 7).
//!
//! Refreshing a view first refreshes every stale upstream stream table, in topological order, in the same transaction
//! at the same snapshot: diamonds agree, and the view equals its query expanded down to base tables (promise 1).
//!
//! 1. [`wave`]: collect the view's ancestors and the views with snapshot consistency that rest on any of them, lock them against other refreshes, lock the sources.
//! 2. Take one snapshot, after the locks, so that no change can fall between.
//! 3. [`step`]: per view, as its owner: find what it holds and what is pending, choose delta or recompute, run the plan,
//!    move the frontier.
//!
//! Readers and writers never wait (promise 3): a refresh takes on the view what any UPDATE takes, on the sources what
//! any SELECT takes, and a lock of its own that only other refreshes of the same view want.

mod choice;
mod contents;
mod decide;
mod entrance;
mod entry;
mod explain;
mod midway;
mod pending;
mod perform;
mod preview;
pub mod progress;
mod scope;
mod step;
mod wave;

pub use entrance::{lock_level, prepare};
pub use explain::explain;
pub use midway::passes_over;

use crate::capture;
use crate::catalog::stream_table::{self, Status};
use crate::catalog::{history, version};
use crate::error::error;
use crate::exec::apply::Counters;
use crate::pg::{clock, elog, facts, names, progress as pg_progress, snapshot};
use crate::schedule::recompute::Work;
use crate::wakeup;
pub use contents::due;
use perform::Probe;
use pgrx::{PgSqlErrorCode, pg_sys};
use scope::Asked;
use wave::Member;

/// Who asked for a refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
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
#[derive(Clone, Debug)]
pub struct Outcome {
    pub action: Action,
    pub inserted: u64,
    pub updated: u64,
    pub deleted: u64,
    /// Why the contents could not be continued, of a Reinitialize: `CODE: sentence`. Else what rows of whole partitions or
    /// tables were among the changes.
    pub reason: Option<String>,
}

impl Outcome {
    /// Of a refresh that had nothing to do.
    pub fn nothing() -> Self {
        Self::new(Action::NoData, Counters::default())
    }

    fn new(action: Action, counters: Counters) -> Self {
        let Counters { inserted, updated, deleted } = counters;
        Self { action, inserted, updated, deleted, reason: None }
    }

    pub fn rows(&self) -> u64 {
        self.inserted + self.updated + self.deleted
    }
}

/// A view to be refreshed by schedule.
#[derive(Clone, Copy, Debug)]
pub struct Due {
    pub view: pg_sys::Oid,
    /// The first commit that it does not show, as far as known.
    pub unseen: Option<pg_sys::TimestampTz>,
}

/// A wave that was run.
pub struct Refreshed {
    /// Just before its snapshot: what was committed earlier, its views show.
    pub taken: pg_sys::TimestampTz,
    pub steps: Vec<Step>,
}

/// One view of it.
pub struct Step {
    pub view: pg_sys::Oid,
    pub outcome: Outcome,
    started: pg_sys::TimestampTz,
    ended: pg_sys::TimestampTz,
    /// When its contents were taken that this refresh replaced.
    before: Option<pg_sys::TimestampTz>,
}

impl Step {
    /// What was done, and how long a recompute took.
    pub fn work(&self) -> Work {
        match self.outcome.action {
            Action::NoData => Work::Nothing,
            Action::Differential => Work::Delta,
            Action::Full | Action::Reinitialize => Work::Recompute((self.ended - self.started).max(1)),
        }
    }
}

/// Refreshes `view`, its stale ancestors and the views with snapshot consistency that rest on any of them in the current
/// transaction; returns what happened to `view` itself.
///
/// The caller has checked that the user may refresh it.
pub fn refresh(view: pg_sys::Oid, initiator: Initiator) -> Outcome {
    let _shown = progress::begin(initiator);
    capture::repair::confirm_server();
    let wave = wave::lock(&[view]);
    capture::trim(wave.iter().flat_map(Member::sources));
    wave.iter().for_each(Member::pin);
    wave.iter().filter(|member| member.row.status == Status::Suspended).for_each(say_suspended);
    let refreshed = run(&wave, Some(view), None);
    record(&refreshed, initiator, &[]);
    let own = refreshed.steps.into_iter().find(|step| step.view == view);
    own.expect("the wave has the view itself").outcome
}

/// Refreshes these views, populated ones, all they read and all with snapshot consistency that rest on any of them, as the
/// scheduler wants it. None, with nothing done: one of
/// them, or the extension, is not what it was.
pub fn scheduled(due: &[Due]) -> Option<Refreshed> {
    let _shown = progress::begin(Initiator::Scheduler);
    // A lock that is not to be had is nobody's fault, and tried again.
    due.first().into_iter().for_each(|due| progress::locking(due.view));
    if version::keep().is_some() {
        return None;
    }
    for due in due {
        progress::locking(due.view);
        names::lock(due.view, pg_sys::RowExclusiveLock);
        if !stream_table::exists(due.view) {
            return None;
        }
    }
    capture::repair::confirm_server();
    let views: Vec<pg_sys::Oid> = due.iter().map(|due| due.view).collect();
    let wave = wave::lock(&views);
    if wave.iter().any(|member| member.row.frontier.is_none()) {
        return None;
    }
    capture::trim(wave.iter().flat_map(Member::sources));
    let refreshed = run(&wave, None, None);
    record(&refreshed, Initiator::Scheduler, due);
    Some(refreshed)
}

fn say_suspended(member: &Member) {
    let message = format!("materialized view \"{}\" is suspended", names::display(member.view));
    error(PgSqlErrorCode::ERRCODE_WARNING, message)
        .detail("This refresh brings it up to date. The scheduler goes on leaving it alone.")
        .hint("Use pgtrickle.resume_stream_table() to have it refreshed by schedule again.")
        .notice()
}

/// Brings the locked members, those that are read before those that read them, to one snapshot. `target` is the view the
/// user asked for, if any did; the probe is for that one.
fn run(wave: &[Member], target: Option<pg_sys::Oid>, mut probe: Option<&mut Probe>) -> Refreshed {
    let _turn = entrance::take_turn();
    pg_progress::members(wave.len());
    let taken = clock::now();
    let steps = snapshot::with_wave(|snapshot| {
        let step = |member: &Member| {
            let probe = probe.as_deref_mut().filter(|_| target == Some(member.view));
            let context = format!("refresh of materialized view \"{}\"", facts::relation_name(member.view));
            let refresh = || step::run(member, asked(member.view, target), snapshot, taken, probe);
            let step = elog::within(&context, refresh);
            pg_progress::view_done();
            step
        };
        wave.iter().map(step).collect()
    });
    Refreshed { taken, steps }
}

fn asked(view: pg_sys::Oid, target: Option<pg_sys::Oid>) -> Asked {
    match target {
        None => Asked::BySchedule,
        Some(target) if target == view => Asked::ByName,
        Some(_) => Asked::InCompany,
    }
}

/// Writes down what was done. The last thing in a scheduled wave, so that its commit is now.
fn record(wave: &Refreshed, initiator: Initiator, due: &[Due]) {
    let now = clock::now();
    for step in &wave.steps {
        if step.outcome.action == Action::NoData {
            // On disk, nothing remembers a refresh that had nothing to do.
            wakeup::view::count_noop(step.view);
            continue;
        }
        let unseen = due.iter().find(|due| due.view == step.view).and_then(|due| due.unseen);
        // If somebody has refreshed it by hand since, nobody knows of the first commit after that.
        let unseen = unseen.filter(|unseen| step.before.is_some_and(|before| before <= *unseen));
        history::record(&history::Refresh {
            view: step.view,
            data_timestamp: Some(wave.taken),
            started: step.started,
            ended: step.ended,
            commit_to_visible: unseen.map(|unseen| clock::milliseconds(unseen, now)),
            action: step.outcome.action.as_str(),
            status: "COMPLETED",
            initiated_by: initiator.as_str(),
            inserted: step.outcome.inserted,
            updated: step.outcome.updated,
            deleted: step.outcome.deleted,
            error: None,
            sqlstate: None,
            reason: step.outcome.reason.as_deref(),
        });
    }
}
