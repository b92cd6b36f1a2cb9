//! The statements that change data, one writer each: INSERT in its forms, UPDATE, DELETE, MERGE, COPY, TRUNCATE, DO.

use crate::change::Access::{Alone, Anything, FreshInsert, Modify};
use crate::change::{Change, ChangeMaker, Kind, Level, Target};
use crate::expr::{Repr, Typed, condition};
use crate::kinds::Value;
use crate::sql;
use crate::sql::Sql;
use crate::step::Action;
use crate::world::{Column, Role, Table};

pub const KINDS: &[Kind] = &[
    ("insert values", 14, FreshInsert, insert_values),
    ("insert series", 5, FreshInsert, insert_series),
    ("insert equal rows", 4, FreshInsert, insert_equal_rows),
    ("insert select", 4, FreshInsert, insert_select),
    ("copy", 4, FreshInsert, copy),
    ("insert on conflict", 6, Anything, insert_on_conflict),
    ("update", 16, Modify, update),
    ("update, nothing changes", 2, Modify, update_noop),
    ("update one column of all rows", 4, Modify, update_one_column),
    ("update key", 4, Anything, update_key),
    ("update from", 4, Modify, update_from),
    ("delete", 12, Modify, delete),
    ("delete one of equal rows", 3, Modify, delete_one),
    ("delete using", 3, Modify, delete_using),
    ("delete and insert again", 3, Modify, delete_insert),
    ("merge", 5, Anything, merge),
    ("data-modifying with", 3, Modify, modifying_with),
    ("do block with subtransactions", 4, Modify, do_block),
    ("truncate", 2, Alone, truncate),
];

pub fn adds_rows(label: &str) -> bool {
    label.starts_with("insert") || label == "copy" || label == "merge"
}

fn rows_sql(rows: Vec<Vec<Value>>) -> Sql {
    let row = |values: Vec<Value>| {
        Sql::from(format!("({})", values.iter().map(Value::to_sql).collect::<Vec<_>>().join(", ")))
    };
    Sql::list(", ", 1, rows.into_iter().map(row).collect())
}

pub fn insert_values(maker: &mut ChangeMaker, target: &Target) -> Option<Change> {
    let count = maker.dice.count(1..=8);
    let mut rows: Vec<Vec<Value>> = (0..count).map(|_| maker.row(target, None)).collect();
    if target.table.key.is_empty() && maker.dice.feature("duplicate rows", 0.4) {
        rows.extend(rows.clone());
    }
    let added = rows.len() as i64;
    Some(
        Change::run(sql![format!("INSERT INTO {} ({}) VALUES ", target.name, target.column_names()), rows_sql(rows)])
            .rows(added),
    )
}

/// Many rows at once, from generate_series.
pub fn insert_series(maker: &mut ChangeMaker, target: &Target) -> Option<Change> {
    let cap = target.table.cap;
    let count = maker.dice.count(cap.div_ceil(2)..=cap) as i64;
    let first = maker.world.table(target.table.id).next_id;
    maker.world.table_mut(target.table.id).next_id += count;
    let items: Vec<String> = target.columns.iter().map(|&c| series_item(maker, &target.table, c, first)).collect();
    let lenient = if target.table.is_strict && !target.is_view { " ON CONFLICT DO NOTHING" } else { "" };
    let select = format!("SELECT {} FROM generate_series(0, {}) AS i{lenient}", items.join(", "), count - 1);
    Some(Change::run(format!("INSERT INTO {} ({}) {select}", target.name, target.column_names())).rows(count))
}

/// Many rows at once that are equal in all but their key.
fn insert_equal_rows(maker: &mut ChangeMaker, target: &Target) -> Option<Change> {
    let cap = target.table.cap;
    let count = maker.dice.count(cap.div_ceil(2)..=cap) as i64;
    let first = maker.world.table(target.table.id).next_id;
    maker.world.table_mut(target.table.id).next_id += count;
    let values = maker.row(target, None);
    let item = |(&position, value): (&usize, &Value)| {
        let column = &target.table.columns[position];
        match &column.role {
            Role::Id => format!("({first} + i)::{}", column.kind.type_name()),
            _ => value.to_sql(),
        }
    };
    let items: Vec<String> = target.columns.iter().zip(&values).map(item).collect();
    let lenient = if target.table.is_strict && !target.is_view { " ON CONFLICT DO NOTHING" } else { "" };
    let select = format!("SELECT {} FROM generate_series(0, {}) AS i{lenient}", items.join(", "), count - 1);
    Some(Change::run(format!("INSERT INTO {} ({}) {select}", target.name, target.column_names())).rows(count))
}

fn series_item(maker: &mut ChangeMaker, table: &Table, position: usize, first_id: i64) -> String {
    let column = &table.columns[position];
    match &column.role {
        Role::Id => format!("({first_id} + i)::{}", column.kind.type_name()),
        Role::Reference { .. } => maker.value(column).to_sql(),
        _ => {
            let step = *maker.dice.pick(&[1, 2, 3, 5, 7]);
            let value = column.kind.series(&format!("i * {step}"));
            let nulls = maker.dice.count(3..=9);
            if column.nulls > 0.0 { format!("CASE WHEN i % {nulls} <> 0 THEN {value} END") } else { value }
        }
    }
}

/// From another table's rows, keeping the join column.
fn insert_select(maker: &mut ChangeMaker, target: &Target) -> Option<Change> {
    let source = maker.other_table(&target.table)?;
    let from_k = source.columns.iter().find(|c| c.name == "k")?;
    let to_k = target.table.columns.iter().find(|c| c.name == "k")?;
    if from_k.kind != to_k.kind
        || (from_k.nulls > 0.0 && to_k.nulls == 0.0)
        || target.table.columns.iter().any(|c| matches!(c.role, Role::Id))
    {
        return None;
    }
    let item = |maker: &mut ChangeMaker, c: usize| {
        let column = &target.table.columns[c];
        if column.name == "k" { "k".to_string() } else { maker.value(column).to_sql() }
    };
    let items: Vec<String> = target.columns.iter().map(|&c| item(maker, c)).collect();
    let rows = maker.dice.count(1..=20);
    let select = format!("SELECT {} FROM {} LIMIT {rows}", items.join(", "), source.name);
    Some(
        Change::run(format!("INSERT INTO {} ({}) {select}", target.name, target.column_names()))
            .rows(rows as i64)
            .reading(source.family),
    )
}

fn copy(maker: &mut ChangeMaker, target: &Target) -> Option<Change> {
    if target.is_view {
        return None;
    }
    let count = maker.dice.count(1..=25);
    let line =
        |maker: &mut ChangeMaker| maker.row(target, None).iter().map(Value::to_copy).collect::<Vec<_>>().join("\t");
    let lines = (0..count).map(|_| line(maker)).collect();
    let sql = Sql::from(format!("COPY {} ({}) FROM STDIN", target.name, target.column_names()));
    // Expressions become NULL in COPY data, also where the column admits none.
    Some(Change { action: Action::Copy { sql, lines }, rows: count as i64, may_fail: true, others: vec![] })
}

fn insert_on_conflict(maker: &mut ChangeMaker, target: &Target) -> Option<Change> {
    target.table.id_column()?;
    let key: Vec<&str> = target.table.key.iter().map(|&k| target.table.columns[k].name.as_str()).collect();
    let count = maker.dice.count(1..=6);
    let rows = (0..count)
        .map(|_| {
            let id = maker.likely_id(&target.table);
            maker.row(target, Some(id))
        })
        .collect();
    let free = free_columns(&target.table, &target.columns);
    let action = match maker.dice.pick_any(&free) {
        Some(c) if !key.is_empty() && maker.dice.feature("on conflict do update", 0.6) => {
            let name = &target.table.columns[c].name;
            format!("({}) DO UPDATE SET {name} = excluded.{name}", key.join(", "))
        }
        _ => "DO NOTHING".to_string(),
    };
    let head = format!("INSERT INTO {} ({}) VALUES ", target.name, target.column_names());
    Some(Change::run(sql![head, rows_sql(rows), format!(" ON CONFLICT {action}")]).rows(count as i64).may_fail())
}

/// Columns among `of` that no key contains.
fn free_columns(table: &Table, of: &[usize]) -> Vec<usize> {
    of.iter().copied().filter(|c| !table.key.contains(c)).collect()
}

fn condition_on(maker: &mut ChangeMaker, target: &Target, prefix: &str) -> String {
    let readable = target.table.readable();
    let width = target.table.window.as_ref().map_or(usize::MAX, |w| if target.is_view { w.1 } else { usize::MAX });
    let columns: Vec<Typed> = readable
        .iter()
        .filter(|&&c| c < width)
        .map(|&c| {
            Typed::new(format!("{prefix}{}", target.table.columns[c].name), target.table.columns[c].kind, Repr::Exact)
        })
        .collect();
    condition(maker.dice, &columns)
}

/// ` WHERE condition`, or now and then none.
fn filter(maker: &mut ChangeMaker, target: &Target, prefix: &str) -> Sql {
    if maker.dice.feature("every row of a table", 0.1) {
        return Sql::default();
    }
    let condition = condition_on(maker, target, prefix);
    Sql::list("", 0, vec![Sql::from(format!(" WHERE {condition}"))])
}

fn assignment(maker: &mut ChangeMaker, column: &Column, peers: &[&Column]) -> String {
    let name = &column.name;
    let same: Vec<&&Column> = peers.iter().filter(|p| p.kind == column.kind && p.name != *name).collect();
    let keeps_nulls_out = column.nulls == 0.0;
    match maker.dice.count(0..=5) {
        0 if column.kind.is_integer() && matches!(column.role, Role::Plain) => format!("{name} = ({name} + 1) % 6"),
        1 if !same.is_empty() && !keeps_nulls_out && matches!(column.role, Role::Plain) => {
            format!("{name} = {}", maker.dice.pick(&same).name)
        }
        _ => format!("{name} = {}", maker.value(column).to_sql()),
    }
}

fn assignments(maker: &mut ChangeMaker, target: &Target) -> Option<Sql> {
    let free = free_columns(&target.table, &target.columns);
    let peers: Vec<&Column> = target.columns.iter().map(|&c| &target.table.columns[c]).collect();
    let chosen = maker.dice.several(&free, 1, 3);
    let items: Vec<Sql> =
        chosen.iter().map(|&c| Sql::from(assignment(maker, &target.table.columns[c], &peers))).collect();
    (!items.is_empty()).then(|| Sql::list(", ", 1, items))
}

fn update(maker: &mut ChangeMaker, target: &Target) -> Option<Change> {
    let only =
        if target.table.is_parent && !target.is_view && maker.dice.feature("update only", 0.2) { "ONLY " } else { "" };
    let set = assignments(maker, target)?;
    let filter = filter(maker, target, "");
    let change = Change::run(sql![format!("UPDATE {only}{} SET ", target.name), set, filter]);
    Some(if target.table.is_partitioned() { change.may_fail() } else { change })
}

fn update_noop(maker: &mut ChangeMaker, target: &Target) -> Option<Change> {
    let column = maker.dice.pick_any(&target.columns)?;
    let name = &target.table.columns[column].name;
    Some(Change::run(format!("UPDATE {} SET {name} = {name}", target.name)))
}

/// Most values that are taken out of groups come back.
fn update_one_column(maker: &mut ChangeMaker, target: &Target) -> Option<Change> {
    let free = free_columns(&target.table, &target.columns);
    let peers: Vec<&Column> = target.columns.iter().map(|&c| &target.table.columns[c]).collect();
    let column = maker.dice.pick_any(&free)?;
    let set = assignment(maker, &target.table.columns[column], &peers);
    let change = Change::run(format!("UPDATE {} SET {set}", target.name));
    Some(if target.table.is_partitioned() { change.may_fail() } else { change })
}

/// Moves ids far away, or onto one another.
fn update_key(maker: &mut ChangeMaker, target: &Target) -> Option<Change> {
    let id = &target.table.columns[target.table.id_column()?];
    let far = maker.fresh_id(&target.table);
    let (name, kind) = (&id.name, id.kind.type_name());
    let filter = filter(maker, target, "");
    let set = if maker.dice.chance(0.5) || kind == "text" {
        let one = maker.likely_id(&target.table);
        return Some(
            Change::run(format!("UPDATE {} SET {name} = '{far}' WHERE {name} = '{one}'", target.name)).may_fail(),
        );
    } else {
        format!("{name} = {name} + 1000000")
    };
    Some(Change::run(sql![format!("UPDATE {} SET {set}", target.name), filter]).may_fail())
}

fn update_from(maker: &mut ChangeMaker, target: &Target) -> Option<Change> {
    let other = maker.other_table(&target.table)?;
    let set = assignments(maker, target)?;
    let readable = target.table.columns.iter().any(|c| c.name == "k");
    if !readable {
        return None;
    }
    // Qualified names in SET's expressions would be ambiguous otherwise.
    let source = format!("(SELECT k AS other_k FROM {}) AS o", other.name);
    let limit = condition_on(maker, target, "t.");
    let sql = sql![
        format!("UPDATE {} AS t SET ", target.name),
        set,
        format!(" FROM {source} WHERE o.other_k = t.k AND {limit}")
    ];
    let change = Change::run(sql).reading(other.family);
    Some(if target.table.is_partitioned() { change.may_fail() } else { change })
}

fn delete(maker: &mut ChangeMaker, target: &Target) -> Option<Change> {
    let filter = filter(maker, target, "");
    let rows = maker.world.table(target.table.id).rows as i64;
    let removed = if filter.is_empty() {
        rows
    } else if target.table.cap > 100 {
        // Many rows must not become too many.
        0
    } else {
        rows / 4
    };
    Some(Change::run(sql![format!("DELETE FROM {}", target.name), filter]).rows(-removed))
}

/// Removes a single row, of several that may be alike.
fn delete_one(maker: &mut ChangeMaker, target: &Target) -> Option<Change> {
    if target.is_view {
        return None;
    }
    let condition = condition_on(maker, target, "");
    let name = &target.name;
    Some(Change::run(format!("DELETE FROM {name} WHERE ctid = (SELECT min(ctid) FROM {name} WHERE {condition})")))
}

fn delete_using(maker: &mut ChangeMaker, target: &Target) -> Option<Change> {
    let other = maker.other_table(&target.table)?;
    let condition = condition_on(maker, target, "t.");
    let sql = format!("DELETE FROM {} AS t USING {} AS o WHERE o.k = t.k AND {condition}", target.name, other.name);
    Some(Change::run(sql).reading(other.family))
}

/// The same rows leave and come back: nothing must have changed.
fn delete_insert(maker: &mut ChangeMaker, target: &Target) -> Option<Change> {
    let columns = target.column_names();
    let filter = filter(maker, target, "");
    // Heirs' rows would stay in the parent, which then has keys that nobody expects there.
    let only = if target.table.is_partitioned() { "" } else { "ONLY " };
    let sql = sql![
        format!("WITH gone AS (DELETE FROM {only}{}", target.name),
        filter,
        format!(" RETURNING {columns}) INSERT INTO {} ({columns}) SELECT {columns} FROM gone", target.name),
    ];
    // Old and new rows meet in one statement: a unique key objects.
    Some(Change::run(sql).may_fail())
}

fn merge(maker: &mut ChangeMaker, target: &Target) -> Option<Change> {
    let on = target.table.id_column().unwrap_or(target.table.columns.iter().position(|c| c.name == "k")?);
    let on = &target.table.columns[on];
    let is_id = matches!(on.role, Role::Id);
    let mut ids: Vec<i64> = (0..maker.dice.count(1..=6))
        .map(|_| if is_id { maker.likely_id(&target.table) } else { maker.dice.number(0..=5) })
        .collect();
    ids.sort_unstable();
    ids.dedup();
    let source: Vec<Sql> = ids.iter().map(|id| Sql::from(format!("('{id}'::{})", on.kind.type_name()))).collect();
    let mut sql = sql![
        format!("MERGE INTO {} AS t USING (VALUES ", target.name),
        Sql::list(", ", 1, source),
        format!(") AS s(n) ON t.{} = s.n", on.name)
    ];
    if maker.dice.chance(0.4) {
        let condition = condition_on(maker, target, "t.");
        sql.append(Sql::list("", 0, vec![Sql::from(format!(" WHEN MATCHED AND {condition} THEN DELETE"))]));
    }
    sql.append(sql![" WHEN MATCHED THEN UPDATE SET ", assignments(maker, target)?]);
    let values: Vec<String> = target
        .columns
        .iter()
        .map(|&c| {
            let column = &target.table.columns[c];
            if column.name == on.name { "s.n".to_string() } else { maker.value(column).to_sql() }
        })
        .collect();
    sql.append(Sql::list(
        "",
        0,
        vec![Sql::from(format!(
            " WHEN NOT MATCHED THEN INSERT ({}) VALUES ({})",
            target.column_names(),
            values.join(", ")
        ))],
    ));
    if maker.dice.feature("merge, not matched by source", 0.2) {
        let condition = condition_on(maker, target, "t.");
        sql.append(Sql::list(
            "",
            0,
            vec![Sql::from(format!(" WHEN NOT MATCHED BY SOURCE AND {condition} THEN DELETE"))],
        ));
    }
    Some(Change::run(sql).rows(ids.len() as i64).may_fail())
}

/// Rows move from one table to another in a single statement.
fn modifying_with(maker: &mut ChangeMaker, target: &Target) -> Option<Change> {
    let other = maker.other_table(&target.table)?;
    let kind = |t: &Table| t.columns.iter().find(|c| c.name == "k").map(|c| c.kind);
    let simple = other.id_column().is_none()
        && other.key.is_empty()
        && !other.is_strict
        && !other.is_partitioned()
        && maker.access_to(&other) >= Modify;
    if !simple || kind(&other) != kind(&target.table) {
        return None;
    }
    let filter = filter(maker, target, "");
    let sql = sql![
        format!("WITH gone AS (DELETE FROM {}", target.name),
        filter,
        format!(" RETURNING k) INSERT INTO {} (k) SELECT k FROM gone", other.name)
    ];
    Some(Change::run(sql).touching(other.family, Level::Write))
}

/// Statements in subtransactions of a DO block, some of which are undone.
fn do_block(maker: &mut ChangeMaker, target: &Target) -> Option<Change> {
    let mut body = vec![];
    for _ in 0..maker.dice.count(1..=3) {
        let inner = match maker.dice.count(0..=2) {
            0 => insert_values(maker, target)?,
            1 => update(maker, target)?,
            _ => delete(maker, target)?,
        };
        let Action::Run(statement) = inner.action else { return None };
        let undo = if maker.dice.chance(0.5) { " RAISE EXCEPTION 'undo';" } else { "" };
        let text = statement.as_statement(&crate::world::Catalog::default());
        body.push(Sql::from(format!("BEGIN {text};{undo} EXCEPTION WHEN raise_exception THEN NULL; END; ")));
    }
    Some(Change::run(sql!["DO $do$ BEGIN ", Sql::list("", 1, body), "END $do$"]).rows(8))
}

fn truncate(maker: &mut ChangeMaker, target: &Target) -> Option<Change> {
    if target.is_view {
        return None;
    }
    let only = if target.table.is_parent && maker.dice.chance(0.3) { "ONLY " } else { "" };
    let is_alone = maker.world.tables.iter().filter(|t| t.family == target.table.family).count() == 1;
    let cascade = if is_alone { "" } else { " CASCADE" };
    let rows = maker.world.table(target.table.id).rows as i64;
    Some(Change::run(format!("TRUNCATE {only}{}{cascade}", target.name)).rows(-rows))
}
