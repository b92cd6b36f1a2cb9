//! Statements and SQL functions: what users say to the extension.

pub mod preload;

/// Called once, when the server preloads the library.
pub fn register() {}
