//! The pending changes of a relation, whatever it is: a source's are in its change buffer, those of a hidden relation are the delta of
//! the block below (`block_delta`).

use super::block_delta::BlockDeltaScan;
use super::run::Run;
use super::weighted::Layout;
use crate::capture::scan::BufferScan;
use crate::pg::memory::within;
use crate::pg::slot::Slot;
use pgrx::pg_sys;

/// A scan of them, in the columns of the relation.
pub struct ChangeScan {
    from: From,
    /// Holds the current version; of a block's delta with its weight behind it.
    version: Slot,
    columns: usize,
}

#[expect(clippy::large_enum_variant, reason = "there is one in a node")]
enum From {
    Buffer(BufferScan),
    Block(BlockDeltaScan),
}

impl ChangeScan {
    /// Of the relation `source`, whose rows are described by `desc`.
    ///
    /// # Safety
    /// The executor belongs to a refresh and outlives the scan, as does the descriptor.
    pub unsafe fn begin(source: pg_sys::Oid, desc: pg_sys::TupleDesc, estate: *mut pg_sys::EState) -> Self {
        // SAFETY: by contract; what is made here lives as long as the query.
        unsafe { within((*estate).es_query_cxt, || Self::begin_here(source, desc, estate)) }
    }

    unsafe fn begin_here(source: pg_sys::Oid, desc: pg_sys::TupleDesc, estate: *mut pg_sys::EState) -> Self {
        // SAFETY: as `begin` says.
        unsafe {
            let run = Run::of(estate).expect("changes are read inside a refresh");
            let (from, of_versions) = match run.deltas.and_then(|deltas| deltas.scan(source)) {
                Some(scan) => {
                    let desc = scan.desc();
                    (From::Block(scan), desc)
                }
                None => (From::Buffer(BufferScan::begin(source, run.frontier, run.snapshot.as_ptr())), desc),
            };
            let version = pg_sys::ExecInitExtraTupleSlot(estate, of_versions, &raw const pg_sys::TTSOpsMinimalTuple);
            Self { from, version: Slot::new(version), columns: (*desc).natts as usize }
        }
    }

    /// Goes on to the next version; its weight.
    #[inline]
    pub fn next(&mut self) -> Option<i64> {
        match &mut self.from {
            From::Buffer(scan) => scan.next().map(|(tuple, weight)| {
                // SAFETY: a slot for minimal tuples; the tuple stays until the next is asked for.
                unsafe { self.version.store_minimal(tuple) };
                weight
            }),
            From::Block(scan) => scan.next(self.version).then(|| Layout::of(self.columns).split(&self.version).1),
        }
    }

    /// The version at hand: columns of the relation, and maybe more.
    pub fn version(&self) -> Slot {
        self.version
    }

    pub fn rescan(&mut self) {
        match &mut self.from {
            From::Buffer(scan) => scan.rescan(),
            From::Block(scan) => scan.rescan(),
        }
    }

    pub fn end(self) {
        if let From::Buffer(scan) = self.from {
            scan.end();
        }
    }
}
