//! What the extension remembers: typed rows in, typed rows out.
//!
//! The tables live in schema pgtrickle_internal. The oids of relations are looked up once per
//! backend and forgotten whenever any schema or extension is created, altered or dropped, or the relation changes: REINDEX
//! CONCURRENTLY puts another in the place of an index. So look indexes up when their table is open, and locked. The
//! version of the SQL objects (`version`) is cached in the same way.

pub mod control;
pub mod dependency;
pub mod history;
pub mod installation;
pub mod moved;
pub mod recompute_reason;
pub mod source;
pub mod state;
pub mod stream_table;
pub mod version;

use crate::error::cannot_happen;
use crate::pg::catalog_table::CatalogTable;
use crate::pg::names;
use pgrx::pg_sys;
use std::cell::Cell;
use std::thread::LocalKey;

type Slot<T> = &'static LocalKey<Cell<T>>;

/// One of our schemas; its oid, once looked up, is InvalidOid when the extension is not installed.
pub struct Schema {
    name: &'static str,
    cached: Slot<Option<pg_sys::Oid>>,
}

/// A relation of one of our schemas.
pub struct Name {
    schema: &'static Schema,
    name: &'static str,
    cached: Slot<pg_sys::Oid>,
}

thread_local! {
    static INTERNAL_OID: Cell<Option<pg_sys::Oid>> = const { Cell::new(None) };
    static PUBLIC_OID: Cell<Option<pg_sys::Oid>> = const { Cell::new(None) };
}

static INTERNAL: Schema = Schema { name: "pgtrickle_internal", cached: &INTERNAL_OID };
static PUBLIC: Schema = Schema { name: "pgtrickle", cached: &PUBLIC_OID };

macro_rules! relations {
    ($($id:ident = $schema:ident, $name:literal;)*) => {
        $(pub static $id: Name = Name {
            schema: &$schema,
            name: $name,
            cached: { thread_local!(static OID: Cell<pg_sys::Oid> = const { Cell::new(pg_sys::InvalidOid) }); &OID },
        };)*
        fn forget() {
            INTERNAL_OID.set(None);
            PUBLIC_OID.set(None);
            version::forget();
            forget_relation(pg_sys::InvalidOid);
        }
        /// All of them, if none is named.
        fn forget_relation(relid: pg_sys::Oid) {
            if relid == INSTALLATION.cached.get() {
                version::forget();
            }
            $(if relid == pg_sys::InvalidOid || relid == $id.cached.get() {
                $id.cached.set(pg_sys::InvalidOid);
            })*
        }
    };
}

relations! {
    STREAM_TABLE = INTERNAL, "stream_table";
    STREAM_TABLE_KEY = INTERNAL, "stream_table_pkey";
    STREAM_TABLE_ID = INTERNAL, "stream_table_id";
    REINIT = INTERNAL, "reinit";
    REINIT_VIEW = INTERNAL, "reinit_view";
    MOVED = INTERNAL, "moved";
    MOVED_VIEW = INTERNAL, "moved_view";
    SOURCE = INTERNAL, "source";
    SOURCE_KEY = INTERNAL, "source_pkey";
    DEPENDENCY = INTERNAL, "dependency";
    DEPENDENCY_KEY = INTERNAL, "dependency_pkey";
    DEPENDENCY_SOURCE = INTERNAL, "dependency_source";
    STATE = INTERNAL, "state";
    STATE_KEY = INTERNAL, "state_pkey";
    PAUSED = INTERNAL, "paused";
    INSTALLATION = INTERNAL, "installation";
    HISTORY = INTERNAL, "refresh_history";
    HISTORY_KEY = INTERNAL, "refresh_history_pkey";
    HISTORY_OF_0_1_0 = PUBLIC, "pgt_refresh_history";
    HISTORY_KEY_OF_0_1_0 = PUBLIC, "pgt_refresh_history_pkey";
    HISTORY_ID = INTERNAL, "refresh_id";
}

impl Schema {
    fn find(&self) -> Option<pg_sys::Oid> {
        let found = self.cached.get().unwrap_or_else(|| {
            // A schema of this name that is not the extension's says nothing.
            let oid = names::schema(self.name).filter(|oid| names::is_member_of(*oid, "pg_trickle"));
            let oid = oid.unwrap_or(pg_sys::InvalidOid);
            self.cached.set(Some(oid));
            oid
        });
        (found != pg_sys::InvalidOid).then_some(found)
    }
}

impl Name {
    /// None when the extension is not installed in this database (or just being installed).
    pub fn find(&self) -> Option<pg_sys::Oid> {
        let cached = self.cached.get();
        if cached != pg_sys::InvalidOid {
            return Some(cached);
        }
        let oid = names::relation_in(self.schema.find()?, self.name)?;
        self.cached.set(oid);
        Some(oid)
    }

    pub fn oid(&self) -> pg_sys::Oid {
        self.find().unwrap_or_else(|| cannot_happen(format!("relation {}.{} is missing", self.schema.name, self.name)))
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
    INTERNAL.find().is_some()
}

/// The schema of internal tables.
pub fn schema() -> pg_sys::Oid {
    INTERNAL.find().unwrap_or_else(|| cannot_happen(format!("schema {} is missing", INTERNAL.name)))
}

/// Forgets what is cached when a schema or an extension comes, changes or goes, or the relation becomes another.
pub fn register() {
    names::on_change(forget, forget_relation);
}
