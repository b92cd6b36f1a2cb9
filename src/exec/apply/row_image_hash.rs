//! `pgtrickle.row_image_hash(VARIADIC "any") RETURNS bigint`: the expression under the index of a bag view.
//!
//! IMMUTABLE PARALLEL SAFE and not STRICT; equal images give equal hashes on every server of the same byte order.

use crate::error;
use crate::pg::image::{Hash, Layout};
use pgrx::{PgSqlErrorCode, pg_guard, pg_sys};

#[unsafe(no_mangle)]
pub extern "C" fn pg_finfo_row_image_hash() -> &'static pg_sys::Pg_finfo_record {
    &pg_sys::Pg_finfo_record { api_version: 1 }
}

/// # Safety
/// Called by the server's function manager.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn row_image_hash(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: the function manager passes live arguments, nargs of them, and a function info that outlives the call.
    unsafe {
        let layouts = argument_layouts(fcinfo);
        let arguments = (*fcinfo).args.as_slice((*fcinfo).nargs as usize);
        let mut hash = Hash::new();
        for (layout, argument) in layouts.iter().zip(arguments) {
            hash.value(*layout, argument.value, argument.isnull);
        }
        pg_sys::Int64GetDatum(hash.finish())
    }
}

/// The layouts of this call's argument types, looked up once and kept with the function info.
unsafe fn argument_layouts<'a>(fcinfo: pg_sys::FunctionCallInfo) -> &'a [Layout] {
    // SAFETY: fn_extra is ours: null or an array of one layout per argument in the function's memory context.
    unsafe {
        let info = (*fcinfo).flinfo;
        let count = (*fcinfo).nargs as usize;
        if (*info).fn_extra.is_null() {
            let layouts: *mut Layout = pg_sys::MemoryContextAlloc((*info).fn_mcxt, count * size_of::<Layout>()).cast();
            for i in 0..count {
                layouts.add(i).write(argument_layout(info, i as i32));
            }
            (*info).fn_extra = layouts.cast();
        }
        std::slice::from_raw_parts((*info).fn_extra.cast(), count)
    }
}

unsafe fn argument_layout(info: *mut pg_sys::FmgrInfo, n: i32) -> Layout {
    // SAFETY: fn_expr is the calling expression when there is one.
    unsafe {
        let typid = pg_sys::get_fn_expr_argtype(info, n);
        if typid == pg_sys::InvalidOid || pg_sys::get_fn_expr_variadic(info) {
            error::error(PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED, "row_image_hash needs its arguments one by one")
                .hint("Pass the columns as separate arguments, without VARIADIC.")
                .raise()
        }
        let (mut length, mut by_value) = (0i16, false);
        pg_sys::get_typlenbyval(typid, &mut length, &mut by_value);
        Layout::of(typid, length, by_value)
    }
}
