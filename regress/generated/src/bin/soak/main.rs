//! The soak: views refresh themselves for minutes or hours while sessions write, roll back, prepare, idle in transactions,
//! change tables and views, lock, cancel and terminate. Readers find the branches of diamonds agreeing all the while;
//! in the end every view equals its query without anybody having refreshed it.
//!
//! Reading order: `world` (tables, views, what must agree), `stage`, `session` (what the players share), `writer`,
//! `reader`, `disturber` (the players), `ending`, `log` (what must be true in the end).

mod disturber;
mod ending;
mod log;
mod options;
mod reader;
mod session;
mod stage;
mod world;
mod writer;

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;

use ending::{Ending, buffered};
use options::{Options, USAGE};
use session::{Failed, Session};
use stage::Stage;

/// The buffers may grow to this while views are paused, locked, or kept from being trimmed by a long transaction: some
/// seconds' worth of changes, however long the run.
const MOST_BUFFERED: u64 = 256 << 20;
/// A segment is replaced when it has half a megabyte.
const LEFT_OVER: u64 = 12 << 20;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("{message}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    println!("seed: {}", options.seed);
    let config = match options.dsn.parse() {
        Ok(config) => config,
        Err(error) => {
            eprintln!("--dsn: {error}");
            return ExitCode::from(2);
        }
    };
    let stage = Stage::new(config, options.seed);
    let mut verdicts = perform(&stage, &options);
    verdicts.extend(inspect(&stage, &options));
    for (what, number) in stage.counts() {
        println!("{number:9}  {what}");
    }
    report(&verdicts)
}

type Verdict = (String, Result<(), String>);

fn report(verdicts: &[Verdict]) -> ExitCode {
    for (what, verdict) in verdicts {
        match verdict {
            Ok(()) => println!("ok - {what}"),
            Err(found) => println!("not ok - {what}: {found}"),
        }
    }
    if verdicts.iter().all(|(_, verdict)| verdict.is_ok()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn perform(stage: &Stage, options: &Options) -> Vec<Verdict> {
    if set_up(stage).is_err() {
        return vec![];
    }
    let largest = play(stage, options);
    let mut ending = Ending::new(stage);
    let mut rng = Rng::with_seed(options.seed);
    let looked = ending.views(&mut rng).and_then(|()| ending.buffers(largest, MOST_BUFFERED, LEFT_OVER));
    let mut verdicts = ending.into_verdicts();
    if looked.is_err() {
        verdicts.push(("the ending".into(), Err("was interrupted".into())));
    }
    verdicts
}

fn set_up(stage: &Stage) -> Result<(), Failed> {
    let mut session = Session::new(stage, "soak");
    session.run(&format!("ALTER SYSTEM SET log_line_prefix = '{}'", log::PREFIX))?;
    session.run("ALTER SYSTEM SET pg_trickle.enabled = on")?;
    session.run("SELECT pg_reload_conf()")?;
    session.run("CREATE EXTENSION pg_trickle")?;
    world::TABLES.iter().try_for_each(|sql| session.run(sql))?;
    let mut views = world::VIEWS.iter().map(|(name, schedule, query)| world::create_view(name, schedule, query));
    views.try_for_each(|sql| session.run(&sql))
}

/// Has everybody play for the time given; the largest size of the buffers seen.
fn play(stage: &Stage, options: &Options) -> u64 {
    thread::scope(|scope| {
        (0..options.writers).for_each(|n| drop(scope.spawn(move || writer::write(stage, n))));
        (0..options.readers).for_each(|n| drop(scope.spawn(move || reader::read(stage, n))));
        scope.spawn(|| writer::end_prepared(stage));
        scope.spawn(|| disturber::alter(stage));
        scope.spawn(|| disturber::kill(stage));
        let largest = watch(stage, Duration::from_secs(options.seconds));
        stage.end();
        largest
    })
}

fn watch(stage: &Stage, time: Duration) -> u64 {
    let mut session = Session::new(stage, "soak");
    let (start, mut told, mut largest) = (Instant::now(), Instant::now(), 0);
    while start.elapsed() < time && !stage.is_over() {
        largest = buffered(&mut session).map_or(largest, |bytes| largest.max(bytes));
        if told.elapsed() > Duration::from_secs(20) {
            told = Instant::now();
            println!(
                "{} s: {} transactions, {} reads, {} kB buffered at most",
                start.elapsed().as_secs(),
                stage.counted("transactions"),
                stage.counted("reads"),
                largest / 1024
            );
        }
        stage.idle(1000);
    }
    largest
}

/// What there is to say whatever became of the play.
fn inspect(stage: &Stage, options: &Options) -> Vec<Verdict> {
    let mut troubles = stage.troubles();
    troubles.truncate(5);
    let troubles = troubles.join("\n    ");
    let reads = stage.counted("reads");
    let lines = log::unexpected(&options.log);
    let log = match &lines {
        Ok(lines) if lines.is_empty() => Ok(()),
        Ok(lines) => Err(format!("{} lines\n    {}", lines.len(), lines[..lines.len().min(20)].join("\n    "))),
        Err(error) => Err(error.to_string()),
    };
    // Unless nobody got round to anything.
    let busy = reads >= options.seconds / 10 && stage.counted("transactions") >= options.seconds;
    vec![
        ("the server's log has nothing unexpected".into(), log),
        (
            format!("somebody wrote {} times and read {reads} times", stage.counted("transactions")),
            if busy { Ok(()) } else { Err("too little".into()) },
        ),
        (
            format!("{} s, seed {}: readers found all branches agreeing", options.seconds, options.seed),
            if troubles.is_empty() { Ok(()) } else { Err(troubles) },
        ),
    ]
}
