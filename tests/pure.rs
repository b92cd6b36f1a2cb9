//! Runs the unit tests of modules that use no server symbol, outside the server.

#[path = "../src/capture/frontier.rs"]
#[allow(dead_code)]
mod frontier;
