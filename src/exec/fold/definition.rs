//! An aggregate of a view as plans have it: what the circuit has resolved, ready to be run.

use crate::circuit::{Ability, Aggregate, Functions};
use crate::exec::private::private;
use crate::pg::identity::AsOwner;
use crate::pg::{list, node};
use pgrx::pg_sys;

/// An aggregate ready to be run.
pub struct Definition {
    pub aggref: *mut pg_sys::Aggref,
    pub ability: Ability,
    /// 1-based input columns of the arguments, in `Aggref.args` order.
    pub arguments: Vec<usize>,
    /// 1-based input columns of the direct arguments.
    pub direct: Vec<usize>,
    /// 1-based input column of FILTER's condition.
    pub filter: Option<usize>,
    pub functions: Functions,
    /// The type of the transition value, polymorphism resolved.
    pub transtype: pg_sys::Oid,
    /// The type of the state column.
    pub state: pg_sys::Oid,
    /// The final function gets NULLs in place of the arguments.
    pub final_extra: bool,
    /// The transition value before any row.
    pub initial: *mut pg_sys::Const,
}

impl Definition {
    /// The aggregate as the circuit has resolved it, its initial value computed: that may be one of a domain, whose constraints are
    /// checked.
    pub fn resolve(aggregate: &Aggregate, owner: &AsOwner) -> Self {
        owner.check();
        let resolved = &aggregate.resolved;
        Self {
            aggref: aggregate.aggref.as_ptr(),
            ability: resolved.ability,
            arguments: aggregate.arguments.clone(),
            direct: aggregate.direct.clone(),
            filter: aggregate.filter,
            functions: resolved.functions,
            transtype: resolved.transtype,
            state: resolved.state,
            final_extra: resolved.final_extra,
            initial: initial_value(resolved.initial.as_deref(), resolved.transtype),
        }
    }

    /// The type of the state column: what is kept between refreshes.
    pub fn state_type(&self) -> pg_sys::Oid {
        self.state
    }

    /// The number of values in the transition state is kept beside it, unless every row is a value.
    ///
    /// The transition functions alone do not tell: a strict one skips NULLs, and when the last value is removed the
    /// state must be the initial one again, which an inverse function does not restore.
    pub fn has_count(&self) -> bool {
        self.ability != Ability::Recompute && (self.filter.is_some() || !self.arguments.is_empty())
    }

    /// For an ordered-set aggregate every aggregated column is an input, else only those which are arguments.
    pub fn inputs(&self) -> usize {
        if self.is_ordered_set() { self.arguments.len() } else { self.argument_types().len() }
    }

    /// Ordered-set and hypothetical-set aggregates.
    pub fn is_ordered_set(&self) -> bool {
        // SAFETY: the Aggref is live.
        unsafe { (*self.aggref).aggkind != b'n' as i8 }
    }

    /// Types of all arguments, direct ones first.
    pub fn argument_types(&self) -> Vec<pg_sys::Oid> {
        // SAFETY: the Aggref is live.
        unsafe { list::oids((*self.aggref).aggargtypes).collect() }
    }

    /// The Aggref over columns of relation `varno` that hold its arguments.
    pub fn over(&self, varno: i32) -> *mut pg_sys::Aggref {
        // SAFETY: the Aggref and its argument entries are copied before they are changed.
        unsafe {
            let aggref = node::copy(self.aggref);
            let column = |column: usize, expr: *mut pg_sys::Node| {
                let (typid, typmod) = (pg_sys::exprType(expr), pg_sys::exprTypmod(expr));
                pg_sys::makeVar(varno, column as i16, typid, typmod, pg_sys::exprCollation(expr), 0)
            };
            for (entry, &position) in list::iter::<pg_sys::TargetEntry>((*aggref).args).zip(&self.arguments) {
                (*entry).expr = column(position, (*entry).expr.cast()).cast();
            }
            if let Some(position) = self.filter {
                (*aggref).aggfilter = column(position, (*aggref).aggfilter.cast()).cast();
            }
            aggref
        }
    }

    /// As a plan may have it: with trees of its own, prepared for the executor.
    pub fn planned(self, owner: &AsOwner) -> Self {
        owner.check();
        // SAFETY: the copy is changed before anybody else sees it.
        let aggref = unsafe {
            let aggref = node::copy(self.aggref);
            (*aggref).aggdirectargs = pg_sys::expression_planner((*aggref).aggdirectargs.cast()).cast();
            aggref
        };
        Self { aggref, ..self }
    }
}

private!(struct Definition { aggref, ability, arguments, direct, filter, functions, transtype, state, final_extra, initial });
private!(struct Functions { transition, inverse, finish, serialize, deserialize, combine });
private!(enum Ability { Invertible, InsertOnly { extremum }, Recompute });

/// A value of the transition type from its text; None: NULL.
fn initial_value(text: Option<&str>, transtype: pg_sys::Oid) -> *mut pg_sys::Const {
    // SAFETY: the type exists, and its input function takes a text.
    unsafe {
        let (mut length, mut by_value) = (0, false);
        pg_sys::get_typlenbyval(transtype, &mut length, &mut by_value);
        let value = match text {
            None => pg_sys::Datum::from(0usize),
            Some(text) => {
                let (mut input, mut param) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
                pg_sys::getTypeInputInfo(transtype, &mut input, &mut param);
                pg_sys::OidInputFunctionCall(input, node::cstring(text), param, -1)
            }
        };
        pg_sys::makeConst(transtype, -1, pg_sys::InvalidOid, length.into(), value, text.is_none(), by_value)
    }
}
