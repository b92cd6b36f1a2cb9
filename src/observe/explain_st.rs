//! explain_st: everything about one stream table, a property a row.

use super::advice;
use super::functions::{captured_sources, waiting};
use super::verdict::WARNING;
use crate::capture::Frontier;
use crate::catalog::stream_table::{self, StreamTable};
use crate::catalog::{dependency, moved, version};
use crate::circuit::{self, Circuit, Operator};
use crate::identity::as_owner_with;
use crate::pg::explain::Explain;
use crate::pg::names::{Permission, RangeVar};
use crate::pg::relation::Relation;
use crate::pg::{clock, facts, names, privilege};
use crate::refresh;
use crate::registration::named::stream_table_named;
use crate::registration::options::Stored;
use crate::runtime;
use pgrx::iter::TableIterator;
use pgrx::{name, pg_extern, pg_sys};

type Properties = Vec<(&'static str, Option<String>)>;

#[pg_extern]
fn explain_st(
    name: &str,
    with_analyze: bool,
) -> TableIterator<'static, (name!(property, &'static str), name!(value, Option<String>))> {
    version::check();
    let name = RangeVar::parse(name);
    stream_table_named(name);
    let (view, plan) = plan(name, with_analyze);
    let mut properties = stream_table::get(view).map(|row| described(&row)).unwrap_or_default();
    properties.push(("plan", Some(plan.trim_end().to_owned())));
    TableIterator::new(properties)
}

/// The view, which the caller may refresh, and the plan of that; with `analyze` it is refreshed.
fn plan(name: RangeVar, analyze: bool) -> (pg_sys::Oid, String) {
    if analyze {
        privilege::require_writable("EXPLAIN ANALYZE REFRESH MATERIALIZED VIEW");
    }
    let lock = name.find().filter(|_| analyze).map_or(pg_sys::AccessShareLock, refresh::lock_level);
    let view = name.lock(lock, Permission::Maintain);
    if analyze {
        refresh::prepare(view);
    }
    (view, refresh::explain(view, Explain::plain(analyze)))
}

fn described(row: &StreamTable) -> Properties {
    let options = Stored::read(row.relid).options();
    let circuit = as_owner_with(row.relid, &row.pinned, |owner| circuit::build(row.relid, owner));
    let mut properties = vec![
        ("name", Some(facts::relation_name(row.relid))),
        ("status", Some(row.status.as_str().to_owned())),
        ("is_populated", Some(names::is_populated(row.relid).to_string())),
        ("schedule", Some(options.schedule)),
        ("configured_mode", Some(options.refresh_mode.as_str().to_owned())),
        ("effective_mode", Some(row.effective_mode.clone())),
        ("downgrade_reason", row.downgrade_reason.clone()),
        ("recompute_due", refresh::due(row)),
        ("moved_by_ddl", moved::seen(row.relid)),
        ("next_recompute_not_before", resting(row.relid)),
        ("operator", Some(operator(&circuit))),
        ("key", circuit.key.as_ref().map(|key| columns(row.relid, key))),
        ("frontier", row.frontier.as_deref().map(|frontier| Frontier::stored(frontier).to_text())),
        (
            "last_error",
            row.last_error.clone().filter(|_| privilege::may_maintain(row.relid, privilege::current_user())),
        ),
        ("pinned_settings", Some(row.pinned.join("; ")).filter(|_| circuit.settings_dependent)),
    ];
    properties.extend(sources(row));
    let advice = advice::of(&circuit).into_iter().filter(|advice| advice.severity == WARNING);
    properties.extend(advice.map(|advice| ("advice", Some(advice.result))));
    properties
}

/// Until when the scheduler lets the view rest after recomputes that took long.
fn resting(view: pg_sys::Oid) -> Option<String> {
    let until = runtime::rests_until(view).filter(|until| *until > clock::now())?;
    Some(clock::to_text(until))
}

fn operator(circuit: &Circuit) -> String {
    match circuit.blocks.last().map(|block| &block.operator) {
        None => "recompute",
        Some(Operator::Pass) => "select, join",
        Some(Operator::Accumulate(_)) => "aggregate",
        Some(Operator::Recompute(_)) => "recompute",
    }
    .to_owned()
}

fn columns(view: pg_sys::Oid, key: &[usize]) -> String {
    let relation = Relation::open(view, pg_sys::AccessShareLock);
    let names: Vec<String> = key.iter().map(|column| names::quoted(relation.column_name(*column as i16 + 1))).collect();
    names.join(", ")
}

/// Each source with what is pending of it.
fn sources(row: &StreamTable) -> Properties {
    let frontier = row.frontier.as_deref().map(Frontier::stored);
    let captured = captured_sources(row);
    let described = |dependency: dependency::Dependency| {
        let name = facts::relation_name(dependency.source);
        let text = match frontier.as_ref().filter(|_| captured.contains(&dependency.source)) {
            None => "not captured".to_owned(),
            Some(frontier) => match waiting(dependency.source, frontier) {
                Some(waiting) => format!("{} row versions pending", waiting.versions),
                None => "its change buffer is locked".to_owned(),
            },
        };
        ("source", Some(format!("{name}: {text}")))
    };
    dependency::sources_of(row.relid).into_iter().map(described).collect()
}
