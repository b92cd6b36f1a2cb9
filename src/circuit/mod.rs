//! Query -> circuit: the view's rewritten Query as blocks (DESIGN section 3).
//!
//! A block is a Query fragment kept as a template (joins, WHERE, expressions, UNION ALL: what the core planner does
//! well) topped by at most one stateful operator (what it cannot do incrementally). `build` is the one entry point.

use crate::error;
use crate::pg::facts;
use crate::pg::identity::AsOwner;
use crate::pg::memory::Scratch;
use crate::pg::query::{self, Query};
use crate::pg::relation::Relation;
use crate::pg::tree::Tree;
use hashbrown::HashSet;
use pgrx::pg_sys;
use std::borrow::Cow;
use std::cmp::Reverse;

mod accumulate;
mod aggregate;
mod block;
pub mod clock;
mod cut;
mod determined;
mod fingerprint;
mod functions;
mod input;
mod key;
pub mod legs;
mod normalise;
mod reason;
mod shape;
mod source;
pub mod tag;
mod text;

pub use crate::delta::Linearity;
pub use aggregate::{Functions, Resolved};
pub use block::{Block, BlockId, Input, Origin, Output};
pub use clock::ClockValue;
pub use reason::Effect;

/// What the extension knows about a view's query, rebuilt whenever anything it depends on changes.
pub struct Circuit {
    pub view: pg_sys::Oid,
    /// The rewritten query (plain views expanded, row security applied, whole rows spelled out): for recompute.
    pub query: Tree<pg_sys::Query>,
    /// Every relation the query reads, once each, in oid order.
    pub sources: Vec<Source>,
    /// Blocks bottom-up; the last one's output is the view. Empty when the view is recomputed as a whole.
    pub blocks: Vec<Block>,
    /// What depends on the clock in the blocks' templates, in the order of the blocks.
    pub clock: Vec<ClockValue>,
    /// Why there are no blocks, or some of them are recomputed: the gravest of the reasons.
    pub refusal: Option<Refusal>,
    /// The other reasons, once each.
    pub further_refusals: Vec<Refusal>,
    /// The view has to be recomputed at every refresh, pending changes or not.
    pub always_recompute: bool,
    /// Captured changes tell when the result has changed; if not, its sources are not captured for it.
    pub capturable: bool,
    /// View columns (0-based) that are a unique key of the result, as in `Output`; None: the view is a bag, or recomputed.
    pub key: Option<Vec<usize>>,
    /// Hash of the rewritten query: when it differs from the stored one the view must be recomputed.
    pub fingerprint: i64,
    /// The result depends on settings such as TimeZone, which are then pinned.
    pub settings_dependent: bool,
}

/// A base table, partitioned root or upstream stream table the view reads.
pub struct Source {
    pub relid: pg_sys::Oid,
    /// Attribute numbers read (including by generated expressions, quals and policies), ascending.
    pub columns: Vec<i16>,
    /// False for what capture cannot see (foreign tables, catalogs, ...): such a view is always recomputed.
    pub capturable: bool,
}

pub enum Operator {
    Pass,
    Accumulate(Accumulate),
    /// Nothing the engine can maintain, for this reason: computed anew and compared with what is stored whenever an input has changed.
    /// The template is the whole query, hidden columns, order and all.
    Recompute(Refusal),
}

impl Operator {
    /// Groups or the like are kept between refreshes.
    pub fn has_state(&self) -> bool {
        matches!(self, Self::Accumulate(_))
    }

    fn moved(self) -> Self {
        match self {
            Self::Pass | Self::Recompute(_) => self,
            Self::Accumulate(spec) => Self::Accumulate(spec.moved()),
        }
    }
}

/// GROUP BY, global aggregates, HAVING and the output expressions over them.
pub struct Accumulate {
    /// Template columns 1..=keys.len() in this order. Empty for global aggregates (always exactly one group).
    /// Columns determined by a grouped primary key are keys too.
    pub keys: Vec<GroupKey>,
    pub aggregates: Vec<Aggregate>,
    /// Target entries in view column order, as the analyzer made them (not yet through `expression_planner`); a Var (OUTER_VAR, n) is group key n for n <= keys.len(),
    /// else the result of aggregate n - keys.len() (1-based).
    pub output: Tree<pg_sys::List>,
    /// HAVING over the same Vars (an expression, not a list).
    pub having: Option<Tree<pg_sys::Node>>,
}

impl Accumulate {
    fn moved(mut self) -> Self {
        self.output = self.output.moved();
        self.having = self.having.as_ref().map(Tree::moved);
        self.aggregates.iter_mut().for_each(|aggregate| aggregate.aggref = aggregate.aggref.moved());
        self
    }

    /// Groups are found by a hash of their key, since keys may be too long for an index entry.
    pub fn is_found_by_hash(&self) -> bool {
        !facts::fit_index_entry(self.keys.iter().map(|key| (key.typid, key.typmod)))
    }

    /// What is kept of a group (keys, number of rows, a count and a state for each aggregate, a hash) fits a row.
    fn fits_row(&self) -> bool {
        let number = pg_sys::INT8OID;
        let keys = self.keys.iter().map(|key| key.typid);
        let counts = std::iter::repeat_n(number, self.aggregates.len());
        let states = self.aggregates.iter().map(|aggregate| aggregate.resolved.state);
        let columns: Vec<_> = keys.chain([number]).chain(counts).chain(states).chain([number]).collect();
        facts::fit_row(columns.into_iter())
    }
}

pub struct GroupKey {
    pub typid: pg_sys::Oid,
    pub typmod: i32,
    pub collation: pg_sys::Oid,
    pub eq_op: pg_sys::Oid,
    pub lt_op: pg_sys::Oid,
    /// Equal values are identical (btree equalimage). If not, the stored representative must be a value that is
    /// still present: its deletion recomputes the group.
    pub image_equal: bool,
}

pub struct Aggregate {
    /// The original Aggref with its arguments, for types, collation and function lookups.
    pub aggref: Tree<pg_sys::Aggref>,
    /// 1-based template columns holding its arguments (including ORDER BY-only ones), in Aggref.args order.
    pub arguments: Vec<usize>,
    /// 1-based template columns holding the direct arguments of an ordered-set aggregate (the same in a whole group).
    pub direct: Vec<usize>,
    /// 1-based template column of FILTER's condition.
    pub filter: Option<usize>,
    pub resolved: Resolved,
}

/// What pg_aggregate lets us do with an aggregate; also says what its state column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ability {
    /// Moving-aggregate pair over an exact type: state = moving transition value (serialised when internal);
    /// rows are added by aggmtransfn and removed by aggminvtransfn (NULL from it means recompute the group).
    Invertible,
    /// State = transition value (serialised when internal): inserts advance it, a delete recomputes the group.
    /// With `extremum` (aggsortop of min/max) a delete matters only when it equals the current value.
    InsertOnly { extremum: Option<pg_sys::Oid> },
    /// State = the final value; any touch recomputes the group (ordered, DISTINCT, unserialisable states).
    Recompute,
}

/// Why a query is not maintained incrementally: shown by explain_refresh_mode and raised under DIFFERENTIAL.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// Stable reason code, such as `OUTER_JOIN`, `WINDOW_FUNCTION`, `VOLATILE_FUNCTION`.
    pub code: &'static str,
    /// Sentence naming the construct.
    pub detail: String,
    /// What to write instead, or what happens now.
    pub hint: Cow<'static, str>,
    pub effect: Effect,
}

impl Refusal {
    /// The query must not be a stream table at all, not even by recompute.
    pub fn is_fatal(&self) -> bool {
        self.effect == Effect::Refuse
    }
}

/// Views that are recomputed for the reason with this code may change by themselves: a schedule that was set recomputes
/// them at each of its ticks, though they are captured.
pub fn varies(code: &str) -> bool {
    code == reason::VOLATILE_FUNCTION.code
}

/// The circuit of an existing materialized view. Trees are made in the current memory context.
pub fn build(view: pg_sys::Oid, owner: &AsOwner) -> Circuit {
    let relation = Relation::open(view, pg_sys::AccessShareLock);
    let scratch = Scratch::make();
    let circuit = scratch.run(|| {
        let query = query::of_view(&relation);
        let query = query.unwrap_or_else(|| error::cannot_happen(format!("\"{}\" has no query", relation.name())));
        analyse(view, query, owner)
    });
    circuit.moved()
}

/// The circuit a view with this analyzed query would have. The query is used up.
pub fn build_query(query: Query, owner: &AsOwner) -> Circuit {
    let scratch = Scratch::make();
    scratch.run(|| analyse(pg_sys::InvalidOid, query, owner)).moved()
}

fn analyse(view: pg_sys::Oid, analyzed: Query, owner: &AsOwner) -> Circuit {
    // Recomputing spells out rows as well: the same value must have one image. Those of CTEs follow when they are inlined.
    let rewritten = normalise::rows::spell_out(query::rewritten(analyzed, owner));
    // The planner converts the legs of a set operation by functions that do not stand in the query.
    let functions = functions::survey(normalise::conversions::show(rewritten.copy()), owner);
    let (normal, keys) = normalise::normalised(rewritten.copy(), owner);
    let (sources, obstacles) = source::survey(normal);
    let fingerprint = fingerprint::of(rewritten, &sources, &functions, &keys);
    let mut refusals = [functions.refusals, obstacles].concat();
    let shape = shape::refusals(normal);
    let is_understood = refusals.is_empty() && shape.is_empty();
    let (blocks, clock) = match with_clock(normal, &shape, &refusals, owner) {
        Some((blocks, clock, others)) => {
            refusals = others;
            (blocks, clock)
        }
        None => (blocks(normal, shape, &mut refusals), vec![]),
    };
    let key = match blocks.last() {
        Some(block) => block.output.key.clone(),
        None if is_understood => key::of(normal),
        None => None,
    };
    let fingerprint = fingerprint::maintained(fingerprint, key.as_deref(), &refusals, &blocks);
    let is = |effect| refusals.iter().any(|refusal| refusal.effect == effect);
    let capturable = !is(Effect::AlwaysRecompute);
    let always_recompute = !capturable || is(Effect::RecomputeAnyway);
    let (refusal, further_refusals) = by_gravity(refusals);
    Circuit {
        view,
        query: rewritten.tree(),
        sources,
        blocks,
        clock,
        refusal,
        further_refusals,
        always_recompute,
        capturable,
        key,
        fingerprint,
        settings_dependent: functions.settings,
    }
}

/// The blocks of a query that depends on the clock, if they can take it for an input (`clock`); what it is that depends on it, and the reasons that
/// remain.
fn with_clock(
    query: Query,
    shape: &[Refusal],
    refusals: &[Refusal],
    owner: &AsOwner,
) -> Option<(Vec<Block>, Vec<ClockValue>, Vec<Refusal>)> {
    let (about_clock, mut others): (Vec<_>, Vec<_>) = refusals.iter().cloned().partition(functions::is_about_clock);
    if about_clock.is_empty() {
        return None;
    }
    let mut blocks = blocks(query, shape.to_vec(), &mut others);
    let is_any = !blocks.is_empty();
    let values = clock::take_out(&mut blocks, owner).filter(|_| is_any)?;
    Some((blocks, values, others))
}

/// The blocks of a query, where any of them can be maintained by delta; the reasons why others, or all, cannot are added to those
/// there are. `shape`: what speaks against its shape.
fn blocks(query: Query, shape: Vec<Refusal>, refusals: &mut Vec<Refusal>) -> Vec<Block> {
    if !refusals.is_empty() || shape.iter().any(|refusal| refusal.effect != Effect::Recompute) {
        refusals.extend(shape);
        return vec![];
    }
    match cut::blocks(query.copy()) {
        Ok(blocks) if are_worth_it(&blocks) => {
            refusals.extend(blocks.iter().filter_map(Block::fallback).cloned());
            blocks
        }
        Ok(blocks) => {
            let of_blocks = blocks.iter().filter_map(Block::fallback).cloned();
            refusals.extend(if shape.is_empty() { of_blocks.collect() } else { shape });
            vec![]
        }
        Err(refusal) => {
            refusals.extend(shape.into_iter().chain([refusal]));
            vec![]
        }
    }
}

/// Changes of some table are taken in by delta where they arrive.
fn are_worth_it(blocks: &[Block]) -> bool {
    let reads_table = |block: &Block| block.inputs.iter().any(|input| matches!(input.origin, Origin::Relation(_)));
    // A query may read no table at all.
    let is_whole = blocks.iter().all(|block| block.fallback().is_none());
    is_whole || blocks.iter().any(|block| block.fallback().is_none() && reads_table(block))
}

/// The gravest reason (of several the first one) and the others, each once.
fn by_gravity(mut refusals: Vec<Refusal>) -> (Option<Refusal>, Vec<Refusal>) {
    refusals.sort_by_key(|refusal| Reverse(refusal.effect));
    let mut seen = HashSet::new();
    refusals.retain(|refusal| seen.insert((refusal.code, refusal.detail.clone())));
    let mut refusals = refusals.into_iter();
    (refusals.next(), refusals.collect())
}

impl Circuit {
    /// The same circuit with its trees in the current memory context.
    fn moved(mut self) -> Self {
        self.query = self.query.moved();
        self.blocks = self.blocks.into_iter().map(Block::moved).collect();
        self.clock = self.clock.into_iter().map(ClockValue::moved).collect();
        self
    }
}
