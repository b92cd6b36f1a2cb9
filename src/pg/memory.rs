//! Memory contexts on hot paths, where crossing the FFI guard to switch would cost more than the switch.

use pgrx::pg_sys;
use std::ffi::CStr;

/// A new context, deleted with `parent`.
///
/// # Safety
/// `parent` is alive.
pub unsafe fn create(parent: pg_sys::MemoryContext, name: &'static CStr) -> pg_sys::MemoryContext {
    let (min, initial, max) = (pg_sys::ALLOCSET_DEFAULT_MINSIZE, pg_sys::ALLOCSET_DEFAULT_INITSIZE, pg_sys::ALLOCSET_DEFAULT_MAXSIZE);
    // SAFETY: by contract; the name is static.
    unsafe { pg_sys::AllocSetContextCreateInternal(parent, name.as_ptr(), min as usize, initial as usize, max as usize) }
}

/// Runs `work` with `context` as the current memory context. After an error the server itself chooses the context.
///
/// # Safety
/// `context` is alive.
#[inline]
pub unsafe fn within<R>(context: pg_sys::MemoryContext, work: impl FnOnce() -> R) -> R {
    // SAFETY: what MemoryContextSwitchTo does.
    unsafe {
        let old = pg_sys::CurrentMemoryContext;
        pg_sys::CurrentMemoryContext = context;
        let result = work();
        pg_sys::CurrentMemoryContext = old;
        result
    }
}

/// Frees everything in `context`.
///
/// # Safety
/// Nothing refers to memory of `context` any more.
#[inline]
pub unsafe fn reset(context: pg_sys::MemoryContext) {
    // SAFETY: alive by contract; a context without allocations since the last reset has nothing to free.
    unsafe {
        if !(*context).isReset || !(*context).firstchild.is_null() {
            pg_sys::MemoryContextReset(context);
        }
    }
}
