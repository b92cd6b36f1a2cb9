//! Tests of netting and of definitions that need a server: values are compared and copied by it, and nodes are its own.

use super::definition::Definition;
use super::netting::Netting;
use super::value::{Image, NULL, not_null};
use crate::circuit::{Ability, Functions};
use crate::exec::server_tests::travelled;
use crate::pg::node;
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

/// Every field has a value of its own.
fn definition(ability: Ability, filter: Option<usize>) -> Definition {
    let oid = |number: u32| pg_sys::Oid::from(number);
    let initial = text("{0,0}");
    // SAFETY: new nodes.
    let (aggref, initial) = unsafe {
        let aggref: *mut pg_sys::Aggref = node::make(pg_sys::NodeTag::T_Aggref);
        (*aggref).aggfnoid = oid(2100);
        let none = pg_sys::InvalidOid;
        (aggref, pg_sys::makeConst(pg_sys::TEXTOID, -1, none, -1, initial.value, false, false))
    };
    Definition {
        aggref,
        ability,
        arguments: vec![4, 2],
        direct: vec![3],
        filter,
        functions: Functions {
            transition: oid(1),
            inverse: oid(2),
            finish: oid(3),
            serialize: oid(4),
            deserialize: oid(5),
            combine: oid(6),
        },
        transtype: oid(7),
        state: oid(8),
        final_extra: true,
        initial,
    }
}

#[pg_test]
fn a_definition_is_run_as_it_was_planned() {
    let abilities = [
        Ability::Invertible,
        Ability::InsertOnly { extremum: None },
        Ability::InsertOnly { extremum: Some(pg_sys::Oid::from(97)) },
        Ability::Recompute,
    ];
    for (ability, filter) in abilities.into_iter().zip([None, Some(1), Some(5), None]) {
        let (read, made) = (travelled(|| definition(ability, filter)), definition(ability, filter));
        assert_eq!((read.ability, read.filter), (ability, filter));
        assert_eq!((&read.arguments, &read.direct), (&made.arguments, &made.direct));
        assert_eq!((read.transtype, read.state), (made.transtype, made.state));
        assert_eq!(read.final_extra, made.final_extra);
        assert_eq!(read.functions, made.functions);
        // SAFETY: nodes that live as long as the test.
        unsafe {
            assert!(pg_sys::equal(read.aggref.cast(), made.aggref.cast()));
            assert!(pg_sys::equal(read.initial.cast(), made.initial.cast()));
        }
    }
}
