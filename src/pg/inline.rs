//! Calls of functions written in SQL, replaced by the functions' bodies, as the planner does it (`inline_function`), but without
//! evaluating anything: the planner folds constants on the way, and so calls functions of users.
//!
//! Even parsing a body can call them: the input function of an array, a range or a row checks the constraints of a domain inside. So
//! while a body is looked at, no function may be called but those of the server.

use super::handle::{Any, Node, to_list};
use super::identity::AsOwner;
use super::walk::{self, Scope, Visit};
use super::{facts, list, query, server, stack, xact};
use crate::error::error;
use pgrx::{PgSqlErrorCode, pg_guard, pg_sys};
use std::cell::Cell;
use std::ptr::null_mut;

/// What the planner puts in the place of a call, or an operator, of a function written in SQL, if it does: the body of the
/// function with the arguments in it, in which the same was done. Functions marked IMMUTABLE stay as they are. None as well for a
/// body that means nothing now: while a dump is restored what it mentions may still be missing. Who runs the query is told.
pub fn inlined(call: Any, owner: &AsOwner) -> Option<Any> {
    owner.check();
    if !Call::of(call)?.is_candidate() {
        return None;
    }
    let work = || uncalled(|| Inliner { active: vec![] }.call(call));
    match xact::attempt(is_about_a_body, work).ok()? {
        Outcome::Body(body) => Some(body),
        Outcome::Kept(_) | Outcome::Other => None,
    }
}

/// Of SQLSTATEs as the server packs them: the class is in the lower bits.
fn is_about_a_body(sqlstate: i32) -> bool {
    let classes = [
        PgSqlErrorCode::ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION,
        PgSqlErrorCode::ERRCODE_DATA_EXCEPTION,
        PgSqlErrorCode::ERRCODE_INVALID_SCHEMA_NAME,
        PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
        PgSqlErrorCode::ERRCODE_SQL_ROUTINE_EXCEPTION,
    ];
    classes.into_iter().any(|class| class as i32 & 0xFFF == sqlstate & 0xFFF)
}

/// A FuncExpr or an OpExpr.
struct Call {
    node: Any,
    function: pg_sys::Oid,
    result: pg_sys::Oid,
    collation: pg_sys::Oid,
    input_collation: pg_sys::Oid,
    variadic: bool,
    arguments: Vec<Any>,
}

impl Call {
    fn of(node: Any) -> Option<Self> {
        if let Some(call) = node.cast::<pg_sys::FuncExpr>() {
            let (expr, arguments) = (call.get(), call.nodes(|call| call.args));
            return Some(Self {
                node,
                function: expr.funcid,
                result: expr.funcresulttype,
                collation: expr.funccollid,
                input_collation: expr.inputcollid,
                variadic: expr.funcvariadic,
                arguments,
            });
        }
        let operator = node.cast::<pg_sys::OpExpr>()?;
        let (expr, arguments) = (operator.get(), operator.nodes(|operator| operator.args));
        Some(Self {
            node,
            function: *walk::functions(node).first()?,
            result: expr.opresulttype,
            collation: expr.opcollid,
            input_collation: expr.inputcollid,
            variadic: false,
            arguments,
        })
    }

    fn is_candidate(&self) -> bool {
        let function = facts::function(self.function);
        function.sql && !function.builtin && function.volatility != facts::Volatility::Immutable
    }

    /// The same call with other arguments, as many as it has.
    fn with(&self, arguments: &[Any]) -> Any {
        let copy = self.node.copy();
        if let Some(call) = copy.cast::<pg_sys::FuncExpr>() {
            call.set(|call| call.args = to_list(arguments));
        } else if let Some(operator) = copy.cast::<pg_sys::OpExpr>() {
            operator.set(|operator| operator.args = to_list(arguments));
        }
        copy
    }
}

enum Outcome {
    /// What stands in the place of the call.
    Body(Any),
    /// The call stays; its arguments have been looked into.
    Kept(Any),
    /// No call of such a function.
    Other,
}

struct Inliner {
    /// The functions whose bodies surround what is looked at.
    active: Vec<pg_sys::Oid>,
}

impl Inliner {
    fn inside(&mut self, tree: Any) -> Any {
        walk::mutate(tree, &mut |node, _| match self.call(node) {
            Outcome::Body(node) | Outcome::Kept(node) => Some(node),
            Outcome::Other => None,
        })
    }

    fn call(&mut self, node: Any) -> Outcome {
        stack::check();
        let Some(mut call) = Call::of(node).filter(Call::is_candidate) else { return Outcome::Other };
        call.arguments = call.arguments.iter().map(|argument| self.inside(*argument)).collect();
        let kept = call.with(&call.arguments);
        if self.active.contains(&call.function) {
            return Outcome::Kept(kept);
        }
        // SAFETY: the call's parts are alive.
        let Some(body) = (unsafe { body(&mut call) }) else { return Outcome::Kept(kept) };
        self.active.push(call.function);
        let body = self.inside(body);
        self.active.pop();
        Outcome::Body(body)
    }
}

/// The tests and the substitution of `inline_function`.
///
/// # Safety
/// What `call` holds is alive.
unsafe fn body(call: &mut Call) -> Option<Any> {
    let cache = pg_sys::SysCacheIdentifier::PROCOID as i32;
    // SAFETY: the row is held while it is read; if anything raises, the subtransaction around us releases it.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(cache, call.function.into());
        if tuple.is_null() {
            return None;
        }
        let body = body_of(call, tuple);
        pg_sys::ReleaseSysCache(tuple);
        body
    }
}

/// # Safety
/// `tuple` is the function's row in pg_proc; what `call` holds is alive.
unsafe fn body_of(call: &mut Call, tuple: pg_sys::HeapTuple) -> Option<Any> {
    // SAFETY: by contract; lists and nodes are made in the current context.
    unsafe {
        let form = &*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_proc>();
        let settings = pg_sys::Anum_pg_proc_proconfig as i32;
        let execute = pg_sys::ACL_EXECUTE as pg_sys::AclMode;
        let allowed = pg_sys::object_aclcheck(pg_sys::ProcedureRelationId, call.function, pg_sys::GetUserId(), execute);
        if form.prokind as u8 != pg_sys::PROKIND_FUNCTION
            || form.prosecdef
            || form.proretset
            || form.prorettype == pg_sys::RECORDOID
            || !pg_sys::heap_attisnull(tuple, settings, null_mut())
            || allowed != pg_sys::AclResult::ACLCHECK_OK
        {
            return None;
        }
        // Named arguments into their places, and defaults.
        let list = pg_sys::expand_function_arguments(to_list(&call.arguments), false, call.result, tuple);
        call.arguments = list::iter::<pg_sys::Node>(list).filter_map(|argument| Node::from_raw(argument)).collect();
        if usize::from(form.pronargs as u16) != call.arguments.len() {
            return None;
        }
        let template = template(call, tuple, form.prokind)?;
        let raw = template.as_ptr();
        let mutable = match form.provolatile as u8 {
            b'i' => pg_sys::contain_mutable_functions(raw),
            b's' => pg_sys::contain_volatile_functions(raw),
            _ => false,
        };
        if mutable
            || form.proisstrict && pg_sys::contain_nonstrict_functions(raw)
            || call.arguments.iter().any(|argument| depends_on_context(*argument))
        {
            return None;
        }
        let (body, uses) = substituted(template, &call.arguments);
        let fits = |(argument, uses): (&Any, &u32)| match uses {
            0 => !form.proisstrict,
            1 => true,
            _ => is_cheap(*argument),
        };
        if !call.arguments.iter().zip(&uses).all(fits) {
            return None;
        }
        Some(collated(body, call.collation))
    }
}

/// The expression that the function returns, over its parameters; None if it is not made of one.
///
/// # Safety
/// As `body_of`.
unsafe fn template(call: &Call, tuple: pg_sys::HeapTuple, kind: std::ffi::c_char) -> Option<Any> {
    // SAFETY: by contract; nothing here has a destructor while the server is called through `guarded`.
    unsafe {
        let expression = Node::<pg_sys::FuncExpr>::make();
        expression.set(|expression| {
            expression.funcid = call.function;
            expression.funcresulttype = call.result;
            expression.funcvariadic = call.variadic;
            expression.funccollid = call.collation;
            expression.inputcollid = call.input_collation;
            expression.args = to_list(&call.arguments);
            expression.location = -1;
        });
        let expression: *mut pg_sys::Node = expression.as_ptr().cast();
        let query = parsed(tuple, expression, call.input_collation)?;
        if !is_one_expression(query) {
            return None;
        }
        let mut row_type = null_mut();
        pg_sys::get_expr_result_type(expression, null_mut(), &mut row_type);
        let queries = list::make([query]);
        let (result, lists) = (call.result, list::make([queries]));
        // Raises unless the function returns what it says, as it would when it is called; adds a conversion if one is needed.
        if server::guarded(|| server::check_sql_fn_retval(lists, result, row_type, kind, false))
            || list::iter::<pg_sys::Query>(queries).next() != Some(query)
        {
            return None;
        }
        let target = list::iter::<pg_sys::TargetEntry>((*query).targetList).next()?;
        let template: Any = Node::from_raw((*target).expr.cast())?;
        (pg_sys::exprType(template.as_ptr()) == call.result).then_some(template)
    }
}

/// # Safety
/// As `body_of`; `call` is a FuncExpr.
unsafe fn parsed(
    tuple: pg_sys::HeapTuple,
    call: *mut pg_sys::Node,
    collation: pg_sys::Oid,
) -> Option<*mut pg_sys::Query> {
    let cache = pg_sys::SysCacheIdentifier::PROCOID as i32;
    // SAFETY: by contract; both columns are stored as text.
    unsafe {
        let mut none = false;
        let body = pg_sys::SysCacheGetAttr(cache, tuple, pg_sys::Anum_pg_proc_prosqlbody as i16, &mut none);
        if !none {
            let node: *mut pg_sys::Node = pg_sys::stringToNode(pg_sys::text_to_cstring(body.cast_mut_ptr())).cast();
            let queries: Vec<*mut pg_sys::Query> = match (*node).type_ {
                pg_sys::NodeTag::T_List => {
                    list::iter(list::iter::<pg_sys::List>(node.cast()).next().unwrap_or(null_mut())).collect()
                }
                _ => vec![node.cast()],
            };
            return <[_; 1]>::try_from(queries).ok().map(|[query]| query);
        }
        let source = pg_sys::SysCacheGetAttrNotNull(cache, tuple, pg_sys::Anum_pg_proc_prosrc as i16);
        let source = pg_sys::text_to_cstring(source.cast_mut_ptr());
        let info = server::guarded(|| server::prepare_sql_fn_parse_info(tuple, call, collation));
        let statements: Vec<*mut pg_sys::RawStmt> = list::iter(pg_sys::pg_parse_query(source)).collect();
        let [statement] = <[_; 1]>::try_from(statements).ok()?;
        let state = pg_sys::make_parsestate(null_mut());
        (*state).p_sourcetext = source;
        server::guarded(|| server::sql_fn_parser_setup(state, info));
        let query = pg_sys::transformTopLevelStmt(state, statement);
        pg_sys::free_parsestate(state);
        Some(query)
    }
}

/// `SELECT expression` and nothing else.
///
/// # Safety
/// `query` is the result of parse analysis.
unsafe fn is_one_expression(query: *mut pg_sys::Query) -> bool {
    // SAFETY: by contract; a SELECT has a join tree.
    unsafe {
        if (*query).type_ != pg_sys::NodeTag::T_Query || (*query).commandType != pg_sys::CmdType::CMD_SELECT {
            return false;
        }
        let query = &*query;
        let lists = [
            query.cteList,
            query.rtable,
            (*query.jointree).fromlist,
            query.groupClause,
            query.groupingSets,
            query.windowClause,
            query.distinctClause,
            query.sortClause,
        ];
        let nodes =
            [(*query.jointree).quals, query.havingQual, query.limitOffset, query.limitCount, query.setOperations];
        !(query.hasAggs || query.hasWindowFuncs || query.hasTargetSRFs || query.hasSubLinks)
            && lists.iter().all(|list| list.is_null())
            && nodes.iter().all(|node| node.is_null())
            && !query.targetList.is_null()
            && (*query.targetList).length == 1
    }
}

/// The arguments in the place of the parameters, and how often each stands there.
fn substituted(template: Any, arguments: &[Any]) -> (Any, Vec<u32>) {
    let mut uses = vec![0; arguments.len()];
    let body = walk::mutate(template, &mut |node, _| {
        let parameter = node.cast::<pg_sys::Param>()?.get();
        let place = usize::try_from(parameter.paramid - 1).ok()?;
        let argument = arguments.get(place)?;
        uses[place] += 1;
        Some(argument.copy())
    });
    (body, uses)
}

/// It may be evaluated more than once.
fn is_cheap(argument: Any) -> bool {
    // SAFETY: a live expression; costs are looked up, nothing is evaluated.
    unsafe {
        if pg_sys::contain_subplans(argument.as_ptr()) {
            return false;
        }
        let mut cost = pg_sys::QualCost::default();
        // What the planner will have computed by then costs nothing.
        let rest = walk::mutate(argument, &mut |node, _| is_constant(node).then(|| query::null(query::type_of(node))));
        pg_sys::cost_qual_eval(&mut cost, to_list(&[rest]), null_mut());
        cost.startup + cost.per_tuple <= 10.0 * pg_sys::cpu_operator_cost
            && !pg_sys::contain_volatile_functions(argument.as_ptr())
    }
}

/// The planner folds it.
fn is_constant(expression: Any) -> bool {
    let is_call = expression.is::<pg_sys::FuncExpr>() || expression.is::<pg_sys::OpExpr>();
    let varies = |node: Any, _| {
        node.is::<pg_sys::Var>()
            || node.is::<pg_sys::Param>()
            || node.is::<pg_sys::CaseTestExpr>()
            || node.is::<pg_sys::Aggref>()
            || node.is::<pg_sys::WindowFunc>()
            || node.is::<pg_sys::GroupingFunc>()
            || node.is::<pg_sys::Query>()
    };
    is_call
        && !walk::any(expression, Scope::EXPRESSIONS, varies)
        // SAFETY: a live expression.
        && unsafe { !pg_sys::contain_mutable_functions(expression.as_ptr()) }
}

/// It means something only in the place where it stands (`contain_context_dependent_node`).
fn depends_on_context(expression: Any) -> bool {
    stack::check();
    let mut found = false;
    walk::walk(expression, Scope::EXPRESSIONS, &mut |node, _| {
        // What stands for the value tested or for an element may be inside, in its own place.
        let case = node.cast::<pg_sys::CaseExpr>().and_then(|case| case.child(|case| case.arg));
        let array = node.cast::<pg_sys::ArrayCoerceExpr>().and_then(|array| array.child(|array| array.arg));
        if let Some(outside) = case.or(array) {
            found |= depends_on_context(outside.any());
            return Visit::Over;
        }
        found |= node.is::<pg_sys::CaseTestExpr>();
        if found { Visit::Stop } else { Visit::Into }
    });
    found
}

/// The result shows the collation that the call's has.
fn collated(body: Any, collation: pg_sys::Oid) -> Any {
    // SAFETY: a live expression.
    let own = unsafe { pg_sys::exprCollation(body.as_ptr()) };
    if collation == pg_sys::InvalidOid || own == pg_sys::InvalidOid || own == collation {
        return body;
    }
    let collate = Node::<pg_sys::CollateExpr>::make();
    collate.set(|collate| {
        collate.arg = body.as_ptr().cast();
        collate.collOid = collation;
        collate.location = -1;
    });
    collate.any()
}

thread_local!(static UNCALLED: Cell<bool> = const { Cell::new(false) });

static mut NEXT_NEEDS: pg_sys::needs_fmgr_hook_type = None;
static mut NEXT: pg_sys::fmgr_hook_type = None;

/// Installs the hook; called once, in the postmaster.
pub fn register() {
    // SAFETY: before any other thread or process exists.
    unsafe {
        (NEXT_NEEDS, NEXT) = (pg_sys::needs_fmgr_hook, pg_sys::fmgr_hook);
        pg_sys::needs_fmgr_hook = Some(needs_hook);
        pg_sys::fmgr_hook = Some(on_call);
    }
}

/// Runs `work`, in which a call of a function that is not the server's is an error.
fn uncalled<R>(work: impl FnOnce() -> R) -> R {
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            UNCALLED.set(self.0);
        }
    }
    let _before = Before(UNCALLED.replace(true));
    work()
}

/// Unguarded: does not raise.
unsafe extern "C-unwind" fn needs_hook(function: pg_sys::Oid) -> bool {
    // SAFETY: written once, in the postmaster.
    UNCALLED.get() && !facts::is_builtin(function) || unsafe { NEXT_NEEDS.is_some_and(|next| next(function)) }
}

#[pg_guard]
unsafe extern "C-unwind" fn on_call(
    event: pg_sys::FmgrHookEventType::Type,
    info: *mut pg_sys::FmgrInfo,
    private: *mut pg_sys::Datum,
) {
    // SAFETY: the function manager passes the function's live description.
    let function = unsafe { (*info).fn_oid };
    if event == pg_sys::FmgrHookEventType::FHET_START && UNCALLED.get() && !facts::is_builtin(function) {
        error(
            PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            format!("function {} cannot be called while a query is analyzed", facts::function_signature(function)),
        )
        .raise()
    }
    // SAFETY: written once, in the postmaster; passes its arguments on.
    unsafe {
        if let Some(next) = NEXT {
            next(event, info, private);
        }
    }
}
