//! Functions of the views and table functions of schema pgtrickle that need the library.

use super::{advice, verdict};
use crate::capture::{Frontier, Pending};
use crate::catalog::stream_table::{self, StreamTable};
use crate::catalog::{dependency, source, version};
use crate::circuit;
use crate::identity;
use crate::pg::{execute, facts, storage};
use crate::{settings, wakeup};
use pgrx::iter::TableIterator;
use pgrx::{name, pg_extern, pg_sys};
use std::collections::BTreeSet;

/// A stored frontier as pg_snapshot prints; NULL when it is of a format that the library does not know.
#[pg_extern]
fn frontier_text(frontier: &[u8]) -> Option<String> {
    Frontier::readable(frontier).map(|frontier| frontier.to_text())
}

/// The view's contents may differ from its query now, expanded through the stream tables it reads.
pub fn may_be_behind(view: pg_sys::Oid) -> bool {
    let mut seen = BTreeSet::new();
    let mut views = vec![view];
    while let Some(view) = views.pop() {
        let Some(row) = stream_table::get(view).filter(|_| seen.insert(view.to_u32())) else { continue };
        if is_behind(&row) {
            return true;
        }
        views.extend(dependency::sources_of(view).into_iter().map(|dependency| dependency.source));
    }
    false
}

/// What the view reads, stream tables as they are, may have changed since it was refreshed.
fn is_behind(row: &StreamTable) -> bool {
    let Some(frontier) = row.frontier.as_deref().and_then(Frontier::readable) else { return true };
    // Whoever keeps us from looking is about to change it.
    let pending = |source: pg_sys::Oid| {
        source::get(source).is_some() && waiting(source, &frontier).is_none_or(|waiting| waiting.versions > 0)
    };
    !row.captured || stream_table::reinit(row.relid).is_some() || captured_sources(row).into_iter().any(pending)
}

/// What waits in the change buffer of a source.
pub struct Waiting {
    /// Of rows, not seen yet.
    pub versions: u64,
    pub bytes: u64,
    pub cdc: String,
}

/// What waits for a view with that frontier; None when the source is no longer captured, or somebody is just dropping or
/// truncating its buffer. Does not wait for them: who looks at many buffers would be in a deadlock with who drops many.
pub fn waiting(relid: pg_sys::Oid, frontier: &Frontier) -> Option<Waiting> {
    let source = source::get(relid)?;
    // Locks them too.
    let bytes = source.segments.into_iter().map(storage::bytes_now).sum::<Option<u64>>()?;
    Some(Waiting { versions: Pending::now(relid, frontier).versions, bytes, cdc: source.cdc })
}

pub fn captured_sources(row: &StreamTable) -> Vec<pg_sys::Oid> {
    let sources =
        dependency::sources_of(row.relid).into_iter().filter(|dependency| dependency.capturable && row.captured);
    sources.map(|dependency| dependency.source).collect()
}

/// A scheduler refreshes stream tables in this database.
#[pg_extern]
fn scheduler_running() -> bool {
    wakeup::scheduler_running() && version::mismatch().is_none()
}

/// Whether the library and the SQL objects of this database fit, and what each of them is.
#[pg_extern]
fn versions() -> TableIterator<'static, (name!(fits, bool), name!(detail, String))> {
    settings::require_preloaded();
    let (mismatch, found) = (version::mismatch(), version::found());
    let detail = format!("catalog version {found}; {}", version::library());
    let hint = mismatch.map(|mismatch| format!(": {}", mismatch.hint())).unwrap_or_default();
    TableIterator::once((mismatch.is_none(), detail + &hint))
}

/// What waits in the change buffers for each stream table.
#[pg_extern]
fn change_buffer_sizes() -> TableIterator<
    'static,
    (
        name!(stream_table, String),
        name!(source_table, String),
        name!(source_oid, pg_sys::Oid),
        name!(cdc_mode, String),
        name!(pending_rows, i64),
        name!(buffer_bytes, i64),
    ),
> {
    version::check();
    let mut rows = Vec::new();
    for view in stream_table::all() {
        let Some(frontier) = view.frontier.as_deref().map(Frontier::stored) else { continue };
        for source in captured_sources(&view) {
            let names = facts::try_relation_name(view.relid).zip(facts::try_relation_name(source));
            let Some(((view, table), waiting)) = names.zip(waiting(source, &frontier)) else { continue };
            rows.push((view, table, source, waiting.cdc, waiting.versions as i64, waiting.bytes as i64));
        }
    }
    TableIterator::new(rows)
}

/// What a stream table with this query would be.
#[pg_extern]
fn validate_query(
    query: &str,
) -> TableIterator<'static, (name!(check_name, String), name!(result, String), name!(severity, String))> {
    version::check();
    // Names mean what they mean to the caller; rewriting and folding are restricted as those of a view are.
    let query = execute::analyze_query(query);
    let circuit = identity::as_author(|author| circuit::build_query(query, author));
    let findings = verdict::of(&circuit).into_iter().chain(advice::of(&circuit));
    TableIterator::new(findings.map(|f| (f.check, f.result, f.severity.to_owned())).collect::<Vec<_>>())
}
