//! Query -> circuit: the view's rewritten Query as blocks (DESIGN section 3).
//!
//! A block is a Query fragment kept as a template (joins, WHERE, expressions, UNION ALL: what the core planner does
//! well) topped by at most one stateful operator (what it cannot do incrementally). `build` is the one entry point.

use crate::pg::tree::Tree;
use pgrx::pg_sys;

pub use crate::delta::Linearity;

/// What the extension knows about a view's query, rebuilt whenever anything it depends on changes.
pub struct Circuit {
    pub view: pg_sys::Oid,
    /// The rewritten query (plain views expanded, CTEs inlined where that is exact): for recompute.
    pub query: Tree<pg_sys::Query>,
    /// Every relation the query reads, once each, in oid order.
    pub sources: Vec<Source>,
    /// Blocks bottom-up; the last one's output is the view. Empty when the view is maintained by recompute.
    pub blocks: Vec<Block>,
    /// Why there are no blocks.
    pub refusal: Option<Refusal>,
    /// View columns (0-based) that are a unique key of the result; None: the view is a bag.
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

/// A template and its operator.
pub struct Block {
    /// Query without grouping whose inputs are tagged (`tag::of`); its target list is the view's columns (Pass) or
    /// the group keys followed by the aggregates' arguments (Accumulate).
    pub template: Tree<pg_sys::Query>,
    pub inputs: Vec<Input>,
    pub operator: Operator,
}

/// One occurrence of a relation in a template; its number is its index in `Block::inputs`.
pub struct Input {
    pub relid: pg_sys::Oid,
    pub linearity: Linearity,
}

pub enum Operator {
    Pass,
    Accumulate(Accumulate),
}

/// GROUP BY, global aggregates, HAVING and the output expressions over them.
pub struct Accumulate {
    /// Template columns 1..=keys.len() in this order. Empty for global aggregates (always exactly one group).
    pub keys: Vec<GroupKey>,
    pub aggregates: Vec<Aggregate>,
    /// Target entries in view column order; a Var (OUTER_VAR, n) is group key n for n <= keys.len(),
    /// else the result of aggregate n - keys.len() (1-based).
    pub output: Tree<pg_sys::List>,
    /// HAVING over the same Vars (an expression, not a list).
    pub having: Option<Tree<pg_sys::Node>>,
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
    /// 1-based template column of FILTER's condition.
    pub filter: Option<usize>,
    pub ability: Ability,
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
    pub hint: &'static str,
    /// The query must not be a stream table at all (volatile or time-dependent output, ...), not even by recompute.
    pub fatal: bool,
}
