//! Blocks: what a view's query is cut into (`cut`), bottom-up.

use super::{Linearity, Operator, Refusal, key};
use crate::pg::query::{self, Query, TypeOf};
use crate::pg::tree::Tree;
use pgrx::pg_sys;
use std::ops::Range;

/// A block's place among the blocks of its view, which are in order: a block reads only those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId(pub u16);

impl BlockId {
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A template and its operator.
pub struct Block {
    pub id: BlockId,
    /// Query without grouping, ordering and hidden columns whose inputs are tagged (`tag`); its target list is the
    /// block's columns (Pass) or the group keys followed by the aggregates' arguments (Accumulate). An input that is a block
    /// is a subquery, that of the block.
    pub template: Tree<pg_sys::Query>,
    pub inputs: Vec<Input>,
    pub operator: Operator,
    pub output: Output,
    /// Those of `Circuit::clock` that stand in the template.
    pub clock: Range<usize>,
}

/// One occurrence of a relation or block in a template; its number is its index in `Block::inputs`.
pub struct Input {
    pub origin: Origin,
    pub linearity: Linearity,
}

/// What an input's rows are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Relation(pg_sys::Oid),
    /// The output of a block, kept in a hidden relation.
    Block(BlockId),
}

/// The rows of a block.
pub struct Output {
    pub columns: Vec<TypeOf>,
    /// Columns (0-based) that are a unique key of the rows, none at all when there is at most one; None: they are a bag.
    pub key: Option<Vec<usize>>,
}

impl Output {
    /// Of a query that has not been cut yet. Nothing is known about the rows of one whose shape is not understood.
    pub fn of(query: Query, is_understood: bool) -> Self {
        let columns = query.outputs().into_iter().map(|output| query::type_of(output.expression())).collect();
        Self { columns, key: if is_understood { key::of(query) } else { None } }
    }
}

impl Block {
    /// Why the block is recomputed whenever something it reads has changed.
    pub fn fallback(&self) -> Option<&Refusal> {
        match &self.operator {
            Operator::Recompute(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// The same block with its trees in the current memory context.
    pub(super) fn moved(self) -> Self {
        Self { template: self.template.moved(), operator: self.operator.moved(), ..self }
    }
}
