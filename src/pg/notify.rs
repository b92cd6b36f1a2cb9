//! NOTIFY.

use super::server;
use crate::error::cannot_happen;
use pgrx::pg_sys;
use std::ffi::{CStr, CString};

/// The part of the queue that may be in use when something is added to it.
const FULLEST: f64 = 0.75;

/// Sent when the transaction commits. What cannot be sent whole is cut: the server refuses longer payloads. While the queue is
/// nearly full nothing is sent: once it is full every transaction that notifies fails, and any user can fill it by listening in a
/// transaction that does not end.
pub fn notify(channel: &CStr, payload: &str) {
    if usage() > FULLEST {
        return;
    }
    const LONGEST: usize = 7999;
    let end = payload.floor_char_boundary(LONGEST);
    let payload = CString::new(payload[..end].replace('\0', "")).expect("no NUL is left");
    let text = payload.as_ptr();
    // SAFETY: NUL-terminated; the server copies both. The payload's destructor runs outside the guard.
    unsafe { server::guarded(|| server::Async_Notify(channel.as_ptr(), text)) };
}

/// The part of the queue of the whole server that is in use.
fn usage() -> f64 {
    // SAFETY: a function of the server without arguments, which never returns NULL.
    unsafe { pgrx::direct_function_call(pg_sys::pg_notification_queue_usage, &[]) }
        .unwrap_or_else(|| cannot_happen("the use of the notification queue is not known"))
}
