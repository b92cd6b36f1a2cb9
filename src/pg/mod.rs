//! THE FENCE: safe handles over server pointers. Raw pointers do not cross a stage boundary outside these types.

pub mod image;
pub mod list;
pub mod node;
pub mod relation;
pub mod server;
pub mod slot;
pub mod tree;
