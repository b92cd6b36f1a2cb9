//! Delta or recompute: the cheaper of two planner estimates, never a fixed ratio (promise 5).
//!
//! The planner prices reading and computing. What it cannot see is folding and writing. The constants below put that into
//! its units. They are read off `benches/choice.sh` and `benches/bulk.sh`, where a unit takes 0.004 ms, and are rough: what matters is
//! on which side a change comes to lie where the two are close. A sort is dear in the planner's
//! eyes, as if each comparison called a function, which for most keys it does not.

use crate::plan::build::{self, Fold, Plan};
use crate::plan::regroup::Expected;
use crate::settings::{self, RefreshStrategy};
use std::iter::Sum;

// All in units of cpu_tuple_cost.
/// Writing one changed row of the view, which either way has to.
const WRITE_ROW: f64 = 15.0;
/// Consolidating and finding it, which a recompute that compares all rows does not do one by one.
const FIND_ROW: f64 = 15.0;
/// Comparing one row of the old or new contents.
const COMPARE_ROW: f64 = 4.5;
/// Taking one row of a delta into its group, and into each of its aggregates.
const CHANGE_ROW: f64 = 3.0;
const CHANGE_AGGREGATE: f64 = 1.0;
/// Folding one of all rows of a group, into each aggregate, and more for those which sort them.
const FOLD_ROW: f64 = 1.0;
const FOLD_AGGREGATE: f64 = 0.8;
const SORT_AGGREGATE: f64 = 3.5;
/// Finding and writing one group that changes, in the state and in the view.
const CHANGE_GROUP: f64 = 60.0;
/// Making the state of one group anew.
const MAKE_GROUP: f64 = 34.0;

/// What sorting takes of what the planner thinks.
const SORTING: f64 = 0.5;

/// A delta that starts for no more than this part of a recompute may be given up when it turns out dearer than that.
const TRY: f64 = 0.1;

/// Both estimates, for EXPLAIN and the history.
#[derive(Clone, Copy, Debug)]
pub struct Costs {
    pub delta: f64,
    pub full: f64,
    /// What groups to recompute are expected to take of the delta.
    regroup: f64,
}

impl Costs {
    /// Of a block. `delta`: None if it does not change. `stored`: rows it now has (estimate). `removed`: the share of removals among
    /// the pending versions.
    pub fn of(delta: Option<&Plan>, full: &Plan, stored: f64, removed: f64) -> Self {
        let tuple = build::cpu_tuple_cost();
        let Some(delta) = delta else { return Self { delta: 0.0, ..Self::recomputed(full, stored) } };
        // A changed row or group has an old and a new version.
        let written = delta.rows.min(2.0 * stored.max(1.0));
        let change = match delta.fold {
            Some(fold) => delta.rows * changing(fold) + written * CHANGE_GROUP,
            None => delta.rows * (WRITE_ROW + FIND_ROW),
        };
        let replace = match full.fold {
            Some(fold) => {
                let fold_rows = if fold.of_groups { 0.0 } else { full.rows * folding(fold) };
                fold_rows + full.rows.min(stored) * (MAKE_GROUP + 2.0 * COMPARE_ROW) + written * WRITE_ROW
            }
            None => replacing(full.rows + stored, delta.rows),
        };
        let regroup = match (delta.regroup, delta.fold) {
            (Some(plan), Some(fold)) => regrouping(plan.expected(delta.rows, removed, stored), fold),
            _ => 0.0,
        };
        Self {
            delta: running(delta.cost, delta.sorting) + change * tuple + regroup,
            full: running(full.cost, full.sorting) + replace * tuple,
            regroup,
        }
    }

    /// Of a block that is recomputed either way.
    pub fn recomputed(full: &Plan, stored: f64) -> Self {
        let compare = (full.rows + stored) * COMPARE_ROW * build::cpu_tuple_cost();
        let full = running(full.cost, full.sorting) + compare;
        Self { delta: full, full, regroup: 0.0 }
    }

    /// True when the delta plan is to be used. Where most of what it would take is for groups to recompute, only the run tells
    /// whether there are any (an UPDATE may have left their values alone), and it can be given up.
    pub fn prefer_delta(self) -> bool {
        match settings::refresh_strategy() {
            RefreshStrategy::Auto => self.delta <= self.full || self.delta - self.regroup <= TRY * self.full,
            RefreshStrategy::Delta => true,
            RefreshStrategy::Full => false,
        }
    }

    /// How many groups a run of the delta plan may recompute before computing the view anew is cheaper.
    pub fn most_groups(self, delta: &Plan) -> u64 {
        match (settings::refresh_strategy(), delta.regroup, delta.fold) {
            (RefreshStrategy::Auto, Some(plan), Some(fold)) => {
                plan.most_groups((1.0 + TRY) * self.full, |expected| regrouping(expected, fold))
            }
            _ => u64::MAX,
        }
    }
}

/// Of all blocks of a view.
impl Sum for Costs {
    fn sum<I: Iterator<Item = Self>>(costs: I) -> Self {
        let none = Self { delta: 0.0, full: 0.0, regroup: 0.0 };
        costs.fold(none, |a, b| Self {
            delta: a.delta + b.delta,
            full: a.full + b.full,
            regroup: a.regroup + b.regroup,
        })
    }
}

/// Comparing all these rows, old and new, and writing those that differ.
fn replacing(all: f64, differing: f64) -> f64 {
    all * COMPARE_ROW + differing.min(all) * WRITE_ROW
}

/// Taking one row of a delta in.
fn changing(fold: Fold) -> f64 {
    CHANGE_ROW + f64::from(fold.aggregates) * CHANGE_AGGREGATE
}

/// Folding one of all rows of a group.
fn folding(fold: Fold) -> f64 {
    FOLD_ROW + f64::from(fold.aggregates) * FOLD_AGGREGATE + f64::from(fold.ordered) * SORT_AGGREGATE
}

/// Reading and folding the rows of groups to recompute.
fn regrouping(expected: Expected, fold: Fold) -> f64 {
    running(expected.cost, expected.sorting) + expected.rows * folding(fold) * build::cpu_tuple_cost()
}

/// The planner's estimate, sorting repriced.
fn running(cost: f64, sorting: f64) -> f64 {
    cost - sorting * (1.0 - SORTING)
}
