//! Small constructors and tests for parse and plan nodes.

use pgrx::pg_sys;
use std::ffi::CString;

/// `IsA(node, tag)`; null is no node.
///
/// # Safety
/// `node` is null or points to a live node.
pub unsafe fn is_a<T>(node: *const T, tag: pg_sys::NodeTag) -> bool {
    // SAFETY: every node starts with its tag.
    !node.is_null() && unsafe { (*node.cast::<pg_sys::Node>()).type_ == tag }
}

/// `copyObject`, keeping the pointer's type.
///
/// # Safety
/// `node` is null or a node the server can copy.
pub unsafe fn copy<T>(node: *const T) -> *mut T {
    // SAFETY: copyObjectImpl only reads the source tree.
    unsafe { pg_sys::copyObjectImpl(node.cast()).cast() }
}

/// `makeNode`: a zeroed node of this type in the current memory context.
///
/// # Safety
/// `tag` belongs to `T`.
pub unsafe fn make<T>(tag: pg_sys::NodeTag) -> *mut T {
    // SAFETY: palloc0 returns a zeroed chunk of the size; the tag is the first field.
    unsafe {
        let node: *mut T = pg_sys::palloc0(size_of::<T>()).cast();
        (*node.cast::<pg_sys::Node>()).type_ = tag;
        node
    }
}

/// A palloc'd copy of a Rust string.
pub fn cstring(text: &str) -> *mut std::ffi::c_char {
    let text = CString::new(text).expect("server strings hold no NUL");
    // SAFETY: pstrdup copies the string into the current context.
    unsafe { pg_sys::pstrdup(text.as_ptr()) }
}

/// The text of a server string; empty for null.
///
/// # Safety
/// `text` is null or NUL-terminated.
pub unsafe fn string(text: *const std::ffi::c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: NUL-terminated by contract.
    unsafe { std::ffi::CStr::from_ptr(text).to_string_lossy().into_owned() }
}
