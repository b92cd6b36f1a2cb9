//! What pg_aggregate says about an aggregate of a view, resolved once, when the plan (or the state table) is made.

use crate::circuit::{Ability, Aggregate};
use crate::error::cannot_happen;
use crate::exec::private::private;
use crate::pg::identity::AsOwner;
use crate::pg::server::guarded;
use crate::pg::{list, node, server};
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
    /// The final function gets NULLs in place of the arguments.
    pub final_extra: bool,
    /// The transition value before any row.
    pub initial: *mut pg_sys::Const,
}

/// The aggregate's support functions; InvalidOid where it has none (or needs none).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Functions {
    pub transition: pg_sys::Oid,
    pub inverse: pg_sys::Oid,
    pub finish: pg_sys::Oid,
    pub serialize: pg_sys::Oid,
    pub deserialize: pg_sys::Oid,
    pub combine: pg_sys::Oid,
}

impl Definition {
    /// The moving-aggregate functions for an invertible aggregate, the plain ones for others. Where they do not
    /// allow to keep a state, the aggregate is recomputed. The initial value may be one of a domain, whose constraints
    /// are checked.
    pub fn resolve(aggregate: &Aggregate, owner: &AsOwner) -> Self {
        owner.check();
        let (best, keeps_state) = Self::with_ability(aggregate, aggregate.ability);
        if keeps_state { best } else { Self::with_ability(aggregate, Ability::Recompute).0 }
    }

    /// And whether its state can be kept: it must survive the final function, and an internal one must be stored.
    fn with_ability(aggregate: &Aggregate, ability: Ability) -> (Self, bool) {
        let aggref = aggregate.aggref.as_ptr();
        let moving = ability == Ability::Invertible;
        // SAFETY: the Aggref is live; the syscache row is pinned until released.
        unsafe {
            let aggfnoid = (*aggref).aggfnoid;
            let cache = pg_sys::SysCacheIdentifier::AGGFNOID as i32;
            let tuple = pg_sys::SearchSysCache1(cache, aggfnoid.into());
            if tuple.is_null() {
                cannot_happen(format!("cache lookup failed for aggregate {}", aggfnoid.to_u32()));
            }
            let form = &*pg_sys::GETSTRUCT(tuple).cast::<server::FormData_pg_aggregate>();
            let declared = if moving { form.aggmtranstype } else { form.aggtranstype };
            let transtype = actual_transtype(aggref, declared);
            let attribute =
                if moving { server::Anum_pg_aggregate_aggminitval } else { server::Anum_pg_aggregate_agginitval };
            let mut null = false;
            let text = pg_sys::SysCacheGetAttr(cache, tuple, attribute as i16, &mut null);
            let this = Self {
                aggref,
                ability,
                arguments: aggregate.arguments.clone(),
                direct: aggregate.direct.clone(),
                filter: aggregate.filter,
                functions: Functions::of(form, moving, transtype),
                transtype,
                final_extra: if moving { form.aggmfinalextra } else { form.aggfinalextra },
                initial: initial_value((!null).then_some(text), transtype),
            };
            let finish_modifies = if moving { form.aggmfinalmodify } else { form.aggfinalmodify } != b'r' as i8;
            pg_sys::ReleaseSysCache(tuple);
            let keeps_state = !finish_modifies && (transtype != pg_sys::INTERNALOID || this.functions.can_store());
            (this, keeps_state)
        }
    }

    /// The type of the state column: what is kept between refreshes.
    pub fn state_type(&self) -> pg_sys::Oid {
        match self.ability {
            // SAFETY: the Aggref is live.
            Ability::Recompute => unsafe { (*self.aggref).aggtype },
            _ if self.transtype == pg_sys::INTERNALOID => pg_sys::BYTEAOID,
            _ => self.transtype,
        }
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

private!(struct Definition { aggref, ability, arguments, direct, filter, functions, transtype, final_extra, initial });
private!(struct Functions { transition, inverse, finish, serialize, deserialize, combine });
private!(enum Ability { Invertible, InsertOnly { extremum }, Recompute });

impl Functions {
    fn of(form: &server::FormData_pg_aggregate, moving: bool, transtype: pg_sys::Oid) -> Self {
        let stored = |function| if transtype == pg_sys::INTERNALOID { function } else { pg_sys::InvalidOid };
        Self {
            transition: if moving { form.aggmtransfn } else { form.aggtransfn },
            inverse: if moving { form.aggminvtransfn } else { pg_sys::InvalidOid },
            finish: if moving { form.aggmfinalfn } else { form.aggfinalfn },
            serialize: stored(form.aggserialfn),
            deserialize: stored(form.aggdeserialfn),
            combine: stored(form.aggcombinefn),
        }
    }

    /// An internal state can be stored and loaded back.
    fn can_store(&self) -> bool {
        [self.serialize, self.deserialize, self.combine].iter().all(|&function| function != pg_sys::InvalidOid)
    }
}

unsafe fn actual_transtype(aggref: *mut pg_sys::Aggref, declared: pg_sys::Oid) -> pg_sys::Oid {
    // SAFETY: the Aggref is live; the closure holds nothing to drop.
    unsafe {
        let mut types = [pg_sys::InvalidOid; pg_sys::FUNC_MAX_ARGS as usize];
        let types = types.as_mut_ptr();
        guarded(|| {
            let count = server::get_aggregate_argtypes(aggref, types);
            server::resolve_aggregate_transtype((*aggref).aggfnoid, declared, types, count)
        })
    }
}

unsafe fn initial_value(text: Option<pg_sys::Datum>, transtype: pg_sys::Oid) -> *mut pg_sys::Const {
    // SAFETY: the type exists; `text` is a text datum.
    unsafe {
        let (mut length, mut by_value) = (0, false);
        pg_sys::get_typlenbyval(transtype, &mut length, &mut by_value);
        let value = match text {
            None => pg_sys::Datum::from(0usize),
            Some(text) => {
                let (mut input, mut param) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
                pg_sys::getTypeInputInfo(transtype, &mut input, &mut param);
                pg_sys::OidInputFunctionCall(input, pg_sys::text_to_cstring(text.cast_mut_ptr()), param, -1)
            }
        };
        pg_sys::makeConst(transtype, -1, pg_sys::InvalidOid, length.into(), value, text.is_none(), by_value)
    }
}
