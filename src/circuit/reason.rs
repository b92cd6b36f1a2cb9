//! Why a query is not maintained incrementally: one stable code each, with its consequence and what to do about it.

use super::Refusal;
use std::borrow::Cow;

/// What follows from a reason, the gravest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// Maintained by recomputing when something it reads has changed.
    Recompute,
    /// The result may change by itself. A change of something it reads calls for a refresh, as for any other view, and
    /// every refresh recomputes.
    RecomputeAnyway,
    /// Something capture cannot see changes the result: recomputed at every refresh.
    AlwaysRecompute,
    /// Has no single right result: cannot be a stream table.
    Refuse,
}

pub struct Reason {
    pub code: &'static str,
    pub effect: Effect,
    pub hint: &'static str,
}

impl Reason {
    /// The detail is a sentence that names the construct.
    pub fn refuse(&self, detail: impl Into<String>) -> Refusal {
        Refusal { code: self.code, detail: detail.into(), hint: Cow::Borrowed(self.hint), effect: self.effect }
    }
}

macro_rules! reasons {
    ($($code:ident $effect:ident $hint:literal;)*) => {
        $(pub const $code: Reason = Reason { code: stringify!($code), effect: Effect::$effect, hint: $hint };)*
    };
}

reasons! {
    FULL_JOIN Recompute "Up to three full joins in one FROM clause, six in a query, are maintained incrementally; join some of the tables in a stream table of its own.";
    SUBLINK Recompute "Write the subquery as a join where that gives the same rows.";
    UNDETERMINED_SUBQUERY Recompute "Order by all columns of the subquery, group by types whose equal values are identical, and use aggregates that do not look at the order of rows.";
    WINDOW_FUNCTION Recompute "Compute window functions in a query over the view.";
    DISTINCT Recompute "Put what else the query does into a subquery in FROM and select DISTINCT from that, where that gives the same rows.";
    DISTINCT_ON Recompute "Compute DISTINCT ON in a query over the view.";
    SET_OPERATION Recompute "Combine columns of types with a default btree operator class and, for EXCEPT, whose equal values are identical; leave LIMIT to queries over the view.";
    LIMIT Recompute "Leave LIMIT and OFFSET to queries over the view.";
    RECURSIVE_CTE Recompute "Only WITH without RECURSIVE terms is maintained incrementally.";
    GROUPING_SETS Recompute "Group in a subquery in FROM, and put window functions, LIMIT or DISTINCT ON into the query around it.";
    SET_RETURNING_FUNCTION Recompute "Call the function in queries over the view.";
    NESTED_AGGREGATE Recompute "Select values of a type that a table can have a column of.";
    ORDERED_INPUT Recompute "Put ORDER BY inside the aggregate call, or leave it out.";
    NO_COLUMNS Recompute "Select a column, if only a constant.";
    UNSORTABLE_KEY Recompute "Group by an expression of a type with a default btree operator class, and a hash operator class if values may be long.";
    OTHER_EQUALITY Recompute "Leave out ORDER BY ... USING if the equality of the type is meant.";
    WIDE_GROUP Recompute "Distribute the aggregates over several views.";
    ONLY_INHERITANCE Recompute "Read the table with its children, or a table without children.";
    FOREIGN_TABLE AlwaysRecompute "Copy the foreign data into a table to have it maintained incrementally.";
    SYSTEM_CATALOG AlwaysRecompute "Changes of system catalogs cannot be captured.";
    MATERIALIZED_VIEW AlwaysRecompute "Make that materialized view a stream table: SET (pg_trickle.incremental = true).";
    UNLOGGED_TABLE AlwaysRecompute "A crash empties unlogged tables unseen; use ALTER TABLE ... SET LOGGED.";
    SEQUENCE AlwaysRecompute "Changes of sequences cannot be captured.";
    SYSTEM_COLUMN AlwaysRecompute "System columns change without the row being changed; use a column of the table.";
    TIME_DEPENDENT_FUNCTION AlwaysRecompute "Compare expressions of the clock with columns by <, <=, =, >= or >, outside of HAVING, subqueries and outer joins, to have it maintained incrementally.";
    SESSION_DEPENDENT_FUNCTION AlwaysRecompute "Leave what depends on the session to queries over the view.";
    CATALOG_FUNCTION AlwaysRecompute "Leave what depends on catalogs or storage to queries over the view.";
    STABLE_FUNCTION AlwaysRecompute "Mark the function IMMUTABLE if its result depends on its arguments alone.";
    VOLATILE_FUNCTION RecomputeAnyway "Leave the function to queries over the view to have it maintained incrementally.";
    TABLESAMPLE Refuse "Sample in queries over the view.";
    TEMP_TABLE Refuse "Use a permanent table.";
    ROW_LOCKING Refuse "Leave FOR UPDATE and FOR SHARE out of the view.";
}
