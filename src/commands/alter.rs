//! ALTER MATERIALIZED VIEW ... SET / RESET of storage parameters, ours and the server's, in any mixture.
//!
//! The server checks all parameters of the view when it changes any, so ours are taken out of pg_class first and put
//! back, as changed, afterwards. When the statement fails, so does all of it.

use crate::catalog::{self, stream_table, version};
use crate::error::{Report, error};
use crate::pg;
use crate::pg::statement::{AlterRelation, OptionChange};
use crate::pg::utility::{Call, Verdict};
use crate::pg::{names, privilege};
use crate::refresh::{self, Initiator};
use crate::registration;
use crate::registration::named::{not_a_stream_table, wrong_kind};
use crate::registration::options::{Options, Stored, bare, is_ours};
use crate::wakeup;
use pgrx::{PgSqlErrorCode, pg_sys};

/// None when the statement is not about parameters that concern us.
pub fn before(call: &Call) -> Option<Verdict> {
    let alter = AlterRelation::of(call)?;
    let changes = alter.option_changes();
    if changes.is_empty() {
        return None;
    }
    let ours = changes.iter().any(mentions_ours);
    match alter.relation().find() {
        // The server says that there is no such relation.
        None => ours.then(|| server_part(&alter, |_| ())),
        Some(relid) if ours && !names::is_materialized_view(relid) => wrong_kind(relid).raise(),
        Some(_) if ours => {
            version::require();
            Some(change(&alter, &changes))
        }
        Some(relid) if stream_table::exists(relid) => Some(change(&alter, &changes)),
        Some(_) => None,
    }
}

/// A relation was altered, by whatever statement; it may have another owner, which matters for what is refreshed together.
pub fn altered(relid: pg_sys::Oid) {
    // While pg_upgrade restores the schema, what we remember is not there yet.
    if !pg::upgrading() && catalog::installed() && stream_table::exists(relid) {
        wakeup::graph_changed();
    }
}

fn mentions_ours(change: &OptionChange) -> bool {
    match change {
        OptionChange::Set(options) | OptionChange::Reset(options) => options.iter().any(is_ours),
    }
}

fn server_part(alter: &AlterRelation, after: impl FnOnce(&Call) + 'static) -> Verdict {
    Verdict::Core(Some(alter.stripped(is_ours)), Box::new(after))
}

fn change(alter: &AlterRelation, changes: &[OptionChange]) -> Verdict {
    privilege::require_writable("ALTER MATERIALIZED VIEW");
    if names_incremental(changes) {
        registration::lock_graph();
    }
    let view = alter.relation().lock(lock_level(alter, changes), names::Permission::Owner);
    let old = Stored::read(view);
    let mut new = old.clone();
    new.change(changes);
    let (was, becomes) = (stream_table::exists(view), new.options().incremental);
    if !was && !becomes && !new.says_nothing() {
        not_a_stream_table(view).raise()
    }
    if was && becomes && old.get("settings") != new.get("settings") {
        pinned(view).raise()
    }
    Stored::default().write(view);
    server_part(alter, move |_| match (was, becomes) {
        (false, true) => adopt(view, new),
        (true, false) => registration::release(&[view]),
        (true, true) => follow(view, &old.options(), &new),
        (false, false) => (),
    })
}

/// The stored rows were computed under the settings.
fn pinned(view: pg_sys::Oid) -> Report {
    let message = format!("cannot change the settings of stream table \"{}\"", names::display(view));
    error(PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED, message)
        .detail("Its rows were computed under those that parameter \"pg_trickle.settings\" holds.")
        .hint("SET pg_trickle.incremental to false, and then, under the settings it shall have, to true.")
}

/// Becoming a stream table or ceasing to be one excludes everybody, as CREATE and DROP do.
fn lock_level(alter: &AlterRelation, changes: &[OptionChange]) -> u32 {
    if names_incremental(changes) { pg_sys::AccessExclusiveLock } else { alter.lock_level() }
}

fn names_incremental(changes: &[OptionChange]) -> bool {
    let is = |change: &OptionChange| match change {
        OptionChange::Set(options) | OptionChange::Reset(options) => {
            options.iter().filter_map(bare).any(|name| name == "incremental")
        }
    };
    changes.iter().any(is)
}

/// A view with rows is compared with its query at once; one without stays so.
fn adopt(view: pg_sys::Oid, stored: Stored) {
    registration::adopt(view, stored);
    registration::warn_of_callers(view);
    if names::is_populated(view) {
        registration::attach(view);
        refresh::refresh(view, Initiator::Initial);
    }
    registration::resync_dependants(view);
}

fn follow(view: pg_sys::Oid, old: &Options, new: &Stored) {
    new.write(view);
    if old.consistency != new.options().consistency {
        registration::require_permission(view, new);
        // It may be behind what it reads.
        wakeup::touch(view);
    }
    if old.refresh_mode != new.options().refresh_mode {
        registration::resync(view);
    }
}
