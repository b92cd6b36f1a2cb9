//! CREATE MATERIALIZED VIEW ... WITH (pg_trickle.incremental, ...).
//!
//! The server creates the view without our options and without data; then the view is registered and populated as a
//! refresh would.

use crate::capture;
use crate::catalog::{self, version};
use crate::error::error;
use crate::pg;
use crate::pg::statement::CreateView;
use crate::pg::utility::{Call, Verdict};
use crate::refresh::{self, Initiator};
use crate::registration::{
    self,
    options::{Stored, is_ours},
};
use pgrx::{PgSqlErrorCode, pg_sys};

pub fn before(call: &Call) -> Verdict {
    let Some(create) = CreateView::of(call) else { return Verdict::Pass };
    let options = create.options();
    if !options.iter().any(is_ours) {
        return Verdict::Pass;
    }
    require_extension();
    version::require();
    let mut stored = Stored::default();
    stored.apply(&options);
    let exists = create.relation().find_where_created().is_some();
    if exists || !wants_stream_table(&stored) {
        // The server says that the view exists, or creates a plain one.
        return Verdict::Core(Some(create.stripped(is_ours, false)), Box::new(|_| ()));
    }
    Verdict::Core(Some(create.stripped(is_ours, true)), Box::new(move |call| finish(call, &create, stored)))
}

fn require_extension() {
    if !catalog::installed() {
        error(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, "extension \"pg_trickle\" is not installed")
            .detail("Parameters \"pg_trickle.*\" belong to the extension.")
            .hint("Execute CREATE EXTENSION pg_trickle in this database.")
            .raise()
    }
}

fn wants_stream_table(stored: &Stored) -> bool {
    match stored.get("incremental") {
        Some(value) => value == "true",
        None => error(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, "materialized view is not a stream table")
            .detail("Parameters \"pg_trickle.*\" are those of stream tables.")
            .hint("Add pg_trickle.incremental to the WITH list.")
            .raise(),
    }
}

fn finish(call: &Call, create: &CreateView, stored: Stored) {
    let view = create.relation().find_where_created().expect("the server has just created it");
    if pg::upgrading() {
        // pg_upgrade brings the internal tables along as they are, but not the triggers.
        capture::restore::note_view(view);
        return stored.write(view);
    }
    registration::register(view, stored);
    if create.with_data() {
        registration::attach(view);
        let outcome = refresh::refresh(view, Initiator::Initial);
        call.complete(pg_sys::CommandTag::CMDTAG_SELECT, outcome.inserted);
    }
}
