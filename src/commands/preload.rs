//! What CREATE EXTENSION asks first.

use crate::settings;
use pgrx::pg_extern;

#[pg_extern]
fn require_preload() {
    settings::require_preloaded();
}
