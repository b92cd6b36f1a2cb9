//! The life of a stream table between the statements: what is set up when a view becomes one, what is taken down when
//! it ends, and how both follow when its query or mode changes.
//!
//! ```text
//!   register ──> attach ──> (refreshes) ──> detach ──> forget
//!   remembered   captured    populated      emptied    a plain view, or gone
//! ```
//! A view without rows costs its sources nothing: capture starts with the first population.

use super::options::{Options, RefreshMode, Stored};
use super::{company, pinned, refusal};
use crate::capture;
use crate::catalog::STREAM_TABLE;
use crate::catalog::dependency::{self, Dependency};
use crate::catalog::history;
use crate::catalog::recompute_reason::RecomputeReason;
use crate::catalog::state::{self, Part};
use crate::catalog::stream_table::{self, Definition};
use crate::circuit::{self, BlockId, Circuit, Operator};
use crate::error::{Report, error};
use crate::exec::{accumulate, apply};
use crate::identity::{self, AsOwner};
use crate::pg::internal_table::Column;
use crate::pg::memory::Scratch;
use crate::pg::query::TypeOf;
use crate::pg::{lock, names, privilege};
use crate::schedule::graph;
use pgrx::{PgSqlErrorCode, pg_sys};

/// Makes a materialized view just created a stream table whose sources are not captured yet. Nobody reads it: so it cannot
/// read itself.
pub fn register(view: pg_sys::Oid, stored: Stored) {
    remember(view, stored, |_| ());
}

/// Makes an existing materialized view a stream table whose sources are not captured yet. To be called under `lock_graph`.
pub fn adopt(view: pg_sys::Oid, stored: Stored) {
    remember(view, stored, refuse_cycle);
}

fn remember(view: pg_sys::Oid, mut stored: Stored, check: fn(&Circuit)) {
    refuse_temporary(view);
    let options = stored.options();
    let settings = identity::settings_with(options.settings.as_deref().unwrap_or_default());
    let circuit = identity::as_owner_with(view, &settings, |owner| circuit::build(view, owner));
    check(&circuit);
    let definition = define(&circuit, &options);
    if wants_capture(&circuit, &options) {
        require_trigger_privilege(&circuit);
    }
    stream_table::insert(view, definition, settings.clone());
    dependency::replace(view, &dependencies(&circuit));
    if circuit.settings_dependent {
        stored.set("settings", &pinned::encode(&settings));
    }
    company::require_permission(view, &stored);
    stored.write(view);
}

/// No statement tells us when a session's end drops a view, and its sources would be captured for ever.
fn refuse_temporary(view: pg_sys::Oid) {
    if names::is_temporary(view) {
        let message = format!("temporary materialized view \"{}\" cannot be a stream table", names::display(view));
        error(PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED, message)
            .detail("What is captured for a stream table outlives the session.")
            .hint("Create the view in a schema other than pg_temp.")
            .raise()
    }
}

/// Excludes other statements that may make a stream table read itself, until the end of the transaction: otherwise two of them
/// would each find the graph without a cycle, as the other one's half is not committed. Only the query of a plain view and the
/// adoption of a view that others read can close a cycle; they call this before they lock that view, so that nobody
/// waits here for somebody who waits for the view. Afterwards the catalogs are seen as the one before has left them.
pub fn lock_graph() {
    // Without the extension there is no graph.
    if let Some(catalog) = STREAM_TABLE.find() {
        lock::take(catalog, pg_sys::InvalidOid, pg_sys::ExclusiveLock);
    }
}

/// A view that reads itself, by way of other stream tables, could never be refreshed. What the others read is taken from their
/// queries: what is remembered of them may be older than the last CREATE OR REPLACE VIEW.
fn refuse_cycle(circuit: &Circuit) {
    let sources_of = |relid: u32| -> Vec<u32> {
        let oids = |circuit: &Circuit| circuit.sources.iter().map(|source| source.relid.to_u32()).collect();
        match relid == circuit.view.to_u32() {
            true => oids(circuit),
            false if stream_table::exists(relid.into()) => oids(&circuit_of(relid.into())),
            false => vec![],
        }
    };
    if let Some(path) = graph::cycle(circuit.view.to_u32(), sources_of) {
        reads_itself(&path.into_iter().map(pg_sys::Oid::from).collect::<Vec<_>>()).raise()
    }
}

/// The path begins and ends with the same view.
pub fn reads_itself(path: &[pg_sys::Oid]) -> Report {
    let path: Vec<String> = path.iter().map(|oid| names::display(*oid)).collect();
    error(PgSqlErrorCode::ERRCODE_INVALID_RECURSION, format!("stream table \"{}\" would read itself", path[0]))
        .detail(format!("The path is {}.", path.join(" <- ")))
        .hint("Take one of these out of the others' queries.")
}

/// A plain view that these stream tables read was replaced: none of them may read itself now. To be called under `lock_graph`.
pub fn refuse_cycles(views: &[pg_sys::Oid]) {
    views.iter().for_each(|view| refuse_cycle(&circuit_of(*view)));
}

fn circuit_of(view: pg_sys::Oid) -> Circuit {
    identity::as_owner(view, |owner| circuit::build(view, owner))
}

/// Whether the view is maintained incrementally, or why not; raises when that is not what was asked for.
fn define(circuit: &Circuit, options: &Options) -> Definition {
    let (effective_mode, downgrade_reason) = match (&circuit.refusal, options.refresh_mode) {
        (Some(refusal), _) if refusal.is_fatal() => refusal::raise(circuit.view, refusal),
        (Some(refusal), RefreshMode::Differential) => refusal::raise(circuit.view, refusal),
        (Some(refusal), RefreshMode::Auto) if circuit.blocks.is_empty() => ("FULL", Some(refusal::text(refusal))),
        (Some(refusal), RefreshMode::Auto) => ("PARTIAL", Some(refusal::text_of_blocks(circuit, refusal))),
        (_, RefreshMode::Full) => ("FULL", None),
        (None, _) => ("DIFFERENTIAL", None),
    };
    Definition { fingerprint: circuit.fingerprint, effective_mode, downgrade_reason }
}

fn dependencies(circuit: &Circuit) -> Vec<Dependency> {
    let dependency = |source: &circuit::Source| Dependency {
        source: source.relid,
        capturable: source.capturable,
        columns: source.columns.clone(),
    };
    circuit.sources.iter().map(dependency).collect()
}

/// A view that is recomputed by its schedule alone needs no capture.
fn wants_capture(circuit: &Circuit, options: &Options) -> bool {
    options.refresh_mode != RefreshMode::Full && circuit.capturable
}

fn require_trigger_privilege(circuit: &Circuit) {
    let owner = names::owner(circuit.view);
    let tables =
        circuit.sources.iter().filter(|source| source.capturable && !names::is_materialized_view(source.relid));
    for source in tables {
        if !privilege::may_trigger(source.relid, owner) {
            let (table, role) = (names::display(source.relid), names::role(owner));
            error(PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE, format!("permission denied for table {table}"))
                .detail(format!("The owner of a stream table, {role}, needs privilege TRIGGER on each table it reads."))
                .hint(format!("GRANT TRIGGER ON {table} TO {role};"))
                .raise()
        }
    }
}

/// Starts the capture of its sources and makes the tables of its blocks. A snapshot taken afterwards is good for population.
pub fn attach(view: pg_sys::Oid) {
    attach_circuit(&circuit_of(view), &Stored::read(view).options());
}

/// Whether there is anything to capture.
fn attach_circuit(circuit: &Circuit, options: &Options) -> bool {
    let captured = wants_capture(circuit, options);
    if captured {
        require_trigger_privilege(circuit);
        // In the order of locks (capture/lock.rs).
        let mut sources: Vec<_> = circuit.sources.iter().filter(|source| source.capturable).collect();
        sources.sort_unstable_by_key(|source| source.relid.to_u32());
        for source in sources {
            capture::install(source.relid, &source.columns);
        }
        create_state(circuit);
    }
    stream_table::set_captured(circuit.view, captured);
    captured
}

fn create_state(circuit: &Circuit) {
    for (block, part, layout) in identity::as_owner(circuit.view, |owner| layouts(circuit, owner)) {
        let relation = state::create(circuit.view, block.0 as i16, part, &layout);
        if part == Part::Output {
            apply::ensure_index(relation, circuit.blocks[block.index()].output.key.as_deref());
        }
    }
}

/// What its blocks keep: state tables, then hidden relations.
pub fn layouts(circuit: &Circuit, owner: &AsOwner) -> Vec<(BlockId, Part, state::Layout)> {
    let state = |block: &circuit::Block| match &block.operator {
        Operator::Accumulate(spec) => Some((block.id, Part::State, accumulate::layout(spec, owner))),
        Operator::Pass | Operator::Recompute(_) => None,
    };
    let below = circuit.blocks.len().saturating_sub(1);
    let output = |block: &circuit::Block| (block.id, Part::Output, output_layout(block));
    circuit.blocks.iter().filter_map(state).chain(circuit.blocks[..below].iter().map(output)).collect()
}

/// The hidden relation of a block below the top.
fn output_layout(block: &circuit::Block) -> state::Layout {
    let column = |(number, of): (usize, &TypeOf)| Column {
        name: format!("c{number}"),
        typid: of.typid,
        typmod: of.typmod,
        collation: of.collation,
        storage: None,
    };
    let columns = (1..).zip(&block.output.columns).map(column).collect();
    state::Layout { columns, key: vec![], unique: false }
}

/// Puts empty tables of the present format in the place of what the view's blocks keep. The contents are recomputed by the next refresh.
pub fn renew_state(view: pg_sys::Oid) {
    state::drop_all(view);
    create_state(&circuit_of(view));
    stream_table::set_reinit(view, RecomputeReason::FormatChanged);
}

/// The reverse of `attach`, for a view that has no rows any more or is going away.
pub fn detach(view: pg_sys::Oid) {
    state::drop_all(view);
    stream_table::set_captured(view, false);
    dependency::sources_of(view).iter().for_each(|dependency| capture::shrink(dependency.source));
}

/// Brings a registered view in line with its query and options as they are now. Its contents, if any, are recomputed
/// by the next refresh.
pub fn resync(view: pg_sys::Oid) {
    let Some(row) = stream_table::get(view) else { return };
    let circuit = circuit_of(view);
    let options = Stored::read(view).options();
    refuse_cycle(&circuit);
    stream_table::set_definition(view, define(&circuit, &options));
    let before = dependency::sources_of(view);
    apply::demote_outdated(view, circuit.key.as_deref());
    state::drop_all(view);
    dependency::replace(view, &dependencies(&circuit));
    company::suspend_unpermitted(view);
    let populated = row.frontier.is_some();
    // A first population under way has attached the view already.
    let captured = (populated || row.captured) && attach_circuit(&circuit, &options);
    if captured && populated {
        stream_table::set_reinit(view, RecomputeReason::DefinitionChanged);
    }
    before.iter().for_each(|dependency| capture::shrink(dependency.source));
}

/// The view's owner may be another one, or have another name: if that makes its query another one, its contents are due.
pub fn compare(view: pg_sys::Oid) {
    let Some(row) = stream_table::get(view).filter(|row| row.frontier.is_some()) else { return };
    if circuit_of(view).fingerprint != row.fingerprint {
        stream_table::set_reinit(view, RecomputeReason::DefinitionChanged);
    }
}

/// DDL on a table: a view among `users` that does without the table because of one of its keys may need it now, or the
/// reverse.
pub fn follow_keys(table: pg_sys::Oid, users: Vec<pg_sys::Oid>) {
    let does_without = |view: &pg_sys::Oid| !dependency::sources_of(*view).iter().any(|d| d.source == table);
    users.into_iter().filter(does_without).for_each(compare);
}

/// Leaves plain materialized views with the rows they have. All at once: what a source is captured for, and what else reads a
/// view, is looked up when the last of them is taken down.
pub fn release(views: &[pg_sys::Oid]) {
    Scratch::each(views, |view| {
        apply::drop_own_indexes(view);
        Stored::default().write(view);
    });
    forget(views);
    Scratch::each(views, resync_dependants);
}

/// Forgets views that are not stream tables any more, existing or not. Their sources may be without readers now.
pub fn forget(views: &[pg_sys::Oid]) {
    let mut sources: Vec<_> = views.iter().flat_map(|view| dependency::sources_of(*view)).collect();
    Scratch::each(views, |view| {
        dependency::replace(view, &[]);
        state::drop_all(view);
        stream_table::delete(view);
        history::delete(view);
    });
    // Who still reads a source takes a look at all its readers.
    sources.sort_unstable_by_key(|dependency| dependency.source.to_u32());
    sources.dedup_by_key(|dependency| dependency.source);
    sources.iter().for_each(|dependency| capture::shrink(dependency.source));
}

/// Those that read `view` read something else now: a plain view instead of a stream table or the reverse.
pub fn resync_dependants(view: pg_sys::Oid) {
    dependency::dependants_of(view).into_iter().for_each(resync);
}
