//! One worker: its own database and sessions, and a loop that plays episodes, reports failures and shrinks them.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::{Display, Formatter};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use postgres::{Client, Config, NoTls};

use crate::author::Mode;
use crate::dice::Coverage;
use crate::episode::{self, Episode};
use crate::options::Options;
use crate::run::{Failure, Outcome, Sessions, Spent};
use crate::script;
use crate::shrink;

/// What all workers share.
pub struct Board {
    pub options: Options,
    pub deadline: Option<Instant>,
    pub next_episode: AtomicU64,
    pub checks: AtomicU64,
    pub episodes: AtomicU64,
    pub tolerated: AtomicU64,
    /// Episodes given up because a view's query fails by itself: too large for the server, or a bug of it.
    pub given_up: AtomicU64,
    pub mismatches: AtomicU64,
    pub errors: AtomicU64,
    pub stop: AtomicBool,
    pub coverage: Mutex<Coverage>,
    /// Held by all while they play, and by one alone while it finds out whose statement crashes the server.
    pub playing: RwLock<()>,
    pub crashes: AtomicU64,
    /// Lost connections that did not happen again when the episode was played alone.
    pub unexplained: AtomicU64,
    /// How often each kind of failure was met, and in which episode first.
    pub kinds: Mutex<BTreeMap<String, (u64, u64)>>,
    pub spent: Mutex<Spent>,
}

impl Board {
    pub fn new(options: Options) -> Board {
        let deadline = options.minutes.map(|m| Instant::now() + Duration::from_secs_f64(m * 60.0));
        let zero = || AtomicU64::new(0);
        Board {
            next_episode: AtomicU64::new(options.episode.unwrap_or(0)),
            options,
            deadline,
            checks: zero(),
            episodes: zero(),
            tolerated: zero(),
            given_up: zero(),
            mismatches: zero(),
            errors: zero(),
            stop: AtomicBool::new(false),
            coverage: Mutex::default(),
            playing: RwLock::default(),
            crashes: zero(),
            unexplained: zero(),
            kinds: Mutex::default(),
            spent: Mutex::default(),
        }
    }

    /// Counts a failure; true if its kind has been seen often enough not to be shown again.
    fn is_familiar(&self, failure: &Failure, episode: u64) -> bool {
        let mut kinds = self.kinds.lock().expect("no worker panics while it counts");
        let (count, _) = kinds.entry(shrink::gist(failure)).or_insert((0, episode));
        *count += 1;
        let enough = if matches!(failure, Failure::Error { .. }) { 1 } else { 5 };
        *count > enough
    }

    /// Wrong results, errors, and crashes; crashes nobody could repeat count when no other crash explains them.
    pub fn failures(&self) -> (u64, u64) {
        let unexplained = if self.crashes.load(Relaxed) == 0 { self.unexplained.load(Relaxed) } else { 0 };
        (self.mismatches.load(Relaxed), self.errors.load(Relaxed) + unexplained)
    }

    /// The next episode to play, if there is still something to do.
    fn take(&self) -> Option<u64> {
        let is_late = self.deadline.is_some_and(|d| Instant::now() > d);
        if self.stop.load(Relaxed) || is_late || self.checks.load(Relaxed) >= self.options.checks {
            return None;
        }
        let number = self.next_episode.fetch_add(1, Relaxed);
        let is_wanted = self.options.episode.is_none_or(|only| only == number);
        is_wanted.then_some(number)
    }
}

/// What keeps a worker from working.
pub enum Trouble {
    Server(postgres::Error),
    File(io::Error),
}

impl From<postgres::Error> for Trouble {
    fn from(error: postgres::Error) -> Trouble {
        Trouble::Server(error)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        Trouble::File(error)
    }
}

impl Display for Trouble {
    fn fmt(&self, f: &mut Formatter) -> std::fmt::Result {
        match self {
            Trouble::Server(error) => {
                let cause = error.source().map(|c| format!(": {c}")).unwrap_or_default();
                write!(f, "server: {error}{cause}")
            }
            Trouble::File(error) => write!(f, "file: {error}"),
        }
    }
}

struct Job<'a> {
    board: &'a Board,
    mode: Mode,
    sessions: Sessions,
}

/// How long a server may take to come back after a crash.
const PATIENCE: Duration = Duration::from_secs(300);

/// Makes a database, plays episodes in it until there is nothing left to do, and drops it.
pub fn work(board: &Board, name: &str) -> Result<(), Trouble> {
    let server: Config = board.options.dsn.parse()?;
    let database = create_database(&server, name, board.options.plain)?;
    let mut client = database.connect(NoTls)?;
    let prepared: i32 = client.query_one("SELECT current_setting('max_prepared_transactions')::int", &[])?.get(0);
    drop(client);
    let mode = Mode {
        plain: board.options.plain,
        strategy: board.options.strategy.clone(),
        tag: name.to_string(),
        two_phase: prepared > 0,
    };
    let mut sessions = Sessions::new(&database);
    sessions.sabotage = board.options.sabotage;
    let mut job = Job { board, mode, sessions };
    while let Some(number) = board.take() {
        job.play(number)?;
    }
    job.sessions.clean_up()?;
    drop(job);
    server.connect(NoTls)?.batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)"))?;
    let roles = crate::roles::names(name).join(", ");
    server.connect(NoTls)?.batch_execute(&format!("DROP ROLE IF EXISTS {roles}"))?;
    Ok(())
}

fn create_database(server: &Config, name: &str, plain: bool) -> Result<Config, postgres::Error> {
    let mut client: Client = server.connect(NoTls)?;
    client.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))?;
    client.batch_execute(&format!("CREATE DATABASE {name}"))?;
    let mut config = server.clone();
    config.dbname(name);
    if !plain {
        config.connect(NoTls)?.batch_execute("CREATE EXTENSION pg_trickle")?;
    }
    Ok(config)
}

impl Job<'_> {
    fn play(&mut self, number: u64) -> Result<(), Trouble> {
        let options = &self.board.options;
        let (episode, coverage) = episode::generate(options.seed, number, Arc::new(options.skip.clone()), &self.mode);
        self.count_coverage(coverage);
        self.board.episodes.fetch_add(1, Relaxed);
        let result = {
            let _together = self.board.playing.read().expect("no worker panics while it plays");
            self.sessions.run(&episode)
        };
        let mut outcome = match result {
            Ok(outcome) => outcome,
            // A run that cannot even be set up has most likely lost its connections, too.
            Err(error) => {
                eprintln!("episode {number} could not be set up: {error}");
                return self.investigate_crash(episode);
            }
        };
        self.board.checks.fetch_add(outcome.checks, Relaxed);
        self.board.spent.lock().expect("no worker panics while it counts").merge(std::mem::take(&mut outcome.spent));
        self.board.tolerated.fetch_add(outcome.tolerated.len() as u64, Relaxed);
        match outcome.failure.clone() {
            Some((_, failure)) if failure.is_crash() => self.investigate_crash(episode),
            Some((position, failure))
                if self.sessions.is_the_servers(&episode, &episode.steps[position], &failure)? =>
            {
                println!(
                    "episode {number}: given up at {}, its query fails by itself",
                    episode.steps[position].label()
                );
                self.board.given_up.fetch_add(1, Relaxed);
                Ok(())
            }
            Some((position, failure)) => self.report(episode, outcome, position, &failure),
            None => Ok(()),
        }
    }

    fn count_coverage(&self, coverage: Coverage) {
        let mut total = self.board.coverage.lock().expect("no worker panics while it counts");
        for (label, hits) in coverage {
            *total.entry(label).or_insert(0) += hits;
        }
    }

    /// A crash ends every session of the server. Played again alone, the episode that caused it crashes again.
    fn investigate_crash(&mut self, episode: Episode) -> Result<(), Trouble> {
        let board = self.board;
        let _alone = board.playing.write().expect("no worker panics while it plays");
        self.sessions.reconnect(PATIENCE)?;
        let outcome = self.sessions.run(&episode)?;
        let Some((position, failure)) = outcome.failure.clone() else {
            println!("episode {}: the connection was lost, and not when played again alone", episode.number);
            board.unexplained.fetch_add(1, Relaxed);
            return Ok(());
        };
        if failure.is_crash() {
            board.crashes.fetch_add(1, Relaxed);
            self.sessions.reconnect(PATIENCE)?;
        }
        self.report(episode, outcome, position, &failure)
    }

    fn report(
        &mut self,
        mut episode: Episode,
        outcome: Outcome,
        position: usize,
        failure: &Failure,
    ) -> Result<(), Trouble> {
        let counter = if matches!(failure, Failure::Mismatch(_)) { &self.board.mismatches } else { &self.board.errors };
        counter.fetch_add(1, Relaxed);
        if !self.board.options.keep_going {
            self.board.stop.store(true, Relaxed);
        }
        episode.steps.truncate(position + 1);
        let full = self.script(&episode, &outcome, failure, "");
        let path = self.save(&episode, "full", &full)?;
        let is_familiar = self.board.is_familiar(failure, episode.number);
        let text = if is_familiar { format!("-- {failure}") } else { full };
        println!("FAILED: {}\n{text}\n-- written to {}\n", self.board.options.replay(episode.number), path.display());
        if self.board.options.shrink_seconds > 0 && !is_familiar {
            self.shrink(&episode, failure)?;
        }
        Ok(())
    }

    fn shrink(&mut self, episode: &Episode, failure: &Failure) -> Result<(), Trouble> {
        let budget = Duration::from_secs(self.board.options.shrink_seconds);
        let sessions = &mut self.sessions;
        let mut run = |candidate: &Episode| run_once(sessions, candidate);
        let Some((small, outcome, runs)) = shrink::shrink(episode, failure, budget, &mut run) else {
            println!("-- episode {} did not fail in the same way when run again\n", episode.number);
            return Ok(());
        };
        let last = outcome.failure.as_ref().map_or(failure, |f| &f.1);
        let text = self.script(&small, &outcome, last, &format!(" (shrunk in {runs} runs)"));
        let path = self.save(&small, "shrunk", &text)?;
        println!("SHRUNK:\n{text}\n-- written to {}\n", path.display());
        Ok(())
    }

    fn script(&self, episode: &Episode, outcome: &Outcome, failure: &Failure, remark: &str) -> String {
        let remarks =
            [format!("trickle-generated {}{remark}", self.board.options.replay(episode.number)), failure.to_string()];
        script::psql(episode, &outcome.tolerated, &remarks, self.board.options.plain)
    }

    fn save(&self, episode: &Episode, kind: &str, text: &str) -> Result<PathBuf, io::Error> {
        let directory = &self.board.options.out;
        fs::create_dir_all(directory)?;
        let path = directory.join(format!("seed_{}_episode_{}.{kind}.sql", self.board.options.seed, episode.number));
        fs::write(&path, text)?;
        Ok(path)
    }
}

/// Plays a candidate; a server that went down is waited for, one that stays down ends the search.
fn run_once(sessions: &mut Sessions, candidate: &Episode) -> Option<Outcome> {
    let outcome = sessions.run(candidate);
    let is_down = match &outcome {
        Ok(outcome) => outcome.failure.as_ref().is_some_and(|(_, failure)| failure.is_crash()),
        Err(_) => true,
    };
    if is_down && let Err(error) = sessions.reconnect(PATIENCE) {
        eprintln!("the server does not come back: {error}");
        return None;
    }
    match outcome {
        Ok(outcome) => Some(outcome),
        Err(error) => {
            eprintln!("cannot set up a run: {error}");
            None
        }
    }
}
