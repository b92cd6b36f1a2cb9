//! Building blocks of delta queries: weights, one-table selects, UNION ALL.

use crate::exec::weighted;
use crate::pg::relation::Relation;
use crate::pg::stack;
use crate::pg::{list, node};
use pgrx::pg_sys;

/// Weights are made where weighted rows are described.
pub use weighted::{append_weight, constant as int8, multiply, name_weight, negate, var as int8_var};

/// Negates the weight, which is the last target column.
///
/// # Safety
/// `query` is private and has a weight. It is no set operation.
pub unsafe fn negate_weight(query: *mut pg_sys::Query) {
    // SAFETY: by contract.
    unsafe {
        let weight = list::iter::<pg_sys::TargetEntry>((*query).targetList).last().expect("a weight");
        (*weight).expr = negate((*weight).expr);
    }
}

/// # Safety
/// `query` is private and `expression` stands over it.
pub unsafe fn append_column(query: *mut pg_sys::Query, expression: *mut pg_sys::Expr, name: &str) {
    // SAFETY: by contract.
    unsafe {
        let entry = pg_sys::makeTargetEntry(expression, last_column(query) + 1, node::cstring(name), false);
        (*query).targetList = pg_sys::lappend((*query).targetList, entry.cast());
    }
}

/// Number of target columns (templates have no junk columns).
///
/// # Safety
/// `query` is live.
pub unsafe fn last_column(query: *mut pg_sys::Query) -> i16 {
    // SAFETY: only reads.
    unsafe { list::iter::<pg_sys::TargetEntry>((*query).targetList).count() as i16 }
}

/// Turns a base entry into a subquery entry that delivers the same columns and a weight.
///
/// # Safety
/// `rte` is a private RTE_RELATION; `subquery` has its columns in attribute order, then the weight.
pub unsafe fn become_subquery(rte: *mut pg_sys::RangeTblEntry, subquery: *mut pg_sys::Query) {
    // SAFETY: by contract.
    unsafe {
        (*rte).rtekind = pg_sys::RTEKind::RTE_SUBQUERY;
        (*rte).relid = pg_sys::InvalidOid;
        (*rte).relkind = 0;
        (*rte).rellockmode = 0;
        (*rte).inh = false;
        (*rte).perminfoindex = 0;
        (*rte).securityQuals = std::ptr::null_mut();
        (*rte).enrname = std::ptr::null_mut();
        (*rte).subquery = subquery;
        // Columns added to the table since the view was made have no name in the entry yet.
        (*rte).eref = pg_sys::makeAlias((*(*rte).eref).aliasname, names(subquery));
    }
}

/// Turns a subquery entry into one of the relation that holds its rows. The permissions that were checked through an expanded
/// view's entry still are, through one that nothing refers to.
///
/// # Safety
/// `rte` is a private RTE_SUBQUERY of `query`; the relation is locked and has the subquery's columns.
pub unsafe fn become_relation(query: *mut pg_sys::Query, rte: *mut pg_sys::RangeTblEntry, relid: pg_sys::Oid) {
    // SAFETY: by contract.
    unsafe {
        if (*rte).perminfoindex > 0 {
            let entry: *mut pg_sys::RangeTblEntry = node::make(pg_sys::NodeTag::T_RangeTblEntry);
            *entry = *rte;
            (*entry).subquery = empty_select();
            (*(*entry).subquery).jointree = pg_sys::makeFromExpr(std::ptr::null_mut(), std::ptr::null_mut());
            (*entry).enrname = std::ptr::null_mut();
            (*entry).inFromCl = false;
            (*query).rtable = pg_sys::lappend((*query).rtable, entry.cast());
        }
        (*rte).rtekind = pg_sys::RTEKind::RTE_RELATION;
        (*rte).subquery = std::ptr::null_mut();
        (*rte).security_barrier = false;
        (*rte).lateral = false;
        (*rte).relid = relid;
        (*rte).relkind = pg_sys::RELKIND_RELATION as std::ffi::c_char;
        (*rte).rellockmode = pg_sys::AccessShareLock as i32;
        (*rte).inh = false;
        (*rte).perminfoindex = 0;
        // The relation is ours: it is read by right of its owner. What rows there are in it, the block was permitted to read.
        let permission = pg_sys::addRTEPermissionInfo(&mut (*query).rteperminfos, rte);
        (*permission).requiredPerms = pg_sys::ACL_SELECT as pg_sys::AclMode;
        (*permission).checkAsUser = Relation::open(relid, pg_sys::NoLock).form().relowner;
    }
}

/// `SELECT <every attribute> FROM <copy of the entry>` with the entry's permissions and security quals.
/// Dropped attributes become NULLs so that attribute numbers are column numbers.
///
/// # Safety
/// `rte` is a base relation entry of `query`, whose relation is locked.
pub unsafe fn select_columns(query: *mut pg_sys::Query, rte: *mut pg_sys::RangeTblEntry) -> *mut pg_sys::Query {
    // SAFETY: copies only; the relation is locked by the refresh.
    unsafe {
        let copy = node::copy(rte);
        let varno = list::iter::<pg_sys::RangeTblEntry>((*query).rtable).position(|r| r == rte);
        let varno = varno.expect("the entry belongs to the query") as i32 + 1;
        pg_sys::ChangeVarNodes((*copy).securityQuals.cast(), varno, 1, 0);
        let select = select_from(copy);
        if (*rte).perminfoindex > 0 {
            let info = pg_sys::getRTEPermissionInfo((*query).rteperminfos, rte);
            (*select).rteperminfos = list::make([node::copy(info)]);
            (*copy).perminfoindex = 1;
        }
        (*select).hasSubLinks = (*query).hasSubLinks && !(*copy).securityQuals.is_null();
        (*select).hasRowSecurity = (*query).hasRowSecurity;
        append_attributes(select, (*rte).relid);
        select
    }
}

unsafe fn append_attributes(select: *mut pg_sys::Query, relid: pg_sys::Oid) {
    let relation = Relation::open(relid, pg_sys::NoLock);
    let desc = relation.tuple_desc();
    // SAFETY: the relation stays open over the loop; makeVar and makeNullConst build plain nodes.
    unsafe {
        for number in 0..(*desc).natts {
            let attribute = pg_sys::TupleDescAttr(desc, number);
            let expression: *mut pg_sys::Expr = if (*attribute).attisdropped {
                pg_sys::makeNullConst(pg_sys::INT4OID, -1, pg_sys::InvalidOid).cast()
            } else {
                let a = &*attribute;
                pg_sys::makeVar(1, a.attnum, a.atttypid, a.atttypmod, a.attcollation, 0).cast()
            };
            append_column(select, expression, pgrx::name_data_to_str(&(*attribute).attname));
        }
    }
}

/// A SELECT without columns from one entry.
///
/// # Safety
/// `rte` is private.
pub unsafe fn select_from(rte: *mut pg_sys::RangeTblEntry) -> *mut pg_sys::Query {
    // SAFETY: plain node construction.
    unsafe {
        let reference = range_ref(1);
        let query = empty_select();
        (*query).rtable = list::make([rte]);
        (*query).jointree = pg_sys::makeFromExpr(list::make([reference]), std::ptr::null_mut());
        query
    }
}

/// `SELECT * FROM (subquery)`, to which further entries and quals can be added.
///
/// # Safety
/// `subquery` is private.
pub unsafe fn select_subquery(subquery: *mut pg_sys::Query) -> *mut pg_sys::Query {
    // SAFETY: plain node construction.
    unsafe {
        let rte = subquery_entry(subquery);
        (*rte).inFromCl = true;
        let query = select_from(rte);
        for target in columns(subquery) {
            let var = pg_sys::makeVarFromTargetEntry(1, target);
            append_column(query, var.cast(), &node::string((*target).resname));
        }
        query
    }
}

/// `SELECT <the first columns> FROM (subquery)`.
///
/// # Safety
/// `subquery` is private.
pub unsafe fn select_first(subquery: *mut pg_sys::Query, count: usize) -> *mut pg_sys::Query {
    // SAFETY: by contract.
    unsafe {
        let query = select_subquery(subquery);
        (*query).targetList = pg_sys::list_truncate((*query).targetList, count as i32);
        query
    }
}

/// Adds a FROM item (comma join).
///
/// # Safety
/// `query` and `rte` are private.
pub unsafe fn append_entry(query: *mut pg_sys::Query, rte: *mut pg_sys::RangeTblEntry) {
    // SAFETY: by contract.
    unsafe {
        (*query).rtable = pg_sys::lappend((*query).rtable, rte.cast());
        let rtindex = pg_sys::list_length((*query).rtable);
        let from = (*query).jointree;
        (*from).fromlist = pg_sys::lappend((*from).fromlist, range_ref(rtindex).cast());
    }
}

/// Adds a condition to WHERE.
///
/// # Safety
/// `query` is private and `condition` a boolean expression over it.
pub unsafe fn add_qual(query: *mut pg_sys::Query, condition: *mut pg_sys::Expr) {
    // SAFETY: by contract.
    unsafe {
        let from = (*query).jointree;
        (*from).quals = pg_sys::make_and_qual((*from).quals, condition.cast());
    }
}

/// `expression IS NOT NULL`, a row of NULLs included.
///
/// # Safety
/// `expression` is live.
pub unsafe fn is_not_null(expression: *mut pg_sys::Expr) -> *mut pg_sys::NullTest {
    // SAFETY: plain node construction.
    unsafe {
        let test: *mut pg_sys::NullTest = node::make(pg_sys::NodeTag::T_NullTest);
        (*test).arg = expression;
        (*test).nulltesttype = pg_sys::NullTestType::IS_NOT_NULL;
        (*test).location = -1;
        test
    }
}

/// `left = right`, or `left IS NOT DISTINCT FROM right`.
///
/// # Safety
/// `operator` is an equality operator of the operands' type.
pub unsafe fn equal(
    operator: pg_sys::Oid,
    collation: pg_sys::Oid,
    left: *mut pg_sys::Expr,
    right: *mut pg_sys::Expr,
    nulls: bool,
) -> *mut pg_sys::Expr {
    // SAFETY: an OpExpr; DistinctExpr is the same struct with another tag.
    unsafe {
        let (boolean, none) = (pg_sys::BOOLOID, pg_sys::InvalidOid);
        let expression = pg_sys::make_opclause(operator, boolean, false, left, right, none, collation);
        pg_sys::set_opfuncid(expression.cast());
        if !nulls {
            return expression;
        }
        (*expression.cast::<pg_sys::Node>()).type_ = pg_sys::NodeTag::T_DistinctExpr;
        pg_sys::makeBoolExpr(pg_sys::BoolExprType::NOT_EXPR, list::make([expression]), -1)
    }
}

/// The hash of a value by its type's function, 0 for NULL.
///
/// # Safety
/// `function` hashes values of the type of `value`.
pub unsafe fn coalesced_hash(
    function: pg_sys::Oid,
    collation: pg_sys::Oid,
    value: *mut pg_sys::Expr,
) -> *mut pg_sys::Expr {
    // SAFETY: plain node construction.
    unsafe {
        let (typid, none, form) = (pg_sys::INT4OID, pg_sys::InvalidOid, pg_sys::CoercionForm::COERCE_EXPLICIT_CALL);
        let hash = pg_sys::makeFuncExpr(function, typid, list::make([value]), none, collation, form);
        let zero = pg_sys::makeConst(typid, -1, none, 4, pg_sys::Datum::from(0), false, true);
        let coalesce: *mut pg_sys::CoalesceExpr = node::make(pg_sys::NodeTag::T_CoalesceExpr);
        (*coalesce).coalescetype = typid;
        (*coalesce).args = list::make([hash.cast::<pg_sys::Node>(), zero.cast()]);
        (*coalesce).location = -1;
        coalesce.cast()
    }
}

unsafe fn empty_select() -> *mut pg_sys::Query {
    // SAFETY: zeroed node with the fields the planner looks at.
    unsafe {
        let query: *mut pg_sys::Query = node::make(pg_sys::NodeTag::T_Query);
        (*query).commandType = pg_sys::CmdType::CMD_SELECT;
        (*query).querySource = pg_sys::QuerySource::QSRC_ORIGINAL;
        (*query).canSetTag = true;
        (*query).stmt_location = -1;
        query
    }
}

unsafe fn range_ref(rtindex: i32) -> *mut pg_sys::RangeTblRef {
    // SAFETY: plain node construction.
    unsafe {
        let reference: *mut pg_sys::RangeTblRef = node::make(pg_sys::NodeTag::T_RangeTblRef);
        (*reference).rtindex = rtindex;
        reference
    }
}

/// `q1 UNION ALL q2 ...`; a single query is returned as it is. All have the same column types.
///
/// # Safety
/// The queries are private and not empty.
pub unsafe fn union_all(queries: &[*mut pg_sys::Query]) -> *mut pg_sys::Query {
    if let [single] = queries {
        return *single;
    }
    // SAFETY: builds a set-operation query over private parts, as transformSetOperationStmt does.
    unsafe {
        let union = empty_select();
        (*union).jointree = pg_sys::makeFromExpr(std::ptr::null_mut(), std::ptr::null_mut());
        (*union).rtable = list::make(queries.iter().map(|&q| subquery_entry(q)));
        let first = queries[0];
        (*union).hasRowSecurity = queries.iter().any(|&q| (*q).hasRowSecurity);
        for target in list::iter::<pg_sys::TargetEntry>((*first).targetList) {
            let var = pg_sys::makeVarFromTargetEntry(1, target);
            append_column(union, var.cast(), &node::string((*target).resname));
        }
        let mut tree: *mut pg_sys::Node = range_ref(1).cast();
        for rtindex in 2..=queries.len() as i32 {
            tree = union_node(tree, range_ref(rtindex).cast(), first).cast();
        }
        (*union).setOperations = tree;
        union
    }
}

/// The visible target columns.
unsafe fn columns(query: *mut pg_sys::Query) -> impl Iterator<Item = *mut pg_sys::TargetEntry> {
    // SAFETY: only reads.
    unsafe { list::iter::<pg_sys::TargetEntry>((*query).targetList).filter(|&target| !(*target).resjunk) }
}

/// The names of the visible target columns.
unsafe fn names(query: *mut pg_sys::Query) -> *mut pg_sys::List {
    // SAFETY: names live as long as the query.
    unsafe { list::make(columns(query).map(|target| pg_sys::makeString((*target).resname))) }
}

unsafe fn subquery_entry(query: *mut pg_sys::Query) -> *mut pg_sys::RangeTblEntry {
    // SAFETY: plain node construction.
    unsafe {
        let rte: *mut pg_sys::RangeTblEntry = node::make(pg_sys::NodeTag::T_RangeTblEntry);
        (*rte).rtekind = pg_sys::RTEKind::RTE_SUBQUERY;
        (*rte).subquery = query;
        (*rte).eref = pg_sys::makeAlias(c"term".as_ptr(), names(query));
        rte
    }
}

unsafe fn union_node(
    left: *mut pg_sys::Node,
    right: *mut pg_sys::Node,
    first: *mut pg_sys::Query,
) -> *mut pg_sys::SetOperationStmt {
    // SAFETY: the column types are those of the first query's target list.
    unsafe {
        let stmt: *mut pg_sys::SetOperationStmt = node::make(pg_sys::NodeTag::T_SetOperationStmt);
        (*stmt).op = pg_sys::SetOperation::SETOP_UNION;
        (*stmt).all = true;
        (*stmt).larg = left;
        (*stmt).rarg = right;
        for target in list::iter::<pg_sys::TargetEntry>((*first).targetList) {
            let expression = (*target).expr.cast();
            (*stmt).colTypes = pg_sys::lappend_oid((*stmt).colTypes, pg_sys::exprType(expression));
            (*stmt).colTypmods = pg_sys::lappend_int((*stmt).colTypmods, pg_sys::exprTypmod(expression));
            (*stmt).colCollations = pg_sys::lappend_oid((*stmt).colCollations, pg_sys::exprCollation(expression));
        }
        stmt
    }
}

/// Adds the weight to every node of a set-operation tree; returns the leftmost entry's index.
///
/// # Safety
/// `tree` is the private set-operation tree of a UNION ALL query.
pub unsafe fn widen_union(tree: *mut pg_sys::Node) -> i32 {
    stack::check();
    // SAFETY: the tree consists of SetOperationStmt and RangeTblRef nodes.
    unsafe {
        if node::is_a(tree, pg_sys::NodeTag::T_RangeTblRef) {
            return (*tree.cast::<pg_sys::RangeTblRef>()).rtindex;
        }
        let stmt = tree.cast::<pg_sys::SetOperationStmt>();
        weighted::widen(stmt);
        widen_union((*stmt).rarg);
        widen_union((*stmt).larg)
    }
}

/// Orders `query` by its first columns with the given operators, so that equal keys come out adjacent.
///
/// # Safety
/// `query` is private; `keys` are (equality, less-than) operators of its first columns' types.
pub unsafe fn order_by(query: *mut pg_sys::Query, keys: impl IntoIterator<Item = (pg_sys::Oid, pg_sys::Oid)>) {
    // SAFETY: by contract.
    unsafe { (*query).sortClause = clauses(query, keys) };
}

/// Groups `query` by its first columns.
///
/// # Safety
/// As `order_by`.
pub unsafe fn group_by(query: *mut pg_sys::Query, keys: impl IntoIterator<Item = (pg_sys::Oid, pg_sys::Oid)>) {
    // SAFETY: by contract.
    unsafe { (*query).groupClause = clauses(query, keys) };
}

unsafe fn clauses(
    query: *mut pg_sys::Query,
    keys: impl IntoIterator<Item = (pg_sys::Oid, pg_sys::Oid)>,
) -> *mut pg_sys::List {
    // SAFETY: builds SortGroupClauses over existing target entries.
    unsafe {
        let targets: Vec<_> = list::iter::<pg_sys::TargetEntry>((*query).targetList).collect();
        let clauses = targets.into_iter().zip(keys).zip(1..).map(|((target, (eq_op, lt_op)), reference)| {
            (*target).ressortgroupref = reference;
            let clause: *mut pg_sys::SortGroupClause = node::make(pg_sys::NodeTag::T_SortGroupClause);
            (*clause).tleSortGroupRef = reference;
            (*clause).eqop = eq_op;
            (*clause).sortop = lt_op;
            (*clause).hashable = pg_sys::op_hashjoinable(eq_op, pg_sys::exprType((*target).expr.cast()));
            clause
        });
        list::make(clauses)
    }
}
