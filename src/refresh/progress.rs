//! How far this process is with its refresh: what a failure is put down to, and what others see of it.

use super::Initiator;
use crate::pg::progress::{self, Phase, Shown};
use pgrx::pg_sys;
use std::cell::Cell;

thread_local!(static CURRENT: Cell<pg_sys::Oid> = const { Cell::new(pg_sys::InvalidOid) });

const INITIATORS: [Initiator; 3] = [Initiator::Manual, Initiator::Initial, Initiator::Scheduler];

/// A refresh begins, and is shown as long as the result lives.
pub fn begin(initiator: Initiator) -> Shown {
    forget();
    progress::begin(initiator as u8)
}

/// Who began a refresh that is shown.
pub fn initiator(state: &progress::State) -> Initiator {
    INITIATORS[usize::from(state.initiator())]
}

/// No view is worked on.
pub fn forget() {
    CURRENT.set(pg_sys::InvalidOid);
}

/// Its locks are waited for.
pub fn locking(view: pg_sys::Oid) {
    CURRENT.set(view);
    progress::view(view);
}

/// Its contents are brought up to date.
pub fn refreshing(view: pg_sys::Oid) {
    locking(view);
    progress::phase(Phase::Planning, None);
}

/// The view last worked on.
pub fn current() -> pg_sys::Oid {
    CURRENT.get()
}
