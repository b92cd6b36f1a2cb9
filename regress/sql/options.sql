-- CREATE MATERIALIZED VIEW WITH (pg_trickle.*): spellings, values, errors, and what stands beside them.
CREATE TABLE orders (id int PRIMARY KEY, status text, amount numeric);
INSERT INTO orders SELECT g, (ARRAY['active', 'done'])[g % 2 + 1], g FROM generate_series(1, 6) g;

-- Both spellings, core options, table access method and tablespace beside ours; the tag counts rows as for any view.
\set QUIET off
CREATE MATERIALIZED VIEW active WITH (pg_trickle.incremental, pg_trickle.schedule = '30s') AS
    SELECT * FROM orders WHERE status = 'active';
CREATE MATERIALIZED VIEW "Done Orders" USING heap
    WITH ("pg_trickle.incremental" = 'true', fillfactor = 70, "pg_trickle.schedule" = '1m30s',
          pg_trickle.refresh_mode = differential, toast.autovacuum_enabled = false)
    TABLESPACE pg_default AS
    SELECT id, amount FROM orders WHERE status = 'done' WITH DATA;
CREATE MATERIALIZED VIEW empty (a, b) WITH (pg_trickle.incremental = on) AS SELECT id, amount FROM orders WITH NO DATA;
\set QUIET on
SELECT c.relname, c.reloptions, c.relispopulated FROM pg_class c WHERE c.relkind = 'm' ORDER BY 1;
TABLE active ORDER BY id;
TABLE "Done Orders" ORDER BY id;
TABLE empty;
REFRESH MATERIALIZED VIEW empty;
SELECT count(*) FROM empty;
DROP MATERIALIZED VIEW empty;

-- IF NOT EXISTS changes nothing of what is there.
CREATE MATERIALIZED VIEW IF NOT EXISTS active WITH (pg_trickle.incremental, pg_trickle.schedule = '1h') AS SELECT 1;
CREATE MATERIALIZED VIEW active WITH (pg_trickle.incremental) AS SELECT 1;
CREATE MATERIALIZED VIEW IF NOT EXISTS fresh WITH (pg_trickle.incremental) AS SELECT count(*) FROM orders;
SELECT pgt_name, schedule, refresh_mode, effective_refresh_mode, status, is_populated FROM pgtrickle.pgt_stream_tables ORDER BY 1;

-- incremental = false is a plain view; without incremental our options mean nothing.
CREATE MATERIALIZED VIEW plain WITH (pg_trickle.incremental = false, fillfactor = 90) AS SELECT 1 AS a;
SELECT reloptions FROM pg_class WHERE relname = 'plain';
CREATE MATERIALIZED VIEW lost WITH (pg_trickle.schedule = '30s') AS SELECT 1 AS a;

-- Schedules.
CREATE MATERIALIZED VIEW s WITH (pg_trickle.incremental, pg_trickle.schedule = 90) AS SELECT 1 AS a;
ALTER MATERIALIZED VIEW s SET (pg_trickle.schedule = '500ms');
ALTER MATERIALIZED VIEW s SET (pg_trickle.schedule = '1w2d3h4m5s');
ALTER MATERIALIZED VIEW s SET (pg_trickle.schedule = '*/5 * * * *');
ALTER MATERIALIZED VIEW s SET (pg_trickle.schedule = '30 0 8-18/2 * jan-jun mon,fri');
ALTER MATERIALIZED VIEW s SET (pg_trickle.schedule = '@hourly');
SELECT schedule FROM pgtrickle.pgt_stream_tables WHERE pgt_name = 's';
-- What the interval type reads is a duration too.
SET IntervalStyle = 'iso_8601';
ALTER MATERIALIZED VIEW s SET (pg_trickle.schedule = '5 minutes');
SELECT schedule FROM pgtrickle.pgt_stream_tables WHERE pgt_name = 's';
ALTER MATERIALIZED VIEW s SET (pg_trickle.schedule = '1 day 02:03:04.5');
SELECT schedule FROM pgtrickle.pgt_stream_tables WHERE pgt_name = 's';
SELECT pgtrickle.alter_stream_table('s', schedule => '1 hour 30 min');
SELECT schedule FROM pgtrickle.pgt_stream_tables WHERE pgt_name = 's';
RESET IntervalStyle;
ALTER MATERIALIZED VIEW s SET (pg_trickle.schedule = '-5 minutes');
ALTER MATERIALIZED VIEW s SET (pg_trickle.schedule = '10 microseconds');
ALTER MATERIALIZED VIEW s SET (pg_trickle.schedule = 'infinity');
ALTER MATERIALIZED VIEW s SET (pg_trickle.schedule = calculated);
ALTER MATERIALIZED VIEW s SET (pg_trickle.schedule = '');
ALTER MATERIALIZED VIEW s SET (pg_trickle.schedule = '0');
ALTER MATERIALIZED VIEW s SET (pg_trickle.schedule = '-5s');
ALTER MATERIALIZED VIEW s SET (pg_trickle.schedule = '5 parsecs');
ALTER MATERIALIZED VIEW s SET (pg_trickle.schedule = '61 * * * *');
ALTER MATERIALIZED VIEW s SET (pg_trickle.schedule = '0 0 31 2 *');
ALTER MATERIALIZED VIEW s SET (pg_trickle.schedule = '@never');
ALTER MATERIALIZED VIEW s SET (pg_trickle.schedule = '1000000w');
SELECT reloptions FROM pg_class WHERE relname = 's';

-- Everything else that is wrong.
\set bad 'CREATE MATERIALIZED VIEW bad WITH (pg_trickle.incremental, '
:bad pg_trickle.no_such) AS SELECT 1;
:bad "pg_trickle.no_such" = 1) AS SELECT 1;
:bad pg_trickle.notify = sometimes) AS SELECT 1;
:bad pg_trickle.refresh_mode = sometimes) AS SELECT 1;
:bad pg_trickle.refresh_mode) AS SELECT 1;
:bad pg_trickle.refresh_mode = IMMEDIATE) AS SELECT 1;
:bad pg_trickle.cdc_mode = wal) AS SELECT 1;
:bad pg_trickle.cdc_mode = telepathy) AS SELECT 1;
:bad pg_trickle.consistency = sometimes) AS SELECT 1;
:bad pg_trickle.consistency) AS SELECT 1;
:bad pg_trickle.settings = 'search_path=evil') AS SELECT 1;
:bad pg_trickle.settings = 'TimeZone=Nowhere') AS SELECT 1;
:bad pg_trickle.schedule = '1s', "pg_trickle.schedule" = '2s') AS SELECT 1;
:bad fillfactor = 3) AS SELECT 1;
:bad other.incremental) AS SELECT 1;
:bad no_such) AS SELECT 1;
:bad fillfactor = 50) AS SELECT no_such FROM orders;
CREATE MATERIALIZED VIEW bad WITH (pg_trickle.incremental = perhaps) AS SELECT 1;
CREATE MATERIALIZED VIEW no_schema.bad WITH (pg_trickle.incremental) AS SELECT 1;
CREATE MATERIALIZED VIEW pg_temp.bad WITH (pg_trickle.incremental) AS SELECT 1;
CREATE TEMP TABLE passing (a int);
CREATE MATERIALIZED VIEW bad WITH (pg_trickle.incremental) AS SELECT a FROM passing;
DROP TABLE passing;
CREATE TABLE bad WITH (pg_trickle.incremental) AS SELECT 1;
CREATE TABLE bad (a int) WITH ("pg_trickle.incremental" = true);
SELECT relname FROM pg_class WHERE relname IN ('bad', 'lost');

-- What cannot be maintained incrementally is refused under DIFFERENTIAL, and recomputed under AUTO.
:bad pg_trickle.refresh_mode = DIFFERENTIAL) AS SELECT rank() OVER (ORDER BY amount) FROM orders;
:bad pg_trickle.refresh_mode = FULL) AS SELECT id FROM orders TABLESAMPLE system (1);
CREATE MATERIALIZED VIEW ranked WITH (pg_trickle.incremental) AS SELECT id, rank() OVER (ORDER BY amount) FROM orders;
CREATE MATERIALIZED VIEW full_ranked WITH (pg_trickle.incremental, pg_trickle.refresh_mode = 'Full') AS SELECT id, amount FROM orders;
SELECT * FROM pgtrickle.explain_refresh_mode('ranked');
SELECT * FROM pgtrickle.explain_refresh_mode('full_ranked');

-- A view with snapshot consistency: its owner may refresh what it reads; it is refreshed by hand with what it reads, and not
-- when that is over.
CREATE MATERIALIZED VIEW below WITH (pg_trickle.incremental) AS SELECT count(*) AS n FROM orders;
GRANT SELECT ON below TO PUBLIC;
CREATE ROLE reader_of_below;
GRANT CREATE ON SCHEMA public TO reader_of_below;
SET ROLE reader_of_below;
CREATE MATERIALIZED VIEW above WITH (pg_trickle.incremental, pg_trickle.consistency = 'Snapshot') AS SELECT n FROM below;
CREATE MATERIALIZED VIEW above WITH (pg_trickle.incremental) AS SELECT n FROM below;
ALTER MATERIALIZED VIEW above SET (pg_trickle.consistency = snapshot);
RESET ROLE;
GRANT MAINTAIN ON below TO reader_of_below;
SET ROLE reader_of_below;
ALTER MATERIALIZED VIEW above SET (pg_trickle.consistency = snapshot);
RESET ROLE;
SELECT reloptions FROM pg_class WHERE relname = 'above';
INSERT INTO orders VALUES (100, 'done', 1);
REFRESH MATERIALIZED VIEW below;
SELECT below.n = above.n AS level FROM below, above;
BEGIN;
INSERT INTO orders VALUES (101, 'done', 1);
ALTER MATERIALIZED VIEW above SET (pg_trickle.consistency = schedule);
REFRESH MATERIALIZED VIEW below;
SELECT below.n = above.n AS level FROM below, above;
ROLLBACK;
SELECT below.n = above.n AS level FROM below, above;
DROP MATERIALIZED VIEW below CASCADE;
REVOKE CREATE ON SCHEMA public FROM reader_of_below;
DROP ROLE reader_of_below;
DELETE FROM orders WHERE id = 100;

-- In functions, in other schemas, in one transaction with its source.
CREATE SCHEMA "Sales Data";
DO $$ BEGIN EXECUTE 'CREATE MATERIALIZED VIEW "Sales Data"."By Status" WITH (pg_trickle.incremental) AS
    SELECT status, sum(amount) FROM orders GROUP BY status'; END $$;
SET search_path = "Sales Data", public;
BEGIN;
CREATE TABLE item (a int);
INSERT INTO item VALUES (1), (2);
CREATE MATERIALIZED VIEW items WITH (pg_trickle.incremental) AS SELECT a FROM item;
INSERT INTO item VALUES (3);
REFRESH MATERIALIZED VIEW items;
TABLE items;
COMMIT;
INSERT INTO item VALUES (4);
REFRESH MATERIALIZED VIEW items;
TABLE items ORDER BY a;
TABLE "By Status" ORDER BY status;
RESET search_path;

SET client_min_messages = warning;
DROP SCHEMA "Sales Data" CASCADE;
DROP TABLE orders CASCADE;
DROP MATERIALIZED VIEW s, plain;
SELECT count(*) FROM pgtrickle.pgt_stream_tables;
