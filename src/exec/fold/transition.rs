//! One aggregate's transition state: values go in, may come out again, and the result is read off.
//!
//! The rules are nodeWindowAgg's for moving aggregates and nodeAgg's for others:
//! - a strict function skips rows with a NULL among the inputs (the caller does, for it also counts);
//! - a strict function without an initial value takes the first value as the state;
//! - removing the last value restores the initial state instead of calling the inverse function;
//! - an inverse function may return NULL: "cannot remove this".
//!
//! States live in their own expression context, which `start` resets; they are always private copies, because
//! support functions change them in place.

use super::call::{self, Call};
use super::definition::Definition;
use super::value::{NULL, not_null};
use crate::error;
use crate::pg::memory::{reset, within};
use crate::pg::server::{self, guarded};
use pgrx::PgSqlErrorCode;
use pgrx::pg_sys::{self, NullableDatum};

pub struct Transition {
    advance: Call,
    retreat: Option<Call>,
    finish: Option<Call>,
    serialize: Option<Call>,
    deserialize: Option<(Call, Call)>,
    initial: NullableDatum,
    length: i16,
    by_value: bool,
    result_length: i16,
    memory: *mut pg_sys::ExprContext,
    value: NullableDatum,
    /// Values in the state.
    pub count: i64,
}

impl Transition {
    /// # Safety
    /// Runs in the query's memory context; `definition` lives as long as the query.
    pub unsafe fn new(
        definition: &Definition,
        parent: *mut pg_sys::PlanState,
        scratch: *mut pg_sys::ExprContext,
    ) -> Self {
        // SAFETY: the Aggref and its parts are live; types and functions exist as long as the view depends on them.
        unsafe {
            let aggref = definition.aggref;
            let memory = pg_sys::CreateExprContext((*parent).state);
            let context = call::context(aggref, memory, scratch, !definition.is_ordered_set());
            let (mut length, mut by_value, mut result_length, mut result_by_value) = (0, false, 0, false);
            pg_sys::get_typlenbyval(definition.transtype, &mut length, &mut by_value);
            pg_sys::get_typlenbyval((*aggref).aggtype, &mut result_length, &mut result_by_value);
            let calls = Calls { definition, context };
            let (advance, retreat) = calls.transition();
            Self {
                advance,
                retreat,
                finish: calls.finish(),
                serialize: calls.serialize(),
                deserialize: calls.deserialize(),
                initial: NullableDatum {
                    value: (*definition.initial).constvalue,
                    isnull: (*definition.initial).constisnull,
                },
                length,
                by_value,
                result_length,
                memory,
                value: NULL,
                count: 0,
            }
        }
    }

    /// Rows with a NULL among the inputs are no values.
    pub fn is_strict(&self) -> bool {
        self.advance.strict
    }

    /// The state starts as the first value itself.
    pub fn starts_with_first_value(&self) -> bool {
        self.advance.strict && self.initial.isnull
    }

    pub fn value(&self) -> NullableDatum {
        self.value
    }

    /// Back to the state before any row, for another group.
    pub fn start(&mut self) {
        // SAFETY: the state of the last group is not used any more; callbacks registered by support functions run.
        unsafe {
            if (*self.memory).ecxt_callbacks.is_null() {
                reset((*self.memory).ecxt_per_tuple_memory);
            } else {
                pg_sys::ReScanExprContext(self.memory);
            }
        }
        self.value = NULL;
        self.initialize();
    }

    /// Back to the state before any row.
    pub fn initialize(&mut self) {
        let initial = if self.initial.isnull { self.initial } else { self.copy(self.initial) };
        self.replace(initial);
        self.count = 0;
    }

    /// The state as `stored` returned it. The current memory context is scratch.
    ///
    /// A deserialised state is only fit to be combined with another one (those of variances have forgotten to sum
    /// squares), so it is combined with the initial state, which is NULL for type internal.
    pub fn load(&mut self, stored: NullableDatum, count: i64) {
        let value = match &mut self.deserialize {
            _ if stored.isnull => NULL,
            None => self.copy_flat(stored),
            Some((deserialize, combine)) => {
                deserialize.set(0, stored);
                // The second argument is a dummy of type internal, not NULL.
                deserialize.set(1, not_null(0usize));
                combine.set(0, NULL);
                combine.set(1, deserialize.invoke());
                combine.invoke()
            }
        };
        self.replace(value);
        self.count = count;
    }

    /// The state in its stored form, in the current memory context.
    pub fn stored(&mut self) -> NullableDatum {
        match &mut self.serialize {
            Some(call) if !self.value.isnull => {
                call.set(0, self.value);
                call.invoke()
            }
            _ => self.value,
        }
    }

    /// Takes one more value in. The current memory context is scratch.
    #[inline]
    pub fn advance(&mut self, values: &[NullableDatum]) {
        self.count += 1;
        if self.advance.strict && self.value.isnull {
            if self.count == 1 {
                self.value = self.copy(values[0]);
            }
            // Otherwise the function returned NULL for an earlier value, and is not called with it.
            return;
        }
        self.advance.set_all(self.value, values);
        let value = self.advance.invoke();
        if value.isnull && self.retreat.is_some() {
            error::error(
                PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED,
                "moving-aggregate transition function must not return null",
            )
            .raise();
        }
        self.adopt(value);
    }

    /// Takes a value out; false if the inverse function cannot. The current memory context is scratch.
    #[inline]
    pub fn retreat(&mut self, values: &[NullableDatum]) -> bool {
        if self.count == 1 {
            self.initialize();
            return true;
        }
        let Some(call) = &mut self.retreat else { return false };
        call.set_all(self.value, values);
        let value = call.invoke();
        self.count -= 1;
        if !value.isnull {
            self.adopt(value);
        }
        !value.isnull
    }

    /// Puts `value` (not NULL) in place of the state.
    pub fn set(&mut self, value: NullableDatum) {
        let value = self.copy(value);
        self.replace(value);
    }

    /// The aggregate's result for the current state, in the current memory context or part of the state.
    pub fn finish(&mut self, direct: &[NullableDatum]) -> NullableDatum {
        let state = read_only(self.value, self.length);
        let Some(call) = &mut self.finish else { return state };
        call.set_all(state, direct);
        if call.strict && call.any_null() {
            return NULL;
        }
        read_only(call.invoke(), self.result_length)
    }

    /// ExecAggCopyTransValue: the new state moves into the aggregate's memory, the old one is freed.
    #[inline]
    fn adopt(&mut self, value: NullableDatum) {
        if self.by_value || (value.value == self.value.value && value.isnull == self.value.isnull) {
            self.value = value;
            return;
        }
        // SAFETY: a by-reference value the function returned, alive in its own or the scratch context.
        let keep = value.isnull || unsafe { is_expanded(value.value, self.length) && self.owns_expanded(value.value) };
        let value = if keep { value } else { self.copy(value) };
        self.replace(value);
    }

    fn replace(&mut self, value: NullableDatum) {
        let old = std::mem::replace(&mut self.value, value);
        if self.by_value || old.isnull {
            return;
        }
        // SAFETY: a by-reference state is a chunk or an expanded object of its own in the aggregate's memory.
        unsafe {
            if is_expanded(old.value, self.length) {
                pg_sys::DeleteExpandedObject(old.value);
            } else {
                pg_sys::pfree(old.value.cast_mut_ptr());
            }
        }
    }

    fn copy(&self, value: NullableDatum) -> NullableDatum {
        if self.by_value {
            return value;
        }
        // SAFETY: a live value of the transition type.
        unsafe {
            let (by_value, length) = (self.by_value, self.length.into());
            let copy = within((*self.memory).ecxt_per_tuple_memory, || {
                guarded(|| server::datumCopy(value.value, by_value, length))
            });
            not_null(copy)
        }
    }

    /// A copy without short header, compression or toast pointer: fit to be changed in place.
    fn copy_flat(&self, value: NullableDatum) -> NullableDatum {
        if self.length != -1 {
            return self.copy(value);
        }
        // SAFETY: a live varlena.
        unsafe {
            within((*self.memory).ecxt_per_tuple_memory, || {
                let copy = pg_sys::pg_detoast_datum_copy(value.value.cast_mut_ptr());
                not_null(copy)
            })
        }
    }

    unsafe fn owns_expanded(&self, value: pg_sys::Datum) -> bool {
        // SAFETY: a read-write expanded object.
        unsafe {
            let object = pg_sys::DatumGetEOHP(value);
            pg_sys::MemoryContextGetParent((*object).eoh_context) == (*self.memory).ecxt_per_tuple_memory
        }
    }
}

/// Prepares an aggregate's calls.
struct Calls<'a> {
    definition: &'a Definition,
    context: *mut pg_sys::AggState,
}

impl Calls<'_> {
    unsafe fn call(&self, function: pg_sys::Oid, arguments: usize, expr: *mut pg_sys::Expr) -> Call {
        // SAFETY: as promised to `Transition::new`.
        unsafe { Call::new(function, arguments, (*self.definition.aggref).inputcollid, self.context, expr) }
    }

    unsafe fn transition(&self) -> (Call, Option<Call>) {
        let definition = self.definition;
        let functions = definition.functions;
        let mut types = definition.argument_types();
        let (count, direct) = (types.len() as i32, definition.direct.len() as i32);
        let (types, mut expr, mut inverse) = (types.as_mut_ptr(), std::ptr::null_mut(), std::ptr::null_mut());
        let (expr, inverse) = (&raw mut expr, &raw mut inverse);
        let transtype = definition.transtype;
        // SAFETY: the arrays live on this frame; the closure holds nothing to drop.
        unsafe {
            let (variadic, collation) = ((*definition.aggref).aggvariadic, (*definition.aggref).inputcollid);
            guarded(|| {
                server::build_aggregate_transfn_expr(
                    types,
                    count,
                    direct,
                    variadic,
                    transtype,
                    collation,
                    functions.transition,
                    functions.inverse,
                    expr,
                    inverse,
                );
            });
            let arguments = definition.inputs() + 1;
            let retreat =
                (functions.inverse != pg_sys::InvalidOid).then(|| self.call(functions.inverse, arguments, *inverse));
            (self.call(functions.transition, arguments, *expr), retreat)
        }
    }

    unsafe fn finish(&self) -> Option<Call> {
        let definition = self.definition;
        let function = definition.functions.finish;
        if function == pg_sys::InvalidOid {
            return None;
        }
        let mut types = definition.argument_types();
        let arguments = 1 + if definition.final_extra { types.len() } else { definition.direct.len() };
        let (types, mut expr, transtype) = (types.as_mut_ptr(), std::ptr::null_mut(), definition.transtype);
        let expr = &raw mut expr;
        // SAFETY: as in `transition`.
        unsafe {
            let (result, collation) = ((*definition.aggref).aggtype, (*definition.aggref).inputcollid);
            guarded(|| {
                server::build_aggregate_finalfn_expr(
                    types,
                    arguments as i32,
                    transtype,
                    result,
                    collation,
                    function,
                    expr,
                )
            });
            Some(self.call(function, arguments, *expr))
        }
    }

    unsafe fn serialize(&self) -> Option<Call> {
        let function = self.definition.functions.serialize;
        let mut expr = std::ptr::null_mut();
        let expr = &raw mut expr;
        // SAFETY: as in `transition`.
        (function != pg_sys::InvalidOid).then(|| unsafe {
            guarded(|| server::build_aggregate_serialfn_expr(function, expr));
            Call::new(function, 1, pg_sys::InvalidOid, self.context, *expr)
        })
    }

    /// The deserialisation and combination functions.
    unsafe fn deserialize(&self) -> Option<(Call, Call)> {
        let functions = self.definition.functions;
        if functions.deserialize == pg_sys::InvalidOid {
            return None;
        }
        let (mut deserialize, mut combine) = (std::ptr::null_mut(), std::ptr::null_mut());
        let (deserialize, combine) = (&raw mut deserialize, &raw mut combine);
        let mut state = self.definition.transtype;
        let (types, transtype, none) = (&raw mut state, state, pg_sys::InvalidOid);
        // SAFETY: as in `transition`.
        unsafe {
            let collation = (*self.definition.aggref).inputcollid;
            guarded(|| {
                server::build_aggregate_deserialfn_expr(functions.deserialize, deserialize);
                let no_inverse = std::ptr::null_mut();
                server::build_aggregate_transfn_expr(
                    types,
                    1,
                    0,
                    false,
                    transtype,
                    collation,
                    functions.combine,
                    none,
                    combine,
                    no_inverse,
                );
            });
            let deserialize = Call::new(functions.deserialize, 2, none, self.context, *deserialize);
            Some((deserialize, self.call(functions.combine, 2, *combine)))
        }
    }
}

/// The value is a read-write pointer to an expanded object.
unsafe fn is_expanded(value: pg_sys::Datum, length: i16) -> bool {
    const EXPANDED_RW: u8 = pg_sys::vartag_external::VARTAG_EXPANDED_RW as u8;
    // SAFETY: a live varlena; an external one has its tag in the second byte.
    length == -1
        && unsafe {
            let bytes: *const u8 = value.cast_mut_ptr();
            pgrx::varlena::varatt_is_1b_e(bytes.cast()) && *bytes.add(1) == EXPANDED_RW
        }
}

fn read_only(value: NullableDatum, length: i16) -> NullableDatum {
    // SAFETY: a live value of this length.
    unsafe {
        if value.isnull || !is_expanded(value.value, length) {
            return value;
        }
        not_null(pg_sys::MakeExpandedObjectReadOnlyInternal(value.value))
    }
}
