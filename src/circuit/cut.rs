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
//! **Corollary (falling back is per block).** A block may be recomputed from the new readings of its inputs and compared with what is stored,
//! while all others go on by delta: the difference is its delta. So a construct that cannot be maintained costs its own block, not the
//! view. Where no block would be left that reads a table and goes by delta, the view is recomputed as a whole.
//!
//! A grouped query that reads no relation makes rows of each row of its neighbours by itself, or a constant (theorem I): it stays in the
//! template.

use super::block::{Block, BlockId, Output};
use super::{Operator, Refusal, accumulate, input, reason, shape, tag};
use crate::pg::facts;
use crate::pg::query::{self, Entry, Query};
use crate::pg::stack;

/// The blocks of a query, bottom-up; the last one's output is the query's.
pub fn blocks(query: Query) -> Result<Vec<Block>, Refusal> {
    let mut cutter = Cutter::default();
    cutter.cut(query, false)?;
    Ok(cutter.blocks)
}

/// Whether a query in FROM is a block of its own: one that groups, or that is recomputed (`Operator::Recompute`). `order_is_seen`: what stands
/// above looks at the order of its rows, which a hidden relation does not keep.
fn is_child(query: Query, order_is_seen: bool) -> bool {
    let is_one = || query.is_grouped() || !shape::refusals_of_block(query, order_is_seen).is_empty();
    is_one() && may_be_child(query, order_is_seen)
}

/// Whether its rows can be kept in a relation.
pub fn may_be_child(query: Query, order_is_seen: bool) -> bool {
    let keeps_order = order_is_seen && !query.get().sortClause.is_null();
    !keeps_order && shape::reads_relations(query) && shape::is_self_contained(query)
}

#[derive(Default)]
struct Cutter {
    blocks: Vec<Block>,
    /// The query of each block.
    queries: Vec<Query>,
}

impl Cutter {
    fn cut(&mut self, query: Query, order_is_seen: bool) -> Result<BlockId, Refusal> {
        stack::check();
        let whole = query.copy();
        let refusal = shape::refusals_of_block(query, order_is_seen).into_iter().next();
        let output = Output::of(query, refusal.is_none());
        self.cut_children(query, order_is_seen)?;
        let (query, operator) = match refusal {
            Some(refusal) => (query, Operator::Recompute(refusal)),
            None if query.is_grouped() => with_operator(query),
            None => (query, Operator::Pass),
        };
        let is_recomputed = matches!(operator, Operator::Recompute(_));
        let inputs = if is_recomputed { input::number_everything(query) } else { input::number(query) };
        let id = BlockId(self.blocks.len() as u16);
        self.blocks.push(Block { id, template: query.tree(), inputs, operator, output, clock: 0..0 });
        self.queries.push(whole);
        Ok(id)
    }

    /// Cuts what stands in the query's FROM, and marks the entries that are blocks now.
    fn cut_children(&mut self, query: Query, order_is_seen: bool) -> Result<(), Refusal> {
        stack::check();
        let has_legs = query.set_operation().is_some();
        let order_is_seen = order_is_seen || shape::sees_order(query);
        for entry in query.entries() {
            let Some(inner) = entry.child(|entry| entry.subquery) else { continue };
            if !is_child(inner, order_is_seen) {
                self.cut_children(inner, order_is_seen)?;
            } else if has_legs {
                // A leg is a query, not a relation.
                let leg = query::select_from(inner);
                entry.set(|entry| entry.subquery = leg.as_ptr());
                self.cut_child(leg.entry(1), inner)?;
            } else {
                self.cut_child(entry, inner)?;
            }
        }
        Ok(())
    }

    fn cut_child(&mut self, entry: Entry, inner: Query) -> Result<(), Refusal> {
        let known = self.queries.iter().position(|query| query.equals(inner));
        let id = match known {
            Some(index) => BlockId(index as u16),
            None => {
                let id = self.cut(inner.copy(), false)?;
                refuse_unstorable(&self.blocks[id.index()].output)?;
                id
            }
        };
        tag::write_block(entry, id);
        Ok(())
    }
}

/// A grouped query as template and operator. What cannot be kept of its groups is recomputed.
fn with_operator(query: Query) -> (Query, Operator) {
    let whole = query.copy();
    match accumulate::cut(query) {
        Ok(spec) => (query, Operator::Accumulate(spec)),
        Err(refusal) => (whole, Operator::Recompute(refusal)),
    }
}

/// A hidden relation is a table: it has no columns of types that have no values of their own, and no more than fit a row.
fn refuse_unstorable(output: &Output) -> Result<(), Refusal> {
    if let Some(column) = output.columns.iter().find(|column| !facts::can_be_column(column.typid)) {
        let name = facts::type_name(column.typid);
        return Err(reason::NESTED_AGGREGATE.refuse(format!("A subquery has a column of type {name}.")));
    }
    if !facts::fit_row(output.columns.iter().map(|column| column.typid)) {
        let detail = format!("The {} columns of a subquery do not fit a row.", output.columns.len());
        return Err(reason::WIDE_GROUP.refuse(detail));
    }
    Ok(())
}
