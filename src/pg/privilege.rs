//! Privileges of roles on relations, and what read-only states forbid.

use super::identity::AsOwner;
use super::node::cstring;
use super::query::Query;
use pgrx::pg_sys;

/// `role` may create triggers on the relation.
pub fn may_trigger(relid: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    // SAFETY: a catalog look-up.
    unsafe {
        pg_sys::pg_class_aclcheck(relid, role, pg_sys::ACL_TRIGGER as pg_sys::AclMode) == pg_sys::AclResult::ACLCHECK_OK
    }
}

/// `role` may refresh the view.
pub fn may_maintain(relid: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    // SAFETY: a catalog look-up.
    unsafe {
        let maintain = pg_sys::ACL_MAINTAIN as pg_sys::AclMode;
        pg_sys::pg_class_aclcheck(relid, role, maintain) == pg_sys::AclResult::ACLCHECK_OK
    }
}

/// `role` has the owner's rights on the extension.
pub fn owns_extension(name: &str, role: pg_sys::Oid) -> bool {
    // SAFETY: catalog look-ups.
    unsafe {
        let extension = pg_sys::get_extension_oid(cstring(name), true);
        extension != pg_sys::InvalidOid && pg_sys::object_ownercheck(pg_sys::ExtensionRelationId, extension, role)
    }
}

/// Raises the server's error unless everything that a rewritten query reads, at any level, may be read: by the owner, or through a
/// view by the view's.
pub fn check_query(query: Query, owner: &AsOwner) {
    owner.check();
    for level in query.nest() {
        let fields = level.get();
        // SAFETY: a live query, whose entries refer to its own permissions.
        unsafe { pg_sys::ExecCheckPermissions(fields.rtable, fields.rteperminfos, true) };
    }
}

pub fn current_user() -> pg_sys::Oid {
    // SAFETY: this backend's own state.
    unsafe { pg_sys::GetUserId() }
}

/// The current user may act as `role`.
pub fn has_rights_of(role: pg_sys::Oid) -> bool {
    // SAFETY: a catalog look-up.
    unsafe { pg_sys::has_privs_of_role(pg_sys::GetUserId(), role) }
}

/// Raises, as the server does for commands that write, in read-only transactions, parallel mode and recovery.
pub fn require_writable(command: &str) {
    let command = cstring(command);
    // SAFETY: NUL-terminated, alive in the current context.
    unsafe {
        pg_sys::PreventCommandIfReadOnly(command);
        pg_sys::PreventCommandIfParallelMode(command);
        pg_sys::PreventCommandDuringRecovery(command);
    }
}
