//! Tables of the extension's own that come and go with stream tables: made natively, as members of the extension, so
//! that they appear in no dump, cannot be dropped by hand, and go when the extension goes.
//!
//! They belong to the owner of the extension, a superuser, as whom ANALYZE and autovacuum would call what the types of their
//! columns bring along: `subtype_diff` of a range type is a function of whoever made the type. So none of their columns
//! is analyzed. Plans read only those that hold the output of blocks, of which the planner knows the number of rows and the indexes.
//!
//! They hold copies of rows that row security hides from others, and their bytes are believed, so nobody but their owner and
//! superusers reads or writes them.

use super::catalog_table::{CatalogTable, Rows, command_counter_increment, value};
use super::list;
use super::node::cstring;
use super::relation::Relation;
use super::server::{self, guarded};
use crate::error::cannot_happen;
use pgrx::pg_sys::{self, Datum};

/// A column to be made.
pub struct Column {
    pub name: String,
    pub typid: pg_sys::Oid,
    pub typmod: i32,
    pub collation: pg_sys::Oid,
    /// How values are compressed or moved out of the row, if not as the type has it.
    pub storage: Option<u8>,
}

impl Column {
    /// With the type's default modifier and collation.
    pub fn new(name: impl Into<String>, typid: pg_sys::Oid) -> Self {
        // SAFETY: a syscache look-up.
        let collation = unsafe { pg_sys::get_typcollation(typid) };
        Self { name: name.into(), typid, typmod: -1, collation, storage: None }
    }
}

/// Creates a logged heap in `schema`, owned by the schema's owner, with a storage option.
pub fn create(schema: pg_sys::Oid, name: &str, columns: &[Column], option: (&str, &str)) -> pg_sys::Oid {
    let _member = Member::begin();
    // SAFETY: arguments as DefineRelation passes them for a plain table; the relation is new and invisible to others.
    unsafe {
        let relid = pg_sys::heap_create_with_catalog(
            cstring(name),
            schema,
            pg_sys::InvalidOid,
            pg_sys::InvalidOid,
            pg_sys::InvalidOid,
            pg_sys::InvalidOid,
            owner(schema),
            pg_sys::HEAP_TABLE_AM_OID,
            describe(columns),
            std::ptr::null_mut(),
            pg_sys::RELKIND_RELATION as i8,
            pg_sys::RELPERSISTENCE_PERMANENT as i8,
            false,
            false,
            pg_sys::OnCommitAction::ONCOMMIT_NOOP,
            reloptions(option),
            false,
            true,
            true,
            pg_sys::InvalidOid,
            std::ptr::null_mut(),
        );
        command_counter_increment();
        guarded(|| server::NewRelationCreateToastTable(relid, Datum::from(0usize)));
        command_counter_increment();
        keep_from_analyze(relid);
        keep_from_others(relid);
        command_counter_increment();
        relid
    }
}

/// As ALTER TABLE ... ALTER COLUMN ... SET STATISTICS 0, for every column.
fn keep_from_analyze(table: pg_sys::Oid) {
    let attributes = CatalogTable::open_for_write(pg_sys::AttributeRelationId);
    let none = [(pg_sys::Anum_pg_attribute_attstattarget as i16, value(0i16))];
    let by_relation = pg_sys::AttributeRelidNumIndexId.into();
    for row in attributes.find(by_relation, pg_sys::Anum_pg_attribute_attrelid as i16, table, Rows::Latest) {
        if row.must::<i16>(pg_sys::Anum_pg_attribute_attnum as i16) > 0 {
            attributes.update(&row, &none);
        }
    }
}

/// As ALTER TABLE ... ENABLE ROW LEVEL SECURITY, without a policy: who may read or write all tables of the database
/// (`pg_read_all_data`, `pg_write_all_data`) sees and makes no row of this one.
fn keep_from_others(table: pg_sys::Oid) {
    let classes = CatalogTable::open_for_write(pg_sys::RelationRelationId);
    if let Some(row) = classes.get(pg_sys::ClassOidIndexId.into(), pg_sys::Anum_pg_class_oid as i16, table) {
        classes.update(&row, &[(pg_sys::Anum_pg_class_relrowsecurity as i16, value(true))]);
    }
}

/// Creates a btree over `columns` (attribute numbers) of a table made by `create`. Where it is unique, NULLs are equal.
pub fn create_index(table: pg_sys::Oid, columns: &[i16], unique: bool) -> pg_sys::Oid {
    let _member = Member::begin();
    let heap = Relation::open(table, pg_sys::ShareLock);
    // SAFETY: the table is open; every array has one entry per column.
    unsafe {
        let attributes: Vec<_> = columns.iter().map(|&column| heap.attribute(column)).collect();
        let btree = pg_sys::BTREE_AM_OID;
        let count = columns.len() as i32;
        let info = pg_sys::makeIndexInfo(
            count,
            count,
            btree,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            unique,
            unique,
            true,
            false,
            false,
            false,
        );
        let names = attributes.iter().map(|attribute| pg_sys::pstrdup(attribute.attname.data.as_ptr()));
        let classes: Vec<pg_sys::Oid> = attributes.iter().map(|attribute| default_class(attribute.atttypid)).collect();
        let collations: Vec<pg_sys::Oid> = attributes.iter().map(|attribute| attribute.attcollation).collect();
        (&mut (*info).ii_IndexAttrNumbers)[..columns.len()].copy_from_slice(columns);
        let index = pg_sys::index_create(
            heap.as_ptr(),
            cstring(&format!("{}_key", heap.name())),
            pg_sys::InvalidOid,
            pg_sys::InvalidOid,
            pg_sys::InvalidOid,
            pg_sys::InvalidOid,
            info,
            list::make(names),
            btree,
            pg_sys::InvalidOid,
            collations.as_ptr(),
            classes.as_ptr(),
            std::ptr::null(),
            vec![0i16; columns.len()].as_ptr(),
            std::ptr::null(),
            Datum::from(0usize),
            0,
            0,
            true,
            true,
            std::ptr::null_mut(),
        );
        command_counter_increment();
        index
    }
}

/// Empties a table made by `create`, transactionally. Its indexes may be left without a page: whoever fills the table in the same
/// transaction builds them.
pub fn clear(table: pg_sys::Oid) {
    let heap = Relation::open(table, pg_sys::AccessExclusiveLock);
    // SAFETY: as ExecuteTruncateGuts does for one table, which nobody else uses.
    unsafe {
        let subtransaction = pg_sys::GetCurrentSubTransactionId();
        let relation = heap.as_ptr();
        if (*relation).rd_createSubid == subtransaction || (*relation).rd_newRelfilelocatorSubid == subtransaction {
            return pg_sys::heap_truncate_one_rel(relation);
        }
        let toast = heap.form().reltoastrelid;
        new_file(&heap);
        if toast != pg_sys::InvalidOid {
            new_file(&Relation::open(toast, pg_sys::AccessExclusiveLock));
            pg_sys::reindex_relation(std::ptr::null(), toast, 0, &pg_sys::ReindexParams::default());
        }
        for index in list::oids(pg_sys::RelationGetIndexList(relation)) {
            let index = Relation::open(index, pg_sys::AccessExclusiveLock);
            pg_sys::RelationSetNewRelfilenumber(index.as_ptr(), index.form().relpersistence);
        }
    }
}

/// Whether a table is still what `create` and `create_index` made of this. A superuser can take it out of the extension and drop it, or
/// alter it, which the server lets nobody else do; a server without the library does not look at who reads its rows by position.
pub fn is_as_made(table: pg_sys::Oid, columns: &[Column], key: &[i16], unique: bool) -> bool {
    let Some(heap) = Relation::try_open(table, pg_sys::AccessShareLock) else { return false };
    let form = heap.form();
    let is_plain = form.relkind as u8 == pg_sys::RELKIND_RELATION
        && form.relpersistence as u8 == pg_sys::RELPERSISTENCE_PERMANENT
        && form.relam == pg_sys::HEAP_TABLE_AM_OID;
    let attributes = heap.attributes();
    let is_same = |(attribute, column): (&pg_sys::FormData_pg_attribute, &Column)| {
        !attribute.attisdropped
            && pgrx::name_data_to_str(&attribute.attname) == column.name
            && attribute.atttypid == column.typid
            && attribute.atttypmod == column.typmod
            && attribute.attcollation == column.collation
            && attribute.attgenerated == 0
    };
    let has_columns = attributes.len() == columns.len() && attributes.iter().zip(columns).all(is_same);
    is_plain && has_columns && (key.is_empty() || has_index(&heap, key, unique))
}

fn has_index(heap: &Relation, key: &[i16], unique: bool) -> bool {
    // SAFETY: the index list is a copy of the relcache's.
    unsafe { list::oids(pg_sys::RelationGetIndexList(heap.as_ptr())) }.any(|index| {
        let index = Relation::open(index, pg_sys::AccessShareLock);
        // SAFETY: the index is open.
        unsafe { is_index_over(index.as_ptr(), key) && (*(*index.as_ptr()).rd_index).indisunique == unique }
    })
}

/// Whether an index is the one that `create_index` makes over these columns: valid, a btree, of all rows.
///
/// # Safety
/// The index is open.
pub unsafe fn is_index_over(index: pg_sys::Relation, key: &[i16]) -> bool {
    // SAFETY: an open index has its row of pg_index, with indnatts columns.
    unsafe {
        let form = &*(*index).rd_index;
        form.indisvalid
            && (*(*index).rd_rel).relam == pg_sys::BTREE_AM_OID
            && form.indnatts == form.indnkeyatts
            && form.indkey.values.as_slice(form.indnatts as usize) == key
            && pg_sys::heap_attisnull(
                (*index).rd_indextuple,
                pg_sys::Anum_pg_index_indpred as i32,
                std::ptr::null_mut(),
            )
    }
}

/// Drops a table made by `create`, if it is still there.
pub fn drop(table: pg_sys::Oid) {
    if Relation::try_open(table, pg_sys::AccessExclusiveLock).is_none() {
        return;
    }
    let address = pg_sys::ObjectAddress { classId: pg_sys::RelationRelationId, objectId: table, objectSubId: 0 };
    let flags =
        pg_sys::PERFORM_DELETION_INTERNAL | pg_sys::PERFORM_DELETION_QUIETLY | pg_sys::PERFORM_DELETION_SKIP_EXTENSIONS;
    // SAFETY: the server takes the lock, and raises when something depends on the table.
    unsafe { pg_sys::performDeletion(&address, pg_sys::DropBehavior::DROP_RESTRICT, flags as i32) };
}

/// Objects made while this lives become members of the extension.
struct Member {
    creating: bool,
    object: pg_sys::Oid,
}

impl Member {
    fn begin() -> Self {
        // SAFETY: the flags CREATE EXTENSION sets; restored on drop, whichever way the scope is left.
        unsafe {
            let before = Self { creating: pg_sys::creating_extension, object: pg_sys::CurrentExtensionObject };
            let extension = pg_sys::get_extension_oid(c"pg_trickle".as_ptr(), false);
            (pg_sys::creating_extension, pg_sys::CurrentExtensionObject) = (true, extension);
            before
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // SAFETY: plain variables of a single-threaded process.
        unsafe { (pg_sys::creating_extension, pg_sys::CurrentExtensionObject) = (self.creating, self.object) };
    }
}

unsafe fn describe(columns: &[Column]) -> pg_sys::TupleDesc {
    // SAFETY: every column of the new descriptor is initialised.
    unsafe {
        let desc = pg_sys::CreateTemplateTupleDesc(columns.len() as i32);
        for (number, column) in (1i16..).zip(columns) {
            pg_sys::TupleDescInitEntry(desc, number, cstring(&column.name), column.typid, column.typmod, 0);
            pg_sys::TupleDescInitEntryCollation(desc, number, column.collation);
            if let Some(storage) = column.storage {
                (*pg_sys::TupleDescAttr(desc, i32::from(number) - 1)).attstorage = storage as i8;
            }
        }
        desc
    }
}

unsafe fn reloptions((name, value): (&str, &str)) -> Datum {
    // SAFETY: a list of one DefElem.
    unsafe {
        let value = pg_sys::makeString(cstring(value));
        let option = pg_sys::makeDefElem(cstring(name), value.cast(), -1);
        let (none, namespaces) = (Datum::from(0usize), std::ptr::null());
        pg_sys::transformRelOptions(none, list::make([option]), std::ptr::null(), namespaces, false, false)
    }
}

unsafe fn owner(schema: pg_sys::Oid) -> pg_sys::Oid {
    // SAFETY: a syscache look-up, released at once.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::NAMESPACEOID as i32, schema.into());
        if tuple.is_null() {
            cannot_happen(format!("cache lookup failed for schema {}", schema.to_u32()));
        }
        let owner = (*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_namespace>()).nspowner;
        pg_sys::ReleaseSysCache(tuple);
        owner
    }
}

unsafe fn default_class(typid: pg_sys::Oid) -> pg_sys::Oid {
    // SAFETY: a catalog look-up.
    let class = unsafe { pg_sys::GetDefaultOpClass(typid, pg_sys::BTREE_AM_OID) };
    if class == pg_sys::InvalidOid {
        cannot_happen(format!("type {} cannot be a group key", typid.to_u32()));
    }
    class
}

unsafe fn new_file(relation: &Relation) {
    // SAFETY: an exclusively locked relation.
    unsafe {
        guarded(|| server::CheckTableForSerializableConflictIn(relation.as_ptr()));
        pg_sys::RelationSetNewRelfilenumber(relation.as_ptr(), relation.form().relpersistence);
    }
}
