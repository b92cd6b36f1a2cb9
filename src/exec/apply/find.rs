//! Finding the view's rows of a given image.
//!
//! Every way ends with a comparison of images; an index only makes the candidates few.

use super::index::ApplyIndex;
use crate::exec::store::{Search, Store};
use crate::pg::image::{Row, Shape};
use pgrx::pg_sys::{self, Datum, NullableDatum};

/// Searches one view for rows.
pub struct Finder {
    search: Search,
    by: By,
}

/// The values that candidates are found by.
enum By {
    /// Those of these columns.
    Columns(Vec<usize>),
    /// The hash of the image of these columns.
    Hash(Vec<usize>),
    /// All rows are candidates.
    Nothing,
}

impl Finder {
    /// A search through `index`, or by scanning the view when that is gone.
    pub fn new(view: &Store, index: &ApplyIndex) -> Self {
        let found = index.oid().and_then(|oid| view.index(oid));
        let by = match index {
            ApplyIndex::Key { columns, .. } if found.is_some() => By::Columns(columns.clone()),
            ApplyIndex::Hash { columns, .. } if found.is_some() => By::Hash(columns.clone()),
            _ => By::Nothing,
        };
        Self { search: view.search(found), by }
    }

    /// Starts a search for rows with the image of `row`.
    ///
    /// # Safety
    /// `row` is a live row of the view's shape until the search is over.
    pub unsafe fn search(&mut self, shape: &Shape, row: Row) {
        match &self.by {
            By::Columns(columns) => self.search.start(columns.iter().map(|&column| row.at(column))),
            By::Hash(columns) => {
                // SAFETY: a live row of the shape.
                let hash = unsafe { shape.hash(row, columns.iter().copied()) };
                self.search.start([NullableDatum { value: Datum::from(hash), isnull: false }]);
            }
            By::Nothing => self.search.start([]),
        }
    }

    /// The next row found.
    ///
    /// # Safety
    /// After `search` with the same row.
    pub unsafe fn next(&mut self, shape: &Shape, row: Row) -> Option<pg_sys::ItemPointerData> {
        loop {
            let found = self.search.next()?;
            // SAFETY: both are live rows of the view's shape; the slot holds a stored one.
            unsafe {
                if shape.equal(found.row(shape.len()), row) {
                    return Some((*found.as_ptr()).tts_tid);
                }
            }
        }
    }

    pub fn end(&self) {
        self.search.end();
    }
}
