//! Runs an episode on a server: one connection per session, one database per job, everything thrown away afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::thread::sleep;
use std::time::{Duration, Instant};

use postgres::{Client, Config, NoTls, SimpleQueryMessage};

use crate::author::{MAIN, SESSIONS};
use crate::check::difference;
use crate::dice::scramble;
use crate::episode::Episode;
use crate::guard;
use crate::naming::Naming;
use crate::schema::SIDE_SCHEMA;
use crate::sql::{Sql, ViewId};
use crate::step::{Action, Step};

pub const SCHEMA: &str = "gen";

/// How an episode failed.
#[derive(Clone, PartialEq, Debug)]
pub enum Failure {
    /// Views differ from their queries: view, surplus, row.
    Mismatch(Vec<String>),
    /// The server reported an error that the step does not account for.
    Error { code: String, message: String },
    /// The connection broke under a statement: most likely a crash.
    Lost(String),
    /// Another backend crashed, and the server ended this session with all others.
    Collateral(String),
}

#[derive(Default)]
pub struct Outcome {
    pub checks: u64,
    /// Steps that failed in a way they may.
    pub tolerated: BTreeSet<usize>,
    /// The failure, and the position of the step it happened at.
    pub failure: Option<(usize, Failure)>,
    pub spent: Spent,
}

/// Where the time went: how often each kind of statement ran, and how long that took.
#[derive(Default)]
pub struct Spent(pub BTreeMap<String, (u64, Duration)>);

impl Spent {
    fn add(&mut self, label: String, time: Duration) {
        self.merge(Spent(BTreeMap::from([(label, (1, time))])));
    }

    pub fn merge(&mut self, other: Spent) {
        for (label, (count, time)) in other.0 {
            let total = self.0.entry(label).or_default();
            *total = (total.0 + count, total.1 + time);
        }
    }
}

/// The SQLSTATE of a cancelled statement.
const TIMED_OUT: &str = "57014";
/// The SQLSTATE of what should not happen.
const INTERNAL: &str = "XX000";

/// Episodes played on the same connections: what a session remembers of earlier ones must do no harm, and makes it slow.
const STINT: u32 = 3;

/// The connections of one job, each made when it is first used.
pub struct Sessions {
    config: Config,
    clients: [Option<Client>; SESSIONS],
    /// What new connections begin with.
    setup: String,
    /// Episodes these connections have seen.
    played: u32,
    /// Comparisons that sessions have prepared: planning one takes longer than running it.
    prepared: BTreeMap<(usize, String), usize>,
    naming: Naming,
    /// Leaves out every so many refreshes, to prove that a wrong view is noticed.
    pub sabotage: bool,
}

impl Sessions {
    pub fn new(config: &Config) -> Sessions {
        Sessions {
            config: config.clone(),
            clients: [const { None }; SESSIONS],
            setup: String::new(),
            played: 0,
            prepared: BTreeMap::new(),
            naming: Naming::default(),
            sabotage: false,
        }
    }

    fn client(&mut self, session: usize) -> Result<&mut Client, postgres::Error> {
        let slot = &mut self.clients[session];
        if slot.is_none() {
            let mut client = self.config.connect(NoTls)?;
            client.batch_execute(&self.setup)?;
            *slot = Some(client);
        }
        Ok(slot.as_mut().expect("just connected"))
    }

    /// Connects again after a crash, once the server is back.
    pub fn reconnect(&mut self, patience: Duration) -> Result<(), postgres::Error> {
        let start = Instant::now();
        loop {
            self.disconnect();
            match self.client(MAIN) {
                Ok(_) => return Ok(()),
                Err(error) if start.elapsed() > patience => return Err(error),
                Err(_) => sleep(Duration::from_millis(200)),
            }
        }
    }

    /// Runs the steps in order, up to the first failure.
    pub fn run(&mut self, episode: &Episode) -> Result<Outcome, postgres::Error> {
        let mut outcome = Outcome::default();
        let start = Instant::now();
        self.setup = session_setup(episode).join("; ");
        self.clean_up()?;
        for role in &episode.roles {
            self.client(MAIN)?.batch_execute(&make_role(role))?;
        }
        self.client(MAIN)?.batch_execute(&format!("CREATE SCHEMA {SCHEMA}"))?;
        outcome.spent.add("(set up)".to_string(), start.elapsed());
        let mut in_transaction = [false; SESSIONS];
        for (position, step) in episode.steps.iter().enumerate() {
            if let Err(failure) = self.run_step(episode, step, in_transaction[step.session], &mut outcome) {
                outcome.failure = Some((position, failure));
                break;
            }
            self.naming.apply(step);
            if let Some(open) = step.control.as_ref().and_then(|c| c.0.opens()) {
                in_transaction[step.session] = open;
            }
        }
        Ok(outcome)
    }

    /// Ends what an episode left open and removes what it made. Sessions start over as if new.
    pub fn clean_up(&mut self) -> Result<(), postgres::Error> {
        for client in self.clients.iter_mut().flatten() {
            client.batch_execute("ROLLBACK")?;
        }
        self.played += 1;
        if self.played > STINT {
            self.disconnect();
        }
        self.prepared.clear();
        self.naming = Naming::default();
        for client in self.clients.iter_mut().flatten() {
            client.batch_execute("DISCARD ALL")?;
            client.batch_execute(&self.setup)?;
        }
        let main = self.client(MAIN)?;
        let prepared = main.query("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()", &[])?;
        for row in prepared {
            main.batch_execute(&format!("ROLLBACK PREPARED '{}'", row.get::<_, String>(0)))?;
        }
        main.batch_execute(&format!("DROP SCHEMA IF EXISTS {SCHEMA}, {SIDE_SCHEMA} CASCADE"))
    }

    /// Whether a statement failed because a view's query does so on every server, by itself: it does not end soon, or meets a
    /// bug of the planner ("too late to create a new PlaceHolderInfo").
    pub fn is_the_servers(
        &mut self,
        episode: &Episode,
        step: &Step,
        failure: &Failure,
    ) -> Result<bool, postgres::Error> {
        let Failure::Error { code, .. } = failure else { return Ok(false) };
        if code != TIMED_OUT && code != INTERNAL {
            return Ok(false);
        }
        let views = match &step.action {
            Action::Check(views) => views,
            _ => &step.fills,
        };
        let mut client = self.config.connect(NoTls)?;
        let comparing = guard::COMPARING;
        client.batch_execute(&format!("SET search_path = {SCHEMA}; SET statement_timeout = '30s'; {comparing}"))?;
        if let Some(role) = &step.role {
            client.batch_execute(&format!("SET ROLE {role}"))?;
        }
        let mut fails = |view: &ViewId| {
            let query = episode.catalog.get(*view).query.as_expanded(&episode.catalog);
            let counted = self.naming.translate(&format!("SELECT count(*) FROM ({query}) AS alone"));
            client.batch_execute(&counted).is_err_and(|error| error.code().is_some_and(|found| found.code() == code))
        };
        Ok(views.iter().any(&mut fails))
    }

    fn disconnect(&mut self) {
        self.clients = [const { None }; SESSIONS];
        self.prepared.clear();
        self.played = 0;
    }

    fn run_step(
        &mut self,
        episode: &Episode,
        step: &Step,
        in_transaction: bool,
        outcome: &mut Outcome,
    ) -> Result<(), Failure> {
        let may_fail = |code: &str| step.may_fail.contains(&code);
        let guarded = in_transaction && step.control.is_none() && !step.may_fail.is_empty();
        if guarded {
            self.send(step.session, "SAVEPOINT guard")?;
        }
        if let Some(role) = &step.role {
            self.send(step.session, &format!("SET ROLE {role}"))?;
        }
        let start = Instant::now();
        let result = self.act(episode, step, outcome);
        outcome.spent.add(step.label(), start.elapsed());
        let tolerated = matches!(&result, Err(Failure::Error { code, .. }) if may_fail(code));
        if tolerated {
            outcome.tolerated.insert(step.id);
        } else {
            result?;
        }
        if guarded {
            self.send(step.session, if tolerated { "ROLLBACK TO guard" } else { "RELEASE guard" })?;
        }
        if step.role.is_some() {
            self.send(step.session, "RESET ROLE")?;
        }
        Ok(())
    }

    fn act(&mut self, episode: &Episode, step: &Step, outcome: &mut Outcome) -> Result<(), Failure> {
        match &step.action {
            Action::Run(sql) => {
                let text = self.statement(episode, sql);
                if self.sabotage && text.starts_with("REFRESH") && scramble(step.id as u64).is_multiple_of(8) {
                    return Ok(());
                }
                self.execute(step, &text)
            }
            Action::Copy { sql, lines } => {
                let text = self.statement(episode, sql);
                self.copy(step.session, &text, lines)
            }
            Action::Check(views) => self.check(episode, step.session, views, outcome),
            Action::Reconnect => self.renew(step.session),
            Action::Kill => self.kill(step.session),
        }
    }

    fn statement(&self, episode: &Episode, sql: &Sql) -> String {
        self.naming.statement(sql, &episode.catalog)
    }

    fn renew(&mut self, session: usize) -> Result<(), Failure> {
        self.clients[session] = None;
        self.prepared.retain(|(prepared_by, _), _| *prepared_by != session);
        self.client(session).map(|_| ()).map_err(failure)
    }

    /// Has the server end a session, waits until it is gone, and connects again.
    fn kill(&mut self, session: usize) -> Result<(), Failure> {
        let query = "SELECT pg_backend_pid()";
        let pid: i32 = self.client(session).map_err(failure)?.query_one(query, &[]).map_err(failure)?.get(0);
        let mut killer = self.config.connect(NoTls).map_err(failure)?;
        killer.execute("SELECT pg_terminate_backend($1, 5000)", &[&pid]).map_err(failure)?;
        self.renew(session)
    }

    /// Most statements go by the simple protocol, some by the extended one.
    fn execute(&mut self, step: &Step, text: &str) -> Result<(), Failure> {
        let plain = ["INSERT", "UPDATE", "DELETE", "MERGE", "REFRESH"].iter().any(|word| text.starts_with(word));
        if plain && scramble(step.id as u64).is_multiple_of(5) {
            self.client(step.session).map_err(failure)?.execute(text, &[]).map(|_| ()).map_err(failure)
        } else {
            self.send(step.session, text)
        }
    }

    fn send(&mut self, session: usize, text: &str) -> Result<(), Failure> {
        self.client(session).map_err(failure)?.simple_query(text).map(|_| ()).map_err(failure)
    }

    fn copy(&mut self, session: usize, sql: &str, lines: &[String]) -> Result<(), Failure> {
        let mut writer = self.client(session).map_err(failure)?.copy_in(sql).map_err(failure)?;
        // An error met while sending is the server's, which finish() reports as such.
        let sent = lines.iter().try_for_each(|line| writer.write_all(format!("{line}\n").as_bytes()));
        let finished = writer.finish().map(|_| ()).map_err(failure);
        finished?;
        sent.map_err(|e| Failure::Lost(e.to_string()))
    }

    fn check(
        &mut self,
        episode: &Episode,
        session: usize,
        views: &[ViewId],
        outcome: &mut Outcome,
    ) -> Result<(), Failure> {
        let mut calls = vec![];
        for view in views {
            let comparison = difference(&episode.catalog, &self.naming, *view);
            let next = self.prepared.len();
            let number = *self.prepared.entry((session, comparison.clone())).or_insert(next);
            if number == next {
                self.send(session, &format!("PREPARE difference_{number} AS {comparison}"))?;
            }
            calls.push(format!("EXECUTE difference_{number}"));
        }
        self.send(session, guard::COMPARING)?;
        let messages = self.client(session).map_err(failure)?.simple_query(&calls.join("; ")).map_err(failure)?;
        self.send(session, guard::COMPARED)?;
        outcome.checks += views.len() as u64;
        let row = |m: &SimpleQueryMessage| match m {
            SimpleQueryMessage::Row(r) => {
                Some(format!("{} {} {}", r.get(0).unwrap_or("?"), r.get(1).unwrap_or("?"), r.get(2).unwrap_or("?")))
            }
            _ => None,
        };
        let rows: Vec<String> = messages.iter().filter_map(row).collect();
        if rows.is_empty() { Ok(()) } else { Err(Failure::Mismatch(rows)) }
    }
}

/// The statement that makes a role unless it is there.
pub fn make_role(role: &str) -> String {
    format!("DO $$BEGIN CREATE ROLE {role}; EXCEPTION WHEN duplicate_object THEN NULL; END$$")
}

/// What every session of an episode starts with.
pub fn session_setup(episode: &Episode) -> Vec<String> {
    let fixed = [
        format!("SET search_path = {SCHEMA}"),
        "SET client_min_messages = error".to_string(),
        "SET statement_timeout = '10min'".to_string(),
        "SET lock_timeout = '3s'".to_string(),
        "SET jit = off".to_string(),
        // The server's own answer is wrong with it: `t JOIN ONLY t USING (key)` loses the rows of t's children.
        "SET enable_self_join_elimination = off".to_string(),
        // A delta that does not fit is to be reported, not repaired.
        "SET pg_trickle.rebuild_mismatched = off".to_string(),
    ];
    fixed.into_iter().chain(episode.settings.iter().map(|s| format!("SET {s}"))).collect()
}

fn failure(error: postgres::Error) -> Failure {
    match error.as_db_error() {
        Some(db) if matches!(db.code().code(), "57P01" | "57P02" | "57P03") => {
            Failure::Collateral(db.message().to_string())
        }
        Some(db) => {
            // The first line: what follows may be a backtrace.
            let detail = db.detail().and_then(|d| d.lines().find(|line| !line.trim().is_empty()));
            let detail = detail.map(|d| format!(" DETAIL: {d}")).unwrap_or_default();
            let hint = db.hint().map(|h| format!(" HINT: {h}")).unwrap_or_default();
            Failure::Error { code: db.code().code().to_string(), message: format!("{}{detail}{hint}", db.message()) }
        }
        None => Failure::Lost(error.to_string()),
    }
}

impl Failure {
    pub fn is_crash(&self) -> bool {
        matches!(self, Failure::Lost(_) | Failure::Collateral(_))
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Failure::Mismatch(rows) => {
                write!(f, "views differ from their queries (view, surplus, row):\n  {}", rows.join("\n  "))
            }
            Failure::Error { code, message } => write!(f, "unexpected error {code}: {message}"),
            Failure::Lost(message) => write!(f, "connection lost: {message}"),
            Failure::Collateral(message) => write!(f, "the server ended the session: {message}"),
        }
    }
}
