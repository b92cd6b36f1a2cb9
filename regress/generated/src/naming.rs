//! What things are called now. Texts of an episode use the first names of tables, columns and views throughout; they
//! are translated when a statement is sent, so that a step means the same whichever renames the shrinker leaves out.

use std::collections::BTreeMap;

use crate::author::MAIN;
use crate::run::SCHEMA;
use crate::schema::SIDE_SCHEMA;
use crate::sql::{Definitions, Sql, ViewId};
use crate::step::{Control, Step};
use crate::world::Catalog;

/// What a step does to names; each thing is told by its first name.
#[derive(Clone, PartialEq, Debug)]
pub enum Rename {
    Relation { first: String, now: String },
    Schema { first: String, now: &'static str },
    Column { first: String, now: String },
    Output { view: ViewId, first: String, now: String },
}

/// A relation's schema and name, where they are not the first ones.
#[derive(Clone, Debug, Default)]
struct Place {
    schema: Option<&'static str>,
    name: Option<String>,
}

#[derive(Clone, Debug, Default)]
struct Called {
    relations: BTreeMap<String, Place>,
    columns: BTreeMap<String, String>,
    outputs: BTreeMap<(ViewId, String), String>,
}

#[derive(Clone, Debug, Default)]
pub struct Naming {
    now: Called,
    /// The main session's transaction: the names when it began, and at each savepoint. No other session renames.
    marks: Vec<(String, Called)>,
}

impl Naming {
    /// To be called when the step has run.
    pub fn apply(&mut self, step: &Step) {
        match step.rename.clone() {
            Some(Rename::Relation { first, now }) => self.now.relations.entry(first).or_default().name = Some(now),
            Some(Rename::Schema { first, now }) => self.now.relations.entry(first).or_default().schema = Some(now),
            Some(Rename::Column { first, now }) => drop(self.now.columns.insert(first, now)),
            Some(Rename::Output { view, first, now }) => drop(self.now.outputs.insert((view, first), now)),
            None => {}
        }
        if let (Some((control, _)), MAIN) = (&step.control, step.session) {
            self.control(control);
        }
    }

    fn control(&mut self, control: &Control) {
        match control {
            Control::Begin { .. } => self.marks = vec![(String::new(), self.now.clone())],
            Control::Savepoint(name) => self.marks.push((name.clone(), self.now.clone())),
            Control::RollBackTo(name) => {
                if let Some(mark) = self.marks.iter().rfind(|m| m.0 == *name) {
                    self.now = mark.1.clone();
                }
            }
            Control::Release(name) => self.marks.retain(|m| m.0 != *name),
            Control::Commit | Control::CommitPrepared(_) => self.marks.clear(),
            Control::RollBack | Control::RollBackPrepared(_) | Control::Kill => {
                if let Some((_, first)) = self.marks.drain(..).next() {
                    self.now = first;
                }
            }
            Control::Prepare(_) => {}
        }
    }

    /// The schema that a relation of this first name is in.
    pub fn schema_of(&self, first: &str) -> &'static str {
        let home = if first.starts_with(SIDE_SCHEMA) { SIDE_SCHEMA } else { SCHEMA };
        self.now.relations.get(local(first)).and_then(|p| p.schema).unwrap_or(home)
    }

    /// A statement as it is to be sent.
    pub fn statement(&self, sql: &Sql, catalog: &Catalog) -> String {
        self.translate(&sql.as_statement(&Present { catalog, naming: self }))
    }

    /// What a view's column is called.
    pub fn output(&self, view: ViewId, first: &str) -> String {
        self.now.outputs.get(&(view, first.to_string())).map_or(first, String::as_str).to_string()
    }

    /// A view as a relation whose columns have their first names.
    pub fn rows_of(&self, view: ViewId, catalog: &Catalog) -> String {
        let definition = catalog.get(view);
        let now = |name: &String| self.now.outputs.get(&(view, name.clone()));
        if definition.outputs.iter().all(|o| now(&o.name).is_none()) {
            return definition.name.clone();
        }
        let item = |name: &String| now(name).map_or_else(|| name.clone(), |now| format!("{now} AS {name}"));
        let items: Vec<String> = definition.outputs.iter().map(|o| item(&o.name)).collect();
        format!("(SELECT {} FROM {})", items.join(", "), definition.name)
    }

    /// Replaces first names by present ones. A first name is a word that means nothing else anywhere in an episode.
    pub fn translate(&self, text: &str) -> String {
        if self.now.relations.is_empty() && self.now.columns.is_empty() {
            return text.to_string();
        }
        let mut result = String::with_capacity(text.len());
        for word in words(text) {
            if let Some(now) = self.now.columns.get(word) {
                result.push_str(now);
            } else if let Some(place) = self.now.relations.get(word) {
                if let Some(schema) = place.schema {
                    let home = format!("{SIDE_SCHEMA}.");
                    result.truncate(result.strip_suffix(&home).map_or(result.len(), str::len));
                    result.push_str(&format!("{schema}."));
                }
                result.push_str(place.name.as_deref().unwrap_or(word));
            } else {
                result.push_str(word);
            }
        }
        result
    }
}

/// A name without its schema.
pub fn local(first: &str) -> &str {
    first.strip_prefix(SIDE_SCHEMA).map_or(first, |rest| &rest[1..])
}

/// Words, names in quotes, and single other characters.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let length = match first {
            '"' => rest[1..].find('"').map_or(rest.len(), |end| end + 2),
            c if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            c => c.len_utf8(),
        };
        let (word, after) = rest.split_at(length);
        rest = after;
        Some(word)
    })
}

/// Definitions under the names that their views' columns have now.
struct Present<'a> {
    catalog: &'a Catalog,
    naming: &'a Naming,
}

impl Definitions for Present<'_> {
    fn name(&self, view: ViewId) -> &str {
        self.catalog.name(view)
    }

    fn query(&self, view: ViewId) -> &Sql {
        self.catalog.query(view)
    }

    fn rows_of(&self, view: ViewId) -> String {
        self.naming.rows_of(view, self.catalog)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(rename: Rename) -> Step {
        Step { rename: Some(rename), ..Step::run("") }
    }

    fn control(control: Control) -> Step {
        Step::run("").control(control, 1)
    }

    #[test]
    fn names_are_replaced_as_words() {
        let mut naming = Naming::default();
        naming.apply(&step(Rename::Relation { first: "t1".into(), now: "t9".into() }));
        naming.apply(&step(Rename::Column { first: "\"C2 x\"".into(), now: "y".into() }));
        assert_eq!(naming.translate("SELECT \"C2 x\", 't1' FROM t1 AS t11"), "SELECT y, 't9' FROM t9 AS t11");
    }

    #[test]
    fn a_new_schema_takes_the_place_of_the_old() {
        let mut naming = Naming::default();
        let first = format!("{SIDE_SCHEMA}.t1");
        naming.apply(&step(Rename::Relation { first: "t1".into(), now: "t9".into() }));
        assert_eq!(naming.translate(&first), format!("{SIDE_SCHEMA}.t9"));
        naming.apply(&step(Rename::Schema { first: "t1".into(), now: SCHEMA }));
        assert_eq!(naming.translate(&first), format!("{SCHEMA}.t9"));
        assert_eq!(naming.schema_of(&first), SCHEMA);
    }

    #[test]
    fn a_rollback_brings_names_back() {
        let mut naming = Naming::default();
        naming.apply(&control(Control::Begin { repeatable_read: false }));
        naming.apply(&step(Rename::Column { first: "c1".into(), now: "c2".into() }));
        naming.apply(&control(Control::RollBack));
        assert_eq!(naming.translate("c1"), "c1");
    }
}
