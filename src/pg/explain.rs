//! An EXPLAIN in progress: its options, and what it prints.

use super::node;
use pgrx::pg_sys;
use std::ffi::CStr;
use std::ptr;

/// Where EXPLAIN writes.
#[derive(Clone, Copy)]
pub struct Explain(*mut pg_sys::ExplainState);

impl Explain {
    /// # Safety
    /// The state outlives this handle and its copies.
    pub unsafe fn of(state: *mut pg_sys::ExplainState) -> Self {
        Self(state)
    }

    /// With the default options of EXPLAIN or EXPLAIN ANALYZE, as text.
    pub fn plain(analyze: bool) -> Self {
        // SAFETY: a new state in the current memory context, which the handle does not outlive in any use of it.
        unsafe {
            let state = pg_sys::NewExplainState();
            (*state).analyze = analyze;
            (*state).timing = analyze;
            (*state).costs = true;
            Self(state)
        }
    }

    fn state(&self) -> &pg_sys::ExplainState {
        // SAFETY: live by contract of the constructors.
        unsafe { &*self.0 }
    }

    pub fn analyze(self) -> bool {
        self.state().analyze
    }

    pub fn costs(self) -> bool {
        self.state().costs
    }

    /// What the executor is to measure: an InstrumentOption mask.
    pub fn instrument(self) -> i32 {
        use pg_sys::InstrumentOption::*;
        let state = self.state();
        let mut options = match state.analyze {
            true if state.timing => INSTRUMENT_TIMER,
            true => INSTRUMENT_ROWS,
            false => 0,
        };
        if state.buffers {
            options |= INSTRUMENT_BUFFERS;
        }
        if state.wal {
            options |= INSTRUMENT_WAL;
        }
        options as i32
    }

    /// Prints everything `work` shows as one document; returns it.
    pub fn document(self, work: impl FnOnce()) -> String {
        // SAFETY: begin and end are paired; after an error nothing is printed.
        unsafe {
            pg_sys::ExplainBeginOutput(self.0);
            work();
            pg_sys::ExplainEndOutput(self.0);
            node::string((*self.state().str_).data)
        }
    }

    /// Prints what `work` shows of one query.
    pub fn query(self, work: impl FnOnce()) {
        // SAFETY: the group is opened and closed; after an error nothing is printed.
        unsafe {
            pg_sys::ExplainOpenGroup(c"Query".as_ptr(), ptr::null(), true, self.0);
            work();
            pg_sys::ExplainCloseGroup(c"Query".as_ptr(), ptr::null(), true, self.0);
        }
    }

    /// # Safety
    /// The execution is started and not yet ended.
    pub unsafe fn plan(self, execution: *mut pg_sys::QueryDesc) {
        // SAFETY: by contract.
        unsafe { pg_sys::ExplainPrintPlan(self.0, execution) };
    }

    /// Prints what `work` shows as a list of groups that belong to the node at hand.
    pub fn list(self, label: &CStr, work: impl FnOnce()) {
        // SAFETY: as in `query`; text has no groups.
        unsafe {
            pg_sys::ExplainOpenGroup(label.as_ptr(), label.as_ptr(), false, self.0);
            work();
            pg_sys::ExplainCloseGroup(label.as_ptr(), label.as_ptr(), false, self.0);
        }
    }

    /// Prints the plan of a query which a node runs by itself, below the node at hand, as one of a list.
    ///
    /// # Safety
    /// The execution is started and not yet ended.
    pub unsafe fn nested_plan(self, label: &CStr, execution: *mut pg_sys::QueryDesc) {
        // SAFETY: ExplainPrintPlan turns the state to the query it prints; what it had of the outer one is put back.
        unsafe {
            let state = self.0;
            let (pstmt, rtable, names) = ((*state).pstmt, (*state).rtable, (*state).rtable_names);
            let (context, subplans, size) = ((*state).deparse_cxt, (*state).printed_subplans, (*state).rtable_size);
            let (settings, hide_workers) = ((*state).settings, (*state).hide_workers);
            // They are those of the outer query.
            (*state).settings = false;
            let is_text = (*state).format == pg_sys::ExplainFormat::EXPLAIN_FORMAT_TEXT;
            pg_sys::ExplainOpenGroup(label.as_ptr(), ptr::null(), true, state);
            if is_text {
                pg_sys::ExplainIndentText(state);
                pg_sys::appendStringInfoString((*state).str_, label.as_ptr());
                pg_sys::appendStringInfoChar((*state).str_, b'\n' as std::ffi::c_char);
                (*state).indent += 1;
            }
            pg_sys::ExplainPrintPlan(state, execution);
            if is_text {
                (*state).indent -= 1;
            }
            pg_sys::ExplainCloseGroup(label.as_ptr(), ptr::null(), true, state);
            ((*state).pstmt, (*state).rtable, (*state).rtable_names) = (pstmt, rtable, names);
            ((*state).deparse_cxt, (*state).printed_subplans, (*state).rtable_size) = (context, subplans, size);
            ((*state).settings, (*state).hide_workers) = (settings, hide_workers);
        }
    }

    pub fn integer(self, label: &CStr, value: u64) {
        // SAFETY: EXPLAIN copies label and value.
        unsafe { pg_sys::ExplainPropertyInteger(label.as_ptr(), ptr::null(), value as i64, self.0) }
    }

    pub fn float(self, label: &CStr, value: f64) {
        // SAFETY: EXPLAIN copies the label.
        unsafe { pg_sys::ExplainPropertyFloat(label.as_ptr(), ptr::null(), value, 2, self.0) }
    }

    pub fn text(self, label: &CStr, value: &str) {
        // SAFETY: EXPLAIN copies label and value.
        unsafe { pg_sys::ExplainPropertyText(label.as_ptr(), node::cstring(value), self.0) }
    }

    /// Sends a document to the client, as ExplainQuery does.
    ///
    /// # Safety
    /// `stmt` and `dest` are those of the statement this explains.
    pub(super) unsafe fn send(self, stmt: *mut pg_sys::ExplainStmt, dest: *mut pg_sys::DestReceiver) {
        // SAFETY: by contract; the sequence of ExplainQuery.
        unsafe {
            let text = self.state().str_;
            let desc = pg_sys::ExplainResultDesc(stmt);
            let output = pg_sys::begin_tup_output_tupdesc(dest, desc, &raw const pg_sys::TTSOpsVirtual);
            if self.state().format == pg_sys::ExplainFormat::EXPLAIN_FORMAT_TEXT {
                pg_sys::do_text_output_multiline(output, (*text).data);
            } else {
                let value = pg_sys::Datum::from(pg_sys::cstring_to_text_with_len((*text).data, (*text).len));
                pg_sys::do_tup_output(output, &raw const value, &raw const NOT_NULL);
            }
            pg_sys::end_tup_output(output);
        }
    }
}

static NOT_NULL: bool = false;
