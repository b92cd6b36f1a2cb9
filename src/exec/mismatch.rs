//! A delta that removes what is not there: a wrong answer showing itself (promise 1), never ignored.
//!
//! The node that finds one notes it and does no more; the run ends early without an error, for there is no coming back
//! from one without a subtransaction for every refresh. The refresh then computes the view anew, or raises, and in
//! either case nothing of the noted run stays. Notes are per process: runs do not nest.

use std::cell::RefCell;

thread_local!(static NOTED: RefCell<Option<String>> = const { RefCell::new(None) });

/// What was found; of several the first is kept.
pub fn note(what: impl Into<String>) {
    NOTED.with_borrow_mut(|noted| {
        noted.get_or_insert_with(|| what.into());
    });
}

/// The run has nothing left to do.
#[inline]
pub fn is_noted() -> bool {
    NOTED.with_borrow(Option::is_some)
}

/// Forgets it.
pub fn take() -> Option<String> {
    NOTED.take()
}
