-- Change buffers: small while they are in use, truncated when every view has seen them, never deleted from.
CREATE SCHEMA capture_buffers;
SET search_path = capture_buffers;
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/data/refresh.sql'
\i :helpers
SET pg_trickle.refresh_strategy = delta; -- a recompute would hide what capture missed
-- The size of the segments of a table, in pages; which one is in use; and whether anything was ever deleted from them.
CREATE FUNCTION segments(captured regclass) RETURNS text LANGUAGE sql AS $$
    SELECT format('%s pages in use, %s waiting',
                  pg_relation_size(CASE active WHEN 'a' THEN segment_a ELSE segment_b END) / 8192,
                  pg_relation_size(CASE active WHEN 'a' THEN segment_b ELSE segment_a END) / 8192)
    FROM pgtrickle_internal.source WHERE relid = captured $$;

CREATE TABLE t (id int PRIMARY KEY, a text);
CREATE MATERIALIZED VIEW one WITH (pg_trickle.incremental) AS SELECT id, a FROM t;
CREATE MATERIALIZED VIEW two WITH (pg_trickle.incremental) AS SELECT id, a FROM t WHERE id % 2 = 0;

-- Few changes stay where they are.
INSERT INTO t SELECT g, repeat('a', 100) FROM generate_series(1, 100) g;
SELECT refresh('one'), refresh('two');
SELECT segments('t');
SELECT refresh('one');
SELECT segments('t');

-- Many: the next refresh takes the other segment into use, and when both views have seen the first it is emptied.
INSERT INTO t SELECT g, repeat('a', 100) FROM generate_series(101, 10000) g;
SELECT segments('t');
SELECT refresh('one');
SELECT segments('t');
INSERT INTO t VALUES (10001, 'next segment');
SELECT segments('t');
SELECT refresh('one');
SELECT segments('t');
SELECT refresh('two');
SELECT segments('t');
SELECT refresh('one');
SELECT segments('t');
-- Nothing was lost on the way, for either view.
UPDATE t SET a = 'x' WHERE id > 9000;
DELETE FROM t WHERE id <= 50;
SELECT refresh('one'), refresh('two');

-- Not in a transaction that has written something, and may yet roll back what the views have seen or who they are.
UPDATE t SET a = repeat('b', 100);
SELECT refresh('one'), refresh('two');
BEGIN;
UPDATE t SET a = 'y' WHERE id < 1000;
SELECT refresh('one'), refresh('two');
SELECT refresh('one'), refresh('two');
SELECT segments('t');
ROLLBACK;
SELECT refresh('one'), refresh('two');
SELECT segments('t');
UPDATE t SET a = repeat('c', 100);
BEGIN;
DROP MATERIALIZED VIEW two;
SELECT refresh('one');
SELECT refresh('one');
ROLLBACK;
SELECT refresh('one'), refresh('two');
DROP MATERIALIZED VIEW two;
UPDATE t SET a = repeat('d', 100);
SELECT refresh('one');
SELECT refresh('one');
SELECT segments('t');

-- Rows too wide for a page.
CREATE TABLE w (id int, a text);
CREATE MATERIALIZED VIEW wides WITH (pg_trickle.incremental) AS SELECT id, a FROM w;
INSERT INTO w SELECT g, (SELECT string_agg(md5((g * i)::text), '') FROM generate_series(1, 2000) i) FROM generate_series(1, 100) g;
UPDATE w SET id = -id WHERE id % 2 = 0;
DELETE FROM w WHERE id > 90;
SELECT refresh('wides');
SELECT pending_rows, buffer_bytes > 0 AS bytes FROM pgtrickle.change_buffer_sizes() WHERE source_table LIKE '%w';
INSERT INTO w SELECT g, 'narrow' FROM generate_series(1, 30000) g;
SELECT refresh('wides');
SELECT refresh('wides');
SELECT refresh('wides');
SELECT segments('w');
SELECT sum(pg_relation_size(reltoastrelid)) AS toast FROM pg_class
    WHERE relname LIKE 'changes\_%' AND relnamespace = 'pgtrickle_internal'::regnamespace;
UPDATE w SET a = a || 'x' WHERE id < 0 OR id = 1;
SELECT refresh('wides');

SELECT sum(n_tup_upd) AS updated, sum(n_tup_del) AS deleted FROM pg_stat_all_tables WHERE relname LIKE 'changes\_%';

SET client_min_messages = warning;
DROP SCHEMA capture_buffers CASCADE;

-- What a view has seen of a long buffer, kept there by another that lags behind, costs it nothing.
CREATE SCHEMA long_buffers;
SET search_path = long_buffers;
CREATE TABLE long (id int, pad text);
CREATE MATERIALIZED VIEW behind WITH (pg_trickle.incremental) AS SELECT id, pad FROM long;
CREATE MATERIALIZED VIEW ahead WITH (pg_trickle.incremental) AS SELECT id FROM long;
INSERT INTO long SELECT i, repeat('long', 100) FROM generate_series(1, 10000) i;
SET pg_trickle.refresh_strategy = delta;
CREATE FUNCTION pages_read() RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    plan json;
BEGIN
    EXECUTE 'EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) REFRESH MATERIALIZED VIEW ahead' INTO plan;
    RETURN (plan->0->'Plan'->>'Shared Hit Blocks')::int + (plan->0->'Plan'->>'Shared Read Blocks')::int;
END $$;
-- Uses up more transaction ids than a writer may rely on its page for.
CREATE PROCEDURE time_passes() LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1 .. 70 LOOP
        BEGIN INSERT INTO long VALUES (0, 'little'); EXCEPTION WHEN division_by_zero THEN NULL; END;
    END LOOP;
END $$;
REFRESH MATERIALIZED VIEW ahead;
CALL time_passes();
REFRESH MATERIALIZED VIEW ahead;
CALL time_passes();
REFRESH MATERIALIZED VIEW ahead;
INSERT INTO long VALUES (0, 'one');
SELECT pages_read() < 250 AS few, (SELECT sum(buffer_bytes) / 8192 > 450 FROM pgtrickle.change_buffer_sizes() WHERE stream_table LIKE '%behind') AS many_kept;
REFRESH MATERIALIZED VIEW behind;
SELECT (SELECT count(*) FROM ahead) AS ahead, (SELECT count(*) FROM behind) AS behind, count(*) AS wanted FROM long;
RESET pg_trickle.refresh_strategy;
SET client_min_messages = warning;
DROP SCHEMA long_buffers CASCADE;
