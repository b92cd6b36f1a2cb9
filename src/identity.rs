//! Promise 6: a view's query is rewritten, planned and run as the view's owner, in a security-restricted operation,
//! under the settings in force when the view was made.

use crate::catalog::stream_table;
use crate::pg::identity;
use crate::pg::relation::Relation;
use pgrx::pg_sys;

pub use identity::AsOwner;

/// Settings the results of built-in functions depend on, and those by which the body of a function is parsed.
const PINNED: &[&str] = &[
    "DateStyle",
    "IntervalStyle",
    "TimeZone",
    "array_nulls",
    "backslash_quote",
    "bytea_output",
    "default_text_search_config",
    "extra_float_digits",
    "lc_monetary",
    "lc_numeric",
    "lc_time",
    "quote_all_identifiers",
    "standard_conforming_strings",
    "timezone_abbreviations",
    "transform_null_equals",
    "xmlbinary",
    "xmloption",
];

/// Settings under which an answer may be incomplete, and the value under which it is not. Not pinned: no view wants another.
const EXACT: &[&str] = &["gin_fuzzy_search_limit=0"];

/// `name=value` of every pinned setting as it is now.
pub fn current_settings() -> Vec<String> {
    PINNED.iter().map(|name| format!("{name}={}", identity::setting(name))).collect()
}

/// The current settings with `given` (`name=value`) in place of some.
pub fn settings_with(given: &[String]) -> Vec<String> {
    let name = |setting: &String| setting.split('=').next().unwrap_or_default().to_owned();
    let instead =
        |current: String| given.iter().find(|setting| name(setting) == name(&current)).cloned().unwrap_or(current);
    current_settings().into_iter().map(instead).collect()
}

/// A setting that may be pinned.
pub fn is_pinned(name: &str) -> bool {
    PINNED.contains(&name)
}

/// The same, however the name is written: the server takes any case.
pub fn is_pinned_in_any_case(name: &str) -> bool {
    PINNED.iter().any(|pinned| pinned.eq_ignore_ascii_case(name))
}

/// Runs `work` as the owner of `view`. A view not registered (yet) runs under the current settings.
pub fn as_owner<R>(view: pg_sys::Oid, work: impl FnOnce(&AsOwner) -> R) -> R {
    let pinned = stream_table::get(view).map(|st| st.pinned).unwrap_or_default();
    as_owner_with(view, &pinned, work)
}

/// `as_owner` for a caller who has the stream table's row at hand. The view stays open as long as `work` lasts: what it
/// calls of the owner's cannot drop or alter the view.
pub fn as_owner_with<R>(view: pg_sys::Oid, pinned: &[String], work: impl FnOnce(&AsOwner) -> R) -> R {
    let settings: Vec<String> = EXACT.iter().map(|&exact| exact.to_owned()).chain(pinned.iter().cloned()).collect();
    let relation = Relation::open(view, pg_sys::AccessShareLock);
    identity::run_as(relation.form().relowner, &settings, work)
}

/// Runs `work` on a query that belongs to no view: as the user who wrote it, restricted as the owner of a view of it
/// would be, under the current settings.
pub fn as_author<R>(work: impl FnOnce(&AsOwner) -> R) -> R {
    identity::run_as(identity::current_user(), &[], work)
}
