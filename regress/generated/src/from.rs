//! FROM clauses: which relations a query reads, and how they are joined.
//!
//! Row counts are guessed along the way so that no view grows past what a quick check can bear.

use crate::dice::Label;
use crate::expr::{Repr, Typed, condition, operator};
use crate::kinds::Kind;
use crate::query::{Output, QueryMaker};
use crate::sql;
use crate::sql::{Sql, ViewId};
use crate::world::{Table, ViewSort};

/// Something that can stand in FROM.
#[derive(Clone, Debug)]
pub struct Relation {
    pub sql: Sql,
    pub outputs: Vec<Output>,
    pub rows: f64,
    /// Its rows are of a type that a column can have.
    pub has_row_type: bool,
    /// Its columns may get other names, which its whole rows as JSON would show.
    pub may_be_renamed: bool,
    /// Columns that are certain to be unique together.
    pub key: Option<Vec<usize>>,
}

/// A FROM clause and the columns it brings into scope.
pub struct Scope {
    pub sql: Sql,
    pub columns: Vec<Typed>,
    /// Conditions that belong to joins written with commas.
    pub conditions: Vec<String>,
    pub rows: f64,
    /// Unique columns of the only relation, if there is only one.
    pub key: Option<Vec<usize>>,
    /// A comma binds less than JOIN, so after one only commas may follow.
    has_comma: bool,
}

/// Queries guessed to return more rows are narrowed.
const MOST_ROWS: f64 = 3000.0;
/// No join is added that is guessed to make more rows, before any condition takes effect.
const MOST_JOINED: f64 = 600_000.0;

#[derive(Clone, Copy, PartialEq)]
enum Join {
    On,
    Comma,
    Cross,
    Natural,
    Using,
    Unequal,
    Left,
    Right,
    Full,
    Nested,
}

impl QueryMaker<'_> {
    /// Draws a FROM clause of one to four relations.
    pub fn from(&mut self, depth: usize) -> Scope {
        let joined = self.dice.choose(&[
            ("one relation", 8, 1),
            ("two relations", 8, 2),
            ("three relations", 3, 3),
            ("four relations", 1, 4),
        ]);
        let first = self.relation(depth);
        self.join_more(first, joined - 1, depth)
    }

    pub fn join_more(&mut self, first: Relation, more: usize, depth: usize) -> Scope {
        let mut scope = self.aliased(&first);
        let mut left = first;
        for n in 0..more {
            let right = if n == 0 && self.dice.feature("self join", 0.15) {
                left.clone()
            } else {
                self.relation(depth.saturating_sub(1))
            };
            if scope.rows * right.rows / 5.0 > MOST_JOINED {
                break;
            }
            scope = self.join(scope, &left, &right, n == 0);
            left = right;
        }
        if self.dice.feature("idle left join", if scope.has_comma { 0.0 } else { 0.06 }) {
            scope = self.idle_join(scope);
        }
        if self.dice.feature("lateral values", 0.05) {
            scope = self.lateral_values(scope);
        }
        self.narrow(&mut scope);
        scope
    }

    /// A left join of a table by its whole key, of which nothing is read.
    fn idle_join(&mut self, scope: Scope) -> Scope {
        let table = self.table_relation();
        let right = self.aliased(&table);
        let Some(key) = table.key else { return scope };
        let mut conditions = vec![];
        for column in key {
            let column = &right.columns[column];
            let same: Vec<&Typed> =
                scope.columns.iter().filter(|c| c.is_comparable() && c.kind == column.kind).collect();
            let Some(other) = self.dice.pick_any(&same) else { return scope };
            conditions.push(format!("{} = {}", column.text, other.text));
        }
        let tail = format!(" ON {}", conditions.join(" AND "));
        Scope { sql: sql![scope.sql, Sql::list("", 0, vec![sql![" LEFT JOIN ", right.sql, tail]])], ..scope }
    }

    /// Two rows for each, made of its columns.
    fn lateral_values(&mut self, scope: Scope) -> Scope {
        let comparable: Vec<&Typed> = scope.columns.iter().filter(|c| c.is_comparable()).collect();
        let Some(first) = self.dice.pick_any(&comparable).cloned() else { return scope };
        let same: Vec<&Typed> = comparable.into_iter().filter(|c| c.kind == first.kind).collect();
        let second = (*self.dice.pick(&same)).clone();
        self.aliases += 1;
        let alias = format!("l{}", self.aliases);
        let item = format!(", LATERAL (VALUES (0, {}), (1, {})) AS {alias} (n, v)", first.text, second.text);
        let mut columns = scope.columns;
        columns.push(Typed::new(format!("{alias}.v"), first.kind, first.repr.max(second.repr)));
        columns.push(Typed::new(format!("{alias}.n"), Kind::Int, Repr::Exact));
        Scope { sql: sql![scope.sql, item], columns, rows: scope.rows * 2.0, key: None, has_comma: true, ..scope }
    }

    /// A single relation under a new alias.
    pub fn aliased(&mut self, relation: &Relation) -> Scope {
        self.aliases += 1;
        let alias = format!("r{}", self.aliases);
        let column = |o: &Output| Typed::new(format!("{alias}.{}", o.name), o.kind, o.repr);
        let mut columns: Vec<Typed> = relation.outputs.iter().map(column).collect();
        if self.dice.feature("whole row in scope", if relation.has_row_type { 0.05 } else { 0.0 }) {
            columns.push(Typed::new(&alias, Kind::Opaque, Repr::Exact));
        }
        let is_exact = relation.outputs.iter().all(|output| output.repr == Repr::Exact);
        if self.dice.feature("anonymous row in scope", if relation.has_row_type || !is_exact { 0.0 } else { 0.1 }) {
            // Cut: a view may have an index on it.
            columns.push(Typed::new(format!("left({alias}::text, 500)"), Kind::Text, Repr::Exact));
            columns.push(Typed::new(format!("({alias} IS NULL)"), Kind::Bool, Repr::Exact));
            if !relation.may_be_renamed {
                columns.push(Typed::new(format!("to_jsonb({alias})"), Kind::Jsonb, Repr::Exact));
            }
        }
        Scope {
            sql: sql![relation.sql.clone(), " AS ", &alias],
            columns,
            conditions: vec![],
            rows: relation.rows,
            key: relation.key.clone(),
            has_comma: false,
        }
    }

    fn join(&mut self, left: Scope, left_relation: &Relation, right: &Relation, is_first: bool) -> Scope {
        let outer = 3;
        let shared = if is_first { shared_names(left_relation, right) } else { vec![] };
        let using = if shared.is_empty() { 0 } else { 4 };
        let product = if left.rows * right.rows < MOST_ROWS { 2 } else { 0 };
        if left.has_comma {
            let right = self.aliased(right);
            return self.join_scopes(left, right, Join::Comma, &[]);
        }
        let nested = if left.rows * right.rows / 5.0 < MOST_ROWS / 10.0 { 1 } else { 0 };
        let natural = if !shared.is_empty() && shared.iter().all(|name| may_be_natural(name)) { 2 } else { 0 };
        let kind = self.dice.choose(&[
            ("inner join", 14, Join::On),
            ("comma join", 4, Join::Comma),
            ("cross join", product, Join::Cross),
            ("natural join", natural, Join::Natural),
            ("join using", using, Join::Using),
            ("non-equi join", product * 2, Join::Unequal),
            ("nested join", nested, Join::Nested),
            ("left join", outer * 2, Join::Left),
            ("right join", outer / 2, Join::Right),
            ("full join", outer / 2, Join::Full),
        ]);
        if kind == Join::Nested {
            return self.join_nested(left, right);
        }
        let mut right_scope = self.aliased(right);
        let is_self_join = is_first && right.has_row_type && left_relation.sql == right.sql;
        if is_self_join && self.dice.feature("whole rows compared", 0.2) {
            let rows = |scope: &Scope| scope.columns[0].text.split('.').next().unwrap_or_default().to_string();
            let compared = format!("{} {} {}", rows(&left), operator(self.dice), rows(&right_scope));
            right_scope.conditions.push(compared);
        }
        self.join_scopes(left, right_scope, kind, &shared)
    }

    fn join_scopes(&mut self, left: Scope, right: Scope, kind: Join, shared: &[String]) -> Scope {
        let on = self.equality(&left.columns, &right.columns);
        let product = left.rows * right.rows;
        let equal_rows = if on.is_some() { (product / 5.0).max(left.rows.min(right.rows)) } else { product };
        let on_text = on.clone().unwrap_or_else(|| "true".to_string());
        let mut conditions = [left.conditions, right.conditions].concat();
        let extra = if self.dice.chance(0.2) {
            format!(" AND {}", condition(self.dice, &[&left.columns[..], &right.columns].concat()))
        } else {
            String::new()
        };
        let (word, tail, rows) = match kind {
            Join::On | Join::Nested => (" JOIN ", format!(" ON {on_text}{extra}"), equal_rows),
            Join::Cross => (" CROSS JOIN ", String::new(), product),
            Join::Comma => {
                conditions.extend(on);
                (", ", String::new(), equal_rows)
            }
            Join::Natural => (" NATURAL JOIN ", String::new(), equal_rows),
            Join::Using => (" JOIN ", format!(" USING ({})", self.dice.several(shared, 1, 2).join(", ")), equal_rows),
            Join::Unequal => {
                (" JOIN ", format!(" ON {}", self.inequality(&left.columns, &right.columns)), product / 2.0)
            }
            Join::Left => {
                if self.dice.feature("left join, condition above it", 0.3) {
                    conditions.push(condition(self.dice, &right.columns));
                }
                (" LEFT JOIN ", format!(" ON {on_text}{extra}"), equal_rows + left.rows)
            }
            Join::Right => (" RIGHT JOIN ", format!(" ON {on_text}{extra}"), equal_rows + right.rows),
            // Only equalities can be merged or hashed, which a full join needs.
            Join::Full => (" FULL JOIN ", format!(" ON {on_text}"), equal_rows + left.rows + right.rows),
        };
        Scope {
            sql: sql![left.sql, Sql::list("", 0, vec![sql![word, right.sql, tail]])],
            columns: [left.columns, right.columns].concat(),
            conditions,
            rows,
            key: None,
            has_comma: kind == Join::Comma,
        }
    }

    /// `a JOIN (b JOIN c ON ..) ON ..`
    fn join_nested(&mut self, left: Scope, right: &Relation) -> Scope {
        let innermost = self.relation(0);
        let (b, c) = (self.aliased(right), self.aliased(&innermost));
        let inner_kind = self.outer_or_inner();
        let mut inner = self.join_scopes(b, c, inner_kind, &[]);
        inner.sql = sql!["(", inner.sql, ")"];
        let kind = self.outer_or_inner();
        self.join_scopes(left, inner, kind, &[])
    }

    fn outer_or_inner(&mut self) -> Join {
        if self.dice.feature("left join, nested", 0.3) {
            return Join::Left;
        }
        Join::On
    }

    /// An equality between the two sides, on `k` where there is one.
    pub fn equality(&mut self, left: &[Typed], right: &[Typed]) -> Option<String> {
        let mut pairs = vec![];
        for a in left.iter().filter(|c| c.is_comparable()) {
            for b in right.iter().filter(|b| b.is_comparable() && a.kind.compares_with(b.kind)) {
                let weight = if a.text.ends_with(".k") && b.text.ends_with(".k") { 6 } else { 1 };
                pairs.extend(std::iter::repeat_n(format!("{} = {}", a.text, b.text), weight));
            }
        }
        self.dice.pick_any(&pairs)
    }

    fn inequality(&mut self, left: &[Typed], right: &[Typed]) -> String {
        let equality = self.equality(left, right).unwrap_or_else(|| "1 = 1".to_string());
        let other = operator(self.dice);
        equality.replacen(" = ", &format!(" {other} "), 1)
    }

    /// Adds conditions until the guess of rows is bearable.
    fn narrow(&mut self, scope: &mut Scope) {
        for _ in 0..3 {
            let candidates: Vec<&Typed> =
                scope.columns.iter().filter(|c| c.is_comparable() && c.kind != Kind::Bool).collect();
            if scope.rows < MOST_ROWS || candidates.is_empty() {
                return;
            }
            let column = *self.dice.pick(&candidates);
            scope.conditions.push(format!("{} = {}", column.text, column.kind.random_literal(self.dice)));
            scope.rows /= 5.0;
        }
    }

    /// A table, a view, a WITH query, or a subquery. Relations that the caller insists on come first.
    pub fn relation(&mut self, depth: usize) -> Relation {
        if let Some(pinned) = self.pinned.pop() {
            return pinned;
        }
        let views = self.usable_views();
        let view_weight = if views.is_empty() { 0 } else { 7 };
        let subquery_weight = if depth > 0 { 2 } else { 0 };
        let aggregated = if self.only_core { 0 } else { subquery_weight };
        #[derive(Clone, Copy)]
        enum From {
            Table,
            View,
            Subquery,
            Union,
            Aggregate,
        }
        match self.dice.choose(&[
            ("from table", 10, From::Table),
            ("from view", view_weight, From::View),
            ("subquery in from", subquery_weight, From::Subquery),
            ("union all in from", subquery_weight, From::Union),
            ("aggregate subquery in from", aggregated / 2, From::Aggregate),
        ]) {
            From::Table => self.table_relation(),
            From::View => {
                let view = *self.dice.pick(&views);
                self.view_relation(view)
            }
            From::Subquery => self.subquery(depth, |m, d| m.select(d)),
            From::Union => self.subquery(depth, |m, d| m.union_all(d)),
            From::Aggregate => {
                self.is_core = false;
                self.subquery(depth, |m, d| m.grouped(d))
            }
        }
    }

    pub fn subquery(&mut self, depth: usize, make: crate::query::Make) -> Relation {
        let query = make(self, depth.saturating_sub(1));
        Relation {
            sql: sql!["(", query.sql, ")"],
            outputs: query.outputs,
            rows: query.rows,
            has_row_type: false,
            may_be_renamed: false,
            key: query.key,
        }
    }

    fn usable_views(&self) -> Vec<ViewId> {
        let is_usable = |v: &ViewId| {
            let definition = self.catalog.get(*v);
            self.world.sort(*v) != ViewSort::Released
                && self.world.views[v.0].populated
                && definition.depth < self.deepest
                && definition.rows < MOST_ROWS
                && definition.families.is_disjoint(self.excluded)
                && (!self.only_core || !definition.is_plain || definition.is_flat)
        };
        self.world.alive().into_iter().filter(is_usable).collect()
    }

    fn view_relation(&mut self, view: ViewId) -> Relation {
        let definition = self.catalog.get(view);
        let label: Label =
            if self.world.sort(view) == ViewSort::Plain { "over a plain view" } else { "over a stream table" };
        self.dice.hit(label);
        // A plain view is expanded: its groups become those of a subquery.
        self.is_core &= !definition.is_plain || definition.is_flat;
        self.depth = self.depth.max(definition.depth);
        self.families.extend(&definition.families);
        self.tables.extend(&definition.tables);
        Relation {
            sql: Sql::rows_of(view),
            has_row_type: false,
            may_be_renamed: true,
            outputs: definition.outputs.clone(),
            rows: definition.rows,
            key: definition.key.clone(),
        }
    }

    /// A table, or part of one.
    pub fn table_relation(&mut self) -> Relation {
        let open: Vec<&Table> = self.world.tables.iter().filter(|t| !self.excluded.contains(&t.family)).collect();
        let table = (*self.dice.pick(&open)).clone();
        self.families.insert(table.family);
        self.tables.insert(table.id);
        let mut key = (!table.key.is_empty() && table.key_is_unique).then(|| table.key.clone());
        let mut sql = Sql::from(&table.name);
        if table.is_parent && !self.only_core && self.dice.feature("from only", 0.3) {
            self.is_core = false;
            sql = sql!["ONLY ", &table.name];
            key = (!table.key.is_empty()).then(|| table.key.clone());
        } else if let (Some(leaf), true) =
            (self.dice.pick_any(&table.leaves), self.dice.feature("from a partition", 0.15))
        {
            sql = Sql::from(leaf.name);
            key = None;
        }
        let readable = table.readable();
        let output =
            |&c: &usize| Output { name: table.columns[c].name.clone(), kind: table.columns[c].kind, repr: Repr::Exact };
        let outputs: Vec<Output> = readable.iter().map(output).collect();
        let key = key.map(|key| key.iter().filter_map(|k| readable.iter().position(|r| r == k)).collect());
        Relation { sql, outputs, rows: table.cap as f64 * 1.5, has_row_type: true, may_be_renamed: true, key }
    }
}

/// Columns that a NATURAL join would match, or none if it could not match all of them.
fn shared_names(left: &Relation, right: &Relation) -> Vec<String> {
    let mut shared = vec![];
    for a in &left.outputs {
        for b in right.outputs.iter().filter(|b| b.name == a.name) {
            if !a.kind.compares_with(b.kind) || a.repr == Repr::Near || b.repr == Repr::Near {
                return vec![];
            }
            shared.push(a.name.clone());
        }
    }
    shared
}

/// Tables share `id` and `k` only, unless it is one table twice, whose every column would have to match.
fn may_be_natural(name: &str) -> bool {
    name == "id" || name == "k" || name.starts_with('o')
}
