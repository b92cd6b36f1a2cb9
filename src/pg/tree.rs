//! A read-only node tree kept in a long-lived memory context.

use super::handle::Node;
use super::node;
use pgrx::pg_sys;
use std::ptr::NonNull;

/// A node tree nobody changes: plan trees and templates are read-only, work happens on copies.
/// Whoever holds it also holds the memory context it lives in (the circuit's).
pub struct Tree<T>(NonNull<T>);

impl<T> Tree<T> {
    /// # Safety
    /// `node` is not null and outlives this handle unchanged.
    pub unsafe fn new(node: *mut T) -> Self {
        Self(NonNull::new(node).expect("a tree has a root"))
    }

    /// For reading only.
    pub fn as_ptr(&self) -> *mut T {
        self.0.as_ptr()
    }

    /// A private copy in the current memory context.
    pub fn copy(&self) -> *mut T {
        // SAFETY: the tree is alive and unchanged by contract of `new`.
        unsafe { node::copy(self.0.as_ptr()) }
    }

    /// A handle for reading it.
    pub fn node(&self) -> Node<T> {
        // SAFETY: not null, alive by contract of `new`.
        unsafe { Node::from_raw(self.0.as_ptr()) }.expect("a tree has a root")
    }

    /// The same tree in the current memory context, for when the one it is in goes away.
    pub fn moved(&self) -> Self {
        // SAFETY: a fresh copy that nobody else can change.
        unsafe { Self::new(self.copy()) }
    }

    /// The tree's text form, for fingerprints and debugging.
    pub fn text(&self) -> String {
        // SAFETY: nodeToString only reads.
        unsafe { node::string(pg_sys::nodeToString(self.0.as_ptr().cast())) }
    }
}

impl<T> Clone for Tree<T> {
    fn clone(&self) -> Self {
        Self(self.0)
    }
}
