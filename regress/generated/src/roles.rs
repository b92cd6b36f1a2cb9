//! Who does what, in some episodes: views belong to a role that may read the tables and put triggers on them, a second
//! one may refresh, a third may only change rows. Policies say which rows the owner of the views sees.

use crate::author::{Author, MAIN};
use crate::change::Level;
use crate::run::SCHEMA;
use crate::schema::SIDE_SCHEMA;
use crate::sql::ViewId;
use crate::step::{Action, Step};
use crate::world::Family;
use crate::world::{Policy, Table};

/// Which parts are played by others than the superuser.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cast {
    pub has_roles: bool,
    /// Every view is the owner's, so that a query over views means the same as one over tables.
    pub owns_all: bool,
    pub has_policies: bool,
}

/// Owner, refresher, writer.
pub fn names(tag: &str) -> [String; 3] {
    ["owner", "refresher", "writer"].map(|part| format!("{tag}_{part}"))
}

impl Author {
    pub fn draw_cast(&mut self) {
        let has_roles = self.dice.feature("roles", 0.25);
        let owns_all = self.dice.chance(0.7);
        let has_policies = self.dice.feature("row level security", if has_roles && owns_all { 0.7 } else { 0.0 });
        self.cast = Cast { has_roles, owns_all: has_roles && owns_all, has_policies };
    }

    pub fn role_names(&self) -> Vec<String> {
        if self.cast.has_roles { names(&self.mode.tag).to_vec() } else { vec![] }
    }

    /// Rights on everything that the episode will make.
    pub fn grant(&mut self) {
        if !self.cast.has_roles {
            return;
        }
        let [owner, refresher, writer] = names(&self.mode.tag);
        for schema in [SCHEMA, SIDE_SCHEMA] {
            self.run(format!("GRANT USAGE, CREATE ON SCHEMA {schema} TO {owner}"));
            self.run(format!("GRANT USAGE ON SCHEMA {schema} TO {refresher}, {writer}"));
            for (maker, privileges, role) in [
                ("CURRENT_USER", "SELECT, TRIGGER, MAINTAIN", &owner),
                ("CURRENT_USER", "MAINTAIN", &refresher),
                (&owner, "MAINTAIN", &refresher),
                ("CURRENT_USER", "SELECT, INSERT, UPDATE, DELETE, TRUNCATE", &writer),
            ] {
                self.run(format!(
                    "ALTER DEFAULT PRIVILEGES FOR ROLE {maker} IN SCHEMA {schema} GRANT {privileges} ON TABLES TO {role}"
                ));
            }
        }
    }

    /// As whom a guard in a view of the owner's, or of the session's user, is to be run.
    pub fn guard_of(&self, is_owned: bool) -> String {
        let [owner, ..] = names(&self.mode.tag);
        if is_owned { owner } else { String::new() }
    }

    pub fn draws_owner(&mut self) -> bool {
        let half = self.dice.chance(0.5);
        self.cast.has_roles && (self.cast.owns_all || half)
    }

    pub fn owner_of(&self, view: ViewId) -> Option<String> {
        let [owner, ..] = names(&self.mode.tag);
        self.catalog.get(view).is_owned.then_some(owner)
    }

    pub fn emit_as_owner(&mut self, view: ViewId, step: Step) {
        let role = self.owner_of(view);
        self.emit(Step { role, ..step });
    }

    pub fn refresher(&mut self, view: ViewId) -> Option<String> {
        let [_, refresher, _] = names(&self.mode.tag);
        match self.dice.count(0..=2) {
            _ if !self.cast.has_roles => None,
            0 => self.owner_of(view),
            1 => Some(refresher),
            _ => None,
        }
    }

    /// Who compares: the owner, where policies hide rows from it.
    pub fn reader(&self) -> Option<String> {
        let [owner, ..] = names(&self.mode.tag);
        self.cast.owns_all.then_some(owner)
    }

    /// COPY FROM does not work under row level security.
    pub fn writer(&mut self, step: &Step) -> Option<String> {
        let [_, _, writer] = names(&self.mode.tag);
        let drawn = self.dice.chance(0.5) && self.cast.has_roles;
        (drawn && matches!(step.action, Action::Run(_))).then_some(writer)
    }

    /// Row level security comes, changes, or goes, for a table that no other transaction has touched.
    pub fn change_policy(&mut self) {
        let alone: Vec<Table> = self.world.tables.iter().filter(|t| self.alone_with(t)).cloned().collect();
        let condition = *self.dice.pick(&["k < 3", "k IS NOT NULL", "k IN (1, 2, 4)", "k IS DISTINCT FROM 2", "true"]);
        let choice = self.dice.count(0..=3);
        let Some(table) = self.dice.pick_any(&alone).filter(|_| self.cast.has_policies) else { return };
        let [owner, _, writer] = names(&self.mode.tag);
        let name = &table.name;
        let enable = format!("ALTER TABLE {name} ENABLE ROW LEVEL SECURITY");
        let (policy, statements) = match (table.policy, choice) {
            (Policy::None, _) => {
                let all = format!("CREATE POLICY writes ON {name} TO {writer} USING (true)");
                let some = format!("CREATE POLICY reads ON {name} TO {owner} USING ({condition})");
                (Policy::Enabled, vec![all, some, enable])
            }
            (Policy::Disabled, 0..=2) => (Policy::Enabled, vec![enable]),
            (Policy::Enabled, 0) => (Policy::Disabled, vec![format!("ALTER TABLE {name} DISABLE ROW LEVEL SECURITY")]),
            (policy, _) => (policy, vec![format!("ALTER POLICY reads ON {name} USING ({condition})")]),
        };
        for statement in statements {
            self.emit(Step::run(statement).on_table(table.id).changing(table.family));
        }
        self.hold(MAIN, table.family, Level::Exclusive);
        self.world.table_mut(table.id).policy = policy;
        self.recapture(table.family);
    }

    /// A new policy, or a new column in a whole row, may be read by views that did not read it so far: the next refresh has
    /// it captured, which waits for other transactions that change the table. So it takes place while there are none.
    pub fn recapture(&mut self, family: Family) {
        let reads = |view: &ViewId| self.catalog.get(*view).families.contains(&family);
        let readers: Vec<ViewId> = self.world.materialized().into_iter().filter(reads).collect();
        for view in readers {
            if self.world.views[view.0].populated {
                self.refresh(view);
            }
        }
    }
}
