//! The shapes of theory/rule_lab.py as functions over Z-sets, plus UNION ALL in its places.
//!
//! `query(inputs, leg, restriction)` evaluates a shape; `leg` keeps only the UNION ALL leg of that input;
//! `restriction` is a changed input and its delta, for the outer rows a pair has to compute.

use super::super::Linearity::{self, Linear, NonLinear};
use super::model::{Row, Value, ZSet, add, equal, exists, greater, is_true, join, left_join, project, select};

type Restriction<'a> = Option<(usize, &'a ZSet)>;

pub struct Shape {
    pub name: &'static str,
    /// The relation behind each input: a relation that occurs twice is two inputs.
    pub relations: &'static [usize],
    pub linearity: &'static [Linearity],
    pub query: fn(&[&ZSet], Option<usize>, Restriction) -> ZSet,
}

const K: usize = 0;
const V: usize = 1;

fn same(x: Value, y: Value) -> bool {
    is_true(equal(x, y))
}

/// Keeps the rows of x that the restriction allows; everything when there is none.
fn restrict(x: &ZSet, restriction: Restriction, affected: impl Fn(usize, &Row, &ZSet) -> bool) -> ZSet {
    select(x, |row| restriction.is_none_or(|(input, delta)| affected(input, row, delta)))
}

/// Semi-join like shapes: keep rows of input 0 by a condition over input 1, affected by `matches`.
fn filter_by(
    inputs: &[&ZSet],
    restriction: Restriction,
    keep: impl Fn(&Row, &ZSet) -> bool,
    matches: impl Fn(&Row, &Row) -> bool,
) -> ZSet {
    let outer = restrict(inputs[0], restriction, |_, x, delta| exists(delta, |d| matches(x, d)));
    select(&outer, |x| keep(x, inputs[1]))
}

fn on_key(x: &Row, y: &Row) -> bool {
    same(x[K], y[K])
}

fn any_key(x: &Row, y: &Row) -> bool {
    equal(x[K], y[K]) != Some(false)
}

fn not_in(inputs: &[&ZSet], restriction: Restriction, matches: fn(&Row, &Row) -> bool) -> ZSet {
    filter_by(inputs, restriction, |x, b| b.keys().all(|y| equal(x[K], y[K]) == Some(false)), matches)
}

fn left(inputs: &[&ZSet], restriction: Restriction, matches: fn(&Row, &Row) -> bool) -> ZSet {
    let outer = restrict(inputs[0], restriction, |_, x, delta| exists(delta, |d| matches(x, d)));
    left_join(&outer, inputs[1], 2, |x, y| on_key(x, y) && is_true(greater(y[V], Some(1))))
}

/// A UNION ALL of two inputs, or the one leg that is asked for.
fn union_all(a: (usize, &ZSet), b: (usize, &ZSet), leg: Option<usize>) -> ZSet {
    let mut out = ZSet::new();
    for (number, rows) in [a, b] {
        // A leg is left out only when its sibling is the one in question.
        if !matches!(leg, Some(l) if l != number && (l == a.0 || l == b.0)) {
            add(&mut out, rows, 1);
        }
    }
    out
}

/// The first value of `ORDER BY v LIMIT 1`, NULLs left out.
fn smallest(rows: &ZSet) -> Option<i64> {
    rows.keys().filter_map(|row| row[V]).min()
}

fn count(rows: &ZSet, matching: impl Fn(&Row) -> bool) -> i64 {
    rows.iter().filter(|(row, _)| matching(row)).map(|(_, w)| w).sum()
}

pub const SHAPES: &[Shape] = &[
    Shape {
        name: "filter and project",
        relations: &[0],
        linearity: &[Linear],
        query: |i, _, _| project(&select(i[0], |x| is_true(greater(x[V], Some(1)))), |x| vec![x[K]]),
    },
    Shape {
        name: "inner join",
        relations: &[0, 1],
        linearity: &[Linear, Linear],
        query: |i, _, _| join(i[0], i[1], on_key),
    },
    Shape {
        name: "non-equi join",
        relations: &[0, 1],
        linearity: &[Linear, Linear],
        query: |i, _, _| join(i[0], i[1], |x, y| is_true(greater(x[V], y[V]))),
    },
    Shape {
        name: "three-way join with a cross product",
        relations: &[0, 1, 2],
        linearity: &[Linear, Linear, Linear],
        query: |i, _, _| join(&join(i[0], i[1], on_key), i[2], |_, _| true),
    },
    Shape {
        name: "self join",
        relations: &[0, 0],
        linearity: &[Linear, Linear],
        query: |i, _, _| join(i[0], i[1], |x, y| on_key(x, y) && is_true(greater(y[V], x[V]))),
    },
    Shape {
        name: "union all",
        relations: &[0, 1],
        linearity: &[Linear, Linear],
        query: |i, leg, _| union_all((0, i[0]), (1, i[1]), leg),
    },
    Shape {
        name: "union all of one relation with itself",
        relations: &[0, 0],
        linearity: &[Linear, Linear],
        query: |i, leg, _| union_all((0, i[0]), (1, &project(i[1], |x| vec![x[V], x[K]])), leg),
    },
    Shape {
        name: "union all under a join",
        relations: &[0, 1, 2],
        linearity: &[Linear, Linear, Linear],
        query: |i, leg, _| join(&union_all((0, i[0]), (1, i[1]), leg), i[2], on_key),
    },
    Shape {
        name: "union all with a constant leg",
        relations: &[0],
        linearity: &[Linear],
        query: |i, leg, _| union_all((0, i[0]), (1, &ZSet::from([(vec![Some(7), None], 1)])), leg),
    },
    Shape {
        name: "left join",
        relations: &[0, 1],
        linearity: &[Linear, NonLinear],
        query: |i, _, r| left(i, r, |x, d| on_key(x, d) && is_true(greater(d[V], Some(1)))),
    },
    Shape {
        name: "left join, where on nullable side",
        relations: &[0, 1],
        linearity: &[Linear, NonLinear],
        query: |i, _, r| {
            let outer = restrict(i[0], r, |_, x, delta| exists(delta, |d| on_key(x, d)));
            select(&left_join(&outer, i[1], 2, on_key), |row| row[3].is_none() || is_true(greater(row[3], Some(2))))
        },
    },
    Shape {
        name: "nested left join",
        relations: &[0, 1, 2],
        linearity: &[Linear, NonLinear, NonLinear],
        query: |i, _, r| {
            let outer = restrict(i[0], r, |input, x, delta| match input {
                1 => exists(delta, |d| on_key(x, d)),
                _ => exists(i[1], |y| on_key(x, y) && exists(delta, |d| same(y[V], d[V]))),
            });
            left_join(&outer, &left_join(i[1], i[2], 2, |y, z| same(y[V], z[V])), 4, on_key)
        },
    },
    Shape {
        name: "chained left joins",
        relations: &[0, 1, 2],
        linearity: &[Linear, NonLinear, NonLinear],
        query: |i, _, r| {
            let at = |wanted: usize| r.filter(|&(input, _)| input == wanted);
            let outer = restrict(i[0], at(1), |_, x, delta| exists(delta, |d| on_key(x, d)));
            let first = left_join(&outer, i[1], 2, on_key);
            // The condition looks at the side of the first join that may be missing.
            let reached = restrict(&first, at(2), |_, x, delta| exists(delta, |d| same(d[K], x[3])));
            left_join(&reached, i[2], 2, |x, y| same(y[K], x[3]))
        },
    },
    Shape {
        name: "full join",
        relations: &[0, 1, 1, 0],
        linearity: &[Linear, NonLinear, Linear, NonLinear],
        query: |i, leg, r| {
            let at = |wanted: usize| r.filter(|&(input, _)| input == wanted);
            let (mut preserved, mut alone) = (ZSet::new(), ZSet::new());
            if leg.is_none_or(|leg| leg < 2) {
                let outer = restrict(i[0], at(1), |_, x, delta| exists(delta, |d| on_key(x, d)));
                preserved = left_join(&outer, i[1], 2, on_key);
            }
            if leg.is_none_or(|leg| leg >= 2) {
                let outer = restrict(i[2], at(3), |_, y, delta| exists(delta, |d| on_key(d, y)));
                let without = select(&outer, |y| !exists(i[3], |x| on_key(x, y)));
                alone = project(&without, |y| vec![None, None, y[K], y[V]]);
            }
            add(&mut preserved, &alone, 1);
            preserved
        },
    },
    Shape {
        name: "in a subquery with LIMIT, any change reaches",
        relations: &[0, 1],
        linearity: &[Linear, NonLinear],
        query: |i, _, r| filter_by(i, r, |x, b| smallest(b).is_some_and(|v| same(x[K], Some(v))), |_, _| true),
    },
    Shape {
        name: "left join with a union all",
        relations: &[0, 1, 2],
        linearity: &[Linear, NonLinear, NonLinear],
        query: |i, _, r| {
            let outer = restrict(i[0], r, |_, x, delta| exists(delta, |d| on_key(x, d)));
            left_join(&outer, &union_all((1, i[1]), (2, i[2]), None), 2, on_key)
        },
    },
    Shape {
        name: "join, then left join",
        relations: &[0, 1, 2],
        linearity: &[Linear, Linear, NonLinear],
        query: |i, _, r| {
            let matching = |x: &Row, z: &Row| same(x[2], z[K]) && same(x[V], z[V]);
            let outer = restrict(&join(i[0], i[1], on_key), r, |_, x, delta| exists(delta, |d| matching(x, d)));
            left_join(&outer, i[2], 2, matching)
        },
    },
    Shape {
        name: "exists",
        relations: &[0, 1],
        linearity: &[Linear, NonLinear],
        query: |i, _, r| filter_by(i, r, |x, b| exists(b, |y| on_key(x, y)), on_key),
    },
    Shape {
        name: "not exists",
        relations: &[0, 1],
        linearity: &[Linear, NonLinear],
        query: |i, _, r| filter_by(i, r, |x, b| !exists(b, |y| on_key(x, y)), on_key),
    },
    Shape {
        name: "in",
        relations: &[0, 1],
        linearity: &[Linear, NonLinear],
        query: |i, _, r| filter_by(i, r, |x, b| exists(b, |y| on_key(x, y)), any_key),
    },
    Shape {
        name: "not in, NULLs",
        relations: &[0, 1],
        linearity: &[Linear, NonLinear],
        query: |i, _, r| not_in(i, r, any_key),
    },
    Shape {
        name: "> all",
        relations: &[0, 1],
        linearity: &[Linear, NonLinear],
        query: |i, _, r| {
            let all = |x: &Row, b: &ZSet| b.keys().all(|y| !on_key(x, y) || is_true(greater(x[V], y[V])));
            filter_by(i, r, all, |x, d| on_key(x, d) && !is_true(greater(x[V], d[V])))
        },
    },
    Shape {
        name: "or exists",
        relations: &[0, 1],
        linearity: &[Linear, NonLinear],
        query: |i, _, r| filter_by(i, r, |x, b| same(x[V], Some(1)) || exists(b, |y| on_key(x, y)), on_key),
    },
    Shape {
        name: "scalar correlated aggregate",
        relations: &[0, 1],
        linearity: &[Linear, NonLinear],
        query: |i, _, r| {
            let outer = restrict(i[0], r, |_, x, delta| exists(delta, |d| on_key(x, d)));
            project(&outer, |x| vec![x[K], Some(count(i[1], |y| on_key(x, y)))])
        },
    },
    Shape {
        name: "no restriction known",
        relations: &[0, 1],
        linearity: &[Linear, NonLinear],
        query: |i, _, _| {
            let quarter = count(i[1], |_| true) / 4;
            select(i[0], |x| is_true(greater(x[V], Some(quarter))))
        },
    },
];

/// Shapes that leave out too much: rows their input affects (NULLs on either side make NOT IN unknown, not false), or
/// sibling legs that do not cancel.
pub const TOO_TIGHT: &[Shape] = &[
    Shape {
        name: "not in, restricted by equality",
        relations: &[0, 1],
        linearity: &[Linear, NonLinear],
        query: |i, _, r| not_in(i, r, on_key),
    },
    Shape {
        name: "left join with a union all, cut down to one leg",
        relations: &[0, 1, 2],
        linearity: &[Linear, NonLinear, NonLinear],
        query: |i, leg, r| {
            let outer = restrict(i[0], r, |_, x, delta| exists(delta, |d| on_key(x, d)));
            left_join(&outer, &union_all((1, i[1]), (2, i[2]), leg), 2, on_key)
        },
    },
    Shape {
        name: "in a subquery with LIMIT, restricted by what changes",
        relations: &[0, 1],
        linearity: &[Linear, NonLinear],
        query: |i, _, r| {
            let keep = |x: &Row, b: &ZSet| smallest(b).is_some_and(|v| same(x[K], Some(v)));
            filter_by(i, r, keep, |x, d| same(x[K], d[V]))
        },
    },
    Shape {
        name: "nested left join, restricted by a condition on what may be missing",
        relations: &[0, 1, 2],
        linearity: &[Linear, NonLinear, NonLinear],
        query: |i, _, r| {
            let matches = |x: &Row, y: &Row, z: &Row| on_key(x, y) && same(y[V], z[K]) && !same(x[V], z[V]);
            let outer = restrict(i[0], r, |input, x, delta| match input {
                1 => exists(delta, |d| on_key(x, d)),
                _ => exists(i[1], |y| exists(delta, |d| matches(x, y, d))),
            });
            let inner = left_join(i[1], i[2], 2, |y, z| same(y[V], z[K]));
            left_join(&outer, &inner, 4, |x, row| on_key(x, row) && !same(x[V], row[3]))
        },
    },
    Shape {
        name: "left join, restricted by a stronger condition",
        relations: &[0, 1],
        linearity: &[Linear, NonLinear],
        query: |i, _, r| left(i, r, |x, d| on_key(x, d) && is_true(greater(d[V], Some(2)))),
    },
];
