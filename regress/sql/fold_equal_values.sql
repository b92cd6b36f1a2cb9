-- An UPDATE adds and removes the values that it leaves alone. An aggregate which cannot remove a value holds what is added back
-- until it is known what is removed: in time linear in the rows, however many of them are equal, or hash alike. A search among
-- equals would take minutes here.
CREATE SCHEMA fold_equal_values;
SET search_path = fold_equal_values;
SET statement_timeout = '30s';
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/data/wrong.sql'
\i :helpers
SET work_mem = '16MB';
CREATE TABLE q (id int PRIMARY KEY, g int, v int, f float8, t text, n numeric, w int);
-- Of each group: one value of v; f is different in all rows, with zeros in its lower bits; t is NULL in most; n is equal but
-- not identical.
INSERT INTO q SELECT i, i % 3, 1, i, CASE WHEN i % 1000 = 0 THEN 'text ' || i % 7 END,
                     CASE WHEN i % 2 = 0 THEN 1.0 ELSE 1.00 END, i FROM generate_series(1, 120000) i;
CREATE MATERIALIZED VIEW counted WITH (pg_trickle.incremental) AS
    SELECT g, count(DISTINCT v) AS v, count(DISTINCT n) AS n, count(DISTINCT f) AS f, sum(w) AS w FROM q GROUP BY g;
CREATE MATERIALIZED VIEW summed WITH (pg_trickle.incremental) AS
    SELECT g, sum(v::float8) AS v, sum(f) AS f, cardinality(array_agg(v)) AS vs, string_agg(t, ',' ORDER BY t) AS t, max(w) AS w FROM q GROUP BY g;
SET pg_trickle.refresh_strategy = delta;
CREATE FUNCTION refresh(view regclass, OUT recomputed text, OUT wrong bigint) LANGUAGE plpgsql AS $$
DECLARE
    line text;
BEGIN
    FOR line IN EXECUTE format('EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF) REFRESH MATERIALIZED VIEW %s', view) LOOP
        recomputed := coalesce(substring(line FROM 'Groups Recomputed: \d+'), recomputed);
    END LOOP;
    wrong := wrong(view);
END $$;

-- All rows change, but none of the values that are held back.
UPDATE q SET w = w + 1;
SELECT * FROM refresh('counted');
SELECT * FROM refresh('summed');
-- Additions only, and then what was added is removed together with as much that was there.
INSERT INTO q SELECT 200000 + i, i % 3, 1, i, NULL, 1.0, i FROM generate_series(1, 60000) i;
SELECT * FROM refresh('counted');
SELECT * FROM refresh('summed');
DELETE FROM q WHERE id % 2 = 0;
UPDATE q SET w = w - 1;
SELECT * FROM refresh('counted');
SELECT * FROM refresh('summed');
-- Some of the equal values change: one copy less is a change.
UPDATE q SET v = 2, w = w + 1 WHERE id IN (7, 8, 9);
UPDATE q SET w = w + 1 WHERE g = 1;
SELECT * FROM refresh('counted');
SELECT * FROM refresh('summed');
-- More different values than there is room for are applied at once, and their groups recomputed.
SET work_mem = '64kB';
UPDATE q SET w = w + 1;
SELECT * FROM refresh('counted');
SELECT * FROM refresh('summed');

SET client_min_messages = warning;
DROP SCHEMA fold_equal_values CASCADE;
