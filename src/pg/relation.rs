//! An open relation, closed when the handle goes out of scope. Opening one hears cancel, so that a loop over relations
//! need not.

use super::handle::{Any, Node};
use super::interrupt;
use pgrx::pg_sys;

/// An open relation. Its lock is kept until the end of the transaction.
pub struct Relation(pg_sys::Relation);

impl Relation {
    /// Opens with `lock` taken; raises the server's error when the relation is gone.
    pub fn open(relid: pg_sys::Oid, lock: u32) -> Self {
        interrupt::check();
        // SAFETY: relation_open raises or returns a pinned relcache entry.
        Self(unsafe { pg_sys::relation_open(relid, lock as pg_sys::LOCKMODE) })
    }

    /// Opens, or None when the relation no longer exists.
    pub fn try_open(relid: pg_sys::Oid, lock: u32) -> Option<Self> {
        interrupt::check();
        // SAFETY: try_relation_open returns null when there is no such relation.
        let relation = unsafe { pg_sys::try_relation_open(relid, lock as pg_sys::LOCKMODE) };
        (!relation.is_null()).then(|| Self(relation))
    }

    /// Leaves closing to the caller, for what may be dropped after an error.
    pub fn into_raw(self) -> pg_sys::Relation {
        std::mem::ManuallyDrop::new(self).0
    }

    pub fn as_ptr(&self) -> pg_sys::Relation {
        self.0
    }

    pub fn oid(&self) -> pg_sys::Oid {
        // SAFETY: pinned by this handle.
        unsafe { (*self.0).rd_id }
    }

    pub fn form(&self) -> &pg_sys::FormData_pg_class {
        // SAFETY: pinned by this handle; rd_rel is never null in a valid entry.
        unsafe { &*(*self.0).rd_rel }
    }

    pub fn tuple_desc(&self) -> pg_sys::TupleDesc {
        // SAFETY: pinned by this handle.
        unsafe { (*self.0).rd_att }
    }

    /// Every attribute, dropped ones included, in order.
    pub fn attributes(&self) -> Vec<pg_sys::FormData_pg_attribute> {
        let descriptor = self.tuple_desc();
        // SAFETY: the descriptor lives while the relation is pinned; numbers stay below natts.
        unsafe { (0..(*descriptor).natts).map(|i| *pg_sys::TupleDescAttr(descriptor, i)).collect() }
    }

    /// Whether a valid constraint keeps NULL out of a column.
    pub fn is_not_null(&self, column: i16) -> bool {
        // SAFETY: a user column of a pinned relation.
        let attribute = unsafe { pg_sys::TupleDescCompactAttr(self.tuple_desc(), i32::from(column) - 1) };
        // SAFETY: as above.
        unsafe { (*attribute).attnullability as u8 == pg_sys::ATTNULLABLE_VALID }
    }

    /// The expression of a generated column, over Vars of range table entry 1.
    pub fn generation_expression(&self, column: i16) -> Any {
        // SAFETY: raises when the column is not generated, else returns a live expression.
        let expression = unsafe { Node::from_raw(pg_sys::build_generation_expression(self.0, i32::from(column))) };
        expression.expect("a generated column has an expression")
    }

    /// It is partitioned or a partition.
    pub fn is_of_partitioned(&self) -> bool {
        self.form().relispartition || self.form().relkind as u8 == pg_sys::RELKIND_PARTITIONED_TABLE
    }

    /// The transaction made or replaced the table's file: what it writes there may go without WAL.
    pub fn has_new_file(&self) -> bool {
        // SAFETY: pinned by this handle.
        unsafe { (*self.0).rd_createSubid != 0 || (*self.0).rd_firstRelfilelocatorSubid != 0 }
    }

    /// Rows of the one serve as rows of the other without conversion.
    pub fn has_format_of(&self, other: &Self) -> bool {
        // SAFETY: both descriptors are pinned; null when no map is required, else a map of our own.
        unsafe {
            let map = pg_sys::build_attrmap_by_name_if_req(self.tuple_desc(), other.tuple_desc(), true);
            if !map.is_null() {
                pg_sys::free_attrmap(map);
            }
            map.is_null()
        }
    }

    pub fn name(&self) -> String {
        pgrx::name_data_to_str(&self.form().relname).to_owned()
    }

    /// A column by its attribute number, dropped ones included.
    pub fn attribute(&self, attno: i16) -> &pg_sys::FormData_pg_attribute {
        // SAFETY: pinned by this handle; the server's accessor does not check, so we do.
        unsafe {
            assert!(attno > 0 && i32::from(attno) <= (*self.tuple_desc()).natts);
            &*pg_sys::TupleDescAttr(self.tuple_desc(), i32::from(attno) - 1)
        }
    }

    pub fn column_name(&self, attno: i16) -> &str {
        pgrx::name_data_to_str(&self.attribute(attno).attname)
    }

    /// Attribute numbers of columns that are not dropped.
    pub fn live_columns(&self) -> Vec<i16> {
        // SAFETY: pinned by this handle.
        let natts = unsafe { (*self.tuple_desc()).natts } as i16;
        (1..=natts).filter(|&attno| !self.attribute(attno).attisdropped).collect()
    }

    /// Default and generation expressions, as stored node trees, with their columns.
    pub fn defaults(&self) -> Vec<(i16, String)> {
        // SAFETY: pinned by this handle; `constr` may be null.
        unsafe {
            let constr = (*self.tuple_desc()).constr;
            let count = if constr.is_null() { 0 } else { (*constr).num_defval as usize };
            let default = |i| &*(*constr).defval.add(i);
            (0..count).map(|i| (default(i).adnum, super::node::string(default(i).adbin))).collect()
        }
    }

    pub fn blocks(&self) -> u32 {
        // SAFETY: main fork of an open relation.
        unsafe { pg_sys::RelationGetNumberOfBlocksInFork(self.0, pg_sys::ForkNumber::MAIN_FORKNUM) }
    }
}

impl Drop for Relation {
    fn drop(&mut self) {
        // During error unwinding the resource owner closes what is open.
        if !std::thread::panicking() {
            // SAFETY: opened by this handle, closed once.
            unsafe { pg_sys::relation_close(self.0, pg_sys::NoLock as pg_sys::LOCKMODE) };
        }
    }
}
