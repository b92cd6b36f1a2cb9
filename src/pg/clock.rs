//! The server's clocks, in microseconds since 2000, and lengths of time in microseconds.

use super::node::cstring;
use super::server;
use pgrx::pg_sys;
use std::ffi::CStr;
use std::mem::{MaybeUninit, zeroed};

/// Now. Never raises.
pub fn now() -> pg_sys::TimestampTz {
    // SAFETY: reads the system clock.
    unsafe { server::GetCurrentTimestamp() }
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

/// As SQL shows it, by the settings of the session.
pub fn to_text(time: pg_sys::TimestampTz) -> String {
    // SAFETY: makes a string of its own.
    unsafe { CStr::from_ptr(pg_sys::timestamptz_to_str(time)) }.to_string_lossy().into_owned()
}

/// The time with this text, by the settings of the session. None: it is none.
pub fn parse(text: &str) -> Option<pg_sys::TimestampTz> {
    read(Some(server::timestamptz_in), text).map(|time| time.value() as pg_sys::TimestampTz)
}

/// From one to the other.
pub fn milliseconds(from: pg_sys::TimestampTz, to: pg_sys::TimestampTz) -> f64 {
    (to - from) as f64 / 1000.0
}

const MICROSECONDS_PER_DAY: i64 = 86_400_000_000;
const DAYS_PER_MONTH: i64 = 30;

/// The length of what the server's interval type reads (`5 minutes`, `01:30:00`, `PT1H`); as in justify_interval, a day
/// counts as 24 hours and a month as 30 days. None: the text is no interval.
pub fn interval(text: &str) -> Option<i64> {
    // SAFETY: where the input function succeeds, its result points to an Interval in the current memory context.
    let interval = unsafe { *read(Some(server::interval_in), text)?.cast_mut_ptr::<pg_sys::Interval>() };
    let days = i64::from(interval.month) * DAYS_PER_MONTH + i64::from(interval.day);
    Some(interval.time.saturating_add(days.saturating_mul(MICROSECONDS_PER_DAY)))
}

/// What the input function of a type makes of a text; None: the text is no value of the type.
fn read(input: pg_sys::PGFunction, text: &str) -> Option<pg_sys::Datum> {
    let mut value = MaybeUninit::<pg_sys::Datum>::uninit();
    // SAFETY: called as the server calls an input function that may report softly.
    unsafe {
        let mut context = pg_sys::ErrorSaveContext { type_: pg_sys::NodeTag::T_ErrorSaveContext, ..zeroed() };
        let read = pg_sys::DirectInputFunctionCallSafe(
            input,
            cstring(text),
            pg_sys::InvalidOid,
            -1,
            (&raw mut context).cast(),
            value.as_mut_ptr(),
        );
        read.then(|| value.assume_init())
    }
}
