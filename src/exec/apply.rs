//! Writing a refresh's changes into its materialized view.

mod row_image_hash;
