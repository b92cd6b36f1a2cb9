//! Cost of the rule itself: terms for blocks of few and many inputs, one and all of them changed.

use bitvec::vec::BitVec;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use std::hint::black_box;

#[path = "../src/delta/mod.rs"]
#[allow(dead_code)]
mod delta;

use delta::{Linearity, terms};

fn rule(c: &mut Criterion) {
    let mut group = c.benchmark_group("terms");
    for inputs in [1, 2, 4, 16] {
        let linear = vec![Linearity::Linear; inputs];
        let mut one = BitVec::<usize>::repeat(false, inputs);
        one.set(inputs - 1, true);
        let all = BitVec::<usize>::repeat(true, inputs);
        group.bench_with_input(BenchmarkId::new("one changed", inputs), &one, |b, changed| {
            b.iter(|| terms(black_box(&linear), changed));
        });
        group.bench_with_input(BenchmarkId::new("all changed", inputs), &all, |b, changed| {
            b.iter(|| terms(black_box(&linear), changed));
        });
    }
    group.finish();
}

criterion_group!(benches, rule);
criterion_main!(benches);
