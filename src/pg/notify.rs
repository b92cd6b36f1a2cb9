//! NOTIFY.

use super::server;
use std::ffi::{CStr, CString};

/// Sent when the transaction commits. What cannot be sent whole is cut: the server refuses longer payloads.
pub fn notify(channel: &CStr, payload: &str) {
    const LONGEST: usize = 7999;
    let end = payload.floor_char_boundary(LONGEST);
    let payload = CString::new(payload[..end].replace('\0', "")).expect("no NUL is left");
    let text = payload.as_ptr();
    // SAFETY: NUL-terminated; the server copies both. The payload's destructor runs outside the guard.
    unsafe { server::guarded(|| server::Async_Notify(channel.as_ptr(), text)) };
}
