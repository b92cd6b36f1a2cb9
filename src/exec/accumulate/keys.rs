//! Which group a row belongs to, and which value stands for the group's key.
//!
//! Groups are told apart by the key types' own equality. Where equal keys can have different images (1.0 and 1.00)
//! the key in the state and in the view, the *representative*, must be the image of some row present: a
//! [`Witness`] watches over it, and when it fails the group is recomputed, which takes the first row's key.

use super::plan::Key;
use crate::exec::fold::witness::Witness;
use crate::exec::node::Node;
use crate::pg::facts;
use crate::pg::image::{Row, Shape};
use crate::pg::memory::{reset, within};
use crate::pg::slot::Slot;
use pgrx::pg_sys;

pub struct Keys {
    count: usize,
    /// A copy of the key of the group at hand, from its first row.
    current: Slot,
    /// Compares outer (the row) with inner (`current`); null without keys.
    same: *mut pg_sys::ExprState,
    econtext: *mut pg_sys::ExprContext,
    representative: Option<Representative>,
    /// One for each column that can be hashed, with its position.
    hashes: Vec<(usize, pg_sys::FmgrInfo, pg_sys::Oid)>,
}

struct Representative {
    slot: Slot,
    /// None until a row's key has been chosen.
    witness: Option<Witness>,
    shape: Shape,
    /// The columns whose equality does not imply the same image.
    columns: Vec<usize>,
}

impl Keys {
    /// `desc` describes the keys.
    pub fn new(keys: &[Key], desc: pg_sys::TupleDesc, node: Node) -> Self {
        let numbers: Vec<i16> = (1..=keys.len() as i16).collect();
        let operators: Vec<pg_sys::Oid> = keys.iter().map(|key| key.equality).collect();
        let collations: Vec<pg_sys::Oid> = keys.iter().map(|key| key.collation).collect();
        let columns: Vec<usize> = (0..keys.len()).filter(|&i| !keys[i].image_equal).collect();
        // SAFETY: one operator per column; the result and the slots live as long as the query.
        unsafe {
            let slot =
                || Slot::new(pg_sys::ExecInitExtraTupleSlot(node.estate(), desc, &raw const pg_sys::TTSOpsVirtual));
            Self {
                count: keys.len(),
                current: slot(),
                same: pg_sys::execTuplesMatchPrepare(
                    desc,
                    keys.len() as i32,
                    numbers.as_ptr(),
                    operators.as_ptr(),
                    collations.as_ptr(),
                    node.plan_state(),
                ),
                econtext: node.expr_context(),
                representative: (!columns.is_empty()).then(|| Representative {
                    slot: slot(),
                    witness: None,
                    shape: Shape::of(desc),
                    columns,
                }),
                hashes: keys.iter().enumerate().filter_map(hash_of).collect(),
            }
        }
    }

    pub fn count(&self) -> usize {
        self.count
    }

    /// There are no keys: one group, which always exists.
    pub fn is_global(&self) -> bool {
        self.count == 0
    }

    /// Turns to the group of `row`.
    pub fn begin(&mut self, row: Row) {
        keep(self.current, row);
        self.forget();
    }

    /// The group's representative has yet to be found.
    pub fn forget(&mut self) {
        self.representative.iter_mut().for_each(|representative| representative.witness = None);
    }

    /// The group's key was stored as `row`.
    pub fn load(&mut self, row: Row) {
        if let Some(representative) = &mut self.representative {
            keep(representative.slot, row);
            representative.witness = Some(Witness::stored());
        }
    }

    /// `slot` belongs to the group.
    #[inline]
    pub fn has(&self, slot: Slot) -> bool {
        if self.same.is_null() {
            return true;
        }
        // SAFETY: both slots begin with the key columns.
        unsafe {
            (*self.econtext).ecxt_outertuple = slot.as_ptr();
            (*self.econtext).ecxt_innertuple = self.current.as_ptr();
            let same = pg_sys::ExecQual(self.same, self.econtext);
            reset((*self.econtext).ecxt_per_tuple_memory);
            same
        }
    }

    /// A row of the group has this weight; rows of positive weight come first.
    #[inline]
    pub fn count_row(&mut self, row: Row, weight: i64) {
        let Some(Representative { slot, witness, shape, columns }) = &mut self.representative else { return };
        let Some(witness) = witness else {
            keep(*slot, row);
            witness.insert(Witness::absent()).count(weight);
            return;
        };
        let stored = slot.row(row.values.len());
        // SAFETY: both rows are of the keys' shape.
        if columns.iter().all(|&column| unsafe { shape.equal_at(column, stored, row) }) {
            witness.count(weight);
        }
    }

    /// The representative is the key of some row present.
    pub fn holds(&self) -> bool {
        self.representative.as_ref().is_none_or(|representative| representative.witness.is_some_and(Witness::holds))
    }

    /// The key that stands for the group.
    pub fn row(&self) -> Row<'_> {
        match &self.representative {
            Some(Representative { slot, witness: Some(_), .. }) => slot.row(self.count),
            _ => self.current.row(self.count),
        }
    }

    /// A hash of the current key: equal keys have equal ones.
    pub fn hash(&mut self) -> i64 {
        let Self { hashes, current, count, econtext, .. } = self;
        let row = current.row(*count);
        let mut sum = 0u64;
        // SAFETY: hash functions of the columns' types; their scratch memory is reset at the next row.
        unsafe {
            within((**econtext).ecxt_per_tuple_memory, || {
                for (column, function, collation) in hashes.iter_mut() {
                    let value = row.at(*column);
                    if !value.isnull {
                        let hash = pg_sys::FunctionCall1Coll(function, *collation, value.value).value() as u32;
                        sum = combine(sum, hash.into());
                    }
                }
            });
        }
        sum as i64
    }

    /// The slot holding the key of the group's first row.
    pub fn current(&self) -> Slot {
        self.current
    }
}

fn hash_of((column, key): (usize, &Key)) -> Option<(usize, pg_sys::FmgrInfo, pg_sys::Oid)> {
    let function = facts::hash_function(key.equality, key.typid)?;
    let mut info = pg_sys::FmgrInfo::default();
    // SAFETY: an existing function; what it keeps lives as long as the query.
    unsafe { pg_sys::fmgr_info(function, &mut info) };
    Some((column, info, key.collation))
}

/// As the server's hash_combine64.
fn combine(a: u64, b: u64) -> u64 {
    a ^ b.wrapping_add(0x49a0_f4dd_15e5_a8e3).wrapping_add(a << 54).wrapping_add(a >> 7)
}

/// Makes `slot` own a copy of `row`.
fn keep(slot: Slot, row: Row) {
    slot.store(row, &[]);
    // SAFETY: a live virtual slot.
    unsafe { pg_sys::ExecMaterializeSlot(slot.as_ptr()) };
}
