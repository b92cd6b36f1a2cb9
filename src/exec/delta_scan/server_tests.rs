//! Tests of the plan node that need a server: private data are nodes of its own.

use super::plan::Spec;
use crate::exec::server_tests::travelled;
use pgrx::pg_test;

#[pg_test]
fn a_delta_scan_reads_what_was_planned() {
    for spec in [Spec { columns: 0, whole_row: false }, Spec { columns: 1600, whole_row: true }] {
        assert_eq!(travelled(|| spec), spec);
    }
}
