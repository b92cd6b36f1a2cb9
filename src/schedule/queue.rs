//! Which of the due views are refreshed together, and in which order.
//!
//! Slices that overlap make up one wave, refreshed in one transaction: apart, one would wait for the other's locks. Waves do
//! not overlap, so they run side by side; the longest overdue comes first. A wave that would touch a view just being
//! refreshed waits for that to end.
//!
//! The readers of what is refreshed go along if their schedule brings them round as often as the view that is due, or if
//! they would be due within a moment: so views under the same schedule keep in step, and are refreshed less often together
//! than they would be one after the other. What cannot be refreshed now stays behind; it does not hold up what it reads. Nor
//! does a reader of another owner go along: who may read a view could hold it up with one that fails or takes long.
//!
//! Recomputes that take long are expected to (see `recompute.rs`). Such a wave is put in the queue as if it had become due so much
//! later, so that what writers changed is brought in first; since that delay is fixed, its turn comes.
//!
//! A view may be *waiting*, for a lock or after a failure that may not come again, for seconds: then all that would be
//! refreshed with it waits too, or the branches of a diamond would disagree. Or it may be *unavailable*, for an unknown
//! time: what reads it stays as it is, the rest goes on.

use super::Time;
use super::graph::{Graph, Set, meet, minus, unite};
use bitvec::prelude::*;
use std::cmp::Reverse;

/// A view and since when it is due.
#[derive(Clone, Copy, Debug)]
pub struct Due {
    pub view: usize,
    pub at: Time,
}

#[derive(Clone, Debug)]
pub struct Wave {
    /// Everything that is refreshed, ancestors included.
    pub members: Set,
    /// The views on whose account it is made up.
    causes: Vec<usize>,
    /// Since when the longest overdue is due.
    pub at: Time,
    /// How long its recomputes are expected to take.
    pub cost: i64,
}

/// The state of all views that matters for the queue.
pub struct States<'a> {
    pub available: &'a Set,
    pub waiting: &'a Set,
    /// Being refreshed.
    pub busy: &'a Set,
    /// Due within a moment.
    pub soon: &'a Set,
    /// Left alone for a while, as recomputes took long.
    pub resting: &'a Set,
    /// The least interval, in microseconds.
    pub shortest: i64,
    /// How long the recompute of each is expected to take.
    pub costs: &'a [i64],
}

/// The waves that can start now.
pub fn waves(graph: &Graph, due: &[Due], states: &States) -> Vec<Wave> {
    let mut due = due.to_vec();
    // The deepest first: it usually takes along what it reads.
    due.sort_by_key(|due| (Reverse(graph.depth(due.view)), due.view));
    let mut waves: Vec<Wave> = Vec::new();
    for Due { view, at } in due {
        // Whatever would go along with it has gone along with the one that took it along.
        if let Some(wave) = waves.iter_mut().find(|wave| wave.brings_about(graph, view, states)) {
            wave.at = wave.at.min(at);
            continue;
        }
        let mut members = members(graph, view, states.available);
        if !meet(&members, states.waiting) {
            take_along(graph, view, &mut members, states);
            add(&mut waves, Wave { members, causes: vec![view], at, cost: 0 });
        }
    }
    waves.retain(|wave| !meet(&wave.members, states.busy));
    for wave in &mut waves {
        wave.cost = wave.members.iter_ones().map(|n| states.costs[n]).fold(0, i64::saturating_add);
    }
    waves.sort_by_key(|wave| wave.at.saturating_add(wave.cost));
    waves
}

/// What goes along with a view. One that is not available but is tried all the same, because it failed, goes with its
/// ancestors and what goes along with them, not with its own mates: it must not hold them up.
fn members(graph: &Graph, view: usize, available: &Set) -> Set {
    let mut members = if available[view] { graph.slice(view).clone() } else { graph.ancestors(view).clone() };
    if !available[view] {
        graph.ancestors(view).iter_ones().for_each(|above| unite(&mut members, graph.slice(above)));
    }
    members &= available.clone();
    members.set(view, true);
    members
}

impl Wave {
    /// Nothing more would be refreshed on account of the view.
    fn brings_about(&self, graph: &Graph, view: usize, states: &States) -> bool {
        let cadence = graph.cadence(view);
        self.members[view]
            && states.available[view]
            && self
                .causes
                .iter()
                .filter(|&&cause| of_one_owner(graph, cause, view))
                .any(|&cause| cadence.keeps_pace_with(graph.cadence(cause), states.shortest))
    }
}

fn of_one_owner(graph: &Graph, one: usize, other: usize) -> bool {
    graph.nodes()[one].owner == graph.nodes()[other].owner
}

/// Adds the readers that go along with a view that is due, with what is refreshed with them.
fn take_along(graph: &Graph, cause: usize, members: &mut Set, states: &States) {
    let pace = graph.cadence(cause);
    let in_step = |reader: usize| {
        of_one_owner(graph, cause, reader)
            && !states.resting[reader]
            && (states.soon[reader] || graph.cadence(reader).keeps_pace_with(pace, states.shortest))
    };
    let mut added = members.clone();
    while added.any() {
        let mut below = none_of(graph);
        added.iter_ones().for_each(|member| unite(&mut below, graph.descendants(member)));
        below = minus(&below, members);
        added = none_of(graph);
        for reader in below.iter_ones().filter(|&reader| states.available[reader] && in_step(reader)) {
            let more = minus(&self::members(graph, reader, states.available), members);
            if !meet(&more, states.waiting) && !meet(&more, states.busy) {
                unite(members, &more);
                unite(&mut added, &more);
            }
        }
    }
}

fn none_of(graph: &Graph) -> Set {
    bitvec![usize, Lsb0; 0; graph.len()]
}

fn add(waves: &mut Vec<Wave>, mut new: Wave) {
    let (together, mut apart): (Vec<Wave>, Vec<Wave>) =
        waves.drain(..).partition(|wave| meet(&wave.members, &new.members));
    for wave in together {
        unite(&mut new.members, &wave.members);
        new.causes.extend(wave.causes);
        new.at = new.at.min(wave.at);
    }
    apart.push(new);
    *waves = apart;
}

/// The views that may be refreshed: neither they nor anything they read is out of order.
pub fn available(graph: &Graph, well: &Set) -> Set {
    if well.all() && graph.is_acyclic() {
        return well.clone();
    }
    let mut available = well.clone();
    for n in 0..graph.len() {
        let sick = graph.depth(n).is_none() || graph.ancestors(n).iter_ones().any(|above| !well[above]);
        if sick {
            available.set(n, false);
        }
    }
    available
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::graph::Node;
    use crate::schedule::spec::{self, Schedule};

    fn graph(views: &[&[u32]]) -> Graph {
        let node = |(n, sources): (usize, &&[u32])| Node {
            view: 100 + n as u32,
            owner: 3,
            schedule: Schedule::Calculated,
            sources: sources.to_vec(),
            captured: true,
            varies: false,
            clock: false,
            snapshot: false,
        };
        Graph::new(views.iter().enumerate().map(node).collect())
    }

    fn all(graph: &Graph) -> Set {
        bitvec![usize, Lsb0; 1; graph.len()]
    }

    fn none(graph: &Graph) -> Set {
        none_of(graph)
    }

    fn without(graph: &Graph, view: usize) -> Set {
        let mut set = all(graph);
        set.set(view, false);
        set
    }

    fn due(views: &[(usize, Time)]) -> Vec<Due> {
        views.iter().map(|&(view, at)| Due { view, at }).collect()
    }

    fn waves(graph: &Graph, due: &[Due], available: &Set, waiting: &Set, busy: &Set) -> Vec<Wave> {
        let none = none(graph);
        let costs = &vec![0; graph.len()];
        super::waves(graph, due, &States { available, waiting, busy, soon: &none, resting: &none, shortest: 0, costs })
    }

    fn members(waves: &[Wave]) -> Vec<Vec<usize>> {
        waves.iter().map(|wave| wave.members.iter_ones().collect()).collect()
    }

    #[test]
    fn independent_views_run_apart_the_longest_overdue_first() {
        let g = graph(&[&[1], &[1], &[2]]);
        let waves = waves(&g, &due(&[(0, 30), (1, 10), (2, 20)]), &all(&g), &none(&g), &none(&g));
        assert_eq!(members(&waves), [[1], [2], [0]]);
    }

    #[test]
    fn what_shares_an_ancestor_runs_together() {
        let g = graph(&[&[1], &[100], &[100], &[2]]);
        let waves = waves(&g, &due(&[(0, 9), (1, 30), (2, 20), (3, 10)]), &all(&g), &none(&g), &none(&g));
        assert_eq!(members(&waves), [vec![0, 1, 2], vec![3]]);
        assert_eq!(waves[0].at, 9);
    }

    #[test]
    fn long_recomputes_come_after_what_writers_changed_but_they_come() {
        // View 1 is recomputed, view 2 reads it; views 0 and 3 have deltas.
        let g = graph(&[&[1], &[2], &[101], &[3]]);
        let (available, none) = (all(&g), none(&g));
        let (waiting, busy, soon, resting) = (&none, &none, &none, &none);
        let costs = &[0, 60, 0, 0];
        let states = States { available: &available, waiting, busy, soon, resting, shortest: 0, costs };
        let waves = super::waves(&g, &due(&[(0, 30), (1, 20), (2, 10), (3, 100)]), &states);
        assert_eq!(members(&waves), [vec![0], vec![1, 2], vec![3]], "as if it had become due at 70");
        assert_eq!(waves.iter().map(|wave| (wave.at, wave.cost)).collect::<Vec<_>>(), [(30, 0), (10, 60), (100, 0)]);
    }

    #[test]
    fn busy_views_hold_up_only_their_own_wave() {
        let g = graph(&[&[1], &[100], &[2]]);
        let mut busy = none(&g);
        busy.set(0, true);
        assert_eq!(members(&waves(&g, &due(&[(1, 1), (2, 2)]), &all(&g), &none(&g), &busy)), [[2]]);
    }

    #[test]
    fn downstream_of_a_failed_view_stays_put() {
        let g = graph(&[&[1], &[100], &[101], &[100]]);
        let well = without(&g, 1);
        let available = available(&g, &well);
        assert_eq!(available.iter_ones().collect::<Vec<_>>(), [0, 3]);
        assert_eq!(members(&waves(&g, &due(&[(0, 1), (3, 1)]), &available, &none(&g), &none(&g))), [[0, 3]]);
        assert_eq!(members(&waves(&g, &due(&[(1, 1)]), &available, &none(&g), &none(&g))), [[0, 1, 3]], "tried again");
    }

    #[test]
    fn a_mate_that_failed_does_not_hold_up_the_other_branch() {
        let g = graph(&[&[1], &[1], &[100, 101]]);
        let available = available(&g, &without(&g, 1));
        assert_eq!(members(&waves(&g, &due(&[(0, 1)]), &available, &none(&g), &none(&g))), [[0]]);
        assert_eq!(members(&waves(&g, &due(&[(0, 1)]), &all(&g), &none(&g), &none(&g))), [[0, 1, 2]]);
    }

    #[test]
    fn a_branch_that_waits_for_a_lock_holds_up_the_other_and_nobody_else() {
        // Two branches over table 1, their tip, and a view beside them that shares an ancestor with one.
        let g = graph(&[&[1], &[1], &[100, 101], &[100]]);
        let branch = without(&g, 1);
        let waiting: Set = !branch;
        let ready = |view| members(&waves(&g, &due(&[(view, 1)]), &all(&g), &waiting, &none(&g)));
        assert!(ready(0).is_empty() && ready(2).is_empty());
        let apart = graph(&[&[1], &[1], &[100, 101], &[2]]);
        assert_eq!(members(&waves(&apart, &due(&[(0, 1), (3, 1)]), &all(&apart), &waiting, &none(&apart))), [[3]]);
    }

    #[test]
    fn what_shares_an_ancestor_with_one_that_waits_goes_on() {
        let g = graph(&[&[1], &[100], &[100]]);
        let waiting: Set = !without(&g, 1);
        assert_eq!(members(&waves(&g, &due(&[(1, 1), (2, 1)]), &all(&g), &waiting, &none(&g))), [[0, 2]]);
    }

    #[test]
    fn a_failed_view_tried_again_does_not_part_the_branches_it_reads() {
        // Branches 0 and 1 with tip 2; view 3 reads one of them and has failed.
        let g = graph(&[&[1], &[1], &[100, 101], &[100]]);
        let available = available(&g, &without(&g, 3));
        let waves = waves(&g, &due(&[(3, 1)]), &available, &none(&g), &none(&g));
        assert_eq!(members(&waves), [[0, 1, 2, 3]]);
    }

    /// Table 1, view 0 over it and view 1 over that; view 2 reads view 0, view 3 reads view 1 and table 2.
    fn scheduled(schedules: [&str; 4]) -> Graph {
        owned(schedules, [3; 4])
    }

    fn owned(schedules: [&str; 4], owners: [u32; 4]) -> Graph {
        let sources: [&[u32]; 4] = [&[1], &[100], &[100], &[101, 2]];
        let node = |n: usize| Node {
            view: 100 + n as u32,
            owner: owners[n],
            schedule: spec::parse(schedules[n]).unwrap(),
            sources: sources[n].to_vec(),
            captured: true,
            varies: false,
            clock: false,
            snapshot: false,
        };
        Graph::new((0..4).map(node).collect())
    }

    fn with(graph: &Graph, views: &[usize]) -> Set {
        let mut set = none(graph);
        views.iter().for_each(|&view| set.set(view, true));
        set
    }

    /// What is refreshed when this view is due, in the state of the four sets: waiting, busy, soon, resting.
    fn along(graph: &Graph, view: usize, [waiting, busy, soon, resting]: [&[usize]; 4]) -> Vec<Vec<usize>> {
        let (waiting, busy) = (&with(graph, waiting), &with(graph, busy));
        let (soon, resting) = (&with(graph, soon), &with(graph, resting));
        let (available, costs) = (&all(graph), &[0; 4]);
        let states = States { available, waiting, busy, soon, resting, shortest: 0, costs };
        members(&super::waves(graph, &due(&[(view, 1)]), &states))
    }

    #[test]
    fn views_under_one_schedule_keep_in_step() {
        let g = scheduled(["calculated"; 4]);
        for view in 0..4 {
            assert_eq!(along(&g, view, [&[]; 4]), [[0, 1, 2, 3]], "due: {view}");
        }
        let g = scheduled(["calculated", "5s", "5s", "2s"]);
        assert_eq!(along(&g, 0, [&[]; 4]), [vec![0, 1, 3]], "due each 2 s: view 2 may lag");
        assert_eq!(along(&g, 2, [&[]; 4]), [[0, 1, 2, 3]], "who wants it more often is brought up to date as well");
        let g = scheduled(["calculated", "@hourly", "@daily", "@hourly"]);
        assert_eq!(along(&g, 3, [&[]; 4]), [vec![0, 1, 3]]);
    }

    #[test]
    fn readers_of_other_owners_stay_behind() {
        let g = owned(["calculated"; 4], [3, 3, 4, 4]);
        assert_eq!(along(&g, 0, [&[]; 4]), [[0, 1]]);
        assert_eq!(
            along(&g, 2, [&[]; 4]),
            [[0, 1, 2, 3]],
            "on its own account it brings its owner's, and what they read"
        );
        assert_eq!(along(&g, 2, [&[3], &[], &[], &[]]), [[0, 2]], "what waits stays behind");
    }

    #[test]
    fn what_is_nearly_due_goes_along() {
        let g = scheduled(["1s", "10s", "60s", "10s"]);
        assert_eq!(along(&g, 0, [&[]; 4]), [[0]]);
        assert_eq!(along(&g, 0, [&[], &[], &[2], &[]]), [[0, 2]]);
        assert_eq!(along(&g, 0, [&[], &[], &[3], &[]]), [[0, 1, 3]], "with what it reads");
        assert_eq!(along(&g, 0, [&[], &[], &[1, 3], &[]]), [[0, 1, 3]]);
    }

    #[test]
    fn what_cannot_go_along_holds_nobody_up() {
        let g = scheduled(["calculated"; 4]);
        assert_eq!(along(&g, 0, [&[2], &[], &[], &[]]), [[0, 1, 3]], "it waits for a lock");
        assert_eq!(along(&g, 0, [&[], &[3], &[], &[]]), [[0, 1, 2]]);
        assert_eq!(along(&g, 0, [&[], &[], &[], &[1, 3]]), [[0, 2]], "it rests, and with it what reads it");
        let suspended = available(&g, &without(&g, 1));
        assert_eq!(members(&waves(&g, &due(&[(0, 1)]), &suspended, &none(&g), &none(&g))), [[0, 2]]);
    }
}
