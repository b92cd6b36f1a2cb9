//! The command line.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

pub const USAGE: &str = "\
trickle-generated: random schemas, views and changes; every view must equal its query

usage: trickle-generated --dsn DSN [options]

  --dsn DSN          server to test, e.g. 'host=/tmp/sock user=postgres dbname=postgres'
  --checks N         stop after N checks (default 1000; a check compares one view with its query)
  --minutes M        stop after M minutes
  --seed S           seed of the run (default: from the clock; printed first)
  --episode K        play only episode K of the seed
  --strategy X       delta, auto, full, or mixed: pg_trickle.refresh_strategy (default mixed)
  --jobs J           episodes played at the same time, each in its own database (default 2)
  --skip LABEL       leave a feature out; may be repeated; labels are those of the histogram
  --plain            ordinary materialized views, fully refreshed: checks the generator itself
  --out DIR          where scripts of failures are written (default generated-failures)
  --shrink-seconds N time to shrink one failure (default 120; 0 to leave it as it is)
  --keep-going       go on after a failure
  --print            print the script of --episode K instead of playing it
  --verbose          print the histogram of features covered, and where the time went
";

#[derive(Clone, Debug)]
pub struct Options {
    pub dsn: String,
    pub checks: u64,
    pub minutes: Option<f64>,
    pub seed: u64,
    pub episode: Option<u64>,
    pub strategy: Option<String>,
    pub jobs: usize,
    pub skip: BTreeSet<String>,
    pub plain: bool,
    pub out: PathBuf,
    pub shrink_seconds: u64,
    pub keep_going: bool,
    pub print: bool,
    pub verbose: bool,
    /// Leave refreshes out, to see that the program notices. Undocumented on purpose.
    pub sabotage: bool,
}

impl Options {
    fn defaults() -> Options {
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
        Options {
            dsn: String::new(),
            checks: 1000,
            minutes: None,
            seed: clock.as_millis() as u64 % 1_000_000_007,
            episode: None,
            strategy: None,
            jobs: 2,
            skip: BTreeSet::new(),
            plain: false,
            out: PathBuf::from("generated-failures"),
            shrink_seconds: 120,
            keep_going: false,
            print: false,
            verbose: false,
            sabotage: false,
        }
    }

    pub fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = Options::defaults();
        while let Some(name) = arguments.next() {
            if options.set_flag(&name) {
                continue;
            }
            let value = arguments.next().ok_or_else(|| format!("{name} needs a value, or is unknown"))?;
            options.set(&name, &value)?;
        }
        if options.dsn.is_empty() && !options.print {
            return Err("--dsn is missing".to_string());
        }
        if options.print && options.episode.is_none() {
            return Err("--print needs --episode".to_string());
        }
        Ok(options)
    }

    fn set_flag(&mut self, name: &str) -> bool {
        match name {
            "--plain" => self.plain = true,
            "--keep-going" => self.keep_going = true,
            "--print" => self.print = true,
            "--verbose" => self.verbose = true,
            "--sabotage" => self.sabotage = true,
            _ => return false,
        }
        true
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "--dsn" => self.dsn = value.to_string(),
            "--checks" => self.checks = number(name, value)?,
            "--minutes" => self.minutes = Some(number(name, value)?),
            "--seed" => self.seed = number(name, value)?,
            "--episode" => self.episode = Some(number(name, value)?),
            "--strategy" => self.strategy = strategy(value)?,
            "--jobs" => self.jobs = number(name, value)?,
            "--skip" => {
                self.skip.insert(value.to_string());
            }
            "--out" => self.out = PathBuf::from(value),
            "--shrink-seconds" => self.shrink_seconds = number(name, value)?,
            _ => return Err(format!("unknown option {name}")),
        }
        Ok(())
    }

    /// The options that make one episode what it is.
    pub fn replay(&self, episode: u64) -> String {
        let mut line = format!("--seed {} --episode {episode}", self.seed);
        if let Some(strategy) = &self.strategy {
            line.push_str(&format!(" --strategy {strategy}"));
        }
        for label in &self.skip {
            line.push_str(&format!(" --skip '{label}'"));
        }
        for (set, flag) in [(self.plain, " --plain"), (self.sabotage, " --sabotage")] {
            line.push_str(if set { flag } else { "" });
        }
        line
    }
}

fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{name}: {value:?} is not a number it can use"))
}

fn strategy(value: &str) -> Result<Option<String>, String> {
    match value {
        "mixed" => Ok(None),
        "delta" | "auto" | "full" => Ok(Some(value.to_string())),
        _ => Err(format!("--strategy: {value:?} is none of delta, auto, full, mixed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(line.split_whitespace().map(str::to_string))
    }

    #[test]
    fn replay_line_parses_back() {
        let first = parse("--dsn x --seed 5 --strategy delta --plain").unwrap();
        let again = parse(&format!("--dsn x {}", first.replay(9))).unwrap();
        assert_eq!(
            (again.seed, again.episode, again.strategy.as_deref(), again.plain),
            (5, Some(9), Some("delta"), true)
        );
    }

    #[test]
    fn mistakes_are_reported() {
        assert!(parse("--dsn x --checks many").is_err());
        assert!(parse("--dsn x --frobnicate 1").is_err());
        assert!(parse("--checks 10").is_err());
    }
}
