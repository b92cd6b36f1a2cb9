//! A function that says it is immutable and fails where it is not run as a view's own code should be: as the owner of
//! the view, in a security-restricted operation, with the restricted search path, under the settings pinned with the view.
//!
//! Called with a constant it runs when a plan is made, with a column when the plan is run. It lets everything pass where
//! a view is compared with its query, which is run by the session.

use crate::expr::Typed;
use crate::sql::literal;

/// While this is on, the guard lets everything pass.
pub const COMPARING: &str = "SET trickle.comparing = on";
pub const COMPARED: &str = "SET trickle.comparing = off";

/// Settings are pinned as the sessions of an episode have them when it begins.
pub const DEFINITION: &str = "DO $make$ BEGIN EXECUTE format($function$
CREATE FUNCTION guard(value int, owner text) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$
DECLARE
    settings text[] := ARRAY[current_setting('DateStyle'), current_setting('IntervalStyle'), current_setting('TimeZone'),
        current_setting('bytea_output'), current_setting('extra_float_digits')];
BEGIN
    IF current_setting('trickle.comparing', true) = 'on' THEN
        RETURN value;
    END IF;
    IF current_user <> (CASE owner WHEN '' THEN session_user ELSE owner END) THEN
        RAISE 'guard: run as %% instead of %%', current_user, owner;
    END IF;
    IF current_setting('search_path') <> 'pg_catalog, pg_temp' THEN
        RAISE 'guard: run with search_path %%', current_setting('search_path');
    END IF;
    IF settings <> %L THEN
        RAISE 'guard: run under settings %%', settings;
    END IF;
    PERFORM set_config('role', 'none', true);
    RAISE 'guard: run without restriction';
EXCEPTION WHEN insufficient_privilege THEN
    RETURN value;
END $$ $function$, ARRAY[current_setting('DateStyle'), current_setting('IntervalStyle'), current_setting('TimeZone'),
    current_setting('bytea_output'), current_setting('extra_float_digits')]); END $make$";

/// A condition that is true, with which the planner is done before the query runs.
pub fn of_constant(role: &str) -> String {
    format!("guard(1, {}) = 1", literal(role))
}

/// A condition that is true of every row.
pub fn of_column(column: &Typed, role: &str) -> String {
    let number = format!("{}::int", column.operand());
    format!("guard({number}, {}) IS NOT DISTINCT FROM {number}", literal(role))
}
