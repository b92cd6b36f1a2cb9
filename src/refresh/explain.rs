//! `EXPLAIN [(ANALYZE, ...)] REFRESH MATERIALIZED VIEW v`: the plan a refresh would run now, or has just run.
//!
//! Without ANALYZE nothing is refreshed: the plan is that of the view itself over what its sources have pending; when
//! nothing is pending, that of one changed row in each source. ANALYZE refreshes the view and its stale ancestors and
//! shows the view's own plan. Both estimates are shown, so that the choice can be understood.

use super::step::{self, Probe};
use super::{Initiator, choice::Costs, snapshot, wave};
use crate::pg::node;
use crate::plan::run::Execution;
use pgrx::pg_sys;
use std::ffi::CStr;

/// Explains the refresh of `view` into `dest`, in the format and with the options of `stmt`.
///
/// # Safety
/// `stmt`, `pstate` and `dest` are what the server passed to the utility hook.
pub unsafe fn explain(
    view: pg_sys::Oid,
    stmt: *mut pg_sys::ExplainStmt,
    pstate: *mut pg_sys::ParseState,
    dest: *mut pg_sys::DestReceiver,
) {
    // SAFETY: the sequence of ExplainQuery.
    unsafe {
        let es = pg_sys::NewExplainState();
        pg_sys::ParseExplainOptionList(es, (*stmt).options, pstate);
        render(view, es);
        send(es, stmt, dest);
    }
}

/// What EXPLAIN or EXPLAIN ANALYZE prints.
pub fn text(view: pg_sys::Oid, analyze: bool) -> String {
    // SAFETY: as for a statement without further options.
    unsafe {
        let es = pg_sys::NewExplainState();
        (*es).analyze = analyze;
        (*es).timing = analyze;
        (*es).costs = true;
        render(view, es);
        node::string((*(*es).str_).data)
    }
}

/// # Safety
/// `es` has its options set.
unsafe fn render(view: pg_sys::Oid, es: *mut pg_sys::ExplainState) {
    // SAFETY: by contract.
    unsafe {
        pg_sys::ExplainBeginOutput(es);
        let mut show = |execution: &Execution, costs: Option<Costs>| print(es, execution, costs);
        let mut probe = Probe { instrument: instrument(es), show: &mut show };
        if (*es).analyze {
            analyze(view, &mut probe);
        } else {
            step::preview(view, &mut probe);
        }
        pg_sys::ExplainEndOutput(es);
    }
}

fn analyze(view: pg_sys::Oid, probe: &mut Probe) {
    let wave = wave::lock(view);
    let fresh = wave.iter().any(wave::Member::wants_fresh_snapshot);
    snapshot::with_refresh_snapshot(fresh, |snapshot| {
        for member in &wave {
            let probe = (member.view == view).then_some(&mut *probe);
            step::run(member, view, snapshot, Initiator::Manual, probe);
        }
    });
}

unsafe fn instrument(es: *mut pg_sys::ExplainState) -> i32 {
    use pg_sys::InstrumentOption::*;
    // SAFETY: plain option flags.
    let es = unsafe { &*es };
    let mut options = 0;
    if es.analyze && es.timing {
        options |= INSTRUMENT_TIMER;
    } else if es.analyze {
        options |= INSTRUMENT_ROWS;
    }
    if es.buffers {
        options |= INSTRUMENT_BUFFERS;
    }
    if es.wal {
        options |= INSTRUMENT_WAL;
    }
    options as i32
}

unsafe fn print(es: *mut pg_sys::ExplainState, execution: &Execution, costs: Option<Costs>) {
    // SAFETY: the execution is started and not yet ended.
    unsafe {
        pg_sys::ExplainOpenGroup(c"Query".as_ptr(), std::ptr::null(), true, es);
        pg_sys::ExplainPrintPlan(es, execution.query_desc());
        if let Some(costs) = costs.filter(|_| (*es).costs) {
            property(es, c"Delta Cost", costs.delta);
            property(es, c"Recompute Cost", costs.full);
        }
        pg_sys::ExplainCloseGroup(c"Query".as_ptr(), std::ptr::null(), true, es);
    }
}

unsafe fn property(es: *mut pg_sys::ExplainState, label: &CStr, value: f64) {
    // SAFETY: EXPLAIN copies the label.
    unsafe { pg_sys::ExplainPropertyFloat(label.as_ptr(), std::ptr::null(), value, 2, es) }
}

unsafe fn send(es: *mut pg_sys::ExplainState, stmt: *mut pg_sys::ExplainStmt, dest: *mut pg_sys::DestReceiver) {
    // SAFETY: the sequence of ExplainQuery.
    unsafe {
        let desc = pg_sys::ExplainResultDesc(stmt);
        let state = pg_sys::begin_tup_output_tupdesc(dest, desc, &raw const pg_sys::TTSOpsVirtual);
        if (*es).format == pg_sys::ExplainFormat::EXPLAIN_FORMAT_TEXT {
            pg_sys::do_text_output_multiline(state, (*(*es).str_).data);
        } else {
            let text = pg_sys::cstring_to_text_with_len((*(*es).str_).data, (*(*es).str_).len);
            let value = pg_sys::Datum::from(text);
            pg_sys::do_tup_output(state, &raw const value, &raw const FALSE);
        }
        pg_sys::end_tup_output(state);
    }
}

static FALSE: bool = false;
