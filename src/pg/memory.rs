//! Memory contexts: ones to work in that go away, and, on hot paths, switches that cost no crossing of the FFI guard.

use pgrx::pg_sys;
use std::ffi::CStr;

/// A new context, deleted with `parent`.
///
/// # Safety
/// `parent` is alive.
pub unsafe fn create(parent: pg_sys::MemoryContext, name: &'static CStr) -> pg_sys::MemoryContext {
    let (min, initial, max) =
        (pg_sys::ALLOCSET_DEFAULT_MINSIZE, pg_sys::ALLOCSET_DEFAULT_INITSIZE, pg_sys::ALLOCSET_DEFAULT_MAXSIZE);
    // SAFETY: by contract; the name is static.
    unsafe {
        pg_sys::AllocSetContextCreateInternal(parent, name.as_ptr(), min as usize, initial as usize, max as usize)
    }
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

/// A memory context that is deleted with the handle. It is nobody's current context then, be it after an error.
pub struct Owned(pg_sys::MemoryContext);

impl Owned {
    /// Small ones, of which there are many.
    ///
    /// # Safety
    /// `parent` outlives the handle.
    pub unsafe fn make(parent: pg_sys::MemoryContext, name: &'static CStr) -> Self {
        // SAFETY: by contract; the name is static.
        Self(unsafe {
            pg_sys::AllocSetContextCreateExtended(
                parent,
                name.as_ptr(),
                pg_sys::ALLOCSET_SMALL_MINSIZE as usize,
                pg_sys::ALLOCSET_SMALL_INITSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
            )
        })
    }

    /// Runs `work` with this as the current context, and goes back even after an error.
    pub fn run<R>(&self, work: impl FnOnce() -> R) -> R {
        // SAFETY: alive as long as the handle, and so is the old one.
        let _back = Back(unsafe { pg_sys::MemoryContextSwitchTo(self.0) });
        work()
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: made by this handle; what it holds has no other owner.
        unsafe { pg_sys::MemoryContextDelete(self.0) };
    }
}

/// Goes back to a memory context.
struct Back(pg_sys::MemoryContext);

impl Drop for Back {
    fn drop(&mut self) {
        // SAFETY: the context was the current one before.
        unsafe { pg_sys::MemoryContextSwitchTo(self.0) };
    }
}

/// A memory context for intermediate results, deleted with the handle. An ERROR leaves it to its parent's reset.
pub struct Scratch(pg_sys::MemoryContext);

impl Scratch {
    /// A child of the current context.
    pub fn make() -> Self {
        let name = c"pg_trickle scratch".as_ptr();
        let (min, init, max) =
            (pg_sys::ALLOCSET_DEFAULT_MINSIZE, pg_sys::ALLOCSET_DEFAULT_INITSIZE, pg_sys::ALLOCSET_DEFAULT_MAXSIZE);
        // SAFETY: the current context is valid; the name is static.
        Self(unsafe {
            pg_sys::AllocSetContextCreateInternal(
                pg_sys::CurrentMemoryContext,
                name,
                min as usize,
                init as usize,
                max as usize,
            )
        })
    }

    /// Runs `work` on each relation, and frees what it leaves behind.
    pub fn each(relations: &[pg_sys::Oid], work: impl Fn(pg_sys::Oid)) {
        relations.iter().for_each(|relation| Self::make().run(|| work(*relation)));
    }

    /// Runs `work` with this as the current context.
    pub fn run<R>(&self, work: impl FnOnce() -> R) -> R {
        // SAFETY: the context lives as long as the handle; an ERROR inside restores the current context by itself.
        unsafe {
            let outer = pg_sys::MemoryContextSwitchTo(self.0);
            let result = work();
            pg_sys::MemoryContextSwitchTo(outer);
            result
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: made by this handle, deleted once.
            unsafe { pg_sys::MemoryContextDelete(self.0) };
        }
    }
}
