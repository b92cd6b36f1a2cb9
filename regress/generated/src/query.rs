//! Queries that a view may have: what the engine maintains by delta (select, join, group, UNION ALL, WITH), and how
//! any shape is drawn. Shapes that are recomputed are in `shapes`.

use std::collections::BTreeSet;

use crate::aggregate;
use crate::dice::Dice;
use crate::expr::{Repr, Typed, condition, function_of, scalar, where_clause};
use crate::from::{Relation, Scope};
use crate::guard;
use crate::kinds::Kind;
use crate::shapes;
use crate::sql;
use crate::sql::Sql;
use crate::world::{Catalog, Family, TableId, World};

/// A column of a query's result.
#[derive(Clone, Debug)]
pub struct Output {
    pub name: String,
    pub kind: Kind,
    pub repr: Repr,
}

#[derive(Clone, Debug)]
pub struct Query {
    pub sql: Sql,
    pub outputs: Vec<Output>,
    pub rows: f64,
    pub key: Option<Vec<usize>>,
}

/// Draws one view's query, and notes on the way what the query reads.
pub struct QueryMaker<'a> {
    pub dice: &'a mut Dice,
    pub world: &'a World,
    pub catalog: &'a Catalog,
    /// Families whose tables must be left alone now.
    pub excluded: &'a BTreeSet<Family>,
    /// Views over this many others are not built upon.
    pub deepest: usize,
    /// Draw nothing that is maintained by recomputing.
    pub only_core: bool,
    /// Whether the query drawn is maintained by delta.
    pub is_core: bool,
    /// Whether anything in it is grouped.
    pub has_groups: bool,
    /// What was drawn on; a shape that was given up may have added to these.
    pub families: BTreeSet<Family>,
    pub tables: BTreeSet<TableId>,
    pub depth: usize,
    pub aliases: usize,
    pub pinned: Vec<Relation>,
    /// The role as which a guard in the query is to be run; empty: that of the session. None: there is no guard.
    pub guarded_for: Option<String>,
}

pub type Make = fn(&mut QueryMaker, usize) -> Query;

impl QueryMaker<'_> {
    /// Any query at all.
    pub fn any(&mut self) -> Query {
        let rare = if self.only_core { 0 } else { 1 };
        let core: [(_, _, Make); 6] = [
            ("select", 12, |m: &mut QueryMaker, d| m.select(d)),
            ("group by", 16, |m, d| m.grouped(d)),
            ("union all", 5, |m, d| m.union_all(d)),
            ("with", 5, |m, d| m.with(d)),
            ("lateral", 2, shapes::lateral),
            ("scalar sublink in output", 2, shapes::scalar_sublink),
        ];
        let recomputed = shapes::ALL.iter().map(|(label, weight, make)| (*label, weight * rare, *make));
        let options: Vec<(_, u32, Make)> = core.into_iter().chain(recomputed).collect();
        let make = self.dice.choose(&options);
        make(self, 2)
    }

    /// SELECT .. FROM .. WHERE ..
    pub fn select(&mut self, depth: usize) -> Query {
        let scope = self.from(depth);
        let (outputs, texts) = self.select_list(&scope.columns);
        let key = self.key_of(&scope, &outputs, &texts);
        let conditions = self.conditions(&scope);
        let rows = scope.rows;
        let sql = sql![
            "SELECT ",
            Sql::list(", ", 1, aliased(&outputs, texts)),
            " FROM ",
            scope.sql,
            where_clause(conditions)
        ];
        Query { sql, outputs, rows, key }
    }

    /// Conditions of commas, and up to two more.
    pub fn conditions(&mut self, scope: &Scope) -> Vec<String> {
        let mut conditions = scope.conditions.clone();
        for _ in 0..*self.dice.pick(&[0, 0, 1, 1, 2]) {
            conditions.push(condition(self.dice, &scope.columns));
        }
        if let Some(role) = &self.guarded_for {
            conditions.push(guard::of_constant(role));
            let is_number = |c: &&Typed| matches!(c.kind, Kind::Int | Kind::Smallint) && c.repr == Repr::Exact;
            let number = scope.columns.iter().find(is_number).filter(|_| self.dice.chance(0.5));
            conditions.extend(number.map(|column| guard::of_column(column, role)));
        }
        if self.dice.feature("sublink in where", 0.1) {
            conditions.push(shapes::sublink(self, &scope.columns));
        }
        conditions
    }

    /// One to five expressions, with the join column more often than not so that views can be joined in turn.
    pub fn select_list(&mut self, columns: &[Typed]) -> (Vec<Output>, Vec<String>) {
        let mut items: Vec<Typed> = vec![];
        if let (Some(k), true) = (columns.iter().find(|c| c.text.ends_with(".k")), self.dice.chance(0.7)) {
            items.push(k.clone());
        }
        if let (Some(id), true) = (columns.iter().find(|c| c.text.ends_with(".id")), self.dice.chance(0.4)) {
            items.push(id.clone());
        }
        for _ in 0..self.dice.count(1..=4) {
            items.push(scalar(self.dice, columns));
        }
        if self.dice.feature("sublink in output", 0.06) {
            items.push(Typed::new(format!("({})", shapes::sublink(self, columns)), Kind::Bool, Repr::Exact));
        }
        name_outputs(items)
    }

    /// The key of the only relation, if all of it is passed through.
    fn key_of(&self, scope: &Scope, outputs: &[Output], texts: &[String]) -> Option<Vec<usize>> {
        let key = scope.key.as_ref()?;
        let passed = |&k: &usize| texts.iter().position(|t| *t == scope.columns[k].text);
        let positions: Vec<usize> = key.iter().map(passed).collect::<Option<_>>()?;
        positions.iter().all(|&p| outputs[p].kind.is_indexable()).then_some(positions)
    }

    /// SELECT keys, aggregates .. GROUP BY keys HAVING ..
    pub fn grouped(&mut self, depth: usize) -> Query {
        self.has_groups = true;
        let scope = self.from(depth);
        let keys = self.group_keys(&scope.columns);
        let hidden = keys.len() > 1 && self.dice.feature("group key not in output", 0.1);
        let mut items: Vec<Typed> = keys.iter().skip(hidden as usize).map(Typed::representative).collect();
        let shown = items.len();
        let aggregates = self.aggregates(&scope.columns, if shown == 0 { 1 } else { 0 });
        items.extend(aggregates.iter().cloned());
        let having = self.having(&aggregates);
        let by_position = !hidden && !keys.is_empty() && self.dice.feature("group by position", 0.1);
        let group_by = group_clause(&keys, by_position);
        let key = (!hidden && shown > 0 && keys.iter().all(|k| k.kind.is_indexable())).then(|| (0..shown).collect());
        let rows = if keys.is_empty() { 1.0 } else { scope.rows.min(200.0) };
        let conditions = self.conditions(&scope);
        let (outputs, texts) = name_outputs(items);
        let list = Sql::list(", ", 1, aliased(&outputs, texts));
        let sql = sql!["SELECT ", list, " FROM ", scope.sql, where_clause(conditions), group_by, having];
        Query { sql, outputs, rows, key }
    }

    pub fn group_keys(&mut self, columns: &[Typed]) -> Vec<Typed> {
        let usable: Vec<Typed> = columns.iter().filter(|c| c.is_comparable()).cloned().collect();
        let wanted = self.dice.choose(&[
            ("global aggregate", 2, 0),
            ("one group key", 7, 1),
            ("two group keys", 4, 2),
            ("three group keys", 1, 3),
        ]);
        let mut keys: Vec<Typed> = vec![];
        for _ in 0..wanted {
            let Some(mut key) = self.dice.pick_any(&usable) else { break };
            if self.dice.feature("group by expression", 0.2) {
                key = function_of(self.dice, &key);
            }
            if self.dice.feature("group by sublink", 0.04) {
                key = Typed::new(format!("({})", shapes::sublink(self, columns)), Kind::Bool, Repr::Exact);
            }
            if key.is_comparable() && keys.iter().all(|k| k.text != key.text) {
                keys.push(key);
            }
        }
        keys
    }

    fn aggregates(&mut self, columns: &[Typed], least: usize) -> Vec<Typed> {
        (0..self.dice.count(least..=4))
            .map(|_| {
                let mut plain = aggregate::draw(self.dice, columns);
                if !plain.text.contains("FILTER") && self.dice.feature("filter by sublink", 0.05) {
                    plain.text = format!("{} FILTER (WHERE {})", plain.text, shapes::sublink(self, columns));
                }
                if self.dice.feature("expression over aggregate", 0.2) { function_of(self.dice, &plain) } else { plain }
            })
            .collect()
    }

    fn having(&mut self, aggregates: &[Typed]) -> Sql {
        if !self.dice.feature("having", 0.15) {
            return Sql::default();
        }
        let comparable: Vec<Typed> = aggregates.iter().filter(|a| a.is_comparable()).cloned().collect();
        if comparable.is_empty() {
            return Sql::list("", 0, vec![" HAVING count(*) > 1".into()]);
        }
        let condition = condition(self.dice, &comparable);
        Sql::list("", 0, vec![format!(" HAVING {condition}").into()])
    }

    /// Two or three branches of the same types, one of them perhaps a constant row.
    pub fn union_all(&mut self, depth: usize) -> Query {
        self.branches(depth, " UNION ALL ", |_, outputs| outputs)
    }

    /// A first query, and further ones with outputs of the same kinds.
    pub fn branches(
        &mut self,
        depth: usize,
        word: &'static str,
        merge: fn(&mut QueryMaker, Vec<Output>) -> Vec<Output>,
    ) -> Query {
        let is_grouped = !self.only_core && self.dice.feature("grouped branch", 0.25);
        let first = if is_grouped { self.grouped(depth) } else { self.select(depth) };
        self.is_core &= !is_grouped;
        let mut outputs = first.outputs;
        let mut rows = first.rows;
        let is_passed = |o: &Output| o.kind != Kind::Opaque;
        if !outputs.iter().all(is_passed) {
            return Query { sql: first.sql, outputs, rows, key: None };
        }
        let mut branches = vec![sql!["(", first.sql, ")"]];
        for _ in 0..self.dice.count(1..=2) {
            let (sql, more) = self.branch_like(&mut outputs, depth);
            branches.push(sql!["(", sql, ")"]);
            rows += more;
        }
        let outputs = merge(self, outputs);
        Query { sql: Sql::list(word, 1, branches), outputs, rows, key: None }
    }

    fn branch_like(&mut self, outputs: &mut [Output], depth: usize) -> (Sql, f64) {
        if self.dice.feature("constant branch", 0.1) {
            let constants: Vec<String> = outputs.iter().map(|o| o.kind.random_literal(self.dice)).collect();
            return (sql!["SELECT ", constants.join(", ")], 1.0);
        }
        let scope = self.from(depth.saturating_sub(1));
        let mut texts = vec![];
        for output in outputs.iter_mut() {
            let same: Vec<Typed> = scope.columns.iter().filter(|c| c.kind == output.kind).cloned().collect();
            let null = Typed::new(format!("NULL::{}", output.kind.type_name()), output.kind, Repr::Exact);
            let item = self.dice.pick_any(&same).unwrap_or(null);
            output.repr = output.repr.max(item.repr);
            texts.push(item.text);
        }
        let conditions = self.conditions(&scope);
        (sql!["SELECT ", texts.join(", "), " FROM ", scope.sql, where_clause(conditions)], scope.rows)
    }

    /// WITH a query, read once or twice.
    fn with(&mut self, depth: usize) -> Query {
        let make: Make = self
            .dice
            .choose(&[("with select", 3, (|m, d| m.select(d)) as Make), ("with union all", 1, |m, d| m.union_all(d))]);
        let inner = make(self, depth - 1);
        let hint = self.dice.choose(&[
            ("with, no hint", 3, ""),
            ("with materialized", 1, "MATERIALIZED "),
            ("with not materialized", 1, "NOT MATERIALIZED "),
        ]);
        self.aliases += 1;
        let name = format!("w{}", self.aliases);
        let reference = Relation {
            sql: Sql::from(&name),
            outputs: inner.outputs,
            rows: inner.rows,
            has_row_type: false,
            may_be_renamed: false,
            key: inner.key,
        };
        let twice = inner.rows < 400.0 && self.dice.feature("with, read twice", 0.5);
        self.pinned = vec![reference; 1 + twice as usize];
        let outer: Make = self.dice.choose(&[
            ("with under select", 2, (|m, d| m.select(d)) as Make),
            ("with under group by", 2, |m, d| m.grouped(d)),
        ]);
        let query = outer(self, 1);
        self.pinned.clear();
        Query { sql: sql!["WITH ", name, " AS ", hint, "(", inner.sql, ") ", query.sql], ..query }
    }
}

fn group_clause(keys: &[Typed], by_position: bool) -> Sql {
    if keys.is_empty() {
        return Sql::default();
    }
    let text = |(i, k): (usize, &Typed)| Sql::from(if by_position { (i + 1).to_string() } else { k.text.clone() });
    sql![" GROUP BY ", Sql::list(", ", 1, keys.iter().enumerate().map(text).collect())]
}

/// Names outputs: a column keeps its name where that is free, anything else gets a number.
pub fn name_outputs(items: Vec<Typed>) -> (Vec<Output>, Vec<String>) {
    let mut outputs: Vec<Output> = vec![];
    let mut texts = vec![];
    for (i, item) in items.into_iter().enumerate() {
        let own_name = ["id", "k"].into_iter().find(|name| {
            item.text
                .strip_prefix('r')
                .is_some_and(|t| t.trim_start_matches(|c: char| c.is_ascii_digit()) == format!(".{name}"))
        });
        let name =
            own_name.filter(|n| outputs.iter().all(|o| o.name != *n)).map_or_else(|| format!("o{i}"), str::to_string);
        outputs.push(Output { name, kind: item.kind, repr: item.repr });
        texts.push(item.text);
    }
    (outputs, texts)
}

/// `text AS name`, one for each output.
pub fn aliased(outputs: &[Output], texts: Vec<String>) -> Vec<Sql> {
    outputs.iter().zip(texts).map(|(o, text)| Sql::from(format!("{text} AS {}", o.name))).collect()
}
