//! The column types, each with a small pool of values chosen so that groups and joins collide.
//!
//! What matters beside the type's name is how its equality relates to identity. A kind is *fuzzy* when two values can
//! be equal without being the same (1.0 and 1.00, 'a' and 'A' under a case-insensitive collation, 0 and -0): which of
//! them represents a group is the plan's business, so results are then compared by equality only.

use crate::dice::Dice;
use crate::sql::literal;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Kind {
    Int,
    Bigint,
    Smallint,
    Numeric,
    Text,
    /// Values long enough to be stored out of line.
    Long,
    /// Text under a nondeterministic (case-insensitive) collation.
    Folded,
    Bool,
    Date,
    Timestamp,
    /// Multiples of one half: sums are exact in any order.
    Float,
    /// Positive floats of very different size: sums depend on the order, in the last digits.
    Rough,
    Jsonb,
    IntArray,
    Mood,
    Small,
    Pair,
    Span,
    Uuid,
    Bytea,
    Interval,
    Money,
    /// A result of some other type: passed through and compared, nothing else.
    Opaque,
}

use Kind::*;

/// How column types are drawn: label, weight, kind.
pub const COLUMN_KINDS: &[(&str, u32, Kind)] = &[
    ("type int", 14, Int),
    ("type bigint", 7, Bigint),
    ("type smallint", 4, Smallint),
    ("type numeric", 12, Numeric),
    ("type text", 12, Text),
    ("type text, toasted", 4, Long),
    ("type text, nondeterministic collation", 3, Folded),
    ("type bool", 6, Bool),
    ("type date", 5, Date),
    ("type timestamptz", 4, Timestamp),
    ("type float8, exact", 6, Float),
    ("type float8, inexact", 3, Rough),
    ("type jsonb", 5, Jsonb),
    ("type int[]", 4, IntArray),
    ("type enum", 4, Mood),
    ("type domain", 4, Small),
    ("type composite", 3, Pair),
    ("type range", 3, Span),
    ("type uuid", 2, Uuid),
    ("type bytea", 3, Bytea),
    ("type interval", 3, Interval),
    ("type money", 2, Money),
];

impl Kind {
    /// The type's name, as in a cast.
    pub fn type_name(self) -> &'static str {
        match self {
            Int => "int",
            Bigint => "bigint",
            Smallint => "smallint",
            Numeric => "numeric",
            Text | Long | Folded => "text",
            Bool => "bool",
            Date => "date",
            Timestamp => "timestamptz",
            Float | Rough => "float8",
            Jsonb => "jsonb",
            IntArray => "int[]",
            Mood => "mood",
            Small => "small",
            Pair => "pair",
            Span => "int4range",
            Uuid => "uuid",
            Bytea => "bytea",
            Interval => "interval",
            Money => "money",
            Opaque => unreachable!("opaque results are never declared or cast"),
        }
    }

    /// The statement that makes the type, run before any table is made.
    pub fn definition(self) -> Option<&'static str> {
        match self {
            Folded => {
                Some("CREATE COLLATION folded (provider = icu, locale = 'und-u-ks-level2', deterministic = false)")
            }
            Mood => Some("CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy')"),
            Small => Some("CREATE DOMAIN small AS int CHECK (VALUE BETWEEN -100 AND 1000000)"),
            Pair => Some("CREATE TYPE pair AS (x int, y text)"),
            _ => None,
        }
    }

    /// The type as a column is declared with.
    pub fn declaration(self) -> &'static str {
        if self == Folded { "text COLLATE folded" } else { self.type_name() }
    }

    /// Input texts of the values, few of them. `Long` writes its own, see [`Value`].
    pub fn pool(self) -> &'static [&'static str] {
        match self {
            Int | Bigint | Smallint | Small => &["0", "1", "2", "3", "4", "5", "-1"],
            Numeric => &["1", "1.0", "1.00", "2.5", "2.50", "0", "0.00", "-1.5", "3", "NaN", "Infinity"],
            Text => &["a", "b", "B", "", "ab", "zz", "it's"],
            Long => &["a", "b", "q"],
            Folded => &["a", "A", "b", "B", "ab", "aB"],
            Bool => &["true", "false"],
            Date => &["2024-01-01", "2024-01-31", "2024-02-29", "2025-06-15"],
            Timestamp => &[
                "2024-01-01 00:00:00+00",
                "2024-01-01 23:30:00+00",
                "2024-03-31 01:30:00+00",
                "2025-06-15 12:00:00.123456+00",
            ],
            Float => &["0", "-0", "0.5", "1", "1.5", "-2", "NaN"],
            Rough => &["0.1", "0.7", "3", "10000000000000000", "0.3333333333333333", "12345.678"],
            Jsonb => &[r#"{"a": 1}"#, r#"{"a": 1.0}"#, r#"{"a": 2, "b": "x"}"#, "null", "[1, 2]", r#""s""#, "{}"],
            IntArray => &["{}", "{1}", "{1,2}", "{NULL,1}", "{3}"],
            Mood => &["sad", "ok", "happy"],
            Pair => &["(1,a)", "(1,b)", "(,b)", "(2,)"],
            Span => &["[1,3)", "[2,5)", "empty", "(,4)", "[1,2]"],
            Uuid => &[
                "00000000-0000-0000-0000-000000000001",
                "00000000-0000-0000-0000-0000000000ff",
                "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            ],
            Bytea => &[r"\x", r"\x00", r"\x01ff", r"\xdeadbeef"],
            Interval => &["1 day", "24:00:00", "1 mon", "30 days", "00:00:01", "-01:00:00"],
            Money => &["1.00", "2.50", "0.00", "-3.25"],
            Opaque => unreachable!("opaque results are never stored in a generated column"),
        }
    }

    pub fn is_fuzzy(self) -> bool {
        matches!(self, Numeric | Folded | Float | Rough | Jsonb | Interval | Opaque)
    }

    pub fn is_integer(self) -> bool {
        matches!(self, Int | Bigint | Smallint | Small)
    }

    /// Numbers whose sums do not depend on the order of addition.
    pub fn is_exact_number(self) -> bool {
        self.is_integer() || matches!(self, Numeric | Float)
    }

    /// Has min() and max().
    pub fn is_ordered(self) -> bool {
        !matches!(self, Bool | Jsonb | Pair | Span | Uuid | Opaque)
    }

    /// Values can be compared with each other without a cast.
    pub fn compares_with(self, other: Kind) -> bool {
        let number = |k: Kind| k.is_integer() || k == Numeric;
        self != Opaque && (self == other || (number(self) && number(other)))
    }

    /// Values are short enough for a btree entry of a user's own index.
    pub fn is_indexable(self) -> bool {
        !matches!(self, Long | Opaque)
    }

    /// May be the type of a generated column computed from one of the same type.
    pub fn suits_generated(self) -> bool {
        matches!(self, Int | Bigint | Numeric | Text)
    }

    pub fn random_value(self, dice: &mut Dice) -> Value {
        let text = *dice.pick(self.pool());
        if self != Long {
            return Value::Raw(text.to_string());
        }
        match dice.count(0..=5) {
            0 => Value::Raw(text.to_string()),
            1 => Value::Incompressible(dice.count(1..=3)),
            // More than a page.
            2 => Value::Repeated('p', 9000),
            _ => Value::Repeated(text.chars().next().expect("a nonempty pool value"), dice.count(2500..=2502)),
        }
    }

    pub fn random_literal(self, dice: &mut Dice) -> String {
        let value = *dice.pick(self.pool());
        format!("{}::{}", literal(value), self.type_name())
    }

    /// An expression of this type that runs through the pool as the integer expression `i` grows.
    pub fn series(self, i: &str) -> String {
        let pool = self.pool();
        let items: Vec<String> = pool.iter().map(|v| literal(v)).collect();
        let element = format!("(ARRAY[{}]::{}[])[1 + ({i}) % {}]", items.join(", "), self.series_element(), pool.len());
        match self {
            Long => format!("repeat({element}, 2500)"),
            IntArray => format!("({element})::int[]"),
            _ => element,
        }
    }

    /// An array of arrays would be one array of two dimensions, so arrays go through text.
    fn series_element(self) -> &'static str {
        if self == IntArray { "text" } else { self.type_name() }
    }
}

/// A value to be stored: as an SQL expression and, where that is possible, as COPY data.
#[derive(Clone, Debug)]
pub enum Value {
    Null,
    Raw(String),
    Repeated(char, usize),
    Incompressible(usize),
    Expression(String),
}

impl Value {
    pub fn to_sql(&self) -> String {
        match self {
            Value::Null => "NULL".to_string(),
            Value::Raw(text) => literal(text),
            Value::Repeated(c, times) => format!("repeat('{c}', {times})"),
            Value::Incompressible(salt) => {
                format!("(SELECT string_agg(md5((i * {salt})::text), '') FROM generate_series(1, 90) i)")
            }
            Value::Expression(text) => text.clone(),
        }
    }

    /// The value in COPY's text format; expressions have none and become NULL.
    pub fn to_copy(&self) -> String {
        match self {
            Value::Raw(text) => text.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n"),
            Value::Repeated(c, times) => c.to_string().repeat(*times),
            Value::Null | Value::Incompressible(_) | Value::Expression(_) => "\\N".to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copy_text_escapes_backslashes() {
        assert_eq!(Value::Raw(r"\x00".into()).to_copy(), r"\\x00");
        assert_eq!(Value::Null.to_copy(), r"\N");
    }

    #[test]
    fn numbers_compare_across_kinds() {
        assert!(Int.compares_with(Numeric) && !Int.compares_with(Text) && !Opaque.compares_with(Opaque));
    }
}
