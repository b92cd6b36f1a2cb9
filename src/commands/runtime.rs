//! Statements that concern the processes: COMMIT PREPARED brings changes to light, and some commands on databases need
//! them without sessions.

use crate::pg::statement::{commits_prepared, databases_to_leave, is_about_databases};
use crate::pg::utility::{Call, Verdict};
use crate::pg::{database, statement};
use crate::wakeup::{self, hold};

/// Runs unguarded: plain reads only.
pub fn concerns(call: &Call) -> bool {
    is_about_databases(call) || commits_prepared(call)
}

pub fn before(call: &Call) -> Verdict {
    if commits_prepared(call) {
        wakeup::everything_changed();
        wakeup::graph_changed();
    }
    if statement::creates_database(call) {
        wakeup::databases_changed();
    }
    databases_to_leave(call).into_iter().filter(|oid| database::may_need_alone(*oid)).for_each(hold::hold);
    Verdict::Pass
}
