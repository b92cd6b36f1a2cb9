//! The values a delta adds to a group, held back until it is known which of them it also removes.
//!
//! An aggregate that cannot remove a value can still ignore one: what the delta both adds and removes (an UPDATE
//! which left the argument alone) never was in the group before and is not after. Additions come before removals, so
//! they wait here; a removal cancels an addition of the same image, or tells that the group must be recomputed.
//! The room is bounded: who adds more gets it back to apply at once.

use super::value::Image;
use crate::pg::memory;
use hashbrown::HashTable;
use pgrx::pg_sys::{self, NullableDatum};

/// Bytes of waiting values (beside the datums themselves) before they are applied at once.
const ROOM: usize = 1 << 20;

pub struct Netting {
    images: Vec<Image>,
    /// `images.len()` datums per entry, in `memory`.
    values: Vec<NullableDatum>,
    weights: Vec<i64>,
    /// Entry numbers by image, made by the first removal.
    index: Option<HashTable<u32>>,
    bytes: usize,
    memory: pg_sys::MemoryContext,
}

impl Netting {
    /// # Safety
    /// `parent` lives as long as the query.
    pub unsafe fn new(images: Vec<Image>, parent: pg_sys::MemoryContext) -> Self {
        // SAFETY: by contract.
        let memory = unsafe { memory::create(parent, c"TrickleAccumulate values held back") };
        Self { images, values: Vec::new(), weights: Vec::new(), index: None, bytes: 0, memory }
    }

    /// Forgets everything. Room a large group needed is given back.
    pub fn start(&mut self) {
        self.values.clear();
        self.values.shrink_to(ROOM / size_of::<NullableDatum>());
        self.weights.clear();
        self.weights.shrink_to(ROOM / size_of::<i64>());
        self.index = None;
        self.bytes = 0;
        // SAFETY: no entry is left.
        unsafe { memory::reset(self.memory) };
    }

    /// The entries should be taken out before more are added.
    pub fn is_full(&self) -> bool {
        self.bytes > ROOM
    }

    /// Holds back `weight` (not 0) copies of a row of values.
    pub fn add(&mut self, values: &[NullableDatum], weight: i64) {
        for (image, value) in self.images.iter().zip(values) {
            // SAFETY: our own context.
            let copy = unsafe { image.copy(*value, self.memory) };
            self.bytes += size_of::<NullableDatum>() + image.size(copy);
            self.values.push(copy);
        }
        self.bytes += size_of::<i64>();
        self.weights.push(weight);
        if let Some(index) = &mut self.index {
            let entry = self.weights.len() as u32 - 1;
            let (images, all) = (&self.images, &self.values);
            index.insert_unique(hash(images, row(all, images.len(), entry)), entry, |&e| {
                hash(images, row(all, images.len(), e))
            });
        }
    }

    /// Cancels additions of the same image as far as there are any; returns how many copies are left to remove.
    pub fn cancel(&mut self, values: &[NullableDatum], mut weight: i64) -> i64 {
        if self.index.is_none() {
            self.index = Some(self.make_index());
        }
        let Self { images, values: all, weights, index, .. } = self;
        let Some(index) = index else { return weight };
        for &entry in index.iter_hash(hash(images, values)) {
            let held = &mut weights[entry as usize];
            if weight > 0 && *held > 0 && equal(images, row(all, images.len(), entry), values) {
                let cancelled = weight.min(*held);
                *held -= cancelled;
                weight -= cancelled;
            }
        }
        weight
    }

    /// Nothing is left.
    pub fn is_zero(&self) -> bool {
        self.weights.iter().all(|&weight| weight == 0)
    }

    /// What is left, in the order of its arrival.
    pub fn entries(&self) -> impl Iterator<Item = (&[NullableDatum], i64)> {
        let width = self.images.len();
        self.weights.iter().enumerate().map(move |(entry, &weight)| (row(&self.values, width, entry as u32), weight))
    }

    fn make_index(&self) -> HashTable<u32> {
        let hasher = |&entry: &u32| hash(&self.images, row(&self.values, self.images.len(), entry));
        let mut index = HashTable::with_capacity(self.weights.len());
        for entry in 0..self.weights.len() as u32 {
            index.insert_unique(hasher(&entry), entry, hasher);
        }
        index
    }
}

fn row(values: &[NullableDatum], width: usize, entry: u32) -> &[NullableDatum] {
    &values[entry as usize * width..][..width]
}

fn hash(images: &[Image], values: &[NullableDatum]) -> u64 {
    images
        .iter()
        .zip(values)
        .fold(0, |hash, (image, value)| hash.rotate_left(5) ^ image.hash(*value).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

fn equal(images: &[Image], a: &[NullableDatum], b: &[NullableDatum]) -> bool {
    images.iter().enumerate().all(|(i, image)| image.equal(a[i], b[i]))
}
