//! One executor run of a cached plan.
//!
//! What differs from run to run (snapshot, frontier) reaches the scan nodes through the executor's parameter list:
//! plan trees are read-only and shared, so nothing of a run may stand in them.

use crate::capture::frontier::Frontier;
use pgrx::pg_sys;
use std::ffi::c_int;

/// The state of one run, alive from start to finish.
pub struct Run<'a> {
    /// Everything is read at this snapshot.
    pub snapshot: pg_sys::Snapshot,
    /// Changes the view already contains; deltas are what came after.
    pub frontier: &'a Frontier,
}

impl<'a> Run<'a> {
    /// The run a plan node belongs to; None under EXPLAIN without ANALYZE.
    ///
    /// # Safety
    /// `estate` belongs to an executor run started by [`Execution::start`] (or to none of ours and then has no
    /// parameters); the returned reference is not kept beyond the run.
    pub unsafe fn of(estate: *mut pg_sys::EState) -> Option<&'a Run<'a>> {
        // SAFETY: by contract the only parameter is a pointer to the run.
        unsafe {
            let params = (*estate).es_param_list_info;
            if params.is_null() || (*params).numParams != 1 {
                return None;
            }
            let param = (*params).params.as_ptr();
            ((*param).ptype == pg_sys::INTERNALOID).then(|| &*(*param).value.cast_mut_ptr::<Run>())
        }
    }

    /// The parameter list that carries this run; also for runs nested in a node's work.
    pub fn params(&self) -> pg_sys::ParamListInfo {
        // SAFETY: makeParamList returns a list with room for one parameter.
        unsafe {
            let params = pg_sys::makeParamList(1);
            let param = (*params).params.as_mut_ptr();
            (*param).value = pg_sys::Datum::from(std::ptr::from_ref(self));
            (*param).isnull = false;
            (*param).pflags = pg_sys::PARAM_FLAG_CONST as u16;
            (*param).ptype = pg_sys::INTERNALOID;
            params
        }
    }
}

/// An executor run in progress.
pub struct Execution(*mut pg_sys::QueryDesc);

impl Execution {
    /// Starts `stmt`; `instrument` is an InstrumentOption mask, `flags` EXEC_FLAG_* (0 for none).
    ///
    /// # Safety
    /// `stmt` and `run` outlive the execution; `run.snapshot` is the active snapshot.
    pub unsafe fn start(stmt: *mut pg_sys::PlannedStmt, run: &Run, instrument: c_int, flags: c_int) -> Self {
        // SAFETY: as in CREATE TABLE AS: query descriptor over the active snapshot, no destination.
        unsafe {
            let desc = pg_sys::CreateQueryDesc(
                stmt,
                c"pg_trickle refresh".as_ptr(),
                run.snapshot,
                std::ptr::null_mut(),
                pg_sys::CreateDestReceiver(pg_sys::CommandDest::DestNone),
                run.params(),
                std::ptr::null_mut(),
                instrument,
            );
            pg_sys::ExecutorStart(desc, flags);
            Self(desc)
        }
    }

    /// Runs to completion; the top node returns no rows.
    pub fn run(&self) {
        // SAFETY: started, not finished.
        unsafe {
            pg_sys::ExecutorRun(self.0, pg_sys::ScanDirection::ForwardScanDirection, 0);
            pg_sys::ExecutorFinish(self.0);
        }
    }

    pub fn plan_state(&self) -> *mut pg_sys::PlanState {
        // SAFETY: set by ExecutorStart.
        unsafe { (*self.0).planstate }
    }

    pub fn query_desc(&self) -> *mut pg_sys::QueryDesc {
        self.0
    }

    /// Releases everything. An execution that ends by an error is cleaned up by the transaction's abort.
    pub fn finish(self) {
        // SAFETY: ends the run exactly once.
        unsafe {
            pg_sys::ExecutorEnd(self.0);
            pg_sys::FreeQueryDesc(self.0);
        }
    }
}
