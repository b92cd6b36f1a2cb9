//! What a scheduler knows of the stream tables: which may be behind, which may be refreshed, which are being refreshed.
//!
//! ```text
//! clean --(a source changed)--> dirty --(due, a worker is free)--> in flight --(refreshed)--> clean
//!                                 ^                                   |
//!                                 +------(failed, after a pause)------+
//! ```
//! A change that comes while a view is in flight makes it dirty again: the wave's snapshot may be older.

use super::catalog::{Health, Picture};
use crate::pg::shared::Assigned;
use crate::schedule::freshness::{self, Freshness};
use crate::schedule::graph::{Graph, Set, WITHOUT_CAPTURE, minus, unite};
use crate::schedule::queue::{self, Due, States, Wave};
use crate::schedule::recompute::{self, Recomputes, Work};
use crate::schedule::{Time, retry};
use crate::{settings, wakeup};
use bitvec::prelude::*;
use hashbrown::HashMap;

#[derive(Clone, Copy)]
struct View {
    freshness: Freshness,
    health: Health,
    /// It has a delta plan.
    by_delta: bool,
    recomputes: Recomputes,
    /// Locks it could not get, in a row, and until when it is left alone.
    busy: u32,
    not_before: Time,
    /// The first commit its contents may not show; None: nobody saw when it was.
    unseen: Option<Time>,
    /// When the snapshot of its last wave was taken: what was committed before, it shows.
    shown: Option<Time>,
    /// That it is late has been told.
    told: bool,
    /// The first commit it may not show, also while a wave is bringing that in.
    behind: Option<Time>,
    /// As others have been told; None: they have not.
    published: Option<Option<Time>>,
}

/// A stream table that is late.
pub struct Late {
    pub view: u32,
    /// Of the first change that it does not show.
    pub since: Time,
}

pub struct Views {
    pub graph: Graph,
    views: Vec<View>,
    in_flight: Set,
    paused: bool,
    /// Relations by their bit in shared memory.
    relations: HashMap<u32, Vec<u32>>,
}

/// What is to be done now, and when there is more.
pub struct Agenda {
    pub waves: Vec<Wave>,
    pub next: Option<Time>,
    due: Vec<Due>,
}

impl Views {
    /// Everything may have changed.
    pub fn new(picture: Picture, now: Time) -> Self {
        let graph = Graph::new(picture.nodes);
        let views =
            picture.health.iter().zip(&picture.last).zip(&picture.by_delta).map(|((&health, &last), &by_delta)| {
                // A tick of a cron expression that was missed meanwhile is made up for.
                let dirty = Some(last.unwrap_or(now).min(now));
                View {
                    freshness: Freshness { dirty, last },
                    health,
                    by_delta,
                    recomputes: Recomputes::default(),
                    busy: 0,
                    not_before: Time::MIN,
                    unseen: None,
                    shown: None,
                    told: false,
                    behind: dirty,
                    published: None,
                }
            });
        let mut relations: HashMap<u32, Vec<u32>> = HashMap::new();
        for relation in graph.relations().chain(graph.nodes().iter().map(|node| node.view)) {
            let same = relations.entry(wakeup::bit(relation)).or_default();
            if !same.contains(&relation) {
                same.push(relation);
            }
        }
        let in_flight = bitvec![usize, Lsb0; 0; graph.len()];
        Self { views: views.collect(), in_flight, paused: picture.paused, relations, graph }
    }

    /// The same with another picture: what is known of views that read what they read before stays.
    pub fn follow(&self, picture: Picture, now: Time) -> Self {
        let mut new = Self::new(picture, now);
        for n in 0..new.graph.len() {
            let node = &new.graph.nodes()[n];
            let Some(old) = self.graph.number(node.view) else { continue };
            new.in_flight.set(n, self.in_flight[old]);
            let before = &self.views[old];
            let read = &self.graph.nodes()[old];
            let same = read.sources == node.sources && read.captured == node.captured;
            // A schedule that has just been set may make it due though nothing has changed.
            let same = same && (self.due_again(old, now).is_some() || new.due_again(n, now).is_none());
            let view = &mut new.views[n];
            (view.busy, view.not_before) = (before.busy, before.not_before);
            (view.shown, view.told) = (before.shown, before.told);
            if view.by_delta == before.by_delta {
                view.recomputes = before.recomputes;
            }
            view.freshness.last = before.freshness.last.max(view.freshness.last);
            let recovered = before.health.is_out() && !view.health.is_out();
            if same && !recovered {
                view.freshness.dirty = before.freshness.dirty;
                view.unseen = before.unseen;
                view.behind = before.behind;
                view.published = before.published;
            }
        }
        new
    }

    /// What is known of recomputes by an earlier scheduler.
    pub fn remember(&mut self, recomputes: &[Recomputes]) {
        self.views.iter_mut().zip(recomputes).for_each(|(view, recomputes)| view.recomputes = *recomputes);
    }

    /// Until when a default schedule lets a view rest.
    fn rests_until(&self, n: usize) -> Time {
        let own = |n: usize| self.views[n].recomputes.rests_until(self.views[n].by_delta);
        recompute::rests_until(&self.graph, n, own).unwrap_or(Time::MIN)
    }

    /// Those that had stopped here and go on in `new`.
    pub fn resumed(&self, new: &Self) -> Vec<u32> {
        let goes_on = |view: &u32| {
            let health = |views: &Self| Some(views.views[views.graph.number(*view)?].health);
            health(self).is_some_and(Health::has_stopped)
                && health(new).is_some_and(|health| !health.has_stopped() && !health.is_out())
        };
        new.graph.nodes().iter().map(|node| node.view).filter(goes_on).collect()
    }

    /// Those that have had changes to show for too long and have not been told of; when there will be more.
    pub fn late(&mut self, now: Time) -> (Vec<Late>, Option<Time>) {
        let (mut late, mut next) = (Vec::new(), None);
        let Some(factor) = settings::stale_alert_factor().filter(|_| !self.paused) else { return (late, next) };
        for n in 0..self.views.len() {
            let view = &self.views[n];
            let Some(since) = view.waiting_since().filter(|_| !view.told && !view.health.is_out()) else { continue };
            match freshness::late(self.graph.cadence(n), since, view.shown, self.rests_until(n), factor) {
                Some(at) if at <= now => {
                    self.views[n].told = true;
                    late.push(Late { view: self.graph.nodes()[n].view, since });
                }
                at => next = next.into_iter().chain(at).min(),
            }
        }
        (late, next)
    }

    /// Since when there have been changes that some view has not seen: they are in the change buffers.
    pub fn waiting_since(&self) -> Option<Time> {
        let reading = self.views.iter().filter(|view| view.health != Health::Empty);
        reading.filter_map(View::waiting_since).min()
    }

    /// One of the relations with this bit changed, by a commit of this time.
    pub fn mark(&mut self, bit: u32, committed: Time) {
        // Nobody reads some of what is captured: a view may have gone since.
        let Some(relations) = self.relations.get(&bit).cloned() else { return };
        for relation in relations {
            let direct = self.graph.number(relation);
            let reached: Vec<usize> = self.graph.readers_of(relation).iter().copied().chain(direct).collect();
            for n in reached {
                self.views[n].changed(committed);
                self.graph.descendants(n).iter_ones().for_each(|below| self.views[below].changed(committed));
            }
        }
    }

    /// Anything may have changed, by a commit of this time.
    pub fn mark_all(&mut self, committed: Time) {
        self.views.iter_mut().for_each(|view| view.changed(committed));
    }

    /// The bits of all that the members read, and of the members.
    pub fn bits_of(&self, members: &Set) -> Vec<u32> {
        let nodes = members.iter_ones().map(|n| &self.graph.nodes()[n]);
        let relations = nodes.flat_map(|node| node.sources.iter().copied().chain([node.view]));
        let mut bits: Vec<u32> = relations.map(wakeup::bit).collect();
        bits.sort_unstable();
        bits.dedup();
        bits
    }

    pub fn agenda(&self, now: Time) -> Agenda {
        let mut agenda = Agenda { waves: vec![], next: None, due: vec![] };
        if self.paused {
            return agenda;
        }
        let well: Set = (0..self.graph.len()).map(|n| self.views[n].is_well() || self.holds_up(n)).collect();
        let available = queue::available(&self.graph, &well);
        let waiting: Set = (0..self.graph.len()).map(|n| self.waits_until(n) > now).collect();
        let mut soon = bitvec![usize, Lsb0; 0; self.graph.len()];
        for n in (0..self.graph.len()).filter(|&n| !self.in_flight[n]) {
            let due = self.due(n, &available);
            soon.set(n, due.is_some_and(|at| self.may_go_along(n, at, now)));
            match due {
                Some(at) if at <= now => agenda.due.push(Due { view: n, at }),
                at => agenda.next = agenda.next.into_iter().chain(at).min(),
            }
        }
        let costs: Vec<i64> = self.views.iter().map(|view| view.recomputes.expected(view.by_delta)).collect();
        let resting: Set = (0..self.graph.len()).map(|n| self.rests_until(n) > now).collect();
        agenda.waves = queue::waves(
            &self.graph,
            &agenda.due,
            &States {
                available: &available,
                waiting: &waiting,
                busy: &self.in_flight,
                soon: &soon,
                resting: &resting,
                shortest: settings::min_schedule() * 1000,
                costs: &costs,
            },
        );
        // Others may be due then, which wait with them.
        let waits = waiting.iter_ones().map(|n| self.waits_until(n));
        agenda.next = agenda.next.into_iter().chain(waits).min();
        agenda
    }

    /// Since when the one is due that has been for longest, of those that have not begun.
    pub fn overdue(&self, agenda: &Agenda) -> Option<Time> {
        agenda.due.iter().filter(|due| !self.in_flight[due.view]).map(|due| due.at).min()
    }

    /// When a view is due, if nothing else happens. None: it is clean, or waits for another view.
    fn due(&self, n: usize, available: &Set) -> Option<Time> {
        let view = &self.views[n];
        let due = view.freshness.due(self.graph.cadence(n), settings::min_schedule() * 1000)?.max(self.rests_until(n));
        let blocked = !available[n] && minus(self.graph.ancestors(n), available).any();
        let possible = match view.health {
            _ if blocked || self.graph.depth(n).is_none() => None,
            Health::Suspended | Health::Empty => None,
            Health::Well | Health::Failing(_) => Some(due),
            Health::Broken(until) => Some(due.max(until)),
        };
        possible.map(|at| at.max(self.waits_until(n)))
    }

    /// Whether a view that is due then goes along with what it reads already now.
    fn may_go_along(&self, n: usize, due: Time, now: Time) -> bool {
        freshness::soon(self.graph.cadence(n), due, settings::min_schedule() * 1000) <= now
    }

    /// It is in ERROR, and other views are not refreshed without it, as it or a view that rests on it has snapshot
    /// consistency and rests on them too: all of them are tried again together, until the view is suspended.
    fn holds_up(&self, n: usize) -> bool {
        let below = self.graph.descendants(n);
        let holds_up = |follower: usize| {
            let mut others = minus(self.graph.ancestors(follower), below);
            others.set(n, false);
            self.graph.nodes()[follower].snapshot && !self.views[follower].health.is_out() && others.any()
        };
        matches!(self.views[n].health, Health::Broken(_)) && (holds_up(n) || below.iter_ones().any(holds_up))
    }

    /// After a failure that may not come again, or because somebody was in the way. What is out of order waits for
    /// something else.
    fn waits_until(&self, n: usize) -> Time {
        let view = &self.views[n];
        match view.health {
            Health::Failing(until) => view.not_before.max(until),
            Health::Broken(until) if self.holds_up(n) => view.not_before.max(until),
            Health::Well | Health::Broken(_) => view.not_before,
            Health::Suspended | Health::Empty => Time::MIN,
        }
    }

    /// Tells others since when each view is behind, as far as that is news.
    pub fn publish(&mut self, tell: impl Fn(u32, Option<Time>)) {
        for (view, node) in self.views.iter_mut().zip(self.graph.nodes()) {
            if view.published != Some(view.behind) {
                tell(node.view, view.behind);
                view.published = Some(view.behind);
            }
        }
    }

    /// The members of a wave to be.
    pub fn assigned(&self, members: &Set) -> Vec<Assigned> {
        let assigned = |n: usize| Assigned { view: self.graph.nodes()[n].view, unseen: self.views[n].unseen() };
        members.iter_ones().map(assigned).collect()
    }

    /// A wave begins.
    pub fn begin(&mut self, members: &Set, now: Time) {
        for n in members.iter_ones() {
            self.views[n].freshness = Freshness { dirty: None, last: Some(now) };
            self.views[n].unseen = None;
        }
        unite(&mut self.in_flight, members);
    }

    /// A wave of these views ended, well or not.
    pub fn end(&mut self, wave: &[Assigned]) {
        self.numbers(wave).for_each(|(n, _)| self.in_flight.set(n, false));
    }

    /// It did, by this `work`, and these views hold what was there when its snapshot was taken.
    pub fn refreshed(&mut self, wave: &[Assigned], work: &[Work], began: Time, taken: Time, now: Time) {
        for (assigned, work) in wave.iter().zip(work) {
            if let Some(n) = self.graph.number(assigned.view) {
                self.views[n].recomputes.note(*work, now);
            }
        }
        for (n, _) in self.numbers(wave) {
            self.views[n].busy = 0;
            (self.views[n].shown, self.views[n].told) = (Some(taken), false);
            self.views[n].behind = self.views[n].unseen;
            // Its next refresh is as necessary as this one was.
            if let Some(again) = self.due_again(n, began) {
                self.views[n].freshness.mark(again);
                self.graph.descendants(n).iter_ones().for_each(|below| self.views[below].freshness.mark(again));
            }
        }
    }

    /// From when on a view that was refreshed `began` may be behind though nothing it reads has changed. Nothing tells when its result changes, or
    /// it changes by itself and a schedule was set, or with the clock.
    fn due_again(&self, n: usize, began: Time) -> Option<Time> {
        let (node, by_default) = (&self.graph.nodes()[n], self.graph.cadence(n).by_default);
        match () {
            () if !node.captured || node.varies && !by_default => Some(began),
            () if node.clock && by_default => Some(began + WITHOUT_CAPTURE),
            () => node.clock.then_some(began),
        }
    }

    /// It did not, and they are as they were.
    pub fn not_refreshed(&mut self, wave: &[Assigned], began: Time) {
        self.failed(wave);
        self.numbers(wave).for_each(|(n, _)| self.views[n].freshness.mark(began));
    }

    /// It did not, and to try again would not help: they wait for another change.
    pub fn failed(&mut self, wave: &[Assigned]) {
        for (n, assigned) in self.numbers(wave) {
            let view = &mut self.views[n];
            view.unseen = view.unseen.into_iter().chain(assigned.unseen).min();
        }
    }

    /// Somebody was in the way; try these again in a while.
    pub fn postpone(&mut self, wave: &[Assigned], now: Time) {
        for (n, _) in self.numbers(wave) {
            let view = &mut self.views[n];
            view.busy += 1;
            view.not_before = now + retry::pause(retry::Class::Busy, view.busy);
        }
    }

    /// Those that are still there.
    fn numbers(&self, wave: &[Assigned]) -> impl Iterator<Item = (usize, Assigned)> + use<> {
        let number = |assigned: &Assigned| Some((self.graph.number(assigned.view)?, *assigned));
        let numbers: Vec<_> = wave.iter().filter_map(number).collect();
        numbers.into_iter()
    }
}

impl View {
    /// Something it rests on was changed, by a commit of this time.
    fn changed(&mut self, committed: Time) {
        self.freshness.mark(committed);
        self.unseen = self.unseen.into_iter().chain([committed]).min();
        self.behind = self.behind.into_iter().chain([committed]).min();
    }

    /// Of the first change that it does not show.
    fn waiting_since(&self) -> Option<Time> {
        self.unseen.or(self.freshness.dirty)
    }

    /// The note of a commit may come after the snapshot that sees it: the first one not shown is after that.
    fn unseen(&self) -> Option<Time> {
        self.unseen.map(|unseen| unseen.max(self.shown.unwrap_or(unseen)))
    }

    fn is_well(&self) -> bool {
        matches!(self.health, Health::Well | Health::Failing(_))
    }
}
