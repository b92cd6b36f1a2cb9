//! Weighted rows: how a Z-set is laid out in the rows that pass from one node of a refresh plan to the next.
//!
//! A weighted row has the columns of its relation, and then its weight: how many times the row is in the Z-set, or is taken
//! out of it when the weight is negative. The weight is an int8 and never NULL. It may have every value of that type;
//! products and sums beyond it raise an error.
//!
//! Only this file knows where the weight is. It has one section for each form in which weighted rows are met: queries
//! on their way to the planner, finished plans, and the rows of a running plan. (A scan of a change buffer offers the weight of
//! its rows under an attribute number, see `delta_scan`.)

use super::node::Child;
use crate::error::cannot_happen;
use crate::pg::image::{Row, Shape};
use crate::pg::slot::Slot;
use crate::pg::{list, node};
use pgrx::pg_sys::{self, Datum};

/// The type of a weight.
pub const TYPE: pg_sys::Oid = pg_sys::INT8OID;

/// What EXPLAIN calls the column.
const NAME: &str = "weight";

/// A constant weight.
pub fn constant(weight: i64) -> *mut pg_sys::Const {
    // SAFETY: int8 is pass-by-value on every platform PostgreSQL 18 supports.
    unsafe { pg_sys::makeConst(TYPE, -1, pg_sys::InvalidOid, 8, Datum::from(weight), false, true) }
}

/// The weight in a column of a relation.
pub fn var(varno: i32, attno: i16) -> *mut pg_sys::Var {
    // SAFETY: plain node construction.
    unsafe { pg_sys::makeVar(varno, attno, TYPE, -1, pg_sys::InvalidOid, 0) }
}

// Arithmetic

/// The weight of a joined row.
///
/// # Safety
/// Both are weights.
pub unsafe fn multiply(left: *mut pg_sys::Expr, right: *mut pg_sys::Expr) -> *mut pg_sys::Expr {
    // SAFETY: the function takes two weights.
    unsafe { call(pg_sys::F_INT8MUL, [left, right]) }
}

/// # Safety
/// `operand` is a weight.
pub unsafe fn negate(operand: *mut pg_sys::Expr) -> *mut pg_sys::Expr {
    // SAFETY: the function takes a weight.
    unsafe { call(pg_sys::F_INT8UM, [operand]) }
}

unsafe fn call<const N: usize>(function: u32, arguments: [*mut pg_sys::Expr; N]) -> *mut pg_sys::Expr {
    let (none, form) = (pg_sys::InvalidOid, pg_sys::CoercionForm::COERCE_EXPLICIT_CALL);
    // SAFETY: a built-in function of weights, whose result is one.
    unsafe { pg_sys::makeFuncExpr(function.into(), TYPE, list::make(arguments), none, none, form).cast() }
}

/// The weight of two equal rows together.
#[inline]
pub fn sum(a: i64, b: i64) -> i64 {
    a.checked_add(b).unwrap_or_else(|| out_of_range())
}

/// The weight of a row that is taken out instead of put in, or the other way round.
#[inline]
pub fn negated(weight: i64) -> i64 {
    weight.checked_neg().unwrap_or_else(|| out_of_range())
}

/// Tests of what needs no server are linked without one.
#[cfg(test)]
fn out_of_range() -> ! {
    panic!("weight out of range")
}

#[cfg(not(test))]
#[cold]
fn out_of_range() -> ! {
    crate::error::error(pgrx::PgSqlErrorCode::ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE, "weight out of range")
        .detail("A row occurs more often than a bigint can count.")
        .raise()
}

// Queries

/// Gives the rows of a query a weight.
///
/// # Safety
/// `query` is private and has none yet; `weight` stands over it.
pub unsafe fn append_weight(query: *mut pg_sys::Query, weight: *mut pg_sys::Expr) {
    // SAFETY: the target list is the query's own.
    unsafe { (*query).targetList = with((*query).targetList, weight) };
}

/// The column that has the weight of the query's rows.
///
/// # Safety
/// `query` is live and its rows are weighted.
pub unsafe fn column(query: *mut pg_sys::Query) -> i16 {
    // SAFETY: the list is only counted.
    unsafe { width((*query).targetList) }
}

/// Names the weight that an entry has gained.
///
/// # Safety
/// `rte` is private and has a list of names.
pub unsafe fn name_weight(rte: *mut pg_sys::RangeTblEntry) {
    // SAFETY: the entry and its names are private.
    unsafe {
        let names = (*(*rte).eref).colnames;
        (*(*rte).eref).colnames = pg_sys::lappend(names, pg_sys::makeString(node::cstring(NAME)).cast());
    }
}

/// Tells a set operation that the rows of its branches have gained a weight.
///
/// # Safety
/// `operation` is private.
pub unsafe fn widen(operation: *mut pg_sys::SetOperationStmt) {
    // SAFETY: the lists are the node's own.
    unsafe {
        (*operation).colTypes = pg_sys::lappend_oid((*operation).colTypes, TYPE);
        (*operation).colTypmods = pg_sys::lappend_int((*operation).colTypmods, -1);
        (*operation).colCollations = pg_sys::lappend_oid((*operation).colCollations, pg_sys::InvalidOid);
    }
}

// Plans

/// `columns`, a target list without a weight, followed by `weight`.
///
/// # Safety
/// The list is private, or is not used any more.
pub unsafe fn with(columns: *mut pg_sys::List, weight: *mut pg_sys::Expr) -> *mut pg_sys::List {
    // SAFETY: plain node construction; the caller gives the list up.
    unsafe {
        let entry = pg_sys::makeTargetEntry(weight, width(columns) + 1, node::cstring(NAME), false);
        pg_sys::lappend(columns, entry.cast())
    }
}

/// Puts another weight in the place of the one a target list ends with.
///
/// # Safety
/// The list is private and has a weight.
pub unsafe fn replace(columns: *mut pg_sys::List, weight: *mut pg_sys::Expr) {
    // SAFETY: the weight is the last entry of the list.
    unsafe {
        let entry = list::iter::<pg_sys::TargetEntry>(columns).last();
        (*entry.expect("weighted rows have a weight")).expr = weight;
    }
}

/// The weight of the rows of a node's child, as the node sees it.
///
/// # Safety
/// `child` is a finished plan of weighted rows.
pub unsafe fn of_child(child: *mut pg_sys::Plan) -> *mut pg_sys::Expr {
    // SAFETY: the list is only counted.
    var(pg_sys::OUTER_VAR, unsafe { width((*child).targetlist) }).cast()
}

unsafe fn width(columns: *mut pg_sys::List) -> i16 {
    // SAFETY: a null list is the empty one.
    unsafe { pg_sys::list_length(columns) as i16 }
}

// Rows

/// Type, type modifier and collation of the last column of a descriptor of weighted rows.
pub const ATTRIBUTE: (pg_sys::Oid, i32, pg_sys::Oid) = (TYPE, -1, pg_sys::InvalidOid);

/// Where the parts of a weighted row are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Columns before the weight.
    columns: usize,
}

impl Layout {
    /// Of rows with so many columns and a weight.
    pub fn of(columns: usize) -> Self {
        Self { columns }
    }

    /// Of weighted rows that are described so.
    ///
    /// # Safety
    /// The descriptor is live.
    pub unsafe fn described(desc: pg_sys::TupleDesc) -> Self {
        // SAFETY: the attribute is within the descriptor.
        unsafe {
            let natts = (*desc).natts;
            if natts == 0 || (*pg_sys::TupleDescAttr(desc, natts - 1)).atttypid != TYPE {
                cannot_happen("rows do not end with a weight");
            }
            Self::of(natts as usize - 1)
        }
    }

    /// Of the rows a child gives.
    pub fn of_child(child: Child) -> Self {
        // SAFETY: a begun child has a descriptor.
        unsafe { Self::described(child.desc()) }
    }

    /// Of the rows of the relation `desc` with a weight, as which `rows` is described. None if it is not: rows are copied by
    /// their layout, so types must be the same.
    ///
    /// # Safety
    /// Both descriptors are live.
    pub unsafe fn over(desc: pg_sys::TupleDesc, rows: pg_sys::TupleDesc) -> Option<Self> {
        // SAFETY: attribute numbers are within both descriptors.
        unsafe {
            let natts = (*desc).natts;
            let typid = |desc, column| (*pg_sys::TupleDescAttr(desc, column)).atttypid;
            let fits = (*rows).natts == natts + 1
                && (0..natts).all(|column| typid(desc, column) == typid(rows, column))
                && typid(rows, natts) == TYPE;
            fits.then(|| Self::of(natts as usize))
        }
    }

    /// Columns before the weight.
    pub fn columns(self) -> usize {
        self.columns
    }

    /// The shape of rows of this descriptor, without the weight.
    ///
    /// # Safety
    /// `desc` is live and describes rows of this layout.
    pub unsafe fn shape(self, desc: pg_sys::TupleDesc) -> Shape {
        // SAFETY: the descriptor is live.
        unsafe { Shape::of(desc) }.first(self.columns)
    }

    /// The weight, as the last column of an outer tuple of this layout.
    pub fn outer_var(self) -> *mut pg_sys::Expr {
        var(pg_sys::OUTER_VAR, self.columns as i16 + 1).cast()
    }

    /// A row's columns and its weight. The columns stay valid until the slot changes.
    #[inline]
    pub fn split(self, slot: &Slot) -> (Row<'_>, i64) {
        let row = slot.row(self.columns + 1);
        let weight = row.at(self.columns);
        if weight.isnull {
            cannot_happen("row without a weight");
        }
        (row.first(self.columns), weight.value.value() as i64)
    }

    /// Writes the weight of the row that is being put into a virtual slot.
    ///
    /// # Safety
    /// The slot's descriptor is of this layout.
    #[inline]
    pub unsafe fn put_weight(self, slot: Slot, weight: i64) {
        // SAFETY: the arrays of a slot have as many elements as its descriptor has attributes.
        unsafe {
            *(*slot.as_ptr()).tts_values.add(self.columns) = Datum::from(weight);
            *(*slot.as_ptr()).tts_isnull.add(self.columns) = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{negated, sum};

    #[test]
    fn weights_have_every_value_of_their_type() {
        assert_eq!(sum(i64::MAX - 1, 1), i64::MAX);
        assert_eq!(sum(i64::MIN, i64::MAX), -1);
        assert_eq!(sum(i64::MIN + 5, -5), i64::MIN);
        assert_eq!(negated(i64::MAX), -i64::MAX);
    }

    #[test]
    #[should_panic(expected = "weight out of range")]
    fn sums_do_not_wrap_around() {
        sum(i64::MIN, -1);
    }
}
