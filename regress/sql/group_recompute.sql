-- Groups that a delta cannot continue are computed anew from their rows: which index finds these is advised, and EXPLAIN shows
-- the plan that reads them.
CREATE SCHEMA group_recompute;
SET search_path = group_recompute;
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/data/wrong.sql'
\i :helpers
CREATE TABLE "Read ings" (id int PRIMARY KEY, at timestamptz NOT NULL, "De v" text, v int);
INSERT INTO "Read ings" SELECT i, '2026-01-01 00:00+00'::timestamptz + i * interval '10 seconds', 'device ' || i % 5, i % 100 + 10
    FROM generate_series(1, 20000) i;
VACUUM ANALYZE "Read ings";
CREATE FUNCTION advice(query text, OUT result text, OUT severity text) RETURNS SETOF record LANGUAGE sql AS $$
    SELECT result, severity FROM pgtrickle.validate_query(query) WHERE check_name = 'index'
$$;
CREATE MATERIALIZED VIEW hourly WITH (pg_trickle.incremental) AS
    SELECT date_trunc('hour', at, 'UTC') AS hour, "De v", min(v) AS low FROM "Read ings" GROUP BY 1, 2;
ANALYZE hourly;
SELECT pg_get_viewdef('hourly') AS hourly \gset
SELECT * FROM advice(:'hourly');
SELECT value FROM pgtrickle.explain_st('hourly') WHERE property = 'advice';

-- The second plan, and what it did.
SET pg_trickle.refresh_strategy = delta;
DELETE FROM "Read ings" WHERE id = (SELECT id FROM "Read ings" ORDER BY v, id LIMIT 1);
EXPLAIN (VERBOSE, COSTS OFF) REFRESH MATERIALIZED VIEW hourly;
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF) REFRESH MATERIALIZED VIEW hourly;
SELECT wrong('hourly');
-- Where no group was recomputed there is none.
INSERT INTO "Read ings" VALUES (-1, '2026-01-01 00:00+00', 'device 1', 1);
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF) REFRESH MATERIALIZED VIEW hourly;

-- The advice is a statement that can be run as it is, and then it is not given any more.
SELECT substring(result FROM 'CREATE INDEX.*') AS statement FROM advice(:'hourly') \gset
:statement;
ANALYZE "Read ings";
SELECT * FROM advice(:'hourly');
SELECT value FROM pgtrickle.explain_st('hourly') WHERE property = 'advice';
DELETE FROM "Read ings" WHERE id = -1;
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF) REFRESH MATERIALIZED VIEW hourly;
SELECT wrong('hourly');

-- Groups with and without NULLs in their keys have a plan each; the former can be hashed too. In all formats.
CREATE TABLE pairs (id int PRIMARY KEY, a int, b int, f float8);
INSERT INTO pairs SELECT i, CASE WHEN i % 2 = 0 THEN i % 3000 END, i % 10, i FROM generate_series(1, 30000) i;
ANALYZE pairs;
CREATE MATERIALIZED VIEW sums WITH (pg_trickle.incremental) AS SELECT a, b, sum(f) AS f FROM pairs GROUP BY a, b;
CREATE FUNCTION shown(options text, statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    line text;
    lines text[];
BEGIN
    FOR line IN EXECUTE format('EXPLAIN (%s) %s', options, statement) LOOP
        lines := lines || line;
    END LOOP;
    RETURN array_to_string(lines, E'\n');
END $$;
DELETE FROM pairs WHERE id <= 2;
SELECT shown('ANALYZE, VERBOSE, SETTINGS, FORMAT JSON', 'REFRESH MATERIALIZED VIEW sums') AS json \gset
SELECT path, jsonb_path_query(:'json', path::jsonpath)
FROM (VALUES ('$[0]."Plan"."Plans"[0]."Groups Recomputed"'),
             ('$[0]."Plan"."Plans"[0]."Group Recomputes"[*]."Plan"."Actual Rows"'),
             ('$[0]."Plan"."Plans"[0]."Group Recomputes"[*]."Plan"."Actual Total Time" > 0'),
             ('$[0]."Plan"."Plans"[0]."Group Recomputes"[*]."Settings"')) p (path);
DELETE FROM pairs WHERE id = 3;
SELECT regexp_matches(shown('ANALYZE, FORMAT XML', 'REFRESH MATERIALIZED VIEW sums'), '<Group-Recompute[^>]*>|</Group-Recompute[^>]*>', 'g');
DELETE FROM pairs WHERE id = 5;
SELECT substring(shown('ANALYZE, FORMAT YAML', 'REFRESH MATERIALIZED VIEW sums') FROM 'Group Recomputes: *\s*- Plan: *\s*Node Type: "\w*"') ~ 'Sort' AS yaml;
SELECT wrong('sums');
-- All groups at once: a search for each among all rows would take minutes.
SET statement_timeout = '20s';
INSERT INTO pairs SELECT i, NULL, i % 15000, 1 FROM generate_series(30001, 60000) i;
REFRESH MATERIALIZED VIEW sums;
UPDATE pairs SET f = f + 1;
REFRESH MATERIALIZED VIEW sums;
SELECT wrong('sums');
RESET statement_timeout;

-- What is advised for what. Only aggregates whose removals recompute the group; expressions over one table's columns.
SELECT * FROM advice('SELECT a, count(*) AS n, sum(b) AS s FROM pairs GROUP BY a');
SELECT * FROM advice('SELECT DISTINCT a, b FROM pairs');
SELECT * FROM advice('SELECT max(b) AS m FROM pairs');
SELECT * FROM advice('SELECT id, max(b) AS m FROM pairs GROUP BY id');
SELECT * FROM advice('SELECT a + b AS k, count(DISTINCT f) AS n FROM pairs GROUP BY a + b');
SELECT * FROM advice('SELECT lower("De v") AS d, to_char(at, ''HH24'') AS h, max(v) AS m FROM "Read ings" GROUP BY 1, 2');
-- Joined, and through a view.
CREATE VIEW named AS SELECT id AS "I d", lower("De v") AS "n ame" FROM "Read ings";
SELECT * FROM advice('SELECT "n ame", b, max(f) AS m FROM named JOIN pairs ON id = "I d" GROUP BY 1, 2');
SELECT * FROM advice('SELECT pairs.a * p.b AS k, max(p.f) AS m FROM pairs JOIN pairs p USING (id) GROUP BY 1');
-- Indexes that do not serve: partial, of another order, of another collation, invalid as a search for equals.
CREATE INDEX ON pairs (b) WHERE f > 0;
CREATE INDEX ON pairs (f, b);
CREATE INDEX ON pairs USING brin (b);
SELECT * FROM advice('SELECT b, max(f) AS m FROM pairs GROUP BY b');
CREATE INDEX ON pairs USING hash (b);
SELECT * FROM advice('SELECT b, max(f) AS m FROM pairs GROUP BY b');
CREATE INDEX ON "Read ings" ("De v" COLLATE "C");
SELECT * FROM advice('SELECT "De v", max(v) AS m FROM "Read ings" GROUP BY 1');
SELECT * FROM advice('SELECT "De v" COLLATE "C" AS d, max(v) AS m FROM "Read ings" GROUP BY 1');
-- Partitions have one statement, inheritance children would not be reached by it.
CREATE TABLE parts (k int, v int) PARTITION BY LIST (k);
CREATE TABLE part_1 PARTITION OF parts FOR VALUES IN (1);
CREATE TABLE parent (k int, v int);
CREATE TABLE child () INHERITS (parent);
SELECT * FROM advice('SELECT k, max(v) AS m FROM parts GROUP BY k');
SELECT * FROM advice('SELECT k, max(v) AS m FROM parent GROUP BY k');

-- Whether groups have to be recomputed shows when their rows have been folded. A delta that had to recompute more of them than
-- is worth it is given up, and the view computed anew; so are its readers right.
CREATE TABLE measured (id int PRIMARY KEY, g int, f float8, w int);
INSERT INTO measured SELECT i, i % 20, i, i FROM generate_series(1, 20000) i;
ANALYZE measured;
CREATE MATERIALIZED VIEW per_g WITH (pg_trickle.incremental) AS SELECT g, sum(f) AS f, sum(w) AS w FROM measured GROUP BY g;
CREATE MATERIALIZED VIEW total WITH (pg_trickle.incremental) AS SELECT sum(f) AS f, sum(w) AS w, max(w) AS top FROM per_g;
ANALYZE per_g, total;
CREATE FUNCTION refreshed(view regclass, OUT action text, OUT wrong bigint, OUT wrong_total bigint) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pgtrickle.refresh_stream_table(view::text);
    SELECT h.action INTO action FROM pgtrickle.get_refresh_history(view::text, 1) h;
    wrong := wrong(view);
    PERFORM pgtrickle.refresh_stream_table('total');
    wrong_total := wrong('total');
END $$;
SET pg_trickle.refresh_strategy = auto;
-- Not all of its plans are to be cheap.
SET enable_hashjoin = off;
SET enable_mergejoin = off;
UPDATE measured SET w = w + 1 WHERE id <= 10;
SELECT * FROM refreshed('per_g');
UPDATE measured SET f = f + 1, w = w - 1 WHERE id <= 10;
SELECT * FROM refreshed('per_g');
UPDATE measured SET w = w + 1 WHERE id BETWEEN 5 AND 20;
SELECT * FROM refreshed('per_g');
UPDATE measured SET f = f + 1, w = w - 1 WHERE id <= 10;
SELECT shown('ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF', 'REFRESH MATERIALIZED VIEW per_g');
SELECT * FROM refreshed('per_g');
-- Additions recompute nothing here. Where it is forced, a delta is never given up.
INSERT INTO measured SELECT i, i % 25, i, i FROM generate_series(20001, 20010) i;
SELECT * FROM refreshed('per_g');
SET pg_trickle.refresh_strategy = delta;
UPDATE measured SET f = f + 1 WHERE id <= 10;
SELECT * FROM refreshed('per_g');

-- Arrays and rows are joined by operators of all arrays, or rows.
CREATE TYPE text_pair AS (a text, b text);
CREATE TABLE lists (id int, list int[], pair text_pair);
SELECT result FROM pgtrickle.validate_query('SELECT a.id FROM lists a JOIN lists b ON a.list = b.list AND a.pair = b.pair') WHERE check_name = 'index';

SET client_min_messages = warning;
DROP SCHEMA group_recompute CASCADE;
