-- What the owner of a view has written runs as the owner, restricted and under the settings of the view, whoever has it
-- run: functions that the planner calls because their arguments are constant, and those that a refresh calls.
CREATE ROLE regress_mallory;
CREATE ROLE regress_maintainer;
CREATE ROLE regress_root SUPERUSER LOGIN;
CREATE SCHEMA m;
GRANT ALL ON SCHEMA m TO regress_mallory;
GRANT USAGE ON SCHEMA m TO regress_maintainer;
CREATE TABLE m.src (a int PRIMARY KEY, b int);
CREATE TABLE m.other (a int PRIMARY KEY, c int);
INSERT INTO m.src SELECT g, g % 7 FROM generate_series(1, 200) g;
INSERT INTO m.other SELECT g, g % 5 FROM generate_series(1, 200) g;
GRANT SELECT, TRIGGER ON m.src, m.other TO regress_mallory;
CREATE FUNCTION is_super() RETURNS boolean LANGUAGE sql AS
    'SELECT rolsuper FROM pg_roles WHERE rolname = ''regress_mallory''';
-- Changes that make a delta of the smallest kind, and no two plans the same.
CREATE SEQUENCE change;
CREATE PROCEDURE more() LANGUAGE plpgsql AS $$
DECLARE n int := nextval('change');
BEGIN
    INSERT INTO m.src SELECT 1000 * n + g, g FROM generate_series(1, n * n) g;
    INSERT INTO m.other SELECT 1000 * n + g, g FROM generate_series(1, n) g;
END $$;

-- A function that takes what it can get. It is not immutable, and nobody knows.
SET ROLE regress_mallory;
CREATE FUNCTION m.take() RETURNS int VOLATILE LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        EXECUTE 'ALTER ROLE regress_mallory SUPERUSER';
    END IF;
    RETURN 70;
END $$;
CREATE FUNCTION m.k() RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN m.take(); END';
CREATE MATERIALIZED VIEW m.greedy WITH (pg_trickle.incremental) AS SELECT a, b FROM m.src WHERE b <> m.k();
CREATE MATERIALIZED VIEW m.limited WITH (pg_trickle.incremental) AS SELECT a FROM m.src ORDER BY a LIMIT m.k();
GRANT MAINTAIN ON m.greedy TO regress_maintainer;
RESET ROLE;
CALL more();
DO 'BEGIN EXECUTE ''EXPLAIN REFRESH MATERIALIZED VIEW m.greedy''; END';
SELECT is_super();
SELECT count(*) > 0 AS explained FROM pgtrickle.explain_st('m.greedy');
SELECT is_super();
SELECT count(*) > 0 AS validated FROM pgtrickle.validate_query('SELECT a FROM m.src WHERE b <> m.k() LIMIT m.k() OFFSET m.k()');
SELECT is_super();
REFRESH MATERIALIZED VIEW m.greedy;
REFRESH MATERIALIZED VIEW m.limited;
SELECT is_super();
CALL more();
DO 'BEGIN EXECUTE ''EXPLAIN ANALYZE REFRESH MATERIALIZED VIEW m.greedy''; END';
SELECT is_super();
CALL more();
SELECT pgtrickle.refresh_stream_table('m.greedy');
SELECT is_super();
-- After a redefinition, and when capture follows a changed table.
CREATE OR REPLACE FUNCTION m.k() RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN m.take() + 0; END';
DO 'BEGIN EXECUTE ''EXPLAIN REFRESH MATERIALIZED VIEW m.greedy''; END';
REFRESH MATERIALIZED VIEW m.greedy;
SELECT is_super();
CREATE POLICY everything ON m.src USING (true);
ALTER TABLE m.src ENABLE ROW LEVEL SECURITY;
REFRESH MATERIALIZED VIEW m.greedy;
SELECT is_super();
ALTER MATERIALIZED VIEW m.greedy SET (pg_trickle.refresh_mode = 'FULL');
ALTER MATERIALIZED VIEW m.greedy SET (pg_trickle.refresh_mode = 'AUTO');
REFRESH MATERIALIZED VIEW m.greedy;
SELECT is_super();
-- The scheduler's workers are superusers.
ALTER SYSTEM SET pg_trickle.enabled = on;
SELECT pg_reload_conf();
CALL more();
SELECT pgtrickle.wait_until_fresh('m.greedy', '60s'), pgtrickle.wait_until_fresh('m.limited', '60s');
SELECT is_super();
CREATE OR REPLACE FUNCTION m.k() RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN m.take() + 1; END';
CALL more();
SELECT pgtrickle.wait_until_fresh('m.greedy', '60s');
SELECT is_super();
ALTER SYSTEM RESET pg_trickle.enabled;
SELECT pg_reload_conf();
ALTER ROLE regress_mallory NOSUPERUSER;

-- A guard that fails where it is not run as it should be. It is called with a constant, when the plan is made, and with a column.
SET ROLE regress_mallory;
CREATE FUNCTION m.checked_identity() RETURNS boolean VOLATILE LANGUAGE plpgsql AS $$
BEGIN
    IF current_user <> 'regress_mallory' THEN
        RAISE 'code of the owner runs as somebody else';
    END IF;
    -- Refused only in a security-restricted operation.
    PERFORM set_config('role', 'none', true);
    RAISE 'code of the owner runs without restriction';
EXCEPTION WHEN insufficient_privilege THEN
    IF current_setting('search_path') <> 'pg_catalog, pg_temp' THEN
        RAISE 'code of the owner runs with search_path %', current_setting('search_path');
    END IF;
    RETURN true;
END $$;
CREATE FUNCTION m.checked_settings() RETURNS boolean VOLATILE LANGUAGE plpgsql AS $$
DECLARE
    found text := (SELECT string_agg(current_setting(name), '; ')
                     FROM unnest('{DateStyle,IntervalStyle,TimeZone,bytea_output,extra_float_digits}'::text[]) name);
BEGIN
    IF found <> 'German, DMY; sql_standard; Asia/Tokyo; hex; 0' THEN
        RAISE 'code of the owner runs under other settings: %', found;
    END IF;
    RETURN true;
END $$;
CREATE FUNCTION m.guard(a int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS
    'BEGIN RETURN CASE WHEN m.checked_identity() AND m.checked_settings() THEN a END; END';
CREATE FUNCTION m.guard_identity(a int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS
    'BEGIN RETURN CASE WHEN m.checked_identity() THEN a END; END';
SET DateStyle = 'German';
SET IntervalStyle = 'sql_standard';
SET TimeZone = 'Asia/Tokyo';
SET bytea_output = hex;
SET extra_float_digits = 0;
CREATE MATERIALIZED VIEW m.guarded WITH (pg_trickle.incremental) AS
    SELECT s.a, m.guard(s.b) AS b, o.c FROM m.src s JOIN m.other o ON o.a = s.a WHERE s.b <> m.guard(70);
CREATE MATERIALIZED VIEW m.grouped WITH (pg_trickle.incremental) AS
    SELECT b, sum(m.guard(a)) AS sum, min(a + m.guard(1)) AS min, count(*) FILTER (WHERE a > m.guard(5)) AS n,
           percentile_disc(m.guard(1) / 2.0) WITHIN GROUP (ORDER BY a) AS median
      FROM m.src GROUP BY b HAVING count(*) > m.guard(0);
CREATE MATERIALIZED VIEW m.above WITH (pg_trickle.incremental) AS SELECT b, sum + m.guard(1) AS sum FROM m.grouped;
CREATE MATERIALIZED VIEW m.always WITH (pg_trickle.incremental) AS
    SELECT a, now() > '2020-01-01' AS later FROM m.src WHERE a <> m.guard(0);
-- A transition value whose type has a constraint: it is checked when the state table is laid out and when plans are made.
CREATE DOMAIN m.small AS int CHECK (m.guard(VALUE) IS NOT NULL);
CREATE FUNCTION m.add(m.small, int) RETURNS m.small IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN $1 + $2; END';
CREATE FUNCTION m.made(a int) RETURNS m.small IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN a; END';
RESET ROLE;
-- CREATE AGGREGATE reads the initial value in the session, where the guard would fail.
ALTER DOMAIN m.small DROP CONSTRAINT small_check;
CREATE AGGREGATE m.total (int) (sfunc = m.add, stype = m.small, initcond = '0');
ALTER DOMAIN m.small ADD CONSTRAINT small_check CHECK (m.guard(VALUE) IS NOT NULL) NOT VALID;
SET ROLE regress_mallory;
CREATE MATERIALIZED VIEW m.totals WITH (pg_trickle.incremental) AS SELECT b, m.total(a)::int FROM m.src GROUP BY b WITH NO DATA;
GRANT MAINTAIN ON m.greedy, m.limited, m.guarded, m.grouped, m.above, m.always, m.totals TO regress_maintainer;
RESET ROLE;
RESET DateStyle;
RESET IntervalStyle;
RESET TimeZone;
RESET bytea_output;
RESET extra_float_digits;

-- Refreshed by this and that user under these and those settings.
CREATE FUNCTION views() RETURNS SETOF text LANGUAGE sql AS
    $$ VALUES ('m.guarded'), ('m.grouped'), ('m.above'), ('m.always'), ('m.totals') $$;
CREATE PROCEDURE refresh_all() LANGUAGE plpgsql AS $$
DECLARE v text;
BEGIN
    FOR v IN SELECT public.views() LOOP
        EXECUTE 'EXPLAIN REFRESH MATERIALIZED VIEW ' || v;
        EXECUTE 'REFRESH MATERIALIZED VIEW ' || v;
        EXECUTE 'EXPLAIN ANALYZE REFRESH MATERIALIZED VIEW ' || v;
        PERFORM pgtrickle.explain_st(v);
        PERFORM pgtrickle.explain_refresh_mode(v);
    END LOOP;
    PERFORM pgtrickle.pgt_status(), pgtrickle.change_buffer_sizes();
    PERFORM FROM pgtrickle.pgt_stream_tables;
END $$;
GRANT USAGE ON SEQUENCE change TO PUBLIC;
SET ROLE regress_maintainer;
SET bytea_output = escape;
CALL refresh_all();
RESET ROLE;
CALL more();
SET TimeZone = 'America/New_York';
CALL refresh_all();
CALL more();
SET ROLE regress_mallory;
SET extra_float_digits = 3;
CALL refresh_all();
RESET ROLE;
CALL more();
SET ROLE regress_maintainer;
SET DateStyle = 'SQL';
CALL refresh_all();
RESET ROLE;
-- In a new session, as another superuser, and from a function of the superuser's own.
\c - regress_root
CREATE PROCEDURE refresh_all_definer() SECURITY DEFINER LANGUAGE plpgsql AS 'BEGIN CALL public.refresh_all(); END';
GRANT EXECUTE ON PROCEDURE refresh_all_definer TO regress_maintainer;
CALL more();
SET ROLE regress_maintainer;
CALL refresh_all_definer();
RESET ROLE;
-- With everything recomputed; after redefinitions; after DDL on what is read.
CALL more();
SET pg_trickle.refresh_strategy = full;
CALL refresh_all();
RESET pg_trickle.refresh_strategy;
CREATE OR REPLACE FUNCTION m.add(m.small, int) RETURNS m.small IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN $1 + $2 + 0; END';
CALL refresh_all();
\c - regress_root
ALTER TABLE m.src ADD d int;
ALTER TABLE m.src DROP d;
ALTER POLICY everything ON m.src USING (a > 0);
CREATE POLICY all_of_other ON m.other USING (true);
ALTER TABLE m.other ENABLE ROW LEVEL SECURITY;
CALL refresh_all();
ALTER TABLE m.src DISABLE ROW LEVEL SECURITY;
DROP INDEX m.guarded_trickle_idx, m.grouped_trickle_idx;
CALL refresh_all();
ALTER MATERIALIZED VIEW m.totals SET (pg_trickle.refresh_mode = 'FULL');
ALTER MATERIALIZED VIEW m.totals SET (pg_trickle.refresh_mode = 'AUTO');
CALL refresh_all();
ALTER SYSTEM SET pg_trickle.enabled = on;
SELECT pg_reload_conf();
CALL more();
SELECT v, pgtrickle.wait_until_fresh(v, '60s') FROM views() v WHERE v <> 'm.always';
ALTER TABLE m.src ENABLE ROW LEVEL SECURITY;
CALL more();
SELECT v, pgtrickle.wait_until_fresh(v, '60s') FROM views() v WHERE v <> 'm.always';
ALTER SYSTEM RESET pg_trickle.enabled;
SELECT pg_reload_conf();
SELECT pgt_name FROM pgtrickle.pgt_stream_tables WHERE last_error_at IS NOT NULL;

-- An index of the owner's, on an expression of constants: looking for our own index evaluates nothing.
SET ROLE regress_mallory;
CREATE INDEX ON m.always (m.guard_identity(7));
CREATE UNIQUE INDEX ON m.above (b) NULLS NOT DISTINCT WHERE m.guard_identity(1) = 1;
CREATE MATERIALIZED VIEW m.over WITH (pg_trickle.incremental) AS SELECT b, sum FROM m.above;
RESET ROLE;
\c - regress_root
CALL more();
CALL refresh_all();
REFRESH MATERIALIZED VIEW m.over;
SELECT count(*) > 0 AS explained FROM pgtrickle.explain_st('m.over');
SELECT count(*) > 0 AS validated FROM pgtrickle.validate_query('SELECT x.b FROM m.above x JOIN m.always y ON x.b = y.a');
\c - regress_root
ALTER MATERIALIZED VIEW m.always SET (pg_trickle.incremental = false);
ALTER MATERIALIZED VIEW m.always SET (pg_trickle.incremental = true, pg_trickle.settings = 'DateStyle=German, DMY; IntervalStyle=sql_standard; TimeZone=Asia/Tokyo; bytea_output=hex; extra_float_digits=0');

-- Another owner, another identity: what a session knew of the view is not used again.
CREATE FUNCTION m.who() RETURNS text IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN current_user; END';
CREATE MATERIALIZED VIEW m.whose WITH (pg_trickle.incremental) AS SELECT a, m.who() FROM m.other;
CALL more();
REFRESH MATERIALIZED VIEW m.whose;
SELECT DISTINCT who FROM m.whose ORDER BY 1;
ALTER MATERIALIZED VIEW m.whose OWNER TO regress_mallory;
CALL more();
REFRESH MATERIALIZED VIEW m.whose;
SELECT DISTINCT who FROM m.whose ORDER BY 1;

-- A function in the query that turns on its own view, or on what the view reads, harms nobody else.
SET ROLE regress_mallory;
CREATE FUNCTION m.run(statement text) RETURNS int VOLATILE LANGUAGE plpgsql AS 'BEGIN EXECUTE statement; RETURN 0; END';
CREATE FUNCTION m.quietly(statement text) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN m.run(statement); END';
CREATE TABLE m.own (a int PRIMARY KEY);
INSERT INTO m.own VALUES (1), (2), (3);
CREATE MATERIALIZED VIEW m.refreshes WITH (pg_trickle.incremental) AS
    SELECT a FROM m.own WHERE a > m.quietly('REFRESH MATERIALIZED VIEW m.refreshes') WITH NO DATA;
CREATE MATERIALIZED VIEW m.drops WITH (pg_trickle.incremental) AS
    SELECT a FROM m.own WHERE a > m.quietly('DROP MATERIALIZED VIEW m.drops') WITH NO DATA;
CREATE MATERIALIZED VIEW m.releases WITH (pg_trickle.incremental) AS
    SELECT a FROM m.own WHERE a > m.quietly('ALTER MATERIALIZED VIEW m.releases SET (pg_trickle.incremental = false)') WITH NO DATA;
CREATE MATERIALIZED VIEW m.drops_table WITH (pg_trickle.incremental) AS
    SELECT a FROM m.own WHERE a > m.quietly('DROP TABLE m.own CASCADE') WITH NO DATA;
CREATE MATERIALIZED VIEW m.drops_index WITH (pg_trickle.incremental) AS
    SELECT x.a, y.a AS b FROM m.own x JOIN m.own y USING (a) WHERE a > m.quietly('DROP INDEX IF EXISTS m.drops_index_trickle_idx') WITH NO DATA;
RESET ROLE;
\set VERBOSITY sqlstate
REFRESH MATERIALIZED VIEW m.refreshes;
REFRESH MATERIALIZED VIEW m.drops;
EXPLAIN REFRESH MATERIALIZED VIEW m.drops;
REFRESH MATERIALIZED VIEW m.releases;
EXPLAIN REFRESH MATERIALIZED VIEW m.releases;
REFRESH MATERIALIZED VIEW m.drops_table;
EXPLAIN REFRESH MATERIALIZED VIEW m.drops_table;
DO 'BEGIN REFRESH MATERIALIZED VIEW m.drops_index; EXCEPTION WHEN OTHERS THEN NULL; END';
INSERT INTO m.own VALUES (4);
DO 'BEGIN REFRESH MATERIALIZED VIEW m.drops_index; EXCEPTION WHEN OTHERS THEN NULL; END';
DO 'BEGIN EXECUTE ''EXPLAIN ANALYZE REFRESH MATERIALIZED VIEW m.drops_index''; EXCEPTION WHEN OTHERS THEN NULL; END';
\set VERBOSITY default
SELECT current_user = session_user AS same_user, count(*) FROM m.own;

-- ANALYZE, and so autovacuum, calls a function that the maker of a range type brings along, as the owner of the table. A state
-- table has columns of such types and belongs to a superuser.
SET ROLE regress_mallory;
CREATE FUNCTION m.distance(a int, b int) RETURNS float8 IMMUTABLE LANGUAGE plpgsql AS 'BEGIN PERFORM m.take(); RETURN a - b; END';
CREATE TYPE m.span AS RANGE (subtype = int, subtype_diff = m.distance);
CREATE TABLE m.spans (s m.span);
INSERT INTO m.spans SELECT m.span(g, g + 2) FROM generate_series(1, 100) g;
CREATE MATERIALIZED VIEW m.counted WITH (pg_trickle.incremental) AS SELECT s, count(*) AS n FROM m.spans GROUP BY s;
RESET ROLE;
DO $$
BEGIN
    EXECUTE (SELECT format('ANALYZE %s', relid::regclass) FROM pgtrickle_internal.state WHERE view = 'm.counted'::regclass);
END $$;
SELECT is_super();
ANALYZE m.spans, m.counted;
SELECT is_super();
INSERT INTO m.spans VALUES (m.span(1, 3)), (m.span(1, 2)), (NULL);
REFRESH MATERIALIZED VIEW m.counted;
SELECT n, count(*) FROM m.counted GROUP BY n ORDER BY n;

\c - postgres
SET client_min_messages = warning;
DROP SCHEMA m CASCADE;
DROP FUNCTION is_super, views;
DROP PROCEDURE more, refresh_all, refresh_all_definer;
DROP SEQUENCE change;
DROP ROLE regress_mallory, regress_maintainer, regress_root;
