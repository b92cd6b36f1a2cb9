//! What a view's functions depend on besides their arguments.
//!
//! IMMUTABLE functions are trusted, but for a few of the server. Its STABLE functions depend on settings (pinned with the view)
//! unless they are named here as depending on the clock, the session, or the catalogs. Other STABLE functions may read
//! tables. The results of VOLATILE functions may change by themselves. What the planner inlines is judged by the body.

use super::reason::{self, Reason};
use super::{Refusal, aggregate};
use crate::identity;
use crate::pg::facts::{self, Volatility};
use crate::pg::handle::{Any, Node};
use crate::pg::identity::AsOwner;
use crate::pg::inline;
use crate::pg::query::{self, Query};
use crate::pg::stack;
use crate::pg::walk::{self, Scope, Visit};
use pgrx::pg_sys;
use std::collections::BTreeSet;

#[derive(Default)]
pub struct Findings {
    pub refusals: Vec<Refusal>,
    /// A function or conversion whose result depends on settings.
    pub settings: bool,
    /// There are values that stand for objects, which conversions call by their names.
    objects: bool,
    /// The name of the user the query runs as is part of the result.
    pub owner: bool,
    /// Functions that are not part of the server, whose definition may be replaced.
    pub replaceable: BTreeSet<u32>,
    /// What was inlined, since it may hold the bodies of functions that the called ones call.
    pub inlined: Vec<String>,
}

/// Looks at every function, operator and conversion of a query and everything inside it.
pub fn survey(query: Query, owner: &AsOwner) -> Findings {
    let mut findings = Findings::default();
    findings.survey(query, Some(owner));
    findings.refuse_names();
    findings
}

/// Whether something in a tree depends on the clock.
pub fn reads_clock<T>(tree: Node<T>, owner: &AsOwner) -> bool {
    let mut findings = Findings::default();
    findings.survey(tree, Some(owner));
    findings.refusals.iter().any(is_about_clock)
}

pub fn is_about_clock(refusal: &Refusal) -> bool {
    refusal.code == reason::TIME_DEPENDENT_FUNCTION.code
}

/// An expression whose values may stand for objects of the catalogs. A constant always stands for the same one.
fn holds_objects(node: Any) -> bool {
    let is_source = node.is::<pg_sys::Var>()
        || node.is::<pg_sys::FuncExpr>()
        || node.is::<pg_sys::OpExpr>()
        || node.is::<pg_sys::RelabelType>()
        || node.is::<pg_sys::CoerceViaIO>()
        || node.is::<pg_sys::ArrayCoerceExpr>()
        || node.is::<pg_sys::JsonExpr>()
        || node.is::<pg_sys::Aggref>();
    is_source && facts::names_objects(query::type_of(node).typid)
}

/// `current_setting('TimeZone')`, which is the same in every refresh.
fn reads_pinned_setting(node: Any) -> bool {
    let functions = [pg_sys::F_CURRENT_SETTING_TEXT, pg_sys::F_CURRENT_SETTING_TEXT_BOOL];
    let call = node.cast::<pg_sys::FuncExpr>().filter(|call| functions.contains(&call.get().funcid.to_u32()));
    let name = call.and_then(|call| call.nodes(|call| call.args).first()?.cast().and_then(query::text_of));
    name.is_some_and(|name| identity::is_pinned_in_any_case(&name))
}

fn refusal(oid: pg_sys::Oid) -> Option<Refusal> {
    let Kind::Refused(reason) = kind_of(oid) else { return None };
    let signature = facts::function_signature(oid);
    let refusal = reason.refuse(format!("The query calls function {signature}."));
    Some(match hint(oid, reason, &signature) {
        Some(hint) => Refusal { hint: hint.into(), ..refusal },
        None => refusal,
    })
}

/// What would help, as statements to choose from.
fn hint(oid: pg_sys::Oid, reason: &Reason, signature: &str) -> Option<String> {
    let draws = [pg_sys::F_NEXTVAL, pg_sys::F_SETVAL_REGCLASS_INT8, pg_sys::F_SETVAL_REGCLASS_INT8_BOOL];
    if draws.contains(&oid.to_u32()) {
        return Some("Each refresh changes the sequence. Number the rows in queries over the view.".to_owned());
    }
    if facts::function(oid).builtin {
        return None;
    }
    let immutable = format!("if its result depends on its arguments alone: ALTER FUNCTION {signature} IMMUTABLE;");
    let stable = format!("if it reads tables, settings or the clock: ALTER FUNCTION {signature} STABLE;");
    match reason.code {
        code if code == reason::VOLATILE_FUNCTION.code => Some(format!("Say what it is, {immutable} {stable}")),
        code if code == reason::STABLE_FUNCTION.code => Some(format!("Say so {immutable}")),
        _ => None,
    }
}

impl Findings {
    /// With the owner as whom bodies of functions are looked up; without, inside a body: what could be replaced there has been.
    fn survey<T>(&mut self, tree: Node<T>, owner: Option<&AsOwner>) {
        stack::check();
        walk::walk(tree, Scope::EXPRESSIONS, &mut |node, _| {
            match owner.and_then(|owner| inline::inlined(node, owner)) {
                Some(body) => self.add_inlined(node, body),
                None if reads_pinned_setting(node) => self.settings = true,
                None => walk::functions(node).into_iter().for_each(|function| self.add(function)),
            }
            self.add_node(node);
            Visit::Into
        });
    }

    /// The function may be replaced, but otherwise its body speaks for it.
    fn add_inlined(&mut self, call: Any, body: Any) {
        self.replaceable.extend(walk::functions(call).into_iter().map(pg_sys::Oid::to_u32));
        self.inlined.push(body.text());
        self.survey(body, None);
    }

    fn add(&mut self, oid: pg_sys::Oid) {
        self.refusals.extend(refusal(oid));
        self.settings |= matches!(kind_of(oid), Kind::Settings);
        self.owner |= matches!(kind_of(oid), Kind::Owner);
        if !facts::is_builtin(oid) {
            self.replaceable.insert(oid.to_u32());
        }
    }

    /// What converts any type to text, JSON and the like, or from it, calls that type's functions, which look names up. A
    /// superset: a value of such a type need not come near.
    fn refuse_names(&mut self) {
        if self.settings && self.objects {
            let detail = "The query converts values, and has some that stand for objects (regclass, aclitem, ...).";
            self.refusals.push(reason::CATALOG_FUNCTION.refuse(detail));
        }
    }

    /// Nodes that compute something without naming a function.
    fn add_node(&mut self, node: Any) {
        self.objects |= holds_objects(node);
        if let Some(value) = node.cast::<pg_sys::SQLValueFunction>() {
            self.add_value(value.get().op);
        } else if node.is::<pg_sys::NextValueExpr>() {
            self.refusals.push(reason::VOLATILE_FUNCTION.refuse("The query draws values from a sequence."));
        } else if node.is::<pg_sys::JsonConstructorExpr>()
            || node.is::<pg_sys::JsonExpr>()
            || node.is::<pg_sys::TableFunc>()
        {
            self.settings = true;
        } else if let Some(aggref) = node.cast::<pg_sys::Aggref>() {
            aggregate::functions(aggref).into_iter().for_each(|function| self.add(function));
        }
    }

    fn add_value(&mut self, value: pg_sys::SQLValueFunctionOp::Type) {
        use pg_sys::SQLValueFunctionOp::*;
        match value {
            SVFOP_CURRENT_ROLE | SVFOP_CURRENT_USER | SVFOP_USER => self.owner = true,
            SVFOP_CURRENT_SCHEMA => self.settings = true,
            SVFOP_CURRENT_CATALOG => {
                self.refusals.push(reason::CATALOG_FUNCTION.refuse("The query uses CURRENT_CATALOG."));
            }
            SVFOP_SESSION_USER => {
                self.refusals.push(reason::SESSION_DEPENDENT_FUNCTION.refuse("The query uses SESSION_USER."));
            }
            _ => self.refusals.push(
                reason::TIME_DEPENDENT_FUNCTION
                    .refuse("The query uses the current date or time, such as CURRENT_DATE."),
            ),
        }
    }
}

enum Kind {
    Pure,
    Settings,
    Owner,
    Refused(&'static Reason),
}

fn kind_of(oid: pg_sys::Oid) -> Kind {
    let function = facts::function(oid);
    match function.volatility {
        Volatility::Immutable if function.builtin && reads_settings(oid, &function.name) => Kind::Settings,
        Volatility::Immutable => Kind::Pure,
        Volatility::Volatile => Kind::Refused(&reason::VOLATILE_FUNCTION),
        Volatility::Stable if !function.builtin => Kind::Refused(&reason::STABLE_FUNCTION),
        Volatility::Stable => kind_of_stable_builtin(oid, &function.name),
    }
}

fn kind_of_stable_builtin(oid: pg_sys::Oid, name: &str) -> Kind {
    if CLOCK.contains(&name) || CLOCK_BY_OID.contains(&oid.to_u32()) {
        Kind::Refused(&reason::TIME_DEPENDENT_FUNCTION)
    } else if SESSION.contains(&name) {
        Kind::Refused(&reason::SESSION_DEPENDENT_FUNCTION)
    } else if name == "current_user" || name == "getpgusername" {
        Kind::Owner
    } else if reads_catalogs(name) {
        Kind::Refused(&reason::CATALOG_FUNCTION)
    } else {
        Kind::Settings
    }
}

/// Of those that are marked IMMUTABLE.
fn reads_settings(oid: pg_sys::Oid, name: &str) -> bool {
    READS_SETTINGS.contains(&name) || TAKES_ZONE_BY_NAME.contains(&oid.to_u32())
}

/// An abbreviation means what TimeZone and timezone_abbreviations say.
const TAKES_ZONE_BY_NAME: &[u32] = &[
    pg_sys::F_DATE_ADD_TIMESTAMPTZ_INTERVAL_TEXT,
    pg_sys::F_DATE_SUBTRACT_TIMESTAMPTZ_INTERVAL_TEXT,
    pg_sys::F_DATE_TRUNC_TEXT_TIMESTAMPTZ_TEXT,
    pg_sys::F_GENERATE_SERIES_TIMESTAMPTZ_TIMESTAMPTZ_INTERVAL_TEXT,
    pg_sys::F_TIMEZONE_TEXT_TIMESTAMP,
    pg_sys::F_TIMEZONE_TEXT_TIMESTAMPTZ,
];

/// For bytea_output, extra_float_digits, quote_all_identifiers.
const READS_SETTINGS: &[&str] = &[
    "box_out",
    "byteaout",
    "circle_out",
    "float4out",
    "float8out",
    "line_out",
    "lseg_out",
    "path_out",
    "point_out",
    "poly_out",
    "quote_ident",
];

/// The forms of age() with two arguments are immutable.
const CLOCK: &[&str] = &[
    "age",
    "mxid_age",
    "now",
    "pg_conf_load_time",
    "pg_postmaster_start_time",
    "statement_timestamp",
    "transaction_timestamp",
];

/// A time with time zone takes its offset from the current date.
const CLOCK_BY_OID: &[u32] = &[
    pg_sys::F_TIMETZ_TIME,
    pg_sys::F_TIMEZONE_TEXT_TIMETZ,
    pg_sys::F_TIMEZONE_INTERVAL_TIMETZ,
    pg_sys::F_TIMEZONE_TIMETZ,
];

const SESSION: &[&str] = &[
    "current_schemas",
    "current_setting",
    "inet_client_addr",
    "inet_client_port",
    "inet_server_addr",
    "inet_server_port",
    "pg_backend_pid",
    "pg_client_encoding",
    "pg_current_snapshot",
    "pg_current_xact_id",
    "pg_current_xact_id_if_assigned",
    "pg_cursor",
    "pg_is_other_temp_schema",
    "pg_listening_channels",
    "pg_my_temp_schema",
    "pg_prepared_statement",
    "pg_settings_get_flags",
    "pg_show_all_settings",
    "pg_trigger_depth",
    "row_security_active",
    "session_user",
    "system_user",
    "txid_current",
    "txid_current_if_assigned",
    "txid_current_snapshot",
    "version",
];

/// Server functions called pg_.. look at the state of the server, except these.
const LOOKS_AT_ARGUMENTS_ONLY: &[&str] = &["pg_char_to_encoding", "pg_encoding_to_char", "pg_typeof"];

const CATALOGS: &[&str] = &[
    "aclexplode",
    "aclitemin",
    "aclitemout",
    "col_description",
    "current_database",
    "enum_first",
    "enum_last",
    "enum_range",
    "format_type",
    "obj_description",
    "oidvectortypes",
    "regclass",
    "shobj_description",
];

fn reads_catalogs(name: &str) -> bool {
    let state = name.starts_with("pg_") && !LOOKS_AT_ARGUMENTS_ONLY.contains(&name);
    let privilege = name.starts_with("has_") && name.ends_with("_privilege");
    let object_name =
        name.starts_with("to_reg") || (name.starts_with("reg") && (name.ends_with("in") || name.ends_with("out")));
    let whole_table = name.contains("_to_xml");
    state || privilege || object_name || whole_table || CATALOGS.contains(&name)
}
