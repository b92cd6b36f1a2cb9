//! Custom scan providers: the nodes of a refresh plan which the server does not have, one file each.

pub mod apply;
pub mod node;
