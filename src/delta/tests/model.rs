//! Z-sets of rows (k, v) with NULLs, and a small generator of random ones.

use hashbrown::HashMap;

/// NULL is None.
pub type Value = Option<i64>;
pub type Row = Vec<Value>;
pub type ZSet = HashMap<Row, i64>;

/// total += sign * more, dropping rows of weight zero.
pub fn add(total: &mut ZSet, more: &ZSet, sign: i64) {
    for (row, weight) in more {
        let sum = total.entry(row.clone()).or_insert(0);
        *sum += sign * weight;
        if *sum == 0 {
            total.remove(row);
        }
    }
}

/// `=` of SQL: unknown with NULLs.
pub fn equal(a: Value, b: Value) -> Option<bool> {
    Some(a? == b?)
}

/// `>` of SQL: unknown with NULLs.
pub fn greater(a: Value, b: Value) -> Option<bool> {
    Some(a? > b?)
}

pub fn is_true(condition: Option<bool>) -> bool {
    condition == Some(true)
}

pub fn select(rows: &ZSet, keep: impl Fn(&Row) -> bool) -> ZSet {
    rows.iter().filter(|(row, _)| keep(row)).map(|(row, w)| (row.clone(), *w)).collect()
}

pub fn project(rows: &ZSet, columns: impl Fn(&Row) -> Row) -> ZSet {
    let mut out = ZSet::new();
    for (row, weight) in rows {
        add(&mut out, &ZSet::from([(columns(row), *weight)]), 1);
    }
    out
}

/// Concatenated rows of both sides that satisfy the condition; weights multiply.
pub fn join(left: &ZSet, right: &ZSet, on: impl Fn(&Row, &Row) -> bool) -> ZSet {
    let mut out = ZSet::new();
    for (x, v) in left {
        for (y, w) in right.iter().filter(|(y, _)| on(x, y)) {
            add(&mut out, &ZSet::from([([&x[..], &y[..]].concat(), v * w)]), 1);
        }
    }
    out
}

/// LEFT JOIN for a right side of rows with positive weights and `width` columns.
pub fn left_join(left: &ZSet, right: &ZSet, width: usize, on: impl Fn(&Row, &Row) -> bool) -> ZSet {
    let mut out = join(left, right, &on);
    let alone = select(left, |x| !right.keys().any(|y| on(x, y)));
    let nulls = vec![None; width];
    add(&mut out, &project(&alone, |x| [&x[..], &nulls].concat()), 1);
    out
}

pub fn exists(rows: &ZSet, matching: impl Fn(&Row) -> bool) -> bool {
    rows.keys().any(matching)
}

/// xorshift64*: reproducible without a dependency.
pub struct Random(u64);

impl Random {
    pub fn new(seed: &str) -> Self {
        Self(seed.bytes().fold(0x9E37_79B9_7F4A_7C15, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01B3)) | 1)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % n
    }

    fn row(&mut self) -> Row {
        let mut cell = || self.below(5).checked_sub(1).map(|v| v as i64);
        vec![cell(), cell()]
    }

    /// Old and new contents of a relation: few values, NULLs, duplicates, sometimes unchanged.
    pub fn versions(&mut self) -> (ZSet, ZSet) {
        let mut old = ZSet::new();
        for _ in 0..self.below(8) {
            add(&mut old, &ZSet::from([(self.row(), 1)]), 1);
        }
        if self.below(4) == 0 {
            return (old.clone(), old);
        }
        let mut new = ZSet::new();
        for (row, weight) in &old {
            let kept = (0..*weight).filter(|_| self.below(10) < 6).count() as i64;
            if kept > 0 {
                new.insert(row.clone(), kept);
            }
        }
        for _ in 0..self.below(4) {
            add(&mut new, &ZSet::from([(self.row(), 1)]), 1);
        }
        (old, new)
    }
}
