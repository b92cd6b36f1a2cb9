//! Unique keys of a relation that hold at every moment and for the types' own equality.

use super::catalog_table::{CatalogTable, value};
use super::relation::Relation;
use super::{facts, index_tree, list};
use pgrx::pg_sys;

/// The column sets that no two rows share, from unique indexes that are valid, immediate, over plain columns and all
/// rows, and in which no NULL escapes.
pub fn keys(relation: &Relation) -> Vec<Vec<i16>> {
    let holds = |index| key_of(relation, &Relation::open(index, pg_sys::AccessShareLock), false);
    indexes(relation).into_iter().filter_map(holds).collect()
}

/// The same, and those in which rows with NULLs escape: no two rows equal the same values. Each with its index.
pub fn keys_of_values(relation: &Relation) -> Vec<(pg_sys::Oid, Vec<i16>)> {
    let holds = |index| Some((index, key_of(relation, &Relation::open(index, pg_sys::AccessShareLock), true)?));
    indexes(relation).into_iter().filter_map(holds).collect()
}

fn indexes(relation: &Relation) -> Vec<pg_sys::Oid> {
    // SAFETY: the relation is pinned; a list of oids in the current context.
    unsafe { list::oids(pg_sys::RelationGetIndexList(relation.as_ptr())).collect() }
}

/// The columns of a unique index.
pub fn columns(index: &Relation) -> Option<Vec<i16>> {
    // SAFETY: an open index has its pg_index row with indnkeyatts columns.
    unsafe {
        let form = &*(*index.as_ptr()).rd_index;
        form.indisunique.then(|| form.indkey.values.as_slice(form.indnkeyatts as usize).to_vec())
    }
}

/// Makes a unique index an ordinary one in place. Nobody may be inserting into the table.
pub fn demote(index: pg_sys::Oid) {
    let pg_index = CatalogTable::open_for_write(pg_sys::IndexRelationId);
    let no = [(column::UNIQUE, value(false)), (column::NULLS_NOT_DISTINCT, value(false))];
    if let Some(row) = pg_index.get(BY_INDEX, column::INDEX, index) {
        pg_index.update(&row, &no);
    }
}

/// pg_index.
const BY_INDEX: pg_sys::Oid = pg_sys::Oid::from_u32(pg_sys::IndexRelidIndexId);
mod column {
    pub const INDEX: i16 = 1;
    pub const UNIQUE: i16 = 5;
    pub const NULLS_NOT_DISTINCT: i16 = 6;
}

/// The first columns of all indexes that can be used.
pub fn leading_columns(relation: &Relation) -> Vec<i16> {
    let leading = |index: pg_sys::Oid| {
        let index = Relation::open(index, pg_sys::AccessShareLock);
        // SAFETY: an open index has its pg_index row with at least one column.
        unsafe {
            let form = &*(*index.as_ptr()).rd_index;
            form.indkey.values.as_slice(1)[0]
        }
    };
    indexes(relation).into_iter().map(leading).collect()
}

fn key_of(relation: &Relation, index: &Relation, nulls_escape: bool) -> Option<Vec<i16>> {
    // SAFETY: an open index has its pg_index row.
    let form = unsafe { &*(*index.as_ptr()).rd_index };
    let holds = form.indisunique
        && form.indimmediate
        && !form.indisexclusion
        && form.indisvalid
        && form.indisready
        && form.indislive
        && index.form().relam == pg_sys::BTREE_AM_OID
        // SAFETY: as above.
        && unsafe { index_tree::predicate(index.as_ptr()) }.is_null();
    let count = form.indnkeyatts as usize;
    // SAFETY: indkey has at least indnkeyatts elements.
    let columns = unsafe { form.indkey.values.as_slice(count) }.to_vec();
    let attributes = relation.attributes();
    let is_fit = |(i, &column): (usize, &i16)| {
        column > 0
            && (nulls_escape || form.indnullsnotdistinct || relation.is_not_null(column))
            && compares_as_its_type(index, i, &attributes[column as usize - 1])
    };
    (holds && columns.iter().enumerate().all(is_fit)).then_some(columns)
}

/// The index tells values apart exactly when the column's default equality does.
fn compares_as_its_type(index: &Relation, i: usize, column: &pg_sys::FormData_pg_attribute) -> bool {
    // SAFETY: these arrays of an open index have one element per key column.
    let (family, collation) =
        unsafe { (*(*index.as_ptr()).rd_opfamily.add(i), *(*index.as_ptr()).rd_indcollation.add(i)) };
    let same_collation = collation == column.attcollation
        || (facts::is_deterministic(collation) && facts::is_deterministic(column.attcollation));
    same_collation && facts::default_ordering(column.atttypid).is_some_and(|ordering| ordering.family == family)
}
