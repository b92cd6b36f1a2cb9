//! Moves the clock for tests: what tells the time tells that of `pg_trickle.test_clock`, a setting of builds with assertions.

use crate::error::error;
use crate::pg::handle::{Any, Node};
use crate::pg::{clock, construct, walk};
use crate::settings;
use pgrx::{PgSqlErrorCode, pg_sys};

/// The expression at the time of the setting.
pub fn by_setting(expression: Any) -> Any {
    let Some(time) = settings::test_clock() else { return expression };
    let Some(moved) = clock::parse(&time) else {
        let message = format!("invalid value for parameter \"pg_trickle.test_clock\": \"{time}\"");
        error(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, message).raise()
    };
    at(expression, construct::timestamp(moved))
}

fn at(expression: Any, time: Any) -> Any {
    const TELL: [u32; 3] = [pg_sys::F_NOW, pg_sys::F_TRANSACTION_TIMESTAMP, pg_sys::F_STATEMENT_TIMESTAMP];
    walk::mutate(expression, &mut |node, _| {
        if let Some(value) = node.cast::<pg_sys::SQLValueFunction>() {
            return told(value, time);
        }
        let call = node.cast::<pg_sys::FuncExpr>()?;
        TELL.contains(&call.get().funcid.to_u32()).then_some(time)
    })
}

/// As `ExecEvalSQLValueFunction` does it.
fn told(value: Node<pg_sys::SQLValueFunction>, time: Any) -> Option<Any> {
    use pg_sys::SQLValueFunctionOp::*;
    let value = value.get();
    let converted = |function| construct::call(function, value.type_, &[time]).any();
    let (told, to_precision) = match value.op {
        SVFOP_CURRENT_DATE => return Some(converted(pg_sys::F_DATE_TIMESTAMPTZ)),
        SVFOP_CURRENT_TIMESTAMP | SVFOP_CURRENT_TIMESTAMP_N => (time, pg_sys::F_TIMESTAMPTZ_TIMESTAMPTZ_INT4),
        SVFOP_LOCALTIMESTAMP | SVFOP_LOCALTIMESTAMP_N => {
            (converted(pg_sys::F_TIMESTAMP_TIMESTAMPTZ), pg_sys::F_TIMESTAMP_TIMESTAMP_INT4)
        }
        SVFOP_CURRENT_TIME | SVFOP_CURRENT_TIME_N => {
            (converted(pg_sys::F_TIMETZ_TIMESTAMPTZ), pg_sys::F_TIMETZ_TIMETZ_INT4)
        }
        SVFOP_LOCALTIME | SVFOP_LOCALTIME_N => (converted(pg_sys::F_TIME_TIMESTAMPTZ), pg_sys::F_TIME_TIME_INT4),
        _ => return None,
    };
    let precision = (value.typmod >= 0).then(|| construct::int4(value.typmod));
    Some(match precision {
        Some(precision) => construct::call(to_precision, value.type_, &[told, precision]).any(),
        None => told,
    })
}
