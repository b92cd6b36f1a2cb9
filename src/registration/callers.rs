//! Functions and triggers of an application that refresh a view which is becoming a stream table, as far as their text says so.

use crate::error::error;
use crate::pg::catalog_table::{CatalogTable, Row};
use crate::pg::relation::Relation;
use crate::pg::{facts, names};
use hashbrown::HashSet;
use pgrx::{PgSqlErrorCode, pg_sys};
use std::ffi::CStr;

mod procedure {
    use pgrx::pg_sys;
    pub const OID: i16 = pg_sys::Anum_pg_proc_oid as i16;
    pub const SOURCE: i16 = pg_sys::Anum_pg_proc_prosrc as i16;
}

mod trigger {
    use pgrx::pg_sys;
    pub const TABLE: i16 = pg_sys::Anum_pg_trigger_tgrelid as i16;
    pub const NAME: i16 = pg_sys::Anum_pg_trigger_tgname as i16;
    pub const FUNCTION: i16 = pg_sys::Anum_pg_trigger_tgfoid as i16;
    pub const PARENT: i16 = pg_sys::Anum_pg_trigger_tgparentid as i16;
}

/// Warns if a function has a REFRESH of the view in its text, and names the triggers that call it.
pub fn warn_of(view: pg_sys::Oid) {
    let functions = functions(view);
    if functions.is_empty() {
        return;
    }
    let mut callers: Vec<String> =
        functions.iter().map(|oid| format!("function {}", facts::function_signature((*oid).into()))).collect();
    callers.extend(triggers(&functions));
    callers.sort_unstable();
    error(
        PgSqlErrorCode::ERRCODE_WARNING,
        format!("materialized view \"{}\" is also refreshed by functions of the application", Relation::open(view, pg_sys::NoLock).name()),
    )
    .detail(format!("These refresh it: {}.", callers.join(", ")))
    .hint(
        "A stream table refreshes itself. A REFRESH from inside a statement that is changing what the view reads does nothing; \
         other ones are not needed.",
    )
    .warn()
}

fn functions(view: pg_sys::Oid) -> HashSet<u32> {
    let (schema, name) = (facts::schema_name(view), Relation::open(view, pg_sys::NoLock).name());
    let is_ours = |row: &Row| {
        let oid: pg_sys::Oid = row.must(procedure::OID);
        // Those of the server are older than any view.
        let oid = Some(oid.to_u32()).filter(|oid| *oid >= pg_sys::FirstNormalObjectId)?;
        refreshes(row.get::<&str>(procedure::SOURCE)?, &schema, &name).then_some(oid)
    };
    CatalogTable::open_for_read(pg_sys::ProcedureRelationId).all().iter().filter_map(is_ours).collect()
}

/// The triggers that call any of the functions; of a partitioned table's, that one and not its copies.
fn triggers(functions: &HashSet<u32>) -> Vec<String> {
    let describe = |row: &Row| {
        let function: pg_sys::Oid = row.must(trigger::FUNCTION);
        let original = row.must::<pg_sys::Oid>(trigger::PARENT) == pg_sys::InvalidOid;
        (original && functions.contains(&function.to_u32())).then(|| {
            let name = row.must::<&CStr>(trigger::NAME).to_string_lossy().into_owned();
            format!("trigger {} on table {}", names::quoted(&name), names::display(row.must(trigger::TABLE)))
        })
    };
    CatalogTable::open_for_read(pg_sys::TriggerRelationId).all().iter().filter_map(describe).collect()
}

/// Whether a text has `REFRESH MATERIALIZED VIEW [CONCURRENTLY] [schema.]name` somewhere, be it in a string.
fn refreshes(text: &str, schema: &str, name: &str) -> bool {
    let mut rest = text;
    while let Some(at) = find_word(rest, "refresh") {
        rest = &rest[at + "refresh".len()..];
        let target = word(rest, "materialized").and_then(|rest| word(rest, "view"));
        let Some(target) = target else { continue };
        let target = word(target, "concurrently").unwrap_or(target);
        let Some((first, after)) = identifier(target) else { continue };
        let qualified = after.trim_start().strip_prefix('.').and_then(identifier);
        if qualified.map_or(first == name, |(second, _)| first == schema && second == name) {
            return true;
        }
    }
    false
}

/// Where the word is, in any case.
fn find_word(text: &str, word: &str) -> Option<usize> {
    let lower = text.to_ascii_lowercase();
    let mut from = 0;
    loop {
        let at = from + lower[from..].find(word)?;
        if !lower[..at].ends_with(is_of_name) && !lower[at + word.len()..].starts_with(is_of_name) {
            return Some(at);
        }
        from = at + word.len();
    }
}

/// What follows the word, if the text begins with it after white space.
fn word<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let start = text.trim_start();
    let begins =
        start.len() < text.len() && start.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word));
    let rest = start.get(word.len()..).filter(|_| begins)?;
    (!rest.starts_with(is_of_name)).then_some(rest)
}

/// The name the text begins with, as the server reads it, and what follows.
fn identifier(text: &str) -> Option<(String, &str)> {
    let text = text.trim_start();
    match text.strip_prefix('"') {
        None => {
            let end = text.find(|letter| !is_of_name(letter)).unwrap_or(text.len());
            (end > 0).then(|| (text[..end].to_ascii_lowercase(), &text[end..]))
        }
        Some(mut rest) => {
            let mut name = String::new();
            loop {
                let end = rest.find('"')?;
                name.push_str(&rest[..end]);
                rest = &rest[end + 1..];
                match rest.strip_prefix('"') {
                    Some(more) => {
                        name.push('"');
                        rest = more;
                    }
                    None => return Some((name, rest)),
                }
            }
        }
    }
}

fn is_of_name(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_' || letter == '$'
}

#[cfg(test)]
mod tests {
    use super::refreshes;

    fn of_v(text: &str) -> bool {
        refreshes(text, "public", "v")
    }

    #[test]
    fn any_spelling() {
        for text in [
            "BEGIN REFRESH MATERIALIZED VIEW v; RETURN NULL; END",
            "begin refresh\n\tmaterialized  view concurrently V; end",
            "REFRESH MATERIALIZED VIEW public.v",
            "REFRESH MATERIALIZED VIEW \"public\" . \"v\" WITH DATA",
            "EXECUTE 'REFRESH MATERIALIZED VIEW CONCURRENTLY v'",
            "-- refresh\nREFRESH MATERIALIZED VIEW w; REFRESH MATERIALIZED VIEW v",
        ] {
            assert!(of_v(text), "{text}");
        }
    }

    #[test]
    fn no_other_view_and_no_other_word() {
        for text in [
            "",
            "REFRESH MATERIALIZED VIEW",
            "REFRESH MATERIALIZED VIEW vv",
            "REFRESH MATERIALIZED VIEW \"V\"",
            "REFRESH MATERIALIZED VIEW other.v",
            "REFRESH MATERIALIZED VIEW v.w",
            "PERFORM refresh_materialized_view('v')",
            "norefresh materialized view v",
            "REFRESH MATERIALIZED VIEW \"v",
        ] {
            assert!(!of_v(text), "{text}");
        }
    }

    #[test]
    fn quoted_and_foreign_names() {
        assert!(refreshes("REFRESH MATERIALIZED VIEW \"My \"\"View\"\"\"", "public", "My \"View\""));
        assert!(refreshes("REFRESH MATERIALIZED VIEW größe", "public", "größe"));
        assert!(!refreshes("İREFRESH MATERIALIZED VIEW größe", "public", "größe"));
        assert!(refreshes("'İ' REFRESH MATERIALIZED VIEW concurrently größe", "public", "größe"));
    }
}
