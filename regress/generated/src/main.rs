//! Generated tests: random schemas, views and changes; after every refresh each view must equal its query.
//!
//! Reading order: `dice` (randomness), `sql`, `kinds` (text and types), `world` (what is known of the database);
//! `schema`, `partition` (tables); `expr`, `guard`, `aggregate`, `from`, `query`, `shapes` (the queries of views); `change`,
//! `dml`, `ddl`, `rename` (changes); `step`, `freshness`, `naming`, `author`, `roles`, `views`, `episode` (the plot);
//! `check`, `run` (the performance); `script`, `shrink`, `job` (what happens when it fails).

mod aggregate;
mod author;
mod change;
mod check;
mod ddl;
mod dice;
mod dml;
mod episode;
mod expr;
mod freshness;
mod from;
mod guard;
mod job;
mod kinds;
mod naming;
mod options;
mod partition;
mod query;
mod rename;
mod roles;
mod run;
mod schema;
mod script;
mod shapes;
mod shrink;
mod sql;
mod step;
mod views;
mod world;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use author::Mode;
use job::Board;
use options::{Options, USAGE};

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("{message}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    if options.print {
        return print_episode(&options);
    }
    println!("seed: {}", options.seed);
    let board = Board::new(options);
    let is_healthy = play(&board);
    summarize(&board);
    if is_healthy && board.failures() == (0, 0) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn print_episode(options: &Options) -> ExitCode {
    let mode =
        Mode { plain: options.plain, strategy: options.strategy.clone(), tag: "printed".to_string(), two_phase: true };
    let number = options.episode.expect("the options were checked");
    let (episode, _) = episode::generate(options.seed, number, Arc::new(options.skip.clone()), &mode);
    println!("{}", script::psql(&episode, &BTreeSet::new(), &[options.replay(number)], options.plain));
    ExitCode::SUCCESS
}

/// Runs all workers, with a line on progress now and then. False if one could not work.
fn play(board: &Board) -> bool {
    let start = Instant::now();
    thread::scope(|scope| {
        let jobs: Vec<_> = (0..board.options.jobs)
            .map(|number| {
                let name = format!("trickle_generated_{}_{number}", std::process::id());
                scope.spawn(move || job::work(board, &name))
            })
            .collect();
        let mut last = Instant::now();
        while jobs.iter().any(|j| !j.is_finished()) {
            thread::sleep(Duration::from_millis(50));
            if last.elapsed() > Duration::from_secs(10) {
                last = Instant::now();
                println!("{}", progress(board, start));
            }
        }
        println!("{}", progress(board, start));
        let results: Vec<_> = jobs.into_iter().map(|j| j.join()).collect();
        results.into_iter().filter(has_trouble).count() == 0
    })
}

fn has_trouble(result: &thread::Result<Result<(), job::Trouble>>) -> bool {
    match result {
        Ok(Ok(())) => return false,
        Ok(Err(trouble)) => eprintln!("a worker gave up: {trouble}"),
        Err(_) => eprintln!("a worker panicked"),
    }
    true
}

fn progress(board: &Board, start: Instant) -> String {
    let (checks, seconds) = (board.checks.load(Relaxed), start.elapsed().as_secs_f64());
    format!(
        "{seconds:.0} s: {checks} checks ({:.0}/s), {} episodes, {} expected errors, {} failures",
        checks as f64 / seconds,
        board.episodes.load(Relaxed),
        board.tolerated.load(Relaxed),
        board.failures().0 + board.failures().1,
    )
}

fn summarize(board: &Board) {
    if board.options.verbose {
        let coverage = board.coverage.lock().expect("the workers are gone");
        for (label, hits) in coverage.iter() {
            println!("{hits:8}  {label}");
        }
        let spent = board.spent.lock().expect("the workers are gone");
        let mut spent: Vec<_> = spent.0.iter().collect();
        spent.sort_by_key(|(_, (_, time))| *time);
        for (label, (count, time)) in spent {
            println!(
                "{:8.1} s  {count:8} x {:8.2} ms  {label}",
                time.as_secs_f64(),
                time.as_secs_f64() * 1e3 / *count as f64
            );
        }
    }
    for (kind, (count, first)) in board.kinds.lock().expect("the workers are gone").iter() {
        println!("{count:8}  failures, first in episode {first}: {kind}");
    }
    let (mismatches, errors) = board.failures();
    let (checks, given_up) = (board.checks.load(Relaxed), board.given_up.load(Relaxed));
    if given_up > 0 {
        println!("episodes given up, a query fails by itself: {given_up}");
    }
    println!("checks: {checks}, mismatches: {mismatches}, errors: {errors}, seed: {}", board.options.seed);
}
