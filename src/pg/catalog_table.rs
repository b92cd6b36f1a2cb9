//! Native reads and writes of the extension's own small tables, by the routes the server uses for its catalogs.

use super::interrupt;
use super::relation::Relation;
use crate::error::{cannot_happen, error};
use pgrx::{FromDatum, IntoDatum, PgSqlErrorCode, pg_sys};

/// A column value; None is NULL.
pub type Value = Option<pg_sys::Datum>;

/// Which rows of the table a scan yields.
#[derive(Clone, Copy)]
pub enum Rows {
    /// What a command starting now sees: committed rows and this transaction's own.
    Latest,
    /// What the active snapshot sees.
    Active,
}

/// An open table with btree indexes whose leading column is an oid.
pub struct CatalogTable(Relation);

/// A private copy of one row.
pub struct Row {
    tuple: pg_sys::HeapTuple,
    desc: pg_sys::TupleDesc,
}

impl CatalogTable {
    pub fn open_for_read(relid: pg_sys::Oid) -> Self {
        Self(Relation::open(relid, pg_sys::AccessShareLock))
    }

    pub fn open_for_write(relid: pg_sys::Oid) -> Self {
        Self(Relation::open(relid, pg_sys::RowExclusiveLock))
    }

    /// Every row.
    pub fn all(&self) -> Vec<Row> {
        self.scan(pg_sys::InvalidOid, &[], Rows::Latest, usize::MAX)
    }

    pub fn is_empty(&self) -> bool {
        self.scan(pg_sys::InvalidOid, &[], Rows::Latest, 1).is_empty()
    }

    /// Rows whose oid column `attno`, the leading column of `index`, equals `key`.
    pub fn find(&self, index: pg_sys::Oid, attno: i16, key: pg_sys::Oid, rows: Rows) -> Vec<Row> {
        self.scan(index, &[(attno, key)], rows, usize::MAX)
    }

    /// The first rows, in index order, whose leading column `attno` equals `key`.
    pub fn find_first(&self, index: pg_sys::Oid, attno: i16, key: pg_sys::Oid, limit: usize) -> Vec<Row> {
        self.scan(index, &[(attno, key)], Rows::Latest, limit)
    }

    /// The last rows, in index order backwards, whose leading column `attno` equals `key`.
    pub fn find_last(&self, index: pg_sys::Oid, attno: i16, key: pg_sys::Oid, limit: usize) -> Vec<Row> {
        let index = Relation::open(index, pg_sys::AccessShareLock);
        let (mut found, mut copied) = (Vec::new(), None);
        // SAFETY: both relations are open; the scan key outlives the scan; copied tuples outlive it in the current context.
        unsafe {
            let mut scan_key = pg_sys::ScanKeyData::default();
            let eq = pg_sys::BTEqualStrategyNumber as pg_sys::StrategyNumber;
            pg_sys::ScanKeyInit(&mut scan_key, attno, eq, pg_sys::F_OIDEQ.into(), key.into());
            let latest = std::ptr::null_mut();
            let scan = pg_sys::systable_beginscan_ordered(self.0.as_ptr(), index.as_ptr(), latest, 1, &mut scan_key);
            while found.len() < limit {
                let tuple = pg_sys::systable_getnext_ordered(scan, pg_sys::ScanDirection::BackwardScanDirection);
                if tuple.is_null() {
                    break;
                }
                let desc = *copied.get_or_insert_with(|| pg_sys::CreateTupleDescCopyConstr(self.0.tuple_desc()));
                found.push(Row { tuple: pg_sys::heap_copytuple(tuple), desc });
            }
            pg_sys::systable_endscan_ordered(scan);
        }
        found
    }

    /// Rows whose two oid columns, the leading ones of `index`, equal `keys`.
    pub fn find_pair(&self, index: pg_sys::Oid, keys: [(i16, pg_sys::Oid); 2]) -> Vec<Row> {
        self.scan(index, &keys, Rows::Latest, usize::MAX)
    }

    /// The row of a unique oid.
    pub fn get(&self, index: pg_sys::Oid, attno: i16, key: pg_sys::Oid) -> Option<Row> {
        self.scan(index, &[(attno, key)], Rows::Latest, 1).pop()
    }

    fn scan(&self, index: pg_sys::Oid, keys: &[(i16, pg_sys::Oid)], rows: Rows, limit: usize) -> Vec<Row> {
        let mut found = Vec::new();
        // SAFETY: the relation is open; the scan keys outlive the scan; copied tuples outlive it in the current context.
        unsafe {
            let mut scan_keys = [pg_sys::ScanKeyData::default(); 2];
            for (scan_key, &(attno, oid)) in scan_keys.iter_mut().zip(keys) {
                let eq = pg_sys::BTEqualStrategyNumber as pg_sys::StrategyNumber;
                pg_sys::ScanKeyInit(scan_key, attno, eq, pg_sys::F_OIDEQ.into(), oid.into());
            }
            let snapshot = match rows {
                Rows::Latest => std::ptr::null_mut(),
                Rows::Active => pg_sys::GetActiveSnapshot(),
            };
            let relation = self.0.as_ptr();
            let count = keys.len() as i32;
            let scan = pg_sys::systable_beginscan(relation, index, count > 0, snapshot, count, scan_keys.as_mut_ptr());
            let mut copied = None;
            while found.len() < limit {
                interrupt::check();
                let tuple = pg_sys::systable_getnext(scan);
                if tuple.is_null() {
                    break;
                }
                // The table's own may go when the table is closed. With the values of columns that rows are older than.
                let desc = *copied.get_or_insert_with(|| pg_sys::CreateTupleDescCopyConstr(self.0.tuple_desc()));
                found.push(Row { tuple: pg_sys::heap_copytuple(tuple), desc });
            }
            pg_sys::systable_endscan(scan);
        }
        found
    }

    /// How many columns the table has.
    fn width(&self) -> usize {
        // SAFETY: the relation is open.
        unsafe { (*self.0.tuple_desc()).natts as usize }
    }

    /// Inserts a row of values in column order. Columns that the table has beyond them (its SQL is newer than the library)
    /// stay out of the row, as in rows from before they were added; values beyond the columns (it is older) are dropped.
    pub fn insert(&self, values: &[Value]) {
        let count = values.len().min(self.width());
        let (mut datums, mut nulls) = split(&values[..count]);
        // SAFETY: one value per column of the descriptor, which is the open relation's or its beginning.
        unsafe {
            let desc = match count < self.width() {
                true => pg_sys::CreateTupleDescTruncatedCopy(self.0.tuple_desc(), count as i32),
                false => self.0.tuple_desc(),
            };
            let tuple = pg_sys::heap_form_tuple(desc, datums.as_mut_ptr(), nulls.as_mut_ptr());
            pg_sys::CatalogTupleInsert(self.0.as_ptr(), tuple);
        }
        command_counter_increment();
    }

    /// Replaces the given columns of a row, as far as the table has them.
    pub fn update(&self, row: &Row, changes: &[(i16, Value)]) {
        let width = self.width();
        let changes: Vec<(i16, Value)> =
            changes.iter().copied().filter(|(attno, _)| *attno as usize <= width).collect();
        let mut columns: Vec<i32> = changes.iter().map(|(attno, _)| i32::from(*attno)).collect();
        let values: Vec<Value> = changes.iter().map(|(_, value)| *value).collect();
        let (mut datums, mut nulls) = split(&values);
        // SAFETY: the row came from this open relation; the arrays have one entry per change.
        unsafe {
            let tuple = pg_sys::heap_modify_tuple_by_cols(
                row.tuple,
                self.0.tuple_desc(),
                columns.len() as i32,
                columns.as_mut_ptr(),
                datums.as_mut_ptr(),
                nulls.as_mut_ptr(),
            );
            pg_sys::CatalogTupleUpdate(self.0.as_ptr(), &mut (*row.tuple).t_self, tuple);
        }
        command_counter_increment();
    }

    pub fn delete(&self, row: &Row) {
        // SAFETY: the row came from this open relation.
        unsafe { pg_sys::CatalogTupleDelete(self.0.as_ptr(), &mut (*row.tuple).t_self) };
        command_counter_increment();
    }
}

impl Row {
    /// The table has a column `attno`; not so one that is added by an update of the extension which is still to come.
    fn has(&self, attno: i16) -> bool {
        // SAFETY: a private copy.
        i32::from(attno) <= unsafe { (*self.desc).natts }
    }

    /// Column `attno` (1-based), None for NULL and for a column that the table does not have.
    pub fn get<T: FromDatum>(&self, attno: i16) -> Option<T> {
        if !self.has(attno) {
            return None;
        }
        let mut null = false;
        // SAFETY: the tuple matches the descriptor; T is the column's type, as the table's one reader declares.
        unsafe {
            let datum = pg_sys::heap_getattr(self.tuple, attno.into(), self.desc, &mut null);
            T::from_datum(datum, null)
        }
    }

    /// A column declared NOT NULL.
    pub fn must<T: FromDatum>(&self, attno: i16) -> T {
        self.get(attno).unwrap_or_else(|| self.missing(attno))
    }

    fn missing(&self, attno: i16) -> ! {
        if self.has(attno) {
            cannot_happen(format!("null in catalog column {attno}"))
        }
        let message = format!("a table of extension \"pg_trickle\" has no column {attno}");
        error(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, message)
            .detail("The SQL objects of this database are older than the library.")
            .hint("Execute ALTER EXTENSION pg_trickle UPDATE in this database.")
            .raise()
    }

    /// This transaction wrote the row.
    pub fn is_own(&self) -> bool {
        // SAFETY: a heap tuple copy has its header.
        unsafe {
            let header = (*self.tuple).t_data;
            let frozen = (*header).t_infomask as u32 & pg_sys::HEAP_XMIN_FROZEN == pg_sys::HEAP_XMIN_FROZEN;
            !frozen && pg_sys::TransactionIdIsCurrentTransactionId((*header).t_choice.t_heap.t_xmin)
        }
    }
}

/// A value for a column.
pub fn value(value: impl IntoDatum) -> Value {
    value.into_datum()
}

fn split(values: &[Value]) -> (Vec<pg_sys::Datum>, Vec<bool>) {
    values.iter().map(|v| (v.unwrap_or(pg_sys::Datum::from(0usize)), v.is_none())).unzip()
}

/// Makes what this command wrote visible to what follows.
pub fn command_counter_increment() {
    // SAFETY: no arguments; raises only in parallel mode.
    unsafe { pg_sys::CommandCounterIncrement() };
}
