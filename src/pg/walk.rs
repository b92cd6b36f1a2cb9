//! Tree walkers and mutators of the server with closures for callbacks.
//!
//! `depth` counts the Query nodes between the root's own level and the visited node, which is what `varlevelsup` and
//! `ctelevelsup` are compared with.

use super::handle::{Any, Node};
use pgrx::{pg_guard, pg_sys};
use std::ffi::c_void;

/// Which parts of a Query the walk visits, beyond its expressions, subqueries, CTEs and range table contents.
#[derive(Clone, Copy)]
pub struct Scope(u32);

impl Scope {
    /// Expressions, subqueries, CTEs and functions; not the alias lists of joins, which only repeat them.
    pub const EXPRESSIONS: Self = Self(pg_sys::QTW_IGNORE_JOINALIASES);
    /// The same, alias lists too.
    pub const EVERYTHING: Self = Self(0);
    /// Expressions and every range table entry before its contents.
    pub const ENTRIES: Self = Self(pg_sys::QTW_IGNORE_JOINALIASES | pg_sys::QTW_EXAMINE_RTES_BEFORE);
}

/// What to do after visiting a node.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Visit {
    Into,
    Over,
    Stop,
}

struct Walker<'a> {
    visit: &'a mut dyn FnMut(Any, u32) -> Visit,
    depth: u32,
    scope: Scope,
}

/// Visits the nodes of a tree top down; true when the visitor stopped. A root Query is not visited itself.
pub fn walk<T>(root: Node<T>, scope: Scope, visit: &mut dyn FnMut(Any, u32) -> Visit) -> bool {
    let mut walker = Walker { visit, depth: 0, scope };
    let context = (&raw mut walker).cast::<c_void>();
    // SAFETY: root is alive; `step` gets the walker this frame keeps.
    unsafe {
        match root.cast::<pg_sys::Query>() {
            Some(query) => pg_sys::query_tree_walker_impl(query.as_ptr(), Some(step), context, scope.0 as i32),
            None => step(root.any().as_ptr(), context),
        }
    }
}

/// Whether any node satisfies the test.
pub fn any<T>(root: Node<T>, scope: Scope, mut test: impl FnMut(Any, u32) -> bool) -> bool {
    walk(root, scope, &mut |node, depth| if test(node, depth) { Visit::Stop } else { Visit::Into })
}

/// # Safety
/// `node` is null or alive; `context` points to the Walker of the running `walk`.
#[pg_guard]
unsafe extern "C-unwind" fn step(node: *mut pg_sys::Node, context: *mut c_void) -> bool {
    let walker = context.cast::<Walker>();
    // SAFETY: by contract; the borrow of the visitor ends before the walk goes on.
    unsafe {
        let Some(handle) = Node::from_raw(node) else { return false };
        match ((*walker).visit)(handle, (*walker).depth) {
            Visit::Stop => true,
            Visit::Over => false,
            // The server's range table walker goes into an entry by itself.
            Visit::Into if handle.is::<pg_sys::RangeTblEntry>() => false,
            Visit::Into => descend(handle, walker),
        }
    }
}

/// # Safety
/// As for `step`.
unsafe fn descend(node: Any, walker: *mut Walker) -> bool {
    // SAFETY: by contract.
    unsafe {
        let Some(query) = node.cast::<pg_sys::Query>() else {
            return pg_sys::expression_tree_walker_impl(node.as_ptr(), Some(step), walker.cast());
        };
        (*walker).depth += 1;
        let stopped =
            pg_sys::query_tree_walker_impl(query.as_ptr(), Some(step), walker.cast(), (*walker).scope.0 as i32);
        (*walker).depth -= 1;
        stopped
    }
}

struct Mutator<'a> {
    replace: &'a mut dyn FnMut(Any, u32) -> Option<Any>,
    depth: u32,
}

/// A copy of the tree in which every node for which `replace` gives one is replaced by it (and not looked into).
/// A root Query is not offered for replacement.
pub fn mutate<T>(root: Node<T>, replace: &mut dyn FnMut(Any, u32) -> Option<Any>) -> Node<T> {
    let mut mutator = Mutator { replace, depth: 0 };
    let context = (&raw mut mutator).cast::<c_void>();
    // SAFETY: root is alive; the callbacks return nodes of the kind their place needs.
    unsafe {
        let copy: *mut T = match root.cast::<pg_sys::Query>() {
            Some(query) => pg_sys::query_tree_mutator_impl(query.as_ptr(), Some(change), context, 0).cast(),
            None => change(root.any().as_ptr(), context).cast(),
        };
        Node::from_raw(copy).expect("a mutated tree has a root")
    }
}

/// # Safety
/// `node` is null or alive; `context` points to the Mutator of the running `mutate`.
#[pg_guard]
unsafe extern "C-unwind" fn change(node: *mut pg_sys::Node, context: *mut c_void) -> *mut pg_sys::Node {
    let mutator = context.cast::<Mutator>();
    // SAFETY: by contract; the borrow of the closure ends before the mutation goes on.
    unsafe {
        let Some(handle) = Node::from_raw(node) else { return node };
        if let Some(other) = ((*mutator).replace)(handle, (*mutator).depth) {
            return other.as_ptr();
        }
        let Some(query) = handle.cast::<pg_sys::Query>() else {
            return pg_sys::expression_tree_mutator_impl(node, Some(change), context);
        };
        (*mutator).depth += 1;
        let copy = pg_sys::query_tree_mutator_impl(query.as_ptr(), Some(change), context, 0);
        (*mutator).depth -= 1;
        copy.cast()
    }
}

/// The functions a node calls by itself (operators, casts through text, aggregates included), not those of its children.
pub fn functions(node: Any) -> Vec<pg_sys::Oid> {
    let mut found: Vec<pg_sys::Oid> = vec![];
    // SAFETY: node is alive; `collect` gets the vector this frame keeps.
    unsafe { pg_sys::check_functions_in_node(node.as_ptr(), Some(collect), (&raw mut found).cast()) };
    found
}

/// # Safety
/// `context` points to the vector of the running `functions`.
#[pg_guard]
unsafe extern "C-unwind" fn collect(function: pg_sys::Oid, context: *mut c_void) -> bool {
    // SAFETY: by contract.
    unsafe { (*context.cast::<Vec<pg_sys::Oid>>()).push(function) };
    false
}
