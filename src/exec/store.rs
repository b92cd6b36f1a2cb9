//! A keyed store: a table whose rows are found by key, and written by the server's own routines (heap, indexes, TOAST).
//!
//! A view is one, and so is the state of an operator. The contract:
//! 1. Nobody else writes to the table: the refresh holds a lock that conflicts with itself. Readers are never in the way.
//! 2. A search shows the table as the snapshot given to `open` does, so nothing that is written here. Hence each stored row is
//!    updated or deleted once at most, and no row is met twice.
//! 3. A [`Search`] goes by equality with the key columns of an index (`index`, `index_on`), or visits all rows. Over an index
//!    on a hash, what it finds are candidates, which the caller compares.
//! 4. All indexes get their entries, and unique ones raise. An update that leaves indexed columns alone and fits
//!    on its page needs none.
//! 5. After `expect_many`, rows are stored by the page, at `end` at the latest, and new versions may go to pages that keep room for
//!    the next ones (store/bulk.rs). The other points hold all the same.
//! 6. Any memory context may be the current one. What lives from call to call is in the store's executor state, a child of the
//!    context at `open`, as is what index expressions leave behind for a row.
//! 7. `end` closes the table, whose lock is kept. After an error nothing has to be done: resource owners and the context go.
//!
//! The executor state has the table as its one range table entry, so that no plan needs to mention the table.

mod batch;
mod bulk;
mod search;

pub use batch::Batch;
pub use bulk::MANY;
pub use search::Search;

use crate::error;
use crate::pg::slot::Slot;
use crate::pg::{interrupt, list, memory, node};
use bulk::Bulk;
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

/// An open table.
pub struct Store {
    table: pg_sys::Relation,
    estate: *mut pg_sys::EState,
    result: *mut pg_sys::ResultRelInfo,
    snapshot: pg_sys::Snapshot,
    /// None until something is written.
    command: Option<pg_sys::CommandId>,
    /// Of `append`; null until it is used.
    appending: *mut pg_sys::BulkInsertStateData,
    /// None while rows are written one by one.
    bulk: Option<Bulk>,
    pub counters: Counters,
}

impl Store {
    /// Opens the table. `kept` are the columns (0-based) whose values updates leave alone, which is a hint to indexes.
    ///
    /// # Safety
    /// `snapshot` is registered or active until `end`.
    pub unsafe fn open(table: pg_sys::Oid, snapshot: pg_sys::Snapshot, kept: &[usize]) -> Self {
        // SAFETY: table_open raises or returns an open relation; the executor state is a child of the current context.
        unsafe {
            let table = pg_sys::table_open(table, pg_sys::RowExclusiveLock as i32);
            let estate = pg_sys::CreateExecutorState();
            let result: *mut pg_sys::ResultRelInfo = node::make(pg_sys::NodeTag::T_ResultRelInfo);
            memory::within((*estate).es_query_cxt, || init_range_table(estate, table, kept));
            pg_sys::InitResultRelInfo(result, table, 1, std::ptr::null_mut(), 0);
            pg_sys::ExecOpenIndices(result, false);
            let (appending, counters) = (std::ptr::null_mut(), Counters::default());
            Self { table, estate, result, snapshot, command: None, appending, bulk: None, counters }
        }
    }

    pub fn oid(&self) -> pg_sys::Oid {
        // SAFETY: open until `end`.
        unsafe { (*self.table).rd_id }
    }

    pub fn desc(&self) -> pg_sys::TupleDesc {
        // SAFETY: open until `end`.
        unsafe { (*self.table).rd_att }
    }

    /// One of our own tables, not a view.
    pub fn is_internal(&self) -> bool {
        // SAFETY: open until `end`.
        unsafe { (*(*self.table).rd_rel).relkind as u8 == pg_sys::RELKIND_RELATION }
    }

    /// The table's indexes, all open.
    pub fn indexes(&self) -> &[pg_sys::Relation] {
        // SAFETY: the array has ri_NumIndices open relations; null when there are none.
        unsafe {
            match (*self.result).ri_NumIndices {
                0 => &[],
                count => std::slice::from_raw_parts((*self.result).ri_IndexRelationDescs, count as usize),
            }
        }
    }

    /// The index of this oid, if the table has it.
    pub fn index(&self, oid: pg_sys::Oid) -> Option<pg_sys::Relation> {
        // SAFETY: open indexes.
        self.indexes().iter().copied().find(|&index| unsafe { (*index).rd_id } == oid)
    }

    /// The index over exactly these columns (attribute numbers, in order), if the table has one.
    pub fn index_on(&self, columns: &[i16]) -> Option<pg_sys::Relation> {
        // SAFETY: open indexes, which have indnkeyatts columns.
        self.indexes().iter().copied().find(|&index| unsafe {
            let form = &*(*index).rd_index;
            form.indkey.values.as_slice(form.indnkeyatts as usize) == columns
        })
    }

    /// Rows stored, as of the last VACUUM or ANALYZE.
    pub fn estimated_rows(&self) -> Option<u64> {
        // SAFETY: open until `end`.
        let rows = unsafe { (*(*self.table).rd_rel).reltuples };
        (rows >= 0.0).then_some(rows as u64)
    }

    /// Rows stored: as of the last VACUUM or ANALYZE, or what the table's size makes likely.
    pub fn stored_rows(&self) -> f64 {
        self.estimated_rows().map_or_else(|| self.likely_rows(), |rows| rows as f64).max(1.0)
    }

    fn likely_rows(&self) -> f64 {
        let (mut pages, mut rows, mut visible) = (0, 0.0, 0.0);
        // SAFETY: an open table. As the planner estimates it.
        unsafe { pg_sys::estimate_rel_size(self.table, std::ptr::null_mut(), &mut pages, &mut rows, &mut visible) };
        rows
    }

    /// Calls `each` with every stored row.
    pub fn scan(&self, mut each: impl FnMut(Slot)) {
        // SAFETY: an open table; the slot fits it.
        unsafe {
            let slot = Slot::make(self.desc(), pg_sys::table_slot_callbacks(self.table));
            let scan = pg_sys::table_beginscan(self.table, self.snapshot, 0, std::ptr::null_mut());
            while pg_sys::table_scan_getnextslot(scan, pg_sys::ScanDirection::ForwardScanDirection, slot.as_ptr()) {
                interrupt::check();
                each(slot);
            }
            pg_sys::table_endscan(scan);
            slot.drop();
        }
    }

    /// Of what is written here.
    fn command(&mut self) -> pg_sys::CommandId {
        // SAFETY: reads the transaction's state, and notes that the command writes.
        *self.command.get_or_insert_with(|| unsafe { pg_sys::GetCurrentCommandId(true) })
    }

    /// Adds a row.
    ///
    /// # Safety
    /// The slot holds a row of the table's descriptor.
    pub unsafe fn insert(&mut self, slot: Slot) {
        self.counters.inserted += 1;
        // SAFETY: an open table and a row of it; all indexes are open.
        unsafe {
            if let Some(bulk) = self.bulk.take() {
                return self.enqueue(bulk, slot.row((*self.desc()).natts as usize));
            }
            let (command, none) = (self.command(), std::ptr::null_mut());
            pg_sys::table_tuple_insert(self.table, slot.as_ptr(), command, 0, none);
            self.insert_index_tuples(slot, false, false);
        }
    }

    /// Stores rows of a batch.
    ///
    /// # Safety
    /// As `insert`.
    unsafe fn insert_batch(&mut self, slots: &mut [*mut pg_sys::TupleTableSlot]) {
        let (count, command, none) = (slots.len() as i32, self.command(), std::ptr::null_mut());
        // SAFETY: an open table and rows of it.
        unsafe {
            pg_sys::table_multi_insert(self.table, slots.as_mut_ptr(), count, command, 0, none);
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
    /// As `insert`; `tid` was found by a search or a scan of this store.
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
    unsafe fn update_in_place(&mut self, mut tid: pg_sys::ItemPointerData, slot: Slot) {
        let mut failure = pg_sys::TM_FailureData::default();
        let (mut lock, mut indexes) = (0, pg_sys::TU_UpdateIndexes::TU_None);
        let (command, none) = (self.command(), std::ptr::null_mut());
        // SAFETY: an open table, a visible row of it and a new version.
        unsafe {
            let outcome = pg_sys::table_tuple_update(
                self.table,
                &mut tid,
                slot.as_ptr(),
                command,
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

    /// Removes the stored row at `tid`.
    ///
    /// # Safety
    /// `tid` was found by a search or a scan of this store.
    pub unsafe fn delete(&mut self, tid: pg_sys::ItemPointerData) {
        self.counters.deleted += 1;
        // SAFETY: as the caller says.
        unsafe { self.remove(tid) };
    }

    /// # Safety
    /// As `delete`.
    unsafe fn remove(&mut self, mut tid: pg_sys::ItemPointerData) {
        let mut failure = pg_sys::TM_FailureData::default();
        let (command, none) = (self.command(), std::ptr::null_mut());
        // SAFETY: an open table and a visible row of it.
        let outcome = unsafe {
            pg_sys::table_tuple_delete(self.table, &mut tid, command, self.snapshot, none, true, &mut failure, false)
        };
        self.expect_ok(outcome);
    }

    /// Appends rows to a table nobody can see yet, without index entries.
    ///
    /// # Safety
    /// The slots hold rows of the table's descriptor.
    unsafe fn append(&mut self, slots: &mut [*mut pg_sys::TupleTableSlot]) {
        // SAFETY: an open table and rows of it. A ring buffer keeps population from flushing the cache, as in REFRESH.
        unsafe {
            if self.appending.is_null() {
                let context = (*self.estate).es_query_cxt;
                self.appending = memory::within(context, || pg_sys::GetBulkInsertState());
            }
            let (options, command) = (pg_sys::TABLE_INSERT_SKIP_FSM as i32, self.command());
            pg_sys::table_multi_insert(
                self.table,
                slots.as_mut_ptr(),
                slots.len() as i32,
                command,
                options,
                self.appending,
            );
        }
    }

    /// Appends rows to a table nobody can see yet.
    ///
    /// # Safety
    /// As `insert`.
    pub unsafe fn populate(&mut self, slots: &mut [*mut pg_sys::TupleTableSlot]) {
        self.counters.inserted += slots.len() as u64;
        // SAFETY: as the caller says.
        unsafe {
            self.append(slots);
            self.index_batch(slots);
        }
    }

    /// All rows of `populate` are in.
    pub fn finish_append(&self) {
        // SAFETY: an open table.
        unsafe { pg_sys::table_finish_bulk_insert(self.table, pg_sys::TABLE_INSERT_SKIP_FSM as i32) };
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
                memory::reset((*context).ecxt_per_tuple_memory);
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
        error::cannot_happen(format!("a row found in \"{}\" cannot be changed (code {outcome})", self.name()))
    }

    pub fn name(&self) -> String {
        // SAFETY: an open relation.
        unsafe { pgrx::name_data_to_str(&(*(*self.table).rd_rel).relname).to_owned() }
    }

    /// Closes the table, keeping its lock.
    pub fn end(&mut self) {
        self.end_bulk();
        // SAFETY: ended once; nothing uses the table's slots any more.
        unsafe {
            if !self.appending.is_null() {
                pg_sys::FreeBulkInsertState(self.appending);
            }
            pg_sys::ExecCloseIndices(self.result);
            pg_sys::FreeExecutorState(self.estate);
            pg_sys::table_close(self.table, pg_sys::NoLock as i32);
        }
    }
}

/// One entry for the table, so that index maintenance can ask which columns updates change.
unsafe fn init_range_table(estate: *mut pg_sys::EState, table: pg_sys::Relation, kept: &[usize]) {
    // SAFETY: plain node construction over an open relation.
    unsafe {
        let entry: *mut pg_sys::RangeTblEntry = node::make(pg_sys::NodeTag::T_RangeTblEntry);
        (*entry).rtekind = pg_sys::RTEKind::RTE_RELATION;
        (*entry).relid = (*table).rd_id;
        (*entry).relkind = (*(*table).rd_rel).relkind;
        (*entry).rellockmode = pg_sys::RowExclusiveLock as i32;
        let mut permissions = std::ptr::null_mut();
        let info = pg_sys::addRTEPermissionInfo(&mut permissions, entry);
        for column in (0..(*(*table).rd_att).natts).filter(|&column| !kept.contains(&(column as usize))) {
            let member = column + 1 - pg_sys::FirstLowInvalidHeapAttributeNumber;
            (*info).updatedCols = pg_sys::bms_add_member((*info).updatedCols, member);
        }
        pg_sys::ExecInitRangeTable(estate, list::make([entry]), permissions, pg_sys::bms_make_singleton(1));
    }
}
