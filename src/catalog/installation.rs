//! One row: which catalog this is, and the server on which capture was last found complete.
//!
//! The server is named by two numbers of its control file. A cluster that pg_upgrade made has another system identifier
//! (and, of another major version, another catalog version); so has one that pg_createsubscriber split off. A base
//! backup, a standby and what is promoted from it keep both: triggers come along with the rest of the catalog there.

use super::INSTALLATION;
use crate::error::cannot_happen;
use crate::pg::catalog_table::{Row, value};
use crate::pg::{lock, server};
use pgrx::pg_sys;
use std::cell::Cell;

pub struct Installation {
    /// CATALOG_VERSION of the library that made or updated the tables.
    pub catalog_version: i32,
    /// The server on which capture was found complete; None: it never was.
    pub system_identifier: Option<i64>,
    pub server_catversion: Option<i32>,
    /// The version of the library that found it so.
    pub library: Option<String>,
}

mod column {
    pub const CATALOG_VERSION: i16 = 1;
    pub const SYSTEM_IDENTIFIER: i16 = 2;
    pub const SERVER_CATVERSION: i16 = 3;
    pub const LIBRARY: i16 = 4;
}

impl Installation {
    fn read(row: &Row) -> Self {
        Self {
            catalog_version: row.must(column::CATALOG_VERSION),
            system_identifier: row.get(column::SYSTEM_IDENTIFIER),
            server_catversion: row.get(column::SERVER_CATVERSION),
            library: row.get(column::LIBRARY),
        }
    }

    /// Capture was found complete on the server that runs now.
    pub fn is_of_this_server(&self) -> bool {
        self.system_identifier == Some(server::system_identifier())
            && self.server_catversion == Some(server::catalog_version())
    }
}

/// The row; None when the table is not there (the extension is of a release that had none) or is empty, as in the middle
/// of CREATE EXTENSION.
pub fn get() -> Option<Installation> {
    INSTALLATION.find()?;
    INSTALLATION.open_for_read().all().first().map(Installation::read)
}

/// Whether capture was found complete on this server. Once a committed row says so, this backend does not ask again: a
/// server does not become another one while it runs.
pub fn is_of_this_server() -> bool {
    thread_local!(static CONFIRMED: Cell<bool> = const { Cell::new(false) });
    if CONFIRMED.get() {
        return true;
    }
    if INSTALLATION.find().is_none() {
        return false;
    }
    let rows = INSTALLATION.open_for_read().all();
    let row = rows.first().filter(|row| Installation::read(row).is_of_this_server());
    // What this transaction wrote may be rolled back.
    CONFIRMED.set(row.is_some_and(|row| !row.is_own()));
    row.is_some()
}

/// Excludes others who would change the row, ALTER EXTENSION UPDATE among them, if there are none now.
pub fn try_lock() -> bool {
    lock::try_take_relation(INSTALLATION.oid(), pg_sys::ShareRowExclusiveLock)
}

/// Capture is complete on this server. Under `try_lock`.
pub fn confirm() {
    let table = INSTALLATION.open_for_write();
    let Some(row) = table.all().pop() else { cannot_happen("the row of pgtrickle_internal.installation is missing") };
    table.update(
        &row,
        &[
            (column::SYSTEM_IDENTIFIER, value(server::system_identifier())),
            (column::SERVER_CATVERSION, value(server::catalog_version())),
            (column::LIBRARY, value(env!("CARGO_PKG_VERSION"))),
        ],
    );
}
