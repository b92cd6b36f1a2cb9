//! How long a view is left alone after a recompute.
//!
//! A default schedule is nobody's wish. Under it, a view whose recompute takes a minute must not be recomputed every minute for
//! ever. So after a recompute that took `d`, no refresh under a default schedule recomputes the view again before a multiple of
//! `d` has passed, counted from the end of the recompute. A schedule that was set is kept to, whatever it costs.
//!
//! * A view without a delta plan (or whose sources are not captured) rests [`MOST`] times as long as its recompute took: its
//!   recomputes take at most one part in eleven of one processor's time.
//! * A view with a delta plan is recomputed after a change too large for a delta, or after a TRUNCATE. The next change is usually
//!   a small one, which should not wait. So its first recompute is not followed by a rest; if others follow without a delta
//!   between them, it rests once, 2, 4, 8 and [`MOST`] times as long as the last one took.
//!
//! What is refreshed together rests together. A cheap reader under a default schedule waits for the view above it, which it would
//! recompute; so does the other branch of a diamond, since apart the branches would disagree.

use super::Time;
use super::graph::Graph;

/// The longest rest, in recomputes.
const MOST: i64 = 10;

/// What a scheduled refresh did to one view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Nothing was pending.
    Nothing,
    Delta,
    /// It took so many microseconds.
    Recompute(i64),
}

/// The last recomputes of a view, by scheduled refreshes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recomputes {
    /// When the last one ended, and how long it took.
    ended: Time,
    took: i64,
    /// How many there were since the last delta.
    in_a_row: u32,
}

impl Recomputes {
    /// From what is remembered of scheduled refreshes, each with the time it ended, the oldest first.
    pub fn of(refreshes: impl IntoIterator<Item = (Work, Time)>) -> Self {
        let mut recomputes = Self::default();
        refreshes.into_iter().for_each(|(work, ended)| recomputes.note(work, ended));
        recomputes
    }

    /// A scheduled refresh of the view has ended.
    pub fn note(&mut self, work: Work, ended: Time) {
        match work {
            Work::Nothing => (),
            Work::Delta => *self = Self::default(),
            Work::Recompute(took) => *self = Self { ended, took, in_a_row: self.in_a_row.saturating_add(1) },
        }
    }

    /// Until when no default schedule recomputes it again. `by_delta`: it has a delta plan.
    pub fn rests_until(&self, by_delta: bool) -> Option<Time> {
        let times = match self.in_a_row {
            0 => 0,
            _ if !by_delta => MOST,
            1 => 0,
            again => (1 << (again - 2).min(10)).min(MOST),
        };
        (times > 0).then(|| self.ended.saturating_add(self.took.saturating_mul(times)))
    }

    /// How long the view's next refresh can be expected to compute, as far as that is more than a delta takes.
    pub fn expected(&self, by_delta: bool) -> i64 {
        match self.in_a_row {
            0 => 0,
            1 if by_delta => 0,
            _ => self.took,
        }
    }
}

/// Until when view `n` is not refreshed under a default schedule, given until when each view rests for recomputes of its own;
/// None: it is not held up, or has a schedule that was set, be it by a view that reads it.
pub fn rests_until(graph: &Graph, n: usize, own: impl Fn(usize) -> Option<Time>) -> Option<Time> {
    let by_default = graph.cadence(n).by_default;
    by_default.then(|| graph.slice(n).iter_ones().filter_map(own).max()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::graph::Node;
    use crate::schedule::{SECOND, spec};

    /// Until when each of these views rests, if view 10 does until 500.
    fn rests<const N: usize>(views: [(u32, &str, &[u32]); N]) -> [Option<Time>; N] {
        let node = |(view, schedule, sources): (u32, &str, &[u32])| Node {
            view,
            owner: 3,
            schedule: spec::parse(schedule).unwrap(),
            sources: sources.to_vec(),
            captured: view != 10,
            varies: false,
            clock: false,
            snapshot: false,
        };
        let graph = Graph::new(views.map(node).into());
        std::array::from_fn(|n| rests_until(&graph, n, |m| (graph.nodes()[m].view == 10).then_some(500)))
    }

    const CALCULATED: &str = "calculated";

    #[test]
    fn a_view_without_sources_rests_and_nobody_else() {
        assert_eq!(rests([(10, CALCULATED, &[]), (20, CALCULATED, &[1])]), [Some(500), None]);
    }

    #[test]
    fn readers_rest_with_what_they_read_unless_a_schedule_was_set() {
        let chain = |reader| rests([(10, CALCULATED, &[1]), (20, reader, &[10]), (30, CALCULATED, &[20])]);
        assert_eq!(chain(CALCULATED), [Some(500); 3]);
        assert_eq!(chain("1s"), [None, None, Some(500)], "whose view 30 would recompute more often than that");
        let upper = rests([(10, "1h", &[1]), (20, CALCULATED, &[10])]);
        assert_eq!(upper, [None, Some(500)], "recomputed each hour, not each second for its reader");
    }

    #[test]
    fn branches_of_a_diamond_rest_together() {
        let views = |schedule| rests([(10, CALCULATED, &[1]), (11, CALCULATED, &[1]), (20, schedule, &[10, 11])]);
        assert_eq!(views(CALCULATED), [Some(500); 3]);
        assert_eq!(views("1m"), [None; 3]);
        assert_eq!(rests([(10, CALCULATED, &[1]), (11, CALCULATED, &[1])]), [Some(500), None], "no diamond");
    }

    fn recomputes(seconds: &[i64]) -> Recomputes {
        let mut now = 0;
        Recomputes::of(seconds.iter().map(|took| {
            now += took * SECOND;
            (Work::Recompute(took * SECOND), now)
        }))
    }

    #[test]
    fn without_a_delta_plan_it_rests_ten_times_as_long() {
        assert_eq!(recomputes(&[]).rests_until(false), None);
        assert_eq!(recomputes(&[60]).rests_until(false), Some(660 * SECOND));
        assert_eq!(recomputes(&[60, 2]).rests_until(false), Some(82 * SECOND), "the last one counts");
    }

    #[test]
    fn with_a_delta_plan_it_rests_longer_with_each_recompute() {
        let rest = |times: usize| {
            let recomputes = recomputes(&vec![1; times]);
            recomputes.rests_until(true).map_or(0, |until| until / SECOND - times as i64)
        };
        assert_eq!([0, 1, 2, 3, 4, 5, 6, 100].map(rest), [0, 0, 1, 2, 4, 8, 10, 10]);
    }

    #[test]
    fn a_delta_ends_it_and_nothing_changes_nothing() {
        let mut view = recomputes(&[5, 5, 5]);
        let before = view;
        view.note(Work::Nothing, 100 * SECOND);
        assert_eq!(view, before);
        view.note(Work::Delta, 100 * SECOND);
        assert_eq!(view.rests_until(true), None);
        view.note(Work::Recompute(SECOND), 101 * SECOND);
        assert_eq!(view.rests_until(true), None, "the first one again");
    }

    #[test]
    fn what_to_expect() {
        assert_eq!(recomputes(&[]).expected(false), 0);
        assert_eq!(recomputes(&[7]).expected(false), 7 * SECOND);
        assert_eq!(recomputes(&[7]).expected(true), 0, "probably a delta");
        assert_eq!(recomputes(&[7, 8]).expected(true), 8 * SECOND);
    }

    #[test]
    fn no_time_is_too_long() {
        let view = Recomputes::of([(Work::Recompute(i64::MAX), 5)]);
        assert_eq!(view.rests_until(false), Some(i64::MAX));
    }
}
