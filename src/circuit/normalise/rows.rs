//! Whole rows of base tables become rows of their columns.
//!
//! A term may read a table through a subquery with one column more, the weight; a row spelled out does not notice.
//! A row that an outer join may have replaced by NULL as a whole stays as it is.

use crate::pg::handle::{Any, Node};
use crate::pg::query::{self, Query};
use crate::pg::relation::Relation;
use crate::pg::walk::{self, Scope};
use pgrx::pg_sys;

pub fn spell_out(mut query: Query) -> Query {
    let entries = query.entries();
    let whole_row = |node: Any, depth: u32| -> Option<Node<pg_sys::Var>> {
        let var: Node<pg_sys::Var> = node.cast()?;
        let is_whole = var.varlevelsup == depth && var.varattno == 0 && var.varnullingrels.is_null();
        let is_table = || entries[var.varno as usize - 1].rtekind == pg_sys::RTEKind::RTE_RELATION;
        (is_whole && is_table()).then_some(var)
    };
    if walk::any(query, Scope::EXPRESSIONS, |node, depth| whole_row(node, depth).is_some()) {
        *query = *walk::mutate(query, &mut |node, depth| {
            let var = whole_row(node, depth)?;
            Some(row_of(var, entries[var.varno as usize - 1].relid))
        });
    }
    query.inner().into_iter().for_each(|inner| {
        spell_out(inner);
    });
    query
}

/// `ROW(column, ..)` of the table's row type; dropped columns are NULL. What is there of those must not count in
/// `row IS NULL`, which the planner would take apart into its columns. (It does count where there are virtual
/// generated columns, whose rows the server itself spells out like this.)
fn row_of(whole: Node<pg_sys::Var>, relid: pg_sys::Oid) -> Any {
    let column = |attribute: pg_sys::FormData_pg_attribute| {
        let (typid, typmod, collation) = (attribute.atttypid, attribute.atttypmod, attribute.attcollation);
        if attribute.attisdropped {
            return query::null(query::TypeOf { typid: pg_sys::INT4OID, typmod: -1, collation: pg_sys::InvalidOid });
        }
        let mut var = query::var(whole.varno, attribute.attnum, query::TypeOf { typid, typmod, collation });
        var.varlevelsup = whole.varlevelsup;
        var.any()
    };
    let attributes = Relation::open(relid, pg_sys::NoLock).attributes();
    let some_dropped = attributes.iter().any(|attribute| attribute.attisdropped);
    let is_virtual = |a: &pg_sys::FormData_pg_attribute| a.attgenerated as u8 == pg_sys::ATTRIBUTE_GENERATED_VIRTUAL;
    let spelled_out_anyway = attributes.iter().any(is_virtual);
    let row = query::row(&attributes.into_iter().map(column).collect::<Vec<_>>(), whole.vartype);
    if some_dropped && !spelled_out_anyway { query::unseen(row).any() } else { row.any() }
}
