//! Functions that only the SQL objects of release 0.1.0 call. Those do not fit this library, which is what each of them says.

use crate::catalog::version;
use crate::error::cannot_happen;
use pgrx::{pg_extern, pg_sys};

fn refuse() -> ! {
    version::require();
    cannot_happen("a function of release 0.1.0 was called")
}

#[pg_extern]
fn create_stream_table(
    _name: Option<&str>,
    _query: Option<&str>,
    _schedule: Option<&str>,
    _refresh_mode: Option<&str>,
    _initialize: Option<bool>,
    _cdc_mode: Option<&str>,
) {
    refuse()
}

#[pg_extern]
fn create_stream_table_if_not_exists(
    _name: Option<&str>,
    _query: Option<&str>,
    _schedule: Option<&str>,
    _refresh_mode: Option<&str>,
    _initialize: Option<bool>,
    _cdc_mode: Option<&str>,
) {
    refuse()
}

#[pg_extern]
fn create_or_replace_stream_table(
    _name: Option<&str>,
    _query: Option<&str>,
    _schedule: Option<&str>,
    _refresh_mode: Option<&str>,
    _initialize: Option<bool>,
    _cdc_mode: Option<&str>,
) {
    refuse()
}

#[pg_extern]
fn alter_stream_table(
    _name: Option<&str>,
    _query: Option<&str>,
    _schedule: Option<&str>,
    _refresh_mode: Option<&str>,
    _status: Option<&str>,
    _cdc_mode: Option<&str>,
) {
    refuse()
}

#[pg_extern]
fn has_pending(_view: pg_sys::Oid) -> bool {
    refuse()
}
