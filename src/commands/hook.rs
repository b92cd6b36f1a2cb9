//! Which statements and catalog changes concern us, and who handles each.

use super::{alter, create, drop, redefinition, refresh_stmt, restore, runtime, source_ddl, update};
use crate::capture;
use crate::catalog;
use crate::pg;
use crate::pg::utility::{Call, Event, Provider, Verdict, Watcher};
use crate::wakeup;
use pgrx::pg_sys::{self, NodeTag};

pub struct Commands;

impl Provider for Commands {
    fn wants(call: &Call) -> bool {
        use NodeTag::*;
        let tag = call.tag();
        let ours = matches!(tag, T_CreateTableAsStmt | T_AlterTableStmt | T_RefreshMatViewStmt | T_ExplainStmt);
        let drops = matches!(tag, T_DropStmt | T_DropOwnedStmt | T_AlterExtensionStmt);
        let roles = tag == T_ReassignOwnedStmt;
        let sources = matches!(tag, T_CreateStmt | T_CreateForeignTableStmt | T_RenameStmt | T_IndexStmt | T_ViewStmt);
        ours || drops
            || roles
            || sources
            || redefines(tag)
            || source_ddl::is_about_subscriptions(tag)
            || runtime::concerns(call)
            || restore::concerns(call)
    }

    fn before(call: &Call) -> Verdict {
        match call.tag() {
            NodeTag::T_CreateTableAsStmt => create::before(call),
            _ if pg::upgrading() => restore::before(call),
            _ if runtime::concerns(call) => runtime::before(call),
            _ if !catalog::installed() => Verdict::Pass,
            NodeTag::T_AlterTableStmt => alter::before(call).unwrap_or_else(|| source_ddl::before(call)),
            NodeTag::T_RefreshMatViewStmt => refresh_stmt::before(call),
            NodeTag::T_ExplainStmt => refresh_stmt::before_explain(call),
            NodeTag::T_DropStmt | NodeTag::T_DropOwnedStmt => drop::before(call),
            NodeTag::T_AlterExtensionStmt => update::before(call),
            tag if redefines(tag) => Verdict::Pass,
            _ => source_ddl::before(call),
        }
    }

    fn pending() -> bool {
        drop::pending() || source_ddl::pending() || redefinition::pending() || restore::pending()
    }

    fn settle() {
        if catalog::installed() {
            drop::sweep();
            source_ddl::settle();
            redefinition::settle();
            restore::settle();
        }
    }
}

/// pg_inherits.
const INHERITS: pg_sys::Oid = pg_sys::Oid::from_u32(2611);

/// Statements that change what a name in a query means; the object access hook says which.
fn redefines(tag: NodeTag) -> bool {
    use NodeTag::*;
    let functions = matches!(tag, T_CreateFunctionStmt | T_AlterFunctionStmt | T_DefineStmt | T_AlterOwnerStmt);
    functions
        || matches!(tag, T_AlterDomainStmt | T_AlterEnumStmt | T_AlterTSDictionaryStmt | T_AlterTSConfigurationStmt)
}

impl Watcher for Commands {
    fn wants(event: Event, class: pg_sys::Oid) -> bool {
        match event {
            Event::Dropped => {
                [pg_sys::RelationRelationId, pg_sys::ExtensionRelationId, pg_sys::TriggerRelationId].contains(&class)
            }
            Event::Created => class == pg_sys::ProcedureRelationId || class == pg_sys::ExtensionRelationId,
            Event::Altered => [pg_sys::RelationRelationId, INHERITS].contains(&class) || redefinition::watches(class),
            Event::Column => class == pg_sys::RelationRelationId,
        }
    }

    fn happened(event: Event, class: pg_sys::Oid, object: pg_sys::Oid) {
        match event {
            Event::Created if class == pg_sys::ExtensionRelationId => wakeup::extension_created(),
            Event::Dropped if class == pg_sys::ExtensionRelationId => wakeup::graph_changed(),
            Event::Dropped if class == pg_sys::TriggerRelationId => drop::trigger_dropped(object),
            Event::Dropped => drop::dropped(object),
            Event::Altered if class == pg_sys::RelationRelationId => alter::altered(object),
            Event::Altered if class == INHERITS => capture::departure::on_inheritance(object),
            Event::Created | Event::Altered | Event::Column => redefinition::note(class, object),
        }
    }
}
