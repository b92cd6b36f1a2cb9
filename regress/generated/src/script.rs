//! Prints an episode as a script for psql. Other sessions' statements go through dblink, so that one script plays all
//! sessions in order.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::author::{MAIN, SESSIONS};
use crate::check::comparison;
use crate::episode::Episode;
use crate::guard;
use crate::naming::Naming;
use crate::run::{self, SCHEMA, session_setup};
use crate::step::{Action, Step};

/// `tolerated` are the steps whose errors were expected in the run that the script repeats.
pub fn psql(episode: &Episode, tolerated: &BTreeSet<usize>, remarks: &[String], plain: bool) -> String {
    let mut text = remarks.iter().flat_map(|r| r.lines()).fold(String::new(), |text, line| text + "-- " + line + "\n");
    let mut script = Script {
        episode,
        tolerated,
        in_transaction: [false; SESSIONS],
        naming: Naming::default(),
        text: String::new(),
    };
    script.prologue(plain);
    episode.steps.iter().for_each(|step| script.step(step));
    text.push_str(&script.text);
    text
}

struct Script<'a> {
    episode: &'a Episode,
    tolerated: &'a BTreeSet<usize>,
    in_transaction: [bool; SESSIONS],
    naming: Naming,
    text: String,
}

impl Script<'_> {
    fn line(&mut self, line: &str) {
        writeln!(self.text, "{line}").expect("writing to a string cannot fail");
    }

    fn statement(&mut self, session: usize, statement: &str) {
        if session == MAIN {
            return self.line(&format!("{statement};"));
        }
        self.line(&format!("SELECT dblink_exec('s{session}', $dblink${statement}$dblink$, false);"));
    }

    fn prologue(&mut self, plain: bool) {
        if !plain {
            self.line("CREATE EXTENSION IF NOT EXISTS pg_trickle;");
        }
        for role in &self.episode.roles {
            self.line(&format!("{};", run::make_role(role)));
        }
        self.line(&format!("CREATE SCHEMA {SCHEMA};"));
        self.set_up_session(MAIN);
        for session in 1..SESSIONS {
            if self.episode.steps.iter().any(|s| s.session == session) {
                self.connect(session);
            }
        }
    }

    fn has_other_sessions(&self) -> bool {
        self.episode.steps.iter().any(|s| s.session != MAIN)
    }

    fn connect(&mut self, session: usize) {
        self.line("CREATE EXTENSION IF NOT EXISTS dblink SCHEMA public;");
        self.line(&format!("SET search_path = {SCHEMA}, public;"));
        self.line(&format!(
            "SELECT dblink_connect('s{session}', format('dbname=%s port=%s user=%s host=%s', current_database(), \
             current_setting('port'), current_user, split_part(current_setting('unix_socket_directories'), ',', 1)));"
        ));
        self.set_up_session(session);
    }

    fn set_up_session(&mut self, session: usize) {
        for setting in session_setup(self.episode) {
            let is_path = setting.starts_with("SET search_path");
            self.statement(session, &if session == MAIN && is_path { format!("{setting}, public") } else { setting });
        }
    }

    fn step(&mut self, step: &Step) {
        let guarded = self.in_transaction[step.session] && !step.may_fail.is_empty();
        let failed = self.tolerated.contains(&step.id);
        if guarded {
            self.statement(step.session, "SAVEPOINT guard");
        }
        if failed {
            self.line("-- expected to fail:");
        }
        if let Some(role) = &step.role {
            self.statement(step.session, &format!("SET ROLE {role}"));
        }
        self.action(step);
        if guarded {
            self.statement(step.session, if failed { "ROLLBACK TO guard" } else { "RELEASE guard" });
        }
        if step.role.is_some() {
            self.statement(step.session, "RESET ROLE");
        }
        self.naming.apply(step);
        if let Some(open) = step.control.as_ref().and_then(|c| c.0.opens()) {
            self.in_transaction[step.session] = open;
        }
    }

    fn kill(&mut self, session: usize) {
        if session == MAIN {
            if self.has_other_sessions() {
                return self.line("ROLLBACK; -- (the session is killed)");
            }
            self.line("\\connect");
            return self.set_up_session(MAIN);
        }
        let name = format!("s{session}");
        self.line(&format!(
            "SELECT pg_terminate_backend(pid, 5000) FROM dblink('{name}', 'SELECT pg_backend_pid()') AS s(pid int);"
        ));
        self.line(&format!("SELECT dblink_disconnect('{name}');"));
        self.connect(session);
    }

    fn action(&mut self, step: &Step) {
        let catalog = &self.episode.catalog;
        match &step.action {
            Action::Run(sql) => self.statement(step.session, &self.naming.statement(sql, catalog)),
            Action::Copy { sql, lines } => {
                let data = lines.iter().fold(String::new(), |data, line| data + line + "\n");
                self.line(&format!("{};\n{data}\\.", self.naming.statement(sql, catalog)));
            }
            Action::Check(views) => {
                self.line("-- check: no rows, please");
                self.line(&format!("{};", guard::COMPARING));
                self.line(&format!("{};", comparison(catalog, &self.naming, views)));
                self.line(&format!("{};", guard::COMPARED));
            }
            Action::Kill => self.kill(step.session),
            // The other sessions' connections live in this one.
            Action::Reconnect if self.has_other_sessions() => self.line("-- (a new connection)"),
            Action::Reconnect => {
                self.line("\\connect");
                self.set_up_session(MAIN);
            }
        }
    }
}
