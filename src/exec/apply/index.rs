//! The index through which apply finds the view's rows.
//!
//! - A keyed view whose key is short: a unique btree index on exactly the key columns. Any suitable one serves, the
//!   user's too; ours is made NULLS NOT DISTINCT.
//! - A keyed view whose key may be long (`text`, unconstrained `numeric`): a btree index on
//!   `pgtrickle.row_image_hash(key columns)`, because a btree entry holds at most 2704 bytes: an index on the key
//!   itself would make a refresh fail on the first long value, which a view without our index accepts.
//! - A bag: a btree index on `pgtrickle.row_image_hash(all columns)`.
//! - A view of one row (key of no columns) or of no columns: none, the view is scanned.
//!
//! Found by structure, never by name, so a restored dump finds its own. Where it is missing the node scans the view
//! (right but slow), and `make_index::ensure` makes it anew.

use crate::pg::image::HASH_CHUNK;
use crate::pg::relation::Relation;
use crate::pg::{index_tree, list, node};
use pgrx::pg_sys::{self, Oid};

/// What finds the rows to remove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApplyIndex {
    /// A unique index on these columns (0-based, in index order).
    Key { index: Oid, columns: Vec<usize> },
    /// An index on the image hash of these columns.
    Hash { index: Oid, columns: Vec<usize> },
    /// None is needed: the view has at most one row.
    Single,
    /// None (yet), or the view has no columns: it is scanned.
    None,
}

impl ApplyIndex {
    pub fn oid(&self) -> Option<Oid> {
        match self {
            Self::Key { index, .. } | Self::Hash { index, .. } => Some(*index),
            Self::Single | Self::None => None,
        }
    }

    /// The columns it finds rows by.
    pub fn columns(&self) -> &[usize] {
        match self {
            Self::Key { columns, .. } | Self::Hash { columns, .. } => columns,
            Self::Single | Self::None => &[],
        }
    }
}

/// The view's apply index. `key` as in `Circuit::key`.
pub fn find(view: Oid, key: Option<&[usize]>) -> ApplyIndex {
    let view = Relation::open(view, pg_sys::AccessShareLock);
    // SAFETY: the index list is a copy of the relcache's.
    let indexes: Vec<Relation> = unsafe { list::oids(pg_sys::RelationGetIndexList(view.as_ptr())) }
        .map(|index| Relation::open(index, pg_sys::AccessShareLock))
        .collect();
    // SAFETY: all are open.
    unsafe { choose(view.as_ptr(), indexes.iter().map(Relation::as_ptr), key) }
}

/// The best of a view's open indexes: a unique one on the key, a hash of the key, a hash of the row.
///
/// # Safety
/// The view and its indexes are open.
pub unsafe fn choose(
    view: pg_sys::Relation,
    indexes: impl Iterator<Item = pg_sys::Relation>,
    key: Option<&[usize]>,
) -> ApplyIndex {
    if key.is_some_and(<[usize]>::is_empty) {
        return ApplyIndex::Single;
    }
    // SAFETY: open relations by contract.
    let natts = unsafe { (*(*view).rd_att).natts } as usize;
    let mut best = ApplyIndex::None;
    for index in indexes {
        // SAFETY: open relations by contract.
        let (oid, unique, hashed) = unsafe {
            if !usable(index) {
                continue;
            }
            ((*index).rd_id, key.and_then(|key| unique_columns(view, index, key)), hash_arguments(index))
        };
        if let Some(columns) = unique {
            return ApplyIndex::Key { index: oid, columns };
        }
        let Some(columns) = hashed else { continue };
        if key.is_some_and(|key| sorted(key) == columns) || (columns.len() == natts && best == ApplyIndex::None) {
            best = ApplyIndex::Hash { index: oid, columns };
        }
    }
    best
}

/// A valid btree index on the whole view.
unsafe fn usable(index: pg_sys::Relation) -> bool {
    // SAFETY: an open index has all of these.
    unsafe {
        let form = &*(*index).rd_index;
        (*(*index).rd_rel).relam == pg_sys::BTREE_AM_OID
            && form.indisvalid
            && form.indisready
            && form.indislive
            && pg_sys::heap_attisnull(
                (*index).rd_indextuple,
                pg_sys::Anum_pg_index_indpred as i32,
                std::ptr::null_mut(),
            )
    }
}

/// The columns of a unique index on exactly the key, by the columns' own equality; in index order.
unsafe fn unique_columns(view: pg_sys::Relation, index: pg_sys::Relation, key: &[usize]) -> Option<Vec<usize>> {
    // SAFETY: open relations.
    unsafe {
        let form = &*(*index).rd_index;
        let count = form.indnkeyatts as usize;
        if !(form.indisunique && form.indimmediate) || count != key.len() {
            return None;
        }
        let attributes = form.indkey.values.as_slice(count);
        // Attribute 0 is an expression.
        let columns: Vec<usize> = attributes.iter().map(|&attribute| attribute as usize).collect();
        let columns: Vec<usize> =
            columns.into_iter().map(|attribute| attribute.checked_sub(1)).collect::<Option<_>>()?;
        (sorted(&columns) == sorted(key) && (0..count).all(|i| default_equality(view, index, i))).then_some(columns)
    }
}

/// Whether index column `i` compares as the view's column does.
unsafe fn default_equality(view: pg_sys::Relation, index: pg_sys::Relation, i: usize) -> bool {
    // SAFETY: `i` is a key column of the open index, on a plain column of the view.
    unsafe {
        let attribute = (*(*index).rd_index).indkey.values.as_slice(i + 1)[i];
        let attribute = &*pg_sys::TupleDescAttr((*view).rd_att, i32::from(attribute) - 1);
        default_family(attribute.atttypid) == Some(*(*index).rd_opfamily.add(i))
            && attribute.attcollation == *(*index).rd_indcollation.add(i)
    }
}

/// The type's own btree order, if it has one.
pub fn default_family(typid: Oid) -> Option<Oid> {
    // SAFETY: type cache entries live for ever.
    let family = unsafe { (*pg_sys::lookup_type_cache(typid, pg_sys::TYPECACHE_BTREE_OPFAMILY as i32)).btree_opf };
    (family != pg_sys::InvalidOid).then_some(family)
}

/// The view columns (ascending in the indexes we make) whose image hash is the one column of this index.
///
/// # Safety
/// The index is open.
pub unsafe fn hash_arguments(index: pg_sys::Relation) -> Option<Vec<usize>> {
    // SAFETY: an open index.
    unsafe {
        let form = &*(*index).rd_index;
        if form.indnkeyatts != 1 || form.indkey.values.as_slice(1)[0] != 0 {
            return None;
        }
        let function = hash_function()?;
        let expression = list::iter::<pg_sys::Node>(index_tree::expressions(index)).next()?;
        let mut columns = Vec::new();
        collect_arguments(expression, function, true, &mut columns)?;
        Some(columns)
    }
}

/// Appends the columns of a hash call: `row_image_hash([row_image_hash(..),] column, ..)`.
unsafe fn collect_arguments(
    call: *mut pg_sys::Node,
    function: Oid,
    outermost: bool,
    columns: &mut Vec<usize>,
) -> Option<()> {
    // SAFETY: a live expression tree.
    unsafe {
        let call: *mut pg_sys::FuncExpr = node::is_a(call, pg_sys::NodeTag::T_FuncExpr).then_some(call.cast())?;
        if (*call).funcid != function {
            return None;
        }
        let mut own = 0;
        for (i, argument) in list::iter::<pg_sys::Node>((*call).args).enumerate() {
            if node::is_a(argument, pg_sys::NodeTag::T_Var) {
                columns.push(usize::try_from((*argument.cast::<pg_sys::Var>()).varattno).ok()?.checked_sub(1)?);
                own += 1;
            } else if i == 0 {
                collect_arguments(argument, function, false, columns)?;
            } else {
                return None;
            }
        }
        // Only the last chunk may be short, as in Shape::hash.
        (own == HASH_CHUNK || (outermost && 0 < own && own < HASH_CHUNK)).then_some(())
    }
}

/// `pgtrickle.row_image_hash(VARIADIC "any")`, or None before the extension has made it.
pub fn hash_function() -> Option<Oid> {
    // SAFETY: a lookup by qualified name and argument type.
    let oid = unsafe {
        let name = ["pgtrickle", "row_image_hash"].map(|part| pg_sys::makeString(node::cstring(part)));
        pg_sys::LookupFuncName(list::make(name), 1, &pg_sys::ANYOID, true)
    };
    (oid != pg_sys::InvalidOid).then_some(oid)
}

pub fn sorted(columns: &[usize]) -> Vec<usize> {
    let mut columns = columns.to_vec();
    columns.sort_unstable();
    columns
}

/// The view columns an index looks at, in keys, expressions and predicate.
///
/// # Safety
/// The index is open.
pub unsafe fn columns_read(index: pg_sys::Relation) -> Vec<usize> {
    // SAFETY: an open index; the Vars of expressions and predicate have varno 1.
    unsafe {
        let form = &*(*index).rd_index;
        let plain =
            form.indkey.values.as_slice(form.indnkeyatts as usize).iter().map(|&attribute| i32::from(attribute));
        let mut members = std::ptr::null_mut();
        pg_sys::pull_varattnos(index_tree::expressions(index).cast(), 1, &mut members);
        pg_sys::pull_varattnos(index_tree::predicate(index), 1, &mut members);
        let mut columns: Vec<usize> = plain.filter_map(|attribute| usize::try_from(attribute - 1).ok()).collect();
        let mut member = -1;
        while {
            member = pg_sys::bms_next_member(members, member);
            member >= 0
        } {
            columns.extend(usize::try_from(member + pg_sys::FirstLowInvalidHeapAttributeNumber - 1).ok());
        }
        columns
    }
}
