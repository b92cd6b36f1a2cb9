//! What a scheduler knows of the stream tables: which may be behind, which may be refreshed, which are being refreshed.
//!
//! ```text
//! clean --(a source changed)--> dirty --(due, a worker is free)--> in flight --(refreshed)--> clean
//!                                 ^                                   |
//!                                 +------(failed, after a pause)------+
//! ```
//! A change that comes while a view is in flight makes it dirty again: the wave's snapshot may be older.

use super::catalog::{Health, Picture};
use crate::schedule::freshness::Freshness;
use crate::schedule::graph::{Graph, Set, minus, unite};
use crate::schedule::queue::{self, Due, Wave};
use crate::schedule::{Time, retry};
use crate::{settings, wakeup};
use bitvec::prelude::*;
use hashbrown::HashMap;

#[derive(Clone, Copy)]
struct View {
    freshness: Freshness,
    health: Health,
    /// Locks it could not get, in a row, and until when it is left alone.
    busy: u32,
    not_before: Time,
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
}

impl Views {
    /// Everything may have changed.
    pub fn new(picture: Picture, now: Time) -> Self {
        let graph = Graph::new(picture.nodes);
        let views = picture.health.iter().zip(&picture.last).map(|(&health, &last)| {
            // A tick of a cron expression that was missed meanwhile is made up for.
            let dirty = Some(last.unwrap_or(now).min(now));
            View { freshness: Freshness { dirty, last }, health, busy: 0, not_before: Time::MIN }
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
    pub fn follow(self, picture: Picture, now: Time) -> Self {
        let mut new = Self::new(picture, now);
        for n in 0..new.graph.len() {
            let node = &new.graph.nodes()[n];
            let Some(old) = self.graph.number(node.view) else { continue };
            new.in_flight.set(n, self.in_flight[old]);
            let before = &self.views[old];
            let same =
                self.graph.nodes()[old].sources == node.sources && self.graph.nodes()[old].captured == node.captured;
            let view = &mut new.views[n];
            (view.busy, view.not_before) = (before.busy, before.not_before);
            view.freshness.last = before.freshness.last.max(view.freshness.last);
            let recovered = before.health == Health::Out && view.health != Health::Out;
            if same && !recovered {
                view.freshness.dirty = before.freshness.dirty;
            }
        }
        new
    }

    /// One of the relations with this bit changed.
    pub fn mark(&mut self, bit: u32, now: Time) {
        // Nobody reads some of what is captured: a view may have gone since.
        let Some(relations) = self.relations.get(&bit).cloned() else { return };
        for relation in relations {
            let direct = self.graph.number(relation);
            let reached: Vec<usize> = self.graph.readers_of(relation).iter().copied().chain(direct).collect();
            reached.into_iter().for_each(|n| self.mark_down(n, now));
        }
    }

    fn mark_down(&mut self, n: usize, now: Time) {
        self.views[n].freshness.mark(now);
        for below in self.graph.descendants(n).iter_ones() {
            self.views[below].freshness.mark(now);
        }
    }

    pub fn mark_all(&mut self, now: Time) {
        self.views.iter_mut().for_each(|view| view.freshness.mark(now));
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
        let mut agenda = Agenda { waves: vec![], next: None };
        if self.paused {
            return agenda;
        }
        let well: Set = self.views.iter().map(|view| view.is_well(now)).collect();
        let available = queue::available(&self.graph, &well);
        let mut due = Vec::new();
        for n in (0..self.graph.len()).filter(|&n| !self.in_flight[n]) {
            match self.due(n, &available) {
                Some(at) if at <= now => due.push(Due { view: n, at }),
                at => agenda.next = agenda.next.into_iter().chain(at).min(),
            }
        }
        agenda.waves = queue::waves(&self.graph, &due, &available, &self.in_flight);
        agenda
    }

    /// When a view is due, if nothing else happens. None: it is clean, or waits for another view.
    fn due(&self, n: usize, available: &Set) -> Option<Time> {
        let view = &self.views[n];
        let due = view.freshness.due(self.graph.cadence(n), settings::min_schedule() * 1000)?;
        let blocked = !available[n] && minus(self.graph.ancestors(n), available).any();
        let possible = match view.health {
            _ if blocked || self.graph.depth(n).is_none() => None,
            Health::Out => None,
            Health::Well => Some(due),
            Health::Failing(until) | Health::Broken(until) => Some(due.max(until)),
        };
        possible.map(|at| at.max(view.not_before))
    }

    /// A wave begins.
    pub fn begin(&mut self, members: &Set, now: Time) {
        for n in members.iter_ones() {
            self.views[n].freshness = Freshness { dirty: None, last: Some(now) };
        }
        unite(&mut self.in_flight, members);
    }

    /// A wave of these views ended, well or not.
    pub fn end(&mut self, views: &[u32]) {
        views.iter().filter_map(|&view| self.graph.number(view)).for_each(|n| self.in_flight.set(n, false));
    }

    /// It did, and these views hold what was there when it began.
    pub fn refreshed(&mut self, views: &[u32], began: Time) {
        for n in self.numbers(views) {
            self.views[n].busy = 0;
            // Its next refresh is as necessary as this one was.
            if !self.graph.nodes()[n].captured {
                self.mark_down(n, began);
            }
        }
    }

    /// It did not, and they are as they were.
    pub fn not_refreshed(&mut self, views: &[u32], began: Time) {
        self.numbers(views).for_each(|n| self.views[n].freshness.mark(began));
    }

    /// Somebody was in the way; try these again in a while.
    pub fn postpone(&mut self, views: &[u32], now: Time) {
        for n in self.numbers(views) {
            let view = &mut self.views[n];
            view.busy += 1;
            view.not_before = now + retry::pause(retry::Class::Busy, view.busy);
        }
    }

    fn numbers(&self, views: &[u32]) -> impl Iterator<Item = usize> + use<> {
        let numbers: Vec<usize> = views.iter().filter_map(|&view| self.graph.number(view)).collect();
        numbers.into_iter()
    }
}

impl View {
    fn is_well(&self, now: Time) -> bool {
        let healthy = match self.health {
            Health::Well => true,
            Health::Failing(until) => until <= now,
            Health::Broken(_) | Health::Out => false,
        };
        healthy && self.not_before <= now
    }
}
