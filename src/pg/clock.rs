//! The server's clocks, in microseconds since 2000.

use pgrx::pg_sys;

/// Now.
pub fn now() -> pg_sys::TimestampTz {
    // SAFETY: reads the system clock.
    unsafe { pg_sys::GetCurrentTimestamp() }
}

/// When the server was started.
pub fn server_start() -> pg_sys::TimestampTz {
    // SAFETY: set once by the postmaster.
    unsafe { pg_sys::PgStartTime }
}

/// When the client's statement arrived.
pub fn statement_start() -> pg_sys::TimestampTz {
    // SAFETY: reads a static.
    unsafe { pg_sys::GetCurrentStatementStartTimestamp() }
}

/// From one to the other.
pub fn milliseconds(from: pg_sys::TimestampTz, to: pg_sys::TimestampTz) -> f64 {
    (to - from) as f64 / 1000.0
}
