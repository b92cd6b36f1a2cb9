//! Comparisons that belong to a btree order.

use super::list;
use pgrx::pg_sys;

/// The number of the support function that compares (nbtree.h).
const BTORDER_PROC: i16 = 1;

/// What the order of a comparison `e op v` offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// `e >= v` and `e <= v`.
    pub at_least: pg_sys::Oid,
    pub at_most: pg_sys::Oid,
    /// The support function that compares two values of v's type.
    pub compare: pg_sys::Oid,
}

/// The order of an operator (`<`, `<=`, `=`, `>=`, `>`, `<>` of some btree family) between an expression and a value, whichever of the two
/// stands on the left. None: it belongs to none, or the family lacks something.
pub fn order_of(operator: pg_sys::Oid, value_is_left: bool) -> Option<Order> {
    // SAFETY: look-ups in the catalogs; the list and its elements live in the current memory context.
    unsafe {
        if !pg_sys::op_strict(operator) {
            return None;
        }
        let interpretations = pg_sys::get_op_index_interpretation(operator);
        let mut found = list::iter::<pg_sys::OpIndexInterpretation>(interpretations);
        found.find_map(|found| order_in(*found, value_is_left))
    }
}

/// # Safety
/// `found` is what the server says of an operator.
unsafe fn order_in(found: pg_sys::OpIndexInterpretation, value_is_left: bool) -> Option<Order> {
    let (left, right) = (found.oplefttype, found.oprighttype);
    let (of_expression, of_value) = if value_is_left { (right, left) } else { (left, right) };
    let family = found.opfamily_id;
    let member = |strategy: u32| {
        // SAFETY: look-ups in the catalogs.
        let operator = unsafe { pg_sys::get_opfamily_member(family, of_expression, of_value, strategy as i16) };
        // SAFETY: as above.
        (operator != pg_sys::InvalidOid && unsafe { pg_sys::op_strict(operator) }).then_some(operator)
    };
    // SAFETY: look-ups in the catalogs.
    unsafe {
        if pg_sys::get_opfamily_method(family) != pg_sys::BTREE_AM_OID {
            return None;
        }
        let compare = pg_sys::get_opfamily_proc(family, of_value, of_value, BTORDER_PROC);
        Some(Order {
            at_least: member(pg_sys::BTGreaterEqualStrategyNumber)?,
            at_most: member(pg_sys::BTLessEqualStrategyNumber)?,
            compare: Some(compare).filter(|compare| *compare != pg_sys::InvalidOid)?,
        })
    }
}
