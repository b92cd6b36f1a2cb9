//! What a view holds when its refresh begins.

use super::entry::name;
use super::scope::Asked;
use crate::capture::frontier::Frontier;
use crate::capture::repair;
use crate::catalog::dependency;
use crate::catalog::recompute_reason::RecomputeReason;
use crate::catalog::stream_table::{self, StreamTable};
use crate::error::error;
use crate::pg::{names, snapshot};
use crate::plan::cache::Entry;
use pgrx::{PgSqlErrorCode, pg_sys};

pub enum Contents {
    /// Nothing, and nobody can read it.
    Unpopulated,
    /// Rows of unknown age: the view has just become a stream table.
    Adopted,
    /// Rows that something other than the last refresh may have left. The reason why they could not have been continued
    /// anyway, if there is one.
    Replaced(Option<String>),
    /// Rows that cannot be continued, for this reason.
    Due(String),
    /// What the last refresh left.
    Current(Frontier),
}

impl Contents {
    /// What a view holds, as its row and its marker say.
    pub fn of(view: pg_sys::Oid, row: &StreamTable, entry: &Entry, asked: Asked) -> Self {
        match row.frontier.as_deref().map(Frontier::stored) {
            None => without_frontier(view, asked),
            Some(_) if row.may_be_replaced() => replaced(view, asked),
            Some(frontier) => due_or_doubtful(row, entry).map_or(Self::Current(frontier), Self::Due),
        }
    }

    /// The frontier from which changes are counted.
    pub fn frontier(&self) -> Option<&Frontier> {
        match self {
            Self::Current(frontier) => Some(frontier),
            _ => None,
        }
    }

    /// There are rows from an earlier refresh, which have to be found.
    pub fn are_stored(&self) -> bool {
        !matches!(self, Self::Unpopulated | Self::Adopted)
    }

    /// Why they are not continued, for the history.
    pub fn reason(&self) -> Option<String> {
        match self {
            Self::Replaced(due) => Some(due.clone().unwrap_or_else(|| RecomputeReason::RowsReplaced.to_string())),
            Self::Due(reason) => Some(reason.clone()),
            Self::Unpopulated | Self::Adopted | Self::Current(_) => None,
        }
    }

    /// What was computed at the snapshot of `new` has to be computed once more. What was committed between a snapshot
    /// that is older and the begin of capture is in neither the contents nor a buffer. Nor does such a snapshot see all
    /// the rows that another session's REFRESH left in a view just adopted.
    pub fn are_too_old_at(&self, new: &Frontier) -> bool {
        match self {
            Self::Unpopulated | Self::Due(_) | Self::Replaced(Some(_)) => new.is_outdated(),
            Self::Adopted => new.is_outdated() || snapshot::is_kept(),
            Self::Replaced(None) | Self::Current(_) => false,
        }
    }
}

/// Doubt comes first: a repair that makes capture complete leaves a marker (capture/repair.rs).
pub fn due_or_doubtful(row: &StreamTable, entry: &Entry) -> Option<String> {
    let sources = || entry.circuit.sources.iter().filter(|source| source.capturable).map(|source| source.relid);
    let doubt = row.captured.then(|| repair::doubt(sources())).flatten();
    due(row).or_else(|| doubt.or_else(|| altered(row, sources())).map(|reason| reason.to_string()))
}

/// A server without the library tells nobody what it does to a table: look once after each start.
fn altered(row: &StreamTable, mut sources: impl Iterator<Item = pg_sys::Oid>) -> Option<RecomputeReason> {
    let altered = row.captured && !row.is_of_this_start() && sources.any(repair::is_altered);
    altered.then_some(RecomputeReason::DefinitionChanged)
}

/// Why the contents must be computed anew, if they must.
pub fn due(row: &StreamTable) -> Option<String> {
    let frontier = row.frontier.as_deref()?;
    let unreadable = || Frontier::readable(frontier).is_none().then(|| RecomputeReason::FormatChanged.to_string());
    stream_table::reinit(row.relid).or_else(unreadable)
}

fn without_frontier(view: pg_sys::Oid, asked: Asked) -> Contents {
    match names::is_populated(view) {
        _ if asked != Asked::ByName => unpopulated(view),
        true => Contents::Adopted,
        false => Contents::Unpopulated,
    }
}

/// Those that read the view have not seen what replaced its rows.
fn replaced(view: pg_sys::Oid, asked: Asked) -> Contents {
    let mark = |reader| stream_table::set_reinit(reader, RecomputeReason::UpstreamReplaced);
    dependency::dependants_of(view).into_iter().for_each(mark);
    match names::is_populated(view) {
        true => Contents::Replaced(stream_table::reinit(view)),
        false if asked == Asked::ByName => Contents::Unpopulated,
        false => unpopulated(view),
    }
}

fn unpopulated(view: pg_sys::Oid) -> ! {
    error(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("materialized view \"{}\" has not been populated", name(view)),
    )
    .hint("Use the REFRESH MATERIALIZED VIEW command.")
    .raise()
}
