//! Tests of the plan node and of netting whole rows, which need a server: rows are formed and compared by it.

use super::ApplyIndex;
use super::change::{Change, Grouping, Place};
use super::net::{Net, read};
use super::plan::{self, ApplyNode, Mode, Spec};
use crate::exec::private::Private;
use crate::exec::server_tests::travelled;
use crate::pg::image::{Row, Shape};
use crate::pg::node;
use crate::pg::slot::Slot;
use pgrx::pg_sys::{self, Datum};
use pgrx::{AnyNumeric, IntoDatum, pg_test};

struct Rows {
    net: Net,
    shape: Shape,
    reader: Slot,
}

/// Rows of (int, numeric).
impl Rows {
    fn new() -> Self {
        // SAFETY: a new descriptor of two columns, which lives as long as the test.
        unsafe {
            let desc = pg_sys::CreateTemplateTupleDesc(2);
            pg_sys::TupleDescInitEntry(desc, 1, c"id".as_ptr(), pg_sys::INT4OID, -1, 0);
            pg_sys::TupleDescInitEntry(desc, 2, c"amount".as_ptr(), pg_sys::NUMERICOID, -1, 0);
            let reader = Slot::make(desc, &raw const pg_sys::TTSOpsMinimalTuple);
            let scratch = Slot::make(desc, &raw const pg_sys::TTSOpsMinimalTuple);
            Self { net: Net::new(desc, scratch), shape: Shape::of(desc), reader }
        }
    }

    fn add(&mut self, id: i32, amount: &str, weight: i64) {
        let amount = AnyNumeric::try_from(amount).expect("a number").into_datum().expect("a datum");
        let values = [Datum::from(id), amount];
        let row = Row { values: &values, nulls: &[false, false] };
        // SAFETY: a live row of the shape.
        unsafe {
            let (image, group) = Grouping::Hash(vec![0, 1]).hashes(&self.shape, row);
            self.net.add(
                &self.shape,
                row,
                Change { tuple: std::ptr::null_mut(), weight, image, group, place: Place::NONE },
            );
        }
    }

    /// The first column and the weight of what is left, ordered.
    fn left(self) -> Vec<(i32, i64)> {
        let reader = self.reader;
        let of = |change: Change| (read(&reader, change.tuple, 2).values[0].value() as i32, change.weight);
        let mut left: Vec<_> = self.net.into_changes().into_iter().map(of).collect();
        left.sort_unstable();
        reader.drop();
        left
    }
}

#[pg_test]
fn rows_are_netted_by_image() {
    let mut rows = Rows::new();
    rows.add(1, "1.0", 1);
    rows.add(2, "5", 3);
    rows.add(1, "1.00", -1);
    rows.add(2, "5", -1);
    rows.add(3, "7", 1);
    rows.add(3, "7", -1);
    assert_eq!(rows.net.len(), 4);
    assert_eq!(rows.left(), [(1, -1), (1, 1), (2, 2)], "1.0 and 1.00 are two rows");
}

/// Forgetting what cancelled moves entries: those that come after must still find theirs.
#[pg_test]
fn what_cancelled_makes_room() {
    let mut rows = Rows::new();
    // SAFETY: a setting.
    let limit = unsafe { pg_sys::work_mem } * 1024;
    let enough = limit / 100;
    for id in 0..enough {
        rows.add(id, "1", 1);
    }
    for id in 0..enough - 10 {
        rows.add(id, "1", -1);
    }
    assert!(!rows.net.overflows(), "ten rows are left");
    assert_eq!(rows.net.len(), 10);
    for id in enough - 10..enough {
        rows.add(id, "1", id.into());
    }
    let left: Vec<_> = (enough - 10..enough).map(|id| (id, i64::from(id) + 1)).collect();
    assert_eq!(rows.left(), left);
}

#[pg_test]
fn too_many_rows_overflow() {
    let mut rows = Rows::new();
    // SAFETY: a setting.
    let limit = unsafe { pg_sys::work_mem } * 1024;
    let mut id = 0;
    while id < limit && !rows.net.overflows() {
        rows.add(id, "1", 1);
        id += 1;
    }
    assert!(rows.net.overflows() && id > limit / 1000 && id < limit / 96, "after {id} rows");
}

#[pg_test]
fn apply_does_what_was_planned() {
    let index = pg_sys::Oid::from(4_000_000_000);
    let spec = |mode, index| Spec { view: 16_384.into(), mode, grouped: mode == Mode::Delta, parallel: true, index };
    let specs = [
        spec(Mode::Delta, ApplyIndex::Key { index, columns: vec![2, 0] }),
        spec(Mode::Diff, ApplyIndex::Hash { index, columns: vec![] }),
        spec(Mode::Populate, ApplyIndex::Single),
        spec(Mode::Delta, ApplyIndex::None),
    ];
    for spec in specs {
        assert_eq!(travelled(|| spec.clone()), spec);
    }
}

/// What is known of a statement only when its plan is finished gets into the node's private data.
#[pg_test]
fn a_completed_statement_keeps_the_rest_of_the_plan() {
    let index = ApplyIndex::Hash { index: 5.into(), columns: vec![0, 1] };
    for (mode, parallel) in [(Mode::Delta, false), (Mode::Populate, true)] {
        let node = ApplyNode { view: pg_sys::RelationRelationId, mode, index: &index, grouped: true };
        // SAFETY: a statement of our own, whose top node is put over nothing.
        let (spec, entries) = unsafe {
            let stmt: *mut pg_sys::PlannedStmt = node::make(pg_sys::NodeTag::T_PlannedStmt);
            (*stmt).planTree = plan::wrap(std::ptr::null_mut(), node);
            (*stmt).parallelModeNeeded = parallel;
            plan::complete(stmt);
            assert!(!(*stmt).parallelModeNeeded, "the node enters parallel mode by itself");
            let scan: *mut pg_sys::CustomScan = (*stmt).planTree.cast();
            (Spec::from_private((*scan).custom_private), pg_sys::list_length((*stmt).rtable))
        };
        let view = pg_sys::RelationRelationId;
        assert_eq!(spec, Spec { view, mode, grouped: true, parallel, index: index.clone() });
        assert_eq!(entries, i32::from(mode != Mode::Populate));
    }
}
