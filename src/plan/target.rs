//! Where the blocks of a view keep what they keep.

use crate::circuit::{Block, BlockId, Circuit, Input, Origin};
use crate::exec::apply::ApplyIndex;
use pgrx::pg_sys;

/// Where one block keeps its output and its state.
pub struct Target {
    /// The view, or the hidden relation of a block below the top.
    pub relation: pg_sys::Oid,
    /// Finds the rows of that.
    pub index: ApplyIndex,
    /// The state table, when the block's operator has one.
    pub state: Option<pg_sys::Oid>,
}

/// The targets of a view's blocks in order; the last is the view, also when it has no blocks.
pub struct Targets(Vec<Target>);

impl Targets {
    pub fn new(targets: Vec<Target>) -> Self {
        assert!(!targets.is_empty(), "a view is a target");
        Self(targets)
    }

    pub fn view(&self) -> &Target {
        self.0.last().expect("`new` has looked")
    }

    pub fn of(&self, block: BlockId) -> &Target {
        &self.0[block.index()]
    }

    /// Those below the view.
    pub fn hidden(&self) -> &[Target] {
        &self.0[..self.0.len() - 1]
    }

    /// Every relation of ours but the view.
    pub fn relations(&self) -> impl Iterator<Item = pg_sys::Oid> {
        self.hidden().iter().map(|target| target.relation).chain(self.0.iter().filter_map(|target| target.state))
    }

    /// The relation that an input's rows are read from.
    pub fn relation_of(&self, input: &Input) -> pg_sys::Oid {
        match input.origin {
            Origin::Relation(relid) => relid,
            Origin::Block(block) => self.of(block).relation,
        }
    }

    /// False for blocks whose state is not kept, since their view is always recomputed.
    pub fn are_kept(&self, circuit: &Circuit) -> bool {
        let is_kept = |block: &Block| {
            let target = self.of(block.id);
            target.relation != pg_sys::InvalidOid && (target.state.is_some() || !block.operator.has_state())
        };
        !circuit.blocks.is_empty() && circuit.blocks.iter().all(is_kept)
    }
}
