//! Change buffers that have grown larger than what they are about: some view is not refreshed, or cannot be.

use crate::catalog::source;
use crate::pg::storage;
use pgrx::pg_sys;

/// A change buffer beyond its limit.
pub struct Grown {
    pub source: pg_sys::Oid,
    pub bytes: u64,
    pub limit: u64,
}

/// Small buffers are nobody's concern.
const LEAST: u64 = 8 << 20;

/// Bytes that the change buffer of a source of that size may have: to read more than the source costs more than to
/// recompute.
pub fn buffer_limit(source_bytes: u64) -> u64 {
    source_bytes.max(LEAST)
}

/// The buffers beyond their limits. Waits for nobody: sources that somebody has locked are left out.
pub fn grown_buffers() -> Vec<Grown> {
    let grown = |source: source::Source| {
        let bytes = bytes_of(&source.segments)?;
        if bytes <= LEAST {
            return None;
        }
        let limit = buffer_limit(bytes_of(&source.members)?);
        (bytes > limit).then_some(Grown { source: source.relid, bytes, limit })
    };
    source::all().into_iter().filter_map(grown).collect()
}

fn bytes_of(tables: &[pg_sys::Oid]) -> Option<u64> {
    tables.iter().map(|table| storage::bytes_now(*table)).sum()
}
