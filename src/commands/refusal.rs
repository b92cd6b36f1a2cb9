//! A query that cannot be a stream table, or not an incremental one, as an error (promise 7).

use super::options::unsupported;
use crate::circuit::Refusal;

/// `CODE: sentence`, as shown by explain_refresh_mode.
pub fn text(refusal: &Refusal) -> String {
    format!("{}: {}", refusal.code, refusal.detail)
}

pub fn raise(refusal: &Refusal) -> ! {
    let message = match refusal.fatal {
        true => "query cannot be maintained as a stream table",
        false => "query cannot be maintained incrementally",
    };
    unsupported(message).detail(format!("{} Reason code: {}.", refusal.detail, refusal.code)).hint(refusal.hint).raise()
}
