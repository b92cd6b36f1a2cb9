//! The rule against its definition: on random inputs the terms must add up to Q(new) - Q(old), as Z-sets.
//!
//! Also the mutants: every way of bending the rule that this file knows must be caught by at least one shape.

use super::{Reading, Term, terms};
use bitvec::vec::BitVec;
use model::{Random, ZSet, add};
use shapes::{SHAPES, Shape};

mod model;
mod shapes;

/// What depends on the clock is stepped last and one value after the other: the terms of all moved values add up, whatever the query.
#[test]
fn clock_terms_telescope() {
    let (old, new) = ([3u64, 5, 7, 11], [13u64, 17, 19, 23]);
    let query =
        |values: &[u64]| values.iter().fold(1u64, |hash, value| hash.wrapping_mul(31).wrapping_add(*value)) as i64;
    for moves in 0..16usize {
        let moved: BitVec = (0..4).map(|value| moves & (1 << value) != 0).collect();
        let now: Vec<u64> = (0..4).map(|value| if moved[value] { new[value] } else { old[value] }).collect();
        let read = |first_old: usize| [&now[..first_old], &old[first_old..]].concat();
        let terms = super::clock_terms(&moved);
        let sum: i64 = terms
            .iter()
            .map(|term| if term.negative { -query(&read(term.first_old)) } else { query(&read(term.first_old)) })
            .sum();
        assert_eq!(sum, query(&now) - query(&old), "{moves:b}");
        assert_eq!(terms.len(), 2 * moved.count_ones());
    }
}

const TRIALS: usize = 300;

/// The three readings of each relation of a shape.
struct World {
    new: Vec<ZSet>,
    old: Vec<ZSet>,
    delta: Vec<ZSet>,
}

impl World {
    fn random(random: &mut Random, relations: usize) -> Self {
        let mut world = World { new: vec![], old: vec![], delta: vec![] };
        for _ in 0..relations {
            let (old, new) = random.versions();
            let mut delta = new.clone();
            add(&mut delta, &old, -1);
            world.new.push(new);
            world.old.push(old);
            world.delta.push(delta);
        }
        world
    }

    fn read(&self, relation: usize, reading: Reading) -> &ZSet {
        match reading {
            Reading::New => &self.new[relation],
            Reading::Old => &self.old[relation],
            Reading::Delta => &self.delta[relation],
        }
    }

    fn truth(&self, shape: &Shape) -> ZSet {
        let everything = |readings: &[ZSet]| {
            let inputs: Vec<&ZSet> = shape.relations.iter().map(|&r| &readings[r]).collect();
            (shape.query)(&inputs, None, None)
        };
        let mut truth = everything(&self.new);
        add(&mut truth, &everything(&self.old), -1);
        truth
    }

    fn evaluate(&self, shape: &Shape, term: &Term, leg: Option<usize>) -> ZSet {
        let inputs: Vec<&ZSet> =
            shape.relations.iter().zip(&term.readings).map(|(&r, &reading)| self.read(r, reading)).collect();
        let restriction = term.restricted_by.map(|i| (i, &self.delta[shape.relations[i]]));
        (shape.query)(&inputs, leg, restriction)
    }

    fn sum(&self, shape: &Shape, bend: fn(&mut Term), prune: bool) -> ZSet {
        let changed: BitVec = shape.relations.iter().map(|&r| !self.delta[r].is_empty()).collect();
        let mut total = ZSet::default();
        for mut term in terms(shape.linearity, &changed) {
            bend(&mut term);
            let rows = self.evaluate(shape, &term, prune.then_some(term.input));
            add(&mut total, &rows, if term.negative { -1 } else { 1 });
        }
        total
    }
}

/// In how many of the trials the bent rule misses the truth, per shape.
fn misses(shape: &Shape, bend: fn(&mut Term), prune: bool) -> usize {
    let mut random = Random::new(shape.name);
    let relations = shape.relations.iter().max().map_or(0, |r| r + 1);
    (0..TRIALS)
        .filter(|_| {
            let world = World::random(&mut random, relations);
            world.sum(shape, bend, prune) != world.truth(shape)
        })
        .count()
}

fn total_misses(bend: fn(&mut Term), prune: bool) -> usize {
    SHAPES.iter().map(|shape| misses(shape, bend, prune)).sum()
}

fn replace(term: &mut Term, from: Reading, to: Reading) {
    let input = term.input;
    for (j, reading) in term.readings.iter_mut().enumerate() {
        if j != input && *reading == from {
            *reading = to;
        }
    }
}

#[test]
fn terms_add_up_to_the_definition() {
    for shape in SHAPES {
        assert_eq!(misses(shape, |_| (), true), 0, "{}", shape.name);
    }
}

#[test]
fn reading_every_other_input_new_is_caught() {
    assert!(total_misses(|term| replace(term, Reading::Old, Reading::New), true) > 0);
}

#[test]
fn reading_every_other_input_old_is_caught() {
    assert!(total_misses(|term| replace(term, Reading::New, Reading::Old), true) > 0);
}

#[test]
fn swapping_new_and_old_for_one_input_only_is_caught() {
    let bend = |term: &mut Term| {
        if term.input == 0 {
            replace(term, Reading::Old, Reading::New);
        }
    };
    assert!(total_misses(bend, true) > 0);
}

#[test]
fn forgetting_the_negative_half_is_caught() {
    assert!(total_misses(|term| term.negative = false, true) > 0);
}

#[test]
fn keeping_sibling_legs_is_caught() {
    assert!(total_misses(|_| (), false) > 0);
}

#[test]
fn no_restriction_is_right_too() {
    assert_eq!(total_misses(|term| term.restricted_by = None, true), 0);
}

#[test]
fn leaving_out_too_much_is_caught() {
    assert!(shapes::TOO_TIGHT.iter().all(|shape| misses(shape, |_| (), true) > 0));
}

#[test]
fn only_changed_inputs_have_terms() {
    let linear = [super::Linearity::Linear; 3];
    let none = BitVec::<usize>::repeat(false, 3);
    assert!(terms(&linear, &none).is_empty());
    let mut middle = none;
    middle.set(1, true);
    let only = terms(&linear, &middle);
    assert_eq!(only.len(), 1);
    assert_eq!(only[0].readings[..], [Reading::New, Reading::Delta, Reading::New]);
}

#[test]
fn earlier_inputs_are_new_and_later_changed_ones_old() {
    let linear = [super::Linearity::Linear; 3];
    let all = BitVec::<usize>::repeat(true, 3);
    let readings: Vec<_> = terms(&linear, &all).into_iter().map(|t| t.readings.to_vec()).collect();
    use Reading::{Delta, New, Old};
    assert_eq!(readings, [[Delta, Old, Old], [New, Delta, Old], [New, New, Delta]]);
}
