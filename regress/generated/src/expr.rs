//! Scalar expressions and predicates over the columns in scope. None can raise an error, whatever the rows.
//!
//! Every expression carries how well its value is determined, see [`Repr`]. An expression is only built on a column
//! whose value is determined well enough for the result to be the same under every plan.

use crate::dice::Dice;
use crate::kinds::Kind;
use crate::kinds::Kind::*;
use crate::sql::Sql;

/// How well the query determines a value, worst last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Repr {
    /// To the last bit.
    Exact,
    /// Up to the type's equality: a representative of a group.
    Equal,
    /// Up to rounding: a float aggregate whose last digits depend on the order of its input.
    Near,
}

/// An expression, or a column in scope.
#[derive(Clone, Debug)]
pub struct Typed {
    pub text: String,
    pub kind: Kind,
    pub repr: Repr,
}

impl Typed {
    pub fn new(text: impl Into<String>, kind: Kind, repr: Repr) -> Typed {
        Typed { text: text.into(), kind, repr }
    }

    /// As the representative of a group of equal values.
    pub fn representative(&self) -> Typed {
        let repr = if self.kind.is_fuzzy() { self.repr.max(Repr::Equal) } else { self.repr };
        Typed { repr, ..self.clone() }
    }

    /// An ORDER BY item under which ties are as alike as the values are determined.
    pub fn order_key(&self) -> String {
        match self.repr {
            Repr::Exact => format!("({})::text COLLATE \"C\"", self.text),
            _ => self.text.clone(),
        }
    }

    /// The text, ready to stand beside an operator.
    pub fn operand(&self) -> String {
        if self.text.contains([' ', '-']) { format!("({})", self.text) } else { self.text.clone() }
    }

    pub fn is_comparable(&self) -> bool {
        self.repr != Repr::Near && self.kind != Opaque
    }
}

/// A function of one value: its text with `$` for the value, its result, and whether equal inputs give equal results.
type Template = (&'static str, Kind, bool);

fn templates(kind: Kind) -> &'static [Template] {
    match kind {
        Int | Smallint | Small => &[
            ("$ + 1", Int, true),
            ("coalesce($::int, -1)", Int, true),
            ("$ * 2", Int, true),
            ("$ % 3", Int, true),
            ("$ / 2", Int, true),
            ("-$::int", Int, true),
            ("$::text", Text, true),
            ("$::numeric", Numeric, true),
            ("to_jsonb($::int)", Jsonb, true),
            ("CASE WHEN $ > 1 THEN 'many' ELSE 'few' END", Text, true),
            ("nullif($::int, 2)", Int, true),
            ("$ > 1", Bool, true),
            ("ARRAY[$::int, 1]", IntArray, true),
        ],
        Bigint => &[
            ("$ + 1", Bigint, true),
            ("coalesce($, 0)", Bigint, true),
            ("$ % 3", Bigint, true),
            ("$::text", Text, true),
            ("$::numeric", Numeric, true),
            ("abs($)", Bigint, true),
            ("$ >= 2", Bool, true),
        ],
        Numeric => &[
            ("$ + 1.50", Numeric, true),
            ("round($, 1)", Numeric, true),
            ("$ * 2", Numeric, true),
            ("$::text", Text, false),
            ("coalesce($, 0)", Numeric, true),
            ("trunc($)", Numeric, true),
            ("scale($)", Int, false),
            ("$ > 1", Bool, true),
        ],
        Text => &[
            ("upper($)", Text, true),
            ("$ || '-x'", Text, true),
            ("length($)", Int, true),
            ("left($, 1)", Text, true),
            ("coalesce($, 'none')", Text, true),
            ("nullif($, 'a')", Text, true),
            ("$ LIKE 'a%'", Bool, true),
        ],
        Long => {
            &[("length($)", Int, true), ("left($, 4)", Text, true), ("md5($)", Text, true), ("$ || 'z'", Long, true)]
        }
        Folded => &[("length($)", Int, true), ("coalesce($, 'A')", Folded, true)],
        Bool => &[
            ("NOT $", Bool, true),
            ("coalesce($, false)", Bool, true),
            ("$::int", Int, true),
            ("$ IS NOT TRUE", Bool, true),
        ],
        Date => &[
            ("$ + 1", Date, true),
            ("extract(year FROM $)::int", Int, true),
            ("$::text", Text, true),
            ("date_trunc('month', $)", Timestamp, true),
        ],
        Timestamp => &[
            ("$ + interval '1 day'", Timestamp, true),
            ("$::date", Date, true),
            ("$::text", Text, true),
            ("date_trunc('day', $)", Timestamp, true),
            ("extract(hour FROM $)::int", Int, true),
            ("$ AT TIME ZONE 'UTC'", Opaque, true),
        ],
        Float => &[
            ("$ * 2", Float, true),
            ("$ + 0.5", Float, true),
            ("coalesce($, 0)", Float, true),
            ("$::text", Text, false),
        ],
        Rough => &[("$::text", Text, false), ("$ > 1", Bool, true)],
        Jsonb => &[
            ("$ -> 'a'", Jsonb, true),
            ("$ ->> 'a'", Text, false),
            ("jsonb_typeof($)", Text, true),
            (r#"$ @> '{"a": 1}'"#, Bool, true),
        ],
        IntArray => &[
            ("$ || 9", IntArray, true),
            ("($)[1]", Int, true),
            ("cardinality($)", Int, true),
            ("array_to_string($, ',')", Text, true),
        ],
        Mood => &[("$::text", Text, true), ("coalesce($, 'ok')", Mood, true)],
        Pair => &[("($).x", Int, true), ("($).y", Text, true), ("$::text", Text, true)],
        Span => &[
            ("lower($)", Int, true),
            ("isempty($)", Bool, true),
            ("$ * int4range(1, 4)", Span, true),
            ("$ @> 2", Bool, true),
        ],
        other => templates_of_rare(other),
    }
}

fn templates_of_rare(kind: Kind) -> &'static [Template] {
    match kind {
        Uuid => &[("$::text", Text, true)],
        Bytea => &[("length($)", Int, true), ("encode($, 'hex')", Text, true), ("$::text", Text, true)],
        Interval => &[("$ * 2", Interval, false), ("$::text", Text, false)],
        // Not IS NOT NULL: of a row with a dropped column and a virtual one, the server's answer depends on where the row stands.
        Opaque => &[("$ IS NULL", Bool, true)],
        Money => &[("$ * 2", Money, true), ("$::numeric", Numeric, true)],
        _ => &[],
    }
}

/// A function of the value, or the value itself when none is safe.
pub fn function_of(dice: &mut Dice, value: &Typed) -> Typed {
    let usable: Vec<Template> = templates(value.kind)
        .iter()
        .filter(|t| value.repr == Repr::Exact || (value.repr == Repr::Equal && t.2))
        .copied()
        .collect();
    let Some((template, kind, _)) = dice.pick_any(&usable) else { return value.clone() };
    dice.hit("expression");
    let text = template.replace('$', &value.operand());
    // A result that a representative was computed into is itself one of several equal ones.
    let repr = if kind.is_fuzzy() { value.repr } else { Repr::Exact };
    Typed::new(text, kind, repr)
}

/// Functions that the planner inlines, whatever their labels say.
pub const DEFINITIONS: &[&str] = &[
    "CREATE FUNCTION bare(anyelement) RETURNS anyelement LANGUAGE sql AS 'SELECT $1'",
    "CREATE FUNCTION bare_if(anyelement, boolean) RETURNS anyelement STABLE LANGUAGE sql AS 'SELECT CASE WHEN $2 THEN $1 END'",
];

/// A column, or an expression over one or two of them.
pub fn scalar(dice: &mut Dice, scope: &[Typed]) -> Typed {
    let first = dice.pick(scope).clone();
    let drawn = match dice.count(0..=9) {
        0..=4 => first,
        5..=7 => function_of(dice, &first),
        _ => of_two(dice, scope, &first),
    };
    wrapped(dice, drawn)
}

/// The same value, perhaps behind something that is normalised away.
fn wrapped(dice: &mut Dice, value: Typed) -> Typed {
    if !value.is_comparable() {
        return value;
    }
    let text = &value.text;
    let text = if dice.feature("call of an unlabelled function", 0.04) {
        format!("bare({text})")
    } else if dice.feature("call of a function of two arguments", 0.02) {
        format!("bare_if({text}, current_user IS NOT NULL AND current_setting('TimeZone') <> '')")
    } else if dice.feature("subquery without from", 0.04) {
        format!("(SELECT {text})")
    } else {
        return value;
    };
    Typed { text, ..value }
}

fn of_two(dice: &mut Dice, scope: &[Typed], first: &Typed) -> Typed {
    let same: Vec<Typed> = scope.iter().filter(|c| c.kind == first.kind && c.repr != Repr::Near).cloned().collect();
    let Some(second) = dice.pick_any(&same) else { return first.clone() };
    if !first.is_comparable() {
        return first.clone();
    }
    let repr = first.repr.max(second.repr);
    let (a, b, kind) = (&first.operand(), &second.operand(), first.kind);
    match (dice.count(0..=2), kind) {
        (0, Int | Bigint | Numeric) => Typed::new(format!("{a} + {b}"), kind, repr),
        (0, Text) => Typed::new(format!("{a} || {b}"), kind, repr),
        (1, _) => Typed::new(format!("coalesce({a}, {b})"), kind, repr),
        _ => {
            let condition = condition(dice, scope);
            Typed::new(format!("CASE WHEN {condition} THEN {a} ELSE {b} END"), kind, repr)
        }
    }
}

/// One condition over the scope.
pub fn condition(dice: &mut Dice, scope: &[Typed]) -> String {
    let column = dice.pick(scope).clone();
    let c = &column.operand();
    if !column.is_comparable() || dice.chance(0.12) {
        return format!("{c} IS {}NULL", dice.pick(&["", "NOT "]));
    }
    if column.kind == Bool && dice.chance(0.6) {
        return format!("{}({c})", dice.pick(&["", "NOT "]));
    }
    if dice.feature("row comparison", 0.03) {
        return compare_rows(dice, scope, &column);
    }
    match dice.count(0..=9) {
        0 => format!("{c} IN ({}, {})", column.kind.random_literal(dice), column.kind.random_literal(dice)),
        1 => format!("{c} BETWEEN {} AND {}", column.kind.random_literal(dice), column.kind.random_literal(dice)),
        2 => format!("{c} IS DISTINCT FROM {}", column.kind.random_literal(dice)),
        3 => {
            let (left, right) = (condition(dice, scope), condition(dice, scope));
            format!("({left} OR {right})")
        }
        4 => format!("NOT ({c} = {})", column.kind.random_literal(dice)),
        5 | 6 => compare_columns(dice, scope, &column),
        _ => format!("{c} {} {}", operator(dice), column.kind.random_literal(dice)),
    }
}

fn compare_rows(dice: &mut Dice, scope: &[Typed], column: &Typed) -> String {
    let others: Vec<&Typed> = scope.iter().filter(|o| o.is_comparable()).collect();
    let other = *dice.pick(&others);
    let (a, b) = (column.kind.random_literal(dice), other.kind.random_literal(dice));
    format!("({}, {}) {} ({a}, {b})", column.text, other.text, operator(dice))
}

fn compare_columns(dice: &mut Dice, scope: &[Typed], column: &Typed) -> String {
    let others: Vec<&Typed> = scope.iter().filter(|o| o.is_comparable() && o.kind.compares_with(column.kind)).collect();
    let other = dice.pick(&others);
    format!("{} {} {}", column.operand(), operator(dice), other.operand())
}

pub fn operator(dice: &mut Dice) -> &'static str {
    dice.pick::<&'static str>(&["=", "=", "=", "<>", "<", "<=", ">", ">="])
}

/// ` WHERE true AND ... AND ...`, or nothing. The conditions can be dropped one by one.
pub fn where_clause(conditions: Vec<String>) -> Sql {
    if conditions.is_empty() {
        return Sql::default();
    }
    let items = conditions.into_iter().map(|c| Sql::from(format!(" AND {c}"))).collect();
    let mut clause = Sql::from(" WHERE true");
    clause.append(Sql::list("", 0, items));
    clause
}
