//! Fingerprints of what stored versions and delta plans rely on in a source's definition.
//!
//! *Shape*: where and what the columns of a stored version are, and what its generated columns mean. When it changes,
//! what is in the buffer no longer says what it said, or the table's contents changed without any statement on them. Whether a member is
//! logged belongs to it, since a crash may have emptied one that was not.
//!
//! *Proofs*: the constraints from which the planner draws conclusions. They hold for the table now, not for its old
//! contents or pending changes.
//!
//! Both are sums over the members, so that the part of a member which leaves can be taken out, and what is left says whether
//! anything else changed (departure.rs).
//!
//! Both are stored, so they are made by the server's own hash function, which gives the same on every build. Release 0.1.0
//! made them otherwise: the first DDL of such a source finds another shape, and its views are recomputed once.

use crate::catalog::source::Source;
use crate::pg::catalog_table::{CatalogTable, Row, Rows};
use crate::pg::facts;
use crate::pg::relation::Relation;
use pgrx::pg_sys;

mod constraint {
    pub const RELATION: u32 = 2606;
    pub const BY_RELATION: u32 = 2665;
    pub const OID: i16 = 1;
    pub const ENFORCED: i16 = 7;
    pub const VALIDATED: i16 = 8;
    pub const CONRELID: i16 = 9;
}

mod index {
    pub const RELATION: u32 = 2610;
    pub const BY_RELATION: u32 = 2678;
    pub const OID: i16 = 1;
    pub const INDRELID: i16 = 2;
    pub const UNIQUE: i16 = 5;
    pub const IMMEDIATE: i16 = 9;
    pub const VALID: i16 = 11;
}

/// Bumped when they are made in another way.
const FORMAT: u64 = 2;

/// What a fingerprint is made of, as bytes that end where they say.
#[derive(Default)]
struct Facts(Vec<u8>);

impl Facts {
    fn number(&mut self, number: impl Into<i64>) {
        self.0.extend(number.into().to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as i64);
        self.0.extend(text.as_bytes());
    }

    fn oids(&mut self, oids: &[u32]) {
        self.number(oids.len() as i64);
        oids.iter().for_each(|&oid| self.number(oid));
    }

    fn hash(&self) -> i64 {
        facts::hash(&self.0, FORMAT) as i64
    }

    /// A member's part of a sum: 0 when there is nothing to say about it.
    fn share(mut self, member: pg_sys::Oid) -> i64 {
        if self.0.is_empty() {
            return 0;
        }
        self.number(member.to_u32());
        self.hash()
    }
}

/// Sets both fingerprints of `source` to what they are now.
pub fn take(source: &mut Source) {
    source.shape = shape(&source.columns, source);
    source.proofs = proofs(&source.members);
}

/// Of the given columns and the members of `source`. Only what lies before the last of the columns counts: columns added
/// later do not move those stored.
pub fn shape(columns: &[i16], source: &Source) -> i64 {
    let mut facts = Facts::default();
    let relation = Relation::open(source.relid, pg_sys::AccessShareLock);
    for attno in 1..=columns.last().copied().unwrap_or(0) {
        let attribute = relation.attribute(attno);
        facts.number(attno);
        facts.number(attribute.attlen);
        facts.number(attribute.attalign);
        facts.number(attribute.attbyval);
        facts.number(if columns.contains(&attno) { attribute.atttypid.to_u32() } else { 0 });
    }
    let there = |&member: &pg_sys::Oid| Relation::try_open(member, pg_sys::AccessShareLock);
    let members = source.members.iter().filter_map(there).map(|member| share_of_shape(columns, &relation, &member));
    members.fold(facts.hash(), i64::wrapping_add)
}

/// What a member adds to the shape of `source`: nothing, unless it is unlogged, since a crash empties it unseen, or generates some
/// of these columns of the source.
pub fn share_of_shape(columns: &[i16], source: &Relation, member: &Relation) -> i64 {
    let names: Vec<&str> = columns.iter().map(|&attno| source.column_name(attno)).collect();
    let generated = generated(member, &names);
    let mut facts = Facts::default();
    if member.form().relpersistence as u8 == pg_sys::RELPERSISTENCE_UNLOGGED {
        facts.text("unlogged");
    }
    for (name, expression) in &generated {
        facts.text(name);
        facts.text(expression);
    }
    facts.share(member.oid())
}

/// The generation expressions of the columns in `names`.
fn generated(member: &Relation, names: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (attno, expression) in member.defaults() {
        let name = member.column_name(attno);
        if member.attribute(attno).attgenerated != 0 && names.contains(&name) {
            found.push((name.to_owned(), expression));
        }
    }
    found.sort_unstable();
    found
}

/// Of the given tables.
pub fn proofs(members: &[pg_sys::Oid]) -> i64 {
    members.iter().map(|&member| share_of_proofs(member)).fold(0, i64::wrapping_add)
}

/// What a member adds to the proofs of a source: nothing, unless it has constraints or unique indexes.
pub fn share_of_proofs(member: pg_sys::Oid) -> i64 {
    let constraints = CatalogTable::open_for_read(constraint::RELATION.into());
    let indexes = CatalogTable::open_for_read(index::RELATION.into());
    let rows = constraints.find(constraint::BY_RELATION.into(), constraint::CONRELID, member, Rows::Latest);
    let flags = |row: &Row| row.must(constraint::ENFORCED) && row.must(constraint::VALIDATED);
    let of_constraints = oids(&rows, constraint::OID, flags);
    let rows = indexes.find(index::BY_RELATION.into(), index::INDRELID, member, Rows::Latest);
    let flags = |row: &Row| row.must(index::UNIQUE) && row.must(index::IMMEDIATE) && row.must(index::VALID);
    let of_indexes = oids(&rows, index::OID, flags);
    let mut facts = Facts::default();
    if !of_constraints.is_empty() || !of_indexes.is_empty() {
        facts.oids(&of_constraints);
        facts.oids(&of_indexes);
    }
    facts.share(member)
}

/// The oids of those rows that count, ascending.
fn oids(rows: &[Row], attno: i16, counts: impl Fn(&Row) -> bool) -> Vec<u32> {
    let counting = rows.iter().filter(|row| counts(row));
    let mut oids: Vec<u32> = counting.map(|row| row.must::<pg_sys::Oid>(attno).to_u32()).collect();
    oids.sort_unstable();
    oids
}
