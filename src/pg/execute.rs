//! Utility statements built from values and executed as if a user had sent them: hooks, permissions and events included.

use super::names::RangeVar;
use super::node::{self, cstring, is_a};
use super::query::Query;
use super::{catalog_table::command_counter_increment, elog, list};
use crate::error::error;
use pgrx::PgSqlErrorCode;
use pgrx::pg_sys::{self, NodeTag};
use std::ffi::c_char;
use std::ptr;

/// `name=value` of a WITH or SET list.
type Options<'a> = &'a [(String, String)];

/// CREATE MATERIALIZED VIEW [IF NOT EXISTS] `name` WITH (`options`) AS `query` WITH [NO] DATA.
pub fn create_view(name: RangeVar, query: &str, options: Options, with_data: bool, if_not_exists: bool) {
    elog::of_query(query, || create(name, cstring(query), options, with_data, if_not_exists));
}

fn create(name: RangeVar, text: *const c_char, options: Options, with_data: bool, if_not_exists: bool) {
    // SAFETY: the nodes the grammar makes of such a statement.
    unsafe {
        let into: *mut pg_sys::IntoClause = node::make(NodeTag::T_IntoClause);
        (*into).rel = name.as_ptr();
        (*into).options = def_elems(options);
        (*into).skipData = !with_data;
        let stmt: *mut pg_sys::CreateTableAsStmt = node::make(NodeTag::T_CreateTableAsStmt);
        (*stmt).query = select(text).cast();
        (*stmt).into = into;
        (*stmt).objtype = pg_sys::ObjectType::OBJECT_MATVIEW;
        (*stmt).if_not_exists = if_not_exists;
        run((*analyze(stmt.cast(), text)).utilityStmt, text);
    }
}

/// The analyzed query of a text.
pub fn analyze_query(query: &str) -> Query {
    let text = cstring(query);
    // SAFETY: analysis makes a Query of a SELECT.
    elog::of_query(query, || unsafe {
        Query::from_raw(analyze(select(text).cast(), text)).expect("analysis returns a query")
    })
}

/// ALTER MATERIALIZED VIEW `name` SET (`options`).
pub fn set_options(name: RangeVar, options: Options) {
    // SAFETY: the nodes the grammar makes of such a statement.
    unsafe {
        let command: *mut pg_sys::AlterTableCmd = node::make(NodeTag::T_AlterTableCmd);
        (*command).subtype = pg_sys::AlterTableType::AT_SetRelOptions;
        (*command).def = def_elems(options).cast();
        let stmt: *mut pg_sys::AlterTableStmt = node::make(NodeTag::T_AlterTableStmt);
        (*stmt).relation = name.as_ptr();
        (*stmt).cmds = list::make([command]);
        (*stmt).objtype = pg_sys::ObjectType::OBJECT_MATVIEW;
        run(stmt.cast(), c"ALTER MATERIALIZED VIEW".as_ptr());
    }
}

/// REFRESH MATERIALIZED VIEW `name`.
pub fn refresh_view(name: RangeVar) {
    // SAFETY: the node the grammar makes of such a statement.
    unsafe {
        let stmt: *mut pg_sys::RefreshMatViewStmt = node::make(NodeTag::T_RefreshMatViewStmt);
        (*stmt).relation = name.as_ptr();
        run(stmt.cast(), c"REFRESH MATERIALIZED VIEW".as_ptr());
    }
}

/// DROP MATERIALIZED VIEW `names` [CASCADE].
pub fn drop_views(names: &[RangeVar], cascade: bool) {
    // SAFETY: the nodes the grammar makes of such a statement; a DROP names its objects as lists of strings.
    unsafe {
        let parts = |name: &RangeVar| {
            let parts = [(*name.as_ptr()).schemaname, (*name.as_ptr()).relname];
            list::make(parts.into_iter().filter(|part| !part.is_null()).map(|part| pg_sys::makeString(part)))
        };
        let stmt: *mut pg_sys::DropStmt = node::make(NodeTag::T_DropStmt);
        (*stmt).objects = list::make(names.iter().map(parts));
        (*stmt).removeType = pg_sys::ObjectType::OBJECT_MATVIEW;
        (*stmt).behavior = match cascade {
            true => pg_sys::DropBehavior::DROP_CASCADE,
            false => pg_sys::DropBehavior::DROP_RESTRICT,
        };
        run(stmt.cast(), c"DROP MATERIALIZED VIEW".as_ptr());
    }
}

/// # Safety
/// Allocates in the current context.
unsafe fn def_elems(options: Options) -> *mut pg_sys::List {
    // SAFETY: strings and nodes in the current context.
    unsafe {
        list::make(
            options
                .iter()
                .map(|(name, value)| pg_sys::makeDefElem(cstring(name), pg_sys::makeString(cstring(value)).cast(), -1)),
        )
    }
}

/// The one SELECT (or VALUES, TABLE, WITH ... SELECT) of a text.
///
/// # Safety
/// `text` is NUL-terminated.
unsafe fn select(text: *const c_char) -> *mut pg_sys::SelectStmt {
    // SAFETY: the parser returns a list of RawStmts.
    unsafe {
        let statements = pg_sys::raw_parser(text, pg_sys::RawParseMode::RAW_PARSE_DEFAULT);
        let statements: Vec<*mut pg_sys::RawStmt> = list::iter(statements).collect();
        match statements[..] {
            [raw] if is_select((*raw).stmt) => (*raw).stmt.cast(),
            _ => error(PgSqlErrorCode::ERRCODE_SYNTAX_ERROR, "query of a stream table must be one SELECT")
                .detail(format!("The text holds {}.", described(&statements)))
                .hint("Write a single SELECT, VALUES or WITH ... SELECT.")
                .raise(),
        }
    }
}

/// SELECT INTO is CREATE TABLE AS.
///
/// # Safety
/// `stmt` is a raw parse tree.
unsafe fn is_select(stmt: *mut pg_sys::Node) -> bool {
    // SAFETY: of a set operation, the leftmost SELECT has the INTO.
    unsafe {
        if !is_a(stmt, NodeTag::T_SelectStmt) {
            return false;
        }
        let mut select: *mut pg_sys::SelectStmt = stmt.cast();
        while !(*select).larg.is_null() {
            select = (*select).larg;
        }
        (*select).intoClause.is_null()
    }
}

fn described(statements: &[*mut pg_sys::RawStmt]) -> String {
    match statements {
        [] => "no statement".into(),
        [_] => "another kind of statement".into(),
        many => format!("{} statements", many.len()),
    }
}

/// # Safety
/// `stmt` is a raw parse tree, `text` its text.
unsafe fn analyze(stmt: *mut pg_sys::Node, text: *const c_char) -> *mut pg_sys::Query {
    // SAFETY: by contract.
    unsafe {
        let raw: *mut pg_sys::RawStmt = node::make(NodeTag::T_RawStmt);
        (*raw).stmt = stmt;
        pg_sys::parse_analyze_fixedparams(raw, text, ptr::null(), 0, ptr::null_mut())
    }
}

/// # Safety
/// `stmt` is an analyzed utility statement.
unsafe fn run(stmt: *mut pg_sys::Node, text: *const c_char) {
    command_counter_increment();
    // SAFETY: as _SPI_execute_plan does it.
    unsafe {
        let pstmt: *mut pg_sys::PlannedStmt = node::make(NodeTag::T_PlannedStmt);
        (*pstmt).commandType = pg_sys::CmdType::CMD_UTILITY;
        (*pstmt).canSetTag = true;
        (*pstmt).utilityStmt = stmt;
        (*pstmt).stmt_location = -1;
        pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        pg_sys::ProcessUtility(
            pstmt,
            text,
            false,
            pg_sys::ProcessUtilityContext::PROCESS_UTILITY_QUERY,
            ptr::null_mut(),
            ptr::null_mut(),
            pg_sys::CreateDestReceiver(pg_sys::CommandDest::DestNone),
            ptr::null_mut(),
        );
        pg_sys::PopActiveSnapshot();
    }
    command_counter_increment();
}
