//! The expressions and the predicate of an index, as they are stored.
//!
//! RelationGetIndexExpressions and RelationGetIndexPredicate fold constants, that is, they call functions of whoever made
//! the index, as whoever looks at it. Here nothing is evaluated, so anybody may look.

use pgrx::pg_sys;

/// The list of expressions, for the index columns whose number is 0; null when there are none.
///
/// # Safety
/// The index is open.
pub unsafe fn expressions(index: pg_sys::Relation) -> *mut pg_sys::List {
    // SAFETY: an open index; the stored form of this column is a list.
    unsafe { stored(index, pg_sys::Anum_pg_index_indexprs).cast() }
}

/// The predicate of a partial index; null when it is about all rows.
///
/// # Safety
/// The index is open.
pub unsafe fn predicate(index: pg_sys::Relation) -> *mut pg_sys::Node {
    // SAFETY: an open index.
    unsafe { stored(index, pg_sys::Anum_pg_index_indpred) }
}

unsafe fn stored(index: pg_sys::Relation, column: u32) -> *mut pg_sys::Node {
    let cache = pg_sys::SysCacheIdentifier::INDEXRELID as i32;
    // SAFETY: an open index has a copy of its pg_index row, which the relcache pins; a column that is not null holds a
    // node tree as text.
    unsafe {
        let mut is_null = false;
        let tree = pg_sys::SysCacheGetAttr(cache, (*index).rd_indextuple, column as i16, &mut is_null);
        if is_null {
            return std::ptr::null_mut();
        }
        pg_sys::stringToNode(pg_sys::text_to_cstring(tree.cast_mut_ptr())).cast()
    }
}
