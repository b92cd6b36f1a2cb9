//! Tests of weighted rows that need a server: slots and descriptors are its own.

use super::weighted::{self, Layout};
use crate::pg::image::Row;
use crate::pg::slot::Slot;
use pgrx::pg_sys::{self, Datum};
use pgrx::pg_test;

fn desc(types: &[pg_sys::Oid]) -> pg_sys::TupleDesc {
    // SAFETY: a new descriptor, of which every column is initialised.
    unsafe {
        let desc = pg_sys::CreateTemplateTupleDesc(types.len() as i32);
        for (number, &typid) in (1..).zip(types) {
            pg_sys::TupleDescInitEntry(desc, number, c"c".as_ptr(), typid, -1, 0);
        }
        desc
    }
}

#[pg_test]
fn a_weighted_row_is_split_as_it_was_put_together() {
    let desc = desc(&[pg_sys::INT4OID, pg_sys::BOOLOID, weighted::TYPE]);
    // SAFETY: the descriptor lives as long as the test.
    let (layout, slot) = unsafe { (Layout::described(desc), Slot::make(desc, &raw const pg_sys::TTSOpsVirtual)) };
    assert_eq!(layout, Layout::of(2));
    for weight in [0, 1, -1, 7, -12, i64::MAX, i64::MIN] {
        slot.store(Row { values: &[Datum::from(5), Datum::from(0)], nulls: &[false, true] }, &[]);
        // SAFETY: a virtual slot of the layout, which is complete with the weight.
        unsafe {
            layout.put_weight(slot, weight);
            (*slot.as_ptr()).tts_nvalid = 3;
        }
        let (row, found) = layout.split(&slot);
        assert_eq!((row.values[0].value(), row.nulls, found), (5, &[false, true][..], weight));
    }
    slot.drop();
}

#[pg_test]
fn weighted_rows_fit_their_relation_only() {
    let (int4, text, int8) = (pg_sys::INT4OID, pg_sys::TEXTOID, weighted::TYPE);
    let relation = desc(&[int4, text]);
    // SAFETY: live descriptors.
    let over = |types: &[pg_sys::Oid]| unsafe { Layout::over(relation, desc(types)) };
    assert_eq!(over(&[int4, text, int8]), Some(Layout::of(2)));
    assert_eq!(over(&[int4, text]), None, "without a weight");
    assert_eq!(over(&[int4, text, int4]), None, "the weight is of another type");
    assert_eq!(over(&[text, int4, int8]), None, "other columns");
    assert_eq!(over(&[int4, text, int8, int8]), None, "too many columns");
}

#[pg_test(error = "rows do not end with a weight")]
fn rows_without_a_weight_are_not_weighted() {
    // SAFETY: a live descriptor.
    unsafe { Layout::described(desc(&[weighted::TYPE, pg_sys::INT4OID])) };
}

#[pg_test(error = "weight out of range")]
fn a_sum_of_weights_does_not_wrap_around() {
    weighted::sum(i64::MAX, 1);
}

#[pg_test(error = "weight out of range")]
fn a_negated_weight_does_not_wrap_around() {
    weighted::negated(i64::MIN);
}
