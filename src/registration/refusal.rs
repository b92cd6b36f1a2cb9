//! A query that cannot be a stream table, or not an incremental one, as an error (promise 7).

use super::options::unsupported;
use crate::circuit::Refusal;
use crate::pg::names;
use pgrx::pg_sys;

/// `CODE: sentence`, as shown by explain_refresh_mode.
pub fn text(refusal: &Refusal) -> String {
    format!("{}: {}", refusal.code, refusal.detail)
}

/// The code in such a text.
pub fn code(text: &str) -> &str {
    text.split(':').next().unwrap_or_default()
}

pub fn raise(view: pg_sys::Oid, refusal: &Refusal) -> ! {
    let how = if refusal.is_fatal() { "as a stream table" } else { "incrementally" };
    unsupported(&format!("query of \"{}\" cannot be maintained {how}", names::display(view)))
        .detail(format!("{} Reason code: {}.", refusal.detail, refusal.code))
        .hint(refusal.hint.clone())
        .raise()
}
