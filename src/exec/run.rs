//! One executor run of a cached plan.
//!
//! What differs from run to run (snapshot, frontier) reaches the scan nodes through the executor's parameter list:
//! plan trees are read-only and shared, so nothing of a run may stand in them.

use super::apply::{self, Counters};
use super::block_delta::BlockDeltas;
use super::clock::Clock;
use crate::capture::frontier::Frontier;
use crate::pg::explain::Explain;
use crate::pg::identity::AsOwner;
use crate::pg::snapshot::WaveSnapshot;
use crate::pg::tree::Tree;
use pgrx::pg_sys;
use std::ffi::c_int;
use std::marker::PhantomData;

/// The state of one run, alive from start to finish.
pub struct Run<'a> {
    /// Everything is read at this snapshot.
    pub snapshot: WaveSnapshot,
    /// Changes the view already contains; deltas are what came after.
    pub frontier: &'a Frontier,
    /// A delta that has to recompute more groups than this is given up.
    pub most_groups: u64,
    /// What the blocks below have changed, and where what this run changes in a hidden relation goes. None: nobody will read
    /// that.
    pub deltas: Option<&'a BlockDeltas>,
    /// What depends on the clock.
    pub clock: &'a Clock,
}

impl<'a> Run<'a> {
    /// The run a plan node belongs to; None under EXPLAIN without ANALYZE.
    ///
    /// # Safety
    /// `estate` belongs to an executor run started by [`Execution::start`] (or to none of ours and then has no
    /// parameters); the returned reference is not kept beyond the run.
    pub unsafe fn of(estate: *mut pg_sys::EState) -> Option<&'a Run<'a>> {
        // SAFETY: by contract the first parameter is a pointer to the run.
        unsafe {
            let params = (*estate).es_param_list_info;
            if params.is_null() || (*params).numParams < 1 || (*params).paramFetch.is_some() {
                return None;
            }
            let param = (*params).params.as_ptr();
            ((*param).ptype == pg_sys::InvalidOid && !(*param).isnull).then(|| &*(*param).value.cast_mut_ptr::<Run>())
        }
    }

    /// The parameter list that carries this run; also for runs nested in a node's work.
    pub fn params(&self) -> pg_sys::ParamListInfo {
        // SAFETY: makeParamList returns a list with room for so many parameters.
        unsafe {
            let params = pg_sys::makeParamList(self.clock.parameters());
            self.clock.fill(params);
            let param = (*params).params.as_mut_ptr();
            (*param).value = pg_sys::Datum::from(std::ptr::from_ref(self));
            (*param).isnull = false;
            (*param).pflags = pg_sys::PARAM_FLAG_CONST as u16;
            // Without a type nobody prints it: auto_explain logs parameters.
            (*param).ptype = pg_sys::InvalidOid;
            params
        }
    }
}

/// An executor run in progress, of a plan, with a state and in an identity that outlive it.
pub struct Execution<'a> {
    query: *mut pg_sys::QueryDesc,
    clock: &'a Clock,
    of: PhantomData<(&'a Tree<pg_sys::PlannedStmt>, &'a Run<'a>, &'a AsOwner)>,
}

/// What a run is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Refresh,
    /// Only its plan is shown.
    Display,
}

impl<'a> Execution<'a> {
    /// Starts a plan that ends in an apply node; `instrument` is an InstrumentOption mask (0 for none).
    pub fn start(
        plan: &'a Tree<pg_sys::PlannedStmt>,
        run: &'a Run<'a>,
        instrument: c_int,
        purpose: Purpose,
        owner: &'a AsOwner,
    ) -> Self {
        owner.check();
        let flags = match purpose {
            Purpose::Refresh => 0,
            Purpose::Display => pg_sys::EXEC_FLAG_EXPLAIN_ONLY as c_int,
        };
        // SAFETY: as in CREATE TABLE AS: query descriptor over the active snapshot, no destination. Plan and run outlive
        // the execution.
        unsafe {
            let query = pg_sys::CreateQueryDesc(
                plan.as_ptr(),
                c"pg_trickle refresh".as_ptr(),
                run.snapshot.as_ptr(),
                std::ptr::null_mut(),
                pg_sys::CreateDestReceiver(pg_sys::CommandDest::DestNone),
                run.params(),
                std::ptr::null_mut(),
                instrument,
            );
            pg_sys::ExecutorStart(query, flags);
            Self { query, clock: run.clock, of: PhantomData }
        }
    }

    /// Runs to completion; the top node returns no rows.
    pub fn run(&self) {
        // SAFETY: started, not finished.
        unsafe {
            pg_sys::ExecutorRun(self.query, pg_sys::ScanDirection::ForwardScanDirection, 0);
            pg_sys::ExecutorFinish(self.query);
        }
    }

    /// What the apply node has written.
    pub fn counters(&self) -> Counters {
        // SAFETY: the plan's top node, which is begun.
        unsafe { apply::counters((*self.query).planstate) }
    }

    /// Prints the plan, with what was measured, and which parameters depend on the clock.
    pub fn show(&self, to: Explain) {
        // SAFETY: started, not finished.
        unsafe { to.plan(self.query) };
        self.clock.describe().iter().for_each(|line| to.text(c"Clock", line));
    }

    /// Releases everything. An execution that ends by an error is cleaned up by the transaction's abort.
    pub fn finish(self) {
        // SAFETY: ends the run exactly once.
        unsafe {
            pg_sys::ExecutorEnd(self.query);
            pg_sys::FreeQueryDesc(self.query);
        }
    }
}
