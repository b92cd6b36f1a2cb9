//! The command line.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

pub const USAGE: &str = "\
trickle-soak: twenty views that refresh themselves while everything happens at once

usage: trickle-soak --dsn DSN --log FILE [options]

  --dsn DSN     a server with pg_trickle preloaded and nothing else to do; the database is filled
  --log FILE    the server's log
  --seconds N   how long (default 60)
  --seed S      of what the players do (default: from the clock; printed first)
  --writers N   (default 4)
  --readers N   (default 3)";

pub struct Options {
    pub dsn: String,
    pub log: PathBuf,
    pub seconds: u64,
    pub seed: u64,
    pub writers: u64,
    pub readers: u64,
}

impl Options {
    pub fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let mut options =
            Options { dsn: String::new(), log: PathBuf::new(), seconds: 60, seed: clock, writers: 4, readers: 3 };
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{name} needs a value, or is unknown"))?;
            let number = || value.parse().map_err(|_| format!("{name}: {value:?} is not a number it can use"));
            match name.as_str() {
                "--dsn" => options.dsn = value,
                "--log" => options.log = value.into(),
                "--seconds" => options.seconds = number()?,
                "--seed" => options.seed = number()?,
                "--writers" => options.writers = number()?,
                "--readers" => options.readers = number()?,
                _ => return Err(format!("unknown option {name}")),
            }
        }
        if options.dsn.is_empty() || options.log.as_os_str().is_empty() {
            return Err("--dsn and --log are needed".to_string());
        }
        Ok(options)
    }
}
