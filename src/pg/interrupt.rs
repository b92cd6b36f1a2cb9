//! CHECK_FOR_INTERRUPTS: a cancel, a timeout or the end of the session is heard at these calls.
//!
//! Whatever loops over rows, copies of a row, pages or catalog entries calls one of them each time round: a check is
//! one load and a branch that is not taken. The server's own routines make theirs, but not all of them do for every
//! row, and none can for a loop around it.
//!
//! No check stands where a buffer is locked. The server holds interrupts off while it has a lightweight lock, so a
//! check there would be without effect, not wrong.

use super::server;
use pgrx::pg_sys;

#[inline(always)]
fn is_pending() -> bool {
    // SAFETY: a flag of this process. A signal handler sets it at any moment, so it is read anew each time.
    unsafe { std::ptr::read_volatile(&raw const pg_sys::InterruptPending) != 0 }
}

/// Raises the error of a cancel, if one is pending. The error unwinds our frames.
#[inline(always)]
pub fn check() {
    if is_pending() {
        process();
    }
}

/// The same inside a guard, where the error leaves by a longjmp.
///
/// # Safety
/// Inside a guard; no frame between here and the guard has a destructor to run.
#[inline(always)]
pub unsafe fn check_inside_guard() {
    if is_pending() {
        // SAFETY: the error jumps over frames without destructors, as the caller says, to a guard that exists.
        unsafe { server::ProcessInterrupts() };
    }
}

#[cold]
fn process() {
    // SAFETY: guarded; raises or returns.
    unsafe { pg_sys::ProcessInterrupts() };
}
