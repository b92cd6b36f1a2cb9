//! Making and dropping a view's apply index (see `index`).

use super::index::{ApplyIndex, default_family, find, hash_arguments, hash_function, sorted};
use crate::error;
use crate::pg::image::HASH_CHUNK;
use crate::pg::relation::Relation;
use crate::pg::{facts, list, names, node, unique};
use pgrx::pg_sys::{self, Oid};

/// Finds the view's apply index or makes it, as the view's owner. `key` as in `Circuit::key`. The caller holds
/// a lock on the view that conflicts with itself.
pub fn ensure(view: Oid, key: Option<&[usize]>) -> ApplyIndex {
    match find(view, key) {
        ApplyIndex::None => make_index(view, key),
        found => {
            if let ApplyIndex::Hash { index, .. } = &found {
                follow_extension(*index);
            }
            found
        }
    }
}

/// Drops the indexes made by `ensure`, when the view becomes a plain materialized view: a hash index needs the
/// extension, and a unique one may refuse rows that the plain view is to hold one day.
pub fn drop_own_indexes(view: Oid) {
    let view = Relation::open(view, pg_sys::AccessExclusiveLock);
    // SAFETY: as in `find`.
    for index in unsafe { list::oids(pg_sys::RelationGetIndexList(view.as_ptr())) } {
        let index = Relation::open(index, pg_sys::AccessExclusiveLock);
        // SAFETY: the index is open; a hash call is only inspected.
        if is_own(index.oid()) || unsafe { hash_arguments(index.as_ptr()) }.is_some() {
            let address = relation_address(index.oid());
            drop(index);
            // SAFETY: nothing but the view uses the index.
            unsafe {
                pg_sys::performDeletion(
                    &address,
                    pg_sys::DropBehavior::DROP_RESTRICT,
                    pg_sys::PERFORM_DELETION_INTERNAL as i32,
                )
            };
        }
    }
}

/// Lets own unique indexes accept duplicates when their columns do not include the view's key (any more). Not dropped:
/// that would exclude readers. The caller keeps other refreshes of the view out.
pub fn demote_outdated(view: Oid, key: Option<&[usize]>) {
    let relation = Relation::open(view, pg_sys::RowExclusiveLock);
    // SAFETY: as in `find`.
    for index in unsafe { list::oids(pg_sys::RelationGetIndexList(relation.as_ptr())) }.filter(|&index| is_own(index)) {
        let columns = unique::columns(&Relation::open(index, pg_sys::AccessShareLock));
        let holds =
            |columns: &[i16]| key.is_some_and(|key| key.iter().all(|&column| columns.contains(&(column as i16 + 1))));
        if columns.is_some_and(|columns| !holds(&columns)) {
            unique::demote(index);
            // SAFETY: relation caches list which indexes are unique.
            unsafe { pg_sys::CacheInvalidateRelcacheByRelid(view) };
        }
    }
}

/// Makes the entries of an index anew if the view stores rows whose type may have lost a column since: a dropped column counts
/// in neither a row's image nor its order, so the entries may be wrong. And if `hashes` may have become others.
pub fn renew(view: Oid, index: &ApplyIndex, hashes: bool) {
    let outdated = hashes && matches!(index, ApplyIndex::Hash { .. });
    let (ApplyIndex::Key { index, .. } | ApplyIndex::Hash { index, .. }) = index else { return };
    let relation = Relation::open(view, pg_sys::RowExclusiveLock);
    if outdated || relation.attributes().iter().any(|attribute| facts::holds_rows(attribute.atttypid)) {
        // SAFETY: as REINDEX INDEX; nothing has the index open.
        unsafe {
            let (persistence, options) = (relation.form().relpersistence, pg_sys::ReindexParams::default());
            pg_sys::reindex_index(std::ptr::null(), *index, false, persistence, &options);
        }
    }
}

/// Marks an index as made by `ensure`. A dump carries the mark (ALTER INDEX ... DEPENDS ON EXTENSION).
fn mark_own(index: Oid) {
    let extension = object_address(pg_sys::ExtensionRelationId, names::extension());
    // SAFETY: adds a dependency row.
    unsafe {
        pg_sys::recordDependencyOn(
            &relation_address(index),
            &extension,
            pg_sys::DependencyType::DEPENDENCY_AUTO_EXTENSION,
        )
    };
}

fn is_own(index: Oid) -> bool {
    // SAFETY: a catalog look-up; a list of oids in the current context.
    unsafe {
        list::oids(pg_sys::getAutoExtensionsOfObject(pg_sys::RelationRelationId, index))
            .any(|oid| oid == names::extension())
    }
}

/// The index to make when there is none.
enum Wanted {
    Key(Vec<usize>),
    Hash(Vec<usize>),
    Nothing,
}

fn wanted(view: &Relation, key: Option<&[usize]>) -> Wanted {
    // SAFETY: the view is open.
    let natts = unsafe { (*view.tuple_desc()).natts } as usize;
    match key {
        Some([]) => Wanted::Nothing,
        Some(key) if short(view, key) => Wanted::Key(key.to_vec()),
        Some(key) => Wanted::Hash(sorted(key)),
        None if natts == 0 => Wanted::Nothing,
        None => Wanted::Hash((0..natts).collect()),
    }
}

/// Whether every key has an order and fits an index entry.
fn short(view: &Relation, key: &[usize]) -> bool {
    let attribute = |&column: &usize| view.attribute(column as i16 + 1);
    let sorted = key.iter().map(attribute).all(|attribute| default_family(attribute.atttypid).is_some());
    sorted && facts::fit_index_entry(key.iter().map(attribute).map(|a| (a.atttypid, a.atttypmod)))
}

fn make_index(view: Oid, key: Option<&[usize]>) -> ApplyIndex {
    let relation = Relation::open(view, pg_sys::ShareLock);
    match wanted(&relation, key) {
        Wanted::Nothing => ApplyIndex::None,
        Wanted::Key(columns) => {
            let parameters = columns.iter().map(|&column| column_element(&relation, column));
            let index = define(&relation, parameters, true);
            mark_own(index);
            ApplyIndex::Key { index, columns }
        }
        Wanted::Hash(columns) => {
            let index = define(&relation, [hash_element(&relation, &columns)].into_iter(), false);
            follow_extension(index);
            mark_own(index);
            ApplyIndex::Hash { index, columns }
        }
    }
}

/// CREATE [UNIQUE] INDEX <view>_trickle_idx ON view (elements) [NULLS NOT DISTINCT], run as the view's owner.
fn define(view: &Relation, elements: impl Iterator<Item = *mut pg_sys::IndexElem>, unique: bool) -> Oid {
    let name = node::cstring(&view.name());
    // SAFETY: the statement is finished as parse analysis would leave it; DefineIndex takes its locks and user id.
    unsafe {
        let schema = view.form().relnamespace;
        let statement: *mut pg_sys::IndexStmt = node::make(pg_sys::NodeTag::T_IndexStmt);
        (*statement).idxname = pg_sys::ChooseRelationName(name, c"trickle".as_ptr(), c"idx".as_ptr(), schema, false);
        (*statement).relation = pg_sys::makeRangeVar(pg_sys::get_namespace_name(schema), name, -1);
        (*statement).accessMethod = node::cstring("btree");
        (*statement).indexParams = list::make(elements);
        (*statement).unique = unique;
        (*statement).nulls_not_distinct = unique;
        (*statement).transformed = true;
        let none = pg_sys::InvalidOid;
        let address =
            pg_sys::DefineIndex(view.oid(), statement, none, none, none, -1, false, false, false, false, true);
        pg_sys::CommandCounterIncrement();
        address.objectId
    }
}

fn column_element(view: &Relation, column: usize) -> *mut pg_sys::IndexElem {
    // SAFETY: the column's name is copied; a zeroed element means default order, opclass and collation.
    unsafe {
        let attribute = pg_sys::TupleDescAttr(view.tuple_desc(), column as i32);
        let element: *mut pg_sys::IndexElem = node::make(pg_sys::NodeTag::T_IndexElem);
        (*element).name = pg_sys::pstrdup((*attribute).attname.data.as_ptr());
        element
    }
}

fn hash_element(view: &Relation, columns: &[usize]) -> *mut pg_sys::IndexElem {
    let function =
        hash_function().unwrap_or_else(|| error::cannot_happen("function pgtrickle.row_image_hash does not exist"));
    // SAFETY: makes nodes only.
    unsafe {
        let mut call: *mut pg_sys::Node = std::ptr::null_mut();
        for chunk in columns.chunks(HASH_CHUNK) {
            let arguments = list::make(
                (!call.is_null()).then_some(call).into_iter().chain(chunk.iter().map(|&c| column_var(view, c))),
            );
            call = hash_call(function, arguments);
        }
        let element: *mut pg_sys::IndexElem = node::make(pg_sys::NodeTag::T_IndexElem);
        (*element).expr = call;
        (*element).indexcolname = node::cstring("row_image_hash");
        element
    }
}

unsafe fn column_var(view: &Relation, column: usize) -> *mut pg_sys::Node {
    // SAFETY: `column` is one of the open view's.
    unsafe {
        let attribute = &*pg_sys::TupleDescAttr(view.tuple_desc(), column as i32);
        pg_sys::makeVar(1, attribute.attnum, attribute.atttypid, attribute.atttypmod, attribute.attcollation, 0).cast()
    }
}

unsafe fn hash_call(function: Oid, arguments: *mut pg_sys::List) -> *mut pg_sys::Node {
    // SAFETY: makes a node only.
    unsafe {
        let none = pg_sys::InvalidOid;
        pg_sys::makeFuncExpr(
            function,
            pg_sys::INT8OID,
            arguments,
            none,
            none,
            pg_sys::CoercionForm::COERCE_EXPLICIT_CALL,
        )
        .cast()
    }
}

/// Lets DROP EXTENSION take a hash index with it instead of refusing because the index calls our function.
fn follow_extension(index: Oid) {
    let Some(function) = hash_function() else { return };
    let (depender, referenced) = (relation_address(index), object_address(pg_sys::ProcedureRelationId, function));
    // SAFETY: replaces the one NORMAL dependency by an AUTO one.
    unsafe {
        let (class, normal) =
            (pg_sys::RelationRelationId, pg_sys::DependencyType::DEPENDENCY_NORMAL as std::ffi::c_char);
        if pg_sys::deleteDependencyRecordsForSpecific(class, index, normal, pg_sys::ProcedureRelationId, function) > 0 {
            pg_sys::recordDependencyOn(&depender, &referenced, pg_sys::DependencyType::DEPENDENCY_AUTO);
        }
    }
}

fn relation_address(relation: Oid) -> pg_sys::ObjectAddress {
    object_address(pg_sys::RelationRelationId, relation)
}

fn object_address(class: Oid, object: Oid) -> pg_sys::ObjectAddress {
    pg_sys::ObjectAddress { classId: class, objectId: object, objectSubId: 0 }
}
