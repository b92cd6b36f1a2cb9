-- The versions of the library and of the SQL objects are compared, and what is stored says its format: what another release
-- stored is computed anew, never misread.
SELECT module_name, version = pgtrickle.version() AS version FROM pg_get_loaded_modules() WHERE file_name ~ 'pg_trickle';
SELECT severity, detail = format('catalog version %s; library version %s works with %1$s', catalog_version, pgtrickle.version())
    AS detail FROM pgtrickle.health_check(), pgtrickle_internal.installation WHERE check_name = 'versions';
CREATE SCHEMA versions;
SET search_path = versions;
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/data/refresh.sql'
\i :helpers
CREATE TABLE sales (id int PRIMARY KEY, region text, units int, note text);
INSERT INTO sales SELECT i, 'region ' || i % 3, i FROM generate_series(1, 500) i;
CREATE MATERIALIZED VIEW plain WITH (pg_trickle.incremental) AS SELECT id, units * 2 AS double, note FROM sales WHERE units > 5;
CREATE MATERIALIZED VIEW totals WITH (pg_trickle.incremental) AS
    SELECT region, count(*) AS n, sum(units) AS units FROM sales GROUP BY region;
CREATE MATERIALIZED VIEW above WITH (pg_trickle.incremental) AS SELECT sum(n) AS n, max(units) AS units FROM totals;
CREATE FUNCTION refresh_all() RETURNS TABLE (view regclass, done text) LANGUAGE plpgsql AS $$
BEGIN
    FOREACH view IN ARRAY '{plain, totals, above}'::regclass[] LOOP
        done := refresh(view);
        RETURN NEXT;
    END LOOP;
END $$;
CREATE FUNCTION due(view text) RETURNS text LANGUAGE sql AS $$
    SELECT value FROM pgtrickle.explain_st(view) WHERE property = 'recompute_due'
$$;
-- Where there is a choice.
SET pg_trickle.refresh_strategy = delta;
INSERT INTO sales VALUES (1000, 'region 1', 1000);
SELECT * FROM refresh_all();

-- A frontier of release 0.1.0 has no format; it says the same.
UPDATE pgtrickle_internal.stream_table SET frontier = substr(frontier, 2);
SELECT pgt_name, frontier IS NOT NULL AS readable FROM pgtrickle.pgt_stream_tables ORDER BY pgt_id;
INSERT INTO sales VALUES (1001, 'region 1', 1001);
DELETE FROM sales WHERE id = 7;
SELECT * FROM refresh_all();
SELECT DISTINCT get_byte(frontier, 0) AS format, length(frontier) % 8 AS length FROM pgtrickle_internal.stream_table;

-- One of a later release says nothing.
UPDATE pgtrickle_internal.stream_table SET frontier = '\xff0102' || frontier;
SELECT pgt_name, frontier, pending_since IS NOT NULL AS has_pending FROM pgtrickle.stream_tables_info ORDER BY pgt_id;
SELECT due('plain'), pgtrickle.wait_until_fresh('plain', '0');
SELECT stream_table, source_table, pending_rows > 0 AS pending FROM pgtrickle.change_buffer_sizes() ORDER BY 1, 2;
EXPLAIN (COSTS OFF) REFRESH MATERIALIZED VIEW plain;
INSERT INTO sales VALUES (1002, 'region 2', 1002);
DELETE FROM sales WHERE id = 8;
-- DDL on a source is not refused for it.
ALTER TABLE sales ADD CONSTRAINT small CHECK (units < 100000);
SELECT * FROM refresh_all();
INSERT INTO sales VALUES (1003, 'region 2', 1003);
SELECT * FROM refresh_all();

-- Rows of change buffers: the format is the top byte of the transaction id.
CREATE PROCEDURE make_unreadable(captured regclass) LANGUAGE plpgsql AS $$
DECLARE
    segment regclass;
BEGIN
    FOREACH segment IN ARRAY (SELECT ARRAY[segment_a, segment_b] FROM pgtrickle_internal.source WHERE relid = captured) LOOP
        EXECUTE format($sql$
            WITH known AS (DELETE FROM %1$s RETURNING *)
            INSERT INTO %1$s SELECT ((xid::text::numeric + 3 * 2 ^ 56::numeric)::numeric(20))::text::xid8, cid,
                CASE WHEN rows IS NOT NULL THEN '\xdeadbeefdeadbeefdeadbeef'::bytea END,
                CASE WHEN wide IS NOT NULL THEN '\xdeadbeefdeadbeefdeadbeef'::bytea END FROM known $sql$, segment);
    END LOOP;
END $$;
INSERT INTO sales VALUES (1004, 'region 0', 1004);
UPDATE sales SET units = units + 1 WHERE id < 10;
CALL make_unreadable('sales');
SELECT due('plain'), pending_since IS NOT NULL AS has_pending FROM pgtrickle.stream_tables_info WHERE pgt_name = 'plain';
EXPLAIN (COSTS OFF) REFRESH MATERIALIZED VIEW plain;
SELECT * FROM refresh_all();
-- They are contained now, and stay in nobody's way.
INSERT INTO sales VALUES (1005, 'region 0', 1005);
SELECT * FROM refresh_all();
INSERT INTO sales SELECT 1006, 'region 0', 1006, string_agg(sha256(i::text::bytea)::text, '') FROM generate_series(1, 500) i;
CALL make_unreadable('sales');
SELECT * FROM refresh_all();
-- A stream table's own.
INSERT INTO sales VALUES (1007, 'region 0', 1007);
SELECT refresh('totals');
CALL make_unreadable('totals');
SELECT refresh('above');
-- What all have seen is truncated, whatever its format.
INSERT INTO sales SELECT i, 'region 1', i, repeat('x', 1000) FROM generate_series(2000, 3000) i;
SELECT * FROM refresh_all();
CALL make_unreadable('sales');
INSERT INTO sales VALUES (4000, 'region 1', 4000);
SELECT * FROM refresh_all();
SELECT * FROM refresh_all();
SELECT pg_relation_size(CASE active WHEN 'a' THEN segment_b ELSE segment_a END) AS left FROM pgtrickle_internal.source
    WHERE relid = 'sales'::regclass;

-- State.
SELECT view::regclass, format FROM pgtrickle_internal.state ORDER BY view;
UPDATE pgtrickle_internal.state SET format = 0;
INSERT INTO sales VALUES (4001, 'region 1', 4001);
SELECT * FROM refresh_all();
SELECT view::regclass, format FROM pgtrickle_internal.state ORDER BY view;
DELETE FROM sales WHERE id = 4001;
SELECT * FROM refresh_all();

-- The reasons stand in nobody's way either.
SELECT pgt_name, needs_reinit FROM pgtrickle.pgt_stream_tables WHERE needs_reinit;
DROP SCHEMA versions CASCADE;
SELECT count(*) FROM pgtrickle_internal.state WHERE view NOT IN (SELECT oid FROM pg_class);
