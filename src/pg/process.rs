//! Background processes: registered, started, connected, waiting, reporting; and waking other processes.

use super::node::{cstring, string};
use super::{interrupt, server};
use crate::error::error;
use pgrx::pg_sys;
use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int};
use std::time::Duration;

unsafe extern "C-unwind" {
    // As C pointers, which pgrx's guarded bindings are not.
    fn die(signal: c_int);
    fn SignalHandlerForConfigReload(signal: c_int);
}

/// What the server is told of a background process.
pub struct Description<'a> {
    pub name: &'a str,
    /// Shown as backend_type.
    pub kind: &'a str,
    /// The symbol of its main function.
    pub main: &'a CStr,
    pub argument: u32,
}

/// Started again by the postmaster whenever it ends by an error, after so many seconds.
pub const RESTART_SECONDS: i32 = 1;

fn describe(description: &Description, restart: i32) -> pg_sys::BackgroundWorker {
    let mut worker = pg_sys::BackgroundWorker::default();
    copy(&mut worker.bgw_name, description.name.as_bytes());
    copy(&mut worker.bgw_type, description.kind.as_bytes());
    copy(&mut worker.bgw_library_name, b"pg_trickle");
    copy(&mut worker.bgw_function_name, description.main.to_bytes());
    worker.bgw_flags = (pg_sys::BGWORKER_SHMEM_ACCESS | pg_sys::BGWORKER_BACKEND_DATABASE_CONNECTION) as c_int;
    worker.bgw_start_time = pg_sys::BgWorkerStartTime::BgWorkerStart_RecoveryFinished;
    worker.bgw_restart_time = restart;
    worker.bgw_main_arg = pg_sys::Datum::from(description.argument);
    worker
}

/// The rest stays zero.
fn copy(place: &mut [c_char], text: &[u8]) {
    let room = place.len() - 1;
    place.iter_mut().zip(&text[..text.len().min(room)]).for_each(|(place, byte)| *place = *byte as c_char);
}

/// Has the postmaster run the process whenever the server is up and not in recovery.
pub fn register_static(description: &Description) {
    let mut worker = describe(description, RESTART_SECONDS);
    // SAFETY: called while the library is preloaded; the record is copied.
    unsafe { pg_sys::RegisterBackgroundWorker(&mut worker) };
}

/// A background process somebody asked for.
pub struct Handle(*mut pg_sys::BackgroundWorkerHandle);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    Starting,
    Running,
    Ended,
}

/// Asks the postmaster for a process, which wakes this one when it starts and ends. None: no place is left below
/// max_worker_processes.
pub fn start(description: &Description) -> Option<Handle> {
    let mut worker = describe(description, pg_sys::BGW_NEVER_RESTART);
    let mut handle = std::ptr::null_mut();
    // SAFETY: the record is copied; the handle lives in a context that stays.
    unsafe {
        worker.bgw_notify_pid = own_pid();
        let old = pg_sys::MemoryContextSwitchTo(pg_sys::TopMemoryContext);
        let registered = pg_sys::RegisterDynamicBackgroundWorker(&mut worker, &mut handle);
        pg_sys::MemoryContextSwitchTo(old);
        // Not then_some: a handle made for nothing would be freed.
        registered.then(|| Handle(handle))
    }
}

impl Handle {
    pub fn progress(&self) -> Progress {
        let mut pid = 0;
        // SAFETY: a handle of the server.
        match unsafe { pg_sys::GetBackgroundWorkerPid(self.0, &mut pid) } {
            pg_sys::BgwHandleStatus::BGWH_NOT_YET_STARTED => Progress::Starting,
            pg_sys::BgwHandleStatus::BGWH_STARTED => Progress::Running,
            _ => Progress::Ended,
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: allocated by the server for the caller, who has no more use for it.
        unsafe { pg_sys::pfree(self.0.cast()) };
    }
}

/// Defines the entry of a background process: a symbol that runs a function.
macro_rules! background_process {
    ($symbol:ident, $main:path) => {
        #[unsafe(no_mangle)]
        #[pgrx::pg_guard]
        pub extern "C-unwind" fn $symbol(argument: pgrx::pg_sys::Datum) {
            $main(argument.value() as u32)
        }
    };
}

/// The first thing in a process: which signals do what, and `leave` at its end, however it ends.
pub fn begin(leave: fn()) {
    LEAVE.set(Some(leave));
    // SAFETY: as the server's own background processes begin.
    unsafe {
        pg_sys::before_shmem_exit(Some(on_exit), pg_sys::Datum::from(0usize));
        pg_sys::pqsignal_be(pg_sys::SIGHUP as c_int, Some(SignalHandlerForConfigReload));
        pg_sys::pqsignal_be(pg_sys::SIGTERM as c_int, Some(die));
        pg_sys::BackgroundWorkerUnblockSignals();
    }
}

thread_local!(static LEAVE: Cell<Option<fn()>> = const { Cell::new(None) });

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn on_exit(_code: c_int, _argument: pg_sys::Datum) {
    if let Some(leave) = LEAVE.take() {
        leave();
    }
}

/// What may be set for a database, by its owner, or for the server and is meant for sessions: no process of ours is ended by it,
/// kept from writing, or made somebody else. The processes of autovacuum do the same.
const OWN: &[(&CStr, &CStr)] = &[
    (c"role", c"none"),
    (c"row_security", c"on"),
    (c"statement_timeout", c"0"),
    (c"transaction_timeout", c"0"),
    (c"default_transaction_deferrable", c"off"),
    (c"default_transaction_isolation", c"read committed"),
    (c"default_transaction_read_only", c"off"),
];

/// Connects to a database as the bootstrap superuser; to none, for the shared catalogs only.
pub fn connect(database: Option<pg_sys::Oid>) {
    // SAFETY: called once.
    unsafe {
        match database {
            Some(oid) => pg_sys::BackgroundWorkerInitializeConnectionByOid(oid, pg_sys::InvalidOid, 0),
            None => pg_sys::BackgroundWorkerInitializeConnection(std::ptr::null(), std::ptr::null(), 0),
        }
    }
    OWN.iter().for_each(|(name, value)| set(name, value));
}

/// Sets a setting for the rest of the process.
pub fn set(name: &CStr, value: &CStr) {
    // SAFETY: NUL-terminated; raises when there is no such setting.
    unsafe {
        pg_sys::SetConfigOption(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_SUSET,
            pg_sys::GucSource::PGC_S_OVERRIDE,
        );
    }
}

/// Waits until somebody sets this process's latch, or for so long. Then does what the server asks of a process that has
/// no transaction: new settings, invalidation messages, barriers, ending. True when settings were read anew.
pub fn wait(timeout: Option<Duration>, event: &'static CStr) -> bool {
    let (flag, milliseconds) = match timeout {
        // Rounded up: to wake early would be to wake twice.
        Some(time) => (pg_sys::WL_TIMEOUT, time.as_micros().div_ceil(1000).min(i32::MAX as u128) as i64),
        None => (0, -1),
    };
    let events = pg_sys::WL_LATCH_SET | pg_sys::WL_EXIT_ON_PM_DEATH | flag;
    // SAFETY: our own latch.
    unsafe {
        pg_sys::WaitLatch(pg_sys::MyLatch, events as c_int, milliseconds, wait_event(event));
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
    attend()
}

fn attend() -> bool {
    interrupt::check();
    // SAFETY: flags that signal handlers set.
    unsafe {
        let reload = std::ptr::read_volatile(&raw const pg_sys::ConfigReloadPending) != 0;
        if reload {
            std::ptr::write_volatile(&raw mut pg_sys::ConfigReloadPending, 0);
            pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP);
        }
        if std::ptr::read_volatile(&raw const pg_sys::catchupInterruptPending) != 0 {
            pg_sys::ProcessCatchupInterrupt();
        }
        reload
    }
}

/// Lets a session wait a moment, interruptibly.
pub fn pause(time: Duration, event: &'static CStr) {
    let events = pg_sys::WL_LATCH_SET | pg_sys::WL_EXIT_ON_PM_DEATH | pg_sys::WL_TIMEOUT;
    // SAFETY: our own latch.
    unsafe {
        pg_sys::WaitLatch(pg_sys::MyLatch, events as c_int, time.as_millis() as i64, wait_event(event));
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
    interrupt::check();
}

/// Shown in pg_stat_activity while waiting. The server knows a name it has seen before.
pub fn wait_event(name: &'static CStr) -> u32 {
    // SAFETY: NUL-terminated.
    unsafe { pg_sys::WaitEventExtensionNew(name.as_ptr()) }
}

pub fn own_pid() -> i32 {
    // SAFETY: set at the start of the process.
    unsafe { pg_sys::MyProcPid }
}

pub fn own_database() -> pg_sys::Oid {
    // SAFETY: set at the start of the process.
    unsafe { pg_sys::MyDatabaseId }
}

pub fn own_latch() -> *mut pg_sys::Latch {
    // SAFETY: in shared memory, as long as the server runs.
    unsafe { pg_sys::MyLatch }
}

/// Never raises.
///
/// # Safety
/// `latch` is one in shared memory.
pub unsafe fn set_latch(latch: *mut pg_sys::Latch) {
    // SAFETY: it stays as long as the server; SetLatch does not raise, so the raw call does not jump.
    unsafe { server::SetLatch(latch) };
}

/// Ends another process of ours in an orderly way, if it still exists.
pub fn terminate(pid: i32) {
    unsafe extern "C" {
        fn kill(pid: c_int, signal: c_int) -> c_int;
    }
    // SAFETY: a system call; that there is no such process any more is what was wanted.
    unsafe { kill(pid, pg_sys::SIGTERM as c_int) };
}

/// Ends this process; the server does not start it again.
pub fn exit() -> ! {
    // SAFETY: does not return.
    unsafe { pg_sys::proc_exit(0) }
    unreachable!("proc_exit does not return")
}

/// What pg_stat_activity shows of this process.
pub fn report_running(what: &str) {
    // SAFETY: the text is copied.
    unsafe { pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_RUNNING, cstring(what)) };
}

pub fn report_idle() {
    // SAFETY: statistics are sent outside a transaction.
    unsafe {
        pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_IDLE, std::ptr::null());
        pg_sys::pgstat_report_stat(false);
    }
}

/// Sends all statistics that wait to be sent: before a long sleep.
pub fn flush_statistics() {
    // SAFETY: outside a transaction.
    unsafe { pg_sys::pgstat_report_stat(true) };
}

/// The name of a database; None when there is no such database. In a transaction.
pub fn database_name(oid: pg_sys::Oid) -> Option<String> {
    // SAFETY: a copy in the current context, or null.
    let name = unsafe { pg_sys::get_database_name(oid) };
    // SAFETY: NUL-terminated.
    (!name.is_null()).then(|| unsafe { string(name) })
}

/// Says in the log that a database finds no place in shared memory.
pub fn warn_full(databases: usize) {
    error(
        pgrx::PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
        format!("more than {databases} databases have pg_trickle: one has no scheduler"),
    )
    .detail("Its views are refreshed by hand only.")
    .warn()
}

/// Says that a process could not be started for want of a place.
pub fn warn_exhausted(what: &str) {
    error(
        pgrx::PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
        format!("could not start {what}: out of background worker slots"),
    )
    .detail("Views are refreshed late, or not at all, until there is one; this is tried again.")
    .hint("You might need to increase \"max_worker_processes\".")
    .warn()
}
