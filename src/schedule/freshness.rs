//! When a view is due: something it rests on has changed, and its cadence lets it.
//!
//! An interval is the least time from one refresh's start to the next one's. So a change after a quiet time is brought in
//! at once, and however many ticks were missed, they are made up for by one refresh. A cron expression fires at its times
//! only; a change waits for the first of them.

use super::graph::Cadence;
use super::{SECOND, Time};

/// Microseconds from 1970 to 2000.
const EPOCH: i64 = 946_684_800 * SECOND;

/// What is remembered of a view between refreshes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freshness {
    /// Since when it may be behind: the first commit it does not show; None: it holds what its query says.
    pub dirty: Option<Time>,
    /// When the last refresh began.
    pub last: Option<Time>,
}

impl Freshness {
    /// Something it rests on has changed, at that time; the first change counts.
    pub fn mark(&mut self, at: Time) {
        self.dirty = self.dirty.into_iter().chain([at]).min();
    }

    /// From when on it is due; None: nothing has changed.
    pub fn due(&self, cadence: &Cadence, shortest: i64) -> Option<Time> {
        let dirty = self.dirty?;
        let every = cadence.every.map(|every| match self.last {
            Some(last) => dirty.max(last + every.max(shortest)),
            None => dirty,
        });
        let ticks = cadence.crons.iter().filter_map(|cron| {
            let seconds = (dirty + EPOCH).div_euclid(SECOND);
            Some(cron.next_after(seconds)? * SECOND - EPOCH)
        });
        every.into_iter().chain(ticks).min()
    }
}

/// The longest that a view is brought in before its time, in parts of its interval and at most.
const EARLY_PART: i64 = 10;
const EARLY: i64 = 60 * SECOND;

/// From when on a view that is due at that time goes along with what it reads, if that is refreshed anyway: so the phases of
/// views with nearly the same interval do not drift apart. A cron expression is kept to.
pub fn soon(cadence: &Cadence, due: Time, shortest: i64) -> Time {
    let early = cadence.every.map_or(0, |every| (every.max(shortest) / EARLY_PART).min(EARLY));
    due.saturating_sub(early)
}

/// From when on it is late: a change has had to wait for so many times the cadence (of one second, if it is faster)
/// beyond the time it was due. `since` is when the change was committed, `shown` the last snapshot the view shows; before
/// `rested` it is left alone.
pub fn late(cadence: &Cadence, since: Time, shown: Option<Time>, rested: Time, factor: i64) -> Option<Time> {
    let every = cadence.every.map(|every| {
        let due = shown.map_or(since, |shown| since.max(shown.saturating_add(every))).max(rested);
        due.saturating_add(every.max(SECOND).saturating_mul(factor))
    });
    let ticks = cadence.crons.iter().filter_map(|cron| {
        let first = cron.next_after((since + EPOCH).div_euclid(SECOND))?;
        let second = cron.next_after(first)?;
        Some((first + (second - first) * factor) * SECOND - EPOCH)
    });
    every.into_iter().chain(ticks).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::cron;

    fn every(milliseconds: i64) -> Cadence {
        Cadence { every: Some(milliseconds * 1000), ..Cadence::default() }
    }

    #[test]
    fn nothing_changed_nothing_due() {
        let view = Freshness { dirty: None, last: Some(5) };
        assert_eq!(view.due(&every(1), 0), None);
    }

    #[test]
    fn after_a_quiet_time_at_once() {
        let mut view = Freshness { dirty: None, last: Some(0) };
        view.mark(90 * SECOND);
        assert_eq!(view.due(&every(30_000), 0), Some(90 * SECOND), "missed ticks are one");
        view.mark(95 * SECOND);
        assert_eq!(view.dirty, Some(90 * SECOND), "the first change counts");
        view.mark(85 * SECOND);
        assert_eq!(view.dirty, Some(85 * SECOND), "whichever is heard of first");
    }

    #[test]
    fn never_more_often_than_the_interval() {
        let view = Freshness { dirty: Some(SECOND), last: Some(0) };
        assert_eq!(view.due(&every(30_000), 0), Some(30 * SECOND));
        assert_eq!(view.due(&every(1_500), 0), Some(1_500_000), "to the millisecond");
        assert_eq!(view.due(&every(1), 0), Some(SECOND));
        assert_eq!(view.due(&every(1), 5 * SECOND), Some(5 * SECOND), "min_schedule");
    }

    #[test]
    fn a_little_early_in_company() {
        assert_eq!(soon(&every(10_000), 100 * SECOND, 0), 99 * SECOND);
        assert_eq!(soon(&every(10), 100 * SECOND, SECOND), 100 * SECOND - SECOND / 10);
        assert_eq!(soon(&every(86_400_000), 100 * SECOND, 0), 40 * SECOND, "at most a minute");
        let hourly = Cadence { crons: vec![cron::parse("@hourly").unwrap()], ..Cadence::default() };
        assert_eq!(soon(&hourly, 3600 * SECOND, SECOND), 3600 * SECOND);
    }

    #[test]
    fn cron_waits_for_its_tick() {
        let hourly = Cadence { crons: vec![cron::parse("@hourly").unwrap()], ..Cadence::default() };
        // 2000-01-01 00:03, refreshed at 00:00.
        let view = Freshness { dirty: Some(180 * SECOND), last: Some(0) };
        assert_eq!(view.due(&hourly, 0), Some(3600 * SECOND));
        let view = Freshness { dirty: Some(3600 * SECOND), last: Some(0) };
        assert_eq!(view.due(&hourly, 0), Some(7200 * SECOND), "changed just after the tick");
    }

    #[test]
    fn late_after_many_times_the_cadence() {
        let late = |cadence: &Cadence, since, shown, factor| late(cadence, since, shown, 0, factor);
        assert_eq!(late(&every(30_000), 100 * SECOND, Some(90 * SECOND), 10), Some(420 * SECOND));
        assert_eq!(late(&every(30_000), 100 * SECOND, None, 10), Some(400 * SECOND));
        assert_eq!(late(&every(10), 100 * SECOND, Some(0), 10), Some(110 * SECOND), "at least a second");
        let hourly = Cadence { crons: vec![cron::parse("@hourly").unwrap()], ..Cadence::default() };
        assert_eq!(late(&hourly, 180 * SECOND, Some(0), 2), Some(3 * 3600 * SECOND));
        assert_eq!(late(&Cadence::default(), 0, None, 1), None);
    }

    #[test]
    fn a_view_that_rests_is_not_late() {
        assert_eq!(late(&every(1000), 100 * SECOND, Some(90 * SECOND), 700 * SECOND, 10), Some(710 * SECOND));
        assert_eq!(late(&every(1000), 100 * SECOND, Some(90 * SECOND), 50 * SECOND, 10), Some(110 * SECOND));
    }

    #[test]
    fn whichever_comes_first() {
        let crons = vec![cron::parse("*/5 * * * *").unwrap()];
        let both = Cadence { every: Some(120 * SECOND), crons, by_default: false };
        let view = Freshness { dirty: Some(290 * SECOND), last: Some(280 * SECOND) };
        assert_eq!(view.due(&both, 0), Some(300 * SECOND));
    }
}
