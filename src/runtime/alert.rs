//! NOTIFY pg_trickle_alert: a JSON object with the event, the stream table and more.

use crate::pg::{facts, notify};
use pgrx::pg_sys;

const CHANNEL: &std::ffi::CStr = c"pg_trickle_alert";

/// Sent when the transaction commits.
pub fn send(event: &str, view: pg_sys::Oid, details: &[(&str, &str)]) {
    let name = facts::relation_name(view);
    let fields = [("event", event), ("stream_table", name.as_str())];
    let fields: Vec<String> = fields.iter().chain(details).map(|(key, value)| field(key, value)).collect();
    notify::notify(CHANNEL, &format!("{{{}}}", fields.join(", ")));
}

/// Long texts are cut: a payload has fewer than 8000 bytes.
fn field(key: &str, value: &str) -> String {
    const LONGEST: usize = 1000;
    let cut = &value[..value.floor_char_boundary(LONGEST)];
    format!("\"{key}\": \"{}\"", escape(cut))
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
    use super::escape;

    #[test]
    fn json_strings() {
        assert_eq!(escape("a \"b\" \\ \n ü"), "a \\\"b\\\" \\\\ \\u000a ü");
    }
}
