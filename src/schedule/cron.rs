//! Cron expressions of 5 fields (minute hour day month weekday), 6 (second first), and `@hourly` forms; UTC. Pure.
//!
//! Each field becomes a bit set. As in cron, when both day and weekday are restricted either one fires.

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    pub seconds: u64,
    pub minutes: u64,
    pub hours: u64,
    /// Bits 1..=31.
    pub days: u64,
    /// Bits 1..=12.
    pub months: u64,
    /// Bits 0..=6, Sunday is 0.
    pub weekdays: u64,
    pub any_day: bool,
    pub any_weekday: bool,
}

struct Field {
    name: &'static str,
    low: u32,
    high: u32,
    names: &'static [&'static str],
}

const MONTHS: &[&str] = &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

const SECOND: Field = Field { name: "second", low: 0, high: 59, names: &[] };
const MINUTE: Field = Field { name: "minute", low: 0, high: 59, names: &[] };
const HOUR: Field = Field { name: "hour", low: 0, high: 23, names: &[] };
const DAY: Field = Field { name: "day", low: 1, high: 31, names: &[] };
const MONTH: Field = Field { name: "month", low: 1, high: 12, names: MONTHS };
const WEEKDAY: Field = Field { name: "weekday", low: 0, high: 7, names: WEEKDAYS };

const FORMS: &[(&str, &str)] = &[
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

/// Days of the longest February, and so on.
const LONGEST: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// The expression a text means, or a sentence saying why it means none.
pub fn parse(text: &str) -> Result<Cron, String> {
    if text.starts_with('@') {
        let form = FORMS.iter().find(|(name, _)| text.eq_ignore_ascii_case(name));
        return parse(form.ok_or_else(|| format!("\"{text}\" is not a known cron form."))?.1);
    }
    let fields: Vec<&str> = text.split_whitespace().collect();
    let (second, rest) = match fields.len() {
        5 => ("0", &fields[..]),
        6 => (fields[0], &fields[1..]),
        n => return Err(format!("A cron expression has 5 or 6 fields, not {n}.")),
    };
    let weekdays = WEEKDAY.parse(rest[4])?;
    let cron = Cron {
        seconds: SECOND.parse(second)?,
        minutes: MINUTE.parse(rest[0])?,
        hours: HOUR.parse(rest[1])?,
        days: DAY.parse(rest[2])?,
        months: MONTH.parse(rest[3])?,
        // Sunday is 0 and 7.
        weekdays: (weekdays | weekdays >> 7) & 0x7f,
        any_day: rest[2].starts_with('*'),
        any_weekday: rest[4].starts_with('*'),
    };
    if cron.fires() { Ok(cron) } else { Err("No month has such a day.".into()) }
}

/// Seconds of a day; and the longest time between two fires, a leap day over a year like 1900, in days.
const DAY_SECONDS: i64 = 86_400;
const LONGEST_GAP: i64 = 8 * 366 + 1;

impl Cron {
    /// The first second after `now` at which it fires; both in seconds since 1970, UTC.
    pub fn next_after(&self, now: i64) -> Option<i64> {
        let first = now + 1;
        let (today, second) = (first.div_euclid(DAY_SECONDS), first.rem_euclid(DAY_SECONDS));
        let at = |day: i64, second: i64| Some(day * DAY_SECONDS + self.second_from(second)?);
        let later = (today + 1..=today + LONGEST_GAP).find(|&day| self.matches_day(day));
        let now = if self.matches_day(today) { at(today, second) } else { None };
        now.or_else(|| at(later?, 0))
    }

    /// The first second of a day, from `start` on, that matches.
    fn second_from(&self, start: i64) -> Option<i64> {
        let (hour, minute, second) = ((start / 3600) as u32, (start / 60 % 60) as u32, (start % 60) as u32);
        let this_minute = || Some((hour, minute, bit_from(self.seconds, second)?));
        let this_hour = || Some((hour, bit_from(self.minutes, minute + 1)?, bit_from(self.seconds, 0)?));
        let this_day =
            || Some((bit_from(self.hours, hour + 1)?, bit_from(self.minutes, 0)?, bit_from(self.seconds, 0)?));
        let hour_fires = self.hours >> hour & 1 == 1;
        let minute_fires = hour_fires && self.minutes >> minute & 1 == 1;
        let found = minute_fires.then(this_minute).flatten();
        let found = found.or_else(|| hour_fires.then(this_hour).flatten()).or_else(this_day)?;
        Some(i64::from(found.0) * 3600 + i64::from(found.1) * 60 + i64::from(found.2))
    }

    fn matches_day(&self, day: i64) -> bool {
        let (month, date) = month_and_day(day);
        let weekday = (day + 4).rem_euclid(7);
        let (by_date, by_weekday) = (self.days >> date & 1 == 1, self.weekdays >> weekday & 1 == 1);
        let fits = if self.any_day || self.any_weekday { by_date && by_weekday } else { by_date || by_weekday };
        fits && self.months >> month & 1 == 1
    }

    /// Some date matches.
    fn fires(&self) -> bool {
        let exists =
            |month: u32| self.months >> month & 1 == 1 && self.days & ((2 << LONGEST[month as usize - 1]) - 1) != 0;
        !self.any_weekday || (1..=12).any(exists)
    }
}

/// The lowest bit set, from `low` on.
fn bit_from(bits: u64, low: u32) -> Option<u32> {
    let rest = if low < u64::BITS { bits >> low << low } else { 0 };
    (rest != 0).then(|| rest.trailing_zeros())
}

/// Of a day counted from 1970-01-01, in the Gregorian calendar. Years are taken to begin in March, so that the leap day
/// is their last.
fn month_and_day(day: i64) -> (u32, u32) {
    let of_era = (day + 719_468).rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let date = of_year - (153 * month + 2) / 5 + 1;
    (if month < 10 { month + 3 } else { month - 9 } as u32, date as u32)
}

impl Field {
    /// The bits of a comma-separated list of values, ranges and steps.
    fn parse(&self, text: &str) -> Result<u64, String> {
        let mut bits = 0;
        for part in text.split(',') {
            bits |=
                self.part(part).ok_or_else(|| format!("\"{part}\" is not a {} of a cron expression.", self.name))?;
        }
        Ok(bits)
    }

    fn part(&self, part: &str) -> Option<u64> {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(step.parse::<usize>().ok().filter(|step| *step > 0)?)),
            None => (part, None),
        };
        let (low, high) = match range.split_once('-') {
            Some((low, high)) => (self.value(low)?, self.value(high)?),
            None if range == "*" => (self.low, self.high),
            None if step.is_some() => (self.value(range)?, self.high),
            None => (self.value(range)?, self.value(range)?),
        };
        let values = (low..=high).step_by(step.unwrap_or(1));
        (low <= high).then(|| values.fold(0, |bits, value| bits | 1 << value))
    }

    fn value(&self, text: &str) -> Option<u32> {
        let named = self.names.iter().position(|name| text.eq_ignore_ascii_case(name));
        let value = match named {
            Some(position) => position as u32 + self.low,
            None => text.parse().ok()?,
        };
        (self.low..=self.high).contains(&value).then_some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields() {
        let cron = parse("*/15 2-4 1,15 jan-mar mon").unwrap();
        assert_eq!(cron.seconds, 1);
        assert_eq!(cron.minutes, 1 | 1 << 15 | 1 << 30 | 1 << 45);
        assert_eq!(cron.hours, 0b11100);
        assert_eq!(cron.days, 1 << 1 | 1 << 15);
        assert_eq!(cron.months, 0b1110);
        assert_eq!(cron.weekdays, 0b10);
        assert_eq!(parse("0 0 * * 7").unwrap().weekdays, 1);
        assert_eq!(parse("30 * * * * *").unwrap().seconds, 1 << 30);
        assert_eq!(parse("5/20 * * * *").unwrap().minutes, 1 << 5 | 1 << 25 | 1 << 45);
    }

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
        assert_eq!(next("0 9 * * mon", now), now + 16 * 3600 + 44 * 60 + 30);
        assert_eq!(next("0 0 1 1 *", now), 1_798_761_600, "2027-01-01");
        assert_eq!(next("0 0 29 2 *", now), 1_835_395_200, "2028-02-29");
        assert_eq!(next("0 0 29 2 *", 3_981_398_400), 4_233_686_400, "there is no 2100-02-29");
    }

    #[test]
    fn refused() {
        let texts = [
            "* * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * * 13 *",
            "* * * * 8",
            "5-1 * * * *",
            "*/0 * * * *",
        ];
        for text in texts.into_iter().chain([
            "a * * * *",
            "1,, * * * *",
            "@never",
            "0 0 31 feb *",
            "0 0 31 4,6 *",
            "1-2-3 * * * *",
        ]) {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse("0 0 31 feb mon").is_ok(), "fires on Mondays");
    }
}
