//! The server's guard against recursion that is too deep.

use pgrx::pg_sys;

/// To be called by every function that calls itself, directly or by way of others, over something as deep as its user likes:
/// raises before the process runs out of stack, with the hint to increase max_stack_depth.
#[inline]
pub fn check() {
    // SAFETY: looks at the stack pointer; raises when it is too far away.
    unsafe { pg_sys::check_stack_depth() };
}

/// As `check`, with as much to spare as undoing a subtransaction takes.
#[inline(never)]
pub fn check_room() {
    let room = [0u8; 64 * 1024];
    check();
    std::hint::black_box(&room);
}
