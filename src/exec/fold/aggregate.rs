//! One aggregate of a group: which rows it takes, and how its ability meets their removal.

use super::definition::Definition;
use super::direct::Direct;
use super::extremum::Extremum;
use super::netting::Netting;
use super::ordered::Ordered;
use super::transition::Transition;
use super::value::{Image, NULL, is_true};
use crate::circuit::Ability;
use crate::exec::{mismatch, weighted};
use crate::pg::image::Row;
use crate::pg::interrupt;
use pgrx::pg_sys::{self, NullableDatum};

/// How an aggregate meets removals.
enum Method {
    Invert,
    Extremum(Extremum),
    Insert(Netting),
    Recompute { net: Netting, ordered: Option<Ordered> },
}

pub struct Aggregate {
    definition: Definition,
    transition: Transition,
    method: Method,
    direct: Direct,
    inputs: usize,
    /// The current row's arguments.
    arguments: Vec<NullableDatum>,
    /// M is empty (or the group is given whole).
    fresh: bool,
    /// The group must be given whole.
    stuck: bool,
    /// The state is no longer the loaded one.
    touched: bool,
    /// As loaded.
    stored: NullableDatum,
}

impl Aggregate {
    /// # Safety
    /// As `Fold::new`; `scratch` lives as long as the query.
    pub unsafe fn new(
        definition: Definition,
        desc: pg_sys::TupleDesc,
        parent: *mut pg_sys::PlanState,
        scratch: *mut pg_sys::ExprContext,
    ) -> Self {
        // SAFETY: descriptor, parent and scratch outlive the fold, as the caller of `Fold::new` promises.
        unsafe {
            let transition = Transition::new(&definition, parent, scratch);
            let images = definition.arguments.iter().map(|&column| Image::of(desc, column)).collect::<Vec<_>>();
            let direct = Direct::new(&definition, desc, parent);
            let memory = (*scratch).ecxt_per_query_memory;
            let method = match definition.ability {
                Ability::Invertible => Method::Invert,
                Ability::InsertOnly { extremum: Some(operator) }
                    if transition.starts_with_first_value() && images.len() == 1 =>
                {
                    Method::Extremum(Extremum::new(operator, (*definition.aggref).inputcollid, images[0]))
                }
                Ability::InsertOnly { .. } => Method::Insert(Netting::new(images, memory)),
                Ability::Recompute => Method::Recompute {
                    net: Netting::new(images, memory),
                    ordered: Ordered::new(&definition, parent, scratch),
                },
            };
            let (inputs, arguments) = (definition.inputs(), vec![NULL; definition.arguments.len()]);
            Self {
                definition,
                transition,
                method,
                direct,
                inputs,
                arguments,
                fresh: true,
                stuck: false,
                touched: false,
                stored: NULL,
            }
        }
    }

    pub fn start(&mut self) {
        (self.fresh, self.stuck, self.touched, self.stored) = (true, false, true, NULL);
        self.transition.start();
        self.direct.start();
        match &mut self.method {
            Method::Invert | Method::Extremum(_) => {}
            Method::Insert(net) => net.start(),
            Method::Recompute { net, ordered } => {
                net.start();
                ordered.iter_mut().for_each(Ordered::start);
            }
        }
    }

    pub fn load(&mut self, state: NullableDatum, count: i64) {
        self.start();
        (self.fresh, self.touched, self.stored) = (false, false, state);
        match &mut self.method {
            Method::Recompute { .. } => return,
            Method::Extremum(extremum) => extremum.start(),
            Method::Invert | Method::Insert(_) => {}
        }
        self.transition.load(state, count);
    }

    /// Fetches the row's arguments; false if the row does not count for this aggregate.
    #[inline]
    pub fn takes(&mut self, row: Row) -> bool {
        self.direct.see(row);
        if self.definition.filter.is_some_and(|filter| !is_true(row.at(filter - 1))) {
            return false;
        }
        for (argument, &column) in self.arguments.iter_mut().zip(&self.definition.arguments) {
            *argument = row.at(column - 1);
        }
        !(self.transition.is_strict() && self.arguments[..self.inputs].iter().any(|argument| argument.isnull))
    }

    #[inline]
    pub fn add(&mut self, weight: i64) {
        self.touched = true;
        match &mut self.method {
            Method::Invert => {}
            Method::Extremum(extremum) => return extremum.add(&mut self.transition, self.arguments[0], weight),
            Method::Recompute { ordered: Some(ordered), .. } if self.fresh => {
                return copies(weight).for_each(|()| ordered.put(&self.arguments));
            }
            Method::Insert(_) | Method::Recompute { .. } if self.fresh => {}
            Method::Insert(net) => {
                if net.is_full() {
                    self.release();
                }
                return self.hold(weight);
            }
            Method::Recompute { net, .. } => {
                // What does not fit cannot be netted, so the argument rows must be taken as changed.
                self.stuck |= net.is_full();
                return if !self.stuck {
                    self.hold(weight)
                };
            }
        }
        copies(weight).for_each(|()| self.transition.advance(&self.arguments[..self.inputs]));
    }

    pub fn remove(&mut self, weight: i64) {
        self.touched = true;
        match &mut self.method {
            Method::Invert => self.invert(weight),
            Method::Extremum(extremum) => extremum.remove(&mut self.transition, self.arguments[0], weight),
            Method::Insert(net) => {
                let left = if self.fresh { weight } else { net.cancel(&self.arguments, weight) };
                self.transition.count -= left;
                self.stuck |= left > 0;
            }
            Method::Recompute { net, .. } => {
                self.stuck = self.stuck || self.fresh || net.cancel(&self.arguments, weight) > 0;
            }
        }
    }

    fn invert(&mut self, weight: i64) {
        if self.transition.count < weight {
            return mismatch::note("More values are removed from a group than it has.");
        }
        for () in copies(weight) {
            if self.stuck {
                self.transition.count -= 1;
            } else {
                self.stuck = !self.transition.retreat(&self.arguments[..self.inputs]);
            }
        }
    }

    /// The result over M' is known, after applying what was held back.
    pub fn settle(&mut self, scratch: pg_sys::MemoryContext) -> bool {
        if !matches!(self.method, Method::Recompute { .. }) {
            match weighted::sum(self.pending(), self.transition.count) {
                0 => {
                    self.transition.initialize();
                    return true;
                }
                count if count < 0 => {
                    mismatch::note("More values are removed from a group than it has.");
                    return true;
                }
                _ => {}
            }
        }
        if self.stuck {
            return false;
        }
        match &mut self.method {
            Method::Invert => true,
            Method::Extremum(extremum) => extremum.holds(&self.transition),
            Method::Insert(_) => {
                self.release();
                true
            }
            Method::Recompute { ordered: Some(ordered), .. } if self.fresh => {
                ordered.drain(&mut self.transition, self.inputs, scratch);
                true
            }
            Method::Recompute { net, .. } => self.fresh || net.is_zero(),
        }
    }

    pub fn has_count(&self) -> bool {
        self.definition.has_count()
    }

    /// Values in the group; meaningless for Recompute.
    pub fn count(&self) -> i64 {
        self.transition.count
    }

    /// Values held back.
    fn pending(&self) -> i64 {
        match &self.method {
            Method::Insert(net) => net.entries().map(|(_, weight)| weight).fold(0, weighted::sum),
            _ => 0,
        }
    }

    fn hold(&mut self, weight: i64) {
        if let Method::Insert(net) | Method::Recompute { net, .. } = &mut self.method {
            net.add(&self.arguments, weight);
        }
    }

    /// Applies the additions held back.
    fn release(&mut self) {
        let Method::Insert(net) = &mut self.method else { return };
        for (values, weight) in net.entries() {
            copies(weight).for_each(|()| self.transition.advance(&values[..self.inputs]));
        }
        net.start();
    }

    pub fn result(&mut self) -> NullableDatum {
        match self.method {
            Method::Recompute { .. } if !self.fresh => self.stored,
            _ => self.transition.finish(self.direct.values()),
        }
    }

    pub fn stored(&mut self, result: NullableDatum) -> NullableDatum {
        match self.method {
            Method::Recompute { .. } => result,
            _ if !self.touched => self.stored,
            _ => self.transition.stored(),
        }
    }
}

/// Once for each copy of a row, with an ear for cancel: weights know no bound.
#[inline]
fn copies(weight: i64) -> impl Iterator<Item = ()> {
    (0..weight).map(|_| interrupt::check())
}
