//! User identity, security context and settings of a piece of work, as REFRESH MATERIALIZED VIEW changes them.

use super::node::{cstring, string};
use crate::error::cannot_happen;
use pgrx::pg_sys;
use std::ffi::{CStr, CString};
use std::marker::PhantomData;

/// The user the session acts as.
pub fn current_user() -> pg_sys::Oid {
    // SAFETY: reads a static.
    unsafe { pg_sys::GetUserId() }
}

/// The text form of a setting's current value.
pub fn setting(name: &str) -> String {
    // SAFETY: the result points to a static buffer or the setting's own string, copied at once.
    unsafe { string(pg_sys::GetConfigOption(cstring(name), false, false)) }
}

/// Raises the server's error unless a user may set the setting to this value.
pub fn check_setting(name: &str, value: &str) {
    // SAFETY: NUL-terminated strings; nothing is changed.
    unsafe {
        pg_sys::set_config_option(
            cstring(name),
            cstring(value),
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_SET,
            false,
            0,
            false,
        );
    }
}

/// The proof that [`run_as`] is in force. Whatever may evaluate an expression of a view asks for it: rewriting,
/// planning, starting the executor, folding constants, input functions of domains. Only `run_as` makes one, and lends
/// it no longer than its scope lasts.
pub struct AsOwner {
    user: pg_sys::Oid,
    /// Of this process and thread.
    _here: PhantomData<*const ()>,
}

impl AsOwner {
    /// Raises when another user has taken over inside the scope, or the restriction was lifted: nothing of the view may
    /// be evaluated then.
    pub fn check(&self) {
        let (user, context) = user_and_context();
        if user != self.user || context & pg_sys::SECURITY_RESTRICTED_OPERATION as i32 == 0 {
            cannot_happen("an expression of a view would be evaluated outside the identity of its owner")
        }
    }
}

fn user_and_context() -> (pg_sys::Oid, i32) {
    let (mut user, mut context) = (pg_sys::InvalidOid, 0);
    // SAFETY: writes two local variables.
    unsafe { pg_sys::GetUserIdAndSecContext(&mut user, &mut context) };
    (user, context)
}

/// Runs `work` as `owner` in a security-restricted operation with the restricted search path and `settings`
/// (`name=value`) in force; then puts back what was. After an error the (sub)transaction's abort puts it back.
pub fn run_as<R>(owner: pg_sys::Oid, settings: &[String], work: impl FnOnce(&AsOwner) -> R) -> R {
    let (user, context) = user_and_context();
    // SAFETY: the pairs of calls below are those of RefreshMatViewByOid.
    let level = unsafe {
        pg_sys::SetUserIdAndSecContext(owner, context | pg_sys::SECURITY_RESTRICTED_OPERATION as i32);
        pg_sys::NewGUCNestLevel()
    };
    restrict(settings);
    let result = work(&AsOwner { user: owner, _here: PhantomData });
    // SAFETY: ends the nest level opened above and restores the saved identity.
    unsafe {
        pg_sys::AtEOXact_GUC(false, level);
        pg_sys::SetUserIdAndSecContext(user, context);
    }
    result
}

fn restrict(settings: &[String]) {
    // SAFETY: inside a GUC nest level.
    unsafe { pg_sys::RestrictSearchPath() };
    for (name, value) in settings.iter().filter_map(|setting| setting.split_once('=')) {
        let name = CString::new(name).expect("setting names hold no NUL");
        let value = CString::new(value).expect("settings hold no NUL");
        set(&name, &value);
    }
}

/// Sets until the end of the nest level, unless that is the value already. Settings the server lost are ignored.
fn set(name: &CStr, value: &CStr) {
    // SAFETY: NUL-terminated names and values; a null result means an unknown setting.
    unsafe {
        let current = pg_sys::GetConfigOption(name.as_ptr(), true, false);
        if current.is_null() || CStr::from_ptr(current) == value {
            return;
        }
        pg_sys::set_config_option(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_SAVE,
            true,
            0,
            false,
        );
    }
}
