//! Calling an aggregate's support functions as nodeAgg does.
//!
//! A support function asks AggCheckCallContext where its state may live, and an ordered-set one asks AggGetAggref
//! what it computes; both look at the AggState in the call's context. Ours has just the fields those questions read.

use crate::error::cannot_happen;
use crate::pg::{node, server};
use pgrx::pg_sys::{self, NullableDatum};

/// A function looked up once and called many times.
pub struct Call {
    info: pg_sys::FunctionCallInfo,
    function: unsafe extern "C-unwind" fn(pg_sys::FunctionCallInfo) -> pg_sys::Datum,
    /// Must not be called with a NULL argument.
    pub strict: bool,
}

impl Call {
    /// Prepares `function` for `arguments` arguments, all NULL at first. `expr` tells polymorphic functions their types.
    ///
    /// # Safety
    /// The current memory context, `context` and `expr` outlive the call.
    pub unsafe fn new(
        function: pg_sys::Oid,
        arguments: usize,
        collation: pg_sys::Oid,
        context: *mut pg_sys::AggState,
        expr: *mut pg_sys::Expr,
    ) -> Self {
        // SAFETY: both structures are zeroed chunks of the right size; the argument array follows the header.
        unsafe {
            let lookup: *mut pg_sys::FmgrInfo = pg_sys::palloc0(size_of::<pg_sys::FmgrInfo>()).cast();
            pg_sys::fmgr_info(function, lookup);
            (*lookup).fn_expr = expr.cast();
            let size =
                std::mem::offset_of!(pg_sys::FunctionCallInfoBaseData, args) + arguments * size_of::<NullableDatum>();
            let info: pg_sys::FunctionCallInfo = pg_sys::palloc0(size).cast();
            (*info).flinfo = lookup;
            (*info).context = context.cast();
            (*info).fncollation = collation;
            (*info).nargs = arguments as i16;
            for argument in (*info).args.as_mut_slice(arguments) {
                argument.isnull = true;
            }
            let Some(function) = (*lookup).fn_addr else { cannot_happen("function without an address") };
            Self { info, function, strict: (*lookup).fn_strict }
        }
    }

    #[inline]
    pub fn set(&mut self, index: usize, value: NullableDatum) {
        // SAFETY: `info` has nargs arguments.
        unsafe {
            debug_assert!(index < (*self.info).nargs as usize);
            *(*self.info).args.as_mut_ptr().add(index) = value;
        }
    }

    /// Sets the first arguments: `state`, then `values`.
    #[inline]
    pub fn set_all(&mut self, state: NullableDatum, values: &[NullableDatum]) {
        self.set(0, state);
        for (index, value) in values.iter().enumerate() {
            self.set(index + 1, *value);
        }
    }

    pub fn any_null(&self) -> bool {
        // SAFETY: `info` has nargs arguments.
        unsafe { (*self.info).args.as_slice((*self.info).nargs as usize).iter().any(|argument| argument.isnull) }
    }

    /// Calls with the arguments set; the caller has dealt with strictness.
    #[inline]
    pub fn invoke(&mut self) -> NullableDatum {
        let (function, info) = (self.function, self.info);
        // SAFETY: a prepared call; nothing here has a destructor.
        unsafe {
            (*info).isnull = false;
            let value = server::guarded(|| function(info));
            NullableDatum { value, isnull: (*info).isnull }
        }
    }
}

/// What support functions may ask about the aggregate they run for. `memory` is where states live, `scratch` is reset
/// for every row.
///
/// # Safety
/// The current memory context outlives every call; the arguments live as long.
pub unsafe fn context(
    aggref: *mut pg_sys::Aggref,
    memory: *mut pg_sys::ExprContext,
    scratch: *mut pg_sys::ExprContext,
    state_is_shared: bool,
) -> *mut pg_sys::AggState {
    // SAFETY: zeroed nodes in the current context.
    unsafe {
        let transition: *mut pg_sys::AggStatePerTransData =
            pg_sys::palloc0(size_of::<pg_sys::AggStatePerTransData>()).cast();
        (*transition).aggref = aggref;
        (*transition).aggshared = state_is_shared;
        let state: *mut pg_sys::AggState = node::make(pg_sys::NodeTag::T_AggState);
        (*state).pertrans = transition;
        (*state).curpertrans = transition;
        (*state).curaggcontext = memory;
        (*state).tmpcontext = scratch;
        state
    }
}
