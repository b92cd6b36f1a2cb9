-- What programs written for stream tables expect: counters, freshness, history, definitions, many at once.
SET client_min_messages = warning;
CREATE ROLE regress_surface_owner;
CREATE ROLE regress_surface_stranger;
CREATE SCHEMA surface AUTHORIZATION regress_surface_owner;
SET search_path = surface;
CREATE TABLE orders (id int PRIMARY KEY, customer int NOT NULL, amount int);
INSERT INTO orders SELECT g, g % 5, g FROM generate_series(1, 100) g;
CREATE VIEW large AS SELECT id, customer, amount FROM orders WHERE amount > 50;
CREATE VIEW larger AS SELECT customer, amount FROM large WHERE amount > 90;
CREATE MATERIALIZED VIEW totals WITH (pg_trickle.incremental, pg_trickle.schedule = '1h') AS
    SELECT customer, count(*) AS n, sum(amount) AS total FROM orders GROUP BY customer;
CREATE MATERIALIZED VIEW above WITH (pg_trickle.incremental, pg_trickle.schedule = '1h') AS SELECT sum(total) AS total FROM totals;
CREATE MATERIALIZED VIEW few WITH (pg_trickle.incremental, pg_trickle.schedule = '1h') AS SELECT count(*) AS n, sum(amount) AS total FROM larger;
RESET client_min_messages;
-- Where there is a choice.
SET pg_trickle.refresh_strategy = delta;

-- Counters: of what was done, and neither of what was rolled back nor of what there was not to do.
CREATE VIEW counters AS
    SELECT pgt_name, refreshes, recomputes, failures, noops, rows_inserted AS ins, rows_updated AS upd, rows_deleted AS del,
           total_refreshes AS total, total_ms > 0 AS took, max_ms <= total_ms AS most, stats_reset IS NOT NULL AS reset, last_action, last_status
      FROM pgtrickle.pg_stat_stream_tables WHERE pgt_schema = 'surface' ORDER BY pgt_id;
TABLE counters;
INSERT INTO orders VALUES (101, 9, 1);
UPDATE orders SET amount = amount + 1 WHERE customer = 2;
DELETE FROM orders WHERE customer = 3;
REFRESH MATERIALIZED VIEW totals;
BEGIN;
UPDATE orders SET amount = 0;
REFRESH MATERIALIZED VIEW totals;
ROLLBACK;
REFRESH MATERIALIZED VIEW totals;
TABLE counters;
-- They do not go down when the history expires.
DELETE FROM pgtrickle_internal.refresh_history WHERE pgt_relid = 'totals'::regclass;
SELECT refreshes, rows_inserted, p50_duration_ms, last_action FROM pgtrickle.pg_stat_stream_tables WHERE pgt_relid = 'totals'::regclass;
-- A refresh that has nothing to do is counted, and writes no WAL.
CREATE FUNCTION written() RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    -- What ended before this statement is reported at its end, for the next look.
    PERFORM pg_stat_force_next_flush();
    RETURN (SELECT wal_records FROM pg_stat_get_backend_wal(pg_backend_pid()));
END $$;
REFRESH MATERIALIZED VIEW totals;
SELECT written() AS a \gset
REFRESH MATERIALIZED VIEW totals;
SELECT written() AS b \gset
REFRESH MATERIALIZED VIEW totals;
SELECT written() AS c \gset
REFRESH MATERIALIZED VIEW totals;
SELECT written() AS d \gset
REFRESH MATERIALIZED VIEW totals;
SELECT written() AS e \gset
-- What else is written now and then is not the refresh's: pages that are pruned, or read for the first time.
SELECT least(:b - :a, :c - :b, :d - :c, :e - :d) AS written;
SELECT noops FROM pgtrickle.pg_stat_stream_tables WHERE pgt_relid = 'totals'::regclass;
-- Counting anew is for superusers, as with the server's statistics.
SET ROLE regress_surface_stranger;
SELECT pgtrickle.reset_stats();
RESET ROLE;
SELECT pgtrickle.reset_stats('totals');
TABLE counters;
SELECT pgtrickle.reset_stats('orders');
SELECT pgtrickle.reset_stats();
SELECT count(*) FROM pgtrickle.pg_stat_stream_tables WHERE stats_reset IS NULL OR refreshes > 0;

-- Since when something has not been shown: a time that is not later than the first commit.
CREATE VIEW fresh AS
    SELECT pgt_name, stale, pending_since IS NOT NULL AS pending, pending_since BETWEEN data_timestamp AND clock_timestamp() AS possible,
           lag >= '0' AS lags
      FROM pgtrickle.stream_tables_info WHERE pgt_schema = 'surface' ORDER BY pgt_id;
TABLE fresh;
INSERT INTO orders VALUES (102, 9, 1000);
TABLE fresh;
SELECT i.pending_since = s.pending_since AS agree FROM pgtrickle.stream_tables_info i JOIN pgtrickle.pg_stat_stream_tables s USING (pgt_id) ORDER BY 1;
REFRESH MATERIALIZED VIEW few;
TABLE fresh;
-- Longer than the schedule.
SELECT status, stale_tables FROM pgtrickle.quick_health;
SELECT severity, detail FROM pgtrickle.health_check() WHERE check_name = 'stale stream tables';
ALTER MATERIALIZED VIEW totals SET (pg_trickle.schedule = '1ms');
DO $$ BEGIN
    FOR i IN 1 .. 18000 LOOP
        EXIT WHEN (SELECT stale FROM pgtrickle.stream_tables_info WHERE pgt_name = 'totals');
        PERFORM pg_sleep(0.01);
    END LOOP;
END $$;
SELECT status, stale_tables FROM pgtrickle.quick_health;
SELECT severity, detail FROM pgtrickle.health_check() WHERE check_name = 'stale stream tables';
SELECT pgt_name, stale FROM pgtrickle.st_refresh_stats() WHERE pgt_schema = 'surface' ORDER BY 1;
REFRESH MATERIALIZED VIEW above;
SELECT status, stale_tables FROM pgtrickle.quick_health;
SELECT severity, detail FROM pgtrickle.health_check() WHERE check_name = 'stale stream tables';
-- What must be computed anew is behind, too.
TRUNCATE orders;
SELECT pgt_name, pending_since IS NOT NULL AS pending, needs_reinit FROM pgtrickle.pg_stat_stream_tables WHERE pgt_schema = 'surface' ORDER BY pgt_id;
INSERT INTO orders SELECT g, g % 5, g FROM generate_series(1, 100) g;
REFRESH MATERIALIZED VIEW above;
REFRESH MATERIALIZED VIEW few;

-- The history is a view without policies, and shows everybody what is theirs.
SELECT relkind, relrowsecurity, reloptions FROM pg_class WHERE oid = 'pgtrickle.pgt_refresh_history'::regclass;
SELECT count(*) FROM pg_policies WHERE schemaname LIKE 'pgtrickle%';
SELECT n.nspname, obj_description(n.oid, 'pg_namespace') FROM pg_namespace n WHERE nspname LIKE 'pgtrickle%' ORDER BY 1;
SELECT DISTINCT s.pgt_name FROM pgtrickle.pgt_refresh_history h JOIN pgtrickle.pgt_stream_tables s USING (pgt_id, pgt_relid) ORDER BY 1;
ALTER MATERIALIZED VIEW few OWNER TO regress_surface_owner;
INSERT INTO pgtrickle_internal.refresh_history (pgt_relid, refresh_id, start_time, end_time, action, status, initiated_by,
        rows_inserted, rows_updated, rows_deleted, duration_ms, error_message, sqlstate)
    SELECT v::regclass, 1000000 + n, now(), now(), 'DIFFERENTIAL', 'FAILED', 'SCHEDULER', 0, 0, 0, 1, 'of ' || v, code
      FROM unnest('{few,totals}'::text[]) v,
           unnest('{22012,42501,42P01,55P03,53100,58030,ZZ000,NULL}'::text[]) WITH ORDINALITY AS codes (code, n);
CREATE FUNCTION peek(message text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS $$
BEGIN
    RAISE NOTICE 'peeked at %', message;
    RETURN true;
END $$;
GRANT USAGE ON SCHEMA surface TO regress_surface_stranger;
SET ROLE regress_surface_owner;
SELECT DISTINCT error_message FROM pgtrickle.pgt_refresh_history ORDER BY 1;
SELECT error_type, error_message, left(remediation, 30) AS remediation, sqlstate FROM pgtrickle.diagnose_errors('surface.few');
SELECT count(*) FROM pgtrickle.diagnose_errors('surface.totals');
SET ROLE regress_surface_stranger;
SELECT count(*) FROM pgtrickle.pgt_refresh_history WHERE surface.peek(error_message);
RESET ROLE;
SELECT pgtrickle.diagnose_errors('orders');
DELETE FROM pgtrickle_internal.refresh_history WHERE status = 'FAILED';

-- Names.
SELECT pgt_name, original_query = defining_query AS same, updated_at >= created_at AS updated FROM pgtrickle.pgt_stream_tables ORDER BY pgt_id;
SELECT s.pgt_name, d.source_relid::regclass, source_type, columns_used, cdc_mode
  FROM pgtrickle.pgt_dependencies d JOIN pgtrickle.pgt_stream_tables s USING (pgt_id) ORDER BY 1, 3, d.source_relid::regclass::text;
SELECT source_table, source_type, columns_used FROM pgtrickle.list_sources('few');
SELECT source_relid = source_oid AS same, slot_name, lag_bytes FROM pgtrickle.check_cdc_health() WHERE source_relid = 'orders'::regclass;
SELECT pgt_name, pgt_schema, status, refresh_mode, is_populated, last_refresh_action, last_refresh_status,
       last_refresh_at IS NOT NULL AS at, staleness_secs >= 0 AS staleness, stale FROM pgtrickle.st_refresh_stats();
SELECT pgt_name, schedule, consecutive_errors, needs_reinit, last_action, last_status, cdc_modes FROM pgtrickle.pg_stat_stream_tables ORDER BY pgt_id;

-- The definition of a stream table makes the same again.
CREATE MATERIALIZED VIEW "A b" (k, "T o") WITH (pg_trickle.incremental, pg_trickle.schedule = '5 minutes', fillfactor = 70) AS
    SELECT customer, 'it''s; ' || sum(amount) FROM orders GROUP BY customer;
CREATE INDEX "on T" ON "A b" ("T o") WHERE k > 1;
CREATE INDEX "on k" ON "A b" (k);
CREATE STATISTICS "sta t" ON k, "T o" FROM "A b";
ALTER MATERIALIZED VIEW "A b" ALTER k SET STATISTICS 50, ALTER "T o" SET STORAGE EXTERNAL, CLUSTER ON "on k";
COMMENT ON MATERIALIZED VIEW "A b" IS 'it''s';
COMMENT ON COLUMN "A b"."T o" IS 'text';
COMMENT ON INDEX "on T" IS 'index';
GRANT SELECT ON "A b" TO PUBLIC;
GRANT SELECT (k) ON "A b" TO regress_surface_stranger WITH GRANT OPTION;
GRANT CREATE ON SCHEMA surface TO regress_surface_stranger;
ALTER MATERIALIZED VIEW "A b" OWNER TO regress_surface_owner;
REVOKE TRUNCATE ON "A b" FROM regress_surface_owner;
GRANT SELECT, TRIGGER ON orders TO regress_surface_owner;
SELECT pgtrickle.alter_stream_table('"A b"', status => 'SUSPENDED');
SELECT regexp_replace(pgtrickle.export_definition('"A b"'), '("pg_trickle.settings")=''[^'']*''', '\1=...');
SELECT pgtrickle.export_definition('"A b"') AS definition \gset
DROP MATERIALIZED VIEW "A b";
SET client_min_messages = error;
\o /dev/null
\set ECHO none
:definition
\set ECHO all
\o
RESET client_min_messages;
SELECT pgtrickle.export_definition('surface."A b"') = :'definition' AS same, (SELECT count(*) FROM "A b") AS rows;
SELECT pgtrickle.export_definition('orders');
SELECT pgtrickle.export_definition(NULL) IS NULL AS null;

-- Arguments that change nothing.
SELECT pgtrickle.create_stream_table('plain', 'SELECT id FROM orders', diamond_consistency => 'atomic', diamond_schedule_policy => 'fastest', append_only => false);
SELECT pgtrickle.alter_stream_table('plain', diamond_consistency => 'none', diamond_schedule_policy => 'SLOWEST', append_only => true);
SELECT pgtrickle.create_or_replace_stream_table('plain', 'SELECT id FROM orders', append_only => true);
SELECT pgtrickle.create_stream_table_if_not_exists('plain', 'SELECT id FROM orders', '1h', 'AUTO', true, NULL, 'atomic', NULL, NULL);
SELECT pgtrickle.alter_stream_table('plain', diamond_consistency => 'sometimes');
SELECT pgtrickle.alter_stream_table('plain', diamond_schedule_policy => 'sometimes');

-- Many at once, all or none.
SELECT pgtrickle.bulk_create('[{"name": "one", "query": "SELECT id, amount FROM orders", "schedule": "1h"},
    {"name": "surface.\"Two\"", "query": "SELECT sum(amount) AS s FROM one", "refresh_mode": "FULL", "initialize": false, "append_only": false}]');
SELECT pgt_name, schedule, refresh_mode, is_populated FROM pgtrickle.pgt_stream_tables WHERE pgt_name IN ('one', 'Two') ORDER BY pgt_id;
SELECT pgtrickle.bulk_create('[{"name": "three", "query": "SELECT id FROM orders"}, {"name": "one", "query": "SELECT 1"}]');
SELECT pgtrickle.bulk_create('[{"name": "three", "query": "SELECT id FROM orders", "colour": "red"}]');
SELECT pgtrickle.bulk_create('[{"name": 3, "query": "SELECT id FROM orders"}]');
SELECT pgtrickle.bulk_create('[{"name": "three", "query": "SELECT 1", "initialize": "yes"}]');
SELECT pgtrickle.bulk_create('[{"query": "SELECT id FROM orders"}]');
SELECT pgtrickle.bulk_create('{"name": "three"}');
SELECT pgtrickle.bulk_create('["three"]');
SELECT pgtrickle.bulk_create(NULL);
SELECT pgtrickle.bulk_create('[]');
SELECT to_regclass('three') IS NULL AS none;
SELECT pgtrickle.bulk_drop_stream_tables('{one}');
SELECT pgtrickle.bulk_drop_stream_tables('{one,orders}');
SELECT pgtrickle.bulk_drop_stream_tables('{one,NULL}');
SELECT pgtrickle.bulk_drop_stream_tables(NULL);
SELECT pgtrickle.bulk_drop_stream_tables('{}');
SELECT pgtrickle.bulk_drop_stream_tables('{one,"surface.\"Two\"",plain}');
SELECT count(*) FROM pgtrickle.pgt_stream_tables WHERE pgt_name IN ('one', 'Two', 'plain');

-- Whether the server is set up.
SELECT check_name, severity FROM pgtrickle.preflight() WHERE check_name <> 'pg_trickle.enabled';
SET ROLE regress_surface_stranger;
SET search_path = pg_catalog;
SELECT severity, detail FROM pgtrickle.preflight() WHERE check_name = 'privileges';
RESET ROLE;
SET search_path = surface;

-- Repair: rows that something else replaced, and triggers that are gone.
SELECT pgtrickle.repair_stream_table('totals');
SET allow_system_table_mods = on;
UPDATE pg_trigger SET tgenabled = 'D' WHERE tgrelid = 'orders'::regclass AND tgfoid = 'pgtrickle_internal.capture'::regproc;
RESET allow_system_table_mods;
SELECT pgtrickle.repair_stream_table('totals');
SELECT alert FROM pgtrickle.check_cdc_health() WHERE source_relid = 'orders'::regclass;
INSERT INTO orders VALUES (200, 9, 9);
REFRESH MATERIALIZED VIEW totals;
SELECT * FROM totals WHERE customer = 9;
SET ROLE regress_surface_stranger;
SELECT pgtrickle.repair_stream_table('surface.totals');
RESET ROLE;
SELECT pgtrickle.repair_stream_table('orders');
SELECT pgtrickle.repair_stream_table(NULL);

SET client_min_messages = warning;
DROP SCHEMA surface CASCADE;
DROP ROLE regress_surface_owner, regress_surface_stranger;
