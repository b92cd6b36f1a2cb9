//! Statements and SQL functions: what users say to the extension.

pub mod options;
pub mod pinned;
pub mod preload;

/// Called once, when the server preloads the library.
pub fn register() {}
