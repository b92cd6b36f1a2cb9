//! A hash of everything the meaning of a view's rows depends on, short of the rows of its sources.
//!
//! When it differs from the one stored with the view, the stored rows answer another query: recompute.

use super::functions::Findings;
use super::{Block, Refusal, Source};
use crate::pg::facts;
use crate::pg::handle::Any;
use crate::pg::query::Query;
use crate::pg::relation::Relation;
use crate::pg::walk::{self, Scope};
use pgrx::pg_sys;
use std::collections::BTreeSet;
use std::fmt::Write;

/// Bumped when the same query would be stored or maintained differently.
const FORMAT: u64 = 1;

/// The rewritten query's text (row security and plain views included), the types of the columns it reads, the
/// definitions of the functions it calls directly, and the name it runs under if that shows in the result.
/// Constraints change no row: only those count by which a table was left out of what is maintained.
pub fn of(query: Query, sources: &[Source], functions: &Findings, keys: &BTreeSet<u32>) -> i64 {
    let mut text = query.text();
    let names = reads_whole_rows(query);
    sources.iter().for_each(|source| describe(source, names, &mut text));
    functions.replaceable.iter().for_each(|&function| text.push_str(&facts::definition(function.into())));
    // With or without such a key the view shows the same rows now, but continues them otherwise.
    if !keys.is_empty() {
        write!(text, " {keys:?}").expect("a String takes any text");
    }
    functions.inlined.iter().for_each(|body| text.push_str(body));
    if functions.owner {
        text.push_str(&facts::current_user());
    }
    facts::hash(text.as_bytes(), FORMAT) as i64
}

/// The same with the way the rows are maintained: by which key they are found, why not incrementally, in which blocks.
pub fn maintained(fingerprint: i64, key: Option<&[usize]>, refusals: &[Refusal], blocks: &[Block]) -> i64 {
    let codes: Vec<&str> = refusals.iter().map(|refusal| refusal.code).collect();
    let mut text = format!("{key:?} {codes:?}");
    for block in blocks.iter().take(blocks.len().saturating_sub(1)) {
        let (types, key) = (block.output.columns.iter().map(|column| column.typid.to_u32()), &block.output.key);
        write!(text, " {:?} {key:?}", types.collect::<Vec<_>>()).expect("a String takes any text");
    }
    facts::hash(text.as_bytes(), fingerprint as u64) as i64
}

/// A whole row shows the names of its columns (row_to_json).
fn reads_whole_rows(query: Query) -> bool {
    let whole = |node: Any| {
        let spelled_out = node.cast::<pg_sys::RowExpr>().is_some_and(|row| row.get().row_typeid != pg_sys::RECORDOID);
        spelled_out || node.cast::<pg_sys::Var>().is_some_and(|var| var.get().varattno == 0)
    };
    walk::any(query, Scope::EXPRESSIONS, |node, _| whole(node))
}

fn describe(source: &Source, names: bool, text: &mut String) {
    let relation = Relation::open(source.relid, pg_sys::NoLock);
    for attribute in relation.attributes().into_iter().filter(|attribute| !attribute.attisdropped) {
        if source.columns.contains(&attribute.attnum) {
            let (typid, collation) = (attribute.atttypid.to_u32(), attribute.attcollation.to_u32());
            write!(text, " {}:{typid}:{}:{collation}", attribute.attnum, attribute.atttypmod)
                .expect("a String takes any text");
        }
        if names {
            text.push_str(pgrx::name_data_to_str(&attribute.attname));
        }
        if attribute.attgenerated as u8 == pg_sys::ATTRIBUTE_GENERATED_VIRTUAL {
            text.push_str(&relation.generation_expression(attribute.attnum).text());
        }
    }
}
