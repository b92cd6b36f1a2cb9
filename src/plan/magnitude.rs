//! How much is pending, as exactly as a plan needs to know: plans are kept per magnitude, not per number.
//!
//! Small changes take the same plan within a factor of four. For large ones planning costs nothing beside running, and the
//! choice between delta and recompute is close, so that they are told apart within a factor of two.

use smallvec::SmallVec;

/// The magnitude of each input's delta.
pub type Magnitudes = SmallVec<[u8; 8]>;

/// Up to 4^5 = 1024 versions magnitudes grow by fours, above by twos.
const FINE: u8 = 6;
const SMALL: u64 = 1 << (2 * (FINE - 1));

/// 0 for nothing.
pub fn of(versions: u64) -> u8 {
    match versions {
        0 => 0,
        1..=SMALL => 1 + ceil_log2(versions).div_ceil(2),
        _ => FINE + ceil_log2(versions.div_ceil(SMALL)),
    }
}

/// The number of versions to plan for: the most there can be, or the middle of a large magnitude.
pub fn versions(magnitude: u8) -> f64 {
    match magnitude {
        0..=FINE => 4f64.powi(i32::from(magnitude) - 1),
        _ => 0.75 * SMALL as f64 * 2f64.powi(i32::from(magnitude - FINE)),
    }
}

fn ceil_log2(n: u64) -> u8 {
    (64 - (n - 1).leading_zeros()) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_lies_in_its_magnitude() {
        let mut last = 0;
        for n in (1..5000).chain((5000..3_000_000).step_by(997)) {
            let magnitude = of(n);
            assert!(magnitude >= last, "{n}");
            let (planned, factor) = (versions(magnitude), n as f64 / versions(magnitude));
            let range = if n <= SMALL { 0.25..=1.0 } else { 0.66..=1.34 };
            assert!(range.contains(&factor), "{n} is planned as {planned}");
            last = magnitude;
        }
    }

    #[test]
    fn one_row_has_a_magnitude_of_its_own() {
        assert_eq!((of(0), of(1), of(2), of(4), of(5)), (0, 1, 2, 2, 3));
        assert_eq!(versions(of(1)), 1.0);
    }
}
