//! What a view is registered as: its options, whether its query can be maintained, and what is set up and taken down
//! as it becomes, is and ceases to be a stream table.

mod callers;
mod company;
mod life;
pub mod named;
pub mod options;
mod pinned;
pub mod refusal;

pub use callers::warn_of as warn_of_callers;
pub use company::{followers, require_permission, sources_of_company, suspend_unpermitted};
pub use life::{
    adopt, attach, compare, detach, follow_keys, forget, layouts, lock_graph, reads_itself, refuse_cycles, register,
    release, renew_state, resync, resync_dependants,
};
