//! Tests of the plan node that need a server: private data are nodes of its own.

use super::plan::{Key, Mode, Spec};
use super::state::FoundBy;
use crate::exec::server_tests::travelled;
use crate::pg::{list, node};
use pgrx::pg_sys;
use pgrx::pg_test;
use std::ptr::null_mut;

fn key(number: u32) -> Key {
    Key {
        typid: number.into(),
        typmod: -1,
        collation: pg_sys::DEFAULT_COLLATION_OID,
        equality: (number + 1).into(),
        image_equal: number > 100,
    }
}

fn spec(mode: Mode, keys: Vec<Key>) -> Spec {
    // SAFETY: new nodes.
    unsafe {
        let var = || pg_sys::makeVar(pg_sys::OUTER_VAR, 1, pg_sys::INT8OID, -1, pg_sys::InvalidOid, 0);
        let column = pg_sys::makeTargetEntry(var().cast(), 1, node::cstring("n"), false);
        let stmt: *mut pg_sys::PlannedStmt = node::make(pg_sys::NodeTag::T_PlannedStmt);
        let is_global = keys.is_empty();
        Spec {
            mode,
            state: 16_385.into(),
            found_by: if is_global { FoundBy::Only } else { FoundBy::Key },
            keys,
            definitions: vec![],
            output: list::make([column]),
            having: if is_global { null_mut() } else { var().cast() },
            recompute: if is_global { [null_mut(), stmt] } else { [null_mut(); 2] },
        }
    }
}

#[pg_test]
fn an_accumulate_runs_as_it_was_planned() {
    for (mode, count) in [(Mode::Delta, 0), (Mode::Rebuild, 1), (Mode::Groups, 3)] {
        let keys = || (0..count).map(|number| key(99 + number)).collect::<Vec<_>>();
        let (read, made) = (travelled(|| spec(mode, keys())), spec(mode, keys()));
        assert_eq!((read.mode, read.state, read.found_by, read.keys), (mode, made.state, made.found_by, made.keys));
        assert!(read.definitions.is_empty());
        assert_eq!(read.recompute.map(|plan| plan.is_null()), made.recompute.map(|plan| plan.is_null()));
        // SAFETY: nodes that live as long as the test.
        unsafe {
            assert!(pg_sys::equal(read.output.cast(), made.output.cast()));
            assert!(pg_sys::equal(read.having.cast(), made.having.cast()));
        }
    }
}
