//! Values of expressions without variables, computed once: as the server passes them, and as bytes that can be kept.

use super::comparison::Order;
use super::handle::Any;
use super::identity::AsOwner;
use super::query::{self, TypeOf};
use pgrx::pg_sys::{self, Datum, NullableDatum};
use pgrx::varlena;

const NULL: NullableDatum = NullableDatum { value: Datum::null(), isnull: true };

/// A type, and how its values are passed.
#[derive(Clone, Copy)]
pub struct Passed {
    pub of: TypeOf,
    length: i16,
    by_value: bool,
}

impl Passed {
    pub fn of(of: TypeOf) -> Self {
        let (mut length, mut by_value) = (0, false);
        // SAFETY: a look-up.
        unsafe { pg_sys::get_typlenbyval(of.typid, &mut length, &mut by_value) };
        Self { of, length, by_value }
    }
}

/// The value of an expression without variables, in the current memory context and plain: neither compressed nor out of line.
pub fn evaluate(expression: Any, owner: &AsOwner) -> NullableDatum {
    owner.check();
    let passed = Passed::of(query::type_of(expression));
    let mut isnull = false;
    // SAFETY: evaluated as `evaluate_expr` of the planner does, then copied out of the executor's memory.
    unsafe {
        let context = pg_sys::CurrentMemoryContext;
        let estate = pg_sys::CreateExecutorState();
        pg_sys::MemoryContextSwitchTo((*estate).es_query_cxt);
        let state = pg_sys::ExecPrepareExpr(expression.as_ptr().cast(), estate);
        let per_tuple = pg_sys::MakePerTupleExprContext(estate);
        let value = pg_sys::ExecEvalExprSwitchContext(state, per_tuple, &mut isnull);
        pg_sys::MemoryContextSwitchTo(context);
        let kept = if isnull { NULL } else { copied(value, passed) };
        pg_sys::FreeExecutorState(estate);
        kept
    }
}

/// # Safety
/// `value` is a live value of the type.
unsafe fn copied(value: Datum, passed: Passed) -> NullableDatum {
    // SAFETY: by contract; what is copied is as long as its type, or it itself, says.
    unsafe {
        let value = match passed.length {
            _ if passed.by_value => value,
            -1 => Datum::from(pg_sys::pg_detoast_datum_copy(value.cast_mut_ptr())),
            _ => palloc(bytes_of(value, passed)),
        };
        NullableDatum { value, isnull: false }
    }
}

/// # Safety
/// There is a current memory context.
unsafe fn palloc(bytes: &[u8]) -> Datum {
    // SAFETY: a new chunk of this size, aligned for any type.
    unsafe {
        let copy: *mut u8 = pg_sys::palloc(bytes.len()).cast();
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), copy, bytes.len());
        Datum::from(copy)
    }
}

/// # Safety
/// `value` is a live plain value of a type that is passed by reference.
unsafe fn bytes_of<'a>(value: Datum, passed: Passed) -> &'a [u8] {
    let pointer: *const u8 = value.cast_mut_ptr();
    // SAFETY: as long as the type, its header or its terminator says.
    unsafe {
        let length = match passed.length {
            -1 => varlena::varsize_any(pointer.cast()),
            -2 => std::ffi::CStr::from_ptr(pointer.cast()).count_bytes() + 1,
            length => length as usize,
        };
        std::slice::from_raw_parts(pointer, length)
    }
}

/// A value, made by `evaluate` or `read`, as bytes; None: NULL. Values with the same bytes are the same.
pub fn write(value: NullableDatum, passed: Passed) -> Option<Vec<u8>> {
    if value.isnull {
        return None;
    }
    if passed.by_value {
        return Some((value.value.value() as u64).to_le_bytes().to_vec());
    }
    // SAFETY: a live plain value of the type.
    Some(unsafe { bytes_of(value.value, passed) }.to_vec())
}

/// The value with these bytes, in the current memory context. None: they are no value of the type.
pub fn read(bytes: Option<&[u8]>, passed: Passed) -> Option<NullableDatum> {
    let Some(bytes) = bytes else { return Some(NULL) };
    let value = if passed.by_value {
        Datum::from(u64::from_le_bytes(bytes.try_into().ok()?) as usize)
    } else {
        // SAFETY: a copy, which is aligned.
        let copy = unsafe { palloc(bytes) };
        let fits = match passed.length {
            // SAFETY: the header is inside the bytes; the length of the value is only compared with theirs.
            -1 => bytes.len() >= 4 && unsafe { varlena::varsize_any(copy.cast_mut_ptr()) } == bytes.len(),
            -2 => bytes.last() == Some(&0),
            length => bytes.len() == length as usize,
        };
        fits.then_some(copy)?
    };
    Some(NullableDatum { value, isnull: false })
}

/// Whether one value comes before the other; neither is NULL.
pub fn is_less(a: NullableDatum, b: NullableDatum, order: Order, collation: pg_sys::Oid) -> bool {
    // SAFETY: the support function of a btree family for two values of their type.
    let compared = unsafe { pg_sys::OidFunctionCall2Coll(order.compare, collation, a.value, b.value) };
    (compared.value() as i32) < 0
}
