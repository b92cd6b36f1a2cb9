//! THE FENCE: safe handles over server pointers. Raw pointers do not cross a stage boundary outside these types.

pub mod aggregates;
pub mod catalog_table;
pub mod clock;
pub mod comparison;
pub mod construct;
pub mod database;
pub mod depend;
pub mod elog;
pub mod execute;
pub mod explain;
pub mod facts;
pub mod handle;
pub mod identity;
pub mod image;
pub mod index_tree;
pub mod indexes;
pub mod inline;
pub mod internal_table;
pub mod interrupt;
pub mod invalidation;
pub mod list;
pub mod lock;
pub mod memory;
pub mod names;
pub mod node;
pub mod notes;
pub mod notify;
pub mod privilege;
#[macro_use]
pub mod process;
pub mod progress;
pub mod query;
pub mod relation;
pub mod reloptions;
pub mod sequence;
pub mod server;
#[cfg(feature = "pg_test")]
mod server_tests;
pub mod shared;
pub mod slot;
pub mod snapshot;
pub mod stack;
pub mod statement;
pub mod storage;
pub mod tree;
pub mod unique;
pub mod utility;
pub mod value;
pub mod walk;
pub mod xact;

use std::ffi::CStr;

/// The postmaster is loading shared_preload_libraries.
pub fn preloading() -> bool {
    // SAFETY: a plain flag of a single-threaded process.
    unsafe { pgrx::pg_sys::process_shared_preload_libraries_in_progress }
}

/// pg_upgrade is restoring this database's schema.
pub fn upgrading() -> bool {
    // SAFETY: a plain flag of a single-threaded process.
    unsafe { pgrx::pg_sys::IsBinaryUpgrade }
}

/// Makes a misspelt setting with this prefix an error.
pub fn reserve_settings(prefix: &CStr) {
    // SAFETY: the server copies the name.
    unsafe { pgrx::pg_sys::MarkGUCPrefixReserved(prefix.as_ptr()) };
}
