//! ALTER EXTENSION pg_trickle UPDATE while everything else goes on.
//!
//! The server runs the update script as one transaction. Before that begins, it waits here until nobody relies on the SQL
//! objects; refreshes and commands that come later wait for it, writers do not (catalog/version.rs).

use super::drop::EXTENSION;
use crate::catalog::version;
use crate::pg::statement::updates_extension;
use crate::pg::utility::{Call, Verdict};
use crate::pg::{identity, privilege};
use crate::wakeup;

pub fn before(call: &Call) -> Verdict {
    // Who may not do it waits for nobody and lets nobody wait.
    if !updates_extension(call, EXTENSION) || !privilege::owns_extension(EXTENSION, identity::current_user()) {
        return Verdict::Pass;
    }
    privilege::require_writable("ALTER EXTENSION");
    version::exclude();
    Verdict::Core(None, Box::new(|_| updated()))
}

/// Other sessions learn of it by the invalidation of the extension's row; this one was told of that before the script ran.
fn updated() {
    version::forget();
    wakeup::graph_changed();
}
