//! The plan node: what a running node must know, written as nodes the server can copy.

use super::Accumulate;
use super::state::FoundBy;
use crate::circuit;
use crate::exec::fold::definition::Definition;
use crate::exec::node::{self as custom, Node};
use crate::exec::rebuild::Rebuild;
use crate::pg::identity::AsOwner;
use crate::pg::{list, node};
use pgrx::pg_sys;

/// What the input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The template's delta: groups change.
    Delta,
    /// All rows of the template, and the state table is empty: groups are made.
    Rebuild,
    /// The same, but what comes in are the groups, as TrickleRebuild takes them.
    Groups,
}

/// What `wrap` puts on top of a plan.
pub struct AccumulateNode<'a> {
    pub spec: &'a circuit::Accumulate,
    /// The state table.
    pub state: pg_sys::Oid,
    pub mode: Mode,
    /// Gives all rows of the groups whose keys are in the tuplestore named by [`KEYS`], sorted as the input is.
    /// One for keys without NULLs, one for keys with. A delta may need them whenever an aggregate is not invertible
    /// or an inverse function can refuse.
    pub recompute: [Option<*mut pg_sys::PlannedStmt>; 2],
}

/// Name of the tuplestore a recompute plan reads keys from.
pub const KEYS: &std::ffi::CStr = c"pg_trickle_keys";

/// Puts the node on top of `child`, whose rows are what the mode says.
///
/// # Safety
/// `child` is a finished plan.
pub unsafe fn wrap(child: *mut pg_sys::Plan, node: AccumulateNode, owner: &AsOwner) -> *mut pg_sys::Plan {
    let definitions: Vec<_> =
        node.spec.aggregates.iter().map(|aggregate| Definition::resolve(aggregate, owner)).collect();
    // SAFETY: the circuit's trees are copied before anything is done to them.
    unsafe {
        let output = prepare(node.spec.output.copy(), owner);
        let having = node.spec.having.as_ref().map_or(std::ptr::null_mut(), |having| prepare(having.copy(), owner));
        let private = private(&node, &definitions, output, having, owner);
        if node.mode == Mode::Groups {
            let columns = shown(output, node.spec.keys.len(), stored_results(child, &definitions), one());
            return custom::plan_over::<Rebuild>(child, columns, private).cast();
        }
        let results = definitions.iter().map(|definition| definition.over(pg_sys::OUTER_VAR).cast()).collect();
        let columns = shown(output, node.spec.keys.len(), results, weight_of(child));
        custom::plan_over::<Accumulate>(child, columns, private).cast()
    }
}

/// Positions in the private list.
mod item {
    pub const MODE: usize = 0;
    pub const OIDS: usize = 1;
    pub const KEYS: usize = 2;
    pub const AGGREGATES: usize = 3;
    pub const OUTPUT: usize = 4;
    pub const HAVING: usize = 5;
    pub const RECOMPUTE: usize = 6;
}

unsafe fn private(
    node: &AccumulateNode,
    definitions: &[Definition],
    output: *mut pg_sys::List,
    having: *mut pg_sys::Node,
    owner: &AsOwner,
) -> *mut pg_sys::List {
    let keys = &node.spec.keys;
    let oids = keys.iter().flat_map(|key| [key.typid, key.collation, key.eq_op]);
    let ints = keys.iter().flat_map(|key| [key.typmod, key.image_equal.into()]);
    let plan = |plan: Option<*mut pg_sys::PlannedStmt>| plan.map_or(std::ptr::null_mut(), |plan| plan.cast());
    // SAFETY: new lists in the planner's context.
    unsafe {
        let parts: [*mut pg_sys::Node; 8] = [
            list::make_ints([(node.mode != Mode::Delta).into(), FoundBy::of(node.spec) as i32]).cast(),
            list::make_oids([node.state].into_iter().chain(oids)).cast(),
            list::make_ints(ints).cast(),
            list::make(definitions.iter().map(|definition| definition.to_nodes(owner))).cast(),
            output.cast(),
            having,
            plan(node.recompute[0]),
            plan(node.recompute[1]),
        ];
        list::make(parts)
    }
}

/// A group key as the plan knows it.
pub struct Key {
    pub typid: pg_sys::Oid,
    pub typmod: i32,
    pub collation: pg_sys::Oid,
    pub equality: pg_sys::Oid,
    pub image_equal: bool,
}

/// The private list, read back.
pub struct Spec {
    pub mode: Mode,
    pub state: pg_sys::Oid,
    pub found_by: FoundBy,
    pub keys: Vec<Key>,
    pub definitions: Vec<Definition>,
    pub output: *mut pg_sys::List,
    pub having: *mut pg_sys::Node,
    pub recompute: [*mut pg_sys::PlannedStmt; 2],
}

impl Spec {
    pub fn of(node: Node) -> Self {
        // SAFETY: the list was made by `private`; the plan lives as long as the query.
        unsafe {
            let modes: Vec<i32> = list::ints(node.private(item::MODE)).collect();
            let oids: Vec<_> = list::oids(node.private(item::OIDS)).collect();
            let ints: Vec<_> = list::ints(node.private(item::KEYS)).collect();
            let keys = oids[1..].chunks(3).zip(ints.chunks(2)).map(|(oids, ints)| Key {
                typid: oids[0],
                collation: oids[1],
                equality: oids[2],
                typmod: ints[0],
                image_equal: ints[1] != 0,
            });
            Self {
                mode: if modes[0] != 0 { Mode::Rebuild } else { Mode::Delta },
                state: oids[0],
                found_by: [FoundBy::Key, FoundBy::Hash, FoundBy::Only][modes[1] as usize],
                keys: keys.collect(),
                definitions: list::iter(node.private(item::AGGREGATES))
                    .map(|nodes| Definition::from_nodes(nodes))
                    .collect(),
                output: node.private(item::OUTPUT),
                having: node.private(item::HAVING),
                recompute: [node.private(item::RECOMPUTE), node.private(item::RECOMPUTE + 1)],
            }
        }
    }

    /// Groups may have to be recomputed, beyond what an inverse function refuses.
    pub fn may_recompute(&self) -> bool {
        self.keys.iter().any(|key| !key.image_equal)
            || self.definitions.iter().any(|definition| definition.ability != circuit::Ability::Invertible)
    }
}

/// What the planner does to expressions before the executor may see them.
unsafe fn prepare<T>(expr: *mut T, owner: &AsOwner) -> *mut T {
    owner.check();
    // SAFETY: a private copy; expression_planner takes lists as well.
    unsafe { pg_sys::expression_planner(expr.cast()).cast() }
}

/// The output as EXPLAIN shows it: `results` in place of references to them, then the weight.
unsafe fn shown(
    output: *mut pg_sys::List,
    keys: usize,
    mut results: Vec<*mut pg_sys::Expr>,
    weight: *mut pg_sys::Expr,
) -> *mut pg_sys::List {
    // SAFETY: the mutator copies the list and `show` outlives it.
    unsafe {
        let mut show = Show { keys, results: results.as_mut_ptr() };
        let columns: *mut pg_sys::List = show_results(output.cast(), (&raw mut show).cast()).cast();
        let number = list::iter::<pg_sys::TargetEntry>(columns).count() as i16 + 1;
        let entry = pg_sys::makeTargetEntry(weight, number, node::cstring("weight"), false);
        pg_sys::lappend(columns, entry.cast())
    }
}

/// The weight of rows of new groups.
fn one() -> *mut pg_sys::Expr {
    // SAFETY: a by-value constant.
    unsafe { pg_sys::makeConst(pg_sys::INT8OID, -1, pg_sys::InvalidOid, 8, 1i64.into(), false, true).cast() }
}

/// The child's last column.
unsafe fn weight_of(child: *mut pg_sys::Plan) -> *mut pg_sys::Expr {
    // SAFETY: plain node construction.
    unsafe {
        let position = list::iter::<pg_sys::TargetEntry>((*child).targetlist).count() as i16;
        pg_sys::makeVar(pg_sys::OUTER_VAR, position, pg_sys::INT8OID, -1, pg_sys::InvalidOid, 0).cast()
    }
}

/// The child's columns that hold the states, the last ones, standing for the results.
unsafe fn stored_results(child: *mut pg_sys::Plan, definitions: &[Definition]) -> Vec<*mut pg_sys::Expr> {
    // SAFETY: plain node construction over live Aggrefs.
    unsafe {
        let width = list::iter::<pg_sys::TargetEntry>((*child).targetlist).count();
        let column = |(index, definition): (usize, &Definition)| {
            let (position, aggref) = (width - definitions.len() + index + 1, definition.aggref);
            pg_sys::makeVar(pg_sys::OUTER_VAR, position as i16, (*aggref).aggtype, -1, (*aggref).aggcollid, 0).cast()
        };
        definitions.iter().enumerate().map(column).collect()
    }
}

struct Show {
    keys: usize,
    results: *mut *mut pg_sys::Expr,
}

/// Replaces Vars of aggregate results.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn show_results(from: *mut pg_sys::Node, context: *mut std::ffi::c_void) -> *mut pg_sys::Node {
    // SAFETY: called by the server's mutator with a live node and the context given to it.
    unsafe {
        if node::is_a(from, pg_sys::NodeTag::T_Var) {
            let (var, show) = (from.cast::<pg_sys::Var>(), &*context.cast::<Show>());
            let number = (*var).varattno as usize;
            if (*var).varno == pg_sys::OUTER_VAR && number > show.keys {
                return node::copy(*show.results.add(number - show.keys - 1)).cast();
            }
        }
        pg_sys::expression_tree_mutator_impl(from, Some(show_results), context)
    }
}
