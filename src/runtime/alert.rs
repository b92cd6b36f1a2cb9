//! Notifications: JSON objects with the stream table and what else there is to say, sent when the transaction commits.
//!
//! NOTIFY makes commits wait for each other and cannot be prepared, so only our own processes use it.

use crate::pg::{facts, notify};
use crate::refresh::Step;
use pgrx::pg_sys;
use std::ffi::CStr;

const ALERT: &CStr = c"pg_trickle_alert";
const REFRESH: &CStr = c"pg_trickle_refresh";

#[derive(Clone, Copy)]
pub enum Value<'a> {
    Text(&'a str),
    Number(i64),
}

/// Something that somebody should know. Nothing is said of a view that has been dropped meanwhile.
pub fn send(event: &str, view: pg_sys::Oid, details: &[(&str, Value)]) {
    let Some(name) = facts::try_relation_name(view) else { return };
    let start = [("event", Value::Text(event)), ("stream_table", Value::Text(&name))];
    notify::notify(ALERT, &object(start.iter().chain(details)));
}

/// Something about the whole database.
pub fn send_of_database(event: &str, details: &[(&str, Value)]) {
    let start = [("event", Value::Text(event))];
    notify::notify(ALERT, &object(start.iter().chain(details)));
}

/// A refresh has changed rows of a view that wants this told.
pub fn refreshed(step: &Step) {
    let Some(name) = facts::try_relation_name(step.view) else { return };
    let outcome = &step.outcome;
    let details = [
        ("stream_table", Value::Text(&name)),
        ("action", Value::Text(outcome.action.as_str())),
        ("rows_inserted", Value::Number(outcome.inserted as i64)),
        ("rows_updated", Value::Number(outcome.updated as i64)),
        ("rows_deleted", Value::Number(outcome.deleted as i64)),
    ];
    notify::notify(REFRESH, &object(details.iter()));
}

fn object<'a>(fields: impl Iterator<Item = &'a (&'a str, Value<'a>)>) -> String {
    let fields: Vec<String> = fields.map(|(key, value)| field(key, *value)).collect();
    format!("{{{}}}", fields.join(", "))
}

/// Long texts are cut: a payload has fewer than 8000 bytes.
fn field(key: &str, value: Value) -> String {
    const LONGEST: usize = 1000;
    match value {
        Value::Text(text) => format!("\"{key}\": \"{}\"", escape(&text[..text.floor_char_boundary(LONGEST)])),
        Value::Number(number) => format!("\"{key}\": {number}"),
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' => escaped.push_str("\\\""),
            '\\' => escaped.push_str("\\\\"),
            control if control < ' ' => escaped.push_str(&format!("\\u{:04x}", control as u32)),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json() {
        assert_eq!(escape("a \"b\" \\ \n ü"), "a \\\"b\\\" \\\\ \\u000a ü");
        let fields = [("text", Value::Text("a \"b\"")), ("number", Value::Number(-7))];
        assert_eq!(object(fields.iter()), r#"{"text": "a \"b\"", "number": -7}"#);
    }
}
