//! Tests of the plan node that need a server: private data are nodes of its own.

use super::{KeySpec, Spec};
use crate::exec::server_tests::travelled;
use pgrx::{pg_sys, pg_test};

#[pg_test]
fn an_old_scan_reads_what_was_planned() {
    let collation = pg_sys::DEFAULT_COLLATION_OID;
    let key = |column| KeySpec { column, hash_column: 449.into(), hash_value: 450.into(), collation };
    for spec in [Spec { quals: 0, keys: vec![] }, Spec { quals: 3, keys: vec![key(0), key(1599)] }] {
        assert_eq!(travelled(|| spec.clone()), spec);
    }
}
