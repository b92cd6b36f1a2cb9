//! Custom scan providers: the nodes of a refresh plan which the server does not have, one file each.

pub mod accumulate;
pub mod apply;
pub mod fold;
pub mod node;
