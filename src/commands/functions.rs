//! The SQL functions that create, change, refresh and drop stream tables.
//!
//! Each builds the statement a user could have written and has the server execute it, so there is one path.

use super::accepted::Accepted;
use crate::capture::repair;
use crate::catalog::recompute_reason::RecomputeReason;
use crate::catalog::stream_table::{self, Status};
use crate::catalog::{control, dependency, version};
use crate::error::error;
use crate::pg::names::{Permission, RangeVar};
use crate::pg::relation::Relation;
use crate::pg::{execute, names, privilege, query};
use crate::registration;
use crate::registration::named::{not_a_stream_table, stream_table_named};
use crate::registration::options::{self, Stored, unsupported};
use pgrx::{PgSqlErrorCode, pg_extern, pg_sys};

/// The arguments of create_stream_table and its siblings, as they are given.
#[derive(Default)]
pub struct Arguments<'a> {
    pub name: Option<&'a str>,
    pub query: Option<&'a str>,
    pub schedule: Option<&'a str>,
    pub refresh_mode: Option<&'a str>,
    pub initialize: Option<bool>,
    pub cdc_mode: Option<&'a str>,
    pub accepted: Accepted<'a>,
}

/// A stream table to be.
pub struct Definition<'a> {
    name: RangeVar,
    query: &'a str,
    options: Vec<(String, String)>,
    initialize: bool,
}

#[pg_extern]
#[expect(clippy::too_many_arguments, reason = "those of the SQL function")]
fn new_stream_table(
    name: Option<&str>,
    query: Option<&str>,
    schedule: Option<&str>,
    refresh_mode: Option<&str>,
    initialize: Option<bool>,
    cdc_mode: Option<&str>,
    diamond_consistency: Option<&str>,
    diamond_schedule_policy: Option<&str>,
    append_only: Option<bool>,
) {
    let accepted = Accepted { diamond_consistency, diamond_schedule_policy, append_only };
    create(&Arguments { name, query, schedule, refresh_mode, initialize, cdc_mode, accepted }.definition(), false);
}

#[pg_extern]
#[expect(clippy::too_many_arguments, reason = "those of the SQL function")]
fn new_stream_table_if_not_exists(
    name: Option<&str>,
    query: Option<&str>,
    schedule: Option<&str>,
    refresh_mode: Option<&str>,
    initialize: Option<bool>,
    cdc_mode: Option<&str>,
    diamond_consistency: Option<&str>,
    diamond_schedule_policy: Option<&str>,
    append_only: Option<bool>,
) {
    let accepted = Accepted { diamond_consistency, diamond_schedule_policy, append_only };
    create(&Arguments { name, query, schedule, refresh_mode, initialize, cdc_mode, accepted }.definition(), true);
}

#[pg_extern]
#[expect(clippy::too_many_arguments, reason = "those of the SQL function")]
fn new_or_replaced_stream_table(
    name: Option<&str>,
    query: Option<&str>,
    schedule: Option<&str>,
    refresh_mode: Option<&str>,
    initialize: Option<bool>,
    cdc_mode: Option<&str>,
    diamond_consistency: Option<&str>,
    diamond_schedule_policy: Option<&str>,
    append_only: Option<bool>,
) {
    let accepted = Accepted { diamond_consistency, diamond_schedule_policy, append_only };
    let arguments = Arguments { name, query, schedule, refresh_mode, initialize, cdc_mode, accepted };
    let definition = arguments.definition();
    match definition.name.find_where_created() {
        None => create(&definition, false),
        Some(_) => replace(&definition),
    }
}

impl<'a> Arguments<'a> {
    pub fn definition(&self) -> Definition<'a> {
        version::require();
        let given = [("schedule", self.schedule), ("refresh_mode", self.refresh_mode), ("cdc_mode", self.cdc_mode)];
        let definition = Definition {
            name: RangeVar::parse(required("name", self.name)),
            query: required("query", self.query),
            options: checked(&given),
            initialize: self.initialize.unwrap_or(true),
        };
        self.accepted.check();
        definition
    }
}

pub fn required<T>(argument: &str, value: Option<T>) -> T {
    value.unwrap_or_else(|| {
        error(PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED, format!("argument \"{argument}\" must not be null"))
            .raise()
    })
}

/// The options given, full-named, in canonical form.
fn checked(given: &[(&str, Option<&str>)]) -> Vec<(String, String)> {
    let value = |name, value| options::checked(name, Some(value)).unwrap_or_else(|report| report.raise());
    let given = given.iter().filter_map(|(name, text)| Some((*name, (*text)?)));
    given.map(|(name, text)| (format!("{}{name}", options::PREFIX), value(name, text))).collect()
}

pub fn create(definition: &Definition, if_not_exists: bool) {
    let mut options = vec![(format!("{}incremental", options::PREFIX), "true".to_owned())];
    options.extend(definition.options.iter().filter(|option| !is_default(option)).cloned());
    execute::create_view(definition.name, definition.query, &options, definition.initialize, if_not_exists);
}

/// What the option means when it is absent.
fn is_default((name, value): &(String, String)) -> bool {
    matches!(
        (name.as_str(), value.as_str()),
        ("pg_trickle.schedule", "calculated") | ("pg_trickle.refresh_mode", "AUTO") | ("pg_trickle.cdc_mode", "auto")
    )
}

/// Settings of an existing stream table follow; its query must be the same.
fn replace(definition: &Definition) {
    let view = stream_table_named(definition.name);
    require_same_query(view, definition.query);
    execute::set_options(definition.name, &definition.options);
    if definition.initialize && !names::is_populated(view) {
        execute::refresh_view(definition.name);
    }
}

fn require_same_query(view: pg_sys::Oid, text: &str) {
    let stored = query::of_view(&Relation::open(view, pg_sys::AccessShareLock));
    if stored.is_some_and(|stored| query::sql(stored) == query::sql(execute::analyze_query(text))) {
        return;
    }
    unsupported("changing the query of a stream table is not supported yet")
        .detail(format!("The query of {} differs from the one given.", names::display(view)))
        .hint("Drop the stream table and create it again.")
        .raise()
}

#[pg_extern]
#[expect(clippy::too_many_arguments, reason = "those of the SQL function")]
fn changed_stream_table(
    name: Option<&str>,
    query: Option<&str>,
    schedule: Option<&str>,
    refresh_mode: Option<&str>,
    status: Option<&str>,
    cdc_mode: Option<&str>,
    diamond_consistency: Option<&str>,
    diamond_schedule_policy: Option<&str>,
    append_only: Option<bool>,
) {
    version::require();
    Accepted { diamond_consistency, diamond_schedule_policy, append_only }.check();
    let name = RangeVar::parse(required("name", name));
    stream_table_named(name);
    let options = checked(&[("schedule", schedule), ("refresh_mode", refresh_mode), ("cdc_mode", cdc_mode)]);
    // What the name means under the lock is what the permission is for.
    let view = name.lock(pg_sys::ShareUpdateExclusiveLock, Permission::Owner);
    if let Some(query) = query {
        require_same_query(view, query);
    }
    if !options.is_empty() {
        execute::set_options(name, &options);
    }
    if let Some(status) = status {
        set_status(view, status);
    }
}

fn set_status(view: pg_sys::Oid, text: &str) {
    privilege::require_writable("alter_stream_table()");
    if !stream_table::exists(view) {
        not_a_stream_table(view).raise()
    }
    match Status::parse(text) {
        Some(Status::Suspended) => stream_table::set_status(view, Status::Suspended),
        Some(Status::Active) => resume(view),
        _ => error(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, format!("status cannot be set to \"{text}\""))
            .detail("INITIALIZING and ERROR follow from refreshes.")
            .hint("Use ACTIVE or SUSPENDED.")
            .raise(),
    }
}

#[pg_extern]
fn resume_stream_table(name: Option<&str>) {
    version::require();
    privilege::require_writable("resume_stream_table()");
    let name = RangeVar::parse(required("name", name));
    stream_table_named(name);
    set_status(name.lock(pg_sys::ShareUpdateExclusiveLock, Permission::Owner), Status::Active.as_str());
}

/// To be called under a lock of the view.
fn resume(view: pg_sys::Oid) {
    registration::require_permission(view, &Stored::read(view));
    stream_table::resume(view);
}

#[pg_extern]
fn pause_all() {
    version::require();
    privilege::require_writable("pause_all()");
    control::set_paused(true);
}

#[pg_extern]
fn resume_all() {
    version::require();
    privilege::require_writable("resume_all()");
    control::set_paused(false);
}

/// The number of sources whose changes may have been lost.
#[pg_extern]
fn repair_capture() -> i32 {
    version::require();
    privilege::require_writable("repair_capture()");
    let lost = repair::faulty().into_iter().filter(|source| repair::repair(*source)).count();
    repair::confirm_server();
    lost as i32
}

#[pg_extern]
fn drop_stream_table(name: Option<&str>, cascade: Option<bool>) {
    version::require();
    let name = RangeVar::parse(required("name", name));
    stream_table_named(name);
    execute::drop_views(&[name], cascade.unwrap_or(false));
}

/// Drops all of them by one statement, so their order does not matter; their number.
#[pg_extern]
fn bulk_drop_stream_tables(names: Option<pgrx::Array<&str>>) -> i32 {
    version::require();
    let parse = |name| {
        let name = RangeVar::parse(required("names", name));
        stream_table_named(name);
        name
    };
    let names: Vec<RangeVar> = required("names", names).iter().map(parse).collect();
    if !names.is_empty() {
        execute::drop_views(&names, false);
    }
    names.len() as i32
}

/// Puts the capture of what it reads in order and computes the stream table anew; what was done.
#[pg_extern]
fn repair_stream_table(name: Option<&str>) -> String {
    version::require();
    privilege::require_writable("repair_stream_table()");
    let name = RangeVar::parse(required("name", name));
    stream_table_named(name);
    let view = name.lock(pg_sys::ShareUpdateExclusiveLock, Permission::Owner);
    let faulty = repair::faulty();
    let read = dependency::sources_of(view).into_iter().map(|dependency| dependency.source);
    let repaired = read.filter(|source| faulty.contains(source)).map(repair::repair).count();
    if stream_table::frontier(view).is_some() && stream_table::reinit(view).is_none() {
        stream_table::set_reinit(view, RecomputeReason::RepairRequested);
    }
    execute::refresh_view(name);
    match repaired {
        0 => "capture was complete; contents computed anew".to_owned(),
        1 => "capture of 1 source repaired; contents computed anew".to_owned(),
        many => format!("capture of {many} sources repaired; contents computed anew"),
    }
}

#[pg_extern]
fn refresh_stream_table(name: Option<&str>) {
    version::require();
    let name = RangeVar::parse(required("name", name));
    stream_table_named(name);
    execute::refresh_view(name);
}

#[pg_extern]
fn stream_table(name: &str) -> pg_sys::Oid {
    version::check();
    stream_table_named(RangeVar::parse(name))
}

#[pg_extern]
fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}
