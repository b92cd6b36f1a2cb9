//! Parts of queries that rewrites put in.

use super::handle::{Any, Node, to_list};
use super::list;
use super::node;
use super::query::{self, Entry, Query, TypeOf};
use pgrx::pg_sys;

pub fn boolean(value: bool) -> Any {
    constant(pg_sys::BOOLOID, 1, value.into())
}

pub fn int4(value: i32) -> Any {
    constant(pg_sys::INT4OID, 4, value.into())
}

pub fn int8(value: i64) -> Any {
    constant(pg_sys::INT8OID, 8, value.into())
}

pub fn timestamp(value: pg_sys::TimestampTz) -> Any {
    constant(pg_sys::TIMESTAMPTZOID, 8, value.into())
}

/// Of a type that is passed by value and has no collation.
fn constant(typid: pg_sys::Oid, length: i32, value: pg_sys::Datum) -> Any {
    // SAFETY: makeConst returns a new node.
    let constant =
        unsafe { Node::from_raw(pg_sys::makeConst(typid, -1, pg_sys::InvalidOid, length, value, false, true)) };
    constant.expect("palloc does not return null").any()
}

/// A call of a function of the server that takes and returns values without collation.
pub fn call(function: u32, result: pg_sys::Oid, arguments: &[Any]) -> Node<pg_sys::FuncExpr> {
    let (none, form) = (pg_sys::InvalidOid, pg_sys::CoercionForm::COERCE_EXPLICIT_CALL);
    // SAFETY: makeFuncExpr returns a new node over live arguments.
    let call = unsafe {
        Node::from_raw(pg_sys::makeFuncExpr(function.into(), result, to_list(arguments), none, none, form).cast())
    };
    call.expect("palloc does not return null")
}

/// A parameter from outside of the query.
pub fn parameter(number: i32, of: TypeOf) -> Node<pg_sys::Param> {
    let parameter = Node::<pg_sys::Param>::make();
    parameter.set(|parameter| {
        parameter.paramkind = pg_sys::ParamKind::PARAM_EXTERN;
        parameter.paramid = number;
        parameter.paramtype = of.typid;
        parameter.paramtypmod = of.typmod;
        parameter.paramcollid = of.collation;
        parameter.location = -1;
    });
    parameter
}

/// `left operator right`, a condition.
pub fn comparison(operator: pg_sys::Oid, left: Any, right: Any, collation: pg_sys::Oid) -> Any {
    let (none, boolean) = (pg_sys::InvalidOid, pg_sys::BOOLOID);
    // SAFETY: make_opclause returns a new node over live operands.
    let condition = unsafe {
        let clause = pg_sys::make_opclause(
            operator,
            boolean,
            false,
            left.as_ptr().cast(),
            right.as_ptr().cast(),
            none,
            collation,
        );
        pg_sys::set_opfuncid(clause.cast());
        Node::from_raw(clause.cast())
    };
    condition.expect("palloc does not return null")
}

pub fn not(condition: Any) -> Any {
    // SAFETY: a live boolean expression; makeBoolExpr returns a new node.
    let negated =
        unsafe { Node::from_raw(pg_sys::makeBoolExpr(pg_sys::BoolExprType::NOT_EXPR, to_list(&[condition]), -1)) };
    negated.expect("palloc does not return null").any()
}

/// `count(*) FILTER (WHERE condition)`.
pub fn count_where(condition: Any) -> Any {
    let count = Node::<pg_sys::Aggref>::make();
    count.set(|count| {
        count.aggfnoid = pg_sys::F_COUNT_.into();
        count.aggtype = pg_sys::INT8OID;
        count.aggstar = true;
        count.aggfilter = condition.as_ptr().cast();
        count.aggkind = b'n' as i8;
        (count.aggno, count.aggtransno, count.location) = (-1, -1, -1);
    });
    count.any()
}

/// The smaller of two numbers of type bigint.
pub fn least(a: Any, b: Any) -> Any {
    let least = Node::<pg_sys::MinMaxExpr>::make();
    least.set(|least| {
        least.minmaxtype = pg_sys::INT8OID;
        least.op = pg_sys::MinMaxOp::IS_LEAST;
        least.args = to_list(&[a, b]);
        least.location = -1;
    });
    least.any()
}

/// `CASE WHEN condition THEN value .. END` of this type, NULL where no condition holds.
pub fn case(branches: &[(Any, Any)], of: TypeOf) -> Any {
    let branch = |&(condition, value): &(Any, Any)| {
        let when = Node::<pg_sys::CaseWhen>::make();
        when.set(|when| {
            when.expr = condition.as_ptr().cast();
            when.result = value.as_ptr().cast();
            when.location = -1;
        });
        when
    };
    let case = Node::<pg_sys::CaseExpr>::make();
    case.set(|case| {
        case.casetype = of.typid;
        case.casecollid = of.collation;
        case.args = to_list(&branches.iter().map(branch).collect::<Vec<_>>());
        case.defresult = query::null(of).as_ptr().cast();
        case.location = -1;
    });
    case.any()
}

/// `generate_series(from, to)` in FROM, over numbers of type integer or bigint.
pub fn series(from: Any, to: Any) -> Entry {
    let of = query::type_of(from);
    let function = if of.typid == pg_sys::INT8OID {
        pg_sys::F_GENERATE_SERIES_INT8_INT8
    } else {
        pg_sys::F_GENERATE_SERIES_INT4_INT4
    };
    let series = call(function, of.typid, &[from, to]);
    series.set(|series| series.funcretset = true);
    let item = Node::<pg_sys::RangeTblFunction>::make();
    item.set(|item| {
        item.funcexpr = series.as_ptr().cast();
        item.funccolcount = 1;
    });
    let entry = Node::<pg_sys::RangeTblEntry>::make();
    entry.set(|entry| {
        entry.rtekind = pg_sys::RTEKind::RTE_FUNCTION;
        entry.functions = to_list(&[item]);
        entry.lateral = true;
        entry.inFromCl = true;
        // SAFETY: new string nodes in a new alias.
        entry.eref =
            unsafe { pg_sys::makeAlias(c"series".as_ptr(), list::make([pg_sys::makeString(node::cstring("n"))])) };
    });
    entry
}

/// Adds an item to FROM; its number.
pub fn add_to_from(query: Query, entry: Entry) -> i32 {
    let mut entries = query.entries();
    entries.push(entry);
    query.set_entries(&entries);
    let from = query.from();
    let number = entries.len() as i32;
    let added = query::from_one(number).nodes(|from| from.fromlist);
    let items = [from.nodes(|from| from.fromlist), added].concat();
    from.set(|from| from.fromlist = to_list(&items));
    number
}

/// `a UNION ALL b ..`, with the columns of the first, which have these types in the whole. The queries stood where the whole stands.
pub fn union_all(legs: &[Query], types: &[TypeOf]) -> Query {
    legs.iter().for_each(|leg| query::raise_levels(*leg, 1, 1));
    union_of(legs, types)
}

/// The same of queries that refer to what is outside of the whole already as its legs do.
pub fn union_of(legs: &[Query], types: &[TypeOf]) -> Query {
    let names: Vec<String> = legs[0].outputs().into_iter().map(query::name_of).collect();
    let whole = query::nothing();
    whole.set_entries(&legs.iter().map(|leg| leg_entry(*leg)).collect::<Vec<_>>());
    let column = |(index, of): (usize, &TypeOf)| {
        let number = index as i16 + 1;
        query::target(query::var(1, number, *of).any(), number, &names[index])
    };
    whole.set_targets(&types.iter().enumerate().map(column).collect::<Vec<_>>());
    let reference = |number: usize| query::from_one(number as i32).nodes(|from| from.fromlist)[0];
    let tree = (2..=legs.len()).fold(reference(1), |left, number| {
        let operation = Node::<pg_sys::SetOperationStmt>::make();
        operation.set(|operation| {
            operation.op = pg_sys::SetOperation::SETOP_UNION;
            operation.all = true;
            operation.larg = left.as_ptr();
            operation.rarg = reference(number).as_ptr();
            // SAFETY: lists of plain values.
            unsafe {
                operation.colTypes = list::make_oids(types.iter().map(|of| of.typid));
                operation.colTypmods = list::make_ints(types.iter().map(|of| of.typmod));
                operation.colCollations = list::make_oids(types.iter().map(|of| of.collation));
            }
        });
        operation.any()
    });
    whole.set(|whole| {
        whole.setOperations = tree.as_ptr();
        whole.hasRowSecurity = legs.iter().any(|leg| leg.get().hasRowSecurity);
    });
    whole
}

fn leg_entry(leg: Query) -> Entry {
    let names: Vec<String> = leg.outputs().into_iter().map(query::name_of).collect();
    let entry = query::subquery(leg, &names);
    entry.set(|entry| entry.inFromCl = false);
    entry
}
