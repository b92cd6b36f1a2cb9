//! A connection that is made again when it breaks: others end it on purpose.

use std::io::Write;
use std::time::{Duration, Instant};

use postgres::{Client, NoTls, SimpleQueryMessage};

use crate::stage::Stage;

/// What may happen to any statement here: lock timeouts, deadlocks, serialization failures, keys that are there, being
/// cancelled or terminated; a prepared transaction that somebody is just ending.
const TOLERATED: &[&str] = &["55P03", "40P01", "40001", "23505", "57014", "57P01"];

/// How long a server that has ended the session may be unreachable.
const PATIENCE: Duration = Duration::from_secs(300);

pub struct Session<'a> {
    pub stage: &'a Stage,
    name: String,
    client: Option<Client>,
}

/// The statement did not succeed, which is counted, or reported as trouble. The transaction is gone.
#[derive(Debug)]
pub struct Failed;

pub type Rows = Vec<Vec<Option<String>>>;

impl<'a> Session<'a> {
    pub fn new(stage: &'a Stage, name: &str) -> Session<'a> {
        Session { stage, name: name.to_string(), client: None }
    }

    fn client(&mut self) -> Result<&mut Client, postgres::Error> {
        if self.client.as_ref().is_none_or(Client::is_closed) {
            self.client = Some(self.connect()?);
        }
        Ok(self.client.as_mut().expect("just connected"))
    }

    fn connect(&self) -> Result<Client, postgres::Error> {
        let start = Instant::now();
        loop {
            let made = self.stage.config.clone().application_name(&self.name).connect(NoTls).and_then(|mut client| {
                client.batch_execute("SET lock_timeout = '5s'; SET client_min_messages = error; SET jit = off")?;
                Ok(client)
            });
            match made {
                Ok(client) => return Ok(client),
                // It may have been ended before it had begun.
                Err(_) if start.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(50)),
                Err(error) => return Err(error),
            }
        }
    }

    /// The rows of the last statement.
    pub fn query(&mut self, sql: &str) -> Result<Rows, Failed> {
        let result = self.client().and_then(|client| client.simple_query(sql));
        let messages = result.map_err(|error| self.failed(sql, &error))?;
        let row = |message: &SimpleQueryMessage| match message {
            SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|n| row.get(n).map(str::to_string)).collect()),
            _ => None,
        };
        Ok(messages.iter().filter_map(row).collect())
    }

    pub fn run(&mut self, sql: &str) -> Result<(), Failed> {
        self.query(sql).map(drop)
    }

    /// COPY FROM STDIN.
    pub fn copy(&mut self, sql: &str, lines: &str) -> Result<(), Failed> {
        let result = self.client().and_then(|client| {
            let mut writer = client.copy_in(sql)?;
            // What goes wrong here is the server's error, which finish reports.
            let sent = writer.write_all(lines.as_bytes());
            writer.finish().map(|_| sent)
        });
        match result {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                self.stage.trouble(format!("{}: {error}: {sql}", self.name));
                Err(Failed)
            }
            Err(error) => Err(self.failed(sql, &error)),
        }
    }

    /// A broken connection is one that was ended: a crash is found in the server's log.
    fn failed(&mut self, sql: &str, error: &postgres::Error) -> Failed {
        let code = error.code().map_or("lost", |code| code.code()).to_string();
        let closed = self.client.as_ref().is_none_or(Client::is_closed);
        if TOLERATED.contains(&code.as_str()) || (code == "lost" && closed) {
            self.stage.count(&format!("failed {code}"));
        } else {
            let text = error.as_db_error().map_or(error.to_string(), |db| db.message().to_string());
            self.stage.trouble(format!("{}: {code} {text}: {sql}", self.name));
        }
        let rolled_back = self.client.as_mut().is_some_and(|client| client.batch_execute("ROLLBACK").is_ok());
        if !rolled_back {
            self.client = None;
        }
        Failed
    }
}
