//! Why the contents of a stream table are computed anew instead of continued: one stable code each, with a sentence.
//!
//! `CODE: sentence` is what a marker of pgtrickle_internal.reinit holds, and what explain_st, the alert
//! `reinitialize_needed` and the history show. Release 0.1.0 wrote sentences without a code: such a marker is shown as
//! it stands.

use std::fmt;

macro_rules! reasons {
    ($($name:ident $code:literal $sentence:literal;)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum RecomputeReason { $($name,)* }

        impl RecomputeReason {
            #[cfg(test)]
            const ALL: &[RecomputeReason] = &[$(RecomputeReason::$name,)*];

            /// Part of the interface: documented, and never given to another reason.
            pub fn code(self) -> &'static str {
                match self { $(RecomputeReason::$name => $code,)* }
            }

            /// For people; it may be worded differently in another release.
            pub fn sentence(self) -> &'static str {
                match self { $(RecomputeReason::$name => $sentence,)* }
            }
        }
    };
}

reasons! {
    SourceTruncated "SOURCE_TRUNCATED" "A table it reads was truncated.";
    MemberDetached "MEMBER_DETACHED" "A partition or child of a table it reads was detached or dropped.";
    MemberAttached "MEMBER_ATTACHED" "A table with rows became a partition or child of a table it reads.";
    ColumnChanged "COLUMN_CHANGED" "The definition of a column it reads changed.";
    ConstraintsChanged "CONSTRAINTS_CHANGED" "Constraints of a table it reads changed while changes of that table were pending.";
    DefinitionChanged "DEFINITION_CHANGED" "Its query, options or sources changed.";
    ObjectRedefined "OBJECT_REDEFINED" "A function, type or view it uses was redefined.";
    ViewRedefined "VIEW_REDEFINED" "A plain view it reads was redefined.";
    UpstreamReplaced "UPSTREAM_REPLACED" "Rows of a stream table it reads may have been replaced by something other than a refresh.";
    RowsReplaced "ROWS_REPLACED" "Its rows may have been replaced by something other than a refresh.";
    OldSnapshot "OLD_SNAPSHOT" "It was computed at a snapshot taken before its sources were captured or the view was adopted.";
    RefreshFailed "REFRESH_FAILED" "A refresh failed.";
    Mismatch "MISMATCH" "Changes did not fit its contents.";
    PgUpgrade "PG_UPGRADE" "The server was upgraded.";
    PgUpgradeMajor "PG_UPGRADE_MAJOR" "The server was upgraded to another major version.";
    CaptureIncomplete "CAPTURE_INCOMPLETE" "A capture trigger of a table it reads is missing or disabled.";
    CaptureRepaired "CAPTURE_REPAIRED" "The capture of a table it reads was found incomplete and was repaired.";
    ValuesMoved "VALUES_MOVED" "Wide values that pending changes refer to were moved, or too many were replaced.";
    RepairRequested "REPAIR_REQUESTED" "Somebody asked for it to be repaired.";
    FormatChanged "FORMAT_CHANGED" "What is stored for it does not have the present format.";
}

impl RecomputeReason {
    /// With a sentence that says more than the general one.
    pub fn with(self, sentence: &str) -> String {
        format!("{}: {sentence}", self.code())
    }
}

/// `CODE: sentence`.
impl fmt::Display for RecomputeReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code(), self.sentence())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_words() {
        for (n, reason) in RecomputeReason::ALL.iter().enumerate() {
            assert!(reason.code().bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'), "{reason}");
            assert!(reason.sentence().ends_with('.') && !reason.sentence().contains(": "), "{reason}");
            assert!(RecomputeReason::ALL[..n].iter().all(|other| other.code() != reason.code()), "{reason}");
        }
        assert_eq!(RecomputeReason::SourceTruncated.to_string(), "SOURCE_TRUNCATED: A table it reads was truncated.");
        assert_eq!(RecomputeReason::Mismatch.with("A row is missing."), "MISMATCH: A row is missing.");
    }
}
