//! The values a delta adds to a group, held back until it is known which of them it also removes.
//!
//! An aggregate that cannot remove a value can still ignore one: what the delta both adds and removes (an UPDATE
//! which left the argument alone) never was in the group before and is not after. Additions come before removals, so
//! they wait here, one entry for each image with a summed weight; a removal cancels additions of the same image, or
//! tells that the group must be recomputed. So a delta takes time linear in its rows, and memory linear in its
//! different values, however many of them are equal.
//! The room is bounded: who adds more gets it back to apply at once.

use super::value::Image;
use crate::exec::weighted;
use crate::pg::image::Hash;
use crate::pg::memory;
use hashbrown::HashTable;
use pgrx::pg_sys::{self, NullableDatum};

/// Most bytes of waiting values, whatever work_mem is: an entry's number must fit its type.
const MOST_ROOM: usize = 1 << 30;

pub struct Netting {
    images: Vec<Image>,
    /// `images.len()` datums per entry, in `memory`.
    values: Vec<NullableDatum>,
    entries: Entries,
    bytes: usize,
    /// Bytes of waiting values before they are applied at once.
    room: usize,
    memory: pg_sys::MemoryContext,
}

impl Netting {
    /// # Safety
    /// `parent` lives as long as the query.
    pub unsafe fn new(images: Vec<Image>, parent: pg_sys::MemoryContext) -> Self {
        // SAFETY: by contract; a setting, read only.
        let (memory, room) = unsafe {
            let memory = memory::create(parent, c"TrickleAccumulate values held back");
            (memory, (pg_sys::work_mem as usize).saturating_mul(1024).min(MOST_ROOM))
        };
        Self { images, values: Vec::new(), entries: Entries::default(), bytes: 0, room, memory }
    }

    /// Forgets everything. Room a large group needed is given back.
    pub fn start(&mut self) {
        if self.entries.is_empty() {
            return;
        }
        self.values.clear();
        self.values.shrink_to(KEPT * self.images.len());
        self.entries.clear();
        self.bytes = 0;
        // SAFETY: no entry is left.
        unsafe { memory::reset(self.memory) };
    }

    /// The entries should be taken out before more are added.
    pub fn is_full(&self) -> bool {
        self.bytes > self.room
    }

    /// Holds back `weight` (not 0) copies of a row of values.
    pub fn add(&mut self, values: &[NullableDatum], weight: i64) {
        let hash = hash(&self.images, values);
        if let Some(entry) = self.find(hash, values) {
            self.entries.weights[entry] = weighted::sum(self.entries.weights[entry], weight);
            return;
        }
        for (image, value) in self.images.iter().zip(values) {
            // SAFETY: our own context.
            let copy = unsafe { image.copy(*value, self.memory) };
            self.bytes += size_of::<NullableDatum>() + image.size(copy);
            self.values.push(copy);
        }
        self.bytes += Entries::SIZE;
        self.entries.push(hash, weight);
    }

    /// Cancels additions of the same image as far as there are any; returns how many copies are left to remove.
    pub fn cancel(&mut self, values: &[NullableDatum], weight: i64) -> i64 {
        if self.entries.is_empty() {
            return weight;
        }
        let Some(entry) = self.find(hash(&self.images, values), values) else { return weight };
        self.entries.take(entry, weight)
    }

    /// Nothing is left.
    pub fn is_zero(&self) -> bool {
        self.entries.weights.iter().all(|&weight| weight == 0)
    }

    /// What is left, in the order in which each value first came.
    pub fn entries(&self) -> impl Iterator<Item = (&[NullableDatum], i64)> {
        let width = self.images.len();
        self.entries.weights.iter().enumerate().map(move |(entry, &weight)| (row(&self.values, width, entry), weight))
    }

    fn find(&self, hash: u64, values: &[NullableDatum]) -> Option<usize> {
        let (images, all) = (&self.images, &self.values);
        self.entries.find(hash, |entry| equal(images, row(all, images.len(), entry), values))
    }
}

fn row(values: &[NullableDatum], width: usize, entry: usize) -> &[NullableDatum] {
    &values[entry * width..][..width]
}

fn hash(images: &[Image], values: &[NullableDatum]) -> u64 {
    let mut hash = Hash::new();
    for (image, value) in images.iter().zip(values) {
        hash.word(image.hash(*value));
    }
    hash.finish() as u64
}

fn equal(images: &[Image], a: &[NullableDatum], b: &[NullableDatum]) -> bool {
    images.iter().enumerate().all(|(i, image)| image.equal(a[i], b[i]))
}

/// The weights of entries whose values are kept elsewhere, and where those of a hash are.
#[derive(Default)]
struct Entries {
    hashes: Vec<u64>,
    weights: Vec<i64>,
    /// Entry numbers by hash; empty as long as there are [`FEW`] entries.
    index: HashTable<u32>,
}

/// So many entries are searched one by one: most groups have no more.
const FEW: usize = 8;
/// Room for so many entries is kept from group to group.
const KEPT: usize = 1024;

impl Entries {
    /// Bytes of an entry: hash, weight, and its share of an index that is at least half full.
    const SIZE: usize = 2 * size_of::<u64>() + 2 * (size_of::<u32>() + 1);

    fn is_empty(&self) -> bool {
        self.weights.is_empty()
    }

    fn clear(&mut self) {
        self.hashes.clear();
        self.hashes.shrink_to(KEPT);
        self.weights.clear();
        self.weights.shrink_to(KEPT);
        // Clearing takes time by its capacity, which the next groups must not pay for.
        if self.index.capacity() > KEPT {
            self.index = HashTable::new();
        } else {
            self.index.clear();
        }
    }

    /// The entry of this hash that is the `same`.
    fn find(&self, hash: u64, mut same: impl FnMut(usize) -> bool) -> Option<usize> {
        if self.weights.len() <= FEW {
            return (0..self.hashes.len()).find(|&entry| self.hashes[entry] == hash && same(entry));
        }
        let found = self.index.find(hash, |&entry| self.hashes[entry as usize] == hash && same(entry as usize));
        found.map(|&entry| entry as usize)
    }

    /// Adds an entry, of which there is none yet.
    fn push(&mut self, hash: u64, weight: i64) {
        self.hashes.push(hash);
        self.weights.push(weight);
        let count = self.hashes.len();
        if count > FEW {
            let (hashes, first) = (&self.hashes, if self.index.is_empty() { 0 } else { count - 1 });
            for entry in first..count {
                self.index.insert_unique(hashes[entry], entry as u32, |&entry| hashes[entry as usize]);
            }
        }
    }

    /// Takes up to `weight` from an entry; returns how much it did not have.
    fn take(&mut self, entry: usize, weight: i64) -> i64 {
        let taken = weight.min(self.weights[entry]);
        self.weights[entry] -= taken;
        weight - taken
    }
}

#[cfg(test)]
mod tests {
    use super::{Entries, FEW};
    use std::cell::Cell;

    /// Entries over numbers, which counts comparisons. The hash is given, so that it can collide.
    #[derive(Default)]
    struct Numbers {
        values: Vec<u64>,
        entries: Entries,
        compared: Cell<usize>,
    }

    impl Numbers {
        fn find(&self, hash: u64, value: u64) -> Option<usize> {
            self.entries.find(hash, |entry| {
                self.compared.set(self.compared.get() + 1);
                self.values[entry] == value
            })
        }

        fn add(&mut self, hash: u64, value: u64, weight: i64) {
            match self.find(hash, value) {
                Some(entry) => self.entries.weights[entry] += weight,
                None => {
                    self.values.push(value);
                    self.entries.push(hash, weight);
                }
            }
        }

        fn cancel(&mut self, hash: u64, value: u64, weight: i64) -> i64 {
            self.find(hash, value).map_or(weight, |entry| self.entries.take(entry, weight))
        }
    }

    fn scrambled(value: u64) -> u64 {
        let mut hash = crate::pg::image::Hash::new();
        hash.word(value);
        hash.finish() as u64
    }

    #[test]
    fn equal_values_are_one_entry_and_cost_one_comparison() {
        let mut numbers = Numbers::default();
        let rows = 100_000;
        for i in 0..rows {
            numbers.add(scrambled(i % 3), i % 3, 1);
        }
        for i in 0..rows {
            assert_eq!(numbers.cancel(scrambled(i % 3), i % 3, 1), 0);
        }
        assert_eq!(numbers.values, [0, 1, 2]);
        assert_eq!(numbers.entries.weights, [0, 0, 0]);
        assert_eq!(numbers.compared.get() as u64, 2 * rows - 3);
    }

    #[test]
    fn different_values_are_found_at_once() {
        let mut numbers = Numbers::default();
        let values = || (0..50_000u64).map(|i| f64::from(i as u32).to_bits());
        values().for_each(|value| numbers.add(scrambled(value), value, 2));
        values().for_each(|value| assert_eq!(numbers.cancel(scrambled(value), value, 1), 0));
        assert_eq!(numbers.compared.get(), 50_000);
        assert!(numbers.entries.weights.iter().all(|&weight| weight == 1));
    }

    #[test]
    fn values_of_one_hash_stay_apart() {
        for count in [2, FEW as u64, FEW as u64 + 1, 100] {
            let mut numbers = Numbers::default();
            for value in (0..count).chain(0..count) {
                numbers.add(7, value, 1);
            }
            assert_eq!(numbers.values, (0..count).collect::<Vec<_>>());
            assert_eq!((numbers.cancel(7, 1, 3), numbers.cancel(7, 1, 1), numbers.cancel(7, count, 1)), (1, 1, 1));
            assert_eq!(numbers.entries.weights.iter().sum::<i64>() as u64, 2 * count - 2);
        }
    }

    #[test]
    fn another_group_begins_empty() {
        let mut numbers = Numbers::default();
        for count in [5, 5000, 20] {
            numbers.entries.clear();
            numbers.values.clear();
            (0..count).for_each(|value| numbers.add(scrambled(value), value, 1));
            assert_eq!(numbers.entries.weights.len() as u64, count);
            assert_eq!(numbers.cancel(scrambled(count), count, 1), 1);
        }
    }
}
