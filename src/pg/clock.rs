//! The server's clocks, in microseconds since 2000.

use pgrx::pg_sys;

/// Now.
pub fn now() -> pg_sys::TimestampTz {
    // SAFETY: reads the system clock.
    unsafe { pg_sys::GetCurrentTimestamp() }
}

/// When the client's statement arrived.
pub fn statement_start() -> pg_sys::TimestampTz {
    // SAFETY: reads a static.
    unsafe { pg_sys::GetCurrentStatementStartTimestamp() }
}
