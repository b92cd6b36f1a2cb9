//! Whole rows of tables and subqueries become rows of their columns.
//!
//! A term may read a table through a subquery with one column more, the weight, and subqueries gain it as well; a row
//! spelled out does not notice. A row that an outer join may have replaced by NULL as a whole stays as it is.

use crate::pg::handle::{Any, Node};
use crate::pg::query::{self, Entry, Query};
use crate::pg::relation::Relation;
use crate::pg::stack;
use crate::pg::walk::{self, Scope};
use pgrx::pg_sys;

pub fn spell_out(query: Query) -> Query {
    stack::check();
    let entries = query.entries();
    let whole_row = |node: Any, depth: u32| -> Option<(Node<pg_sys::Var>, Entry)> {
        let var: Node<pg_sys::Var> = node.cast()?;
        let is_whole = var.get().varlevelsup == depth && var.get().varattno == 0 && var.get().varnullingrels.is_null();
        let entry = is_whole.then(|| entries[var.get().varno as usize - 1])?;
        let gains_weight =
            [pg_sys::RTEKind::RTE_RELATION, pg_sys::RTEKind::RTE_SUBQUERY].contains(&entry.get().rtekind);
        gains_weight.then_some((var, entry))
    };
    if walk::any(query, Scope::EXPRESSIONS, |node, depth| whole_row(node, depth).is_some()) {
        let spelled_out = walk::mutate(query, &mut |node, depth| {
            let (var, entry) = whole_row(node, depth)?;
            Some(match entry.child(|entry| entry.subquery) {
                Some(subquery) => row_of_subquery(var, entry, subquery),
                None => row_of_table(var, entry.get().relid),
            })
        });
        query.set(|query| *query = spelled_out.get());
    }
    query.inner().into_iter().for_each(|inner| {
        spell_out(inner);
    });
    query
}

/// As the planner does it for a subquery it pulls up. The columns of an anonymous row have their names with it.
fn row_of_subquery(whole: Node<pg_sys::Var>, entry: Entry, subquery: Query) -> Any {
    let column = |target: query::Target| column_of(whole, target.get().resno, query::type_of(target.expression()));
    let columns: Vec<Any> = subquery.outputs().into_iter().map(column).collect();
    let row = query::row(&columns, whole.get().vartype);
    if whole.get().vartype == pg_sys::RECORDOID {
        row.set(|row| {
            row.colnames = entry.child(|entry| entry.eref).expect("an entry has names").copy().get().colnames
        });
    }
    row.any()
}

fn column_of(whole: Node<pg_sys::Var>, number: i16, of: query::TypeOf) -> Any {
    let var = query::var(whole.get().varno, number, of);
    var.set(|var| var.varlevelsup = whole.get().varlevelsup);
    var.any()
}

/// `ROW(column, ..)` of the table's row type; dropped columns are NULL. What is there of those must not count in
/// `row IS NULL`, which the planner would take apart into its columns. (It does count where there are virtual
/// generated columns, whose rows the server itself spells out like this.)
fn row_of_table(whole: Node<pg_sys::Var>, relid: pg_sys::Oid) -> Any {
    let column = |attribute: pg_sys::FormData_pg_attribute| {
        let (typid, typmod, collation) = (attribute.atttypid, attribute.atttypmod, attribute.attcollation);
        if attribute.attisdropped {
            return query::null(query::TypeOf { typid: pg_sys::INT4OID, typmod: -1, collation: pg_sys::InvalidOid });
        }
        column_of(whole, attribute.attnum, query::TypeOf { typid, typmod, collation })
    };
    let attributes = Relation::open(relid, pg_sys::NoLock).attributes();
    let some_dropped = attributes.iter().any(|attribute| attribute.attisdropped);
    let is_virtual = |a: &pg_sys::FormData_pg_attribute| a.attgenerated as u8 == pg_sys::ATTRIBUTE_GENERATED_VIRTUAL;
    let spelled_out_anyway = attributes.iter().any(is_virtual);
    let row = query::row(&attributes.into_iter().map(column).collect::<Vec<_>>(), whole.get().vartype);
    if some_dropped && !spelled_out_anyway { query::unseen(row).any() } else { row.any() }
}
