//! What goes when something is dropped, by whatever statement.
//!
//! The object access hook notes that a relation we know is being dropped; when the statement is over, everything that
//! belongs to relations which no longer exist is swept. A capture trigger that was dropped alone comes back. DROP
//! EXTENSION first turns stream tables into plain materialized views, which keep their rows.

use super::source_ddl;
use crate::capture;
use crate::catalog::{self, source, stream_table, version};
use crate::pg::statement::{drop_owned_roles, drops_extension};
use crate::pg::utility::{Call, Verdict};
use crate::pg::{identity, names, privilege};
use crate::registration;
use pgrx::pg_sys;
use std::cell::Cell;

pub const EXTENSION: &str = "pg_trickle";

thread_local!(static DROPPED: Cell<bool> = const { Cell::new(false) });

/// A relation is being dropped.
pub fn dropped(relid: pg_sys::Oid) {
    if !catalog::installed() || stream_table::none() {
        return;
    }
    capture::departure::on_drop(relid);
    if stream_table::exists(relid) || source::get(relid).is_some() {
        DROPPED.set(true);
    }
    let table = if names::is_index(relid) { names::table_of_index(relid) } else { Some(relid) };
    table.into_iter().for_each(source_ddl::note);
}

/// A trigger is being dropped. One of ours is made anew at the end of the statement.
pub fn trigger_dropped(trigger: pg_sys::Oid) {
    if catalog::installed() && !stream_table::none() {
        capture::table_of_trigger(trigger).into_iter().for_each(source_ddl::note);
    }
}

pub fn pending() -> bool {
    DROPPED.get()
}

/// Removes what belongs to relations that are gone.
pub fn sweep() {
    if !DROPPED.replace(false) {
        return;
    }
    let gone = |relid: &pg_sys::Oid| names::kind(*relid).is_none();
    let views: Vec<_> = stream_table::views().into_iter().filter(gone).collect();
    registration::forget(&views);
    // All of them: of two sessions that each dropped one of the last two readers neither could do it.
    source::all().into_iter().for_each(|source| capture::uninstall(source.relid));
}

pub fn before(call: &Call) -> Verdict {
    source_ddl::before_drop(call);
    let goes = drops_extension(call, EXTENSION) && privilege::owns_extension(EXTENSION, identity::current_user());
    let mut owners = drop_owned_roles(call).into_iter().filter(|role| privilege::has_rights_of(*role));
    if goes || owners.any(|role| names::extension_owner(EXTENSION) == Some(role)) {
        privilege::require_writable(if goes { "DROP EXTENSION" } else { "DROP OWNED" });
        release_all();
    }
    Verdict::Pass
}

/// Whatever version the SQL objects have.
fn release_all() {
    version::exclude();
    // Downstream first.
    let views: Vec<_> = stream_table::views().into_iter().rev().collect();
    views.iter().for_each(|view| names::lock(*view, pg_sys::AccessExclusiveLock));
    registration::release(&views);
}
