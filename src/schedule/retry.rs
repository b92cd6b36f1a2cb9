//! What becomes of a refresh that failed.
//!
//! | class | what it is | what follows |
//! |---|---|---|
//! | busy | a lock that somebody holds | tried again soon; not the view's fault, so not counted |
//! | transient | serialization, cancel, resources, I/O | counted; tried again after a pause that doubles |
//! | permanent | everything else: the query cannot be computed on these data | counted; status ERROR at once; tried again when something it rests on has changed, after the same pause |
//!
//! After `pg_trickle.max_consecutive_errors` counted failures in a row the view is SUSPENDED.

use super::{SECOND, Time};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Busy,
    Transient,
    Permanent,
}

/// The class of an SQLSTATE.
pub fn classify(sqlstate: &str) -> Class {
    // What is none has no class, and is permanent.
    let class = sqlstate.get(..2).unwrap_or("");
    match (class, sqlstate) {
        (_, "55P03") => Class::Busy,
        // Corruption does not go away by itself.
        (_, "XX001" | "XX002") => Class::Permanent,
        // Connections, transactions rolled back, resources, object state, operators, system errors, internal errors.
        ("08" | "40" | "53" | "55" | "57" | "58" | "XX", _) => Class::Transient,
        _ => Class::Permanent,
    }
}

/// The five characters of an SQLSTATE as the server packs them, six bits each.
pub fn unpack(code: i32) -> String {
    (0..5).map(|n| char::from(((code >> (6 * n)) & 0x3f) as u8 + b'0')).collect()
}

const FIRST: i64 = SECOND;
const LONGEST: i64 = 300 * SECOND;
const FIRST_BUSY: i64 = SECOND / 4;
const LONGEST_BUSY: i64 = 5 * SECOND;

/// The pause after the n-th failure in a row.
pub fn pause(class: Class, failures: u32) -> Time {
    let (first, longest) = match class {
        Class::Busy => (FIRST_BUSY, LONGEST_BUSY),
        _ => (FIRST, LONGEST),
    };
    (first << failures.saturating_sub(1).min(20)).min(longest)
}

/// The status after the n-th counted failure in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Retry,
    Error,
    Suspend,
}

pub fn verdict(class: Class, failures: u32, most: u32) -> Verdict {
    match class {
        Class::Busy => Verdict::Retry,
        _ if failures >= most => Verdict::Suspend,
        Class::Transient => Verdict::Retry,
        Class::Permanent => Verdict::Error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes() {
        assert_eq!(classify("55P03"), Class::Busy);
        for transient in ["40001", "40P01", "57014", "57P01", "53200", "53100", "58030", "55006", "XX000"] {
            assert_eq!(classify(transient), Class::Transient, "{transient}");
        }
        for permanent in ["22012", "42501", "42P01", "23505", "XX001", "P0001", ""] {
            assert_eq!(classify(permanent), Class::Permanent, "{permanent}");
        }
    }

    #[test]
    fn sqlstates_unpack() {
        // MAKE_SQLSTATE('4','0','0','0','1')
        let pack = |text: &str| {
            text.bytes().enumerate().fold(0, |code, (n, c)| code | i32::from((c - b'0') & 0x3f) << (6 * n))
        };
        assert_eq!(unpack(pack("40001")), "40001");
        assert_eq!(unpack(pack("55P03")), "55P03");
    }

    #[test]
    fn pauses_double_up_to_a_limit() {
        assert_eq!([1, 2, 3, 4].map(|n| pause(Class::Transient, n) / SECOND), [1, 2, 4, 8]);
        assert_eq!(pause(Class::Permanent, 100), LONGEST);
        assert_eq!(pause(Class::Busy, 1), SECOND / 4);
        assert_eq!(pause(Class::Busy, 60), LONGEST_BUSY);
    }

    #[test]
    fn suspended_after_so_many() {
        assert_eq!(verdict(Class::Transient, 2, 3), Verdict::Retry);
        assert_eq!(verdict(Class::Permanent, 1, 3), Verdict::Error);
        assert_eq!(verdict(Class::Permanent, 3, 3), Verdict::Suspend);
        assert_eq!(verdict(Class::Transient, 3, 3), Verdict::Suspend);
        assert_eq!(verdict(Class::Busy, 9, 3), Verdict::Retry);
    }
}
