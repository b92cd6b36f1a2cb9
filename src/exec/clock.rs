//! The values of what depends on the clock (theorem H, `circuit/clock.rs`): as the last refresh has stored them and as they are now.
//!
//! They reach the plans as parameters from outside, so that a plan can be used again for other values; the planner sees them
//! for its estimates only.

use crate::circuit::clock::{At, parameter};
use crate::circuit::{Block, ClockValue};
use crate::pg::facts;
use crate::pg::identity::AsOwner;
use crate::pg::query;
use crate::pg::tree::Tree;
use crate::pg::value::{self, Passed};
use pgrx::pg_sys::{self, NullableDatum};

mod moved;

/// Of the format of what is stored.
const FORMAT: u8 = 1;

/// A magnitude for a value that has moved from or to NULL: nothing restricts what it reaches.
const EVERYTHING: u8 = u8::MAX;

/// The values of a view's circuit in one refresh, in its memory context.
pub struct Clock {
    values: Vec<Moving>,
    /// Hash of the expressions.
    of: i64,
    /// What the last refresh has stored is not known: the new values stand for the old ones.
    is_lost: bool,
}

struct Moving {
    expression: Tree<pg_sys::Node>,
    passed: Passed,
    old: NullableDatum,
    new: NullableDatum,
    low: NullableDatum,
    high: NullableDatum,
    /// 0: it has not moved.
    magnitude: u8,
}

impl Clock {
    /// What depends on the clock now, and in what is `stored` with the contents.
    pub fn read(values: &[ClockValue], stored: Option<&[u8]>, owner: &AsOwner) -> Self {
        let of = hash(values);
        let passed: Vec<Passed> = values.iter().map(|value| Passed::of(value.of)).collect();
        let old = stored.and_then(|stored| decode(stored, of, &passed));
        let moving = |(index, value): (usize, &ClockValue)| {
            let new = value::evaluate(moved::by_setting(value.expression.node()), owner);
            let old = old.as_ref().map_or(new, |old| old[index]);
            Moving::of(value, passed[index], old, new)
        };
        let is_lost = old.is_none() && !values.is_empty();
        Self { values: values.iter().enumerate().map(moving).collect(), of, is_lost }
    }

    /// Contents cannot be continued, since what they were computed with is not known.
    pub fn is_lost(&self) -> bool {
        self.is_lost
    }

    /// Some value is another one than that stored.
    pub fn has_moved(&self) -> bool {
        self.values.iter().any(|value| value.magnitude > 0)
    }

    /// How far the values of a block have moved, as exactly as a plan needs to know: 0 not at all.
    pub fn magnitudes<'a>(&'a self, block: &Block) -> impl Iterator<Item = u8> + use<'a> {
        self.values[block.clock.clone()].iter().map(|value| value.magnitude)
    }

    pub fn has_moved_by(&self, value: usize) -> bool {
        self.values[value].magnitude > 0
    }

    /// The value reaches only the rows between its old and its new one.
    pub fn is_bounded(&self, value: usize) -> bool {
        self.values[value].magnitude < EVERYTHING
    }

    /// What is to be stored with contents that have the new values; None where nothing depends on the clock.
    pub fn encode(&self) -> Option<Vec<u8>> {
        if self.values.is_empty() {
            return None;
        }
        let mut bytes = vec![FORMAT];
        bytes.extend(self.of.to_le_bytes());
        for value in &self.values {
            let kept = value::write(value.new, value.passed);
            let length = kept.as_ref().map_or(-1, |kept| kept.len() as i32);
            bytes.extend(length.to_le_bytes());
            bytes.extend(kept.into_iter().flatten());
        }
        Some(bytes)
    }

    /// Parameters for the planner; null where nothing depends on the clock.
    pub fn estimates(&self) -> pg_sys::ParamListInfo {
        if self.values.is_empty() {
            return std::ptr::null_mut();
        }
        // SAFETY: the first parameter, that of the run, has no type, and no query mentions it.
        unsafe {
            let list = pg_sys::makeParamList(self.parameters());
            *(*list).params.as_mut_ptr() = std::mem::zeroed();
            self.fill(list);
            list
        }
    }

    /// Which parameters stand for what, for EXPLAIN.
    pub fn describe(&self) -> Vec<String> {
        let line = |(index, value): (usize, &Moving)| {
            let number = |at| parameter(index, at);
            let (old, new, low, high) = (number(At::Old), number(At::New), number(At::Low), number(At::High));
            format!("${old} before, ${new} now, ${low} to ${high}: {}", query::spelt(value.expression.node()))
        };
        self.values.iter().enumerate().map(line).collect()
    }

    /// Parameters in all, the run's included.
    pub fn parameters(&self) -> i32 {
        1 + 4 * self.values.len() as i32
    }

    /// Writes all parameters but the first, which is the run's.
    ///
    /// # Safety
    /// The list has room for `parameters()`.
    pub unsafe fn fill(&self, list: pg_sys::ParamListInfo) {
        for (index, value) in self.values.iter().enumerate() {
            let readings = [(At::Old, value.old), (At::New, value.new), (At::Low, value.low), (At::High, value.high)];
            for (at, datum) in readings {
                // SAFETY: by contract. Not CONST: the planner may estimate by a value but not build on it.
                unsafe {
                    let place = (*list).params.as_mut_ptr().add(parameter(index, at) as usize - 1);
                    (*place).value = datum.value;
                    (*place).isnull = datum.isnull;
                    (*place).pflags = 0;
                    (*place).ptype = value.passed.of.typid;
                }
            }
        }
    }
}

impl Moving {
    fn of(value: &ClockValue, passed: Passed, old: NullableDatum, new: NullableDatum) -> Self {
        let expression = value.expression.clone();
        let is_same = value::write(old, passed) == value::write(new, passed);
        if is_same || old.isnull || new.isnull {
            let magnitude = if is_same { 0 } else { EVERYTHING };
            return Self { expression, passed, old, new, low: old, high: new, magnitude };
        }
        let is_back = value::is_less(new, old, value.order, value.collation);
        let (low, high) = if is_back { (new, old) } else { (old, new) };
        Self { expression, passed, old, new, low, high, magnitude: distance(low, high, passed) }
    }
}

/// How far two values are from each other, within a factor of four where that is known: plans are kept per magnitude.
fn distance(low: NullableDatum, high: NullableDatum, passed: Passed) -> u8 {
    let (low, high) = (low.value.value() as i64, high.value.value() as i64);
    let distance = match passed.of.typid {
        pg_sys::TIMESTAMPTZOID | pg_sys::TIMESTAMPOID | pg_sys::TIMEOID => high.abs_diff(low),
        pg_sys::DATEOID => u64::from((high as i32).abs_diff(low as i32)),
        _ => return 1,
    };
    1 + ((64 - distance.leading_zeros()) / 2) as u8
}

/// The expressions by which values are known again.
fn hash(values: &[ClockValue]) -> i64 {
    let text: String = values.iter().map(|value| value.expression.node().text()).collect();
    facts::hash(text.as_bytes(), FORMAT.into()) as i64
}

/// The values in what is stored; None if it is of another format or of other expressions.
fn decode(stored: &[u8], of: i64, passed: &[Passed]) -> Option<Vec<NullableDatum>> {
    let (format, rest) = stored.split_first()?;
    let (hash, mut rest) = rest.split_first_chunk()?;
    if *format != FORMAT || i64::from_le_bytes(*hash) != of {
        return None;
    }
    let mut values = vec![];
    for passed in passed {
        let (length, others) = rest.split_first_chunk()?;
        let kept = match i32::from_le_bytes(*length) {
            -1 => None,
            length => Some(others.split_at_checked(usize::try_from(length).ok()?)?),
        };
        values.push(value::read(kept.map(|(bytes, _)| bytes), *passed)?);
        rest = kept.map_or(others, |(_, rest)| rest);
    }
    rest.is_empty().then_some(values)
}
