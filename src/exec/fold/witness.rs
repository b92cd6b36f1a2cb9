//! Whether a value is still somewhere in a group, when the group itself is not at hand.
//!
//! Theorem. Let M be the multiset of values before a refresh, A and D the values its delta adds and removes, so that
//! M' = M + A - D. If M is known to hold v, v is in M' whenever A holds it at least as often as D; if M is known not
//! to hold v, exactly when A holds it more often than D. In the remaining case (v was in M and was removed more often
//! than added) only the group's rows can tell.

use crate::exec::weighted;

/// What is known about one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Witness {
    stored: bool,
    net: i64,
}

impl Witness {
    /// For a value M holds.
    pub fn stored() -> Self {
        Self { stored: true, net: 0 }
    }

    /// For a value M does not hold.
    pub fn absent() -> Self {
        Self { stored: false, net: 0 }
    }

    /// The delta holds the value with this weight.
    pub fn count(&mut self, weight: i64) {
        self.net = weighted::sum(self.net, weight);
    }

    /// M' certainly holds the value.
    pub fn holds(self) -> bool {
        if self.stored { self.net >= 0 } else { self.net > 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::Witness;

    /// `holds` against the definition, over all small multiplicities in M, A and D.
    #[test]
    fn holds_only_if_the_value_is_left() {
        for (m, a, d) in (0..64).map(|i| (i / 16, i / 4 % 4, i % 4)).filter(|(m, a, d)| m + a >= *d) {
            let mut witness = if m > 0 { Witness::stored() } else { Witness::absent() };
            witness.count(a);
            witness.count(-d);
            let left = m + a - d > 0;
            assert!(!witness.holds() || left, "{m} + {a} - {d}");
            // It is exact but for values of M which the delta removes on balance.
            assert!(witness.holds() == left || (m > 0 && d > a), "{m} + {a} - {d}");
        }
    }
}
