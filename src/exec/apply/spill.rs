//! Changes sorted by group and image through the server's external sort, when they outgrow work_mem.

use super::change::{Change, Grouping, Place, sort_operator};
use crate::pg::image::Row;
use crate::pg::slot::Slot;
use pgrx::{IntoDatum, pg_sys};

/// Columns after the view's.
const MORE: usize = 4;

/// A sort of rows made of the view's columns, then weight, image, group and place.
pub struct Spill {
    sort: *mut pg_sys::Tuplesortstate,
    /// The view's columns.
    columns: usize,
    /// Rows on their way in (virtual) and out (minimal).
    input: Slot,
    output: Slot,
}

impl Spill {
    pub fn new(desc: pg_sys::TupleDesc, grouping: &Grouping) -> Self {
        // SAFETY: the descriptors live as long as the query.
        unsafe {
            let columns = (*desc).natts as usize;
            let sort_desc = sort_desc(desc);
            Self {
                sort: begin_sort(sort_desc, columns, grouping),
                columns,
                input: Slot::make(sort_desc, &raw const pg_sys::TTSOpsVirtual),
                output: Slot::make(sort_desc, &raw const pg_sys::TTSOpsMinimalTuple),
            }
        }
    }

    pub fn put(&self, row: Row, change: Change) {
        let more = [change.weight, change.image, change.group, change.place.0].map(pg_sys::Datum::from);
        self.input.store(row, &more);
        // SAFETY: the sort copies the row.
        unsafe { pg_sys::tuplesort_puttupleslot(self.sort, self.input.as_ptr()) };
    }

    /// All rows are in.
    pub fn sort(&self) {
        // SAFETY: the sort is begun and not yet performed.
        unsafe { pg_sys::tuplesort_performsort(self.sort) };
    }

    /// The next change in order; its tuple is palloc'd.
    pub fn next(&self) -> Option<Change> {
        let none = std::ptr::null_mut();
        // SAFETY: the sort is performed; the slot borrows the row until the next call and is copied at once.
        unsafe {
            pg_sys::tuplesort_gettupleslot(self.sort, true, false, self.output.as_ptr(), none).then(|| {
                let row = self.output.row(self.columns + MORE);
                let [weight, image, group, place] = [0, 1, 2, 3].map(|i| row.values[self.columns + i].value() as i64);
                Change {
                    tuple: pg_sys::ExecCopySlotMinimalTuple(self.output.as_ptr()),
                    weight,
                    image,
                    group,
                    place: Place(place),
                }
            })
        }
    }

    pub fn end(&self) {
        self.input.drop();
        self.output.drop();
        // SAFETY: ended once.
        unsafe { pg_sys::tuplesort_end(self.sort) };
    }
}

unsafe fn sort_desc(desc: pg_sys::TupleDesc) -> pg_sys::TupleDesc {
    // SAFETY: attribute numbers are within both descriptors.
    unsafe {
        let natts = (*desc).natts;
        let sort_desc = pg_sys::CreateTemplateTupleDesc(natts + MORE as i32);
        for attribute in 1..=natts as i16 {
            pg_sys::TupleDescCopyEntry(sort_desc, attribute, desc, attribute);
        }
        for (i, name) in [c"weight", c"image", c"group", c"place"].into_iter().enumerate() {
            pg_sys::TupleDescInitEntry(sort_desc, natts as i16 + 1 + i as i16, name.as_ptr(), i64::type_oid(), -1, 0);
        }
        sort_desc
    }
}

/// Sorts by group, then image hash, so that equal images are adjacent (but for collisions) within their group.
unsafe fn begin_sort(sort_desc: pg_sys::TupleDesc, columns: usize, grouping: &Grouping) -> *mut pg_sys::Tuplesortstate {
    let mut by: Vec<usize> = match grouping {
        Grouping::Key(order) => order.columns.clone(),
        Grouping::Hash(_) | Grouping::One => vec![columns + 2],
    };
    by.push(columns + 1);
    let mut attributes: Vec<i16> = by.iter().map(|&column| column as i16 + 1).collect();
    let (mut operators, mut collations): (Vec<_>, Vec<_>) =
        by.iter().map(|&column| sort_operator(sort_desc, column)).unzip();
    let mut nulls_first = vec![false; by.len()];
    // SAFETY: the arrays have one element per sort column and are copied.
    unsafe {
        pg_sys::tuplesort_begin_heap(
            sort_desc,
            by.len() as i32,
            attributes.as_mut_ptr(),
            operators.as_mut_ptr(),
            collations.as_mut_ptr(),
            nulls_first.as_mut_ptr(),
            pg_sys::work_mem,
            std::ptr::null_mut(),
            pg_sys::TUPLESORT_NONE as i32,
        )
    }
}
