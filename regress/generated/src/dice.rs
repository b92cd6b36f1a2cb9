//! Every random decision of the generator is thrown here, from one seed, so that an episode can be replayed.
//!
//! A decision that exercises something worth counting is a *feature*: it has a label, the label is counted for the
//! coverage histogram, and `--skip LABEL` takes the feature out of play.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

pub type Label = &'static str;
pub type Coverage = BTreeMap<Label, u64>;

pub struct Dice {
    rng: fastrand::Rng,
    skipped: Arc<BTreeSet<String>>,
    coverage: Coverage,
}

impl Dice {
    pub fn new(seed: u64, episode: u64, skipped: Arc<BTreeSet<String>>) -> Self {
        let rng = fastrand::Rng::with_seed(scramble(seed ^ scramble(episode)));
        Dice { rng, skipped, coverage: Coverage::new() }
    }

    pub fn into_coverage(self) -> Coverage {
        self.coverage
    }

    pub fn number(&mut self, range: RangeInclusive<i64>) -> i64 {
        self.rng.i64(range)
    }

    pub fn count(&mut self, range: RangeInclusive<usize>) -> usize {
        self.rng.usize(range)
    }

    pub fn chance(&mut self, probability: f64) -> bool {
        self.rng.f64() < probability
    }

    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.rng.usize(0..of.len())]
    }

    /// `None` exactly when there is nothing to pick from.
    pub fn pick_any<T: Clone>(&mut self, of: &[T]) -> Option<T> {
        if of.is_empty() { None } else { Some(self.pick(of).clone()) }
    }

    /// Between `least` and `most` different elements, in their original order.
    pub fn several<T: Clone>(&mut self, of: &[T], least: usize, most: usize) -> Vec<T> {
        let wanted = self.count(least.min(of.len())..=most.min(of.len()));
        let mut indexes: Vec<usize> = (0..of.len()).collect();
        self.rng.shuffle(&mut indexes);
        indexes.truncate(wanted);
        indexes.sort_unstable();
        indexes.into_iter().map(|i| of[i].clone()).collect()
    }

    pub fn hit(&mut self, label: Label) {
        *self.coverage.entry(label).or_insert(0) += 1;
    }

    pub fn allows(&self, label: Label) -> bool {
        !self.skipped.contains(label)
    }

    /// Takes a feature with the given probability. The dice roll even when the feature is skipped, which keeps
    /// the rest of the episode as similar as possible.
    pub fn feature(&mut self, label: Label, probability: f64) -> bool {
        let taken = self.chance(probability) && self.allows(label);
        if taken {
            self.hit(label);
        }
        taken
    }

    /// One of several weighted features. At least one must not be skipped.
    pub fn choose<T: Copy>(&mut self, options: &[(Label, u32, T)]) -> T {
        let open: Vec<_> = options.iter().filter(|o| o.1 > 0 && self.allows(o.0)).copied().collect();
        let total: u32 = open.iter().map(|o| o.1).sum();
        assert!(total > 0, "every option was skipped: {:?}", options.iter().map(|o| o.0).collect::<Vec<_>>());
        let mut left = self.rng.u32(0..total);
        for (label, weight, value) in open {
            if left < weight {
                self.hit(label);
                return value;
            }
            left -= weight;
        }
        unreachable!("the weights add up to the total")
    }
}

/// The finalizer of splitmix64: neighbouring seeds give unrelated streams.
pub fn scramble(x: u64) -> u64 {
    let x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dice(skip: &[&str]) -> Dice {
        Dice::new(7, 3, Arc::new(skip.iter().map(|s| s.to_string()).collect()))
    }

    #[test]
    fn same_seed_same_throws() {
        let throws = |mut d: Dice| (0..50).map(|_| d.number(0..=1000)).collect::<Vec<_>>();
        assert_eq!(throws(dice(&[])), throws(dice(&[])));
    }

    #[test]
    fn skipped_features_are_never_taken() {
        let mut d = dice(&["b"]);
        for _ in 0..100 {
            assert_eq!(d.choose(&[("a", 1, 'a'), ("b", 100, 'b')]), 'a');
            assert!(!d.feature("b", 1.0));
        }
        assert_eq!(d.into_coverage(), Coverage::from([("a", 100)]));
    }

    #[test]
    fn several_keeps_order_and_bounds() {
        let mut d = dice(&[]);
        for _ in 0..100 {
            let chosen = d.several(&[1, 2, 3, 4], 2, 3);
            assert!((2..=3).contains(&chosen.len()));
            assert!(chosen.is_sorted());
        }
    }
}
