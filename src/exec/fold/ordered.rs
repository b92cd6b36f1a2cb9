//! Aggregates over sorted input: `agg(x ORDER BY y)` and `agg(DISTINCT x)`.
//!
//! A group's rows are sorted when the group is complete, then fed to the transition function in order; of adjacent
//! rows equal in the DISTINCT columns (which lead the sort order) only the first is. Groups are always folded from
//! all their rows here, since neither order nor distinctness can be kept up by increments.

use super::definition::Definition;
use super::transition::Transition;
use super::value::NULL;
use crate::pg::memory::{reset, within};
use crate::pg::{interrupt, list};
use pgrx::pg_sys::{self, NullableDatum};

pub struct Ordered {
    desc: pg_sys::TupleDesc,
    keys: Vec<Key>,
    /// Compares the inner with the outer tuple; null without DISTINCT.
    same: *mut pg_sys::ExprState,
    econtext: *mut pg_sys::ExprContext,
    /// Takes a row in.
    incoming: *mut pg_sys::TupleTableSlot,
    /// The current and the previous sorted row.
    sorted: [*mut pg_sys::TupleTableSlot; 2],
    sort: *mut pg_sys::Tuplesortstate,
}

struct Key {
    column: i16,
    operator: pg_sys::Oid,
    equality: pg_sys::Oid,
    collation: pg_sys::Oid,
    nulls_first: bool,
}

impl Ordered {
    /// None for an aggregate that takes its rows in any order.
    ///
    /// # Safety
    /// As `Transition::new`.
    pub unsafe fn new(
        definition: &Definition,
        parent: *mut pg_sys::PlanState,
        scratch: *mut pg_sys::ExprContext,
    ) -> Option<Self> {
        // SAFETY: the Aggref is live; slots and expressions are made in the query's context.
        unsafe {
            let aggref = &*definition.aggref;
            let distinct = !aggref.aggdistinct.is_null();
            let keys = sort_keys(aggref, if distinct { aggref.aggdistinct } else { aggref.aggorder });
            if keys.is_empty() || definition.is_ordered_set() {
                return None;
            }
            let desc = pg_sys::ExecTypeFromTL(aggref.args);
            let slot = |kind| pg_sys::ExecInitExtraTupleSlot((*parent).state, desc, kind);
            Some(Self {
                desc,
                same: if distinct { equality(desc, &keys, parent) } else { std::ptr::null_mut() },
                keys,
                econtext: scratch,
                incoming: slot(&raw const pg_sys::TTSOpsVirtual),
                sorted: [slot(&raw const pg_sys::TTSOpsMinimalTuple), slot(&raw const pg_sys::TTSOpsMinimalTuple)],
                sort: std::ptr::null_mut(),
            })
        }
    }

    /// For another group.
    pub fn start(&mut self) {
        self.end_sort();
    }

    /// Adds one row of arguments.
    pub fn put(&mut self, values: &[NullableDatum]) {
        // SAFETY: the slot has one column per argument; the sort copies the row.
        unsafe {
            if self.sort.is_null() {
                self.sort = self.begin_sort();
            }
            pg_sys::ExecClearTuple(self.incoming);
            for (index, value) in values.iter().enumerate() {
                *(*self.incoming).tts_values.add(index) = value.value;
                *(*self.incoming).tts_isnull.add(index) = value.isnull;
            }
            pg_sys::ExecStoreVirtualTuple(self.incoming);
            pg_sys::tuplesort_puttupleslot(self.sort, self.incoming);
        }
    }

    /// Feeds the group's rows to the transition function. `scratch` is reset for every row.
    pub fn drain(&mut self, state: &mut Transition, inputs: usize, scratch: pg_sys::MemoryContext) {
        if self.sort.is_null() {
            return;
        }
        let mut values = vec![NULL; inputs];
        let mut previous = false;
        // SAFETY: rows of the finished sort stay valid until the next one is fetched into the same slot.
        unsafe {
            pg_sys::tuplesort_performsort(self.sort);
            let [mut current, mut last] = self.sorted;
            while self.next_sorted(current) {
                interrupt::check();
                if !(previous && self.is_same(current, last)) {
                    pg_sys::slot_getallattrs(current);
                    for (index, value) in values.iter_mut().enumerate() {
                        let isnull = *(*current).tts_isnull.add(index);
                        *value = NullableDatum { value: *(*current).tts_values.add(index), isnull };
                    }
                    within(scratch, || state.advance(&values));
                    std::mem::swap(&mut current, &mut last);
                    previous = true;
                }
                reset(scratch);
            }
            pg_sys::ExecClearTuple(current);
            pg_sys::ExecClearTuple(last);
        }
        self.end_sort();
    }

    /// Fetches a copy of the next row, which outlives the per-row context.
    unsafe fn next_sorted(&self, slot: *mut pg_sys::TupleTableSlot) -> bool {
        // SAFETY: the sort has been performed.
        unsafe {
            within((*self.econtext).ecxt_per_query_memory, || {
                pg_sys::tuplesort_gettupleslot(self.sort, true, true, slot, std::ptr::null_mut())
            })
        }
    }

    fn is_same(&self, a: *mut pg_sys::TupleTableSlot, b: *mut pg_sys::TupleTableSlot) -> bool {
        if self.same.is_null() {
            return false;
        }
        // SAFETY: both slots hold rows of `desc`.
        unsafe {
            (*self.econtext).ecxt_outertuple = a;
            (*self.econtext).ecxt_innertuple = b;
            pg_sys::ExecQual(self.same, self.econtext)
        }
    }

    unsafe fn begin_sort(&self) -> *mut pg_sys::Tuplesortstate {
        let mut columns: Vec<i16> = self.keys.iter().map(|key| key.column).collect();
        let mut operators: Vec<pg_sys::Oid> = self.keys.iter().map(|key| key.operator).collect();
        let mut collations: Vec<pg_sys::Oid> = self.keys.iter().map(|key| key.collation).collect();
        let mut nulls_first: Vec<bool> = self.keys.iter().map(|key| key.nulls_first).collect();
        // SAFETY: the arrays are copied; the sort must outlive the per-row context.
        unsafe {
            within((*self.econtext).ecxt_per_query_memory, || {
                pg_sys::tuplesort_begin_heap(
                    self.desc,
                    self.keys.len() as i32,
                    columns.as_mut_ptr(),
                    operators.as_mut_ptr(),
                    collations.as_mut_ptr(),
                    nulls_first.as_mut_ptr(),
                    pg_sys::work_mem,
                    std::ptr::null_mut(),
                    pg_sys::TUPLESORT_NONE as i32,
                )
            })
        }
    }

    fn end_sort(&mut self) {
        let sort = std::mem::replace(&mut self.sort, std::ptr::null_mut());
        if !sort.is_null() {
            // SAFETY: begun here, ended once.
            unsafe { pg_sys::tuplesort_end(sort) };
        }
    }
}

unsafe fn sort_keys(aggref: &pg_sys::Aggref, clauses: *mut pg_sys::List) -> Vec<Key> {
    // SAFETY: the clauses refer to entries of the aggregate's own argument list.
    unsafe {
        list::iter::<pg_sys::SortGroupClause>(clauses)
            .map(|clause| {
                let entry = pg_sys::get_sortgroupclause_tle(clause, aggref.args);
                Key {
                    column: (*entry).resno,
                    operator: (*clause).sortop,
                    equality: (*clause).eqop,
                    collation: pg_sys::exprCollation((*entry).expr.cast()),
                    nulls_first: (*clause).nulls_first,
                }
            })
            .collect()
    }
}

unsafe fn equality(desc: pg_sys::TupleDesc, keys: &[Key], parent: *mut pg_sys::PlanState) -> *mut pg_sys::ExprState {
    let columns: Vec<i16> = keys.iter().map(|key| key.column).collect();
    let operators: Vec<pg_sys::Oid> = keys.iter().map(|key| key.equality).collect();
    let collations: Vec<pg_sys::Oid> = keys.iter().map(|key| key.collation).collect();
    // SAFETY: arrays of one entry per key.
    unsafe {
        pg_sys::execTuplesMatchPrepare(
            desc,
            keys.len() as i32,
            columns.as_ptr(),
            operators.as_ptr(),
            collations.as_ptr(),
            parent,
        )
    }
}
