//! Transactions: begun by background processes, watched at their end in every backend; subtransactions.

use super::{elog, server, snapshot, stack};
use crate::error::Report;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgTryBuilder, pg_guard, pg_sys};
use std::cell::Cell;
use std::ffi::c_void;
use std::panic::AssertUnwindSafe;
use std::thread::LocalKey;

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Commit,
    Prepare,
    Abort,
}

/// Told of every transaction's end. This runs in the middle of it, where an error would be the end of the server: it must
/// be quick, and must neither raise nor panic. So it calls only such functions of the server as cannot raise, and these
/// through the raw imports of `server`. (A guarded one would make a panic of the error, and that would unwind through frames
/// of the server which know nothing of it.)
pub trait Listener {
    fn ended(end: End);
    /// After a commit, when others see what it changed, have been told to forget what they had cached of it, and its locks
    /// are gone.
    fn settled();
}

/// Once, in the postmaster.
pub fn listen<L: Listener>() {
    // SAFETY: the callbacks live as long as the library.
    unsafe {
        pg_sys::RegisterXactCallback(Some(ended::<L>), std::ptr::null_mut());
        pg_sys::RegisterResourceReleaseCallback(Some(released::<L>), std::ptr::null_mut());
    }
}

unsafe extern "C-unwind" fn released<L: Listener>(
    phase: pg_sys::ResourceReleasePhase::Type,
    commit: bool,
    top: bool,
    _arg: *mut c_void,
) {
    if commit && top && phase == pg_sys::ResourceReleasePhase::RESOURCE_RELEASE_AFTER_LOCKS {
        L::settled();
    }
}

unsafe extern "C-unwind" fn ended<L: Listener>(event: pg_sys::XactEvent::Type, _arg: *mut c_void) {
    match event {
        pg_sys::XactEvent::XACT_EVENT_COMMIT => L::ended(End::Commit),
        pg_sys::XactEvent::XACT_EVENT_PREPARE => L::ended(End::Prepare),
        pg_sys::XactEvent::XACT_EVENT_ABORT => L::ended(End::Abort),
        _ => (),
    }
}

/// Work put off to the end of a transaction.
pub trait Postponed {
    /// Just before the commit, in the transaction: an error aborts it.
    fn commit();
    /// The transaction is prepared or aborted, or has been committed.
    fn forget();
}

/// To be called when work is postponed, any number of times, with a place to note that it has been called in this process.
pub fn postpone<P: Postponed>(registered: &'static LocalKey<Cell<bool>>) {
    if !registered.replace(true) {
        // SAFETY: the callback lives as long as the library.
        unsafe { pg_sys::RegisterXactCallback(Some(postponed::<P>), std::ptr::null_mut()) };
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn postponed<P: Postponed>(event: pg_sys::XactEvent::Type, _arg: *mut c_void) {
    match event {
        pg_sys::XactEvent::XACT_EVENT_PRE_COMMIT => P::commit(),
        pg_sys::XactEvent::XACT_EVENT_COMMIT
        | pg_sys::XactEvent::XACT_EVENT_PREPARE
        | pg_sys::XactEvent::XACT_EVENT_ABORT => P::forget(),
        _ => (),
    }
}

/// Why a transaction or an attempt failed.
pub struct Failure {
    /// As the server packs it.
    pub code: i32,
    pub message: String,
    detail: Option<String>,
    hint: Option<String>,
    context: Option<String>,
}

impl Failure {
    pub fn raise(&self) -> ! {
        self.within(|report| report.raise())
    }

    pub fn warn(&self) {
        self.within(Report::warn);
    }

    /// To the server's log.
    pub fn log(&self) {
        self.within(Report::log);
    }

    pub fn debug(&self) {
        self.within(Report::debug);
    }

    /// Message, DETAIL and CONTEXT, as the server's log shows them.
    pub fn text(&self) -> String {
        let mut text = self.message.clone();
        for (title, part) in [("DETAIL", &self.detail), ("CONTEXT", &self.context)] {
            if let Some(part) = part {
                text += &format!("\n{title}:  {part}");
            }
        }
        text
    }

    fn within<R>(&self, act: impl FnOnce(Report) -> R) -> R {
        match &self.context {
            Some(context) => elog::within(context, || act(self.report())),
            None => act(self.report()),
        }
    }

    fn report(&self) -> Report {
        let mut report = crate::error::error(self.code.into(), self.message.clone());
        if let Some(detail) = &self.detail {
            report = report.detail(detail.clone());
        }
        if let Some(hint) = &self.hint {
            report = report.hint(hint.clone());
        }
        report
    }
}

/// Runs `work` in a transaction of its own, under a snapshot; an error aborts it. In a background process.
pub fn run<R>(work: impl FnOnce() -> R) -> Result<R, Failure> {
    let result = PgTryBuilder::new(AssertUnwindSafe(|| {
        // SAFETY: as autovacuum does it.
        unsafe {
            pg_sys::SetCurrentStatementStartTimestamp();
            pg_sys::StartTransactionCommand();
        }
        let result = snapshot::with_active(work);
        // SAFETY: begun above.
        unsafe { pg_sys::CommitTransactionCommand() };
        Ok(result)
    }))
    .catch_others(|error| {
        let failure = failure(&error);
        elog::forget(&error);
        Err(failure)
    })
    .execute();
    if result.is_err() {
        // SAFETY: whatever state the error left is cleaned up.
        unsafe { pg_sys::AbortOutOfAnyTransaction() };
    }
    result
}

/// Runs `work` in a subtransaction. An error undoes it, and is returned if `forgiven`.
///
/// As PL/pgSQL does it for EXCEPTION. What `work` has allocated stays until the current memory context goes.
pub fn attempt<R>(forgiven: fn(i32) -> bool, work: impl FnOnce() -> R) -> Result<R, Failure> {
    // To undo it after an error takes some of the stack, and must not fail.
    stack::check_room();
    // SAFETY: plain globals.
    let (context, owner) = unsafe { (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner) };
    let restore = || {
        // SAFETY: both outlive the subtransaction.
        unsafe {
            pg_sys::CurrentMemoryContext = context;
            pg_sys::CurrentResourceOwner = owner;
        }
    };
    // SAFETY: inside a transaction; ended below on every path.
    unsafe { pg_sys::BeginInternalSubTransaction(std::ptr::null()) };
    // SAFETY: alive; work is to allocate where the caller does.
    unsafe { pg_sys::CurrentMemoryContext = context };
    PgTryBuilder::new(AssertUnwindSafe(|| {
        let result = work();
        // SAFETY: begun above.
        unsafe { pg_sys::ReleaseCurrentSubTransaction() };
        restore();
        Ok(result)
    }))
    .catch_others(|caught| {
        restore();
        // SAFETY: begun above, and failed; the error is no longer on the server's stack.
        unsafe { pg_sys::RollbackAndReleaseCurrentSubTransaction() };
        restore();
        let failure = failure(&caught);
        if !forgiven(failure.code) {
            caught.rethrow()
        }
        elog::forget(&caught);
        Err(failure)
    })
    .execute()
}

fn failure(error: &CaughtError) -> Failure {
    let (CaughtError::PostgresError(report)
    | CaughtError::ErrorReport(report)
    | CaughtError::RustPanic { ereport: report, .. }) = error;
    Failure {
        code: elog::code(error),
        message: report.message().to_owned(),
        detail: report.detail().map(str::to_owned),
        hint: report.hint().map(str::to_owned),
        context: elog::context(error),
    }
}

/// A subtransaction, of all that this backend runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Subtransaction(u64, pg_sys::SubTransactionId);

impl Subtransaction {
    pub fn current() -> Self {
        // SAFETY: inside a transaction, which gets an id if it has none.
        unsafe { Self(pg_sys::GetTopFullTransactionId().value, pg_sys::GetCurrentSubTransactionId()) }
    }
}

/// Prepared transactions exist in this server.
pub fn may_be_prepared() -> bool {
    unsafe extern "C" {
        static max_prepared_xacts: std::ffi::c_int;
    }
    // SAFETY: a setting.
    unsafe { max_prepared_xacts > 0 }
}

/// This process applies the changes of a subscription.
pub fn is_logical_worker() -> bool {
    // SAFETY: reads the process's own state and does not raise.
    unsafe { server::IsLogicalWorker() }
}
