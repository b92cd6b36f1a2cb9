//! Iterating and building server lists (`List *`).

use pgrx::pg_sys;

/// The elements of a pointer list, each cast to `*mut T`. NIL (null) is the empty list.
///
/// # Safety
/// `list` is NIL or a live pointer list of `T` that is not changed while iterated.
pub unsafe fn iter<T>(list: *mut pg_sys::List) -> impl Iterator<Item = *mut T> {
    // SAFETY: a non-null list has `length` initialised cells.
    let len = if list.is_null() { 0 } else { unsafe { (*list).length as usize } };
    // SAFETY: index < length.
    (0..len).map(move |i| unsafe { (*(*list).elements.add(i)).ptr_value.cast() })
}

/// The elements of an OID list.
///
/// # Safety
/// `list` is NIL or a live OID list.
pub unsafe fn oids(list: *mut pg_sys::List) -> impl Iterator<Item = pg_sys::Oid> {
    // SAFETY: as in `iter`.
    let len = if list.is_null() { 0 } else { unsafe { (*list).length as usize } };
    // SAFETY: index < length.
    (0..len).map(move |i| unsafe { (*(*list).elements.add(i)).oid_value })
}

/// The elements of an integer list.
///
/// # Safety
/// `list` is NIL or a live integer list.
pub unsafe fn ints(list: *mut pg_sys::List) -> impl Iterator<Item = i32> {
    // SAFETY: as in `iter`.
    let len = if list.is_null() { 0 } else { unsafe { (*list).length as usize } };
    // SAFETY: index < length.
    (0..len).map(move |i| unsafe { (*(*list).elements.add(i)).int_value })
}

/// A new list of the given pointers in the current memory context.
///
/// # Safety
/// The pointers are nodes (or what the consumer of the list expects).
pub unsafe fn make<T>(items: impl IntoIterator<Item = *mut T>) -> *mut pg_sys::List {
    let mut list = std::ptr::null_mut();
    for item in items {
        // SAFETY: lappend allocates in the current context.
        list = unsafe { pg_sys::lappend(list, item.cast()) };
    }
    list
}

/// A new OID list.
///
/// # Safety
/// There is a current memory context.
pub unsafe fn make_oids(items: impl IntoIterator<Item = pg_sys::Oid>) -> *mut pg_sys::List {
    // SAFETY: lappend_oid allocates in the current context.
    items.into_iter().fold(std::ptr::null_mut(), |list, item| unsafe { pg_sys::lappend_oid(list, item) })
}

/// A new integer list.
///
/// # Safety
/// There is a current memory context.
pub unsafe fn make_ints(items: impl IntoIterator<Item = i32>) -> *mut pg_sys::List {
    // SAFETY: lappend_int allocates in the current context.
    items.into_iter().fold(std::ptr::null_mut(), |list, item| unsafe { pg_sys::lappend_int(list, item) })
}
