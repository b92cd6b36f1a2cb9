//! Cuts a normalised query into blocks (theorem A).
//!
//! A grouped query below the top, in FROM or in a leg of UNION ALL, is a child block: its output is kept in a hidden relation,
//! and its parent reads that relation as new, delta or old, as it reads a table.
//!
//! **Theorem A.** Let every block, given inputs with new = old + delta, turn a right stored output into a right one for the new
//! inputs and report the difference. Then one pass over the blocks in topological order leaves the right result of the
//! whole query at the root.
//!
//! *Proof.*
//! 1. Induction over the blocks in order: when a block's turn comes, the outputs of the blocks it reads are right.
//! 2. What such a block was before is what is stored now minus the delta that it has reported, whether or not it could be
//!    computed again. So the premise holds for the parent. ∎
//!
//! Equal queries (a CTE that is referenced twice) are one block. Each occurrence is an input of its own, as it is with tables:
//! the terms of one read the other as old or new.
//!
//! A grouped query that reads no relation makes rows of each row of its neighbours by itself, or a constant (theorem I): it stays in the
//! template.

use super::block::{Block, BlockId, Output};
use super::{Operator, Refusal, accumulate, input, reason, tag};
use crate::pg::facts;
use crate::pg::query::{Entry, Query};
use crate::pg::stack;

/// The blocks of a query that nothing speaks against (yet), bottom-up; the last one's output is the query's.
pub fn blocks(query: Query) -> Result<Vec<Block>, Refusal> {
    let mut cutter = Cutter::default();
    cutter.cut(query)?;
    Ok(cutter.blocks)
}

/// Whether a query in FROM is a block of its own.
pub fn is_child(query: Query) -> bool {
    query.is_grouped() && super::shape::reads_relations(query)
}

#[derive(Default)]
struct Cutter {
    blocks: Vec<Block>,
    /// The query of each block.
    queries: Vec<Query>,
}

impl Cutter {
    fn cut(&mut self, query: Query) -> Result<BlockId, Refusal> {
        stack::check();
        let whole = query.copy();
        let output = Output::of(query);
        self.cut_children(query)?;
        let operator = if query.is_grouped() { Operator::Accumulate(accumulate::cut(query)?) } else { Operator::Pass };
        let inputs = input::number(query);
        let id = BlockId(self.blocks.len() as u16);
        self.blocks.push(Block { id, template: query.tree(), inputs, operator, output });
        self.queries.push(whole);
        Ok(id)
    }

    /// Cuts what stands in the query's FROM, and marks the entries that are blocks now.
    fn cut_children(&mut self, query: Query) -> Result<(), Refusal> {
        stack::check();
        for entry in query.entries() {
            let Some(inner) = entry.child(|entry| entry.subquery) else { continue };
            if is_child(inner) {
                self.cut_child(entry, inner)?;
            } else {
                self.cut_children(inner)?;
            }
        }
        Ok(())
    }

    fn cut_child(&mut self, entry: Entry, inner: Query) -> Result<(), Refusal> {
        let known = self.queries.iter().position(|query| query.equals(inner));
        let id = match known {
            Some(index) => BlockId(index as u16),
            None => {
                let id = self.cut(inner.copy())?;
                refuse_unstorable(&self.blocks[id.index()].output)?;
                id
            }
        };
        tag::write_block(entry, id);
        Ok(())
    }
}

/// A hidden relation is a table: it has no columns of types that have no values of their own, and no more than fit a row.
fn refuse_unstorable(output: &Output) -> Result<(), Refusal> {
    if let Some(column) = output.columns.iter().find(|column| !facts::can_be_column(column.typid)) {
        let name = facts::type_name(column.typid);
        return Err(reason::NESTED_AGGREGATE.refuse(format!("A grouped subquery has a column of type {name}.")));
    }
    if !facts::fit_row(output.columns.iter().map(|column| column.typid)) {
        let detail = format!("The {} columns of a grouped subquery do not fit a row.", output.columns.len());
        return Err(reason::WIDE_GROUP.refuse(detail));
    }
    Ok(())
}
