//! Read-only views of the utility statements we look at, and changed copies of them.

use super::explain::Explain;
use super::list;
use super::names::RangeVar;
use super::node::{is_a, string};
use super::utility::Call;
use pgrx::pg_sys::{self, NodeTag};
use std::ffi::{CStr, c_char};
use std::ptr;

/// One `name[=value]` of a WITH, SET or RESET list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawOption {
    pub namespace: Option<String>,
    pub name: String,
    pub value: Option<String>,
}

/// # Safety
/// `def` is a live DefElem.
unsafe fn raw_option(def: *mut pg_sys::DefElem) -> RawOption {
    // SAFETY: names are NUL-terminated strings; defGetString copies or points into the tree.
    unsafe {
        RawOption {
            namespace: (!(*def).defnamespace.is_null()).then(|| string((*def).defnamespace)),
            name: string((*def).defname),
            value: (!(*def).arg.is_null()).then(|| string(pg_sys::defGetString(def))),
        }
    }
}

/// # Safety
/// `options` is a list of DefElem.
unsafe fn raw_options(options: *mut pg_sys::List) -> Vec<RawOption> {
    // SAFETY: by contract.
    unsafe { list::iter(options).map(|def| raw_option(def)).collect() }
}

/// The list without the options `drop` names.
///
/// # Safety
/// `options` is a list of DefElem.
unsafe fn without(options: *mut pg_sys::List, drop: fn(&RawOption) -> bool) -> *mut pg_sys::List {
    // SAFETY: by contract; the new list shares the elements.
    unsafe { list::make(list::iter::<pg_sys::DefElem>(options).filter(|def| !drop(&raw_option(*def)))) }
}

/// A shallow copy of a node in the current context.
///
/// # Safety
/// `node` is a live node of type `T`.
unsafe fn shallow<T>(node: *const T) -> *mut T {
    // SAFETY: by contract.
    unsafe {
        let copy: *mut T = pg_sys::palloc(size_of::<T>()).cast();
        ptr::copy_nonoverlapping(node, copy, 1);
        copy
    }
}

/// CREATE MATERIALIZED VIEW.
#[derive(Clone, Copy)]
pub struct CreateView {
    call: Call,
    stmt: *mut pg_sys::CreateTableAsStmt,
    into: *mut pg_sys::IntoClause,
}

impl CreateView {
    pub fn of(call: &Call) -> Option<Self> {
        let stmt: *mut pg_sys::CreateTableAsStmt = call.tree();
        // SAFETY: the tag says what the tree is.
        unsafe {
            let ours =
                is_a(stmt, NodeTag::T_CreateTableAsStmt) && (*stmt).objtype == pg_sys::ObjectType::OBJECT_MATVIEW;
            ours.then(|| Self { call: *call, stmt, into: (*stmt).into })
        }
    }

    pub fn options(&self) -> Vec<RawOption> {
        // SAFETY: the statement is alive while it executes.
        unsafe { raw_options((*self.into).options) }
    }

    pub fn relation(&self) -> RangeVar {
        // SAFETY: every CREATE names its relation.
        unsafe { RangeVar::new((*self.into).rel) }
    }

    pub fn with_data(&self) -> bool {
        // SAFETY: as above.
        unsafe { !(*self.into).skipData }
    }

    /// The same statement without some options and, if asked, WITH NO DATA.
    pub fn stripped(&self, drop: fn(&RawOption) -> bool, no_data: bool) -> Call {
        // SAFETY: copies of live nodes; the server copies deeper if it must not scribble.
        unsafe {
            let stmt = shallow(self.stmt);
            let into = shallow(self.into);
            (*into).options = without((*into).options, drop);
            (*into).skipData |= no_data;
            (*stmt).into = into;
            self.call.with_tree(stmt.cast())
        }
    }
}

/// ALTER TABLE or ALTER MATERIALIZED VIEW.
#[derive(Clone, Copy)]
pub struct AlterRelation {
    call: Call,
    stmt: *mut pg_sys::AlterTableStmt,
}

/// A SET or RESET among the commands of an ALTER.
pub enum OptionChange {
    Set(Vec<RawOption>),
    Reset(Vec<RawOption>),
}

impl AlterRelation {
    pub fn of(call: &Call) -> Option<Self> {
        let stmt: *mut pg_sys::AlterTableStmt = call.tree();
        // SAFETY: every node has a tag.
        unsafe { is_a(stmt, NodeTag::T_AlterTableStmt).then_some(Self { call: *call, stmt }) }
    }

    pub fn relation(&self) -> RangeVar {
        // SAFETY: every ALTER names its relation.
        unsafe { RangeVar::new((*self.stmt).relation) }
    }

    fn commands(&self) -> impl Iterator<Item = *mut pg_sys::AlterTableCmd> {
        // SAFETY: the statement's list of commands.
        unsafe { list::iter((*self.stmt).cmds) }
    }

    /// The other tables an ATTACH, DETACH, INHERIT or NO INHERIT names.
    pub fn relatives(&self) -> Vec<RangeVar> {
        // SAFETY: the type of `def` follows from the kind of command.
        let relative = |command: *mut pg_sys::AlterTableCmd| unsafe {
            let def = (*command).def;
            match (*command).subtype {
                _ if is_a(def, NodeTag::T_PartitionCmd) => Some((*def.cast::<pg_sys::PartitionCmd>()).name),
                _ if is_a(def, NodeTag::T_RangeVar) => Some(def.cast()),
                _ => None,
            }
        };
        // SAFETY: names of the statement.
        self.commands()
            .filter_map(relative)
            .filter(|name| !name.is_null())
            .map(|name| unsafe { RangeVar::new(name) })
            .collect()
    }

    /// DETACH PARTITION ... CONCURRENTLY, which commits on the way.
    pub fn detaches_concurrently(&self) -> bool {
        // SAFETY: as in `relatives`.
        self.commands().any(|command| unsafe {
            let def = (*command).def;
            (*command).subtype == pg_sys::AlterTableType::AT_DetachPartition
                && is_a(def, NodeTag::T_PartitionCmd)
                && (*def.cast::<pg_sys::PartitionCmd>()).concurrent
        })
    }

    /// The table that DETACH PARTITION, in one transaction, or NO INHERIT takes from its parent, as the statement's only command.
    pub fn leaving(&self) -> Option<RangeVar> {
        // SAFETY: the type of `def` follows from the kind of command; the names are the statement's.
        unsafe {
            let mut commands = self.commands();
            let (Some(command), None) = (commands.next(), commands.next()) else { return None };
            match (*command).subtype {
                pg_sys::AlterTableType::AT_DropInherit => Some(self.relation()),
                pg_sys::AlterTableType::AT_DetachPartition if !self.detaches_concurrently() => {
                    Some(RangeVar::new((*(*command).def.cast::<pg_sys::PartitionCmd>()).name))
                }
                _ => None,
            }
        }
    }

    /// OWNER TO
    pub fn changes_owner(&self) -> bool {
        // SAFETY: live commands.
        self.commands().any(|command| unsafe { (*command).subtype } == pg_sys::AlterTableType::AT_ChangeOwner)
    }

    /// Every SET and RESET of storage parameters, in order.
    pub fn option_changes(&self) -> Vec<OptionChange> {
        // SAFETY: `def` of these commands is a list of DefElem.
        let options = |command: *mut pg_sys::AlterTableCmd| unsafe { raw_options((*command).def.cast()) };
        // SAFETY: live commands.
        let change = |command: *mut pg_sys::AlterTableCmd| match unsafe { (*command).subtype } {
            pg_sys::AlterTableType::AT_SetRelOptions => Some(OptionChange::Set(options(command))),
            pg_sys::AlterTableType::AT_ResetRelOptions => Some(OptionChange::Reset(options(command))),
            _ => None,
        };
        self.commands().filter_map(change).collect()
    }

    /// The same statement without some options; commands left empty go too.
    pub fn stripped(&self, drop: fn(&RawOption) -> bool) -> Call {
        // SAFETY: copies of live nodes.
        unsafe {
            let stmt = shallow(self.stmt);
            (*stmt).cmds = list::make(self.commands().filter_map(|command| strip_command(command, drop)));
            self.call.with_tree(stmt.cast())
        }
    }

    /// The lock the statement takes.
    pub fn lock_level(&self) -> u32 {
        // SAFETY: reads the commands.
        unsafe { pg_sys::AlterTableGetLockLevel((*self.stmt).cmds) as u32 }
    }
}

/// # Safety
/// `command` is live.
unsafe fn strip_command(
    command: *mut pg_sys::AlterTableCmd,
    drop: fn(&RawOption) -> bool,
) -> Option<*mut pg_sys::AlterTableCmd> {
    // SAFETY: `def` of these commands is a list of DefElem.
    unsafe {
        match (*command).subtype {
            pg_sys::AlterTableType::AT_SetRelOptions | pg_sys::AlterTableType::AT_ResetRelOptions => {
                let left = without((*command).def.cast(), drop);
                let copy = shallow(command);
                (*copy).def = left.cast();
                (!left.is_null()).then_some(copy)
            }
            _ => Some(command),
        }
    }
}

/// REFRESH MATERIALIZED VIEW.
#[derive(Clone, Copy)]
pub struct Refresh {
    stmt: *mut pg_sys::RefreshMatViewStmt,
}

impl Refresh {
    pub fn of(call: &Call) -> Option<Self> {
        Self::from_node(call.tree())
    }

    fn from_node(stmt: *mut pg_sys::RefreshMatViewStmt) -> Option<Self> {
        // SAFETY: every node has a tag.
        unsafe { is_a(stmt, NodeTag::T_RefreshMatViewStmt).then_some(Self { stmt }) }
    }

    pub fn relation(&self) -> RangeVar {
        // SAFETY: every REFRESH names its relation.
        unsafe { RangeVar::new((*self.stmt).relation) }
    }

    pub fn concurrently(&self) -> bool {
        // SAFETY: a live statement.
        unsafe { (*self.stmt).concurrent }
    }

    pub fn no_data(&self) -> bool {
        // SAFETY: a live statement.
        unsafe { (*self.stmt).skipData }
    }
}

/// EXPLAIN of a REFRESH.
#[derive(Clone, Copy)]
pub struct ExplainRefresh {
    call: Call,
    pub refresh: Refresh,
}

impl ExplainRefresh {
    pub fn of(call: &Call) -> Option<Self> {
        let stmt: *mut pg_sys::ExplainStmt = call.tree();
        // SAFETY: parse analysis has made the explained statement a Query.
        unsafe {
            if !is_a(stmt, NodeTag::T_ExplainStmt) || !is_a((*stmt).query, NodeTag::T_Query) {
                return None;
            }
            let query: *mut pg_sys::Query = (*stmt).query.cast();
            let refresh = Refresh::from_node((*query).utilityStmt.cast())?;
            Some(Self { call: *call, refresh })
        }
    }

    /// EXPLAIN ANALYZE: the refresh is done.
    pub fn analyzes(&self) -> bool {
        let stmt: *mut pg_sys::ExplainStmt = self.call.tree();
        // SAFETY: options of EXPLAIN are DefElems; the last one counts.
        unsafe {
            let options = list::iter::<pg_sys::DefElem>((*stmt).options);
            let analyze = options.filter(|option| string((**option).defname) == "analyze").last();
            analyze.is_some_and(|option| pg_sys::defGetBoolean(option))
        }
    }

    /// Sends what `explain` prints, with the statement's options, to the client.
    pub fn answer(&self, explain: impl FnOnce(Explain)) {
        let stmt: *mut pg_sys::ExplainStmt = self.call.tree();
        // SAFETY: the sequence of ExplainQuery, with the parse state that ProcessUtility prepares for it.
        unsafe {
            let pstate = pg_sys::make_parsestate(ptr::null_mut());
            (*pstate).p_sourcetext = self.call.query_string;
            let state = pg_sys::NewExplainState();
            pg_sys::ParseExplainOptionList(state, (*stmt).options, pstate);
            pg_sys::free_parsestate(pstate);
            let output = Explain::of(state);
            explain(output);
            output.send(stmt, self.call.dest);
        }
    }
}

/// DROP EXTENSION `name`, among others perhaps.
pub fn drops_extension(call: &Call, name: &str) -> bool {
    let stmt: *mut pg_sys::DropStmt = call.tree();
    // SAFETY: objects of DROP EXTENSION are String nodes.
    unsafe {
        is_a(stmt, NodeTag::T_DropStmt)
            && (*stmt).removeType == pg_sys::ObjectType::OBJECT_EXTENSION
            && list::iter::<pg_sys::String>((*stmt).objects).any(|object| string((*object).sval) == name)
    }
}

/// The tables of DROP TABLE.
pub fn dropped_tables(call: &Call) -> Vec<RangeVar> {
    let stmt: *mut pg_sys::DropStmt = call.tree();
    // SAFETY: objects of DROP TABLE are lists of strings; the names live in the current context.
    unsafe {
        if !is_a(stmt, NodeTag::T_DropStmt) || (*stmt).removeType != pg_sys::ObjectType::OBJECT_TABLE {
            return Vec::new();
        }
        let names = list::iter::<pg_sys::List>((*stmt).objects);
        names.map(|name| RangeVar::new(pg_sys::makeRangeVarFromNameList(name))).collect()
    }
}

/// ALTER EXTENSION `name` UPDATE.
pub fn updates_extension(call: &Call, name: &str) -> bool {
    let stmt: *mut pg_sys::AlterExtensionStmt = call.tree();
    // SAFETY: the statement names an extension.
    unsafe { is_a(stmt, NodeTag::T_AlterExtensionStmt) && string((*stmt).extname) == name }
}

/// The roles of DROP OWNED BY.
pub fn drop_owned_roles(call: &Call) -> Vec<pg_sys::Oid> {
    let stmt: *mut pg_sys::DropOwnedStmt = call.tree();
    // SAFETY: the list holds RoleSpecs.
    unsafe {
        if !is_a(stmt, NodeTag::T_DropOwnedStmt) {
            return Vec::new();
        }
        list::iter::<pg_sys::RoleSpec>((*stmt).roles).map(|role| pg_sys::get_rolespec_oid(role, false)).collect()
    }
}

/// The table a CREATE [FOREIGN] TABLE makes.
pub fn created_table(call: &Call) -> Option<RangeVar> {
    let stmt: *mut pg_sys::CreateStmt = call.tree();
    // SAFETY: a CreateForeignTableStmt begins with a CreateStmt; both name their table.
    unsafe {
        let creates = is_a(stmt, NodeTag::T_CreateStmt) || is_a(stmt, NodeTag::T_CreateForeignTableStmt);
        creates.then(|| RangeVar::new((*stmt).relation))
    }
}

/// The table a CREATE INDEX is on.
pub fn indexed_table(call: &Call) -> Option<RangeVar> {
    let stmt: *mut pg_sys::IndexStmt = call.tree();
    // SAFETY: every CREATE INDEX names its table.
    unsafe { is_a(stmt, NodeTag::T_IndexStmt).then(|| RangeVar::new((*stmt).relation)) }
}

/// The table a CREATE POLICY is on.
pub fn policy_table(call: &Call) -> Option<RangeVar> {
    let stmt: *mut pg_sys::CreatePolicyStmt = call.tree();
    // SAFETY: every CREATE POLICY names its table.
    unsafe { is_a(stmt, NodeTag::T_CreatePolicyStmt).then(|| RangeVar::new((*stmt).table)) }
}

/// The relation of a RENAME COLUMN.
pub fn renamed_column_of(call: &Call) -> Option<RangeVar> {
    let stmt: *mut pg_sys::RenameStmt = call.tree();
    // SAFETY: RENAME COLUMN names its relation.
    unsafe {
        let column = is_a(stmt, NodeTag::T_RenameStmt) && (*stmt).renameType == pg_sys::ObjectType::OBJECT_COLUMN;
        (column && !(*stmt).relation.is_null()).then(|| RangeVar::new((*stmt).relation))
    }
}

/// ALTER ROLE ... RENAME, or REASSIGN OWNED.
pub fn is_about_owners(call: &Call) -> bool {
    let stmt: *mut pg_sys::RenameStmt = call.tree();
    // SAFETY: looks at the tag first.
    let renames = unsafe { is_a(stmt, NodeTag::T_RenameStmt) && (*stmt).renameType == pg_sys::ObjectType::OBJECT_ROLE };
    renames || call.tag() == NodeTag::T_ReassignOwnedStmt
}

/// The role with another name, or with more objects than before, after such a statement.
pub fn owner_to_be(call: &Call) -> pg_sys::Oid {
    let rename: *mut pg_sys::RenameStmt = call.tree();
    let reassign: *mut pg_sys::ReassignOwnedStmt = call.tree();
    // SAFETY: one of the two, as its tag says; both name the role.
    unsafe {
        if is_a(rename, NodeTag::T_RenameStmt) {
            pg_sys::get_role_oid((*rename).newname, false)
        } else {
            pg_sys::get_rolespec_oid((*reassign).newrole, false)
        }
    }
}

/// The view of CREATE OR REPLACE VIEW.
pub fn replaced_view(call: &Call) -> Option<RangeVar> {
    let stmt: *mut pg_sys::ViewStmt = call.tree();
    // SAFETY: every CREATE VIEW names its view.
    unsafe { (is_a(stmt, NodeTag::T_ViewStmt) && (*stmt).replace).then(|| RangeVar::new((*stmt).view)) }
}

/// COMMIT PREPARED.
pub fn commits_prepared(call: &Call) -> bool {
    let stmt: *mut pg_sys::TransactionStmt = call.tree();
    // SAFETY: looks at the tag first.
    unsafe {
        is_a(stmt, NodeTag::T_TransactionStmt)
            && (*stmt).kind == pg_sys::TransactionStmtKind::TRANS_STMT_COMMIT_PREPARED
    }
}

/// A statement that may need a database without sessions.
pub fn is_about_databases(call: &Call) -> bool {
    match call.tag() {
        NodeTag::T_CreatedbStmt | NodeTag::T_DropdbStmt | NodeTag::T_AlterDatabaseStmt => true,
        // SAFETY: the tag says what it is.
        NodeTag::T_RenameStmt => unsafe {
            (*call.tree::<pg_sys::RenameStmt>()).renameType == pg_sys::ObjectType::OBJECT_DATABASE
        },
        _ => false,
    }
}

/// ALTER DATABASE or ALTER ROLE .. SET or RESET of this parameter, and the database it is about; None: of every database.
pub fn sets_for_database(call: &Call, parameter: &CStr) -> Option<Option<pg_sys::Oid>> {
    // SAFETY: the tags say what the trees are; names are NUL-terminated, a missing one is null.
    unsafe {
        let (database, set) = match call.tag() {
            NodeTag::T_AlterDatabaseSetStmt => {
                let stmt: *mut pg_sys::AlterDatabaseSetStmt = call.tree();
                ((*stmt).dbname, (*stmt).setstmt)
            }
            NodeTag::T_AlterRoleSetStmt => {
                let stmt: *mut pg_sys::AlterRoleSetStmt = call.tree();
                ((*stmt).database, (*stmt).setstmt)
            }
            _ => return None,
        };
        let all = (*set).kind == pg_sys::VariableSetKind::VAR_RESET_ALL;
        let it = |name: *mut c_char| {
            !name.is_null() && CStr::from_ptr(name).to_bytes().eq_ignore_ascii_case(parameter.to_bytes())
        };
        let oid = (!database.is_null()).then(|| pg_sys::get_database_oid(database, true));
        (all || it((*set).name)).then_some(oid)
    }
}

pub fn creates_database(call: &Call) -> bool {
    call.tag() == NodeTag::T_CreatedbStmt
}

/// The databases that DROP, RENAME, SET TABLESPACE and CREATE .. TEMPLATE need without sessions, as far as they exist.
pub fn databases_to_leave(call: &Call) -> Vec<pg_sys::Oid> {
    const DEFAULT: &CStr = c"template1";
    // SAFETY: the tags say what the trees are; names are NUL-terminated.
    unsafe {
        let option = |options, name: &str| {
            let found = list::iter::<pg_sys::DefElem>(options).find(|def| string((**def).defname) == name);
            found.map(|def| pg_sys::defGetString(def))
        };
        let name = match call.tag() {
            NodeTag::T_DropdbStmt => Some((*call.tree::<pg_sys::DropdbStmt>()).dbname.cast_const()),
            NodeTag::T_RenameStmt if is_about_databases(call) => {
                Some((*call.tree::<pg_sys::RenameStmt>()).subname.cast_const())
            }
            NodeTag::T_AlterDatabaseStmt => {
                let stmt: *mut pg_sys::AlterDatabaseStmt = call.tree();
                option((*stmt).options, "tablespace").map(|_| (*stmt).dbname.cast_const())
            }
            NodeTag::T_CreatedbStmt => {
                let stmt: *mut pg_sys::CreatedbStmt = call.tree();
                Some(option((*stmt).options, "template").map_or(DEFAULT.as_ptr(), <*mut c_char>::cast_const))
            }
            _ => None,
        };
        let oid = name.map(|name| pg_sys::get_database_oid(name, true));
        oid.into_iter().filter(|oid| *oid != pg_sys::InvalidOid).collect()
    }
}
