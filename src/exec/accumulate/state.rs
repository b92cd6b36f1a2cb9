//! The state table at run time: one row per group, found by key, written natively.
//!
//! Columns: the keys, `rows` (input rows of the group), the counts, the states, and where keys may be too long for an
//! index, a hash of theirs by which the index finds candidates. Each group is written at most once
//! in a run, so what the query's snapshot shows is what the last refresh left.

use super::keys::Keys;
use super::plan::Key;
use crate::catalog::state::Layout;
use crate::circuit::Accumulate;
use crate::error::cannot_happen;
use crate::exec::fold::definition::Definition;
use crate::exec::node::Node;
use crate::pg::identity::AsOwner;
use crate::pg::image::{Row, Shape};
use crate::pg::internal_table::{self, Column};
use crate::pg::interrupt;
use crate::pg::memory::within;
use crate::pg::slot::Slot;
use pgrx::pg_sys::{self, Datum, NullableDatum};

/// The state table of such an operator.
pub fn layout(spec: &Accumulate, owner: &AsOwner) -> Layout {
    let columns = columns(spec, owner);
    let keys = spec.keys.len() as i16;
    let (key, unique) =
        if spec.is_found_by_hash() { (vec![columns.len() as i16], false) } else { ((1..=keys).collect(), true) };
    Layout { columns, key, unique }
}

fn columns(spec: &Accumulate, owner: &AsOwner) -> Vec<Column> {
    let definitions: Vec<Definition> =
        spec.aggregates.iter().map(|aggregate| Definition::resolve(aggregate, owner)).collect();
    let keys = (1..).zip(&spec.keys).map(|(number, key)| Column {
        name: format!("k{number}"),
        typid: key.typid,
        typmod: key.typmod,
        collation: key.collation,
        storage: None,
    });
    let numbered = || (1..).zip(&definitions);
    let counts = numbered().filter(|(_, definition)| definition.has_count());
    let hash = spec.is_found_by_hash().then(|| Column::new("hash", pg_sys::INT8OID));
    keys.chain([Column::new("rows", pg_sys::INT8OID)])
        .chain(counts.map(|(number, _)| Column::new(format!("c{number}"), pg_sys::INT8OID)))
        .chain(numbered().map(|(number, definition)| Column::new(format!("s{number}"), definition.state_type())))
        .chain(hash)
        .collect()
}

pub struct StateTable {
    relation: pg_sys::Relation,
    result: *mut pg_sys::ResultRelInfo,
    estate: *mut pg_sys::EState,
    scan: Scan,
    /// The row found by the last look-up.
    found: Slot,
    /// The row to be written.
    written: Slot,
    shape: Shape,
    keys: usize,
    /// The last column is a hash of the keys.
    hashed: bool,
}

/// How a group's row is found.
enum Scan {
    /// By the index: the unique one over the keys, or that over their hash.
    Index { scan: pg_sys::IndexScanDesc, keys: Vec<pg_sys::ScanKeyData> },
    /// Without keys there is one row.
    Table(pg_sys::TableScanDesc),
}

impl StateTable {
    pub fn open(relid: pg_sys::Oid, keys: &[Key], node: Node) -> Self {
        // SAFETY: the table is opened for the query; scans and slots are closed by `close`.
        unsafe {
            let relation = pg_sys::table_open(relid, pg_sys::RowExclusiveLock as i32);
            let result: *mut pg_sys::ResultRelInfo = crate::pg::node::make(pg_sys::NodeTag::T_ResultRelInfo);
            // Without a range table entry the index hears that no key column changed, which is so.
            pg_sys::InitResultRelInfo(result, relation, 0, std::ptr::null_mut(), 0);
            pg_sys::ExecOpenIndices(result, false);
            let estate = node.estate();
            let snapshot = (*estate).es_snapshot;
            let desc = (*relation).rd_att;
            let hashed = is_hashed(desc);
            Self {
                relation,
                scan: if keys.is_empty() {
                    Scan::Table(pg_sys::table_beginscan(relation, snapshot, 0, std::ptr::null_mut()))
                } else {
                    let last = (*desc).natts as i16;
                    let key: Vec<i16> = if hashed { vec![last] } else { (1..=keys.len() as i16).collect() };
                    Scan::by_index(relation, index_over(result, &key), key.len(), snapshot)
                },
                result,
                estate,
                found: Slot::make(desc, pg_sys::table_slot_callbacks(relation)),
                written: Slot::make(desc, &raw const pg_sys::TTSOpsVirtual),
                shape: Shape::of(desc),
                keys: keys.len(),
                hashed,
            }
        }
    }

    /// Looks up the row of the current group; it stays valid until the next look-up.
    pub fn find(&mut self, group: &mut Keys) -> bool {
        let hash = Datum::from(if self.hashed { group.hash() } else { 0 });
        match &mut self.scan {
            Scan::Index { keys, .. } if self.hashed => {
                set_key(&mut keys[0], NullableDatum { value: hash, isnull: false });
                self.rescan();
                while self.next() {
                    interrupt::check();
                    if group.has(self.found) {
                        return true;
                    }
                }
                false
            }
            Scan::Index { keys, .. } => {
                let key = group.row();
                keys.iter_mut().enumerate().for_each(|(index, entry)| set_key(entry, key.at(index)));
                self.rescan();
                self.next()
            }
            Scan::Table(_) => {
                self.rescan();
                self.next()
            }
        }
    }

    fn rescan(&mut self) {
        // SAFETY: the scan is open. It may allocate what it keeps for later calls.
        unsafe {
            within((*self.estate).es_query_cxt, || match &mut self.scan {
                Scan::Index { scan, keys } => {
                    pg_sys::index_rescan(*scan, keys.as_mut_ptr(), keys.len() as i32, std::ptr::null_mut(), 0);
                }
                Scan::Table(scan) => pg_sys::table_rescan(*scan, std::ptr::null_mut()),
            });
        }
    }

    /// Fetches the scan's next row.
    fn next(&mut self) -> bool {
        let (forward, slot) = (pg_sys::ScanDirection::ForwardScanDirection, self.found.as_ptr());
        // SAFETY: scan and slot are open; as above.
        unsafe {
            within((*self.estate).es_query_cxt, || match self.scan {
                Scan::Index { scan, .. } => pg_sys::index_getnext_slot(scan, forward, slot),
                Scan::Table(scan) => pg_sys::table_scan_getnextslot(scan, forward, slot),
            })
        }
    }

    /// The row last found.
    pub fn row(&self) -> Row<'_> {
        self.found.row(self.shape.len())
    }

    /// Number of input rows of the group last found.
    pub fn rows(&self) -> i64 {
        self.row().values[self.keys].value() as i64
    }

    /// What follows the keys and `rows` in the row last found.
    pub fn states(&self) -> impl Iterator<Item = NullableDatum> {
        let row = self.row();
        (self.keys + 1..row.values.len() - usize::from(self.hashed)).map(move |column| row.at(column))
    }

    /// Adds a group.
    pub fn insert(&mut self, group: &mut Keys, rows: i64, states: &[NullableDatum]) {
        self.form(group, rows, states);
        // SAFETY: the slot holds a row of the open table.
        unsafe { pg_sys::simple_table_tuple_insert(self.relation, self.written.as_ptr()) };
        self.index(false, false);
    }

    /// Replaces the row last found, unless nothing in it changes.
    pub fn update(&mut self, group: &mut Keys, rows: i64, states: &[NullableDatum]) {
        self.form(group, rows, states);
        // SAFETY: both slots hold rows of the open table.
        unsafe {
            if self.shape.equal(self.row(), self.written.row(self.shape.len())) {
                return;
            }
            let mut indexes = pg_sys::TU_UpdateIndexes::TU_None;
            let (tid, slot) = (&raw mut (*self.found.as_ptr()).tts_tid, self.written.as_ptr());
            pg_sys::simple_table_tuple_update(self.relation, tid, slot, (*self.estate).es_snapshot, &mut indexes);
            if indexes != pg_sys::TU_UpdateIndexes::TU_None {
                self.index(true, indexes == pg_sys::TU_UpdateIndexes::TU_Summarizing);
            }
        }
    }

    /// Removes the row last found.
    pub fn delete(&mut self) {
        // SAFETY: the slot holds a row of the open table.
        unsafe {
            let tid = &raw mut (*self.found.as_ptr()).tts_tid;
            pg_sys::simple_table_tuple_delete(self.relation, tid, (*self.estate).es_snapshot);
        }
    }

    /// Ends the scans and closes the table; its lock is kept.
    pub fn close(&mut self) {
        // SAFETY: opened by `open`, closed once.
        unsafe {
            match self.scan {
                Scan::Index { scan, .. } => pg_sys::index_endscan(scan),
                Scan::Table(scan) => pg_sys::table_endscan(scan),
            }
            self.found.drop();
            self.written.drop();
            pg_sys::ExecCloseIndices(self.result);
            pg_sys::table_close(self.relation, pg_sys::NoLock as i32);
        }
    }

    fn form(&mut self, group: &mut Keys, rows: i64, states: &[NullableDatum]) {
        let slot = self.written.as_ptr();
        self.written.store(group.row(), &[Datum::from(rows)]);
        let hash = self.hashed.then(|| NullableDatum { value: Datum::from(group.hash()), isnull: false });
        if self.keys + 1 + states.len() + hash.iter().len() != self.shape.len() {
            cannot_happen("state table has other columns than its aggregates");
        }
        for (index, state) in states.iter().chain(&hash).enumerate() {
            // SAFETY: the slot has room for the table's columns, counted above.
            unsafe {
                *(*slot).tts_values.add(self.keys + 1 + index) = state.value;
                *(*slot).tts_isnull.add(self.keys + 1 + index) = state.isnull;
            }
        }
    }

    fn index(&mut self, update: bool, only_summarizing: bool) {
        // SAFETY: the slot holds the row just written and its place.
        unsafe {
            (*self.written.as_ptr()).tts_tableOid = (*self.relation).rd_id;
            let (slot, nowhere, all) = (self.written.as_ptr(), std::ptr::null_mut(), std::ptr::null_mut());
            pg_sys::ExecInsertIndexTuples(
                self.result,
                slot,
                self.estate,
                update,
                false,
                nowhere,
                all,
                only_summarizing,
            );
            let econtext = (*self.estate).es_per_tuple_exprcontext;
            if !econtext.is_null() {
                crate::pg::memory::reset((*econtext).ecxt_per_tuple_memory);
            }
        }
    }
}

fn is_hashed(desc: pg_sys::TupleDesc) -> bool {
    // SAFETY: a state table has a column at least.
    let last = unsafe { &*pg_sys::TupleDescAttr(desc, (*desc).natts - 1) };
    pgrx::name_data_to_str(&last.attname) == "hash"
}

impl Scan {
    unsafe fn by_index(
        heap: pg_sys::Relation,
        index: pg_sys::Relation,
        keys: usize,
        snapshot: pg_sys::Snapshot,
    ) -> Self {
        // SAFETY: an open index of the state table, of that many columns.
        unsafe {
            let scan = pg_sys::index_beginscan(heap, index, snapshot, std::ptr::null_mut(), keys as i32, 0);
            Self::Index { scan, keys: (0..keys).map(|column| scan_key(index, column)).collect() }
        }
    }
}

/// The index by which groups are found. There may be others: those of a superuser, and for a while those of REINDEX CONCURRENTLY.
unsafe fn index_over(result: *mut pg_sys::ResultRelInfo, key: &[i16]) -> pg_sys::Relation {
    // SAFETY: ExecOpenIndices has opened that many.
    unsafe {
        let (first, count) = ((*result).ri_IndexRelationDescs, (*result).ri_NumIndices as usize);
        let mut indexes = (0..count).map(|number| *first.add(number));
        indexes
            .find(|&index| internal_table::is_index_over(index, key))
            .unwrap_or_else(|| cannot_happen("a state table has lost its index"))
    }
}

unsafe fn scan_key(index: pg_sys::Relation, column: usize) -> pg_sys::ScanKeyData {
    let equal = pg_sys::BTEqualStrategyNumber as i16;
    // SAFETY: `column` is one of the index's.
    unsafe {
        let (family, input) = (*(*index).rd_opfamily.add(column), *(*index).rd_opcintype.add(column));
        let operator = pg_sys::get_opfamily_member(family, input, input, equal);
        let mut key = pg_sys::ScanKeyData::default();
        pg_sys::ScanKeyEntryInitialize(
            &mut key,
            0,
            column as i16 + 1,
            equal as u16,
            pg_sys::InvalidOid,
            *(*index).rd_indcollation.add(column),
            pg_sys::get_opcode(operator),
            Datum::null(),
        );
        key
    }
}

/// `column = value`, or `column IS NULL`.
fn set_key(key: &mut pg_sys::ScanKeyData, value: NullableDatum) {
    let null = (pg_sys::SK_ISNULL | pg_sys::SK_SEARCHNULL) as i32;
    (key.sk_flags, key.sk_strategy) = if value.isnull { (null, 0) } else { (0, pg_sys::BTEqualStrategyNumber as u16) };
    key.sk_argument = value.value;
}
