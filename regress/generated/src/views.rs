//! The life of views: created in every spelling, indexed, refreshed, compared, adopted, released, dropped.

use std::collections::BTreeSet;

use crate::author::{Author, MAIN};
use crate::change::Level;
use crate::query::QueryMaker;
use crate::sql;
use crate::sql::{Sql, ViewId, literal};
use crate::step::{Action, LOCKED, Step};
use crate::world::{Definition, ViewSort, ViewState};

/// Views over views over views: so deep, and no deeper.
const DEEPEST: usize = 4;

#[derive(Clone, Copy, PartialEq)]
enum Spelling {
    Option,
    Function,
    Adopt,
    AdoptStale,
}

impl Author {
    /// Draws a query over tables and views, or `None` if every table is held by another transaction.
    fn draw_definition(&mut self, is_plain: bool) -> Option<(Definition, bool)> {
        let excluded = self.held_families(MAIN);
        if self.world.tables.iter().all(|t| excluded.contains(&t.family)) {
            return None;
        }
        let is_owned = self.draws_owner();
        // What a plain view calls runs as the owner of whatever reads it.
        let guarded_for = (self.dice.feature("guarded", 0.33) && !is_plain).then(|| self.guard_of(is_owned));
        let only_core = self.dice.chance(0.72);
        let mut maker = QueryMaker {
            dice: &mut self.dice,
            world: &self.world,
            catalog: &self.catalog,
            excluded: &excluded,
            deepest: DEEPEST,
            only_core,
            is_core: true,
            has_groups: false,
            families: BTreeSet::new(),
            tables: BTreeSet::new(),
            depth: 0,
            aliases: 0,
            pinned: vec![],
            guarded_for,
        };
        let query = maker.any();
        let is_flat = maker.is_core && !maker.has_groups;
        let (is_core, families, tables, depth) = (maker.is_core, maker.families, maker.tables, maker.depth + 1);
        let name = self.names.fresh_or_quoted("v", &mut self.dice);
        let key = query.key.filter(|k| !k.is_empty());
        let parents = query.sql.references();
        Some((
            Definition {
                name,
                query: query.sql,
                outputs: query.outputs,
                key,
                parents,
                families,
                tables,
                rows: query.rows,
                depth,
                is_plain,
                is_owned,
                is_flat,
            },
            is_core,
        ))
    }

    /// Capture begins or ends for a view's sources: the rest of the transaction has them for itself.
    fn hold_sources(&mut self, view: ViewId) {
        for family in self.catalog.get(view).families.clone() {
            self.hold(MAIN, family, Level::Exclusive);
        }
    }

    fn define(&mut self, definition: Definition, sort: ViewSort, populated: bool) -> ViewId {
        let view = ViewId(self.catalog.definitions.len());
        self.catalog.definitions.push(definition);
        self.world.views.push(ViewState { alive: true, sort, populated });
        view
    }

    /// A statement about a view, to be dropped with it and with everything it reads.
    pub fn on_view(&self, view: ViewId, sql: impl Into<Sql>) -> Step {
        let mut step = Step::run(sql).on_view(view);
        step.views.extend(self.catalog.ancestors(view));
        step.tables.extend(&self.catalog.get(view).tables);
        step
    }

    pub fn create_plain_view(&mut self) {
        let Some((definition, _)) = self.draw_definition(true) else { return };
        let view = self.define(definition, ViewSort::Plain, true);
        let step = self.on_view(view, sql!["CREATE VIEW ", view, " AS ", Sql::query_of(view)]);
        self.emit_as_owner(view, step);
    }

    pub fn create_view(&mut self) {
        if let Some((definition, is_core)) = self.draw_definition(false) {
            self.create_defined(definition, is_core);
        }
    }

    fn create_defined(&mut self, definition: Definition, is_core: bool) {
        let spelling = self.dice.choose(&[
            ("created with options", 10, Spelling::Option),
            ("created by function", 6, Spelling::Function),
            ("adopted", 3, Spelling::Adopt),
            ("adopted when stale", 2, Spelling::AdoptStale),
        ]);
        let populated = !self.dice.feature("created with no data", 0.1);
        let view = self.define(definition, ViewSort::Stream, populated);
        let step = self.creation(view, spelling, populated, is_core).filling(populated.then_some(view));
        self.hold_sources(view);
        self.emit_as_owner(view, step);
        if spelling == Spelling::AdoptStale {
            self.change(MAIN);
        }
        if matches!(spelling, Spelling::Adopt | Spelling::AdoptStale) {
            let step =
                self.on_view(view, sql!["ALTER MATERIALIZED VIEW ", view, " SET (pg_trickle.incremental = true)"]);
            let role = self.owner_of(view);
            self.run_with_extension(Step { role, ..step });
        }
        if self.dice.chance(0.3) {
            self.create_index(view);
        }
    }

    /// The statement that creates a view. Random choices are the same in plain mode.
    fn creation(&mut self, view: ViewId, spelling: Spelling, populated: bool, is_core: bool) -> Step {
        let mode = match self.dice.count(0..=9) {
            0..=3 if is_core => Some("DIFFERENTIAL"),
            4 => Some("FULL"),
            5 | 6 => Some("AUTO"),
            _ => None,
        };
        let options = self.creation_options(mode);
        let data = if populated { "" } else { " WITH NO DATA" };
        let query = Sql::query_of(view);
        if self.mode.plain || matches!(spelling, Spelling::Adopt | Spelling::AdoptStale) {
            return self.on_view(view, sql!["CREATE MATERIALIZED VIEW ", view, " AS ", query, data]);
        }
        if spelling == Spelling::Option {
            return self
                .on_view(view, sql!["CREATE MATERIALIZED VIEW ", view, " WITH (", options, ") AS ", query, data]);
        }
        let name = literal(&self.catalog.get(view).name);
        let mode = mode.map(|m| format!(", refresh_mode => '{m}'")).unwrap_or_default();
        let rest = format!("$query$, schedule => '1h'{mode}, initialize => {populated})");
        self.on_view(
            view,
            sql![format!("SELECT pgtrickle.create_stream_table(name => {name}, query => $query$"), query, rest],
        )
    }

    fn creation_options(&mut self, mode: Option<&str>) -> String {
        let on = *self.dice.pick(&[
            "pg_trickle.incremental",
            "pg_trickle.incremental = true",
            "\"pg_trickle.incremental\" = 'true'",
        ]);
        let mut options = vec![on.to_string(), "pg_trickle.schedule = '1h'".to_string()];
        options.extend(mode.map(|m| format!("pg_trickle.refresh_mode = '{m}'")));
        if self.dice.chance(0.2) {
            options.push("fillfactor = 70".to_string());
        }
        options.join(", ")
    }

    /// An index of the user's on a view; unique when the view's key is certain.
    fn create_index(&mut self, view: ViewId) {
        let definition = self.catalog.get(view);
        let names = |positions: &[usize]| {
            positions.iter().map(|&p| definition.outputs[p].name.clone()).collect::<Vec<_>>().join(", ")
        };
        let indexable: Vec<usize> =
            (0..definition.outputs.len()).filter(|&p| definition.outputs[p].kind.is_indexable()).collect();
        let (unique, plain) =
            (definition.key.as_ref().map(|k| names(k)), self.dice.pick_any(&indexable).map(|p| names(&[p])));
        let sql = match (unique, plain) {
            (Some(columns), _) if self.dice.feature("unique index on a view", 0.5) => {
                sql!["CREATE UNIQUE INDEX ON ", view, format!(" ({columns}) NULLS NOT DISTINCT")]
            }
            (_, Some(column)) => {
                self.dice.hit("index on a view");
                sql!["CREATE INDEX ON ", view, format!(" ({column})")]
            }
            _ => return,
        };
        let step = self.on_view(view, sql);
        self.emit(step);
    }

    // ---- refresh and compare -----------------------------------------------------------------------------------

    /// Refreshes some views, or all, in random order; they and all below them are fresh then.
    pub fn refresh_some(&mut self) {
        let views = self.world.materialized();
        let chosen = if self.dice.feature("refresh every view", 0.4) { views } else { self.dice.several(&views, 1, 3) };
        let mut left = chosen;
        while !left.is_empty() {
            let position = self.dice.count(0..=left.len() - 1);
            let view = left.swap_remove(position);
            // Only a stream table goes by the settings it was made under.
            let pinned = self.world.sort(view) == ViewSort::Stream && !self.mode.plain;
            // Whatever is drawn, plain mode draws too.
            let settings = self.dice.feature("refresh under other settings", 0.15);
            let changed = if settings { self.other_settings(pinned) } else { vec![] };
            self.vary_strategy();
            if self.dice.feature("explained before it is refreshed", 0.1) {
                let step = self.on_view(view, sql!["EXPLAIN REFRESH MATERIALIZED VIEW ", view]);
                let role = self.refresher(view);
                if pinned {
                    self.emit(Step { role, ..step });
                }
            }
            self.refresh(view);
            for name in changed {
                self.run(format!("RESET {name}"));
            }
        }
    }

    /// Changes settings on which values depend, if the view does not go by them, and returns the names of those changed.
    fn other_settings(&mut self, pinned: bool) -> Vec<&'static str> {
        let choices = [
            ("TimeZone", ["'Asia/Tokyo'", "'America/New_York'"]),
            ("DateStyle", ["'German'", "'SQL, DMY'"]),
            ("extra_float_digits", ["0", "-3"]),
            ("IntervalStyle", ["'iso_8601'", "'sql_standard'"]),
            ("bytea_output", ["escape", "hex"]),
        ];
        let drawn = self.dice.several(&choices, 1, choices.len());
        for (name, values) in &drawn {
            let value = self.dice.pick(values);
            if pinned {
                self.run(format!("SET {name} = {value}"));
            }
        }
        drawn.into_iter().filter(|_| pinned).map(|(name, _)| name).collect()
    }

    fn vary_strategy(&mut self) {
        let strategy = *self.dice.pick(&["delta", "delta", "auto", "full"]);
        if self.dice.chance(0.2) && self.mode.strategy.is_none() {
            self.run_with_extension(Step::run(format!("SET pg_trickle.refresh_strategy = '{strategy}'")));
        }
    }

    pub fn refresh(&mut self, view: ViewId) {
        let is_materialized = |v: &ViewId| self.world.sort(*v) != ViewSort::Plain;
        let mut wave: Vec<ViewId> = self.catalog.ancestors(view).into_iter().filter(is_materialized).collect();
        if !self.may_populate(view) || wave.iter().any(|v| !self.may_populate(*v)) {
            return;
        }
        let concurrently = self.dice.feature("refresh concurrently", 0.08);
        let by_function = self.dice.feature("refresh by function", 0.3);
        let by_itself = self.mode.plain || self.world.sort(view) == ViewSort::Released;
        if by_itself {
            for below in wave.iter().copied().filter(|v| !self.freshness.contains(*v)).collect::<Vec<_>>() {
                let step = self.on_view(below, sql!["REFRESH MATERIALIZED VIEW ", below]).filling([below]);
                self.emit(step);
            }
        }
        let populated = self.world.views[view.0].populated;
        let sql = if by_function && !by_itself {
            Sql::from(format!("SELECT pgtrickle.refresh_stream_table({})", literal(&self.catalog.get(view).name)))
        } else if concurrently && populated && !by_itself {
            sql!["REFRESH MATERIALIZED VIEW CONCURRENTLY ", view]
        } else {
            sql!["REFRESH MATERIALIZED VIEW ", view]
        };
        wave.push(view);
        for filled in wave.clone() {
            if !self.world.views[filled.0].populated {
                self.world.views[filled.0].populated = true;
                self.hold_sources(filled);
            }
        }
        let filled = if by_itself { vec![view] } else { wave };
        let step = self.on_view(view, sql).filling(filled);
        let role = self.refresher(view);
        self.emit(Step { role, ..step });
    }

    /// An empty view starts capture when it is first filled, which must not meet an open transaction's changes.
    fn may_populate(&self, view: ViewId) -> bool {
        self.world.views[view.0].populated || self.catalog.get(view).families.is_disjoint(&self.held_families(MAIN))
    }

    /// Compares all views that must be equal to their queries now.
    pub fn check(&mut self) {
        let is_comparable = |v: &ViewId| self.freshness.contains(*v);
        let views: Vec<ViewId> = self.world.materialized().into_iter().filter(is_comparable).collect();
        for batch in views.chunks(4) {
            let role = self.reader();
            self.emit(Step { role, ..Step::new(Action::Check(batch.to_vec())) });
        }
    }

    // ---- the rest of a view's life -----------------------------------------------------------------------------

    /// Views whose sources no other transaction holds, so that capture can be started or ended for them.
    fn movable_views(&self) -> Vec<ViewId> {
        let held = self.held_families(MAIN);
        self.world.materialized().into_iter().filter(|v| self.catalog.get(*v).families.is_disjoint(&held)).collect()
    }

    pub fn drop_view(&mut self) {
        let Some(view) = self.dice.pick_any(&self.movable_views()) else { return };
        let cascade = self.has_dependants(view);
        let dead: Vec<ViewId> =
            self.world.alive().into_iter().filter(|v| *v == view || self.catalog.reads(*v, view)).collect();
        let held = self.held_families(MAIN);
        if dead.iter().any(|v| !self.catalog.get(*v).families.is_disjoint(&held)) {
            return;
        }
        let by_function = self.dice.feature("dropped by function", 0.3);
        let is_stream = self.world.sort(view) == ViewSort::Stream;
        if cascade && !self.dice.feature("drop cascade", 0.3) {
            return;
        }
        let sql = if by_function && is_stream && !self.mode.plain {
            let name = literal(&self.catalog.get(view).name);
            Sql::from(format!("SELECT pgtrickle.drop_stream_table({name}, cascade => {cascade})"))
        } else {
            sql!["DROP MATERIALIZED VIEW ", view, if cascade { " CASCADE" } else { "" }]
        };
        for gone in &dead {
            self.world.views[gone.0].alive = false;
            self.hold_sources(*gone);
        }
        let step = self.on_view(view, sql).clearing(dead);
        self.emit(step);
        if self.dice.feature("dropped and created again", 0.5) {
            let definition = self.catalog.get(view).clone();
            self.create_defined(definition, false);
        }
    }

    /// Sets a view free, or takes it back.
    pub fn release_or_adopt(&mut self) {
        let free: Vec<ViewId> = self.movable_views().into_iter().filter(|v| !self.has_dependants(*v)).collect();
        let Some(view) = self.dice.pick_any(&free) else { return };
        let (sort, value) = match self.world.sort(view) {
            ViewSort::Released => (ViewSort::Stream, "true"),
            _ => (ViewSort::Released, "false"),
        };
        self.dice.hit(if sort == ViewSort::Stream { "adopted again" } else { "released" });
        self.world.views[view.0].sort = sort;
        self.hold_sources(view);
        let step = self
            .on_view(view, sql!["ALTER MATERIALIZED VIEW ", view, format!(" SET (pg_trickle.incremental = {value})")]);
        self.run_with_extension(step);
    }

    pub fn change_settings(&mut self) {
        let Some(view) = self.dice.pick_any(&self.streams()) else { return };
        let setting = *self.dice.pick(&[
            "SET (pg_trickle.schedule = '2h')",
            "SET (fillfactor = 80)",
            "RESET (fillfactor)",
            "SET (pg_trickle.refresh_mode = 'AUTO')",
        ]);
        let step = self.on_view(view, sql!["ALTER MATERIALIZED VIEW ", view, format!(" {setting}")]);
        let step = if setting.contains("refresh_mode") { step.may_fail(LOCKED) } else { step };
        self.run_with_extension(step);
    }

    pub fn unpopulate(&mut self) {
        let is_leaf = |v: &ViewId| !self.has_dependants(*v) && self.world.sort(*v) == ViewSort::Stream;
        let leaves: Vec<ViewId> = self.movable_views().into_iter().filter(is_leaf).collect();
        let Some(view) = self.dice.pick_any(&leaves) else { return };
        self.world.views[view.0].populated = false;
        self.hold_sources(view);
        let step = self.on_view(view, sql!["REFRESH MATERIALIZED VIEW ", view, " WITH NO DATA"]).clearing([view]);
        self.emit(step);
    }

    /// Looks at the extension's reports: they must answer, whatever they say.
    pub fn observe(&mut self) {
        let Some(view) = self.dice.pick_any(&self.streams()) else { return };
        let name = literal(&self.catalog.get(view).name);
        let calls = [
            "SELECT * FROM pgtrickle.pgt_status()".to_string(),
            format!("SELECT * FROM pgtrickle.explain_st({name})"),
            format!("SELECT * FROM pgtrickle.explain_refresh_mode({name})"),
            format!("SELECT * FROM pgtrickle.list_sources({name})"),
            format!("SELECT * FROM pgtrickle.get_refresh_history({name})"),
            "SELECT * FROM pgtrickle.change_buffer_sizes()".to_string(),
            "SELECT * FROM pgtrickle.pgt_stream_tables".to_string(),
        ];
        let call = self.dice.pick(&calls).clone();
        let mut step = self.on_view(view, call);
        if self.dice.chance(0.3) {
            step = self.on_view(view, sql!["EXPLAIN REFRESH MATERIALIZED VIEW ", view]);
        }
        self.run_with_extension(step);
    }
}
