//! Delta or recompute: the cheaper of two planner estimates, never a fixed ratio (promise 5).
//!
//! The planner prices reading and computing. What it cannot see is the writing: a changed row costs index look-ups and
//! heap writes in the state and the view, a compared row only a sort and a comparison. The two constants below put
//! that into the planner's units; they were fitted to measured times of both strategies (benches/refresh.sql).

use crate::plan::build::{self, Plan};
use crate::settings::{self, RefreshStrategy};

/// Applying one changed row, in units of cpu_tuple_cost.
const APPLY_ROW: f64 = 20.0;
/// Sorting and comparing one row of the old or new contents, in units of cpu_tuple_cost.
const COMPARE_ROW: f64 = 6.0;

/// Both estimates, for EXPLAIN and the history.
#[derive(Clone, Copy, Debug)]
pub struct Costs {
    pub delta: f64,
    pub full: f64,
}

impl Costs {
    /// `rows`: rows the view now holds (estimate).
    pub fn of(delta: &Plan, full: &Plan, rows: f64) -> Self {
        let tuple = build::cpu_tuple_cost();
        Self {
            delta: delta.cost + delta.rows * APPLY_ROW * tuple,
            full: full.cost + (full.rows + rows) * COMPARE_ROW * tuple,
        }
    }

    /// True when the delta plan is to be used.
    pub fn prefer_delta(self) -> bool {
        match settings::refresh_strategy() {
            RefreshStrategy::Auto => self.delta <= self.full,
            RefreshStrategy::Delta => true,
            RefreshStrategy::Full => false,
        }
    }
}
