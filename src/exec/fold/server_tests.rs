//! Tests of netting that need a server: values are compared and copied by it.

use super::netting::Netting;
use super::value::{Image, NULL, not_null};
use pgrx::pg_sys::{self, NullableDatum};
use pgrx::{AnyNumeric, IntoDatum, pg_test};

/// For values of one column.
fn netting(typid: pg_sys::Oid) -> Netting {
    // SAFETY: a descriptor of one column; the current context lives as long as the test.
    unsafe {
        let desc = pg_sys::CreateTemplateTupleDesc(1);
        pg_sys::TupleDescInitEntry(desc, 1, c"value".as_ptr(), typid, -1, 0);
        Netting::new(vec![Image::of(desc, 1)], pg_sys::CurrentMemoryContext)
    }
}

fn text(text: &str) -> NullableDatum {
    not_null(text.into_datum().expect("a datum"))
}

fn number(text: &str) -> NullableDatum {
    not_null(AnyNumeric::try_from(text).expect("a number").into_datum().expect("a datum"))
}

fn left(netting: &Netting) -> i64 {
    netting.entries().map(|(_, weight)| weight).sum()
}

#[pg_test]
fn what_is_added_and_removed_cancels() {
    let mut net = netting(pg_sys::TEXTOID);
    net.add(&[text("a")], 2);
    net.add(&[text("b")], 1);
    net.add(&[text("a")], 1);
    assert_eq!(net.cancel(&[text("a")], 2), 0);
    assert_eq!((left(&net), net.is_zero()), (2, false));
    assert_eq!(net.cancel(&[text("a")], 5), 4, "four more are to be removed from the group");
    assert_eq!(net.cancel(&[text("c")], 1), 1, "nobody added it");
    assert_eq!(net.cancel(&[text("b")], 1), 0);
    assert!(net.is_zero());
}

#[pg_test]
fn values_cancel_by_image() {
    let mut net = netting(pg_sys::NUMERICOID);
    net.add(&[number("1.0")], 1);
    assert_eq!(net.cancel(&[number("1.00")], 1), 1, "equal for the type, another value");
    assert_eq!(net.cancel(&[number("1.0")], 1), 0);
    net.add(&[NULL], 1);
    assert_eq!(net.cancel(&[number("0")], 1), 1);
    assert_eq!(net.cancel(&[NULL], 1), 0, "NULL is NULL");
    assert!(net.is_zero());
}

/// The index is made by the first removal and must know what comes after that.
#[pg_test]
fn additions_after_removals_are_found() {
    let mut net = netting(pg_sys::TEXTOID);
    assert_eq!(net.cancel(&[text("a")], 1), 1);
    for n in 0..1000 {
        net.add(&[text(&n.to_string())], 1);
    }
    for n in 0..1000 {
        assert_eq!(net.cancel(&[text(&n.to_string())], 1), 0, "{n}");
    }
    assert!(net.is_zero());
}

#[pg_test]
fn values_are_copied_and_bounded_and_forgotten() {
    let mut net = netting(pg_sys::TEXTOID);
    let mut value = "x".repeat(1000);
    for n in 0..100_000 {
        if net.is_full() {
            break;
        }
        value.replace_range(0..6, &format!("{n:6}"));
        net.add(&[text(&value)], 1);
    }
    assert!(net.is_full(), "a hundred megabytes");
    let first = net.entries().next().expect("an entry").0[0];
    // SAFETY: an entry of the netting is a live text.
    let first = unsafe { <&str as pgrx::FromDatum>::from_datum(first.value, first.isnull) }.expect("not null");
    assert_eq!(&first[..6], "     0");
    net.start();
    assert_eq!((net.is_full(), net.is_zero(), net.entries().count()), (false, true, 0));
    assert_eq!(net.cancel(&[text(&value)], 1), 1, "forgotten");
}
