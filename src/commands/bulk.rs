//! Many stream tables by one call.

use super::accepted::Accepted;
use super::functions::{Arguments, create, required};
use crate::catalog::version;
use crate::error::{Report, error};
use crate::pg::interrupt;
use pgrx::{JsonB, PgSqlErrorCode, pg_extern};
use serde_json::{Map, Value};

/// Creates a stream table for each element of an array of objects, whose keys are the arguments of create_stream_table(), in
/// their order; their number.
#[pg_extern]
fn bulk_create(definitions: Option<JsonB>) -> i32 {
    version::require();
    let JsonB(definitions) = required("definitions", definitions);
    let Value::Array(definitions) = definitions else {
        malformed(format!("The definitions are {}, not an array.", kind(&definitions))).raise()
    };
    for (n, definition) in definitions.iter().enumerate() {
        interrupt::check();
        let Value::Object(definition) = definition else {
            malformed(format!("Element {n} is {}, not an object.", kind(definition))).raise()
        };
        create(&arguments(n, definition).definition(), false);
    }
    definitions.len() as i32
}

fn arguments(n: usize, definition: &Map<String, Value>) -> Arguments<'_> {
    let mut given = Arguments { accepted: Accepted::default(), ..Arguments::default() };
    for (key, value) in definition {
        let text = || as_text(n, key, value);
        match key.as_str() {
            "name" => given.name = text(),
            "query" => given.query = text(),
            "schedule" => given.schedule = text(),
            "refresh_mode" => given.refresh_mode = text(),
            "initialize" => given.initialize = as_boolean(n, key, value),
            "cdc_mode" => given.cdc_mode = text(),
            "diamond_consistency" => given.accepted.diamond_consistency = text(),
            "diamond_schedule_policy" => given.accepted.diamond_schedule_policy = text(),
            "append_only" => given.accepted.append_only = as_boolean(n, key, value),
            _ => malformed(format!("Element {n} has the unknown key \"{key}\".")).raise(),
        }
    }
    // As the SQL function has it. A null that is given means what it means there.
    if !definition.contains_key("schedule") {
        given.schedule = Some("calculated");
    }
    if !definition.contains_key("refresh_mode") {
        given.refresh_mode = Some("AUTO");
    }
    given
}

fn as_text<'a>(n: usize, key: &str, value: &'a Value) -> Option<&'a str> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text),
        other => malformed(format!("Key \"{key}\" of element {n} is {}, not a string.", kind(other))).raise(),
    }
}

fn as_boolean(n: usize, key: &str, value: &Value) -> Option<bool> {
    match value {
        Value::Null => None,
        Value::Bool(value) => Some(*value),
        other => malformed(format!("Key \"{key}\" of element {n} is {}, not a boolean.", kind(other))).raise(),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

fn malformed(detail: String) -> Report {
    error(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, "malformed definitions of stream tables")
        .detail(detail)
        .hint(
            "Give an array of objects whose keys are arguments of create_stream_table(); elements are counted from 0.",
        )
}
