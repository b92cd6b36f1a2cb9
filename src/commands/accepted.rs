//! Arguments of functions that programs written for stream tables give, and that need not change anything here.
//!
//! A stream table is refreshed together with all it rests on, at one snapshot, so the branches of a diamond always agree; and
//! it is refreshed as often as the most impatient of its readers wants. That rows are only appended is not asked to be known.

use crate::error::{Report, error};
use pgrx::PgSqlErrorCode;

/// As they are given.
#[derive(Default)]
pub struct Accepted<'a> {
    pub diamond_consistency: Option<&'a str>,
    pub diamond_schedule_policy: Option<&'a str>,
    pub append_only: Option<bool>,
}

impl Accepted<'_> {
    /// Refuses unknown values, and says which have no effect.
    pub fn check(&self) {
        if is_other("diamond_consistency", self.diamond_consistency, ["atomic", "none"]) {
            without_effect("diamond_consistency")
                .detail("The branches of a diamond are always refreshed together, at one snapshot.")
                .notice();
        }
        if is_other("diamond_schedule_policy", self.diamond_schedule_policy, ["fastest", "slowest"]) {
            without_effect("diamond_schedule_policy")
                .detail("A diamond is refreshed as often as the shortest schedule in it says.")
                .hint("Give the stream tables that it consists of longer schedules.")
                .notice();
        }
        if self.append_only == Some(true) {
            without_effect("append_only")
                .detail(
                    "Updates and deletes are maintained wherever they occur; where there are none, they cost nothing.",
                )
                .notice();
        }
    }
}

/// Whether the other value than what is always done is given.
fn is_other(argument: &str, value: Option<&str>, [always, other]: [&str; 2]) -> bool {
    match value {
        None => false,
        Some(value) if value.eq_ignore_ascii_case(always) => false,
        Some(value) if value.eq_ignore_ascii_case(other) => true,
        Some(value) => {
            error(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, format!("invalid value for {argument}: \"{value}\""))
                .detail(format!("It is either {always} or {other}."))
                .raise()
        }
    }
}

fn without_effect(argument: &str) -> Report {
    error(PgSqlErrorCode::ERRCODE_WARNING, format!("argument \"{argument}\" has no effect"))
}
