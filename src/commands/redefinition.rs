//! Functions, types, row types and text search objects that a stream table's query uses, changed in place.
//!
//! The server does not touch the view then, but its query may mean something else: it is recomputed. The views are
//! found through pg_depend, over other objects that use the changed one (operators, aggregates, plain views, generated
//! columns). A superset does no harm.

use crate::catalog::recompute_reason::RecomputeReason;
use crate::catalog::{self, stream_table};
use crate::pg::depend::{self, Object};
use crate::pg::names;
use pgrx::pg_sys;
use std::cell::RefCell;

thread_local!(static CHANGED: RefCell<Vec<Object>> = const { RefCell::new(Vec::new()) });

/// Classes whose objects queries use by reference.
pub fn watches(class: pg_sys::Oid) -> bool {
    let definitions = [pg_sys::ProcedureRelationId, pg_sys::TypeRelationId];
    definitions.contains(&class) || [depend::TEXT_SEARCH_DICTIONARY, depend::TEXT_SEARCH_CONFIGURATION].contains(&class)
}

pub fn note(class: pg_sys::Oid, object: pg_sys::Oid) {
    if catalog::installed() && !stream_table::none() {
        CHANGED.with_borrow_mut(|changed| changed.push(Object { class, object }));
    }
}

pub fn pending() -> bool {
    CHANGED.with_borrow(|changed| !changed.is_empty())
}

/// Marks the stream tables that use what changed.
pub fn settle() {
    let changed: Vec<Object> = CHANGED.take().into_iter().filter_map(used_as).collect();
    let (types, others) = changed.into_iter().partition(|object| object.class == pg_sys::TypeRelationId);
    for view in users_of(others, Reach::Queries).into_iter().chain(users_of(types, Reach::Values)) {
        stream_table::set_reinit(view, RecomputeReason::ObjectRedefined);
    }
}

/// A relation with another column has another row type. What depends on the columns of a table is told by capture; whole rows of
/// a plain view depend on the view.
fn used_as(changed: Object) -> Option<Object> {
    if changed.class != pg_sys::RelationRelationId || names::is_plain_view(changed.object) {
        return Some(changed);
    }
    let object = names::row_type(changed.object)?;
    Some(Object { class: pg_sys::TypeRelationId, object })
}

/// How far a change reaches.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Queries give other rows, which their views hand on as changes.
    Queries,
    /// Stored values mean something else without a change, in whatever reads them.
    Values,
}

/// The stream tables that a change of `objects` reaches, directly or through other objects.
pub fn users_of(objects: Vec<Object>, reach: Reach) -> Vec<pg_sys::Oid> {
    let mut seen = objects;
    let mut next = 0;
    let mut views = Vec::new();
    while next < seen.len() {
        let object = seen[next];
        next += 1;
        if object.class == pg_sys::RelationRelationId && names::is_materialized_view(object.object) {
            views.push(object.object);
            if reach == Reach::Queries {
                continue;
            }
        }
        for user in depend::users_of(object).into_iter().map(depend::owner) {
            if !seen.contains(&user) {
                seen.push(user);
            }
        }
    }
    views.retain(|view| stream_table::exists(*view));
    views
}
