//! Realises one term of the rule: a template whose inputs are read as new, delta or old becomes a Query that carries
//! the weight of each of its rows as its last column.
//!
//! * An input that is a block is a subquery in the template; it becomes an entry of the block's hidden relation.
//! * *delta* keeps the entry: the planner hook replaces its paths by a scan of the change buffer, which supplies the
//!   weight as the pseudo system column [`WEIGHT_ATTNO`].
//! * *old* of an input the query is not linear in keeps the entry as well: the planner hook puts a scan above its paths that
//!   takes the changes back row by row. What is there is a bag, whose rows have no weights.
//! * *old* of another input is, as a Z-set, `new - delta`: the entry becomes the UNION ALL of the table with weight 1 and of its delta
//!   with weight `-w`. The planner flattens it into an Append and pushes join clauses to both sides, so an index
//!   serves the old reading as it serves the new one. No netting is needed: joins are bilinear, and the
//!   consumer of a weighted stream nets by image.
//! * The weight of a joined row is the product of the weights of its parts, negated in the negative half of a bracket.
//! * Both halves of a bracket have the restriction to the rows that a change can reach (`restrict.rs`).
//! * Below UNION ALL a term keeps only the leg its delta input is in (`legs`): the others cancel in its bracket.

use super::{query, restrict};
use crate::circuit::{Input, legs, tag};
use crate::delta::{Linearity, Reading};
use crate::exec::delta_scan::{WEIGHT_ATTNO, weight};
use crate::exec::weighted;
use crate::pg::handle::Node;
use crate::pg::list;
use crate::pg::node;
use crate::pg::query::Query;
use crate::pg::stack;
use crate::pg::tree::Tree;
use crate::pg::walk::{self, Scope, Visit};
use pgrx::pg_sys;

/// How the inputs of a block are read in one term.
pub struct Readings<'a> {
    pub inputs: &'a [Input],
    /// The input the term belongs to; None for the whole contents.
    pub input: Option<usize>,
    pub of: &'a [Reading],
    /// Rows are subtracted.
    pub negative: bool,
    /// Only rows that a change of this input can reach are needed.
    pub restricted_by: Option<usize>,
    /// Pending row versions per input, for the planner's estimates.
    pub pending: &'a [f64],
    /// The relation that each input is read from.
    pub relations: &'a [pg_sys::Oid],
}

/// The term's query: a private copy of `template` whose last target column is the int8 weight.
///
/// `readings` describes every input of the template.
pub fn weigh(template: &Tree<pg_sys::Query>, readings: &Readings) -> *mut pg_sys::Query {
    // SAFETY: only the copy is changed.
    unsafe {
        let mut query = match readings.input {
            Some(input) => node::copy(narrowed(template.node(), input)),
            None => template.copy(),
        };
        if let Some(input) = readings.input {
            legs::keep_only(Node::from_raw(query).expect("a copy of a query"), input);
        }
        resolve(query, readings.relations);
        if let Some(input) = readings.restricted_by {
            restrict::restrict(Node::from_raw(query).expect("a copy of a query"), input);
        }
        read_bags(query, readings);
        if !realise(query, readings) {
            if !(*query).setOperations.is_null() {
                // The columns of a set operation are those of its legs and nothing else.
                query = query::select_subquery(query);
            }
            query::append_weight(query, query::int8(1).cast());
        }
        if readings.negative {
            query::negate_weight(query);
        }
        query
    }
}

/// A private copy of a template in which blocks are their hidden relations.
pub fn resolved(template: &Tree<pg_sys::Query>, relations: &[pg_sys::Oid]) -> *mut pg_sys::Query {
    let query = template.copy();
    // SAFETY: a private copy.
    unsafe { resolve(query, relations) };
    query
}

/// Makes blocks entries of their hidden relations, at every level.
unsafe fn resolve(query: *mut pg_sys::Query, relations: &[pg_sys::Oid]) {
    // SAFETY: a private copy; what is inside a block's query has no tags.
    let query = unsafe { Node::<pg_sys::Query>::from_raw(query) }.expect("a copy of a query");
    for level in query.nest() {
        for entry in level.entries() {
            let is_block = entry.get().rtekind == pg_sys::RTEKind::RTE_SUBQUERY;
            if let Some((input, _)) = tag::read(entry).filter(|_| is_block) {
                // SAFETY: as above.
                unsafe { query::become_relation(level.as_ptr(), entry.as_ptr(), relations[input]) };
            }
        }
    }
}

/// Re-points the inputs that are read without weights: those the query is not linear in, and deltas in restrictions.
unsafe fn read_bags(query: *mut pg_sys::Query, readings: &Readings) {
    let visit = &mut |node: crate::pg::handle::Any, _: u32| {
        let entry: Option<Node<pg_sys::RangeTblEntry>> = node.cast();
        let Some((entry, (input, marked))) = entry.and_then(|entry| Some((entry, tag::read(entry)?))) else {
            return Visit::Into;
        };
        match (marked, readings.of[input]) {
            // SAFETY: a base relation entry of a private copy.
            (Reading::Delta, _) => unsafe { read_delta(entry.as_ptr(), input, readings) },
            (_, Reading::Old) if !readings.is_linear(input) => {
                tag::write(entry, input, Reading::Old);
                entry.set(|entry| entry.enrtuples = readings.pending[input]);
            }
            _ => (),
        }
        Visit::Into
    };
    // SAFETY: a private copy.
    let query = unsafe { Node::from_raw(query) }.expect("a copy of a query");
    walk::walk(query, Scope::ENTRIES, visit);
}

impl<'a> Readings<'a> {
    /// Of the whole contents, where `new` is that for every input.
    pub fn of_all(inputs: &'a [Input], new: &'a [Reading], relations: &'a [pg_sys::Oid]) -> Self {
        Self { inputs, input: None, of: new, negative: false, restricted_by: None, pending: &[], relations }
    }

    fn is_linear(&self, input: usize) -> bool {
        self.inputs[input].linearity == Linearity::Linear
    }

    /// Whether the rows of an input have weights.
    fn is_weighted(&self, input: usize) -> bool {
        self.is_linear(input) && self.of[input] != Reading::New
    }
}

/// The query without the legs that `legs::keep_only` will drop: to be copied, not changed, since what is left is shared with the
/// template. Copies of all legs for the term of each would take time and memory in the square of their number.
unsafe fn narrowed(query: Query, input: usize) -> *mut pg_sys::Query {
    stack::check();
    // SAFETY: a node is copied whole; `entry` is a member of the list that is copied.
    unsafe {
        let narrow: *mut pg_sys::Query = node::make(pg_sys::NodeTag::T_Query);
        *narrow = query.get();
        let mut entries: Vec<_> = query.entries().into_iter().map(|entry| entry.as_ptr()).collect();
        let mut within = legs::linear_entries(query);
        if let Some(leg) = legs::leg_of(query, input) {
            entries = vec![entries[leg]];
            within = vec![0];
            let only: *mut pg_sys::RangeTblRef = node::make(pg_sys::NodeTag::T_RangeTblRef);
            (*only).rtindex = 1;
            (*narrow).setOperations = only.cast();
        }
        for index in within {
            let entry = &mut entries[index];
            if read_tag(*entry).is_some() {
                continue;
            }
            if let Some(inner) = Node::from_raw((**entry).subquery) {
                let copy: *mut pg_sys::RangeTblEntry = node::make(pg_sys::NodeTag::T_RangeTblEntry);
                *copy = **entry;
                (*copy).subquery = narrowed(inner, input);
                *entry = copy;
            }
        }
        (*narrow).rtable = list::make(entries);
        narrow
    }
}

/// Re-points the inputs below `query`; returns whether it now has a weight column.
unsafe fn realise(query: *mut pg_sys::Query, readings: &Readings) -> bool {
    stack::check();
    // SAFETY: `query` is a private copy.
    unsafe {
        if (*query).setOperations.is_null() { realise_join(query, readings) } else { realise_union(query, readings) }
    }
}

/// A UNION ALL that is only read as new or old: every branch gets a weight column as soon as one has.
unsafe fn realise_union(query: *mut pg_sys::Query, readings: &Readings) -> bool {
    // SAFETY: the branches are subquery entries of a private copy.
    unsafe {
        let branches: Vec<_> = list::iter::<pg_sys::RangeTblEntry>((*query).rtable).collect();
        if !branches.iter().any(|&rte| is_weighted((*rte).subquery, readings)) {
            return false;
        }
        for &rte in &branches {
            if !realise((*rte).subquery, readings) {
                add_unit_weight(rte);
            }
            query::name_weight(rte);
        }
        let leftmost = query::widen_union((*query).setOperations);
        let column = weighted::column((*branches[leftmost as usize - 1]).subquery);
        query::append_weight(query, query::int8_var(leftmost, column).cast());
        true
    }
}

/// Weight 1 for an entry's subquery that has none.
unsafe fn add_unit_weight(rte: *mut pg_sys::RangeTblEntry) {
    // SAFETY: a private subquery entry. The columns of a set operation are those of its legs and nothing else.
    unsafe {
        if !(*(*rte).subquery).setOperations.is_null() {
            (*rte).subquery = query::select_subquery((*rte).subquery);
        }
        query::append_weight((*rte).subquery, query::int8(1).cast());
    }
}

/// A join: collects the weights of its entries and appends their product.
unsafe fn realise_join(query: *mut pg_sys::Query, readings: &Readings) -> bool {
    let mut product: *mut pg_sys::Expr = std::ptr::null_mut();
    // SAFETY: entries of a private copy, edited in place.
    unsafe {
        let entries: Vec<_> = list::iter::<pg_sys::RangeTblEntry>((*query).rtable).collect();
        for (index, rte) in entries.into_iter().enumerate() {
            if let Some(column) = realise_entry(query, rte, readings) {
                let factor = query::int8_var(index as i32 + 1, column).cast();
                product = if product.is_null() { factor } else { query::multiply(product, factor) };
            }
        }
        if !product.is_null() {
            query::append_weight(query, product);
        }
    }
    !product.is_null()
}

/// Re-points one entry; returns the attribute that holds its weight, if it has one.
unsafe fn realise_entry(
    query: *mut pg_sys::Query,
    rte: *mut pg_sys::RangeTblEntry,
    readings: &Readings,
) -> Option<i16> {
    // SAFETY: `rte` belongs to the private copy `query`.
    unsafe {
        match (*rte).rtekind {
            pg_sys::RTEKind::RTE_RELATION => {
                let (input, _) = read_tag(rte).filter(|&(input, _)| readings.is_weighted(input))?;
                match readings.of[input] {
                    Reading::New => None,
                    Reading::Delta => {
                        read_delta(rte, input, readings);
                        Some(WEIGHT_ATTNO)
                    }
                    Reading::Old => Some(read_old(query, rte, input, readings)),
                }
            }
            pg_sys::RTEKind::RTE_SUBQUERY => realise((*rte).subquery, readings).then(|| {
                query::name_weight(rte);
                weighted::column((*rte).subquery)
            }),
            _ => None,
        }
    }
}

/// Marks the entry for the planner hooks. The buffer holds a partitioned root's rows in root format.
unsafe fn read_delta(rte: *mut pg_sys::RangeTblEntry, input: usize, readings: &Readings) {
    // SAFETY: a base relation entry of a private copy.
    unsafe {
        tag::write(Node::from_raw(rte).expect("an entry"), input, Reading::Delta);
        (*rte).inh = false;
        (*rte).relkind = pg_sys::RELKIND_RELATION as std::ffi::c_char;
        (*rte).enrtuples = readings.pending[input];
    }
}

/// Turns a base entry into `(SELECT *, 1 FROM t) UNION ALL (SELECT *, -w FROM delta t)`; column numbers are kept.
unsafe fn read_old(
    query: *mut pg_sys::Query,
    rte: *mut pg_sys::RangeTblEntry,
    input: usize,
    readings: &Readings,
) -> i16 {
    // SAFETY: the entry is copied into two one-table queries and then becomes a subquery entry itself.
    unsafe {
        let new_side = query::select_columns(query, rte);
        query::append_weight(new_side, query::int8(1).cast());
        let delta_side = query::select_columns(query, rte);
        let delta = list::iter::<pg_sys::RangeTblEntry>((*delta_side).rtable).next().expect("one entry");
        read_delta(delta, input, readings);
        query::append_weight(delta_side, query::negate(weight(1).cast()));
        let union = query::union_all(&[new_side, delta_side]);
        query::become_subquery(rte, union);
        tag::write(Node::from_raw(rte).expect("an entry"), input, Reading::Old);
        weighted::column(union)
    }
}

/// Is some input anywhere below `query` read with weights?
unsafe fn is_weighted(query: *mut pg_sys::Query, readings: &Readings) -> bool {
    stack::check();
    // SAFETY: only reads.
    unsafe {
        list::iter::<pg_sys::RangeTblEntry>((*query).rtable).any(|rte| match (*rte).rtekind {
            pg_sys::RTEKind::RTE_SUBQUERY => is_weighted((*rte).subquery, readings),
            pg_sys::RTEKind::RTE_RELATION => read_tag(rte).is_some_and(|(input, _)| readings.is_weighted(input)),
            _ => false,
        })
    }
}

unsafe fn read_tag(rte: *mut pg_sys::RangeTblEntry) -> Option<(usize, Reading)> {
    // SAFETY: a live entry.
    tag::read(unsafe { Node::from_raw(rte) }?)
}
