//! Views with snapshot consistency: whom a refresh has to bring along, and whose permission that takes.

use super::options::{Consistency, Stored};
use crate::catalog::dependency;
use crate::catalog::stream_table::{self, Status};
use crate::error::error;
use crate::pg::{names, privilege};
use crate::schedule::company::{self, Catalog, Standing};
use hashbrown::HashSet;
use pgrx::{PgSqlErrorCode, pg_sys};

/// The stream tables of this database, as they are now.
struct Current;

impl Catalog for Current {
    fn readers(&self, view: u32) -> Vec<u32> {
        dependency::dependants_of(view.into()).into_iter().map(pg_sys::Oid::to_u32).collect()
    }

    fn sources(&self, view: u32) -> Vec<u32> {
        let sources = dependency::sources_of(view.into()).into_iter().map(|dependency| dependency.source);
        sources.filter(|source| stream_table::exists(*source)).map(pg_sys::Oid::to_u32).collect()
    }

    fn standing(&self, view: u32) -> Standing {
        let view = pg_sys::Oid::from(view);
        let snapshot = Stored::read(view).options().consistency == Consistency::Snapshot;
        let out = stream_table::get(view).is_none_or(|row| row.status == Status::Suspended || row.frontier.is_none());
        Standing { snapshot, out }
    }
}

/// The views with snapshot consistency that are refreshed with these and do not belong to them.
pub fn followers(wave: &HashSet<u32>) -> Vec<pg_sys::Oid> {
    company::followers(wave, &Current).into_iter().map(pg_sys::Oid::from).collect()
}

/// Whatever is read by a refresh of `view`, as far as changes of it are captured.
pub fn sources_of_company(view: pg_sys::Oid) -> Vec<pg_sys::Oid> {
    let with_ancestors = |view: u32| company::ancestors(view, &Current).into_iter().chain([view]);
    let mut views: HashSet<u32> = with_ancestors(view.to_u32()).collect();
    views.extend(company::followers(&views, &Current).into_iter().flat_map(with_ancestors));
    let dependencies = views.into_iter().flat_map(|view| dependency::sources_of(view.into()));
    let mut sources: Vec<pg_sys::Oid> =
        dependencies.filter(|dependency| dependency.capturable).map(|dependency| dependency.source).collect();
    sources.sort_unstable_by_key(|source| source.to_u32());
    sources.dedup();
    sources
}

/// A view with snapshot consistency decides how what it reads is refreshed: its owner needs the privilege to do that.
pub fn require_permission(view: pg_sys::Oid, stored: &Stored) {
    if stored.options().consistency != Consistency::Snapshot {
        return;
    }
    let owner = names::owner(view);
    let Some(denied) = denied(view, owner) else { return };
    let (name, role) = (names::display(denied), names::role(owner));
    error(PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE, format!("permission denied for materialized view {name}"))
        .detail(format!(
            "The owner of a stream table with pg_trickle.consistency = 'snapshot', {role}, needs privilege MAINTAIN on each \
             stream table it rests on, which is not refreshed without it."
        ))
        .hint(format!("GRANT MAINTAIN ON {name} TO {role};"))
        .raise()
}

/// A stream table that `view` rests on and `owner` may not refresh.
fn denied(view: pg_sys::Oid, owner: pg_sys::Oid) -> Option<pg_sys::Oid> {
    let ancestors = company::ancestors(view.to_u32(), &Current).into_iter().map(pg_sys::Oid::from);
    ancestors.filter(|above| !privilege::may_maintain(*above, owner)).min_by_key(|above| above.to_u32())
}

/// `view` may rest on other stream tables than before, because a plain view was replaced or a materialized view became a stream
/// table: then so may what rests on it. Of these, a view with snapshot consistency whose owner may not refresh one of them
/// is suspended; `require_permission` is asked before it goes on. That the change was somebody else's is why it is no error.
pub fn suspend_unpermitted(view: pg_sys::Oid) {
    let mut seen = HashSet::new();
    let mut todo = vec![view];
    while let Some(view) = todo.pop() {
        if seen.insert(view) {
            todo.extend(dependency::dependants_of(view));
            suspend_if_unpermitted(view);
        }
    }
}

fn suspend_if_unpermitted(view: pg_sys::Oid) {
    let follows = stream_table::get(view).is_some_and(|row| row.status != Status::Suspended)
        && Stored::read(view).options().consistency == Consistency::Snapshot;
    let Some(denied) = follows.then(|| denied(view, names::owner(view))).flatten() else { return };
    stream_table::set_status(view, Status::Suspended);
    let (above, role) = (names::display(denied), names::role(names::owner(view)));
    let name = names::display(view);
    error(PgSqlErrorCode::ERRCODE_WARNING, format!("stream table \"{name}\" has been suspended"))
        .detail(format!(
            "It has pg_trickle.consistency = 'snapshot' and now rests on {above}, on which its owner, {role}, lacks privilege \
             MAINTAIN."
        ))
        .hint(format!("GRANT MAINTAIN ON {above} TO {role}; then call pgtrickle.resume_stream_table()."))
        .warn()
}
