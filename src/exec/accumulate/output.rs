//! From a group's key and results to rows of the view.

use crate::exec::node::Node;
use crate::exec::weighted::{self, Layout};
use crate::pg::image::{Row, Shape};
use crate::pg::slot::Slot;
use pgrx::pg_sys::{self, NullableDatum};

/// Which of a group's two rows.
#[derive(Clone, Copy)]
pub enum Side {
    /// As it stands in the view, weight -1.
    Old,
    /// As it should, weight +1.
    New,
}

pub struct Output {
    /// Keys and results, weighted: what the expressions see as the outer tuple.
    input: Slot,
    layout: Layout,
    having: *mut pg_sys::ExprState,
    /// Its per-tuple memory lives as long as the group.
    econtext: *mut pg_sys::ExprContext,
    slots: [Slot; 2],
    projections: [*mut pg_sys::ProjectionInfo; 2],
    /// The view's columns, without the weight.
    shape: Shape,
}

impl Output {
    /// `columns` are target entries over the columns of `input`, which describes weighted rows.
    pub fn new(
        columns: *mut pg_sys::List,
        having: *mut pg_sys::Node,
        input: pg_sys::TupleDesc,
        group: *mut pg_sys::ExprContext,
        node: Node,
    ) -> Self {
        // SAFETY: expressions prepared by the plan constructor; slots live as long as the query.
        unsafe {
            let kind = &raw const pg_sys::TTSOpsVirtual;
            let second = pg_sys::ExecInitExtraTupleSlot(node.estate(), (*node.scan_slot()).tts_tupleDescriptor, kind);
            let slots = [node.scan_slot(), second];
            let layout = Layout::described(input);
            let list = weighted::with(pg_sys::list_copy(columns), layout.outer_var());
            let project = |slot| pg_sys::ExecBuildProjectionInfo(list, group, slot, node.plan_state(), input);
            let output = (*second).tts_tupleDescriptor;
            Self {
                input: Slot::new(pg_sys::ExecInitExtraTupleSlot(node.estate(), input, kind)),
                layout,
                having: pg_sys::ExecInitQual(pg_sys::make_ands_implicit(having.cast()), node.plan_state()),
                econtext: group,
                slots: slots.map(|slot| Slot::new(slot)),
                projections: slots.map(project),
                shape: Layout::described(output).shape(output),
            }
        }
    }

    /// Forms one row; None if it fails HAVING. An old row is a copy, since states change in place.
    pub fn form(&self, side: Side, key: Row, results: &[NullableDatum]) -> Option<Slot> {
        let (index, weight) = match side {
            Side::Old => (0, -1i64),
            Side::New => (1, 1i64),
        };
        self.store_input(key, results, weight);
        // SAFETY: prepared expressions over the input slot, evaluated in the group's memory.
        unsafe {
            (*self.econtext).ecxt_outertuple = self.input.as_ptr();
            if !self.having.is_null() && !pg_sys::ExecQual(self.having, self.econtext) {
                return None;
            }
            let slot = pg_sys::ExecProject(self.projections[index]);
            if matches!(side, Side::Old) {
                pg_sys::ExecMaterializeSlot(slot);
            }
        }
        Some(self.slots[index])
    }

    /// The two rows last formed have the same image.
    pub fn is_unchanged(&self) -> bool {
        let [old, new] = self.slots.each_ref().map(|slot| slot.row(self.shape.len()));
        // SAFETY: both are rows of the view's shape.
        unsafe { self.shape.equal(old, new) }
    }

    fn store_input(&self, key: Row, results: &[NullableDatum], weight: i64) {
        let slot = self.input.as_ptr();
        self.input.store(key, &[]);
        // SAFETY: the slot's descriptor has keys, results and weight.
        unsafe {
            for (index, result) in results.iter().enumerate() {
                *(*slot).tts_values.add(key.values.len() + index) = result.value;
                *(*slot).tts_isnull.add(key.values.len() + index) = result.isnull;
            }
            self.layout.put_weight(self.input, weight);
        }
    }
}
