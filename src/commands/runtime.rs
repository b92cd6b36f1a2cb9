//! Statements that concern the processes: COMMIT PREPARED brings changes to light, some commands on databases need them
//! without sessions, and ALTER DATABASE .. SET pg_trickle.enabled is about the processes that connect later.

use crate::pg::statement::{commits_prepared, databases_to_leave, is_about_databases};
use crate::pg::utility::{Call, Verdict};
use crate::pg::{database, statement};
use crate::wakeup::{self, hold};
use pgrx::pg_sys::NodeTag;
use std::ffi::CStr;

/// Runs unguarded: plain reads only.
pub fn concerns(call: &Call) -> bool {
    is_about_databases(call) || commits_prepared(call) || is_about_settings(call)
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
    if let Some(database) = statement::sets_for_database(call, ENABLED) {
        let databases = database.map_or_else(database::all, |database| vec![database]);
        // Those that come when the transaction has ended find what it has set.
        for oid in databases.into_iter().filter(|oid| database::may_need_alone(*oid)) {
            hold::hold(oid);
            wakeup::scheduler_wanted(oid);
        }
    }
    Verdict::Pass
}

const ENABLED: &CStr = c"pg_trickle.enabled";

fn is_about_settings(call: &Call) -> bool {
    matches!(call.tag(), NodeTag::T_AlterDatabaseSetStmt | NodeTag::T_AlterRoleSetStmt)
}
