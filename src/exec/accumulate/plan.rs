//! The plan node: what a running node must know, written as nodes the server can copy.

use super::Accumulate;
use super::state::FoundBy;
use crate::circuit;
use crate::exec::fold::definition::Definition;
use crate::exec::node as custom;
use crate::exec::private::private;
use crate::exec::rebuild::Rebuild;
use crate::exec::weighted;
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

private!(
    enum Mode {
        Delta,
        Rebuild,
        Groups,
    }
);

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
        node.spec.aggregates.iter().map(|aggregate| Definition::resolve(aggregate, owner).planned(owner)).collect();
    // SAFETY: the circuit's trees are copied before anything is done to them.
    unsafe {
        let output = prepare(node.spec.output.copy(), owner);
        let having = node.spec.having.as_ref().map_or(std::ptr::null_mut(), |having| prepare(having.copy(), owner));
        let of_groups = node.mode == Mode::Groups;
        let (results, weight) = if of_groups {
            (stored_results(child, &definitions), weighted::constant(1).cast())
        } else {
            let over = |definition: &Definition| definition.over(pg_sys::OUTER_VAR).cast();
            (definitions.iter().map(over).collect(), weighted::of_child(child))
        };
        let columns = shown(output, node.spec.keys.len(), results, weight);
        let spec = Spec {
            mode: node.mode,
            state: node.state,
            found_by: FoundBy::of(node.spec),
            keys: node.spec.keys.iter().map(Key::of).collect(),
            definitions,
            output,
            having,
            recompute: node.recompute.map(|plan| plan.unwrap_or(std::ptr::null_mut())),
        };
        if of_groups {
            custom::plan_over::<Rebuild>(child, columns, &spec).cast()
        } else {
            custom::plan_over::<Accumulate>(child, columns, &spec).cast()
        }
    }
}

/// A group key as the plan knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    pub typid: pg_sys::Oid,
    pub typmod: i32,
    pub collation: pg_sys::Oid,
    pub equality: pg_sys::Oid,
    pub image_equal: bool,
}

impl Key {
    fn of(key: &circuit::GroupKey) -> Self {
        Self {
            typid: key.typid,
            typmod: key.typmod,
            collation: key.collation,
            equality: key.eq_op,
            image_equal: key.image_equal,
        }
    }
}

private!(struct Key { typid, typmod, collation, equality, image_equal });

/// What the plan carries.
pub struct Spec {
    pub mode: Mode,
    /// The state table.
    pub state: pg_sys::Oid,
    pub found_by: FoundBy,
    pub keys: Vec<Key>,
    pub definitions: Vec<Definition>,
    /// The view's columns over keys and results.
    pub output: *mut pg_sys::List,
    /// Null where there is none.
    pub having: *mut pg_sys::Node,
    /// Null where they cannot be needed.
    pub recompute: [*mut pg_sys::PlannedStmt; 2],
}

private!(
    enum FoundBy {
        Key,
        Hash,
        Only,
    }
);
private!(struct Spec { mode, state, found_by, keys, definitions, output, having, recompute });

impl Spec {
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
        weighted::with(columns, weight)
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
