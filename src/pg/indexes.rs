//! What the indexes of a relation are over, and how CREATE INDEX spells it. Nothing of a query or an index is evaluated.

use super::handle::{Any, Node};
use super::node::{cstring, string};
use super::query::{self, TypeOf};
use super::relation::Relation;
use super::{facts, index_tree, list};
use pgrx::pg_sys;

/// An index that finds rows by equality with its keys.
pub struct Index {
    pub unique: bool,
    /// It finds ranges as well.
    pub ordered: bool,
    /// Its key columns and expressions, over the relation as entry 1, with the collations it compares by.
    pub keys: Vec<(Any, pg_sys::Oid)>,
}

/// The indexes that queries can use for all rows of a relation.
pub fn of(relation: &Relation) -> Vec<Index> {
    // SAFETY: the relation is pinned; a list of oids in the current context.
    let indexes: Vec<pg_sys::Oid> = unsafe { list::oids(pg_sys::RelationGetIndexList(relation.as_ptr())).collect() };
    indexes.into_iter().filter_map(|index| usable(relation, &Relation::open(index, pg_sys::AccessShareLock))).collect()
}

fn usable(relation: &Relation, index: &Relation) -> Option<Index> {
    // SAFETY: an open index has its pg_index row; its key columns have indnkeyatts entries in these arrays, and as many
    // expressions as column numbers that are 0. The expressions live in the current context.
    unsafe {
        let form = &*(*index.as_ptr()).rd_index;
        let searches = [pg_sys::BTREE_AM_OID, pg_sys::HASH_AM_OID].contains(&index.form().relam);
        if !(searches && form.indisvalid && index_tree::predicate(index.as_ptr()).is_null()) {
            return None;
        }
        let mut expressions = list::iter::<pg_sys::Node>(index_tree::expressions(index.as_ptr()));
        let columns = form.indkey.values.as_slice(form.indnkeyatts as usize);
        let key = |(position, &number): (usize, &i16)| {
            let key = match number {
                0 => expressions.next().and_then(|expression| Node::from_raw(expression)),
                _ => Some(column(relation, number)),
            };
            key.map(|key| (key, *(*index.as_ptr()).rd_indcollation.add(position)))
        };
        let keys = columns.iter().enumerate().filter_map(key).collect();
        let ordered = index.form().relam == pg_sys::BTREE_AM_OID;
        Some(Index { unique: form.indisunique, ordered, keys })
    }
}

fn column(relation: &Relation, number: i16) -> Any {
    if number < 0 {
        return query::var(1, number, TypeOf { typid: pg_sys::InvalidOid, typmod: -1, collation: pg_sys::InvalidOid })
            .any();
    }
    let attribute = relation.attribute(number);
    let (typid, typmod, collation) = (attribute.atttypid, attribute.atttypmod, attribute.attcollation);
    query::var(1, number, TypeOf { typid, typmod, collation }).any()
}

/// Whether an index can be made over an expression.
pub fn can_hold(expression: Any) -> bool {
    // SAFETY: a live expression.
    unsafe { !pg_sys::contain_mutable_functions(expression.as_ptr()) && !pg_sys::contain_subplans(expression.as_ptr()) }
}

impl Index {
    /// How many of the index's keys, from the first, are among these expressions (over the relation as entry 1).
    pub fn leading(&self, wanted: &[Any]) -> usize {
        let is_wanted = |(key, collation): &(Any, pg_sys::Oid)| {
            let same = |wanted: &Any| unlabelled(*wanted).equals(unlabelled(*key));
            wanted.iter().any(|wanted| same(wanted) && query::type_of(*wanted).collation == *collation)
        };
        self.keys.iter().take_while(|key| is_wanted(key)).count()
    }
}

/// Without what gives a value another type or collation but does not change it: the planner looks through that, too.
fn unlabelled(mut expression: Any) -> Any {
    loop {
        let label = expression.cast::<pg_sys::RelabelType>().and_then(|label| label.child(|label| label.arg));
        let collated =
            || expression.cast::<pg_sys::CollateExpr>().and_then(|collate| collate.child(|collate| collate.arg));
        match label.or_else(collated) {
            Some(inner) => expression = inner.any(),
            None => return expression,
        }
    }
}

/// `CREATE INDEX ON relation (..)` over expressions that stand over the relation as entry 1.
pub fn statement(relation: &Relation, keys: &[Any]) -> String {
    // SAFETY: live expressions over the relation's columns; names are copied.
    let key = |key: &Any| unsafe {
        let context = pg_sys::deparse_context_for(cstring(&relation.name()), relation.oid());
        let text = string(pg_sys::deparse_expression(key.as_ptr(), context, false, false));
        if needs_no_parentheses(*key) { text } else { format!("({text})") }
    };
    let keys: Vec<String> = keys.iter().map(key).collect();
    format!("CREATE INDEX ON {} ({})", facts::relation_name(relation.oid()), keys.join(", "))
}

fn needs_no_parentheses(key: Any) -> bool {
    let call = key.cast::<pg_sys::FuncExpr>();
    key.is::<pg_sys::Var>()
        || call.is_some_and(|call| call.get().funcformat == pg_sys::CoercionForm::COERCE_EXPLICIT_CALL)
}
