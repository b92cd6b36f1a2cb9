//! Searching a store: the rows that equal given values in the columns of an index, or all rows.

use super::Store;
use crate::error;
use crate::pg::interrupt;
use crate::pg::memory::within;
use crate::pg::slot::Slot;
use pgrx::pg_sys::{self, Datum, NullableDatum};

/// A search that can be started again and again. It shows the store at the store's snapshot, and ends before the store does.
pub struct Search {
    table: pg_sys::Relation,
    snapshot: pg_sys::Snapshot,
    /// What a scan keeps from call to call lives here, whatever the caller's context is.
    context: pg_sys::MemoryContext,
    how: How,
    /// The row found.
    found: Slot,
}

enum How {
    /// One key for each column of the index; the scan is null until the first start.
    Index { index: pg_sys::Relation, keys: Vec<pg_sys::ScanKeyData>, scan: pg_sys::IndexScanDesc },
    /// The scan is null until the first start.
    Table(pg_sys::TableScanDesc),
}

impl Store {
    /// A search by the key columns of one of the store's indexes, a btree, or without one through all rows.
    pub fn search(&self, index: Option<pg_sys::Relation>) -> Search {
        // SAFETY: table and indexes stay open until `Store::end`, and so does the executor state with its context.
        unsafe {
            let how = match index {
                Some(index) => {
                    let columns = (*(*index).rd_index).indnkeyatts as usize;
                    let keys = (0..columns).map(|column| equality(index, column)).collect();
                    How::Index { index, keys, scan: std::ptr::null_mut() }
                }
                None => How::Table(std::ptr::null_mut()),
            };
            let found = Slot::make(self.desc(), pg_sys::table_slot_callbacks(self.table));
            Search { table: self.table, snapshot: self.snapshot, context: (*self.estate).es_query_cxt, how, found }
        }
    }
}

impl Search {
    /// Begins anew, with a value for each key column of the index; a NULL finds NULLs. Without an index the values do not matter.
    pub fn start(&mut self, values: impl IntoIterator<Item = NullableDatum>) {
        let (table, snapshot, none) = (self.table, self.snapshot, std::ptr::null_mut::<pg_sys::ScanKeyData>());
        if let How::Index { keys, .. } = &mut self.how {
            keys.iter_mut().zip(values).for_each(|(key, value)| set(key, value));
        }
        // SAFETY: table and index are open; an index scan copies the keys.
        unsafe {
            within(self.context, || match &mut self.how {
                How::Index { index, keys, scan } => {
                    let count = keys.len() as i32;
                    if scan.is_null() {
                        *scan = pg_sys::index_beginscan(table, *index, snapshot, std::ptr::null_mut(), count, 0);
                    }
                    pg_sys::index_rescan(*scan, keys.as_mut_ptr(), count, none, 0);
                }
                How::Table(scan) if scan.is_null() => *scan = pg_sys::table_beginscan(table, snapshot, 0, none),
                How::Table(scan) => pg_sys::table_rescan(*scan, none),
            });
        }
    }

    /// The next row found, valid until the next call; None when there is no other.
    pub fn next(&mut self) -> Option<Slot> {
        interrupt::check();
        let (forward, slot) = (pg_sys::ScanDirection::ForwardScanDirection, self.found.as_ptr());
        // SAFETY: the scan was begun by `start`; the slot is of the table.
        let found = unsafe {
            within(self.context, || match self.how {
                How::Index { scan, .. } => pg_sys::index_getnext_slot(scan, forward, slot),
                How::Table(scan) => pg_sys::table_scan_getnextslot(scan, forward, slot),
            })
        };
        found.then_some(self.found)
    }

    /// The row found last.
    pub fn found(&self) -> &Slot {
        &self.found
    }

    /// Ends the scan.
    pub fn end(&self) {
        self.found.drop();
        // SAFETY: a scan begun by `start` is ended once.
        unsafe {
            match self.how {
                How::Index { scan, .. } if !scan.is_null() => pg_sys::index_endscan(scan),
                How::Table(scan) if !scan.is_null() => pg_sys::table_endscan(scan),
                How::Index { .. } | How::Table(_) => (),
            }
        }
    }
}

/// `index column = ?` by the operator class's own equality.
unsafe fn equality(index: pg_sys::Relation, column: usize) -> pg_sys::ScanKeyData {
    // SAFETY: `column` is a key column of the open index.
    unsafe {
        let (family, input) = (*(*index).rd_opfamily.add(column), *(*index).rd_opcintype.add(column));
        let equal = pg_sys::BTEqualStrategyNumber as u16;
        let operator = pg_sys::get_opfamily_member(family, input, input, equal as i16);
        if operator == pg_sys::InvalidOid {
            error::cannot_happen(format!(
                "missing equality of type {} in operator family {}",
                input.to_u32(),
                family.to_u32()
            ));
        }
        let mut key = pg_sys::ScanKeyData::default();
        pg_sys::ScanKeyEntryInitialize(
            &mut key,
            0,
            column as i16 + 1,
            equal,
            pg_sys::InvalidOid,
            *(*index).rd_indcollation.add(column),
            pg_sys::get_opcode(operator),
            Datum::null(),
        );
        key
    }
}

/// `column = value`, or `column IS NULL`.
fn set(key: &mut pg_sys::ScanKeyData, value: NullableDatum) {
    let null = (pg_sys::SK_ISNULL | pg_sys::SK_SEARCHNULL) as i32;
    (key.sk_flags, key.sk_strategy) = if value.isnull { (null, 0) } else { (0, pg_sys::BTEqualStrategyNumber as u16) };
    key.sk_argument = value.value;
}
