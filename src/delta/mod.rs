//! THE RULE: a block and its changed inputs -> the terms whose sum is the block's change (DESIGN section 4).
//!
//! A block computes Q over inputs R_1..R_n, each a Z-set (rows with integer weights). Let new_i and old_i be input i
//! after and before the changes, and delta_i = new_i - old_i.
//!
//! **Telescoping theorem.** Replacing the inputs one at a time, first to last, gives
//!
//! ```text
//! Q(new_1..new_n) - Q(old_1..old_n)
//!     = sum over i of [ Q(new_1..new_i-1, new_i, old_i+1..old_n) - Q(new_1..new_i-1, old_i, old_i+1..old_n) ]
//! ```
//!
//! because every intermediate state appears once with each sign. The bracket of an unchanged input is empty, so only
//! changed inputs cost anything, and an input that did not change reads the same as new or old.
//!
//! * Q **linear** in input i (adding rows to it adds rows to the result): the bracket is the single term
//!   `Q(new_1.., delta_i, ..old_n)`, each output row weighted by the delta row's weight.
//! * Otherwise the bracket stays a pair, `+Q(.. new_i ..)` and `-Q(.. old_i ..)`, both restricted to the rows that a
//!   row of delta_i can affect. Rows outside the restriction are in both halves and cancel, so any superset of the
//!   affected rows is right.
//!
//! A pair computes old contents again, so what stands in such a place must be a function of the bags it reads: nothing that the order
//! of rows decides (P1 of the theory: *stored or determined*). Both halves read each input as a bag, whose rows are never
//! there a negative number of times.
//!
//! **Lemma (UNION ALL).** When a UNION ALL stands in a linear place and the input inside one of its legs, the sibling
//! legs add the same rows to both halves of the bracket. They cancel, so the input's terms are taken over the query
//! without the sibling legs. They must be left out of a term for a delta, and must stay where the union as a whole is
//! not linear, as on the nullable side of a join.
//!
//! The order of the inputs is free as long as all terms use the same one; here it is their numbering. No server symbol
//! may be used in this module: it is tested alone.

use bitvec::slice::BitSlice;
use smallvec::{SmallVec, smallvec};

#[cfg(test)]
mod tests;

/// How the query depends on one of its inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Linearity {
    /// Inner-joined or on the preserved side of an outer join: its delta passes through with its weight.
    Linear,
    /// Nullable side, sublink or correlated LATERAL: the bracket is a pair over new and old.
    NonLinear,
}

/// How a term reads an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reading {
    /// The relation now.
    New,
    /// Its pending changes, each row with a weight.
    Delta,
    /// The relation before its pending changes.
    Old,
}

/// One signed evaluation of the query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// The input this term belongs to; sibling UNION ALL legs of it are left out.
    pub input: usize,
    /// One reading per input.
    pub readings: SmallVec<[Reading; 8]>,
    /// Subtract the rows instead of adding them.
    pub negative: bool,
    /// Only rows that a changed row of this input can affect need to be computed.
    pub restricted_by: Option<usize>,
}

/// The terms of the change of a query whose inputs have these linearities when the `changed` ones have pending changes.
///
/// The terms of one input are adjacent, the positive half of a pair first.
pub fn terms(linearity: &[Linearity], changed: &BitSlice) -> SmallVec<[Term; 4]> {
    assert_eq!(linearity.len(), changed.len(), "one changed bit per input");
    changed.iter_ones().flat_map(|i| bracket(i, linearity[i], changed)).collect()
}

/// One signed evaluation of the query, over the new readings of all inputs, for a value of the clock that has moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockTerm {
    /// The value this term belongs to, which alone restricts it.
    pub value: usize,
    /// Values below this number are read as new, the others as old.
    pub first_old: usize,
    /// Subtract the rows instead of adding them.
    pub negative: bool,
}

/// The terms for the values of the clock that have moved, which are stepped after all inputs, one by one: each is an input that is not linear.
/// The terms of one value are adjacent, the positive half of its pair first.
pub fn clock_terms(moved: &BitSlice) -> SmallVec<[ClockTerm; 4]> {
    let term = |value, first_old, negative| ClockTerm { value, first_old, negative };
    moved.iter_ones().flat_map(|value| [term(value, value + 1, false), term(value, value, true)]).collect()
}

/// `Q(new_1..new_i, old_i+1..) - Q(new_1..new_i-1, old_i..)`.
fn bracket(i: usize, linearity: Linearity, changed: &BitSlice) -> SmallVec<[Term; 2]> {
    let term = |reading, negative, restricted_by| Term {
        input: i,
        readings: readings(i, reading, changed),
        negative,
        restricted_by,
    };
    match linearity {
        Linearity::Linear => smallvec![term(Reading::Delta, false, None)],
        Linearity::NonLinear => {
            smallvec![term(Reading::New, false, Some(i)), term(Reading::Old, true, Some(i))]
        }
    }
}

/// New before input i, `at` for it, old after it. Old of an unchanged input is new, which is cheaper to read.
fn readings(i: usize, at: Reading, changed: &BitSlice) -> SmallVec<[Reading; 8]> {
    (0..changed.len())
        .map(|j| match j {
            _ if j == i => at,
            _ if j > i && changed[j] => Reading::Old,
            _ => Reading::New,
        })
        .collect()
}
