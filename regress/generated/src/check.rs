//! The comparison: a view and its query, as bags, in one statement and so at one snapshot.
//!
//! The query is expanded through upstream views down to base tables (promise 1). Values are compared as well as the
//! query determines them: by their text, which shows more than equality does; by equality, for the representative of a
//! group; or after rounding, for float aggregates whose last digits depend on the order of the input.

use crate::expr::Repr;
use crate::naming::Naming;
use crate::query::Output;
use crate::sql::{ViewId, literal};
use crate::world::Catalog;

/// Rows of difference shown per view.
const MOST_SHOWN: usize = 20;

/// A query for all rows that some view has too many or too few of: view, surplus (negative when missing), row.
pub fn comparison(catalog: &Catalog, naming: &Naming, views: &[ViewId]) -> String {
    let each: Vec<String> = views.iter().map(|v| difference(catalog, naming, *v)).collect();
    each.join("\nUNION ALL\n")
}

/// The comparison of one view by itself.
pub fn difference(catalog: &Catalog, naming: &Naming, view: ViewId) -> String {
    let definition = catalog.get(view);
    let names: Vec<String> = (0..definition.outputs.len()).map(|i| format!("image{i}")).collect();
    let images: Vec<String> =
        definition.outputs.iter().zip(&names).map(|(o, name)| format!("{} AS {name}", image(o))).collect();
    let (images, names) = (images.join(", "), names.join(", "));
    let expected = definition.query.as_expanded(catalog);
    naming.translate(&format!(
        "(SELECT {label} AS view, sum(weight) AS surplus, ROW({names})::text AS contents FROM (\n  \
           SELECT {images}, 1 AS weight FROM {name} AS actual\n  \
           UNION ALL SELECT {images}, -1 FROM ({expected}) AS expected\n\
         ) AS both_sides GROUP BY {names} HAVING sum(weight) <> 0 LIMIT {MOST_SHOWN})",
        label = literal(&definition.name),
        name = naming.rows_of(view, catalog),
    ))
}

/// What of a value must be the same on both sides.
fn image(output: &Output) -> String {
    let name = &output.name;
    match output.repr {
        Repr::Exact => format!("({name})::text COLLATE \"C\""),
        Repr::Equal => name.clone(),
        // asinh makes the tolerance absolute near zero and relative far from it; the offset keeps the borders between
        // rounded values away from simple fractions.
        Repr::Near => format!("floor(asinh(({name})::float8) * 1e7 + 0.31830988)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::Kind;
    use crate::sql;
    use crate::world::tests::view;

    #[test]
    fn expected_side_reads_base_tables_only() {
        let mut low = view("low", sql!["SELECT k FROM t"], &[]);
        low.outputs = vec![Output { name: "k".into(), kind: Kind::Int, repr: Repr::Exact }];
        let mut high = view("high", sql!["SELECT k FROM ", ViewId(0), " AS a"], &[0]);
        high.outputs = vec![Output { name: "k".into(), kind: Kind::Numeric, repr: Repr::Equal }];
        let text = comparison(&Catalog { definitions: vec![low, high] }, &Naming::default(), &[ViewId(1)]);
        assert!(text.contains("SELECT k AS image0, 1 AS weight FROM high AS actual"));
        assert!(text.contains("SELECT k AS image0, -1 FROM (SELECT k FROM (SELECT k FROM t) AS a) AS expected"));
    }
}
