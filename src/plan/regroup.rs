//! The second plan of a delta: all rows of the groups whose fold could not be finished from it
//! (`exec/accumulate/recompute.rs`), and what it is expected to take.
//!
//! It is the template joined to the keys of these groups, which are known when it runs. How many there will be is known
//! neither when it is planned nor when delta and recompute are compared: at most as many as the delta touches, and none where it
//! only adds rows and the aggregates can take them in. It is planned for the most there can be, since a plan for too few
//! may search a table once for each group, where one for too many reads it once. What is expected is estimated from
//! the changes that are pending.

use super::build::Planner;
use super::target::Targets;
use super::{build, query};
use crate::circuit::{Ability, Accumulate, Block, GroupKey};
use crate::exec::accumulate::KEYS;
use crate::pg::{facts, node};
use pgrx::pg_sys;

/// The plans for keys without and with NULLs, and an estimate of the first.
pub struct Regroup {
    pub plans: [*mut pg_sys::PlannedStmt; 2],
    pub estimate: Option<Estimate>,
}

/// When a delta recomputes groups, the most frequent cause of those a view has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// Any change of its rows.
    Change,
    /// A row is removed.
    Removal,
    /// One of so many rows is removed that are a minimum, a maximum, or stand for the group's key.
    Witness(u32),
}

/// What recomputing groups takes.
#[derive(Clone, Copy, Debug)]
pub struct Estimate {
    cause: Cause,
    /// Groups it is planned for.
    planned: f64,
    /// The plan's cost, the part of it that is for sorting, and whether the rest grows with the groups.
    cost: f64,
    sorting: f64,
    by_group: bool,
    /// Rows of the groups planned for.
    rows: f64,
}

/// What part of a group's recompute is expected to take.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Expected {
    /// In the planner's units, and the part of it that is for sorting.
    pub cost: f64,
    pub sorting: f64,
    /// Rows that are folded.
    pub rows: f64,
}

impl Estimate {
    /// For a delta of `rows` rows, of which this share are removals, in a view of so many groups.
    pub fn expected(&self, rows: f64, removed: f64, groups: f64) -> Expected {
        self.of_groups(self.groups(rows, removed, groups))
    }

    /// How many groups are recomputed.
    fn groups(&self, rows: f64, removed: f64, groups: f64) -> f64 {
        let touched = rows.min(groups.max(1.0));
        match self.cause {
            Cause::Change => touched,
            Cause::Removal => touched.min(rows * removed),
            // One in a group is a witness.
            Cause::Witness(witnesses) => touched.min(rows * removed * f64::from(witnesses) / self.group_size()),
        }
    }

    /// What recomputing so many groups takes.
    pub fn of_groups(&self, groups: f64) -> Expected {
        let share = (groups / self.planned).min(1.0);
        let sorting = self.sorting * share;
        let reading = (self.cost - self.sorting) * if self.by_group { share } else { groups.min(1.0) };
        Expected { cost: reading + sorting, sorting, rows: self.rows * share }
    }

    /// How many groups at most can be recomputed for what `price` makes no more than `budget`.
    pub fn most_groups(&self, budget: f64, price: impl Fn(Expected) -> f64) -> u64 {
        let (one, all) = (price(self.of_groups(1.0)), price(self.of_groups(self.planned)));
        if all <= budget {
            u64::MAX
        } else if one > budget {
            0
        } else {
            // It grows evenly between the two.
            1 + ((self.planned - 1.0) * (budget - one) / (all - one)) as u64
        }
    }

    fn group_size(&self) -> f64 {
        (self.rows / self.planned).max(1.0)
    }
}

/// Plans for at most `groups` groups.
pub fn plan(block: &Block, targets: &Targets, spec: &Accumulate, groups: f64, planner: Planner) -> Regroup {
    let groups = groups.max(1.0).ceil();
    let plans = [false, true].map(|nulls| restricted(block, targets, spec, groups, nulls, planner));
    let estimate = cause(spec).map(|cause| {
        // SAFETY: finished plans.
        unsafe {
            let tree = (*plans[0]).planTree;
            let by_group = !spec.keys.is_empty() && is_by_group(tree);
            let planned = if spec.keys.is_empty() { 1.0 } else { groups };
            let (cost, rows) = ((*tree).total_cost, (*tree).plan_rows.max(1.0));
            Estimate { cause, planned, cost, sorting: build::sorting(tree), by_group, rows }
        }
    });
    Regroup { plans, estimate }
}

fn cause(spec: &Accumulate) -> Option<Cause> {
    let abilities: Vec<_> = spec.aggregates.iter().map(|aggregate| aggregate.resolved.ability).collect();
    let has = |test: fn(&Ability) -> bool| abilities.iter().any(test);
    if has(|ability| matches!(ability, Ability::Recompute)) {
        return Some(Cause::Change);
    }
    if has(|ability| matches!(ability, Ability::InsertOnly { extremum: None })) {
        return Some(Cause::Removal);
    }
    let extremes = abilities.iter().filter(|ability| matches!(ability, Ability::InsertOnly { .. })).count();
    let representative = usize::from(spec.keys.iter().any(|key| !key.image_equal));
    (extremes + representative > 0).then_some(Cause::Witness((extremes + representative) as u32))
}

/// The plan looks for the rows of each group by itself.
unsafe fn is_by_group(mut plan: *mut pg_sys::Plan) -> bool {
    // SAFETY: a finished plan; what sorts and projects has its input on the left.
    unsafe {
        loop {
            match (*plan).type_ {
                pg_sys::NodeTag::T_NestLoop => return true,
                pg_sys::NodeTag::T_Sort | pg_sys::NodeTag::T_IncrementalSort | pg_sys::NodeTag::T_Result
                    if !(*plan).lefttree.is_null() =>
                {
                    plan = (*plan).lefttree;
                }
                _ => return false,
            }
        }
    }
}

/// The template under the new reading, joined to the keys of the groups to recompute and ordered by key.
/// The keys are distinct, so a plain join is a restriction. Without keys there is one group: all rows.
fn restricted(
    block: &Block,
    targets: &Targets,
    spec: &Accumulate,
    groups: f64,
    nulls: bool,
    planner: Planner,
) -> *mut pg_sys::PlannedStmt {
    // SAFETY: private queries; the template's columns start with the keys.
    unsafe {
        let template = build::contents(block, targets);
        if spec.keys.is_empty() {
            return build::plan_delta(template, planner);
        }
        let outer = query::select_subquery(template);
        query::append_entry(outer, keys_entry(spec, groups));
        for (index, key) in spec.keys.iter().enumerate() {
            match_key(outer, key, index as i16 + 1, nulls);
        }
        query::order_by(outer, spec.keys.iter().map(|key| (key.eq_op, key.lt_op)));
        build::plan_delta(outer, planner)
    }
}

/// Adds `template.column = keys.column`. Where both may be NULL no join method but a nested loop can search for that, so
/// hashes of the values are compared as well, which a hash join can.
unsafe fn match_key(query: *mut pg_sys::Query, key: &GroupKey, column: i16, nulls: bool) {
    // SAFETY: plain node construction; the operator is the key type's equality, the function hashes its operands.
    unsafe {
        let var = |varno| pg_sys::makeVar(varno, column, key.typid, key.typmod, key.collation, 0).cast();
        query::add_qual(query, query::equal(key.eq_op, key.collation, var(1), var(2), nulls));
        if nulls && let Some(function) = facts::hash_function(key.eq_op, key.typid) {
            let hash = |varno| query::coalesced_hash(function, key.collation, var(varno));
            let none = pg_sys::InvalidOid;
            query::add_qual(query, query::equal(pg_sys::Int4EqualOperator.into(), none, hash(1), hash(2), false));
        }
    }
}

unsafe fn keys_entry(spec: &Accumulate, groups: f64) -> *mut pg_sys::RangeTblEntry {
    // SAFETY: an ephemeral relation entry as addRangeTableEntryForENR builds it.
    unsafe {
        let rte: *mut pg_sys::RangeTblEntry = node::make(pg_sys::NodeTag::T_RangeTblEntry);
        (*rte).rtekind = pg_sys::RTEKind::RTE_NAMEDTUPLESTORE;
        (*rte).enrname = pg_sys::pstrdup(KEYS.as_ptr());
        (*rte).enrtuples = groups;
        (*rte).inFromCl = true;
        let mut names = std::ptr::null_mut();
        for (index, key) in spec.keys.iter().enumerate() {
            let name = node::cstring(&format!("k{}", index + 1));
            names = pg_sys::lappend(names, pg_sys::makeString(name).cast());
            (*rte).coltypes = pg_sys::lappend_oid((*rte).coltypes, key.typid);
            (*rte).coltypmods = pg_sys::lappend_int((*rte).coltypmods, key.typmod);
            (*rte).colcollations = pg_sys::lappend_oid((*rte).colcollations, key.collation);
        }
        (*rte).eref = pg_sys::makeAlias(c"keys".as_ptr(), names);
        rte
    }
}

#[cfg(test)]
mod tests {
    use super::{Cause, Estimate, Expected};

    fn estimate(cause: Cause, by_group: bool) -> Estimate {
        Estimate { cause, planned: 100.0, cost: 1000.0, sorting: 0.0, by_group, rows: 2000.0 }
    }

    fn of(cost: f64, rows: f64) -> Expected {
        Expected { cost, sorting: 0.0, rows }
    }

    #[test]
    fn as_many_groups_as_the_budget_allows() {
        let price = |expected: Expected| expected.cost + expected.rows;
        let (scan, index) = (estimate(Cause::Removal, false), estimate(Cause::Removal, true));
        assert_eq!((scan.most_groups(3000.0, price), index.most_groups(3000.0, price)), (u64::MAX, u64::MAX));
        assert_eq!((scan.most_groups(1010.0, price), index.most_groups(29.0, price)), (0, 0));
        assert_eq!((scan.most_groups(1200.0, price), index.most_groups(301.0, price)), (10, 10));
    }

    #[test]
    fn additions_recompute_groups_only_where_any_change_does() {
        let nothing = Expected::default();
        assert_eq!(estimate(Cause::Removal, false).expected(50.0, 0.0, 1e6), nothing);
        assert_eq!(estimate(Cause::Witness(2), true).expected(50.0, 0.0, 1e6), nothing);
        assert_eq!(estimate(Cause::Change, true).expected(50.0, 0.0, 1e6), of(500.0, 1000.0));
    }

    #[test]
    fn without_an_index_one_group_costs_as_much_as_all() {
        let scan = estimate(Cause::Removal, false);
        assert_eq!(scan.expected(1.0, 1.0, 1e6), of(1000.0, 20.0));
        assert_eq!(scan.expected(200.0, 0.5, 1e6), of(1000.0, 2000.0));
    }

    #[test]
    fn no_more_groups_than_there_are() {
        let index = estimate(Cause::Removal, true);
        assert_eq!(index.expected(1e6, 0.5, 10.0), of(100.0, 200.0));
    }

    #[test]
    fn few_rows_are_the_extremum_of_a_large_group() {
        // Groups have 20 rows: of 10 that are removed half a row is a minimum.
        let minimum = estimate(Cause::Witness(1), false);
        assert_eq!(minimum.expected(20.0, 0.5, 1e6), of(500.0, 10.0));
        assert_eq!(minimum.expected(40.0, 1.0, 1e6), of(1000.0, 40.0));
    }
}
