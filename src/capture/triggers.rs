//! The capture triggers of one table, brought in line with the sources it feeds.
//!
//! Triggers are internal (neither psql nor pg_dump shows them) and fire ALWAYS (also under session_replication_role =
//! replica, and not to be switched off or dropped). One set serves all sources at its level; the trigger function finds them.

use super::family;
use crate::catalog::source::{self, Level};
use crate::error::cannot_happen;
use crate::pg::catalog_table::{CatalogTable, Row, Rows, command_counter_increment, value};
use crate::pg::depend::{self, Object};
use crate::pg::relation::Relation;
use crate::pg::{list, node};
use pgrx::pg_sys;
use std::ffi::{CStr, c_char};

/// What a trigger reacts to; its name and everything else follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Insert,
    Update,
    Delete,
    Row,
    Truncate,
    /// Before a TRUNCATE, to read the rows. Without it the views are recomputed.
    BeforeTruncate,
}

impl Kind {
    const ALL: [Kind; 6] = [Kind::Insert, Kind::Update, Kind::Delete, Kind::Row, Kind::Truncate, Kind::BeforeTruncate];

    /// The kind with this `pg_trigger.tgtype`.
    pub fn of(tgtype: i16) -> Option<Kind> {
        Self::ALL.into_iter().find(|kind| kind.tgtype() == tgtype)
    }

    fn name(self) -> &'static CStr {
        match self {
            Kind::Insert => c"pg_trickle_insert",
            Kind::Update => c"pg_trickle_update",
            Kind::Delete => c"pg_trickle_delete",
            Kind::Row => c"pg_trickle_row",
            Kind::Truncate => c"pg_trickle_truncate",
            Kind::BeforeTruncate => c"pg_trickle_before_truncate",
        }
    }

    fn events(self) -> u32 {
        match self {
            Kind::Insert => pg_sys::TRIGGER_TYPE_INSERT,
            Kind::Update => pg_sys::TRIGGER_TYPE_UPDATE,
            Kind::Delete => pg_sys::TRIGGER_TYPE_DELETE,
            Kind::Row => pg_sys::TRIGGER_TYPE_INSERT | pg_sys::TRIGGER_TYPE_UPDATE | pg_sys::TRIGGER_TYPE_DELETE,
            Kind::Truncate | Kind::BeforeTruncate => pg_sys::TRIGGER_TYPE_TRUNCATE,
        }
    }

    /// `pg_trigger.tgtype`.
    fn tgtype(self) -> i16 {
        (self.events() | self.timing() | if self == Kind::Row { pg_sys::TRIGGER_TYPE_ROW } else { 0 }) as i16
    }

    /// AFTER is the absence of other bits.
    fn timing(self) -> u32 {
        if self == Kind::BeforeTruncate { pg_sys::TRIGGER_TYPE_BEFORE } else { pg_sys::TRIGGER_TYPE_AFTER }
    }

    /// Changes are lost without it.
    fn is_essential(self) -> bool {
        self != Kind::BeforeTruncate
    }

    fn transition_tables(self) -> &'static [(&'static CStr, bool)] {
        match self {
            Kind::Insert => &[(c"new", true)],
            Kind::Update => &[(c"old", false), (c"new", true)],
            Kind::Delete => &[(c"old", false)],
            Kind::Row | Kind::Truncate | Kind::BeforeTruncate => &[],
        }
    }
}

/// Columns of pg_trigger and pg_proc's name index.
mod trigger {
    pub const OID: i16 = 1;
    pub const TGRELID: i16 = 2;
    pub const TGFOID: i16 = 5;
    pub const TGTYPE: i16 = 6;
    pub const TGENABLED: i16 = 7;
}

const ALWAYS: i8 = pg_sys::TRIGGER_FIRES_ALWAYS as i8;

/// How the capture triggers of a table compare with what the sources it feeds require.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    Complete,
    /// There are others besides, which capture nothing, or one is missing without which nothing is lost.
    Untidy,
    /// One is missing or does not fire: changes are lost.
    Incomplete,
}

/// As pg_trigger has it now, which may be newer than what this backend's relcache entries hold.
pub fn state(relid: pg_sys::Oid) -> State {
    let (wanted, present) = (wanted(relid), present(relid));
    let fires = |kind: &Kind| present.iter().any(|(there, row)| *there == Some(*kind) && is_always(row));
    match wanted.iter().all(|kind| !kind.is_essential() || fires(kind)) {
        false => State::Incomplete,
        true if present.len() != wanted.len() || !wanted.iter().all(fires) => State::Untidy,
        true => State::Complete,
    }
}

/// Creates, drops and re-enables capture triggers of `relid` as the sources it feeds require.
/// The caller holds ShareRowExclusiveLock on it if anything can change.
pub fn reconcile(relid: pg_sys::Oid) {
    reconcile_with(relid, wanted(relid));
}

/// As `reconcile`, but the caller knows what is required.
pub fn reconcile_with(relid: pg_sys::Oid, wanted: Vec<Kind>) {
    let present = present(relid);
    for (kind, row) in &present {
        match kind.filter(|kind| wanted.contains(kind)) {
            Some(_) => enable(row),
            None => remove(relid, row),
        }
    }
    for kind in wanted {
        if !present.iter().any(|(there, _)| *there == Some(kind)) {
            create(relid, kind);
        }
    }
}

fn wanted(relid: pg_sys::Oid) -> Vec<Kind> {
    let relation = Relation::open(relid, pg_sys::AccessShareLock);
    let relkind = relation.form().relkind as u8;
    if relkind != pg_sys::RELKIND_RELATION && relkind != pg_sys::RELKIND_PARTITIONED_TABLE {
        return Vec::new();
    }
    let levels: Vec<Level> =
        family::ancestors(relid).into_iter().filter_map(source::get).map(|source| source.level).collect();
    if levels.is_empty() {
        return Vec::new();
    }
    kinds(relkind, levels.contains(&Level::Statement), levels.contains(&Level::Row))
}

/// The triggers on a table of this kind for sources captured by statements, by rows, or both.
pub fn kinds(relkind: u8, statement: bool, row: bool) -> Vec<Kind> {
    let mut kinds = vec![Kind::Truncate, Kind::BeforeTruncate];
    if statement {
        kinds.extend([Kind::Insert, Kind::Update, Kind::Delete]);
    }
    if row && relkind == pg_sys::RELKIND_RELATION {
        kinds.push(Kind::Row);
    }
    kinds
}

/// The capture triggers there are; None for one of a kind we no longer know.
fn present(relid: pg_sys::Oid) -> Vec<(Option<Kind>, Row)> {
    let function = function();
    let table = CatalogTable::open_for_read(pg_sys::TriggerRelationId);
    let rows = table.find(pg_sys::TriggerRelidNameIndexId.into(), trigger::TGRELID, relid, Rows::Latest);
    let ours = rows.into_iter().filter(|row| row.must::<pg_sys::Oid>(trigger::TGFOID) == function);
    ours.map(|row| (Kind::of(row.must(trigger::TGTYPE)), row)).collect()
}

/// Every table that has a capture trigger.
pub fn tables() -> Vec<pg_sys::Oid> {
    let function = Object { class: pg_sys::ProcedureRelationId, object: function() };
    let triggers = depend::users_of(function).into_iter().filter(|user| user.class == pg_sys::TriggerRelationId);
    let mut tables: Vec<_> = triggers.filter_map(|trigger| table_of(trigger.object)).collect();
    tables.sort_unstable_by_key(|relid| relid.to_u32());
    tables.dedup();
    tables
}

/// The table of a capture trigger.
pub fn table_of(trigger: pg_sys::Oid) -> Option<pg_sys::Oid> {
    let table = CatalogTable::open_for_read(pg_sys::TriggerRelationId);
    let row = table.get(pg_sys::TriggerOidIndexId.into(), trigger::OID, trigger)?;
    (row.must::<pg_sys::Oid>(trigger::TGFOID) == function()).then(|| row.must(trigger::TGRELID))
}

/// The oid of `pgtrickle_internal.capture()`.
fn function() -> pg_sys::Oid {
    try_function().unwrap_or_else(|| cannot_happen("function pgtrickle_internal.capture() is missing"))
}

/// None while pg_upgrade has not restored it yet.
pub fn try_function() -> Option<pg_sys::Oid> {
    // SAFETY: a syscache look-up by name, arguments and schema.
    let oid = unsafe {
        let no_arguments = pg_sys::buildoidvector(std::ptr::null(), 0);
        pg_sys::GetSysCacheOid(
            pg_sys::SysCacheIdentifier::PROCNAMEARGSNSP as i32,
            pg_sys::Anum_pg_proc_oid as i16,
            pg_sys::Datum::from(c"capture".as_ptr()),
            pg_sys::Datum::from(no_arguments),
            crate::catalog::schema().into(),
            pg_sys::Datum::from(0usize),
        )
    };
    (oid != pg_sys::InvalidOid).then_some(oid)
}

fn is_always(row: &Row) -> bool {
    row.must::<i8>(trigger::TGENABLED) == ALWAYS
}

/// Undoes ALTER TABLE .. DISABLE TRIGGER: a change that is not captured would be lost (promise 2).
fn enable(row: &Row) {
    if !is_always(row) {
        CatalogTable::open_for_write(pg_sys::TriggerRelationId).update(row, &[(trigger::TGENABLED, value(ALWAYS))]);
        // SAFETY: the table exists.
        unsafe { pg_sys::CacheInvalidateRelcacheByRelid(row.must(trigger::TGRELID)) };
    }
}

/// As the server drops a trigger, but under a lock that lets readers go on: only writers look at triggers.
fn remove(relid: pg_sys::Oid, row: &Row) {
    // SAFETY: catalog updates by values; the caller's lock excludes writers.
    unsafe {
        pg_sys::deleteDependencyRecordsFor(pg_sys::TriggerRelationId, row.must(trigger::OID), false);
        CatalogTable::open_for_write(pg_sys::TriggerRelationId).delete(row);
        pg_sys::CacheInvalidateRelcacheByRelid(relid);
    }
}

fn create(relid: pg_sys::Oid, kind: Kind) {
    let function = function();
    let none = pg_sys::InvalidOid;
    // SAFETY: a complete statement for an internal trigger; no permission of the user is needed for one.
    unsafe {
        let address = pg_sys::CreateTriggerFiringOn(
            statement(kind),
            std::ptr::null(),
            relid,
            none,
            none,
            none,
            function,
            none,
            std::ptr::null_mut(),
            true,
            false,
            ALWAYS as c_char,
        );
        loosen(&address, function);
    }
    command_counter_increment();
}

unsafe fn statement(kind: Kind) -> *mut pg_sys::CreateTrigStmt {
    // SAFETY: nodes of the right types.
    unsafe {
        let stmt: *mut pg_sys::CreateTrigStmt = node::make(pg_sys::NodeTag::T_CreateTrigStmt);
        (*stmt).trigname = kind.name().as_ptr().cast_mut();
        (*stmt).row = kind == Kind::Row;
        (*stmt).timing = kind.timing() as i16;
        (*stmt).events = kind.events() as i16;
        (*stmt).transitionRels = list::make(kind.transition_tables().iter().map(|&(name, is_new)| {
            let transition: *mut pg_sys::TriggerTransition = node::make(pg_sys::NodeTag::T_TriggerTransition);
            (*transition).name = name.as_ptr().cast_mut();
            (*transition).isNew = is_new;
            (*transition).isTable = true;
            transition
        }));
        stmt
    }
}

/// Lets the trigger go with its function: DROP EXTENSION must not ask for CASCADE over users' tables.
unsafe fn loosen(trigger: &pg_sys::ObjectAddress, function: pg_sys::Oid) {
    // SAFETY: catalog updates by values.
    unsafe {
        let class = pg_sys::ProcedureRelationId;
        let normal = pg_sys::DependencyType::DEPENDENCY_NORMAL as c_char;
        pg_sys::deleteDependencyRecordsForSpecific(trigger.classId, trigger.objectId, normal, class, function);
        let function = pg_sys::ObjectAddress { classId: class, objectId: function, objectSubId: 0 };
        pg_sys::recordDependencyOn(trigger, &raw const function, pg_sys::DependencyType::DEPENDENCY_AUTO);
    }
}
