//! A recompute's groups by the server's own aggregation.
//!
//! The query `SELECT keys, count(*), counts, aggregates FROM template GROUP BY keys` is planned as any other, hashed or
//! sorted, in parallel or not. Then the topmost aggregation of the plan is told to leave out final functions and to
//! serialise, as the partial one below a Gather does: its rows are those of our state table (`exec/rebuild.rs`).
//!
//! One aggregation either finishes its aggregates or does not. So this serves where we store the states of all
//! aggregates, or of none but those whose result is their state (counts, min, max); a mixture, and ordered-set
//! aggregates, are folded from sorted rows (`exec/accumulate.rs`).

use super::query;
use crate::circuit::Accumulate;
use crate::exec::fold::definition::Definition;
use crate::exec::fold::twin;
use crate::pg::{list, node};
use pgrx::pg_sys;

/// What the aggregation leaves of each aggregate.
pub enum Leaves {
    /// And which aggregate makes each.
    States(Vec<pg_sys::Oid>),
    Results,
}

/// What the server's aggregation can leave for our state table; None if it cannot serve.
pub fn leaves(definitions: &[Definition]) -> Option<Leaves> {
    if definitions.iter().any(Definition::is_ordered_set) {
        None
    } else if definitions.iter().all(twin::is_result) {
        Some(Leaves::Results)
    } else {
        definitions.iter().map(twin::of).collect::<Option<_>>().map(Leaves::States)
    }
}

/// The query over `template`, whose first columns are the keys.
///
/// # Safety
/// `template` is private.
pub unsafe fn query(
    template: *mut pg_sys::Query,
    spec: &Accumulate,
    definitions: &[Definition],
    leaves: &Leaves,
) -> *mut pg_sys::Query {
    // SAFETY: by contract; what is appended stands over the template's columns.
    unsafe {
        let query = query::select_first(template, spec.keys.len());
        query::group_by(query, spec.keys.iter().map(|key| (key.eq_op, key.lt_op)));
        (*query).hasAggs = true;
        query::append_column(query, count(&[], std::ptr::null_mut()).cast(), "rows");
        for definition in definitions.iter().filter(|definition| definition.has_count()) {
            query::append_column(query, count_values(definition).cast(), "values");
        }
        for (index, definition) in definitions.iter().enumerate() {
            let aggref = match leaves {
                Leaves::States(twins) => in_stead(definition, twins[index]),
                Leaves::Results => definition.over(1),
            };
            query::append_column(query, aggref.cast(), "state");
        }
        query
    }
}

/// Counts the rows that an aggregate takes: its filter lets them through and, if its transition is strict, no input is NULL.
unsafe fn count_values(definition: &Definition) -> *mut pg_sys::Aggref {
    // SAFETY: copies of the Aggref's parts over the template's columns.
    unsafe {
        let aggref = definition.over(1);
        let strict = pg_sys::func_strict(definition.functions.transition);
        let inputs: Vec<_> = list::iter::<pg_sys::TargetEntry>((*aggref).args)
            .take(if strict { definition.inputs() } else { 0 })
            .map(|entry| (*entry).expr)
            .collect();
        count(&inputs, (*aggref).aggfilter)
    }
}

/// `count(*)` or `count(expression)`; of several expressions all must be there.
unsafe fn count(expressions: &[*mut pg_sys::Expr], mut filter: *mut pg_sys::Expr) -> *mut pg_sys::Aggref {
    // SAFETY: an Aggref as the parser makes it.
    unsafe {
        let aggref: *mut pg_sys::Aggref = node::make(pg_sys::NodeTag::T_Aggref);
        let function = if let [expression] = expressions {
            let typid = pg_sys::exprType(expression.cast());
            (*aggref).aggargtypes = list::make_oids([typid]);
            (*aggref).args = list::make([pg_sys::makeTargetEntry(*expression, 1, std::ptr::null_mut(), false)]);
            pg_sys::F_COUNT_ANY
        } else {
            (*aggref).aggstar = true;
            for &expression in expressions {
                filter = pg_sys::make_and_qual(filter.cast(), query::is_not_null(expression).cast()).cast();
            }
            pg_sys::F_COUNT_
        };
        (*aggref).aggfnoid = function.into();
        (*aggref).aggtype = pg_sys::INT8OID;
        (*aggref).aggfilter = filter;
        (*aggref).aggkind = b'n' as i8;
        ((*aggref).aggno, (*aggref).aggtransno, (*aggref).location) = (-1, -1, -1);
        aggref
    }
}

/// The call with another aggregate. Its result is never computed, so any type will do until `leave_states`.
fn in_stead(definition: &Definition, twin: pg_sys::Oid) -> *mut pg_sys::Aggref {
    let aggref = definition.over(1);
    // SAFETY: a copy.
    unsafe { ((*aggref).aggfnoid, (*aggref).aggtype) = (twin, pg_sys::get_func_rettype(twin)) };
    aggref
}

/// Makes the aggregation on top of a plan leave its states; false if there is none on top.
///
/// # Safety
/// `plan` is a finished plan that nobody else uses.
pub unsafe fn leave_states(plan: *mut pg_sys::Plan) -> bool {
    // SAFETY: by contract.
    unsafe {
        if !node::is_a(plan, pg_sys::NodeTag::T_Agg) {
            return false;
        }
        let agg: *mut pg_sys::Agg = plan.cast();
        (*agg).aggsplit |= pg_sys::AGGSPLITOP_SKIPFINAL | pg_sys::AGGSPLITOP_SERIALIZE;
        for entry in list::iter::<pg_sys::TargetEntry>((*plan).targetlist) {
            if node::is_a((*entry).expr, pg_sys::NodeTag::T_Aggref) {
                leave_state((*entry).expr.cast(), (*agg).aggsplit);
            }
        }
        true
    }
}

/// mark_partial_aggref, also for calls that combine what workers computed.
unsafe fn leave_state(aggref: *mut pg_sys::Aggref, split: pg_sys::AggSplit::Type) {
    // SAFETY: a planned Aggref.
    unsafe {
        (*aggref).aggsplit = split;
        let internal = (*aggref).aggtranstype == pg_sys::INTERNALOID;
        (*aggref).aggtype = if internal { pg_sys::BYTEAOID } else { (*aggref).aggtranstype };
    }
}
