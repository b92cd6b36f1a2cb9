//! Query shapes that a stream table maintains by recomputing, at least at first: DISTINCT, windows, LIMIT, set operations, recursion,
//! grouping sets. And those that look at several rows for each row: LATERAL, sublinks. Outer joins are drawn in `from`.

use crate::aggregate;
use crate::dice::Label;
use crate::expr::{Repr, Typed, condition, where_clause};
use crate::kinds::Kind;
use crate::query::{Make, Output, Query, QueryMaker, aliased, name_outputs};
use crate::sql;
use crate::sql::Sql;

pub const ALL: &[(Label, u32, Make)] = &[
    ("distinct", 2, distinct),
    ("distinct on", 1, distinct_on),
    ("window function", 2, window),
    ("limit with total order", 1, limit),
    ("set operation", 2, set_operation),
    ("with recursive", 1, recursive),
    ("grouping sets", 1, grouping_sets),
];

/// After duplicate elimination a fuzzy value is only a representative of its equals.
fn representatives(maker: &mut QueryMaker, outputs: Vec<Output>) -> Vec<Output> {
    maker.is_core = false;
    let merged = |o: Output| Output { repr: if o.kind.is_fuzzy() { o.repr.max(Repr::Equal) } else { o.repr }, ..o };
    outputs.into_iter().map(merged).collect()
}

fn as_columns(outputs: &[Output]) -> Vec<Typed> {
    outputs.iter().map(|o| Typed::new(o.name.clone(), o.kind, o.repr)).collect()
}

/// Near values differ from plan to plan, so nothing may be decided by them.
fn has_near(outputs: &[Output]) -> bool {
    outputs.iter().any(|o| o.repr == Repr::Near)
}

fn distinct(maker: &mut QueryMaker, depth: usize) -> Query {
    let inner = maker.select(depth);
    if has_near(&inner.outputs) {
        return inner;
    }
    let names: Vec<Sql> = inner.outputs.iter().map(|o| Sql::from(&o.name)).collect();
    let outputs = representatives(maker, inner.outputs);
    Query {
        sql: sql!["SELECT DISTINCT ", Sql::list(", ", 1, names), " FROM (", inner.sql, ") AS d"],
        outputs,
        key: None,
        ..inner
    }
}

/// An order over all outputs, under which ties are alike.
fn total_order(columns: &[Typed]) -> String {
    columns.iter().map(Typed::order_key).collect::<Vec<_>>().join(", ")
}

fn distinct_on(maker: &mut QueryMaker, depth: usize) -> Query {
    let inner = maker.select(depth);
    let columns = as_columns(&inner.outputs);
    let Some(on) = columns.iter().find(|c| c.is_comparable()).filter(|_| !has_near(&inner.outputs)) else {
        return inner;
    };
    maker.is_core = false;
    let order = format!("{}, {}", on.text, total_order(&columns));
    let sql = sql![format!("SELECT DISTINCT ON ({}) * FROM (", on.text), inner.sql, ") AS d ORDER BY ", order];
    Query { sql, key: None, ..inner }
}

fn limit(maker: &mut QueryMaker, depth: usize) -> Query {
    let inner = maker.select(depth);
    if has_near(&inner.outputs) {
        return inner;
    }
    maker.is_core = false;
    let order = total_order(&as_columns(&inner.outputs));
    let count = maker.dice.pick(&["LIMIT 3", "LIMIT 10", "LIMIT 5 OFFSET 2", "OFFSET 4"]);
    Query { sql: sql!["SELECT * FROM (", inner.sql, format!(") AS d ORDER BY {order} {count}")], key: None, ..inner }
}

fn window(maker: &mut QueryMaker, depth: usize) -> Query {
    let mut inner = maker.select(depth);
    let columns = as_columns(&inner.outputs);
    let comparable: Vec<Typed> = columns.iter().filter(|c| c.is_comparable()).cloned().collect();
    if comparable.is_empty() || has_near(&inner.outputs) {
        return inner;
    }
    maker.is_core = false;
    let partition = &maker.dice.pick(&comparable).text;
    let order = &maker.dice.pick(&comparable).text;
    let total = total_order(&columns);
    let call = match maker.dice.count(0..=4) {
        0 => format!("row_number() OVER (PARTITION BY {partition} ORDER BY {total})"),
        1 => format!("rank() OVER (PARTITION BY {partition} ORDER BY {order})"),
        2 => format!("count(*) OVER (PARTITION BY {partition} ORDER BY {order})"),
        3 => format!("count(*) OVER (PARTITION BY {partition})"),
        _ => format!("dense_rank() OVER (ORDER BY {order})"),
    };
    inner.outputs.push(Output { name: "win".to_string(), kind: Kind::Bigint, repr: Repr::Exact });
    Query { sql: sql![format!("SELECT d.*, {call} AS win FROM ("), inner.sql, ") AS d"], key: None, ..inner }
}

fn set_operation(maker: &mut QueryMaker, depth: usize) -> Query {
    let word = *maker.dice.pick(&[" UNION ", " INTERSECT ", " EXCEPT ", " INTERSECT ALL ", " EXCEPT ALL "]);
    let query = maker.branches(depth, word, representatives);
    // Which rows are left must not hang on rounding.
    if has_near(&query.outputs) { maker.select(depth) } else { query }
}

/// The numbers reachable from some column, at most a few steps on.
fn recursive(maker: &mut QueryMaker, depth: usize) -> Query {
    let relation = maker.relation(depth - 1);
    let integers: Vec<String> =
        relation.outputs.iter().filter(|o| o.kind.is_integer()).map(|o| o.name.clone()).collect();
    let Some(column) = maker.dice.pick_any(&integers) else { return maker.select(depth) };
    maker.is_core = false;
    if relation.rows > 80.0 {
        return maker.select(depth);
    }
    let word = maker.dice.pick(&["UNION", "UNION ALL"]);
    let distinct = if *word == "UNION ALL" { "DISTINCT " } else { "" };
    let sql = sql![
        format!("WITH RECURSIVE walk(n, step) AS (SELECT {distinct}{column}::bigint, 1 FROM "),
        relation.sql.clone(),
        format!(" AS s WHERE {column} BETWEEN 0 AND 20 {word} "),
        format!("SELECT {distinct}w.n + coalesce(s.{column}::bigint % 3, 1), w.step + 1 FROM walk AS w JOIN "),
        relation.sql,
        format!(" AS s ON s.{column} = w.n WHERE w.step < 4) SELECT n AS o0, min(step) AS o1 FROM walk GROUP BY n"),
    ];
    let outputs = vec![
        Output { name: "o0".to_string(), kind: Kind::Bigint, repr: Repr::Exact },
        Output { name: "o1".to_string(), kind: Kind::Int, repr: Repr::Exact },
    ];
    Query { sql, outputs, rows: 30.0, key: Some(vec![0]) }
}

/// An aggregate for use in a place that is computed again over the rows as they were, or any.
fn inner_aggregate(maker: &mut QueryMaker, columns: &[Typed]) -> Typed {
    if maker.only_core || maker.dice.chance(0.7) {
        return aggregate::draw_determined(maker.dice, columns);
    }
    maker.is_core = false;
    aggregate::draw(maker.dice, columns)
}

pub fn lateral(maker: &mut QueryMaker, depth: usize) -> Query {
    let outer = maker.relation(depth - 1);
    let inner = maker.relation(depth - 1);
    let (outer, inner) = (maker.aliased(&outer), maker.aliased(&inner));
    let Some(on) = maker.equality(&outer.columns, &inner.columns) else { return maker.select(depth) };
    let is_whole = |c: &&Typed| c.repr == Repr::Exact && matches!(c.kind, Kind::Int | Kind::Bigint | Kind::Text);
    let first: Vec<Typed> = inner.columns.iter().filter(is_whole).cloned().collect();
    let (call, tail) = match maker.dice.pick_any(&first).filter(|_| maker.dice.chance(0.4)) {
        Some(column) if maker.dice.feature("lateral, first rows", 0.6) => {
            (column.clone(), format!(" ORDER BY {} LIMIT {}", column.text, maker.dice.pick(&["1", "2"])))
        }
        Some(column) => (column, String::new()),
        None => (inner_aggregate(maker, &inner.columns), String::new()),
    };
    let left = if maker.dice.chance(0.5) { (" LEFT JOIN", " ON true") } else { (" CROSS JOIN", "") };
    let (mut outputs, texts) = maker.select_list(&outer.columns);
    let mut list = aliased(&outputs, texts);
    list.push(Sql::from("l.agg"));
    outputs.push(Output { name: "agg".to_string(), kind: call.kind, repr: call.repr });
    let sql = sql![
        "SELECT ",
        Sql::list(", ", 1, list),
        " FROM ",
        outer.sql,
        left.0,
        format!(" LATERAL (SELECT {} AS agg FROM ", call.text),
        inner.sql,
        format!(" WHERE {on}{tail}) AS l"),
        left.1,
    ];
    Query { sql, outputs, rows: outer.rows + outer.rows * inner.rows / 5.0, key: None }
}

fn grouping_sets(maker: &mut QueryMaker, depth: usize) -> Query {
    let scope = maker.from(depth);
    let keys = maker.group_keys(&scope.columns);
    if keys.is_empty() {
        return maker.grouped(depth);
    }
    maker.is_core = false;
    let names = keys.iter().map(|k| k.text.clone()).collect::<Vec<_>>().join(", ");
    let grouping = match maker.dice.count(0..=2) {
        0 => format!("ROLLUP ({names})"),
        1 => format!("CUBE ({names})"),
        _ => format!("GROUPING SETS (({names}), ())"),
    };
    let mut items: Vec<Typed> = keys.iter().map(Typed::representative).collect();
    items.push(Typed::new(format!("grouping({names})"), Kind::Int, Repr::Exact));
    items.push(aggregate::draw(maker.dice, &scope.columns));
    let conditions = maker.conditions(&scope);
    let (outputs, texts) = name_outputs(items);
    let list = Sql::list(", ", 1, aliased(&outputs, texts));
    let sql = sql!["SELECT ", list, " FROM ", scope.sql, where_clause(conditions), " GROUP BY ", grouping];
    Query { sql, outputs, rows: scope.rows.min(400.0), key: None }
}

pub fn scalar_sublink(maker: &mut QueryMaker, depth: usize) -> Query {
    let outer = maker.relation(depth - 1);
    let inner = maker.relation(depth - 1);
    let (outer, inner) = (maker.aliased(&outer), maker.aliased(&inner));
    let Some(on) = maker.equality(&outer.columns, &inner.columns) else { return maker.select(depth) };
    let call = inner_aggregate(maker, &inner.columns);
    let (mut outputs, texts) = maker.select_list(&outer.columns);
    let mut list = aliased(&outputs, texts);
    list.push(sql![format!("(SELECT {} FROM ", call.text), inner.sql, format!(" WHERE {on}) AS sub")]);
    outputs.push(Output { name: "sub".to_string(), kind: call.kind, repr: call.repr });
    Query { sql: sql!["SELECT ", Sql::list(", ", 1, list), " FROM ", outer.sql], outputs, rows: outer.rows, key: None }
}

/// A condition with a subquery: [NOT] EXISTS, [NOT] IN, or a comparison with ANY or ALL; correlated or not, over a table or an outer
/// join, with another inside, under OR.
pub fn sublink(maker: &mut QueryMaker, columns: &[Typed]) -> String {
    let own = sublink_of(maker, columns, 1);
    match maker.dice.count(0..=5) {
        0 => format!("({own} OR {})", condition(maker.dice, columns)),
        1 => format!("({own} IS NOT TRUE)"),
        _ => own,
    }
}

/// Columns of both sides that can be compared.
fn pairs(left: &[Typed], right: &[Typed]) -> Vec<(String, String)> {
    let all = left.iter().flat_map(|a| right.iter().map(move |b| (a, b)));
    let comparable = all.filter(|(a, b)| a.is_comparable() && b.is_comparable() && a.kind.compares_with(b.kind));
    comparable.map(|(a, b)| (a.text.clone(), b.text.clone())).collect()
}

fn sublink_of(maker: &mut QueryMaker, columns: &[Typed], deeper: usize) -> String {
    let table = maker.table_relation();
    let mut inner = maker.aliased(&table);
    let mut from = inner.sql.as_statement(maker.catalog);
    if maker.dice.feature("outer join in sublink", 0.2) {
        let table = maker.table_relation();
        let other = maker.aliased(&table);
        if let Some(on) = maker.equality(&inner.columns, &other.columns) {
            let kind = maker.dice.pick(&["LEFT", "LEFT", "FULL"]);
            from = format!("{from} {kind} JOIN {} ON {on}", other.sql.as_statement(maker.catalog));
            inner.columns.extend(other.columns);
        }
    }
    let pairs = pairs(columns, &inner.columns);
    let Some((a, b)) = maker.dice.pick_any(&pairs) else { return "true".to_string() };
    let mut conditions: Vec<String> = vec![];
    if let (Some((x, y)), true) = (maker.dice.pick_any(&pairs), maker.dice.chance(0.4)) {
        conditions.push(format!("{x} {} {y}", maker.dice.pick(&["=", "=", "<", ">="])));
    }
    if maker.dice.chance(0.3) {
        conditions.push(condition(maker.dice, &inner.columns));
    }
    if deeper > 0 && maker.dice.feature("sublink in sublink", 0.2) {
        let scope = [columns, &inner.columns[..]].concat();
        conditions.push(sublink_of(maker, &scope, deeper - 1));
    }
    let all = |more: Option<String>| where_clause(conditions.iter().cloned().chain(more).collect());
    let plain = all(None).as_statement(maker.catalog);
    let equated = all(Some(format!("{a} = {b}"))).as_statement(maker.catalog);
    match maker.dice.count(0..=8) {
        0 => format!("EXISTS (SELECT FROM {from}{equated})"),
        1 => format!("NOT EXISTS (SELECT FROM {from}{equated})"),
        2 => format!("{a} IN (SELECT {b} FROM {from}{plain})"),
        3 => format!("{a} NOT IN (SELECT {b} FROM {from}{plain})"),
        4 => format!("{a} >= ALL (SELECT {b} FROM {from}{plain})"),
        5 => format!("{a} < ANY (SELECT {b} FROM {from}{plain})"),
        6 => format!("({a}, {a}) IN (SELECT {b}, {b} FROM {from}{plain})"),
        7 => format!("{a} IN (SELECT {b} FROM {from}{plain} UNION ALL SELECT {b} FROM {from})"),
        _ => format!("(SELECT count(*) FROM {from}{equated}) > {}", maker.dice.count(0..=2)),
    }
}
