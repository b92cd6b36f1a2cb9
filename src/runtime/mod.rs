//! The processes that refresh views by themselves; src/runtime/README.md tells how they work together.
//!
//! * [`launcher`]: one per server. Keeps a scheduler running in every database that has the extension.
//! * [`scheduler`]: one per database. Learns what changed (`wakeup`), decides what is due (`schedule`), hands out waves.
//!   [`views`] is what it knows of the stream tables, [`pool`] of its workers.
//! * [`worker`]: refreshes one wave after the other; [`failure`] says what becomes of one that fails.
//! * [`alert`]: notifications, which only these processes send; [`watch`] is about what goes wrong without a failure.
//! * [`caretaker`]: keeps capture complete.

mod alert;
mod caretaker;
mod catalog;
mod failure;
mod launcher;
mod pool;
mod scheduler;
mod views;
mod watch;
mod worker;

pub use catalog::{Schedules, rests_until};

/// Has the server start the launcher; called once, in the postmaster.
pub fn register() {
    launcher::register();
}
