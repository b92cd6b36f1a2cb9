//! Aggregate calls. Each says how well its result is determined: sums of exact numbers to the last bit, a minimum of
//! equal-but-different values up to equality, sums of inexact floats up to rounding. Order-sensitive aggregates are
//! always given an order that leaves no choice.

use crate::dice::Dice;
use crate::expr::{Repr, Typed, condition};
use crate::kinds::Kind;
use crate::kinds::Kind::*;

/// Draws a call over some of the columns; `None` when no column suits.
type Draw = fn(&mut Dice, &[Typed]) -> Option<Typed>;

const AGGREGATES: &[(&str, u32, Draw)] = &[
    ("count(*)", 10, |_, _| Some(Typed::new("count(*)", Bigint, Repr::Exact))),
    ("count(x)", 6, |dice, columns| {
        Some(Typed::new(format!("count({})", dice.pick(columns).text), Bigint, Repr::Exact))
    }),
    ("sum", 14, sum),
    ("avg", 6, avg),
    ("stddev, variance", 4, deviation),
    ("min, max", 10, extremum),
    ("bool_and, bool_or", 3, logical),
    ("bit_and, bit_or, bit_xor", 3, bitwise),
    ("string_agg ordered", 3, string_agg),
    ("array_agg ordered", 3, array_agg),
    ("jsonb_agg ordered", 3, jsonb_agg),
    ("count(distinct)", 4, count_distinct),
    ("sum(distinct)", 3, sum_distinct),
    ("array_agg(distinct)", 1, array_agg_distinct),
    ("regr_*, corr, covar", 3, regression),
    ("user aggregate, moving", 3, moving),
    ("user aggregate, not moving", 4, not_moving),
    ("mode", 2, mode),
    ("percentile", 2, percentile),
    ("hypothetical set", 1, hypothetical),
    ("range_agg", 1, range_agg),
];

/// The aggregates behind "user aggregate", created when an episode starts.
pub const DEFINITIONS: &[&str] = &[
    "CREATE AGGREGATE gen_sum(bigint) (SFUNC = int8pl, STYPE = bigint, INITCOND = '0', \
     MSFUNC = int8pl, MINVFUNC = int8mi, MSTYPE = bigint, MINITCOND = '0')",
    "CREATE AGGREGATE gen_max(int) (SFUNC = int4larger, STYPE = int)",
];

/// An aggregate call, with a FILTER now and then.
pub fn draw(dice: &mut Dice, columns: &[Typed]) -> Typed {
    let make = dice.choose(AGGREGATES);
    let mut call = make(dice, columns).unwrap_or_else(|| Typed::new("count(*)", Bigint, Repr::Exact));
    if dice.feature("filter", 0.15) {
        let condition = condition(dice, columns);
        call.text = format!("{} FILTER (WHERE {condition})", call.text);
    }
    call
}

/// Calls whose result, to the last bit, does not depend on the order of rows, whatever is added up or compared.
const DETERMINED: &[(&str, u32, Draw)] = &[
    ("determined count(*)", 4, |_, _| Some(Typed::new("count(*)", Bigint, Repr::Exact))),
    ("determined count(distinct)", 1, |dice, columns| {
        let x = one_of(dice, columns, |c| {
            is_exact(c) && c.is_comparable() && !c.kind.is_fuzzy() && matches!(c.kind, Int | Bigint | Text | Date)
        })?;
        Some(Typed::new(format!("count(DISTINCT {})", x.text), Bigint, Repr::Exact))
    }),
    ("determined sum", 4, |dice, columns| {
        let x = one_of(dice, columns, |c| is_exact(c) && (is_integer(c) || c.kind == Numeric))?;
        Some(Typed::new(format!("sum({})", x.text), sum_kind(x.kind)?, Repr::Exact))
    }),
    ("determined min, max", 4, |dice, columns| {
        let x = one_of(dice, columns, |c| {
            is_exact(c) && matches!(c.kind, Int | Bigint | Smallint | Text | Date | Timestamp)
        })?;
        let name = dice.pick(&["min", "max"]);
        Some(Typed::new(format!("{name}({})", x.text), x.kind, Repr::Exact))
    }),
    ("determined bool_or", 1, logical),
];

/// A call that may be computed again over rows as they were.
pub fn draw_determined(dice: &mut Dice, columns: &[Typed]) -> Typed {
    let make = dice.choose(DETERMINED);
    make(dice, columns).unwrap_or_else(|| Typed::new("count(*)", Bigint, Repr::Exact))
}

fn one_of(dice: &mut Dice, columns: &[Typed], suits: impl Fn(&Typed) -> bool) -> Option<Typed> {
    let suitable: Vec<Typed> = columns.iter().filter(|c| suits(c)).cloned().collect();
    dice.pick_any(&suitable)
}

fn is_integer(c: &Typed) -> bool {
    c.kind.is_integer()
}

fn is_exact(c: &Typed) -> bool {
    c.repr == Repr::Exact && c.kind != Opaque
}

/// The type of a sum, which is wider than that of its terms.
fn sum_kind(term: Kind) -> Option<Kind> {
    match term {
        Int | Smallint | Small => Some(Bigint),
        Bigint | Numeric => Some(Numeric),
        Float | Interval | Money => Some(term),
        _ => None,
    }
}

fn sum(dice: &mut Dice, columns: &[Typed]) -> Option<Typed> {
    let rough = one_of(dice, columns, |c| c.is_comparable() && c.kind == Rough);
    if let Some(x) = rough.filter(|_| dice.feature("sum of inexact floats", 0.4)) {
        return Some(Typed::new(format!("sum({})", x.text), Opaque, Repr::Near));
    }
    let x = one_of(dice, columns, |c| c.is_comparable() && sum_kind(c.kind).is_some())?;
    Some(Typed::new(format!("sum({})", x.text), sum_kind(x.kind)?, x.repr))
}

fn avg(dice: &mut Dice, columns: &[Typed]) -> Option<Typed> {
    let x = one_of(dice, columns, |c| is_exact(c) && (c.kind.is_exact_number() || c.kind == Interval))?;
    let kind = match x.kind {
        Float => Opaque,
        Interval => Interval,
        _ => Numeric,
    };
    Some(Typed::new(format!("avg({})", x.text), kind, Repr::Exact))
}

fn deviation(dice: &mut Dice, columns: &[Typed]) -> Option<Typed> {
    let x = one_of(dice, columns, |c| is_exact(c) && c.kind.is_exact_number())?;
    let name = dice.pick(&["stddev", "stddev_pop", "variance", "var_pop"]);
    let (kind, repr) = if x.kind == Float { (Opaque, Repr::Near) } else { (Numeric, Repr::Exact) };
    Some(Typed::new(format!("{name}({})", x.text), kind, repr))
}

fn extremum(dice: &mut Dice, columns: &[Typed]) -> Option<Typed> {
    let x = one_of(dice, columns, |c| c.is_comparable() && c.kind.is_ordered())?;
    let name = dice.pick(&["min", "max"]);
    Some(Typed::new(format!("{name}({})", x.text), x.kind, x.representative().repr))
}

fn logical(dice: &mut Dice, columns: &[Typed]) -> Option<Typed> {
    let x = one_of(dice, columns, |c| c.kind == Bool)?;
    let name = dice.pick(&["bool_and", "bool_or", "every"]);
    Some(Typed::new(format!("{name}({})", x.text), Bool, Repr::Exact))
}

fn bitwise(dice: &mut Dice, columns: &[Typed]) -> Option<Typed> {
    let x = one_of(dice, columns, |c| matches!(c.kind, Int | Bigint | Smallint))?;
    let name = dice.pick(&["bit_and", "bit_or", "bit_xor"]);
    Some(Typed::new(format!("{name}({})", x.text), x.kind, Repr::Exact))
}

fn string_agg(dice: &mut Dice, columns: &[Typed]) -> Option<Typed> {
    let x = one_of(dice, columns, |c| c.kind == Text && is_exact(c))?;
    let direction = dice.pick(&["", " DESC", " NULLS FIRST"]);
    Some(Typed::new(format!("string_agg({}, ',' ORDER BY {}{direction})", x.text, x.order_key()), Text, Repr::Exact))
}

fn array_agg(dice: &mut Dice, columns: &[Typed]) -> Option<Typed> {
    // Arrays of different lengths cannot be aggregated.
    let x = one_of(dice, columns, |c| is_exact(c) && c.kind != IntArray)?;
    Some(Typed::new(format!("array_agg({} ORDER BY {})", x.text, x.order_key()), Opaque, Repr::Exact))
}

fn jsonb_agg(dice: &mut Dice, columns: &[Typed]) -> Option<Typed> {
    let x = one_of(dice, columns, is_exact)?;
    let first = one_of(dice, columns, is_exact)?;
    Some(Typed::new(
        format!("jsonb_agg({} ORDER BY {}, {})", x.text, first.order_key(), x.order_key()),
        Opaque,
        Repr::Exact,
    ))
}

fn count_distinct(dice: &mut Dice, columns: &[Typed]) -> Option<Typed> {
    let x = one_of(dice, columns, Typed::is_comparable)?;
    Some(Typed::new(format!("count(DISTINCT {})", x.text), Bigint, Repr::Exact))
}

fn sum_distinct(dice: &mut Dice, columns: &[Typed]) -> Option<Typed> {
    let x = one_of(dice, columns, |c| c.is_comparable() && c.kind.is_exact_number())?;
    let repr = x.representative().repr;
    Some(Typed::new(format!("sum(DISTINCT {})", x.text), sum_kind(x.kind)?, repr))
}

fn array_agg_distinct(dice: &mut Dice, columns: &[Typed]) -> Option<Typed> {
    let x = one_of(dice, columns, |c| is_exact(c) && !c.kind.is_fuzzy() && c.kind != IntArray)?;
    Some(Typed::new(format!("array_agg(DISTINCT {0} ORDER BY {0})", x.text), Opaque, Repr::Exact))
}

fn regression(dice: &mut Dice, columns: &[Typed]) -> Option<Typed> {
    let suits = |c: &Typed| is_exact(c) && (is_integer(c) || c.kind == Float);
    let (y, x) = (one_of(dice, columns, suits)?, one_of(dice, columns, suits)?);
    let name = dice.pick(&[
        "regr_count",
        "regr_slope",
        "regr_intercept",
        "regr_r2",
        "regr_sxx",
        "regr_sxy",
        "corr",
        "covar_pop",
        "covar_samp",
    ]);
    let (kind, repr) = if *name == "regr_count" { (Bigint, Repr::Exact) } else { (Opaque, Repr::Near) };
    Some(Typed::new(format!("{name}({}, {})", y.text, x.text), kind, repr))
}

fn moving(dice: &mut Dice, columns: &[Typed]) -> Option<Typed> {
    let x = one_of(dice, columns, is_integer)?;
    Some(Typed::new(format!("gen_sum({}::bigint)", x.text), Bigint, Repr::Exact))
}

fn not_moving(dice: &mut Dice, columns: &[Typed]) -> Option<Typed> {
    let x = one_of(dice, columns, |c| is_integer(c) && c.kind != Bigint)?;
    Some(Typed::new(format!("gen_max({}::int)", x.text), Int, Repr::Exact))
}

fn mode(dice: &mut Dice, columns: &[Typed]) -> Option<Typed> {
    let x = one_of(dice, columns, Typed::is_comparable)?;
    Some(Typed::new(format!("mode() WITHIN GROUP (ORDER BY {})", x.text), x.kind, x.representative().repr))
}

fn percentile(dice: &mut Dice, columns: &[Typed]) -> Option<Typed> {
    let fraction = dice.pick(&["0.5", "0.25", "0.9"]);
    if dice.chance(0.4) {
        let x = one_of(dice, columns, is_integer)?;
        return Some(Typed::new(
            format!("percentile_cont({fraction}) WITHIN GROUP (ORDER BY {})", x.text),
            Opaque,
            Repr::Exact,
        ));
    }
    let x = one_of(dice, columns, Typed::is_comparable)?;
    Some(Typed::new(
        format!("percentile_disc({fraction}) WITHIN GROUP (ORDER BY {} DESC)", x.text),
        x.kind,
        x.representative().repr,
    ))
}

fn hypothetical(dice: &mut Dice, columns: &[Typed]) -> Option<Typed> {
    let x = one_of(dice, columns, is_integer)?;
    let name = dice.pick(&["rank", "dense_rank"]);
    Some(Typed::new(format!("{name}(2) WITHIN GROUP (ORDER BY {})", x.text), Bigint, Repr::Exact))
}

fn range_agg(dice: &mut Dice, columns: &[Typed]) -> Option<Typed> {
    let x = one_of(dice, columns, |c| c.kind == Span)?;
    Some(Typed::new(format!("range_agg({})", x.text), Opaque, Repr::Exact))
}
