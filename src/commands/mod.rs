//! Statements and SQL functions: what users say to the extension.

pub mod accepted;
pub mod alter;
pub mod bulk;
pub mod create;
pub mod drop;
pub mod former;
pub mod functions;
pub mod hook;
pub mod preload;
pub mod redefinition;
pub mod refresh_stmt;
pub mod restore;
pub mod runtime;
pub mod source_ddl;
pub mod statistics;
pub mod update;
pub mod waiting;

use crate::pg::utility;

/// Called once, when the server preloads the library.
pub fn register() {
    utility::register::<hook::Commands>();
    utility::watch::<hook::Commands>();
}
