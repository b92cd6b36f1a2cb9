//! What pg_upgrade executes while it restores a schema: nothing of it is ours but CREATE MATERIALIZED VIEW, but some of it
//! says where capture triggers have to be.

use crate::capture::restore;
use crate::pg;
use crate::pg::names::RangeVar;
use crate::pg::statement::{self, AlterRelation};
use crate::pg::utility::{Call, Verdict};
use pgrx::pg_sys::NodeTag;

pub use crate::capture::restore::{pending, settle};

/// The statement matters in an upgrade only.
pub fn concerns(call: &Call) -> bool {
    call.tag() == NodeTag::T_CreatePolicyStmt && pg::upgrading()
}

pub fn before(call: &Call) -> Verdict {
    let altered = AlterRelation::of(call).map(|alter| (alter.relation(), alter.relatives()));
    let altered = altered.into_iter().flat_map(|(relation, relatives)| relatives.into_iter().chain([relation]));
    let created = statement::created_table(call);
    let others = [created, statement::replaced_view(call), statement::policy_table(call)];
    let names: Vec<RangeVar> = altered.chain(others.into_iter().flatten()).collect();
    match names.is_empty() {
        true => Verdict::Pass,
        false => {
            let after = move |_: &Call| names.into_iter().filter_map(RangeVar::find).for_each(restore::note);
            Verdict::Core(None, Box::new(after))
        }
    }
}
