//! Errors on their way through our frames, whole.
//!
//! pgrx catches an ERROR of the server where our code called the server, turns it into a Rust panic so that destructors
//! run, and raises it again where the server called us. Between the two it keeps SQLSTATE, message, DETAIL and HINT, and
//! adds a stack trace to DETAIL if RUST_BACKTRACE is set; CONTEXT, cursor position, internal query, the names of schema,
//! table, column, data type and constraint, and DETAIL for the log are lost. So the linker sends two of its calls here
//! (`--wrap` in build.rs):
//!
//! 1. `CopyErrorData`, where pgrx catches: the whole ErrorData is kept in a memory context of its own. What pgrx gets is
//!    a small copy whose file name says where the whole one is.
//! 2. `errfinish`, where pgrx raises: given such a file name, it rethrows the ErrorData that was kept, as PG_RE_THROW
//!    would. Context callbacks are not called again: the first raise called them all, up to the outermost.
//!
//! The error lives in one place at a time: on the server's stack, or here. Code that catches an error and does not raise it
//! again says so by `forget`; were that omitted, the oldest of a few errors kept makes place for a new one.
//!
//! A Rust panic that is no error of ours, hence a bug, is reported with its message; where it happened stands in the
//! server's log, with a stack trace if RUST_BACKTRACE is set.

use super::server;
use pgrx::pg_sys::panic::{CaughtError, ErrorReport, ErrorReportWithLevel};
use pgrx::{PgTryBuilder, pg_sys};
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::panic::{self, AssertUnwindSafe};
use std::ptr;

/// Errors are held while another one is handled, seldom deeper.
const MOST: usize = 8;

/// An error off the server's stack, alone in its memory context.
#[derive(Clone, Copy)]
struct Kept {
    serial: u64,
    context: pg_sys::MemoryContext,
    data: *mut pg_sys::ErrorData,
}

struct Keep {
    last: u64,
    errors: [Option<Kept>; MOST],
}

thread_local!(static KEEP: RefCell<Keep> = const { RefCell::new(Keep { last: 0, errors: [None; MOST] }) });

impl Keep {
    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// The oldest one goes if there is no place.
    fn put(&mut self, kept: Kept) -> Option<Kept> {
        let oldest = self.errors.iter_mut().min_by_key(|place| place.map_or(0, |kept| kept.serial));
        oldest.expect("there are places").replace(kept)
    }

    fn find(&self, serial: u64) -> Option<Kept> {
        self.errors.iter().flatten().find(|kept| kept.serial == serial).copied()
    }

    fn take(&mut self, serial: u64) -> Option<Kept> {
        self.errors.iter_mut().find(|place| place.is_some_and(|kept| kept.serial == serial))?.take()
    }
}

/// No file has such a name.
const MARK: u8 = 1;

fn mark(serial: u64) -> [u8; 24] {
    let mut name = [0; 24];
    let text = format!("{}{serial}", MARK as char);
    name[..text.len()].copy_from_slice(text.as_bytes());
    name
}

fn serial(mark: &str) -> Option<u64> {
    mark.strip_prefix(MARK as char)?.parse().ok()
}

unsafe extern "C-unwind" {
    // The server's own, by the names that `--wrap` gives them.
    fn __real_CopyErrorData() -> *mut pg_sys::ErrorData;
    fn __real_errfinish(file: *const c_char, line: c_int, function: *const c_char);
    fn errcontext_msg(format: *const c_char, ...) -> c_int;
    fn set_errcontext_domain(domain: *const c_char) -> c_int;
    fn geterrposition() -> c_int;
    fn errposition(position: c_int) -> c_int;
    fn internalerrposition(position: c_int) -> c_int;
    fn internalerrquery(query: *const c_char) -> c_int;
}

/// What pgrx calls for `CopyErrorData`, in the memory context of the code that caught the error.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn __wrap_CopyErrorData() -> *mut pg_sys::ErrorData {
    // SAFETY: plain frames, which an error for lack of memory may pass. The context lives until `forget`, `put` of a later
    // error, or the error's end on the server's stack.
    unsafe {
        let caller = pg_sys::CurrentMemoryContext;
        let context = server::AllocSetContextCreateInternal(
            pg_sys::TopMemoryContext,
            c"pg_trickle error".as_ptr(),
            0,
            1024,
            8192,
        );
        pg_sys::CurrentMemoryContext = context;
        let data = __real_CopyErrorData();
        let serial = KEEP.with_borrow_mut(Keep::next);
        let file: *mut [u8; 24] = server::palloc(size_of::<[u8; 24]>()).cast();
        file.write(mark(serial));
        pg_sys::CurrentMemoryContext = caller;
        // pgrx frees these three and the struct, and reads the rest.
        let text = |text: *mut c_char| if text.is_null() { text } else { server::pstrdup(text) };
        let (message, detail, hint) = (text((*data).message), text((*data).detail), text((*data).hint));
        let copy: *mut pg_sys::ErrorData = server::palloc(size_of::<pg_sys::ErrorData>()).cast();
        let (elevel, sqlerrcode, filename) = ((*data).elevel, (*data).sqlerrcode, file.cast::<c_char>().cast_const());
        copy.write(pg_sys::ErrorData { elevel, sqlerrcode, filename, message, detail, hint, ..Default::default() });
        if let Some(oldest) = KEEP.with_borrow_mut(|keep| keep.put(Kept { serial, context, data })) {
            server::MemoryContextDelete(oldest.context);
        }
        copy
    }
}

/// What pgrx calls for `errfinish`.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn __wrap_errfinish(file: *const c_char, line: c_int, function: *const c_char) {
    // SAFETY: plain frames. The error's context is made a child of ErrorContext, which is reset when the error leaves the
    // server's stack: its file name is not copied there.
    unsafe {
        let Some(serial) = (!file.is_null()).then(|| CStr::from_ptr(file).to_str().ok().and_then(serial)).flatten()
        else {
            return __real_errfinish(file, line, function);
        };
        match KEEP.with_borrow_mut(|keep| keep.take(serial)) {
            Some(kept) => {
                // The entry that pgrx has begun.
                server::FlushErrorState();
                server::MemoryContextSetParent(kept.context, pg_sys::ErrorContext);
                server::ReThrowError(kept.data);
            }
            None => __real_errfinish(c"pg_trickle".as_ptr(), 0, ptr::null()),
        }
    }
}

/// Takes over from pgrx what happens at a panic; once, when the library is loaded.
pub fn register() {
    // pgrx's hook captures a stack trace, for the client's DETAIL. Without it the next one is Rust's own.
    drop(panic::take_hook());
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let payload = info.payload();
        if !(payload.is::<CaughtError>() || payload.is::<ErrorReportWithLevel>() || payload.is::<ErrorReport>()) {
            report(info);
        }
    }));
}

fn report_of(caught: &CaughtError) -> &ErrorReportWithLevel {
    let (CaughtError::PostgresError(report)
    | CaughtError::ErrorReport(report)
    | CaughtError::RustPanic { ereport: report, .. }) = caught;
    report
}

fn kept(caught: &CaughtError) -> Option<Kept> {
    serial(report_of(caught).file()).and_then(|serial| KEEP.with_borrow(|keep| keep.find(serial)))
}

/// The SQLSTATE, as the server packs it. pgrx has none for those that the server does not define.
pub fn code(caught: &CaughtError) -> i32 {
    // SAFETY: an error stays as it is while it is kept.
    kept(caught).map_or(report_of(caught).sql_error_code() as i32, |kept| unsafe { (*kept.data).sqlerrcode })
}

/// The CONTEXT of an error of the server.
pub fn context(caught: &CaughtError) -> Option<String> {
    // SAFETY: an error stays as it is while it is kept; its context is NUL-terminated or null.
    unsafe {
        let context = (*kept(caught)?.data).context;
        (!context.is_null()).then(|| CStr::from_ptr(context).to_string_lossy().into_owned())
    }
}

/// A caught error that will not be raised again.
pub fn forget(caught: &CaughtError) {
    let serial = serial(report_of(caught).file());
    if let Some(kept) = serial.and_then(|serial| KEEP.with_borrow_mut(|keep| keep.take(serial))) {
        // SAFETY: nothing points into the context any more.
        unsafe { pg_sys::MemoryContextDelete(kept.context) };
    }
}

/// Runs `work`. An error that it raises without a HINT gets this one, if `over` says so of its SQLSTATE.
pub fn advise<R>(hint: &str, over: fn(i32) -> bool, work: impl FnOnce() -> R) -> R {
    PgTryBuilder::new(AssertUnwindSafe(work))
        .catch_others(|caught| {
            let report = report_of(&caught);
            if report.hint().is_none() && over(code(&caught)) {
                give(hint, caught)
            }
            caught.rethrow()
        })
        .execute()
}

fn give(hint: &str, caught: CaughtError) -> ! {
    match kept(&caught) {
        Some(kept) => {
            // SAFETY: the copy lives as long as the error it belongs to.
            unsafe { (*kept.data).hint = pg_sys::MemoryContextStrdup(kept.context, super::node::cstring(hint)) };
            caught.rethrow()
        }
        None => {
            let report = report_of(&caught);
            let advised = crate::error::error(report.sql_error_code(), report.message().to_owned()).hint(hint);
            match report.detail() {
                Some(detail) => advised.detail(detail).raise(),
                None => advised.raise(),
            }
        }
    }
}

/// An entry of the server's stack of error contexts, boxed. It goes with the frame that pushed it.
struct Callback(*mut pg_sys::ErrorContextCallback);

impl Callback {
    /// # Safety
    /// `text` outlives the callback.
    unsafe fn push(callback: unsafe extern "C-unwind" fn(*mut c_void), text: &CStr) -> Self {
        let arg = text.as_ptr().cast_mut().cast();
        // SAFETY: popped by Drop, so callbacks leave in the reverse order; pgrx restores the stack where it catches errors.
        unsafe {
            let previous = pg_sys::error_context_stack;
            let entry = pg_sys::ErrorContextCallback { previous, callback: Some(callback), arg };
            pg_sys::error_context_stack = Box::into_raw(Box::new(entry));
            Self(pg_sys::error_context_stack)
        }
    }
}

impl Drop for Callback {
    fn drop(&mut self) {
        // SAFETY: boxed by `push` and freed once, when nothing refers to it; `previous` belongs to a frame that is still there.
        unsafe { pg_sys::error_context_stack = Box::from_raw(self.0).previous };
    }
}

/// Runs `work`; errors and messages in it have this line in CONTEXT.
pub fn within<R>(context: &str, work: impl FnOnce() -> R) -> R {
    unsafe extern "C-unwind" fn say(text: *mut c_void) {
        // SAFETY: called by errfinish, with the text that `under` holds.
        unsafe {
            set_errcontext_domain(ptr::null());
            errcontext_msg(c"%s".as_ptr(), text.cast::<c_char>());
        }
    }
    under(say, context, work)
}

/// Runs `work`, which parses and runs `query`, a text that the user did not send as such: positions in it are shown in it.
pub fn of_query<R>(query: &str, work: impl FnOnce() -> R) -> R {
    // As _SPI_error_callback does it.
    unsafe extern "C-unwind" fn point(text: *mut c_void) {
        // SAFETY: called by errfinish, with the text that `under` holds.
        unsafe {
            let position = geterrposition();
            if position > 0 {
                errposition(0);
                internalerrposition(position);
                internalerrquery(text.cast());
            }
        }
    }
    under(point, query, work)
}

fn under<R>(callback: unsafe extern "C-unwind" fn(*mut c_void), text: &str, work: impl FnOnce() -> R) -> R {
    let text = c_string(text);
    // SAFETY: the text is dropped after the callback.
    let _callback = unsafe { Callback::push(callback, &text) };
    // An error of ours has called nobody yet.
    PgTryBuilder::new(AssertUnwindSafe(work))
        .catch_others(|caught| match caught {
            CaughtError::ErrorReport(report) => throw(&report),
            _ => caught.rethrow(),
        })
        .execute()
}

/// Raises an error of ours as the server raises its own, so that the context callbacks of this place are called.
fn throw(report: &ErrorReportWithLevel) -> ! {
    let texts = [Some(report.message()), report.detail(), report.hint(), Some(report.file()), report.function_name()];
    let texts = texts.map(|text| text.map(c_string));
    let [message, detail, hint, filename, funcname] =
        texts.each_ref().map(|text| text.as_ref().map_or(ptr::null(), |text| text.as_ptr()));
    let mut data = pg_sys::ErrorData {
        elevel: report.level() as c_int,
        sqlerrcode: report.sql_error_code() as c_int,
        message: message.cast_mut(),
        detail: detail.cast_mut(),
        hint: hint.cast_mut(),
        filename,
        lineno: report.line_number() as c_int,
        funcname,
        ..Default::default()
    };
    // SAFETY: the texts live in this frame, beyond the guard, which copies them.
    unsafe { server::guarded(|| server::ThrowErrorData(&raw mut data)) };
    unreachable!("an ERROR does not return")
}

fn c_string(text: &str) -> CString {
    CString::new(text.replace('\0', "")).expect("there is no NUL left")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_its_serial_and_a_file_name_is_none() {
        for n in [1, 42, u64::MAX] {
            let name = mark(n);
            let name = CStr::from_bytes_until_nul(&name).unwrap().to_str().unwrap();
            assert_eq!(serial(name), Some(n));
        }
        for name in ["", "elog.c", "42", "\u{1}", "\u{1}x"] {
            assert_eq!(serial(name), None);
        }
    }

    #[test]
    fn the_oldest_error_goes_when_there_is_no_place() {
        let mut keep = Keep { last: 0, errors: [None; MOST] };
        let put = |keep: &mut Keep| {
            let serial = keep.next();
            keep.put(Kept { serial, context: ptr::null_mut(), data: ptr::null_mut() }).map(|kept| kept.serial)
        };
        for _ in 0..MOST {
            assert_eq!(put(&mut keep), None);
        }
        assert_eq!(keep.take(2).map(|kept| kept.serial), Some(2));
        assert!(keep.find(2).is_none() && keep.take(2).is_none());
        assert_eq!(put(&mut keep), None);
        assert_eq!(put(&mut keep), Some(1));
        assert_eq!(keep.find(3).map(|kept| kept.serial), Some(3));
    }
}
