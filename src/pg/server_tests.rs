//! Tests of the fence, which need a server around them: tree walking, what queries are made of, row images, scratch memory,
//! subtransactions. Each runs as a function inside a backend (`make check-pgrx`).

use super::execute::analyze_query;
use super::handle::{Any, Node};
use super::identity::{current_user, run_as};
use super::image::{HASH_CHUNK, Hash, Layout, Row, Shape};
use super::memory::Scratch;
use super::query::{self, Query};
use super::relation::Relation;
use super::walk::{self, Scope, Visit};
use super::xact;
use crate::error::error;
use pgrx::pg_sys::{self, Datum};
use pgrx::{AnyNumeric, IntoDatum, PgSqlErrorCode, pg_test};
use std::ffi::{CString, c_char};

fn count<T>(root: Node<T>, scope: Scope, wanted: impl Fn(Any, u32) -> bool) -> usize {
    let mut found = 0;
    walk::walk(root, scope, &mut |node, depth| {
        found += usize::from(wanted(node, depth));
        Visit::Into
    });
    found
}

fn constants<T>(root: Node<T>) -> Vec<usize> {
    let mut found = vec![];
    walk::walk(root, Scope::EXPRESSIONS, &mut |node, _| {
        found.extend(node.cast::<pg_sys::Const>().map(|constant| constant.get().constvalue.value()));
        Visit::Into
    });
    found
}

// Tree walking.

/// A reference is to the root's level exactly when it leaves as many levels as there are queries around it.
#[pg_test]
fn depth_is_what_levels_are_compared_with() {
    let query = analyze_query(
        "SELECT o.oid, (SELECT count(*) FROM pg_class c WHERE c.oid = o.oid AND
            EXISTS (SELECT FROM pg_class d WHERE d.oid = c.oid AND d.oid = o.oid)) FROM pg_class o",
    );
    let at = |wanted: u32| {
        count(query, Scope::EXPRESSIONS, |node, depth| {
            node.cast::<pg_sys::Var>().is_some_and(|var| depth == wanted && var.get().varlevelsup == depth)
        })
    };
    assert_eq!([at(0), at(1), at(2)], [1, 1, 1], "o.oid at each level");
    let levels = count(query, Scope::EXPRESSIONS, |node, _| node.is::<pg_sys::Query>());
    assert_eq!(levels, 2, "the root is not visited itself");
}

#[pg_test]
fn visitors_go_over_and_stop() {
    let query = analyze_query("SELECT 1, (SELECT 2), 3");
    let mut seen = vec![];
    let stopped = walk::walk(query, Scope::EXPRESSIONS, &mut |node, _| {
        seen.extend(node.cast::<pg_sys::Const>().map(|constant| constant.get().constvalue.value()));
        if node.is::<pg_sys::SubLink>() { Visit::Over } else { Visit::Into }
    });
    assert_eq!((stopped, seen), (false, vec![1, 3]));
    let mut seen = 0;
    let stopped = walk::walk(query, Scope::EXPRESSIONS, &mut |node, _| {
        seen += usize::from(node.is::<pg_sys::Const>());
        if seen == 2 { Visit::Stop } else { Visit::Into }
    });
    assert_eq!((stopped, seen), (true, 2));
    assert!(walk::any(query, Scope::EXPRESSIONS, |node, depth| depth == 1 && node.is::<pg_sys::Const>()));
}

#[pg_test]
fn scopes_differ_in_entries_and_aliases() {
    let query = analyze_query("SELECT 1 FROM pg_class a JOIN pg_index b ON b.indexrelid = a.oid");
    let vars = |scope| count(query, scope, |node, _| node.is::<pg_sys::Var>());
    assert_eq!(vars(Scope::EXPRESSIONS), 2, "of the join's condition");
    assert!(vars(Scope::EVERYTHING) > 2, "and of the join's columns");
    let entries = |scope| count(query, scope, |node, _| node.is::<pg_sys::RangeTblEntry>());
    assert_eq!([entries(Scope::EXPRESSIONS), entries(Scope::ENTRIES)], [0, 3]);
}

#[pg_test]
fn mutation_copies() {
    let query = analyze_query("SELECT oid, 1 FROM pg_class WHERE relnatts > 1 AND EXISTS (SELECT 1 LIMIT 5)");
    let before = query.text();
    let mut depths = vec![];
    let changed: Query = walk::mutate(query, &mut |node, depth| {
        assert!(node != query.any(), "the root is not offered");
        let constant = node.cast::<pg_sys::Const>().filter(|constant| constant.get().constvalue.value() == 1)?;
        depths.push(depth);
        let other = constant.copy();
        other.set(|other| other.constvalue = Datum::from(2));
        Some(other.any())
    });
    assert_eq!(query.text(), before);
    assert!(!constants(changed).contains(&1) && constants(changed).contains(&5));
    depths.sort_unstable();
    assert_eq!(depths, [0, 0, 1]);
    run_as(current_user(), &[], |owner| query::plan(changed, owner));
}

#[pg_test]
fn functions_of_a_node_are_its_own() {
    let query = analyze_query("SELECT sum(relnatts + 1) FROM pg_class");
    let all = |test: fn(Any) -> bool| {
        let mut found = vec![];
        walk::walk(query, Scope::EXPRESSIONS, &mut |node, _| {
            found.extend(Some(node).filter(|node| test(*node)).map(walk::functions));
            Visit::Into
        });
        found
    };
    let plus = pg_sys::Oid::from(pg_sys::F_INT24PL);
    assert_eq!(all(|node| node.is::<pg_sys::OpExpr>()), [[plus]]);
    assert_eq!(all(|node| node.is::<pg_sys::Aggref>()), [[pg_sys::Oid::from(pg_sys::F_SUM_INT4)]]);
}

// Queries.

#[pg_test]
fn copies_are_equal_and_apart() {
    let query = analyze_query("SELECT oid FROM pg_class WHERE relnatts > 7");
    let copy = query.copy();
    assert!(query.equals(copy) && query != copy);
    copy.set(|copy| copy.hasDistinctOn = true);
    assert!(!query.equals(copy) && !query.get().hasDistinctOn);
    let elsewhere = analyze_query("SELECT   oid   FROM pg_class\nWHERE relnatts > 7");
    assert_eq!(query.text(), elsewhere.text(), "places in the text do not count");
}

#[pg_test]
fn a_query_selected_from_keeps_its_columns_and_outer_references() {
    let query = analyze_query(
        "SELECT relname AS \"A b\", (SELECT max(attnum) FROM pg_attribute WHERE attrelid = c.oid) FROM pg_class c",
    );
    let inner = query.inner()[0];
    let outer = query::select_from(inner.copy());
    let leaving = |query| {
        count(query, Scope::EXPRESSIONS, |node, depth| {
            node.cast::<pg_sys::Var>().is_some_and(|var| var.get().varlevelsup == depth + 1)
        })
    };
    assert_eq!([leaving(inner), leaving(outer)], [1, 1], "one reference to c");
    let whole = query::select_from(query.copy());
    assert_eq!(query::name_of(whole.outputs()[0]), "A b");
    run_as(current_user(), &[], |owner| query::plan(whole, owner));
}

#[pg_test]
fn join_aliases_are_what_they_stand_for() {
    let query = analyze_query(
        "SELECT oid, j.relname FROM (pg_class a JOIN pg_index b ON b.indexrelid = a.oid) j WHERE j.indisvalid",
    );
    let joins: Vec<i32> = (1..)
        .zip(query.entries())
        .filter(|(_, e)| e.get().rtekind == pg_sys::RTEKind::RTE_JOIN)
        .map(|(n, _)| n)
        .collect();
    let of_joins = |query| {
        count(query, Scope::EXPRESSIONS, |node, _| {
            node.cast::<pg_sys::Var>().is_some_and(|var| joins.contains(&var.get().varno))
        })
    };
    let flat = query.copy();
    flat.flatten_join_aliases();
    assert_eq!(of_joins(flat), 0);
    run_as(current_user(), &[], |owner| query::plan(flat, owner));
}

#[pg_test]
fn grouping_expressions_go_back() {
    let query =
        analyze_query("SELECT relkind, relnatts + 1, count(*) FROM pg_class GROUP BY 1, 2 HAVING relnatts + 1 > 3");
    assert!(query.get().hasGroupRTE && query.is_grouped());
    let flat = query.copy();
    flat.flatten_groups();
    assert_eq!(flat.entries().len() + 1, query.entries().len());
    assert_eq!(count(flat, Scope::EXPRESSIONS, |node, _| node.is::<pg_sys::OpExpr>()), 3, "output, HAVING and its sum");
}

// Row images.

const INT4: Layout = Layout::plain(4, true);
const VARLENA: Layout = Layout::plain(-1, false);

fn numeric(text: &str) -> Datum {
    AnyNumeric::try_from(text).expect("a number").into_datum().expect("a datum")
}

fn text(text: &str) -> Datum {
    text.into_datum().expect("a datum")
}

fn same(layout: Layout, a: Datum, b: Datum) -> (bool, bool) {
    // SAFETY: live values of the layout.
    unsafe { (layout.equal(a, b), layout.hash(a) == layout.hash(b)) }
}

#[pg_test]
fn images_are_bytes_not_what_types_call_equal() {
    let of_numeric = Layout::of(pg_sys::NUMERICOID, -1, false);
    assert_eq!(same(of_numeric, numeric("1.0"), numeric("1.0")), (true, true));
    assert_eq!(same(of_numeric, numeric("1.0"), numeric("1.00")), (false, false));
    let double = |value: f64| value.into_datum().expect("a datum");
    assert_eq!(same(Layout::plain(8, true), double(0.0), double(-0.0)), (false, false));
    assert_eq!(same(Layout::plain(8, true), double(f64::NAN), double(f64::NAN)), (true, true));
}

#[pg_test]
fn only_the_bits_of_the_column_count() {
    let wide = Datum::from(0xffff_ffff_0000_0007_usize);
    assert_eq!(same(INT4, wide, Datum::from(7_usize)), (true, true));
    assert_eq!(same(Layout::plain(1, true), wide, Datum::from(7_usize)), (true, true));
    assert_eq!(same(Layout::plain(8, true), wide, Datum::from(7_usize)), (false, false));
}

#[pg_test]
fn how_a_value_is_stored_does_not_matter() {
    unsafe extern "C-unwind" {
        fn toast_compress_datum(value: Datum, method: c_char) -> Datum;
    }
    let plain = text(&"pg_trickle ".repeat(1000));
    // SAFETY: a plain varlena and pglz.
    let compressed = unsafe { toast_compress_datum(plain, b'p' as c_char) };
    // SAFETY: null, or a live varlena.
    let bytes = unsafe { pgrx::varlena::varsize_any(compressed.cast_mut_ptr()) };
    assert!(compressed.value() != 0 && bytes < 2000, "compressed to {bytes}");
    assert_eq!(same(VARLENA, plain, compressed), (true, true));
    let other = text(&"pg_trickle ".repeat(999));
    assert_eq!(same(VARLENA, other, compressed), (false, false));
    // A short header, as heap tuples have it.
    let desc = descriptor(&[pg_sys::TEXTOID]);
    let short = field(desc, &[text("short")], 0);
    // SAFETY: a live varlena.
    assert!(unsafe { pgrx::varlena::varatt_is_1b(short.cast_mut_ptr()) });
    assert_eq!(same(VARLENA, short, text("short")), (true, true));
}

fn descriptor(types: &[pg_sys::Oid]) -> pg_sys::TupleDesc {
    // SAFETY: a new descriptor with a column for each type.
    unsafe {
        let desc = pg_sys::CreateTemplateTupleDesc(types.len() as i32);
        for (n, &typid) in types.iter().enumerate() {
            let name = CString::new(format!("c{n}")).expect("no NUL");
            pg_sys::TupleDescInitEntry(desc, n as i16 + 1, name.as_ptr(), typid, -1, 0);
        }
        pg_sys::BlessTupleDesc(desc)
    }
}

fn tuple(desc: pg_sys::TupleDesc, values: &[Datum], nulls: &[bool]) -> pg_sys::HeapTuple {
    // SAFETY: a value for each column.
    unsafe { pg_sys::heap_form_tuple(desc, values.as_ptr(), nulls.as_ptr()) }
}

/// A column of a row that was formed of these values.
fn field(desc: pg_sys::TupleDesc, values: &[Datum], column: i32) -> Datum {
    let mut null = false;
    let tuple = tuple(desc, values, &vec![false; values.len()]);
    // SAFETY: the tuple is of the descriptor, which has the column.
    unsafe { pg_sys::heap_getattr(tuple, column + 1, desc, &mut null) }
}

#[pg_test]
fn a_record_is_its_fields() {
    let record = |types: &[pg_sys::Oid], values: &[Datum], nulls: &[bool]| {
        let desc = descriptor(types);
        // SAFETY: the tuple is of the descriptor.
        unsafe { pg_sys::heap_copy_tuple_as_datum(tuple(desc, values, nulls), desc) }
    };
    let layout = Layout::of(pg_sys::RECORDOID, -1, false);
    let (int4, numerics) = (pg_sys::INT4OID, pg_sys::NUMERICOID);
    let pair = |text| record(&[int4, numerics], &[Datum::from(1_usize), numeric(text)], &[false, false]);
    assert_eq!(same(layout, pair("2.5"), pair("2.5")), (true, true));
    assert_eq!(same(layout, pair("2.5"), pair("2.50")), (false, false));
    let more = record(&[int4, int4], &[Datum::from(1_usize), Datum::null()], &[false, true]);
    let fewer = record(&[int4], &[Datum::from(1_usize)], &[false]);
    assert!(
        same(layout, more, fewer).1,
        "a column added to the row type later is NULL and leaves no trace in the hash"
    );
}

#[pg_test]
fn rows_with_nulls() {
    let shape = Shape::new(vec![INT4, VARLENA]);
    let values = [Datum::from(1_usize), text("x")];
    let row = |nulls| Row { values: &values, nulls };
    // SAFETY: live rows of the shape; a null datum is not looked at.
    unsafe {
        assert!(shape.equal(row(&[false, false]), row(&[false, false])));
        assert!(shape.equal(row(&[true, false]), row(&[true, false])), "NULL is NULL");
        assert!(!shape.equal(row(&[true, false]), row(&[false, false])));
        let hash = |nulls| shape.hash(row(nulls), 0..2);
        assert_ne!(hash(&[true, false]), hash(&[false, false]));
        assert_ne!(shape.hash(row(&[false, false]), [0, 1]), shape.hash(row(&[false, false]), [1, 0]));
    }
}

/// The hash stands in indexes on disk.
#[pg_test]
fn hashes_never_change() {
    let values = [Datum::from(42_usize), text("pg_trickle")];
    let row = Row { values: &values, nulls: &[false, false] };
    // SAFETY: a live row of the shape.
    let hash = unsafe { Shape::new(vec![INT4, VARLENA]).hash(row, 0..2) };
    assert_eq!(hash, HASH_OF_42_AND_PG_TRICKLE);
}

const HASH_OF_42_AND_PG_TRICKLE: i64 = 3_336_332_392_221_929_971;

#[pg_test]
fn long_rows_are_hashed_as_nested_calls_do() {
    let columns = HASH_CHUNK + 1;
    let values: Vec<Datum> = (0..columns).map(Datum::from).collect();
    let nulls = vec![false; columns];
    let mut inner = Hash::new();
    (0..HASH_CHUNK).for_each(|n| inner.word(n as u64));
    let mut outer = Hash::new();
    outer.word(inner.finish() as u64);
    outer.word(HASH_CHUNK as u64);
    // SAFETY: a live row of the shape.
    let hash = unsafe { Shape::new(vec![INT4; columns]).hash(Row { values: &values, nulls: &nulls }, 0..columns) };
    assert_eq!(hash, outer.finish());
}

// Memory, handles, subtransactions.

#[pg_test]
fn scratch_memory_goes_with_its_handle() {
    // SAFETY: the current context is alive.
    let children = || unsafe { (*pg_sys::CurrentMemoryContext).firstchild };
    let (before, context) = (children(), current());
    let scratch = Scratch::make();
    assert_ne!(children(), before);
    scratch.run(|| assert_ne!(current(), context));
    assert_eq!(current(), context);
    drop(scratch);
    assert_eq!(children(), before);
}

fn current() -> pg_sys::MemoryContext {
    // SAFETY: reads a global.
    unsafe { pg_sys::CurrentMemoryContext }
}

#[pg_test]
fn relations_are_closed() {
    let first = Relation::open(pg_sys::RelationRelationId, pg_sys::AccessShareLock);
    // SAFETY: the first handle pins the entry.
    let pins = || unsafe { (*first.as_ptr()).rd_refcnt };
    let before = pins();
    let second = Relation::open(pg_sys::RelationRelationId, pg_sys::AccessShareLock);
    assert_eq!(pins(), before + 1);
    drop(second);
    assert_eq!(pins(), before);
    assert!(Relation::try_open(pg_sys::Oid::from(1), pg_sys::AccessShareLock).is_none());
}

fn divide_by_zero() -> i32 {
    error(PgSqlErrorCode::ERRCODE_DIVISION_BY_ZERO, "no quotient").raise()
}

#[pg_test]
fn a_forgiven_error_undoes_its_subtransaction() {
    // SAFETY: inside a transaction.
    let level = || unsafe { pg_sys::GetCurrentTransactionNestLevel() };
    let (before, context) = (level(), current());
    let failed = xact::attempt(
        |code| code == PgSqlErrorCode::ERRCODE_DIVISION_BY_ZERO as i32,
        || {
            assert_eq!(level(), before + 1);
            divide_by_zero()
        },
    );
    let failure = failed.expect_err("it failed");
    assert_eq!(failure.code, PgSqlErrorCode::ERRCODE_DIVISION_BY_ZERO as i32);
    assert_eq!((level(), current()), (before, context));
    assert_eq!(xact::attempt(|_| false, level).ok(), Some(before + 1));
    assert_eq!(level(), before);
}

#[pg_test(error = "no quotient")]
fn another_error_passes_through() {
    let _ = xact::attempt(|code| code == PgSqlErrorCode::ERRCODE_SYNTAX_ERROR as i32, divide_by_zero);
}
