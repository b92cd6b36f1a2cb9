//! Tests of weighted rows and of private data that need a server: slots, descriptors and nodes are its own.

use super::private::{Private, private};
use super::weighted::{self, Layout};
use crate::pg::image::Row;
use crate::pg::slot::Slot;
use crate::pg::{memory, node};
use pgrx::pg_sys::{self, Datum};
use pgrx::pg_test;

/// What a node reads from a plan that was copied, written as text and read back; the plan that was made first is gone.
pub fn travelled<T: Private>(make: impl FnOnce() -> T) -> T {
    // SAFETY: `private` is not used after its context has been deleted; what is read lives as long as the test.
    unsafe {
        let first = memory::create(pg_sys::CurrentMemoryContext, c"the first plan");
        let private = memory::within(first, || make().to_private());
        let made = node::string(pg_sys::nodeToString(private.cast()));
        let copy = node::copy(private);
        pg_sys::MemoryContextDelete(first);
        let text = pg_sys::nodeToString(copy.cast());
        assert_eq!(node::string(text), made);
        let read = pg_sys::stringToNode(text);
        assert_eq!(node::string(pg_sys::nodeToString(read)), made);
        T::from_private(read.cast())
    }
}

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

#[derive(Clone, Debug, PartialEq, Eq)]
struct Everything {
    flags: [bool; 2],
    number: i32,
    column: Option<usize>,
    columns: Vec<usize>,
    oids: Vec<pg_sys::Oid>,
    name: String,
    nested: Vec<Nested>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Nested {
    Nothing,
    Something { inner: Option<Vec<usize>> },
}

private!(struct Everything { flags, number, column, columns, oids, name, nested });
private!(enum Nested { Nothing, Something { inner } });

fn everything() -> Everything {
    Everything {
        flags: [true, false],
        number: i32::MIN,
        column: Some(0),
        columns: vec![3, 1, 2],
        oids: vec![pg_sys::InvalidOid, pg_sys::Oid::from(u32::MAX)],
        name: "a \"name\" (in) {braces} \\ ü".to_owned(),
        nested: vec![
            Nested::Nothing,
            Nested::Something { inner: None },
            Nested::Something { inner: Some(vec![]) },
            Nested::Something { inner: Some(vec![7]) },
        ],
    }
}

#[pg_test]
fn private_data_is_read_as_it_was_written() {
    assert_eq!(travelled(everything), everything());
    let empty = || Everything { columns: vec![], oids: vec![], name: String::new(), nested: vec![], ..everything() };
    assert_eq!(travelled(empty), empty());
}

#[derive(Debug)]
struct Other {
    flags: [bool; 2],
}

private!(struct Other { flags });

#[pg_test(error = "a plan node has private data of a Everything")]
fn private_data_of_another_node_is_refused() {
    // SAFETY: the list is alive, and what is written in it is looked at before it is believed.
    unsafe { Other::from_private(everything().to_private()) };
}

#[pg_test(error = "private data of a plan node is not of its type")]
fn private_data_of_another_type_is_refused() {
    // SAFETY: as above.
    unsafe { bool::from_private(everything().number.to_private()) };
}
