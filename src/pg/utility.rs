//! The utility hook: sees every utility statement before and after the server executes it.
//!
//! The entry is a plain frame without destructors and the server's own function is called through a raw import, so an
//! error of the server passes through it without becoming a panic. Only the provider's functions run under a guard.

use super::{node, snapshot};
use pgrx::pg_sys;
use std::ffi::{c_char, c_void};
use std::ptr;

/// The arguments of ProcessUtility.
#[derive(Clone, Copy)]
pub struct Call {
    pub(super) pstmt: *mut pg_sys::PlannedStmt,
    pub(super) query_string: *const c_char,
    read_only_tree: bool,
    context: pg_sys::ProcessUtilityContext::Type,
    params: pg_sys::ParamListInfo,
    environment: *mut pg_sys::QueryEnvironment,
    pub(super) dest: *mut pg_sys::DestReceiver,
    qc: *mut pg_sys::QueryCompletion,
}

/// What is to be done after a statement. Dropping it must not call the server: that may happen while a memory context is
/// reset.
pub type After = Box<dyn FnOnce(&Call)>;

/// What becomes of a statement.
pub enum Verdict {
    /// The server executes it as it is.
    Pass,
    /// The server executes it (`Call::rewritten` if given), then the closure runs.
    Core(Option<Call>, After),
    /// It was executed by us.
    Done,
}

/// What the hook asks. `wants` and `pending` run unguarded: plain reads only.
pub trait Provider {
    fn wants(call: &Call) -> bool;
    fn before(call: &Call) -> Verdict;
    /// Something noted while statements ran is waiting for `settle`.
    fn pending() -> bool;
    fn settle();
}

impl Call {
    pub fn tag(&self) -> pg_sys::NodeTag {
        // SAFETY: a utility statement's PlannedStmt has its parse tree.
        unsafe { (*(*self.pstmt).utilityStmt).type_ }
    }

    /// It runs inside another statement, of a function or a trigger say.
    pub fn is_nested(&self) -> bool {
        self.context != pg_sys::ProcessUtilityContext::PROCESS_UTILITY_TOPLEVEL
    }

    /// The statement's parse tree. For reading: it may be a cached plan's.
    pub(super) fn tree<T>(&self) -> *mut T {
        // SAFETY: as in `tag`; the caller has looked at the tag.
        unsafe { (*self.pstmt).utilityStmt.cast() }
    }

    /// This call with another parse tree.
    pub(super) fn with_tree(&self, tree: *mut pg_sys::Node) -> Call {
        // SAFETY: a shallow copy of the statement in the current context, as long-lived as the statement.
        unsafe {
            let pstmt: *mut pg_sys::PlannedStmt = node::make(pg_sys::NodeTag::T_PlannedStmt);
            ptr::copy_nonoverlapping(self.pstmt, pstmt, 1);
            (*pstmt).utilityStmt = tree;
            Call { pstmt, ..*self }
        }
    }

    /// Runs `work` as the server runs a utility command on `relation`: event triggers fire at its start and end.
    pub fn with_events<R>(&self, relation: pg_sys::Oid, work: impl FnOnce() -> R) -> R {
        if self.context == pg_sys::ProcessUtilityContext::PROCESS_UTILITY_SUBCOMMAND {
            return work();
        }
        let tree = self.tree::<pg_sys::Node>();
        let none = pg_sys::ObjectAddress { classId: pg_sys::InvalidOid, objectId: pg_sys::InvalidOid, objectSubId: 0 };
        let address = pg_sys::ObjectAddress { classId: pg_sys::RelationRelationId, objectId: relation, objectSubId: 0 };
        // SAFETY: the sequence of ProcessUtilitySlow.
        unsafe {
            let _state = EventState(pg_sys::EventTriggerBeginCompleteQuery());
            pg_sys::EventTriggerDDLCommandStart(tree);
            let result = work();
            pg_sys::EventTriggerCollectSimpleCommand(address, none, tree);
            pg_sys::EventTriggerSQLDrop(tree);
            pg_sys::EventTriggerDDLCommandEnd(tree);
            result
        }
    }

    /// Sets the command tag and row count reported to the client.
    pub fn complete(&self, tag: pg_sys::CommandTag::Type, rows: u64) {
        if !self.qc.is_null() {
            // SAFETY: the caller's completion record outlives the statement.
            unsafe { pg_sys::SetQueryCompletion(self.qc, tag, rows) };
        }
    }
}

/// The server's state of event triggers for one command; it has to go even after an error.
struct EventState(bool);

impl Drop for EventState {
    fn drop(&mut self) {
        if self.0 {
            // SAFETY: begun once; does not raise.
            unsafe { pg_sys::EventTriggerEndCompleteQuery() };
        }
    }
}

/// A verdict in plain values.
#[derive(Clone, Copy)]
struct Plain {
    call: Call,
    run: bool,
    after: *mut Waiting,
}

/// A closure that waits for the end of a statement, in the statement's memory context. The error of a statement that
/// fails jumps over the hook's frame; the closure is dropped with the context then.
struct Waiting {
    /// None once it has run.
    after: Option<After>,
    dropping: pg_sys::MemoryContextCallback,
}

impl Waiting {
    fn keep(after: After) -> *mut Self {
        let dropping = pg_sys::MemoryContextCallback { func: Some(Self::drop), ..Default::default() };
        // SAFETY: the chunk and its callback live as long as the current context, and so as the statement's tree.
        unsafe {
            let waiting: *mut Self = pg_sys::palloc(size_of::<Self>()).cast();
            waiting.write(Self { after: Some(after), dropping });
            (*waiting).dropping.arg = waiting.cast();
            pg_sys::MemoryContextRegisterResetCallback(pg_sys::CurrentMemoryContext, &raw mut (*waiting).dropping);
            waiting
        }
    }

    unsafe extern "C-unwind" fn drop(waiting: *mut c_void) {
        // SAFETY: made by `keep`, in the context that is being reset and still holds it.
        unsafe { (*waiting.cast::<Self>()).after = None };
    }
}

unsafe extern "C-unwind" {
    // Not pgrx's binding: that one turns errors into panics, for destructors that are not here.
    fn standard_ProcessUtility(
        pstmt: *mut pg_sys::PlannedStmt,
        query_string: *const c_char,
        read_only_tree: bool,
        context: pg_sys::ProcessUtilityContext::Type,
        params: pg_sys::ParamListInfo,
        environment: *mut pg_sys::QueryEnvironment,
        dest: *mut pg_sys::DestReceiver,
        qc: *mut pg_sys::QueryCompletion,
    );
}

static mut NEXT: pg_sys::ProcessUtility_hook_type = None;

/// Installs the hook; called once, in the postmaster.
pub fn register<P: Provider>() {
    // SAFETY: single-threaded start-up.
    unsafe {
        NEXT = pg_sys::ProcessUtility_hook;
        pg_sys::ProcessUtility_hook = Some(process_utility::<P>);
    }
}

unsafe extern "C-unwind" fn process_utility<P: Provider>(
    pstmt: *mut pg_sys::PlannedStmt,
    query_string: *const c_char,
    read_only_tree: bool,
    context: pg_sys::ProcessUtilityContext::Type,
    params: pg_sys::ParamListInfo,
    environment: *mut pg_sys::QueryEnvironment,
    dest: *mut pg_sys::DestReceiver,
    qc: *mut pg_sys::QueryCompletion,
) {
    let call = Call { pstmt, query_string, read_only_tree, context, params, environment, dest, qc };
    let mut plain = Plain { call, run: true, after: ptr::null_mut() };
    if P::wants(&call) {
        before::<P>(&mut plain);
    }
    if plain.run {
        // SAFETY: the arguments are the caller's, the statement possibly a copy of it.
        unsafe { execute(&plain.call) };
    }
    // What a failed statement left behind waits until catalogs can be read again: not for ROLLBACK itself.
    // SAFETY: reads the transaction state.
    if !plain.after.is_null() || (P::pending() && unsafe { pg_sys::IsTransactionState() }) {
        after::<P>(&plain);
    }
}

unsafe fn execute(call: &Call) {
    let Call { pstmt, query_string, read_only_tree, context, params, environment, dest, qc } = *call;
    // SAFETY: plain frames; NEXT is set once at start-up.
    unsafe {
        match NEXT {
            Some(next) => next(pstmt, query_string, read_only_tree, context, params, environment, dest, qc),
            None => {
                standard_ProcessUtility(pstmt, query_string, read_only_tree, context, params, environment, dest, qc)
            }
        }
    }
}

#[pgrx::pg_guard]
extern "C-unwind" fn before<P: Provider>(plain: *mut Plain) {
    // SAFETY: points into the hook's frame.
    let plain = unsafe { &mut *plain };
    match P::before(&plain.call) {
        Verdict::Pass => (),
        Verdict::Done => plain.run = false,
        Verdict::Core(call, after) => {
            plain.call = call.unwrap_or(plain.call);
            plain.after = Waiting::keep(after);
        }
    }
}

#[pgrx::pg_guard]
extern "C-unwind" fn after<P: Provider>(plain: *const Plain) {
    // SAFETY: points into the hook's frame.
    let plain = unsafe { &*plain };
    snapshot::with_active(|| {
        // SAFETY: null or kept by `before`, in a context that lasts as long as the statement.
        let after = unsafe { plain.after.as_mut() }.and_then(|waiting| waiting.after.take());
        if let Some(after) = after {
            after(&plain.call);
        }
        if P::pending() {
            P::settle();
        }
    });
}

/// What happened to a catalog object.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Created,
    Altered,
    Dropped,
    /// A column of it came, went or was altered.
    Column,
}

/// What the object access hook tells. `wants` runs unguarded.
pub trait Watcher {
    fn wants(event: Event, class: pg_sys::Oid) -> bool;
    fn happened(event: Event, class: pg_sys::Oid, object: pg_sys::Oid);
}

static mut NEXT_ACCESS: pg_sys::object_access_hook_type = None;

/// Installs the object access hook; called once, in the postmaster.
pub fn watch<W: Watcher>() {
    // SAFETY: single-threaded start-up.
    unsafe {
        NEXT_ACCESS = pg_sys::object_access_hook;
        pg_sys::object_access_hook = Some(object_access::<W>);
    }
}

unsafe extern "C-unwind" fn object_access<W: Watcher>(
    access: pg_sys::ObjectAccessType::Type,
    class: pg_sys::Oid,
    object: pg_sys::Oid,
    sub: i32,
    arg: *mut c_void,
) {
    // SAFETY: set once at start-up; the arguments are the caller's.
    unsafe {
        if let Some(next) = NEXT_ACCESS {
            next(access, class, object, sub, arg);
        }
    }
    let event = match access {
        pg_sys::ObjectAccessType::OAT_POST_CREATE => Event::Created,
        pg_sys::ObjectAccessType::OAT_POST_ALTER => Event::Altered,
        pg_sys::ObjectAccessType::OAT_DROP => Event::Dropped,
        _ => return,
    };
    let event = if sub == 0 { event } else { Event::Column };
    if W::wants(event, class) {
        happened::<W>(event, class, object);
    }
}

#[pgrx::pg_guard]
extern "C-unwind" fn happened<W: Watcher>(event: Event, class: pg_sys::Oid, object: pg_sys::Oid) {
    W::happened(event, class, object);
}
