//! The text form of pinned settings in option `pg_trickle.settings`: `DateStyle=ISO, MDY; TimeZone=UTC`. Pure.
//!
//! A dump carries it, so that a view whose result depends on settings is restored under those it was made with.

use crate::identity;

pub const HINT: &str = "Write name=value pairs separated by semicolons; pg_dump writes this parameter.";

/// `;` and `\` inside values are escaped by `\`.
pub fn encode(settings: &[String]) -> String {
    let escaped = |setting: &String| setting.replace('\\', "\\\\").replace(';', "\\;");
    settings.iter().map(escaped).collect::<Vec<_>>().join("; ")
}

/// The `name=value` pairs, or a sentence saying what is wrong.
pub fn decode(text: &str) -> Result<Vec<String>, String> {
    let pairs = split(text);
    for pair in &pairs {
        let name = pair.split_once('=').map(|(name, _)| name);
        if !name.is_some_and(identity::is_pinned) {
            return Err(format!("\"{pair}\" does not set a setting that is pinned."));
        }
    }
    Ok(pairs)
}

fn split(text: &str) -> Vec<String> {
    let mut pairs = vec![String::new()];
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => pairs.last_mut().expect("never empty").extend(characters.next()),
            ';' => pairs.push(String::new()),
            other => pairs.last_mut().expect("never empty").push(other),
        }
    }
    let trimmed = pairs.iter().map(|pair| pair.trim().to_owned());
    trimmed.filter(|pair| !pair.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let settings = vec!["DateStyle=ISO, MDY".to_owned(), "TimeZone=a;b\\c".to_owned(), "lc_time=".to_owned()];
        assert_eq!(decode(&encode(&settings)), Ok(settings));
    }

    #[test]
    fn only_pinned_settings() {
        assert!(decode("search_path=public").is_err());
        assert!(decode("TimeZone").is_err());
        assert_eq!(decode(""), Ok(vec![]));
    }
}
