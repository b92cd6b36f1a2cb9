//! Why a delta is given up half-way: it removes what is not there, a wrong answer showing itself (promise 1) that is never
//! ignored; or it takes longer than computing the view anew.
//!
//! The node that finds so notes it and does no more; the run ends early without an error, for there is no coming back
//! from one without a subtransaction for every refresh. The refresh then computes the view anew, or raises, and in
//! either case nothing of the noted run stays. Notes are per process: runs do not nest.

use std::cell::RefCell;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// The delta does not fit the contents.
    Mismatch(String),
    /// More groups have to be recomputed than it is worth (`Run::most_groups`).
    TooDear,
}

thread_local!(static NOTED: RefCell<Option<Note>> = const { RefCell::new(None) });

/// Notes a mismatch; of several the first is kept.
pub fn note(what: impl Into<String>) {
    keep(|| Note::Mismatch(what.into()));
}

/// Notes that the delta is not worth it.
pub fn note_too_dear() {
    keep(|| Note::TooDear);
}

fn keep(note: impl FnOnce() -> Note) {
    NOTED.with_borrow_mut(|noted| {
        noted.get_or_insert_with(note);
    });
}

/// The run has nothing left to do.
#[inline]
pub fn is_noted() -> bool {
    NOTED.with_borrow(Option::is_some)
}

pub fn is_too_dear() -> bool {
    NOTED.with_borrow(|noted| *noted == Some(Note::TooDear))
}

/// Forgets it.
pub fn take() -> Option<Note> {
    NOTED.take()
}
