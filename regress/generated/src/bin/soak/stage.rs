//! What all players share: when to stop, what was counted, what went wrong.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::sleep;
use std::time::{Duration, Instant};

use postgres::Config;

pub struct Stage {
    pub config: Config,
    pub seed: u64,
    over: AtomicBool,
    counts: Mutex<BTreeMap<String, u64>>,
    troubles: Mutex<Vec<String>>,
}

impl Stage {
    pub fn new(config: Config, seed: u64) -> Stage {
        Stage { config, seed, over: AtomicBool::new(false), counts: Mutex::default(), troubles: Mutex::default() }
    }

    pub fn is_over(&self) -> bool {
        self.over.load(Relaxed)
    }

    pub fn end(&self) {
        self.over.store(true, Relaxed);
    }

    pub fn count(&self, what: &str) {
        *self.counts.lock().expect("no player panics").entry(what.to_string()).or_default() += 1;
    }

    pub fn counted(&self, what: &str) -> u64 {
        self.counts.lock().expect("no player panics").get(what).copied().unwrap_or(0)
    }

    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.counts.lock().expect("no player panics").clone()
    }

    /// What must not happen happened: the play is over.
    pub fn trouble(&self, what: String) {
        self.troubles.lock().expect("no player panics").push(what);
        self.end();
    }

    pub fn troubles(&self) -> Vec<String> {
        self.troubles.lock().expect("no player panics").clone()
    }

    /// Does nothing for a while, or until the play is over.
    pub fn idle(&self, milliseconds: u64) {
        let start = Instant::now();
        let time = Duration::from_millis(milliseconds);
        while !self.is_over() && start.elapsed() < time {
            sleep((time - start.elapsed().min(time)).min(Duration::from_millis(50)));
        }
    }
}
