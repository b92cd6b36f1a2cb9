//! The author of an episode: writes steps, and keeps the books that make them sensible without looking at the
//! database: open transactions, what they hold, which views are fresh, and what a rollback brings back.

use std::collections::{BTreeMap, BTreeSet};

use crate::change::{Access, ChangeMaker, Level};
use crate::dice::Dice;
use crate::freshness::Freshness;
use crate::naming::Naming;
use crate::roles::Cast;
use crate::schema::Names;
use crate::sql::ViewId;
use crate::step::{Action, CONFLICTS, Codes, Control, LOCKED, NONE, Step, VIOLATIONS};
use crate::world::{Catalog, Family, Table, TableId, ViewSort, World};

pub const SESSIONS: usize = 3;
pub const MAIN: usize = 0;

/// What differs between kinds of runs, but not in the choices made.
#[derive(Clone, Debug)]
pub struct Mode {
    /// Ordinary materialized views with full refreshes: no extension needed.
    pub plain: bool,
    /// Value of pg_trickle.refresh_strategy; `None` to vary it.
    pub strategy: Option<String>,
    /// Distinguishes names that are global to the server.
    pub tag: String,
    pub two_phase: bool,
}

#[derive(Clone)]
struct Mark {
    name: String,
    world: World,
}

/// An open transaction of a session, or a prepared one.
#[derive(Clone)]
pub struct Transaction {
    pub number: u32,
    pub touched: BTreeMap<Family, Level>,
    pub repeatable_read: bool,
    /// The state at its start, then at each savepoint.
    marks: Vec<Mark>,
}

pub struct Author {
    pub dice: Dice,
    pub names: Names,
    pub mode: Mode,
    pub world: World,
    pub catalog: Catalog,
    pub steps: Vec<Step>,
    pub freshness: Freshness,
    pub naming: Naming,
    pub cast: Cast,
    pub open: [Option<Transaction>; SESSIONS],
    pub prepared: Vec<(String, Transaction)>,
    transactions: u32,
}

impl Author {
    pub fn new(dice: Dice, mode: Mode) -> Author {
        Author {
            dice,
            mode,
            names: Names::new(),
            world: World::default(),
            catalog: Catalog::default(),
            steps: vec![],
            freshness: Freshness::default(),
            naming: Naming::default(),
            cast: Cast::default(),
            open: [const { None }; SESSIONS],
            prepared: vec![],
            transactions: 0,
        }
    }

    pub fn emit(&mut self, step: Step) {
        self.freshness.apply(&step, &self.catalog);
        self.naming.apply(&step);
        let id = self.steps.len();
        self.steps.push(Step { id, ..step });
    }

    pub fn run(&mut self, sql: impl Into<crate::sql::Sql>) {
        self.emit(Step::run(sql));
    }

    /// A statement that only means something with the extension.
    pub fn run_with_extension(&mut self, step: Step) {
        if !self.mode.plain {
            self.emit(step);
        }
    }

    // ---- locks -------------------------------------------------------------------------------------------------

    fn others(&self, session: usize) -> impl Iterator<Item = &Transaction> {
        let open = self.open.iter().enumerate().filter(move |(s, _)| *s != session).filter_map(|(_, t)| t.as_ref());
        open.chain(self.prepared.iter().map(|(_, t)| t))
    }

    /// What a session may do to a table without waiting for another transaction.
    pub fn access(&self, session: usize, table: &Table) -> Access {
        let held = self.others(session).filter_map(|t| t.touched.get(&table.family)).max();
        match held {
            None => Access::Alone,
            Some(Level::Read) => Access::Anything,
            Some(Level::Insert) if !table.is_strict => Access::Modify,
            Some(Level::Write) if !table.is_strict && table.leaves.is_empty() => Access::FreshInsert,
            Some(_) => Access::Nothing,
        }
    }

    /// Families that another transaction has touched: triggers cannot be put on their tables, or taken off, now.
    pub fn held_families(&self, session: usize) -> BTreeSet<Family> {
        self.others(session).flat_map(|t| t.touched.keys()).copied().collect()
    }

    pub fn alone_with(&self, table: &Table) -> bool {
        self.access(MAIN, table) == Access::Alone
    }

    /// Keeps other sessions away until the end of the transaction.
    pub fn hold(&mut self, session: usize, family: Family, level: Level) {
        if let Some(transaction) = &mut self.open[session] {
            let held = transaction.touched.entry(family).or_insert(level);
            *held = (*held).max(level);
        }
    }

    // ---- transactions ------------------------------------------------------------------------------------------

    pub fn in_transaction(&self, session: usize) -> bool {
        self.open[session].is_some()
    }

    pub fn begin(&mut self, session: usize) {
        self.transactions += 1;
        let number = self.transactions;
        let repeatable_read = self.dice.feature("repeatable read", 0.15);
        let mark = Mark { name: String::new(), world: self.world.clone() };
        self.open[session] = Some(Transaction { number, touched: BTreeMap::new(), repeatable_read, marks: vec![mark] });
        self.control(session, Control::Begin { repeatable_read }, number);
    }

    fn control(&mut self, session: usize, control: Control, number: u32) {
        let step = Step::run(control.statement()).control(control, number);
        self.emit(Step { session, ..step });
    }

    pub fn savepoint(&mut self, session: usize) {
        let name = self.names.fresh("sp");
        let mark = Mark { name: name.clone(), world: self.world.clone() };
        let transaction = self.open[session].as_mut().expect("a savepoint needs a transaction");
        transaction.marks.push(mark);
        let number = transaction.number;
        self.control(session, Control::Savepoint(name), number);
    }

    pub fn savepoints(&self, session: usize) -> usize {
        self.open[session].as_ref().map_or(0, |t| t.marks.len() - 1)
    }

    /// Releases the innermost savepoint, or rolls back to it and keeps it.
    pub fn end_savepoint(&mut self, session: usize, keep_changes: bool) {
        let transaction = self.open[session].as_mut().expect("a savepoint needs a transaction");
        let number = transaction.number;
        let mark = transaction.marks.last().expect("the caller has seen a savepoint").clone();
        if keep_changes {
            transaction.marks.pop();
            return self.control(session, Control::Release(mark.name), number);
        }
        if session == MAIN {
            self.world.roll_back_to(mark.world);
        }
        self.control(session, Control::RollBackTo(mark.name), number);
    }

    pub fn commit(&mut self, session: usize) {
        let transaction = self.open[session].take().expect("there is a transaction to commit");
        self.control(session, Control::Commit, transaction.number);
    }

    pub fn roll_back(&mut self, session: usize) {
        let mut transaction = self.open[session].take().expect("there is a transaction to roll back");
        self.control(session, Control::RollBack, transaction.number);
        if session == MAIN {
            self.world.roll_back_to(transaction.marks.swap_remove(0).world);
        }
    }

    /// The session is ended by the server in the midst of its transaction.
    pub fn kill(&mut self, session: usize) {
        let mut transaction = self.open[session].take().expect("there is a transaction to lose");
        let step = Step::new(Action::Kill).control(Control::Kill, transaction.number);
        self.emit(Step { session, ..step });
        if session == MAIN {
            self.world.roll_back_to(transaction.marks.swap_remove(0).world);
        }
    }

    /// PREPARE TRANSACTION; returns its global identifier.
    pub fn prepare(&mut self, session: usize) -> String {
        let transaction = self.open[session].take().expect("there is a transaction to prepare");
        let gid = format!("{}_{}", self.mode.tag, self.names.fresh("gid"));
        self.control(session, Control::Prepare(gid.clone()), transaction.number);
        self.prepared.push((gid.clone(), transaction));
        gid
    }

    /// COMMIT PREPARED or ROLLBACK PREPARED, by any session that is not in a transaction.
    pub fn finish_prepared(&mut self, session: usize, gid: String, prepared_by_main: bool, commit: bool) {
        let position =
            self.prepared.iter().position(|(g, _)| *g == gid).expect("a prepared transaction is finished once");
        let (_, mut transaction) = self.prepared.remove(position);
        let control = if commit { Control::CommitPrepared(gid) } else { Control::RollBackPrepared(gid) };
        self.control(session, control, transaction.number);
        if prepared_by_main && !commit {
            self.world.roll_back_to(transaction.marks.swap_remove(0).world);
        }
    }

    /// What a statement of a session may run into because the session's snapshot is old.
    pub fn conflicts(&self, session: usize) -> Codes {
        let is_repeatable = self.open[session].as_ref().is_some_and(|t| t.repeatable_read);
        if is_repeatable { CONFLICTS } else { NONE }
    }

    // ---- data --------------------------------------------------------------------------------------------------

    /// One random change, unless there is nothing a session may change now.
    pub fn change(&mut self, session: usize) {
        let access = self.world.tables.iter().map(|t| self.access(session, t)).collect();
        let mut maker = ChangeMaker { dice: &mut self.dice, world: &mut self.world, access };
        let Some(mut drawn) = maker.draw(session == MAIN) else { return };
        drawn.step.session = session;
        drawn.step = drawn.step.may_fail(self.conflicts(session));
        let others = self.open.iter().enumerate().any(|(other, open)| other != session && open.is_some());
        if others || !self.prepared.is_empty() {
            // Whether a key is taken may be for another transaction to say.
            drawn.step = drawn.step.may_fail(LOCKED);
        }
        let replica = session == MAIN
            && drawn.step.may_fail.is_empty()
            && self.dice.feature("session_replication_role = replica", 0.03);
        drawn.step.changes =
            drawn.touched.iter().filter(|(_, level)| *level > Level::Read).map(|(family, _)| *family).collect();
        if replica {
            self.run("SET session_replication_role = replica");
        }
        drawn.step.role = self.writer(&drawn.step).filter(|_| !replica);
        self.emit(drawn.step);
        if replica {
            self.run("RESET session_replication_role");
        }
        for (family, level) in drawn.touched {
            self.hold(session, family, level);
        }
    }

    /// Fills every table to some extent.
    pub fn fill_tables(&mut self) {
        for position in 0..self.world.tables.len() {
            self.fill(TableId(position));
        }
    }

    fn fill(&mut self, id: TableId) {
        let table = self.world.table(id).clone();
        if self.dice.feature("empty table", 0.06) {
            return;
        }
        let access = vec![Access::Alone; self.world.tables.len()];
        let mut maker = ChangeMaker { dice: &mut self.dice, world: &mut self.world, access };
        let steps = maker.initial_rows(&table);
        for action in steps {
            self.emit(Step::new(action).on_table(id).may_fail(VIOLATIONS).changing(table.family));
        }
    }

    /// Materialized views that are maintained.
    pub fn streams(&self) -> Vec<ViewId> {
        self.world.materialized().into_iter().filter(|v| self.world.sort(*v) == ViewSort::Stream).collect()
    }

    pub fn has_dependants(&self, view: ViewId) -> bool {
        self.world.alive().into_iter().any(|v| self.catalog.get(v).parents.contains(&view))
    }
}
