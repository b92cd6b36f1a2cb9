//! What it takes to be a custom scan node, once for all of ours.
//!
//! A node is a Rust value implementing [`Provider`]. This file owns the C side: the methods tables, the trampolines
//! (each guards, finds the provider and calls it) and the life of the provider's memory:
//!
//! 1. `CreateCustomScanState` pallocs a `CustomScanState` with a provider pointer behind it, and registers a reset
//!    callback on the query context, since an error ends a query without calling End;
//! 2. `BeginCustomScan` boxes what `Provider::begin` returns;
//! 3. `EndCustomScan` calls `Provider::end`, then frees the box; after an error the reset callback frees it.
//!
//! So **dropping a provider must not call the server**: close relations and scans in `end` and let resource owners
//! do it after an error. Hold raw relation pointers, not `pg::relation::Relation`.

use super::private::Private;
pub use crate::pg::explain::Explain;
use crate::pg::slot::Slot;
use crate::pg::{interrupt, list, node};
use pgrx::pg_sys::panic::pgrx_extern_c_guard;
use pgrx::{PgMemoryContexts, pg_sys};
use std::ffi::{CStr, c_int, c_void};
use std::marker::PhantomData;

/// A custom scan node. Functions run in the executor's per-query memory context.
pub trait Provider: Sized + 'static {
    /// Shown by EXPLAIN as `Custom Scan (NAME)`; unique among our nodes.
    const NAME: &'static CStr;

    /// A leaf may get quals and a projection from the planner: `next` fills the scan slot, and rows failing the
    /// quals are skipped. Other nodes return finished rows.
    const LEAF: bool = false;

    /// Kind of the scan slot; virtual unless stated.
    fn slot_kind() -> *const pg_sys::TupleTableSlotOps {
        &raw const pg_sys::TTSOpsVirtual
    }

    /// What its plan carries.
    type Spec: Private;

    fn begin(node: Node, spec: Self::Spec, flags: i32) -> Self;

    /// The next row in a slot that stays valid until the following call, or null at the end.
    fn next(&mut self, node: Node) -> *mut pg_sys::TupleTableSlot;

    fn rescan(&mut self, node: Node);

    /// Releases what the server lent; children of `lefttree` are ended by `Node::end_outer`.
    fn end(&mut self, node: Node);

    fn explain(&self, _node: Node, _to: Explain) {}
}

/// The executor state of a running node.
#[derive(Clone, Copy)]
pub struct Node(*mut pg_sys::CustomScanState);

impl Node {
    pub fn as_ptr(self) -> *mut pg_sys::CustomScanState {
        self.0
    }

    pub fn plan_state(self) -> *mut pg_sys::PlanState {
        self.0.cast()
    }

    pub fn plan(self) -> *mut pg_sys::CustomScan {
        // SAFETY: ExecInitCustomScan has set the plan before any callback of ours runs.
        unsafe { (*self.0).ss.ps.plan.cast() }
    }

    pub fn estate(self) -> *mut pg_sys::EState {
        // SAFETY: as in `plan`.
        unsafe { (*self.0).ss.ps.state }
    }

    /// The slot whose columns are the plan's `custom_scan_tlist`.
    pub fn scan_slot(self) -> *mut pg_sys::TupleTableSlot {
        // SAFETY: as in `plan`.
        unsafe { (*self.0).ss.ss_ScanTupleSlot }
    }

    /// The node's own expression context.
    pub fn expr_context(self) -> *mut pg_sys::ExprContext {
        // SAFETY: as in `plan`.
        unsafe { (*self.0).ss.ps.ps_ExprContext }
    }

    /// Starts the child in `lefttree` and remembers it as this node's outer child.
    pub fn begin_outer(self, flags: i32) -> Child {
        // SAFETY: plan and estate are live; ExecInitNode raises or returns the child's state (null for no plan).
        unsafe {
            let child = pg_sys::ExecInitNode((*self.plan()).scan.plan.lefttree, self.estate(), flags);
            (*self.0).ss.ps.lefttree = child;
            Child(child)
        }
    }

    pub fn outer(self) -> Child {
        // SAFETY: as in `plan`.
        Child(unsafe { (*self.0).ss.ps.lefttree })
    }

    pub fn end_outer(self) {
        self.outer().end();
    }

    /// Starts a plan other than `lefttree`; EXPLAIN shows it as a custom child.
    ///
    /// # Safety
    /// `plan` is one of this node's `custom_plans`.
    pub unsafe fn begin_custom(self, plan: *mut pg_sys::Plan, flags: i32) -> Child {
        // SAFETY: the child's state must live as long as the query.
        unsafe {
            PgMemoryContexts::For((*self.estate()).es_query_cxt).switch_to(|_| {
                let child = pg_sys::ExecInitNode(plan, self.estate(), flags);
                (*self.0).custom_ps = pg_sys::lappend((*self.0).custom_ps, child.cast());
                Child(child)
            })
        }
    }
}

/// A running child plan; null when the plan has no such child.
#[derive(Clone, Copy)]
pub struct Child(*mut pg_sys::PlanState);

impl Child {
    /// # Safety
    /// `plan_state` is begun and not ended.
    pub unsafe fn of(plan_state: *mut pg_sys::PlanState) -> Self {
        Self(plan_state)
    }

    pub fn as_ptr(self) -> *mut pg_sys::PlanState {
        self.0
    }

    /// The memory context its executor runs in.
    pub fn query_context(self) -> pg_sys::MemoryContext {
        // SAFETY: a begun child belongs to an executor.
        unsafe { (*(*self.0).state).es_query_cxt }
    }

    pub fn desc(self) -> pg_sys::TupleDesc {
        // SAFETY: begun children have a result descriptor.
        unsafe { pg_sys::ExecGetResultType(self.0) }
    }

    /// How many rows the planner expects of it.
    pub fn estimated_rows(self) -> u64 {
        // SAFETY: a begun child has its plan.
        unsafe { (*(*self.0).plan).plan_rows as u64 }
    }

    /// The next row, valid until the following call. Hears cancel, so that a loop over rows need not.
    #[inline]
    pub fn next(self) -> Option<Slot> {
        interrupt::check();
        // SAFETY: a begun, not yet ended plan state; the slot is null or empty at the end, and lives as long as the child.
        unsafe {
            let slot = pg_sys::ExecProcNode(self.0);
            let ended = slot.is_null() || (*slot).tts_flags & pg_sys::TTS_FLAG_EMPTY as u16 != 0;
            (!ended).then(|| Slot::new(slot))
        }
    }

    pub fn rescan(self) {
        // SAFETY: a child with changed parameters is rescanned by its first ExecProcNode.
        unsafe {
            if !self.0.is_null() && (*self.0).chgParam.is_null() {
                pg_sys::ExecReScan(self.0);
            }
        }
    }

    pub fn end(self) {
        // SAFETY: ExecEndNode accepts null.
        unsafe { pg_sys::ExecEndNode(self.0) }
    }
}

/// Makes `P` known to the server; called once, from `_PG_init`.
pub fn register<P: Provider>() {
    // SAFETY: the methods table is static.
    unsafe { pg_sys::RegisterCustomScanMethods(scan_methods::<P>()) }
}

/// For CustomScan nodes the planner makes from our paths.
pub fn scan_methods<P: Provider>() -> *const pg_sys::CustomScanMethods {
    Methods::<P>::SCAN
}

/// A finished CustomScan node over `child` (null for none) returning `columns` (TargetEntry list whose Vars are
/// OUTER_VAR columns of the child), with the child's costs.
///
/// # Safety
/// `child` is null or a finished plan; `columns` is a list of nodes the server can copy.
pub unsafe fn plan_over<P: Provider>(
    child: *mut pg_sys::Plan,
    columns: *mut pg_sys::List,
    spec: &P::Spec,
) -> *mut pg_sys::CustomScan {
    // SAFETY: lists are as the caller promises; makeVarFromTargetEntry and makeTargetEntry only read.
    unsafe {
        let scan: *mut pg_sys::CustomScan = node::make(pg_sys::NodeTag::T_CustomScan);
        let plan = &mut (*scan).scan.plan;
        if let Some(child) = child.as_ref() {
            (plan.startup_cost, plan.total_cost) = (child.startup_cost, child.total_cost);
            (plan.plan_rows, plan.plan_width) = (child.plan_rows, child.plan_width);
        }
        plan.lefttree = child;
        plan.targetlist = list::make(list::iter::<pg_sys::TargetEntry>(columns).map(|column| {
            let var = pg_sys::makeVarFromTargetEntry(pg_sys::INDEX_VAR, column);
            pg_sys::makeTargetEntry(var.cast(), (*column).resno, (*column).resname, false)
        }));
        (*scan).custom_scan_tlist = columns;
        (*scan).custom_private = spec.to_private();
        (*scan).methods = scan_methods::<P>();
        scan
    }
}

struct Methods<P>(PhantomData<P>);

impl<P: Provider> Methods<P> {
    const SCAN: &'static pg_sys::CustomScanMethods =
        &pg_sys::CustomScanMethods { CustomName: P::NAME.as_ptr(), CreateCustomScanState: Some(create::<P>) };
    const EXEC: &'static pg_sys::CustomExecMethods = &pg_sys::CustomExecMethods {
        CustomName: P::NAME.as_ptr(),
        BeginCustomScan: Some(begin::<P>),
        ExecCustomScan: Some(exec::<P>),
        EndCustomScan: Some(end::<P>),
        ReScanCustomScan: Some(rescan::<P>),
        MarkPosCustomScan: None,
        RestrPosCustomScan: None,
        EstimateDSMCustomScan: None,
        InitializeDSMCustomScan: None,
        ReInitializeDSMCustomScan: None,
        InitializeWorkerCustomScan: None,
        ShutdownCustomScan: None,
        ExplainCustomScan: Some(explain::<P>),
    };
}

/// `CustomScanState` as the server sees it, then what is ours.
#[repr(C)]
struct State<P> {
    css: pg_sys::CustomScanState,
    /// Boxed by `begin`; null before and after.
    provider: *mut P,
    free: pg_sys::MemoryContextCallback,
}

// Trampolines: the server passes the State<P> that `create::<P>` made, and guards keep panics inside.

unsafe extern "C-unwind" fn create<P: Provider>(_plan: *mut pg_sys::CustomScan) -> *mut pg_sys::Node {
    // SAFETY: the node is new and zeroed, the guard keeps panics inside.
    unsafe {
        pgrx_extern_c_guard(|| {
            let state: *mut State<P> = pg_sys::palloc0(size_of::<State<P>>()).cast();
            (*state).css.ss.ps.type_ = pg_sys::NodeTag::T_CustomScanState;
            (*state).css.methods = Methods::<P>::EXEC;
            (*state).css.slotOps = P::slot_kind();
            (*state).free.func = Some(free::<P>);
            (*state).free.arg = state.cast();
            pg_sys::MemoryContextRegisterResetCallback(pg_sys::CurrentMemoryContext, &raw mut (*state).free);
            state.cast()
        })
    }
}

unsafe extern "C-unwind" fn begin<P: Provider>(
    css: *mut pg_sys::CustomScanState,
    _estate: *mut pg_sys::EState,
    flags: c_int,
) {
    // SAFETY: `create::<P>` made the state; the guard keeps panics inside.
    unsafe {
        pgrx_extern_c_guard(|| {
            // The plan outlives the query.
            let spec = P::Spec::from_private((*Node(css).plan()).custom_private);
            let provider = P::begin(Node(css), spec, flags);
            (*css.cast::<State<P>>()).provider = Box::into_raw(Box::new(provider));
        })
    }
}

unsafe extern "C-unwind" fn exec<P: Provider>(css: *mut pg_sys::CustomScanState) -> *mut pg_sys::TupleTableSlot {
    // SAFETY: `create::<P>` made the state; guards keep panics inside.
    unsafe {
        let ps = &raw const (*css).ss.ps;
        if P::LEAF && !((*ps).qual.is_null() && (*ps).ps_ProjInfo.is_null()) {
            return pgrx_extern_c_guard(|| pg_sys::ExecScan(css.cast(), Some(access::<P>), Some(recheck)));
        }
        access::<P>(css.cast())
    }
}

unsafe extern "C-unwind" fn access<P: Provider>(scan: *mut pg_sys::ScanState) -> *mut pg_sys::TupleTableSlot {
    // SAFETY: ExecScan or `exec` passes the state that `create::<P>` made; the guard keeps panics inside.
    unsafe { pgrx_extern_c_guard(|| provider::<P>(scan.cast()).next(Node(scan.cast()))) }
}

/// Rows of ours are never locked, so there is nothing to check again.
unsafe extern "C-unwind" fn recheck(_scan: *mut pg_sys::ScanState, _slot: *mut pg_sys::TupleTableSlot) -> bool {
    true
}

unsafe extern "C-unwind" fn rescan<P: Provider>(css: *mut pg_sys::CustomScanState) {
    // SAFETY: `create::<P>` made the state; the guard keeps panics inside.
    unsafe { pgrx_extern_c_guard(|| provider::<P>(css).rescan(Node(css))) }
}

unsafe extern "C-unwind" fn end<P: Provider>(css: *mut pg_sys::CustomScanState) {
    // SAFETY: `create::<P>` made the state; the guard keeps panics inside.
    unsafe {
        pgrx_extern_c_guard(|| {
            provider::<P>(css).end(Node(css));
            drop_provider(css.cast::<State<P>>());
        })
    }
}

unsafe extern "C-unwind" fn explain<P: Provider>(
    css: *mut pg_sys::CustomScanState,
    _ancestors: *mut pg_sys::List,
    es: *mut pg_sys::ExplainState,
) {
    // SAFETY: `create::<P>` made the state; the guard keeps panics inside.
    unsafe { pgrx_extern_c_guard(|| provider::<P>(css).explain(Node(css), Explain::of(es))) }
}

unsafe extern "C-unwind" fn free<P: Provider>(state: *mut c_void) {
    // SAFETY: the callback stands in the state that `create::<P>` made; the guard keeps panics inside.
    unsafe { pgrx_extern_c_guard(|| drop_provider(state.cast::<State<P>>())) }
}

/// The provider of a begun node.
///
/// # Safety
/// `state` belongs to a node of `P`.
pub unsafe fn provider_of<'a, P: Provider>(state: *mut pg_sys::PlanState) -> &'a P {
    // SAFETY: the provider is freed with the node's state, which the caller keeps.
    unsafe { provider(state.cast()) }
}

unsafe fn provider<'a, P: Provider>(css: *mut pg_sys::CustomScanState) -> &'a mut P {
    // SAFETY: the caller has the state of a begun node of P.
    unsafe { (*css.cast::<State<P>>()).provider.as_mut().expect("the server begins a node before using it") }
}

unsafe fn drop_provider<P>(state: *mut State<P>) {
    // SAFETY: the pointer is null or what `begin` boxed, and it is taken out first, so it is freed once.
    unsafe {
        let provider = std::mem::replace(&mut (*state).provider, std::ptr::null_mut());
        if !provider.is_null() {
            drop(Box::from_raw(provider));
        }
    }
}
