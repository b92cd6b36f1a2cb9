//! Native writes into a materialized view: heap, indexes, TOAST.
//!
//! The server's own executor routines do the work, on an executor state of our own which has the view as its one
//! range table entry (the refresh plan may not mention the view at all). Nobody else writes to the view: the refresh
//! holds a lock on it that conflicts with itself.

use super::bulk::Bulk;
use super::find::Finder;
use super::index::ApplyIndex;
use crate::error;
use crate::pg::slot::Slot;
use crate::pg::{interrupt, list, node};
use pgrx::{PgSqlErrorCode, pg_sys};

/// Rows written so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub inserted: u64,
    pub updated: u64,
    pub deleted: u64,
}

impl std::ops::Add for Counters {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            inserted: self.inserted + other.inserted,
            updated: self.updated + other.updated,
            deleted: self.deleted + other.deleted,
        }
    }
}

/// An open materialized view.
pub struct Writer {
    view: pg_sys::Relation,
    estate: *mut pg_sys::EState,
    result: *mut pg_sys::ResultRelInfo,
    snapshot: pg_sys::Snapshot,
    command: pg_sys::CommandId,
    /// Of `append`; null until it is used.
    appending: *mut pg_sys::BulkInsertStateData,
    /// None while rows are written one by one.
    pub(super) bulk: Option<Bulk>,
    pub counters: Counters,
}

impl Writer {
    /// Opens the view. `kept` are the columns (0-based) whose values updates leave alone, which is a hint to indexes.
    ///
    /// # Safety
    /// `snapshot` is registered or active until `end`.
    pub unsafe fn open(view: pg_sys::Oid, snapshot: pg_sys::Snapshot, kept: &[usize]) -> Self {
        // SAFETY: table_open raises or returns an open relation; the executor state is a child of the query's context.
        unsafe {
            let view = pg_sys::table_open(view, pg_sys::RowExclusiveLock as i32);
            let estate = pg_sys::CreateExecutorState();
            let result: *mut pg_sys::ResultRelInfo = node::make(pg_sys::NodeTag::T_ResultRelInfo);
            init_range_table(estate, view, kept);
            pg_sys::InitResultRelInfo(result, view, 1, std::ptr::null_mut(), 0);
            pg_sys::ExecOpenIndices(result, false);
            let command = pg_sys::GetCurrentCommandId(true);
            let (appending, counters) = (std::ptr::null_mut(), Counters::default());
            Self { view, estate, result, snapshot, command, appending, bulk: None, counters }
        }
    }

    pub fn oid(&self) -> pg_sys::Oid {
        // SAFETY: open until `end`.
        unsafe { (*self.view).rd_id }
    }

    pub(super) fn relation(&self) -> pg_sys::Relation {
        self.view
    }

    pub fn desc(&self) -> pg_sys::TupleDesc {
        // SAFETY: open until `end`.
        unsafe { (*self.view).rd_att }
    }

    /// The view's indexes, all open.
    pub fn indexes(&self) -> &[pg_sys::Relation] {
        // SAFETY: the array has ri_NumIndices open relations; null when there are none.
        unsafe {
            match (*self.result).ri_NumIndices {
                0 => &[],
                count => std::slice::from_raw_parts((*self.result).ri_IndexRelationDescs, count as usize),
            }
        }
    }

    /// A search for stored rows through `index`, or by scanning the view when that is gone.
    pub fn finder(&self, index: &ApplyIndex) -> Finder {
        // SAFETY: open indexes.
        let open = |oid| self.indexes().iter().copied().find(|&index| unsafe { (*index).rd_id } == oid);
        // SAFETY: view and indexes stay open until `end`.
        unsafe { Finder::new(self.view, self.snapshot, index, open) }
    }

    /// Rows stored, as of the last VACUUM or ANALYZE.
    pub fn estimated_rows(&self) -> Option<u64> {
        // SAFETY: open until `end`.
        let rows = unsafe { (*(*self.view).rd_rel).reltuples };
        (rows >= 0.0).then_some(rows as u64)
    }

    /// Rows stored: as of the last VACUUM or ANALYZE, or what the view's size makes likely.
    pub fn stored_rows(&self) -> f64 {
        self.estimated_rows().map_or_else(|| self.likely_rows(), |rows| rows as f64).max(1.0)
    }

    fn likely_rows(&self) -> f64 {
        let (mut pages, mut rows, mut visible) = (0, 0.0, 0.0);
        // SAFETY: an open view. As the planner estimates it.
        unsafe { pg_sys::estimate_rel_size(self.view, std::ptr::null_mut(), &mut pages, &mut rows, &mut visible) };
        rows
    }

    /// Calls `each` with every stored row.
    pub fn scan(&self, mut each: impl FnMut(Slot)) {
        // SAFETY: an open view; the slot fits it.
        unsafe {
            let slot = Slot::make(self.desc(), pg_sys::table_slot_callbacks(self.view));
            let scan = pg_sys::table_beginscan(self.view, self.snapshot, 0, std::ptr::null_mut());
            while pg_sys::table_scan_getnextslot(scan, pg_sys::ScanDirection::ForwardScanDirection, slot.as_ptr()) {
                interrupt::check();
                each(slot);
            }
            pg_sys::table_endscan(scan);
            slot.drop();
        }
    }

    /// # Safety
    /// The slot holds a row of the view's descriptor.
    pub unsafe fn insert(&mut self, slot: Slot) {
        self.counters.inserted += 1;
        // SAFETY: an open view and a row of it; all indexes are open.
        unsafe {
            if let Some(bulk) = self.bulk.take() {
                return self.enqueue(bulk, slot.row((*self.desc()).natts as usize));
            }
            pg_sys::table_tuple_insert(self.view, slot.as_ptr(), self.command, 0, std::ptr::null_mut());
            self.insert_index_tuples(slot, false, false);
        }
    }

    /// Stores rows of a batch.
    ///
    /// # Safety
    /// As `insert`.
    pub(super) unsafe fn insert_batch(&mut self, slots: &mut [*mut pg_sys::TupleTableSlot]) {
        let (count, none) = (slots.len() as i32, std::ptr::null_mut());
        // SAFETY: an open view and rows of it.
        unsafe {
            pg_sys::table_multi_insert(self.view, slots.as_mut_ptr(), count, self.command, 0, none);
            self.index_batch(slots);
        }
    }

    unsafe fn index_batch(&self, slots: &[*mut pg_sys::TupleTableSlot]) {
        if self.indexes().is_empty() {
            return;
        }
        for &slot in slots {
            interrupt::check();
            // SAFETY: the slot's row has just been stored.
            unsafe { self.insert_index_tuples(Slot::new(slot), false, false) };
        }
    }

    /// Replaces the stored row at `tid`.
    ///
    /// # Safety
    /// As `insert`; `tid` was found by a finder or a scan of this writer.
    pub unsafe fn update(&mut self, tid: pg_sys::ItemPointerData, slot: Slot) {
        self.counters.updated += 1;
        // SAFETY: as the caller says.
        unsafe {
            match self.bulk.take() {
                Some(bulk) => self.update_or_move(bulk, tid, slot),
                None => self.update_in_place(tid, slot),
            }
        }
    }

    /// The same by the server's update, which keeps the index entries when no indexed value changes (heap-only).
    ///
    /// # Safety
    /// As `update`.
    pub(super) unsafe fn update_in_place(&mut self, mut tid: pg_sys::ItemPointerData, slot: Slot) {
        let mut failure = pg_sys::TM_FailureData::default();
        let (mut lock, mut indexes) = (0, pg_sys::TU_UpdateIndexes::TU_None);
        let none = std::ptr::null_mut();
        // SAFETY: an open view, a visible row of it and a new version.
        unsafe {
            let outcome = pg_sys::table_tuple_update(
                self.view,
                &mut tid,
                slot.as_ptr(),
                self.command,
                self.snapshot,
                none,
                true,
                &mut failure,
                &mut lock,
                &mut indexes,
            );
            self.expect_ok(outcome);
            if indexes != pg_sys::TU_UpdateIndexes::TU_None {
                self.insert_index_tuples(slot, true, indexes == pg_sys::TU_UpdateIndexes::TU_Summarizing);
            }
        }
    }

    /// # Safety
    /// `tid` was found by a finder or a scan of this writer.
    pub unsafe fn delete(&mut self, tid: pg_sys::ItemPointerData) {
        self.counters.deleted += 1;
        // SAFETY: as the caller says.
        unsafe { self.remove(tid) };
    }

    /// # Safety
    /// As `delete`.
    pub(super) unsafe fn remove(&mut self, mut tid: pg_sys::ItemPointerData) {
        let mut failure = pg_sys::TM_FailureData::default();
        let none = std::ptr::null_mut();
        // SAFETY: an open view and a visible row of it.
        let outcome = unsafe {
            pg_sys::table_tuple_delete(
                self.view,
                &mut tid,
                self.command,
                self.snapshot,
                none,
                true,
                &mut failure,
                false,
            )
        };
        self.expect_ok(outcome);
    }

    /// Appends rows to a view nobody can see yet.
    ///
    /// # Safety
    /// The slots hold rows of the view's descriptor.
    pub unsafe fn append(&mut self, slots: &mut [*mut pg_sys::TupleTableSlot]) {
        // SAFETY: an open view and rows of it. A ring buffer keeps population from flushing the cache, as in REFRESH.
        unsafe {
            if self.appending.is_null() {
                self.appending = pg_sys::GetBulkInsertState();
            }
            let options = pg_sys::TABLE_INSERT_SKIP_FSM as i32;
            pg_sys::table_multi_insert(
                self.view,
                slots.as_mut_ptr(),
                slots.len() as i32,
                self.command,
                options,
                self.appending,
            );
            self.index_batch(slots);
        }
        self.counters.inserted += slots.len() as u64;
    }

    /// All rows of `append` are in.
    pub fn finish_append(&self) {
        // SAFETY: an open view.
        unsafe { pg_sys::table_finish_bulk_insert(self.view, pg_sys::TABLE_INSERT_SKIP_FSM as i32) };
    }

    unsafe fn insert_index_tuples(&self, slot: Slot, update: bool, only_summarizing: bool) {
        let none: *mut pg_sys::List = std::ptr::null_mut();
        // SAFETY: the slot's row has just been stored. Index expressions are evaluated in the per-tuple context.
        unsafe {
            pg_sys::ExecInsertIndexTuples(
                self.result,
                slot.as_ptr(),
                self.estate,
                update,
                false,
                none.cast(),
                none,
                only_summarizing,
            );
            let context = (*self.estate).es_per_tuple_exprcontext;
            if !context.is_null() {
                pg_sys::MemoryContextReset((*context).ecxt_per_tuple_memory);
            }
        }
    }

    fn expect_ok(&self, outcome: pg_sys::TM_Result::Type) {
        if outcome == pg_sys::TM_Result::TM_Ok {
            return;
        }
        // SAFETY: reads the isolation level.
        if unsafe { pg_sys::XactIsoLevel } >= pg_sys::XACT_REPEATABLE_READ as i32 {
            error::error(
                PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE,
                "could not serialize access due to a concurrent refresh",
            )
            .raise()
        }
        error::cannot_happen(format!(
            "a row found in materialized view \"{}\" cannot be changed (code {outcome})",
            self.name()
        ))
    }

    pub fn name(&self) -> String {
        // SAFETY: an open relation.
        unsafe { pgrx::name_data_to_str(&(*(*self.view).rd_rel).relname).to_owned() }
    }

    /// Closes the view, keeping its lock.
    pub fn end(&mut self) {
        self.end_bulk();
        // SAFETY: ended once; nothing uses the view's slots any more.
        unsafe {
            if !self.appending.is_null() {
                pg_sys::FreeBulkInsertState(self.appending);
            }
            pg_sys::ExecCloseIndices(self.result);
            pg_sys::FreeExecutorState(self.estate);
            pg_sys::table_close(self.view, pg_sys::NoLock as i32);
        }
    }
}

/// One entry for the view, so that index maintenance can ask which columns updates change.
unsafe fn init_range_table(estate: *mut pg_sys::EState, view: pg_sys::Relation, kept: &[usize]) {
    // SAFETY: plain node construction over an open relation.
    unsafe {
        let entry: *mut pg_sys::RangeTblEntry = node::make(pg_sys::NodeTag::T_RangeTblEntry);
        (*entry).rtekind = pg_sys::RTEKind::RTE_RELATION;
        (*entry).relid = (*view).rd_id;
        (*entry).relkind = (*(*view).rd_rel).relkind;
        (*entry).rellockmode = pg_sys::RowExclusiveLock as i32;
        let mut permissions = std::ptr::null_mut();
        let info = pg_sys::addRTEPermissionInfo(&mut permissions, entry);
        for column in (0..(*(*view).rd_att).natts).filter(|&column| !kept.contains(&(column as usize))) {
            let member = column + 1 - pg_sys::FirstLowInvalidHeapAttributeNumber;
            (*info).updatedCols = pg_sys::bms_add_member((*info).updatedCols, member);
        }
        pg_sys::ExecInitRangeTable(estate, list::make([entry]), permissions, pg_sys::bms_make_singleton(1));
    }
}
