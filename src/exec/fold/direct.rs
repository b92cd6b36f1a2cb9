//! The direct arguments of an ordered-set aggregate: one value for a whole group each.
//!
//! Those that depend on the group key are taken from any row of the group, FILTER or not; constants are evaluated, for
//! the only group of a view without keys may have no rows.

use super::definition::Definition;
use super::value::{Image, NULL, not_null};
use crate::pg::image::Row;
use crate::pg::{list, memory};
use pgrx::pg_sys::{self, NullableDatum};

pub struct Direct {
    arguments: Vec<Argument>,
    /// The current group's values; those of columns once a row has been seen.
    values: Vec<NullableDatum>,
    seen: bool,
    /// Holds the values; None without direct arguments.
    memory: Option<pg_sys::MemoryContext>,
}

enum Argument {
    Constant,
    Column(usize, Image),
}

impl Direct {
    /// # Safety
    /// As `Fold::new`.
    pub unsafe fn new(definition: &Definition, desc: pg_sys::TupleDesc, parent: *mut pg_sys::PlanState) -> Self {
        let (mut arguments, mut values) = (Vec::new(), Vec::new());
        // SAFETY: direct arguments are expressions the plan constructor has prepared; contexts live as long as the query.
        unsafe {
            let expressions = list::iter::<pg_sys::Node>((*definition.aggref).aggdirectargs);
            for (expression, &column) in expressions.zip(&definition.direct) {
                let constant = !pg_sys::contain_var_clause(expression);
                values.push(if constant { constant_value(expression.cast(), parent) } else { NULL });
                arguments.push(if constant {
                    Argument::Constant
                } else {
                    Argument::Column(column, Image::of(desc, column))
                });
            }
            let context = || memory::create((*(*parent).state).es_query_cxt, c"TrickleAccumulate direct arguments");
            let memory = (!values.is_empty()).then(context);
            Self { arguments, values, seen: false, memory }
        }
    }

    /// For another group.
    pub fn start(&mut self) {
        self.seen = false;
        if let Some(memory) = self.memory {
            // SAFETY: the next row's values replace those of the last group.
            unsafe { memory::reset(memory) };
        }
    }

    /// `row` belongs to the group.
    #[inline]
    pub fn see(&mut self, row: Row) {
        let Some(memory) = self.memory.filter(|_| !self.seen) else { return };
        self.seen = true;
        for (argument, value) in self.arguments.iter().zip(&mut self.values) {
            if let Argument::Column(column, image) = argument {
                // SAFETY: our own context.
                *value = unsafe { image.copy(row.at(column - 1), memory) };
            }
        }
    }

    pub fn values(&self) -> &[NullableDatum] {
        &self.values
    }
}

unsafe fn constant_value(expression: *mut pg_sys::Expr, parent: *mut pg_sys::PlanState) -> NullableDatum {
    // SAFETY: an expression without variables, evaluated once in the query's context, where its value stays.
    unsafe {
        let state = pg_sys::ExecInitExpr(expression, parent);
        let mut isnull = false;
        let value = pg_sys::ExecEvalExpr(state, (*parent).ps_ExprContext, &mut isnull);
        if isnull { NULL } else { not_null(value) }
    }
}
