//! Cron expressions of 5 fields (minute hour day month weekday), 6 (second first), and `@hourly` forms; UTC. Pure.
//!
//! The library `croner` reads them and knows the calendar. As in cron, when both day and weekday are restricted either one
//! fires.

use chrono::{DateTime, Utc};
use croner::parser::{CronParser, Seconds, Year};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron(Box<croner::Cron>);

/// The expression a text means, or a sentence saying why it means none.
pub fn parse(text: &str) -> Result<Cron, String> {
    // A form of cron's that the library does not know.
    let text = if text.eq_ignore_ascii_case("@midnight") { "@daily" } else { text };
    let fields = text.split_whitespace().count();
    if !text.starts_with('@') && !matches!(fields, 5 | 6) {
        return Err(format!("\"{text}\" is no duration, and a cron expression has 5 or 6 fields, not {fields}."));
    }
    let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
    let cron = parser.parse(text).map(Box::new).map(Cron).map_err(|error| match text.starts_with('@') {
        true => format!("\"{text}\" is not a known cron form."),
        false => format!("\"{text}\" is no cron expression: {error}"),
    })?;
    if cron.next_after(0).is_none() {
        return Err(format!("\"{text}\" never fires: no month has such a day."));
    }
    Ok(cron)
}

impl Cron {
    /// The first second after `now` at which it fires; both in seconds since 1970, UTC.
    pub fn next_after(&self, now: i64) -> Option<i64> {
        let now: DateTime<Utc> = DateTime::from_timestamp(now, 0)?;
        // Fails when there is none.
        self.0.find_next_occurrence(&now, false).ok().map(|next| next.timestamp())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds since 1970 of a UTC time; `date -u -d .. +%s` says the same.
    fn next(text: &str, now: i64) -> i64 {
        parse(text).unwrap().next_after(now).unwrap()
    }

    #[test]
    fn next_times() {
        // 2026-11-22 16:15:30, a Sunday.
        let now = 1_795_364_130;
        assert_eq!(next("* * * * *", now), now + 30);
        assert_eq!(next("* * * * * *", now), now + 1);
        assert_eq!(next("30 15 16 * * *", now), now + 86_400, "strictly later");
        assert_eq!(next("*/10 * * * *", now), now + 270);
        assert_eq!(next("@hourly", now), now + 44 * 60 + 30);
        assert_eq!(next("@Midnight", now), next("0 0 * * *", now));
        assert_eq!(next("0 9 * * mon", now), now + 16 * 3600 + 44 * 60 + 30);
        assert_eq!(next("0 0 * * 7", now), next("0 0 * * sun", now), "Sunday is 0 and 7");
        assert_eq!(next("0 0 1 1 *", now), 1_798_761_600, "2027-01-01");
        assert_eq!(next("0 0 29 2 *", now), 1_835_395_200, "2028-02-29");
        assert_eq!(next("0 0 29 2 *", 3_981_398_400), 4_233_686_400, "there is no 2100-02-29");
        assert_eq!(next("0 0 13 * fri", now), 1_795_737_600, "a Friday that is not the 13th");
        assert_eq!(next("0 0 31 feb mon", now), 1_801_440_000, "Mondays of February");
        assert_eq!(next("5-59/20 * * * *", now), now + 9 * 60 + 30);
        assert_eq!(next("0 0 L * *", now), 1_795_996_800, "2026-11-30");
        assert_eq!(next("0 0 15W * *", now), 1_797_292_800, "2026-12-15, a Tuesday");
        assert_eq!(next("0 0 * * 5#2", now), 1_796_947_200, "2026-12-11");
    }

    #[test]
    fn refused() {
        let texts = [
            "* * * *",
            "* * * * * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * * 13 *",
            "* * * * 8",
            "5-1 * * * *",
            "*/0 * * * *",
            "a * * * *",
            "@never",
            "0 0 31 feb *",
            "0 0 31 4,6 *",
            "1-2-3 * * * *",
            "5/20 * * * *",
        ];
        for text in texts {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
