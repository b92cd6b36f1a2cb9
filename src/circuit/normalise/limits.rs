//! Drops LIMIT and OFFSET that cut nothing off: `LIMIT ALL`, `LIMIT NULL`, `OFFSET 0`.

use crate::pg::handle::{Any, Node};
use crate::pg::query::{self, Query};
use pgrx::pg_sys;

pub fn drop_idle(query: Query) -> Query {
    if query.child(|query| query.limitCount).is_some_and(is_null) {
        query.set(|query| query.limitCount = std::ptr::null_mut());
    }
    if query.child(|query| query.limitOffset).is_some_and(|offset| is_null(offset) || is_zero(offset)) {
        query.set(|query| query.limitOffset = std::ptr::null_mut());
    }
    query.inner().into_iter().for_each(|inner| {
        drop_idle(inner);
    });
    query
}

fn is_null(limit: Any) -> bool {
    constant(limit).is_some_and(|limit| limit.get().constisnull)
}

/// Both limits are of type int8, which is passed by value.
fn is_zero(limit: Any) -> bool {
    constant(limit).is_some_and(|limit| !limit.get().constisnull && limit.get().constvalue.value() == 0)
}

fn constant(limit: Any) -> Option<Node<pg_sys::Const>> {
    query::folded(limit).cast()
}
