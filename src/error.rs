//! Errors in three parts, as PostgreSQL writes them: message, DETAIL, HINT, with a SQLSTATE.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode};

/// An error under construction. Messages are lower case without a full stop; DETAIL and HINT are sentences.
#[must_use = "an error that is not raised is swallowed"]
pub struct Report(Box<ErrorReport>);

/// Starts an error with its SQLSTATE and primary message.
pub fn error(code: PgSqlErrorCode, message: impl Into<String>) -> Report {
    Report(Box::new(ErrorReport::new(code, message.into(), "pg_trickle")))
}

impl Report {
    pub fn detail(self, detail: impl Into<String>) -> Self {
        Self(Box::new(self.0.set_detail(detail)))
    }

    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self(Box::new(self.0.set_hint(hint)))
    }

    /// Aborts the current (sub)transaction with this error.
    pub fn raise(self) -> ! {
        self.0.report(PgLogLevel::ERROR);
        unreachable!("an ERROR does not return")
    }

    pub fn warn(self) {
        self.0.report(PgLogLevel::WARNING);
    }

    /// To the server's log.
    pub fn log(self) {
        self.0.report(PgLogLevel::LOG);
    }

    pub fn debug(self) {
        self.0.report(PgLogLevel::DEBUG1);
    }

    pub fn notice(self) {
        self.0.report(PgLogLevel::NOTICE);
    }
}

/// An expression may have raised this over the values it met: data exceptions, constraints of domains, errors of
/// functions in other languages, limits of values, RAISE, also with an SQLSTATE that the server does not have.
pub fn is_over_values(code: i32) -> bool {
    // ERRCODE_TO_CATEGORY
    const CLASS: i32 = (1 << 12) - 1;
    let classes = [
        PgSqlErrorCode::ERRCODE_DATA_EXCEPTION,
        PgSqlErrorCode::ERRCODE_EXTERNAL_ROUTINE_EXCEPTION,
        PgSqlErrorCode::ERRCODE_EXTERNAL_ROUTINE_INVOCATION_EXCEPTION,
        PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
        PgSqlErrorCode::ERRCODE_PLPGSQL_ERROR,
    ];
    let of_domains = [PgSqlErrorCode::ERRCODE_CHECK_VIOLATION, PgSqlErrorCode::ERRCODE_NOT_NULL_VIOLATION];
    let known = PgSqlErrorCode::from(code);
    known as i32 != code || of_domains.contains(&known) || classes.iter().any(|&class| class as i32 == code & CLASS)
}

/// A condition our own invariants exclude; the counterpart of `elog(ERROR)`.
pub fn cannot_happen(what: impl Into<String>) -> ! {
    error(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, what).raise()
}
