//! Drops LIMIT and OFFSET that cut nothing off: `LIMIT ALL`, `LIMIT NULL`, `OFFSET 0`.

use crate::pg::facts;
use crate::pg::handle::{Any, Node};
use crate::pg::identity::AsOwner;
use crate::pg::query::{self, Query};
use crate::pg::stack;
use pgrx::pg_sys;

pub fn drop_idle(query: Query, owner: &AsOwner) -> Query {
    stack::check();
    if query.child(|query| query.limitCount).is_some_and(|count| is_null(count, owner)) {
        query.set(|query| query.limitCount = std::ptr::null_mut());
    }
    if query.child(|query| query.limitOffset).is_some_and(|offset| is_null(offset, owner) || is_zero(offset, owner)) {
        query.set(|query| query.limitOffset = std::ptr::null_mut());
    }
    query.inner().into_iter().for_each(|inner| {
        drop_idle(inner, owner);
    });
    query
}

fn is_null(limit: Any, owner: &AsOwner) -> bool {
    constant(limit, owner).is_some_and(|limit| limit.get().constisnull)
}

/// Both limits are of type int8, which is passed by value.
fn is_zero(limit: Any, owner: &AsOwner) -> bool {
    constant(limit, owner).is_some_and(|limit| !limit.get().constisnull && limit.get().constvalue.value() == 0)
}

/// A constant, also one that the server's own cast makes a bigint of. Functions of users are not called: what they say
/// may be known only when the query runs.
fn constant(limit: Any, owner: &AsOwner) -> Option<Node<pg_sys::Const>> {
    let is_cast = |call: Node<pg_sys::FuncExpr>| {
        facts::is_builtin(call.get().funcid)
            && call.nodes(|call| call.args).into_iter().all(|arg| arg.is::<pg_sys::Const>())
    };
    match limit.cast::<pg_sys::FuncExpr>() {
        Some(call) if is_cast(call) => query::folded(limit, owner).cast(),
        _ => limit.cast(),
    }
}
