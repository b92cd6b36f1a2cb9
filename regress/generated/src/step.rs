//! One step of an episode: a statement on one of the sessions, or a comparison of views with their queries.

use crate::naming::Rename;
use crate::sql::{Sql, ViewId};
use crate::world::{Family, TableId};

/// SQLSTATEs.
pub type Codes = &'static [&'static str];

pub const NONE: Codes = &[];

/// What a change may run into through no fault of the server: violated constraints, a key that exists, rows outside
/// all partitions or a view's check option, a row proposed twice to ON CONFLICT or MERGE, a row changed by its trigger.
pub const VIOLATIONS: Codes = &["23502", "23503", "23505", "23514", "44000", "21000", "27000"];
/// A partition was given rows that are not its own, and has a row trigger; or it could not be attached, and lacks the key.
pub const MISPLACED: Codes = &["0A000", "42P10"];
/// Capture cannot be started or changed while another transaction holds the source.
pub const LOCKED: Codes = &["55P03"];
/// A repeatable-read transaction met a row changed since its snapshot.
pub const CONFLICTS: Codes = &["40001"];

#[derive(Clone, PartialEq, Debug)]
pub enum Action {
    Run(Sql),
    /// COPY ... FROM STDIN with its data; each item of the list is one line.
    Copy {
        sql: Sql,
        lines: Vec<String>,
    },
    /// Each view must equal its query.
    Check(Vec<ViewId>),
    /// The session goes on with a new connection.
    Reconnect,
    /// The server ends the session, and what it had open is lost.
    Kill,
}

#[derive(Clone, PartialEq, Debug)]
pub enum Control {
    Begin { repeatable_read: bool },
    Commit,
    RollBack,
    Savepoint(String),
    RollBackTo(String),
    Release(String),
    Prepare(String),
    CommitPrepared(String),
    RollBackPrepared(String),
    Kill,
}

impl Control {
    pub fn statement(&self) -> String {
        match self {
            Control::Begin { repeatable_read: false } => "BEGIN".to_string(),
            Control::Begin { repeatable_read: true } => "BEGIN ISOLATION LEVEL REPEATABLE READ".to_string(),
            Control::Commit => "COMMIT".to_string(),
            Control::RollBack => "ROLLBACK".to_string(),
            Control::Savepoint(name) => format!("SAVEPOINT {name}"),
            Control::RollBackTo(name) => format!("ROLLBACK TO {name}"),
            Control::Release(name) => format!("RELEASE {name}"),
            Control::Prepare(gid) => format!("PREPARE TRANSACTION '{gid}'"),
            Control::CommitPrepared(gid) => format!("COMMIT PREPARED '{gid}'"),
            Control::RollBackPrepared(gid) => format!("ROLLBACK PREPARED '{gid}'"),
            Control::Kill => unreachable!("no statement of the session's own"),
        }
    }

    /// Whether the session is in a transaction afterwards, if that changes.
    pub fn opens(&self) -> Option<bool> {
        match self {
            Control::Begin { .. } => Some(true),
            Control::Commit | Control::RollBack | Control::Prepare(_) | Control::Kill => Some(false),
            _ => None,
        }
    }

    pub fn savepoint(&self) -> Option<&str> {
        match self {
            Control::Savepoint(name) | Control::RollBackTo(name) | Control::Release(name) => Some(name),
            _ => None,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Step {
    /// Stays the same while the episode is shrunk.
    pub id: usize,
    pub session: usize,
    pub action: Action,
    /// Errors that are no failure. Inside a transaction such a statement gets a savepoint of its own.
    pub may_fail: Vec<&'static str>,
    /// Set on statements that begin or end transactions and savepoints; those of one transaction share the number.
    pub control: Option<(Control, u32)>,
    /// Who runs it, if not the superuser.
    pub role: Option<String>,
    pub rename: Option<Rename>,
    /// What to drop this step with.
    pub tables: Vec<TableId>,
    pub views: Vec<ViewId>,
    /// Families of tables it changes.
    pub changes: Vec<Family>,
    /// Views it fills from the relations they read, lowest first.
    pub fills: Vec<ViewId>,
    /// Views it drops or empties.
    pub clears: Vec<ViewId>,
}

impl Step {
    pub fn new(action: Action) -> Step {
        Step {
            id: 0,
            session: 0,
            action,
            may_fail: vec![],
            control: None,
            role: None,
            rename: None,
            tables: vec![],
            views: vec![],
            changes: vec![],
            fills: vec![],
            clears: vec![],
        }
    }

    pub fn run(sql: impl Into<Sql>) -> Step {
        Step::new(Action::Run(sql.into()))
    }

    pub fn may_fail(mut self, codes: Codes) -> Step {
        self.may_fail.extend(codes);
        self
    }

    pub fn on_table(mut self, table: TableId) -> Step {
        self.tables.push(table);
        self
    }

    pub fn on_view(mut self, view: ViewId) -> Step {
        self.views.push(view);
        self
    }

    pub fn control(self, control: Control, transaction: u32) -> Step {
        Step { control: Some((control, transaction)), ..self }
    }

    pub fn changing(mut self, family: Family) -> Step {
        self.changes.push(family);
        self
    }

    pub fn filling(mut self, views: impl IntoIterator<Item = ViewId>) -> Step {
        self.fills.extend(views);
        self
    }

    pub fn clearing(mut self, views: impl IntoIterator<Item = ViewId>) -> Step {
        self.clears.extend(views);
        self
    }

    /// What kind of step it is: the first words of its statement.
    pub fn label(&self) -> String {
        match &self.action {
            Action::Run(sql) => sql.first_words(2),
            Action::Copy { .. } => "COPY".to_string(),
            Action::Check(_) => "(comparison)".to_string(),
            Action::Reconnect => "(new connection)".to_string(),
            Action::Kill => "(killed)".to_string(),
        }
    }

    /// The lists the shrinker may shorten.
    pub fn sql_mut(&mut self) -> Option<&mut Sql> {
        match &mut self.action {
            Action::Run(sql) => Some(sql),
            _ => None,
        }
    }
}
