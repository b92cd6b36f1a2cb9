//! Delta or recompute: the cheaper of two planner estimates, never a fixed ratio (promise 5).
//!
//! The planner prices reading and computing. What it cannot see is the writing: a changed row costs index look-ups and
//! heap writes in the state and the view, a compared row only a sort and a comparison. The constants below put
//! that into the planner's units. They are rough: read off a few measured refreshes, not fitted. And it
//! prices a sort as if each comparison called a function, which for most keys it does not: 200,000 rows by (int, text) took
//! 81 ms for 24,248 units, where the scan and the join below took 91 ms for 3,600.

use crate::plan::build::{self, Plan};
use crate::settings::{self, RefreshStrategy};

// All in units of cpu_tuple_cost.
/// Applying one changed row to the view.
const APPLY_ROW: f64 = 20.0;
/// Sorting and comparing one row of the old or new contents.
const COMPARE_ROW: f64 = 6.0;
/// Folding one row into its group.
const FOLD_ROW: f64 = 2.5;
/// Finding and writing one group that changes, in the state and in the view.
const CHANGE_GROUP: f64 = 40.0;
/// Making the state of one group anew.
const MAKE_GROUP: f64 = 25.0;

/// What sorting by group key takes of what the planner thinks.
const SORTING: f64 = 0.2;

/// Both estimates, for EXPLAIN and the history.
#[derive(Clone, Copy, Debug)]
pub struct Costs {
    pub delta: f64,
    pub full: f64,
}

impl Costs {
    /// `stored`: rows the view now holds (estimate).
    pub fn of(delta: &Plan, full: &Plan, stored: f64) -> Self {
        let tuple = build::cpu_tuple_cost();
        // A changed group has an old and a new row.
        let groups = |plan: &Plan| plan.rows.min(2.0 * stored.max(1.0));
        let change = match delta.folds {
            true => delta.rows * FOLD_ROW + groups(delta) * CHANGE_GROUP,
            false => delta.rows * APPLY_ROW,
        };
        let replace = match full.folds {
            true => full.rows * FOLD_ROW + full.rows.min(stored) * (MAKE_GROUP + 2.0 * COMPARE_ROW),
            false => (full.rows + stored) * COMPARE_ROW,
        };
        Self { delta: running(delta) + change * tuple, full: running(full) + replace * tuple }
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

/// The planner's estimate, sorting repriced.
fn running(plan: &Plan) -> f64 {
    plan.cost - plan.sorting * (1.0 - SORTING)
}
