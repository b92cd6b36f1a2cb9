//! What the catalogs say about functions, operators and types, through the syscache.

use super::node::string;
use super::relation::Relation;
use super::server;
use super::stack;
use pg_sys::SysCacheIdentifier as Cache;
use pgrx::pg_sys;
use std::ffi::c_char;

/// Runs `read` on a syscache row found by oid; None when there is none.
fn row<T, R>(cache: Cache::Type, key: pg_sys::Oid, read: impl FnOnce(&T) -> R) -> Option<R> {
    // SAFETY: the caches used here have one oid key and rows that start with T's fixed part.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(cache as i32, pg_sys::Datum::from(key));
        if tuple.is_null() {
            return None;
        }
        let result = read(&*pg_sys::GETSTRUCT(tuple).cast::<T>());
        pg_sys::ReleaseSysCache(tuple);
        Some(result)
    }
}

fn found<R>(row: Option<R>, what: &str, oid: pg_sys::Oid) -> R {
    row.unwrap_or_else(|| crate::error::cannot_happen(format!("cache lookup failed for {what} {}", oid.to_u32())))
}

/// SQLlanguageId.
const SQL_LANGUAGE: u32 = 14;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Volatility {
    Immutable,
    Stable,
    Volatile,
}

pub struct Function {
    pub name: String,
    pub volatility: Volatility,
    /// Part of the server itself.
    pub builtin: bool,
    /// Written in SQL.
    pub sql: bool,
}

pub fn function(oid: pg_sys::Oid) -> Function {
    let read = |form: &pg_sys::FormData_pg_proc| Function {
        name: pgrx::name_data_to_str(&form.proname).to_owned(),
        volatility: match form.provolatile as u8 {
            b'i' => Volatility::Immutable,
            b's' => Volatility::Stable,
            _ => Volatility::Volatile,
        },
        builtin: form.pronamespace.to_u32() == pg_sys::PG_CATALOG_NAMESPACE && is_builtin(oid),
        sql: form.prolang.to_u32() == SQL_LANGUAGE,
    };
    found(row(Cache::PROCOID, oid, read), "function", oid)
}

/// Made by initdb.
pub fn is_builtin(oid: pg_sys::Oid) -> bool {
    oid.to_u32() < pg_sys::FirstNormalObjectId
}

/// What a function does, as far as its own catalog row says: source text, library, parsed body.
pub fn definition(function: pg_sys::Oid) -> String {
    let columns = [pg_sys::Anum_pg_proc_prosrc, pg_sys::Anum_pg_proc_probin, pg_sys::Anum_pg_proc_prosqlbody];
    // SAFETY: these columns are text (or stored as such); a null datum is not looked at.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(Cache::PROCOID as i32, pg_sys::Datum::from(function));
        if tuple.is_null() {
            return found(None, "function", function);
        }
        let text = |column: u32| {
            let mut is_null = false;
            let datum = pg_sys::SysCacheGetAttr(Cache::PROCOID as i32, tuple, column as i16, &mut is_null);
            if is_null { String::new() } else { string(pg_sys::text_to_cstring(datum.cast_mut_ptr())) }
        };
        let definition = columns.map(text).join("\0");
        pg_sys::ReleaseSysCache(tuple);
        definition
    }
}

/// `name(argument types)`, for messages.
pub fn function_signature(oid: pg_sys::Oid) -> String {
    // SAFETY: returns a palloc'd string.
    unsafe { string(pg_sys::format_procedure(oid)) }
}

pub fn type_name(oid: pg_sys::Oid) -> String {
    // SAFETY: returns a palloc'd string.
    unsafe { string(pg_sys::format_type_be(oid)) }
}

/// The type below any domains.
pub fn base_type(oid: pg_sys::Oid) -> pg_sys::Oid {
    // SAFETY: a syscache look-up.
    unsafe { pg_sys::getBaseType(oid) }
}

/// Rows of these types and type modifiers always fit an entry of a btree index (at most a third of a page).
pub fn fit_index_entry(columns: impl ExactSizeIterator<Item = (pg_sys::Oid, i32)>) -> bool {
    const ROOM: i32 = 2000;
    columns.len() <= pg_sys::INDEX_MAX_KEYS as usize
        && columns.map(widest).try_fold(0, |sum: i32, size| Some(sum.saturating_add(size?))).is_some_and(|n| n <= ROOM)
}

/// A table may have a column of this type.
pub fn can_be_column(typid: pg_sys::Oid) -> bool {
    // SAFETY: a syscache look-up.
    unsafe { pg_sys::get_typtype(typid) as u8 != pg_sys::TYPTYPE_PSEUDO }
}

/// A row of these types can be stored when what is long is in a TOAST table; how long else it may be is not known.
pub fn fit_row(columns: impl ExactSizeIterator<Item = pg_sys::Oid>) -> bool {
    const MOST: usize = pg_sys::MaxHeapAttributeNumber as usize;
    /// MaxHeapTupleSize: a page less its header and one line pointer, aligned.
    const MOST_BYTES: usize = pg_sys::BLCKSZ as usize - 32;
    /// Longer values are moved out of a row that is too long.
    const STAYS: usize = 24;
    let count = columns.len();
    let header = (std::mem::offset_of!(pg_sys::HeapTupleHeaderData, t_bits) + count.div_ceil(8)).next_multiple_of(8);
    let size = columns.fold(header, |end, typid| match type_layout(typid) {
        (length @ 1.., alignment) => end.next_multiple_of(alignment) + length as usize,
        _ => end + STAYS,
    });
    count <= MOST && size <= MOST_BYTES
}

/// `typlen`, and the alignment in bytes.
fn type_layout(typid: pg_sys::Oid) -> (i16, usize) {
    let (mut length, mut by_value, mut alignment) = (0, false, 0);
    // SAFETY: a syscache look-up.
    unsafe { pg_sys::get_typlenbyvalalign(typid, &mut length, &mut by_value, &mut alignment) };
    let bytes = match alignment as u8 {
        pg_sys::TYPALIGN_CHAR => 1,
        pg_sys::TYPALIGN_SHORT => 2,
        pg_sys::TYPALIGN_INT => 4,
        _ => 8,
    };
    (length, bytes)
}

/// The greatest size of a type's values with their alignment; None when there is no bound.
fn widest((typid, mut typmod): (pg_sys::Oid, i32)) -> Option<i32> {
    // SAFETY: syscache look-ups.
    let size = unsafe {
        let base = pg_sys::getBaseTypeAndTypmod(typid, &mut typmod);
        match pg_sys::get_typlen(base) {
            length @ 1.. => length.into(),
            _ => pg_sys::type_maximum_size(base, typmod),
        }
    };
    (size > 0).then_some(size + 8)
}

/// The function that hashes values of a type alike when an operator finds them equal.
pub fn hash_function(equality: pg_sys::Oid, typid: pg_sys::Oid) -> Option<pg_sys::Oid> {
    let (mut left, mut right) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
    // SAFETY: syscache look-ups.
    let found = unsafe {
        pg_sys::op_hashjoinable(equality, typid) && pg_sys::get_op_hash_functions(equality, &mut left, &mut right)
    };
    found.then_some(left)
}

/// The element type of a true array type.
pub fn element_type(oid: pg_sys::Oid) -> Option<pg_sys::Oid> {
    // SAFETY: a syscache look-up.
    valid(unsafe { pg_sys::get_element_type(oid) })
}

/// What values of an array, range or multirange type are made of.
fn parts(base: pg_sys::Oid) -> impl Iterator<Item = pg_sys::Oid> {
    // SAFETY: syscache look-ups.
    let parts = unsafe {
        [pg_sys::get_element_type(base), pg_sys::get_range_subtype(base), pg_sys::get_multirange_range(base)]
    };
    parts.into_iter().filter_map(valid)
}

/// Values of a type are, or contain, rows of a named or anonymous row type.
pub fn holds_rows(typid: pg_sys::Oid) -> bool {
    stack::check();
    let base = base_type(typid);
    // SAFETY: a syscache look-up.
    let composite = unsafe { pg_sys::get_typtype(base) } == pg_sys::TYPTYPE_COMPOSITE as c_char;
    composite || base == pg_sys::RECORDOID || parts(base).any(holds_rows)
}

/// Values of a type are, or contain, references to objects which are written and read by name.
pub fn names_objects(typid: pg_sys::Oid) -> bool {
    stack::check();
    const REFERENCES: &[pg_sys::Oid] = &[
        pg_sys::ACLITEMOID,
        pg_sys::REGCLASSOID,
        pg_sys::REGCOLLATIONOID,
        pg_sys::REGCONFIGOID,
        pg_sys::REGDICTIONARYOID,
        pg_sys::REGNAMESPACEOID,
        pg_sys::REGOPEROID,
        pg_sys::REGOPERATOROID,
        pg_sys::REGPROCOID,
        pg_sys::REGPROCEDUREOID,
        pg_sys::REGROLEOID,
        pg_sys::REGTYPEOID,
    ];
    let base = base_type(typid);
    // SAFETY: a syscache look-up.
    let relation = unsafe { pg_sys::get_typ_typrelid(base) };
    let columns = || Relation::open(relation, pg_sys::AccessShareLock).attributes();
    REFERENCES.contains(&base)
        || parts(base).any(names_objects)
        || relation != pg_sys::InvalidOid
            && columns().iter().any(|column| !column.attisdropped && names_objects(column.atttypid))
}

fn valid(oid: pg_sys::Oid) -> Option<pg_sys::Oid> {
    (oid != pg_sys::InvalidOid).then_some(oid)
}

/// How a type is compared by default.
#[derive(Clone, Copy)]
pub struct Ordering {
    pub family: pg_sys::Oid,
    /// The type the operator class is declared for.
    pub input: pg_sys::Oid,
    pub eq_op: pg_sys::Oid,
    pub lt_op: pg_sys::Oid,
}

/// The default btree ordering of a type; None for types that cannot be sorted.
pub fn default_ordering(typid: pg_sys::Oid) -> Option<Ordering> {
    const FLAGS: u32 = pg_sys::TYPECACHE_EQ_OPR | pg_sys::TYPECACHE_LT_OPR | pg_sys::TYPECACHE_BTREE_OPFAMILY;
    // SAFETY: typcache entries live for ever.
    let entry = unsafe { &*pg_sys::lookup_type_cache(typid, FLAGS as i32) };
    Some(Ordering {
        family: valid(entry.btree_opf)?,
        input: entry.btree_opintype,
        eq_op: valid(entry.eq_opr)?,
        lt_op: valid(entry.lt_opr)?,
    })
}

/// Number of the btree support function that says whether equality is identity (access/nbtree.h).
const BTEQUALIMAGE_PROC: i16 = 4;

/// Whether values that are equal by the type's default ordering are always the same bytes.
pub fn equal_is_identical(typid: pg_sys::Oid, typmod: i32, collation: pg_sys::Oid) -> bool {
    // The server's claim for bpchar holds only for padded values: trailing blanks do not count.
    if base_type(typid) == pg_sys::BPCHAROID && typmod < 0 {
        return false;
    }
    let Some(ordering) = default_ordering(typid) else { return false };
    // SAFETY: catalog look-ups; the support function takes the operator class input type.
    unsafe {
        let number = BTEQUALIMAGE_PROC;
        let procedure = pg_sys::get_opfamily_proc(ordering.family, ordering.input, ordering.input, number);
        let argument = pg_sys::Datum::from(ordering.input);
        procedure != pg_sys::InvalidOid && pg_sys::OidFunctionCall1Coll(procedure, collation, argument).value() != 0
    }
}

/// Whether an operator is the equality of a btree operator family.
pub fn is_equality_of(operator: pg_sys::Oid, family: pg_sys::Oid) -> bool {
    // SAFETY: a syscache look-up.
    unsafe { pg_sys::get_op_opfamily_strategy(operator, family) == pg_sys::BTEqualStrategyNumber as i32 }
}

pub fn is_immutable_operator(operator: pg_sys::Oid) -> bool {
    // SAFETY: a syscache look-up.
    function(unsafe { pg_sys::get_opcode(operator) }).volatility == Volatility::Immutable
}

/// Equality under the collation is equality of bytes; true when there is no collation.
pub fn is_deterministic(collation: pg_sys::Oid) -> bool {
    // SAFETY: a syscache look-up.
    collation == pg_sys::InvalidOid || unsafe { pg_sys::get_collation_isdeterministic(collation) }
}

/// Whether a relation has inheritance children or partitions.
pub fn children(relation: pg_sys::Oid) -> Vec<pg_sys::Oid> {
    // SAFETY: no lock; a list of oids in the current context.
    unsafe {
        if !server::guarded(|| server::has_subclass(relation)) {
            return vec![];
        }
        let none = std::ptr::null_mut();
        let all = server::guarded(|| server::find_all_inheritors(relation, pg_sys::NoLock as i32, none));
        super::list::oids(all).filter(|child| *child != relation).collect()
    }
}

/// Rows of its table are entered into the index. Of one of a TOAST table the relcache may not know: while it is open, it
/// keeps the flags it has (RelationReloadIndexInfo takes TOAST tables for catalogs).
pub fn is_maintained(index: pg_sys::Oid) -> bool {
    found(row(Cache::INDEXRELID, index, |index: &pg_sys::FormData_pg_index| index.indisready), "index", index)
}

/// `schema.name`, quoted as needed, for messages.
pub fn relation_name(relation: pg_sys::Oid) -> String {
    found(try_relation_name(relation), "relation", relation)
}

/// As `relation_name`; None when somebody has dropped it.
pub fn try_relation_name(relation: pg_sys::Oid) -> Option<String> {
    // SAFETY: syscache look-ups that return palloc'd strings or null.
    unsafe {
        let name = pg_sys::get_rel_name(relation);
        let schema = pg_sys::get_namespace_name(pg_sys::get_rel_namespace(relation));
        (!name.is_null() && !schema.is_null()).then(|| string(pg_sys::quote_qualified_identifier(schema, name)))
    }
}

/// relkind and relpersistence.
pub fn relation_kind(relation: pg_sys::Oid) -> (u8, u8) {
    let read = |form: &pg_sys::FormData_pg_class| (form.relkind as u8, form.relpersistence as u8);
    found(row(Cache::RELOID, relation, read), "relation", relation)
}

pub fn schema_of(relation: pg_sys::Oid) -> pg_sys::Oid {
    // SAFETY: a syscache look-up.
    unsafe { pg_sys::get_rel_namespace(relation) }
}

/// The name of a relation's schema, as it is.
pub fn schema_name(relation: pg_sys::Oid) -> String {
    // SAFETY: a syscache look-up that returns a palloc'd string or null.
    unsafe {
        let name = pg_sys::get_namespace_name(schema_of(relation));
        found((!name.is_null()).then(|| string(name)), "schema of relation", relation)
    }
}

/// Catalogs, toast tables and the information schema: changed by the server, not by statements.
pub fn is_server_relation(relation: pg_sys::Oid) -> bool {
    let toast = |form: &pg_sys::FormData_pg_class| form.relnamespace.to_u32() == pg_sys::PG_TOAST_NAMESPACE;
    is_builtin(relation) || found(row(Cache::RELOID, relation, toast), "relation", relation)
}

/// A 64-bit hash of bytes that stays the same across servers of one architecture.
pub fn hash(bytes: &[u8], seed: u64) -> u64 {
    // SAFETY: the slice is alive; the function only reads it and cannot raise.
    unsafe { server::hash_bytes_extended(bytes.as_ptr(), bytes.len() as i32, seed) }
}

/// The current user's name.
pub fn current_user() -> String {
    // SAFETY: a syscache look-up that returns a palloc'd string.
    unsafe { string(pg_sys::GetUserNameFromId(pg_sys::GetUserId(), false) as *const c_char) }
}

/// The operator can serve as the equality of a merge or hash join.
pub fn is_equality(operator: pg_sys::Oid, input: pg_sys::Oid) -> bool {
    // SAFETY: catalog look-ups. Of arrays and rows the answer depends on the type of the left input.
    unsafe { pg_sys::op_mergejoinable(operator, input) || pg_sys::op_hashjoinable(operator, input) }
}
