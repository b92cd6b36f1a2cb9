//! What users can see of the extension's state. Most of it are views and SQL functions in the extension script; here is
//! what they need from the library.

mod advice;
mod explain_st;
mod freshness;
pub mod functions;
mod health;
mod progress;
mod tree;
mod verdict;
