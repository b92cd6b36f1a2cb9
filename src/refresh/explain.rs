//! `EXPLAIN [(ANALYZE, ...)] REFRESH MATERIALIZED VIEW v`: the plan a refresh would run now, or has just run.
//!
//! Without ANALYZE nothing is refreshed: the plan is that of the view itself over what its sources have pending; when
//! nothing is pending, that of one changed row in each source. ANALYZE refreshes the view and its stale ancestors and
//! shows the view's own plan, if it had one to run. Both estimates are shown, so that the choice can be understood.

use super::perform::Probe;
use super::preview::preview;
use super::{Action, Initiator, choice::Costs, progress, wave};
use crate::capture;
use crate::exec::run::Execution;
use crate::pg::explain::Explain;
use pgrx::pg_sys;
use std::cell::Cell;

/// Explains the refresh of `view` as one document, which it returns.
pub fn explain(view: pg_sys::Oid, to: Explain) -> String {
    let shown = Cell::new(false);
    let mut show = |execution: &Execution, costs: Option<Costs>| {
        shown.set(true);
        print(to, execution, costs);
    };
    let mut probe = Probe { instrument: to.instrument(), show: &mut show };
    to.document(|| {
        if to.analyze() {
            analyze(view, &mut probe);
        } else {
            preview(view, &mut probe);
        }
        if !shown.get() {
            // Nothing was pending.
            to.query(|| to.text(c"Action", Action::NoData.as_str()));
        }
    })
}

fn analyze(view: pg_sys::Oid, probe: &mut Probe) {
    let _shown = progress::begin(Initiator::Manual);
    capture::repair::confirm_server();
    let wave = wave::lock(&[view]);
    wave.iter().for_each(wave::Member::pin);
    let refreshed = super::run(&wave, Some(view), Some(probe));
    super::record(&refreshed, Initiator::Manual, &[]);
}

fn print(to: Explain, execution: &Execution, costs: Option<Costs>) {
    to.query(|| {
        execution.show(to);
        if let Some(costs) = costs.filter(|_| to.costs()) {
            to.float(c"Delta Cost", costs.delta);
            to.float(c"Recompute Cost", costs.full);
        }
    });
}
