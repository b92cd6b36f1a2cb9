//! The text of a schedule: `30s`, `1m30s`, `500ms`, a bare number of seconds, cron, or `calculated`. Pure.
//!
//! What the server's interval type reads (`5 minutes`) is a schedule too: it is turned into a duration before it is stored.

use super::cron::Cron;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// The tightest schedule among the consumers.
    Calculated,
    Every(Duration),
    Cron(Cron),
}

pub const HINT: &str = "Write a duration such as 30s, 1m30s, 500ms or 5 minutes, a number of seconds, a cron expression of 5 or 6 fields, @hourly or the like, or calculated.";

const UNITS: &[(&str, u64)] =
    &[("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000), ("w", 604_800_000)];

/// Longer than any use, short enough for arithmetic on timestamps.
const LONGEST: u64 = 100 * 366 * 86_400_000;

/// The schedule a text means, or a sentence saying why it means none.
pub fn parse(text: &str) -> Result<Schedule, String> {
    let text = text.trim();
    if text.eq_ignore_ascii_case("calculated") {
        return Ok(Schedule::Calculated);
    }
    if text.is_empty() {
        return Err("The schedule is empty.".into());
    }
    if text.starts_with('@') || text.contains(char::is_whitespace) {
        return super::cron::parse(text).map(Schedule::Cron);
    }
    let milliseconds =
        duration(text).ok_or_else(|| format!("\"{text}\" is neither a duration nor a cron expression."))?;
    checked(milliseconds).map(|milliseconds| Schedule::Every(Duration::from_millis(milliseconds)))
}

/// The milliseconds, if a schedule may be that long; else a sentence saying why not.
fn checked(milliseconds: u64) -> Result<u64, String> {
    match milliseconds {
        0 => Err("A schedule must be longer than zero.".into()),
        LONGEST.. => Err("A schedule must be shorter than a hundred years.".into()),
        _ => Ok(milliseconds),
    }
}

/// The server's interval type passes over signs such as `*`, by which a cron expression is told from an interval.
pub fn may_be_interval(text: &str) -> bool {
    let tells_units = |c: char| c.is_ascii_alphabetic() || c == ':';
    text.contains(tells_units)
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c.is_whitespace() || ":.+-".contains(c))
}

/// The duration that an interval of that many microseconds is, as a schedule is written; or a sentence saying why it is none.
pub fn of_interval(microseconds: i64) -> Result<String, String> {
    let mut rest = checked(u64::try_from(microseconds).unwrap_or(0) / 1000)?;
    let mut text = String::new();
    for (unit, factor) in UNITS.iter().rev() {
        if rest >= *factor {
            text.push_str(&format!("{}{unit}", rest / factor));
            rest %= factor;
        }
    }
    Ok(text)
}

/// Milliseconds of a compound duration.
fn duration(text: &str) -> Option<u64> {
    if let Ok(seconds) = text.parse::<u64>() {
        return seconds.checked_mul(1000);
    }
    let mut total = 0u64;
    let mut rest = text;
    while !rest.is_empty() {
        let (number, tail) = split_where(rest, |c| !c.is_ascii_digit());
        let (unit, tail) = split_where(tail, |c| c.is_ascii_digit());
        let (_, factor) = UNITS.iter().find(|(name, _)| unit.eq_ignore_ascii_case(name))?;
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(*factor)?)?;
        rest = tail;
    }
    Some(total)
}

fn split_where(text: &str, stop: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(stop).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every(text: &str) -> Option<u128> {
        match parse(text) {
            Ok(Schedule::Every(duration)) => Some(duration.as_millis()),
            _ => None,
        }
    }

    #[test]
    fn durations() {
        assert_eq!(every("30s"), Some(30_000));
        assert_eq!(every("1m30s"), Some(90_000));
        assert_eq!(every(" 500ms "), Some(500));
        assert_eq!(every("1w2d3h"), Some(788_400_000));
        assert_eq!(every("90"), Some(90_000));
        assert_eq!(every("1M"), Some(60_000));
    }

    #[test]
    fn not_durations() {
        for text in
            ["", "0", "0s", "-1", "s", "1x", "1.5s", "1m30", "99999999999999999999s", "3000w1000000h", "9999999w"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn intervals() {
        assert_eq!(of_interval(300_000_000).as_deref(), Ok("5m"));
        assert_eq!(of_interval(694_861_500_000).as_deref(), Ok("1w1d1h1m1s500ms"));
        assert_eq!(of_interval(1_500_000).map(|text| every(&text)), Ok(Some(1500)));
        assert!(may_be_interval("5 minutes") && may_be_interval("01:30") && may_be_interval("-1.5 h"));
        assert!(!may_be_interval("61 * * * *") && !may_be_interval("@never") && !may_be_interval("0 0 31 2"));
        for length in [0, -1, 999, i64::MIN, i64::MAX] {
            assert!(of_interval(length).is_err(), "{length}");
        }
    }

    #[test]
    fn other_forms() {
        assert_eq!(parse("Calculated"), Ok(Schedule::Calculated));
        assert!(matches!(parse("@hourly"), Ok(Schedule::Cron(_))));
        assert!(matches!(parse("*/5 * * * *"), Ok(Schedule::Cron(_))));
        assert!(parse("every day").is_err());
    }
}
