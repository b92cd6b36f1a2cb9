//! What a view is registered as: its options, whether its query can be maintained, and what is set up and taken down
//! as it becomes, is and ceases to be a stream table.

mod life;
pub mod named;
pub mod options;
mod pinned;
pub mod refusal;

pub use life::{attach, detach, forget, refuse_cycles, register, release, renew_state, resync, resync_dependants};
