//! Whether the SQL objects of this database are those the library was made for.
//!
//! The library is the server's, one for all databases; the SQL objects are each database's own, and follow by ALTER
//! EXTENSION pg_trickle UPDATE. Until they do, or when an older library was put back, writers go on: capture reads and
//! writes nothing that may change between neighbouring versions (README.md). Everything else is refused.
//!
//! Who does something that relies on the catalog keeps a weak lock on table `installation` to the end of its transaction;
//! ALTER EXTENSION and DROP EXTENSION begin with a strong one. So what was found stays true, an update waits for refreshes
//! in progress while it holds nothing that anybody else wants, and writers, who take no such lock, do not wait for it.

use super::{INSTALLATION, installed};
use crate::error::{Report, error};
use crate::pg::{self, names};
use crate::settings;
use pgrx::{PgSqlErrorCode, pg_sys};
use std::cell::Cell;

/// Of the SQL objects that this library works with. One more with each release that changes them.
pub const CATALOG_VERSION: i32 = 2;

/// Of release 0.1.0, which had no table `installation`.
const FIRST: i32 = 1;

/// Column of table installation.
const VERSION: i16 = 1;

thread_local!(static FOUND: Cell<Option<i32>> = const { Cell::new(None) });

/// The SQL objects may be others now.
pub fn forget() {
    FOUND.set(None);
}

/// The catalog version of this database, which has the extension.
pub fn found() -> i32 {
    FOUND.get().unwrap_or_else(|| {
        let version = read();
        FOUND.set(Some(version));
        version
    })
}

fn read() -> i32 {
    let Some(relid) = INSTALLATION.find() else { return FIRST };
    // Somebody who has emptied it has made it fit nothing.
    let version = INSTALLATION.open_for_read().all().first().map_or(0, |row| row.must(VERSION));
    // Who only looks keeps no update waiting.
    names::unlock(relid, pg_sys::AccessShareLock);
    version
}

/// The library and the SQL objects of a database do not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mismatch {
    pub found: i32,
}

impl Mismatch {
    fn is_older(self) -> bool {
        self.found < CATALOG_VERSION
    }

    pub fn detail(self) -> String {
        format!("The catalog version of this database is {}; {}.", self.found, library())
    }

    pub fn hint(self) -> &'static str {
        match self.is_older() {
            true => "Execute ALTER EXTENSION pg_trickle UPDATE in this database.",
            false => "Install the library of the newer version and restart the server.",
        }
    }

    pub fn report(self) -> Report {
        let relation = if self.is_older() { "older" } else { "newer" };
        let message = format!("the SQL objects of extension \"pg_trickle\" are {relation} than its library");
        error(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, message).detail(self.detail()).hint(self.hint())
    }
}

/// What the library is.
pub fn library() -> String {
    format!("library version {} works with {CATALOG_VERSION}", env!("CARGO_PKG_VERSION"))
}

/// What is wrong, if anything is, with this database, which has the extension.
pub fn mismatch() -> Option<Mismatch> {
    let found = found();
    // The schema that pg_upgrade restores is the old one, and stays so until somebody updates it.
    (found != CATALOG_VERSION && !pg::upgrading()).then_some(Mismatch { found })
}

/// Keeps the SQL objects as they are to the end of the transaction, and says what is wrong with them.
pub fn keep() -> Option<Mismatch> {
    if let Some(relid) = INSTALLATION.find() {
        names::lock(relid, pg_sys::AccessShareLock);
    }
    // Asked afterwards: who waited for ALTER EXTENSION or DROP EXTENSION finds what it left.
    if installed() { mismatch() } else { None }
}

/// The library is preloaded and fits the SQL objects of this database, until the end of the transaction; else raises.
pub fn require() {
    settings::require_preloaded();
    if let Some(mismatch) = keep() {
        mismatch.report().raise()
    }
}

/// As `require`, at this moment: for those who look, or wait for what others do.
pub fn check() {
    settings::require_preloaded();
    if let Some(mismatch) = installed().then(mismatch).flatten() {
        mismatch.report().raise()
    }
}

/// Waits until nobody relies on the SQL objects, and keeps everybody from that until the end of the transaction.
pub fn exclude() {
    if let Some(relid) = INSTALLATION.find() {
        names::lock(relid, pg_sys::AccessExclusiveLock);
    }
}
