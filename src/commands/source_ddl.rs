//! Statements that change tables stream tables read: capture is told at their end, and finds what it means.

use super::redefinition;
use crate::capture;
use crate::capture::departure::How;
use crate::catalog::recompute_reason::RecomputeReason;
use crate::catalog::stream_table;
use crate::pg::depend::Object;
use crate::pg::names::{self, RangeVar};
use crate::pg::statement::{self, AlterRelation};
use crate::pg::utility::{Call, Verdict};
use crate::registration;
use pgrx::pg_sys::{self, NodeTag};
use std::cell::RefCell;

thread_local!(static CHANGED: RefCell<Vec<pg_sys::Oid>> = const { RefCell::new(Vec::new()) });

pub fn before(call: &Call) -> Verdict {
    if stream_table::none() {
        return Verdict::Pass;
    }
    if is_about_subscriptions(call.tag()) {
        return Verdict::Core(None, Box::new(|_| capture::on_subscription_change()));
    }
    if let Some(view) = statement::replaced_view(call) {
        if view.find().is_some_and(|relid| !users_of(relid).is_empty()) {
            registration::lock_graph();
        }
        return Verdict::Core(None, Box::new(move |_| view_replaced(view)));
    }
    if statement::is_about_owners(call) {
        return Verdict::Core(None, Box::new(owners_changed));
    }
    let alter = AlterRelation::of(call);
    if let Some(alter) = alter.filter(AlterRelation::detaches_concurrently) {
        alter.relation().find().into_iter().for_each(capture::before_detach_concurrently);
    }
    if let Some(alter) = alter {
        expect_detached(alter);
    }
    let mut tables = existing(call, alter);
    let created = statement::created_table(call);
    let owned = alter.filter(AlterRelation::changes_owner).and_then(|alter| alter.relation().find());
    let after = move |_: &Call| {
        tables.extend(created.and_then(RangeVar::find_where_created));
        tables.into_iter().for_each(changed);
        owned.into_iter().for_each(registration::compare);
    };
    Verdict::Core(None, Box::new(after))
}

/// A table may be about to leave a parent, with its rows.
fn expect_detached(alter: AlterRelation) {
    let leaving: Vec<_> = alter.leaving().and_then(RangeVar::find).into_iter().collect();
    capture::departure::expect(How::Detached, &leaving);
}

/// Tables may be about to be dropped, with their rows.
pub fn before_drop(call: &Call) {
    if !stream_table::none() {
        let tables: Vec<_> = statement::dropped_tables(call).into_iter().filter_map(RangeVar::find).collect();
        capture::departure::expect(How::Dropped, &tables);
    }
}

pub fn is_about_subscriptions(tag: NodeTag) -> bool {
    use NodeTag::*;
    matches!(tag, T_CreateSubscriptionStmt | T_AlterSubscriptionStmt | T_DropSubscriptionStmt)
}

/// The tables a statement names whose shape, members or constraints it changes. Found now: it may rename them.
fn existing(call: &Call, alter: Option<AlterRelation>) -> Vec<pg_sys::Oid> {
    let relatives = alter.map(|alter| alter.relatives()).unwrap_or_default();
    let renamed = statement::renamed_column_of(call);
    let indexed = statement::indexed_table(call);
    let named = alter.map(|alter| alter.relation()).into_iter().chain(relatives).chain(renamed).chain(indexed);
    named.filter_map(RangeVar::find).collect()
}

/// A table or one of its indexes is being dropped.
pub fn note(table: pg_sys::Oid) {
    CHANGED.with_borrow_mut(|changed| changed.push(table));
}

pub fn pending() -> bool {
    CHANGED.with_borrow(|changed| !changed.is_empty())
}

pub fn settle() {
    CHANGED.take().into_iter().for_each(changed);
}

/// The shape, the members or the constraints of a table. The keys of one above it do not hold for a child that it has now.
fn changed(table: pg_sys::Oid) {
    capture::on_ddl(table);
    capture::ancestors(table).into_iter().for_each(|table| registration::follow_keys(table, users_of(table)));
}

/// A role has another name, or owns more than before: the queries of its stream tables may have other results, and row
/// security other policies for them.
fn owners_changed(call: &Call) {
    let role = statement::owner_to_be(call);
    let views = stream_table::all().into_iter().map(|row| row.relid);
    views.filter(|view| names::owner(*view) == role).for_each(registration::compare);
}

/// The stream tables whose queries mention a relation, be it by way of plain views.
fn users_of(view: pg_sys::Oid) -> Vec<pg_sys::Oid> {
    let used = Object { class: pg_sys::RelationRelationId, object: view };
    redefinition::users_of(vec![used], redefinition::Reach::Queries)
}

/// A plain view that was there before may have a new query.
fn view_replaced(view: RangeVar) {
    let Some(relid) = view.find_where_created() else { return };
    let users = users_of(relid);
    if !users.is_empty() {
        // Taken already, unless the first of them has become one meanwhile.
        registration::lock_graph();
        registration::refuse_cycles(&users);
    }
    for user in users {
        stream_table::set_reinit(user, RecomputeReason::ViewRedefined);
    }
}
