//! An episode: tables, views over them, then rounds of changes, refreshes and comparisons, alone and in transactions,
//! with other sessions' transactions open across refreshes.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::aggregate;
use crate::author::{Author, MAIN, Mode, SESSIONS};
use crate::dice::{Coverage, Dice};
use crate::expr;
use crate::guard;
use crate::schema;
use crate::step::{Action, Step};
use crate::world::Catalog;

/// Everything needed to run an episode, or to print it.
#[derive(Clone)]
pub struct Episode {
    pub number: u64,
    /// Settings every session starts with, after its search path.
    pub settings: Vec<String>,
    pub steps: Vec<Step>,
    pub catalog: Catalog,
    /// Roles it needs.
    pub roles: Vec<String>,
}

pub fn generate(seed: u64, number: u64, skipped: Arc<BTreeSet<String>>, mode: &Mode) -> (Episode, Coverage) {
    let dice = Dice::new(seed, number, skipped);
    let mut author = Author::new(dice, mode.clone());
    let settings = author.settings();
    author.set_up();
    for _ in 0..author.dice.count(4..=9) {
        author.round();
    }
    author.close();
    let roles = author.role_names();
    let Author { dice, steps, catalog, .. } = author;
    (Episode { number, settings, steps, catalog, roles }, dice.into_coverage())
}

impl Author {
    /// Planner settings that make plans unlike each other, in a minority of episodes.
    fn settings(&mut self) -> Vec<String> {
        let mut settings = vec![];
        if self.dice.feature("little work_mem", 0.1) {
            settings.push("work_mem = '64kB'");
        }
        for setting in [
            "enable_hashjoin = off",
            "enable_mergejoin = off",
            "enable_nestloop = off",
            "enable_hashagg = off",
            "enable_seqscan = off",
        ] {
            if self.dice.chance(0.06) {
                settings.push(setting);
            }
        }
        if self.dice.feature("parallel query", 0.02) {
            settings.push("debug_parallel_query = on");
        }
        if self.dice.feature("cheap workers", 0.04) {
            settings.extend(["min_parallel_table_scan_size = 0", "parallel_setup_cost = 0", "parallel_tuple_cost = 0"]);
        }
        if self.dice.feature("generic plans", 0.1) {
            settings.push("plan_cache_mode = force_generic_plan");
        }
        let mut settings: Vec<String> = settings.into_iter().map(str::to_string).collect();
        if let (Some(strategy), false) = (&self.mode.strategy, self.mode.plain) {
            settings.push(format!("pg_trickle.refresh_strategy = '{strategy}'"));
        }
        settings
    }

    fn set_up(&mut self) {
        self.draw_cast();
        for step in schema::generate(&mut self.dice, &mut self.names, &mut self.world) {
            let is_first = self.steps.is_empty();
            self.emit(step);
            if is_first {
                self.grant();
            }
        }
        self.run(guard::DEFINITION);
        for definition in expr::DEFINITIONS.iter().chain(aggregate::DEFINITIONS) {
            self.run(*definition);
        }
        if self.dice.chance(0.8) {
            self.fill_tables();
        }
        if self.dice.chance(0.7) {
            self.change_policy();
        }
        for _ in 0..self.dice.count(1..=4) {
            if self.dice.chance(0.1) {
                self.create_plain_view();
            }
            self.create_view();
        }
        self.check();
    }

    /// Changes of some sort, then a refresh and a comparison.
    fn round(&mut self) {
        type Part = fn(&mut Author);
        let part: Part = self.dice.choose(&[
            ("changes", 10, Author::burst as Part),
            ("transaction", 9, Author::transaction),
            ("no change", 1, |_| {}),
            ("ddl on sources", 3, Author::schema_burst),
            ("view comes", 2, |author| {
                author.change(MAIN);
                author.create_view();
            }),
            ("view goes", 1, Author::drop_view),
            ("release or adopt", 1, Author::release_or_adopt),
            ("names change", 1, Author::rename_view),
            ("policies change", if self.cast.has_policies { 5 } else { 0 }, Author::change_policy),
            ("settings change", 1, Author::change_settings),
            ("unpopulated", 1, Author::unpopulate),
            ("reports", 1, Author::observe),
            ("reconnect", 1, |author| author.emit(Step::new(Action::Reconnect))),
        ]);
        part(self);
        self.elsewhere();
        self.refresh_some();
        self.check();
    }

    fn burst(&mut self) {
        for _ in 0..self.dice.count(1..=4) {
            self.change(MAIN);
            self.elsewhere();
        }
    }

    fn schema_burst(&mut self) {
        self.change(MAIN);
        self.change_schema();
        if self.dice.chance(0.6) {
            self.change(MAIN);
        }
    }

    // ---- the main session's transactions -----------------------------------------------------------------------

    fn transaction(&mut self) {
        self.begin(MAIN);
        for _ in 0..self.dice.count(1..=7) {
            self.act_in_transaction();
            self.elsewhere();
        }
        #[derive(Clone, Copy)]
        enum End {
            Commit,
            RollBack,
            Kill,
            Prepare,
        }
        let two_phase = if self.mode.two_phase { 1 } else { 0 };
        match self.dice.choose(&[
            ("commit", 5, End::Commit),
            ("rollback", 3, End::RollBack),
            ("killed", 1, End::Kill),
            ("two-phase commit", two_phase, End::Prepare),
        ]) {
            End::Commit => self.commit(MAIN),
            End::RollBack => self.roll_back(MAIN),
            End::Kill => self.kill(MAIN),
            End::Prepare => {
                let gid = self.prepare(MAIN);
                let commit = self.dice.chance(0.7);
                self.finish_prepared(MAIN, gid, true, commit);
            }
        }
        // What was fresh before a rollback is fresh again.
        self.check();
    }

    fn act_in_transaction(&mut self) {
        type Part = fn(&mut Author);
        let is_nested = self.savepoints(MAIN) > 0;
        let part: Part = self.dice.choose(&[
            ("change in transaction", 12, (|author| author.change(MAIN)) as Part),
            ("refresh in transaction", 5, |author| {
                author.refresh_some();
                author.check();
            }),
            ("savepoint", 3, |author| author.savepoint(MAIN)),
            ("rollback to savepoint", if is_nested { 4 } else { 0 }, |author| {
                author.end_savepoint(MAIN, false);
                author.check();
            }),
            ("release savepoint", if is_nested { 2 } else { 0 }, |author| author.end_savepoint(MAIN, true)),
            ("view created in transaction", 1, Author::create_view),
            ("view dropped in transaction", 1, Author::drop_view),
            ("ddl in transaction", 1, Author::change_schema),
            ("names change in transaction", 1, Author::rename_view),
            ("policies change in transaction", if self.cast.has_policies { 1 } else { 0 }, Author::change_policy),
        ]);
        part(self);
    }

    // ---- the other sessions ------------------------------------------------------------------------------------

    /// Lets another session do something, sometimes: begin, write, commit, or leave its transaction open.
    fn elsewhere(&mut self) {
        if !self.dice.chance(0.25) {
            return;
        }
        let session = self.dice.count(1..=SESSIONS - 1);
        if !self.dice.allows("concurrent sessions") {
            return;
        }
        self.dice.hit("concurrent sessions");
        if !self.in_transaction(session) {
            return self.start_elsewhere(session);
        }
        match self.dice.count(0..=9) {
            0..=3 => self.change(session),
            4 => self.savepoint(session),
            5 if self.savepoints(session) > 0 => {
                let keep = self.dice.chance(0.5);
                self.end_savepoint(session, keep);
            }
            _ => self.end_elsewhere(session),
        }
    }

    fn start_elsewhere(&mut self, session: usize) {
        let waiting: Vec<String> = self.prepared.iter().map(|(gid, _)| gid.clone()).collect();
        if let (Some(gid), true) = (self.dice.pick_any(&waiting), self.dice.chance(0.5)) {
            let commit = self.dice.chance(0.7);
            return self.finish_prepared(session, gid, false, commit);
        }
        if self.dice.feature("transaction open elsewhere", 0.75) {
            self.begin(session);
        }
        self.change(session);
    }

    fn end_elsewhere(&mut self, session: usize) {
        if self.dice.feature("rollback elsewhere", 0.25) {
            self.roll_back(session);
        } else if self.dice.feature("killed elsewhere", 0.1) {
            self.kill(session);
        } else if self.mode.two_phase && self.dice.feature("prepared elsewhere", 0.2) {
            self.prepare(session);
        } else {
            self.commit(session);
        }
    }

    /// Ends every open transaction, and compares everything once more.
    fn close(&mut self) {
        for session in 1..SESSIONS {
            if self.in_transaction(session) {
                self.commit(session);
            }
        }
        for (gid, _) in self.prepared.clone() {
            self.finish_prepared(MAIN, gid, false, true);
        }
        for view in self.world.materialized() {
            self.refresh(view);
        }
        self.check();
        self.run(format!("DROP SCHEMA {}, {} CASCADE", crate::run::SCHEMA, schema::SIDE_SCHEMA));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script;

    fn mode(plain: bool) -> Mode {
        Mode { plain, strategy: None, tag: "tag".to_string(), two_phase: true }
    }

    fn make(number: u64, plain: bool) -> Episode {
        generate(42, number, Arc::default(), &mode(plain)).0
    }

    #[test]
    fn an_episode_can_be_made_again() {
        let text = |number| script::psql(&make(number, false), &BTreeSet::new(), &[], false);
        (0..30).for_each(|number| assert_eq!(text(number), text(number)));
    }

    #[test]
    fn plain_mode_makes_the_same_choices() {
        for number in 0..100 {
            let (with, without) = (make(number, false), make(number, true));
            assert_eq!(format!("{:?}", with.catalog), format!("{:?}", without.catalog));
            let checks = |e: &Episode| e.steps.iter().filter(|s| matches!(s.action, Action::Check(_))).count();
            assert_eq!(checks(&with), checks(&without));
        }
    }
}
