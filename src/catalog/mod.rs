//! What the extension remembers: typed rows in, typed rows out (tables of schema pgtrickle_internal).
//!
//! The oids of the tables are looked up once per backend and forgotten whenever any schema is created or dropped.

pub mod dependency;
pub mod stream_table;

use crate::error::cannot_happen;
use crate::pg::catalog_table::CatalogTable;
use crate::pg::names;
use pgrx::pg_sys;
use std::cell::Cell;
use std::thread::LocalKey;

const SCHEMA: &str = "pgtrickle_internal";

/// The oid of a relation of our schema, cached.
pub struct Name {
    name: &'static str,
    cached: &'static LocalKey<Cell<pg_sys::Oid>>,
}

/// Declares relations of schema pgtrickle_internal.
macro_rules! relations {
    ($($(#[$doc:meta])* $id:ident = $name:literal;)*) => {
        $($(#[$doc])* pub static $id: Name = Name {
            name: $name,
            cached: { thread_local!(static OID: Cell<pg_sys::Oid> = const { Cell::new(pg_sys::InvalidOid) }); &OID },
        };)*
        fn forget_all() { $($id.cached.set(pg_sys::InvalidOid);)* }
    };
}

relations! {
    STREAM_TABLE = "stream_table";
    STREAM_TABLE_KEY = "stream_table_pkey";
    STREAM_TABLE_ID = "stream_table_id";
    REINIT = "reinit";
    REINIT_VIEW = "reinit_view";
    SOURCE = "source";
    SOURCE_KEY = "source_pkey";
    DEPENDENCY = "dependency";
    DEPENDENCY_KEY = "dependency_pkey";
    DEPENDENCY_SOURCE = "dependency_source";
    STATE = "state";
    STATE_KEY = "state_pkey";
}

thread_local!(static SCHEMA_OID: Cell<Option<pg_sys::Oid>> = const { Cell::new(None) });

impl Name {
    /// None when the extension is not installed in this database (or just being installed).
    pub fn find(&self) -> Option<pg_sys::Oid> {
        let cached = self.cached.get();
        if cached != pg_sys::InvalidOid {
            return Some(cached);
        }
        let oid = names::relation_in(schema_if_installed()?, self.name)?;
        self.cached.set(oid);
        Some(oid)
    }

    pub fn oid(&self) -> pg_sys::Oid {
        self.find().unwrap_or_else(|| cannot_happen(format!("relation {SCHEMA}.{} is missing", self.name)))
    }

    pub fn open_for_read(&self) -> CatalogTable {
        CatalogTable::open_for_read(self.oid())
    }

    pub fn open_for_write(&self) -> CatalogTable {
        CatalogTable::open_for_write(self.oid())
    }
}

/// The extension exists in this database.
pub fn installed() -> bool {
    schema_if_installed().is_some()
}

/// The schema of internal tables.
pub fn schema() -> pg_sys::Oid {
    schema_if_installed().unwrap_or_else(|| cannot_happen(format!("schema {SCHEMA} is missing")))
}

fn schema_if_installed() -> Option<pg_sys::Oid> {
    let found = SCHEMA_OID.get().unwrap_or_else(|| {
        // A schema of this name that is not the extension's says nothing.
        let oid = names::schema(SCHEMA).filter(|oid| names::is_member_of(*oid, "pg_trickle"));
        let oid = oid.unwrap_or(pg_sys::InvalidOid);
        SCHEMA_OID.set(Some(oid));
        oid
    });
    (found != pg_sys::InvalidOid).then_some(found)
}

/// Forgets cached oids when a schema comes or goes.
pub fn register() {
    names::on_schema_change(|| {
        SCHEMA_OID.set(None);
        forget_all();
    });
}
