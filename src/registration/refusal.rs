//! A query that cannot be a stream table, or not an incremental one, as an error (promise 7).

use super::options::unsupported;
use crate::circuit::{Circuit, Refusal};
use crate::pg::names;
use pgrx::pg_sys;

/// `CODE: sentence`, as shown by explain_refresh_mode.
pub fn text(refusal: &Refusal) -> String {
    format!("{}: {}", refusal.code, refusal.detail)
}

/// The same of a view some of whose blocks are recomputed.
pub fn text_of_blocks(circuit: &Circuit, gravest: &Refusal) -> String {
    let numbers: Vec<String> =
        circuit.blocks.iter().filter(|block| block.fallback().is_some()).map(|block| block.id.0.to_string()).collect();
    let which = match &numbers[..] {
        [one] => format!("Block {one} is"),
        several => format!("Blocks {} are", several.join(", ")),
    };
    format!("{} {which} recomputed, the others of {} are not.", text(gravest), circuit.blocks.len())
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
