-- What there is to see: status, statistics, dependencies, health, progress, processes.

-- Nothing yet.
SELECT * FROM pgtrickle.quick_health;
SELECT * FROM pgtrickle.health_check() WHERE check_name <> 'versions';
SELECT * FROM pgtrickle.pgt_status();
SELECT * FROM pgtrickle.st_refresh_stats();
SELECT * FROM pgtrickle.refresh_timeline();
SELECT * FROM pgtrickle.dependency_tree();
SELECT * FROM pgtrickle.check_cdc_health();
SELECT * FROM pgtrickle.pg_stat_progress_stream_table;

-- Names that need quotes, several schemas, a diamond, a chain, partitions, what cannot be captured.
CREATE SCHEMA "Sales desk";
CREATE TABLE "Sales desk"."Order ""lines""" (id int PRIMARY KEY, customer int NOT NULL, amount int);
CREATE TABLE parted (id int PRIMARY KEY, region int) PARTITION BY RANGE (id);
CREATE TABLE parted_low PARTITION OF parted FOR VALUES FROM (0) TO (50);
CREATE TABLE parted_high PARTITION OF parted FOR VALUES FROM (50) TO (1000);
INSERT INTO "Sales desk"."Order ""lines""" SELECT g, g % 5, nullif(g, 7) FROM generate_series(1, 100) g;
INSERT INTO parted SELECT g, g % 3 FROM generate_series(0, 99) g;
CREATE MATERIALIZED VIEW "Sales desk"."Per customer" WITH (pg_trickle.incremental) AS
    SELECT customer, count(*) AS n, sum(amount) AS total FROM "Sales desk"."Order ""lines""" GROUP BY customer;
CREATE MATERIALIZED VIEW "left" WITH (pg_trickle.incremental) AS SELECT customer, n FROM "Sales desk"."Per customer";
CREATE MATERIALIZED VIEW "right" WITH (pg_trickle.incremental, pg_trickle.refresh_mode = FULL) AS
    SELECT customer, total FROM "Sales desk"."Per customer" JOIN parted ON id = customer;
CREATE MATERIALIZED VIEW top WITH (pg_trickle.incremental, pg_trickle.schedule = '1h') AS
    SELECT * FROM "left" JOIN "right" USING (customer);
CREATE MATERIALIZED VIEW regions WITH (pg_trickle.incremental) AS SELECT region, count(*) FROM parted GROUP BY region;
CREATE MATERIALIZED VIEW alone WITH (pg_trickle.incremental) AS SELECT 1 AS one;
CREATE MATERIALIZED VIEW empty WITH (pg_trickle.incremental) AS SELECT count(*) FROM pg_class WITH NO DATA;
SELECT tree_line FROM pgtrickle.dependency_tree();
SELECT node, node_type, depth, status, refresh_mode FROM pgtrickle.dependency_tree();
SELECT source_table, cdc_mode, trigger_level, stream_tables, triggers_missing, triggers_disabled, alert FROM pgtrickle.check_cdc_health();
SELECT source_name, stream_tables, buffer_bytes > 0 AS has_buffer FROM pgtrickle.pgt_cdc_status ORDER BY 1;

-- Counters are kept with the view, percentiles are those of the history.
UPDATE "Sales desk"."Order ""lines""" SET amount = amount + 1 WHERE customer = 1;
REFRESH MATERIALIZED VIEW top;
UPDATE "Sales desk"."Order ""lines""" SET amount = amount + 1 WHERE customer IN (1, 2);
REFRESH MATERIALIZED VIEW top;
SELECT stream_table, action, status, rows_inserted, rows_deleted, end_time - start_time = duration_ms * interval '1 ms' AS timed,
       data_timestamp <= start_time AS snapshot_first, error_message
  FROM pgtrickle.refresh_timeline(4) ORDER BY refresh_id;
SELECT count(*), count(DISTINCT data_timestamp) AS waves FROM pgtrickle.refresh_timeline(4);
SELECT count(*) FROM pgtrickle.refresh_timeline() t JOIN pgtrickle.get_refresh_history('top') h USING (refresh_id) WHERE t IS DISTINCT FROM NULL;
SELECT count(*) FROM pgtrickle.refresh_timeline(0);
SELECT count(*) = (SELECT count(*) FROM pgtrickle.pgt_refresh_history) AS "all" FROM pgtrickle.refresh_timeline(NULL);
SELECT stream_table, total_refreshes, successful_refreshes, failed_refreshes, rows_inserted, rows_deleted,
       p50_duration_ms <= p95_duration_ms AND p95_duration_ms <= p99_duration_ms AND mean_duration_ms > 0 AS ordered,
       p50_commit_to_visible_ms, p95_commit_to_visible_ms, p99_commit_to_visible_ms
  FROM pgtrickle.st_refresh_stats();
UPDATE pgtrickle.pgt_refresh_history h SET duration_ms = 10 * n, commit_to_visible_ms = nullif(n, 1)
  FROM (SELECT refresh_id, row_number() OVER (ORDER BY refresh_id) AS n FROM pgtrickle.get_refresh_history('top')) o
 WHERE h.pgt_relid = 'top'::regclass AND h.refresh_id = o.refresh_id;
SELECT p50_duration_ms, p95_duration_ms, p99_duration_ms, p50_commit_to_visible_ms, p95_commit_to_visible_ms, p99_commit_to_visible_ms
  FROM pgtrickle.st_refresh_stats() WHERE stream_table = 'public.top';
SELECT pgt_name, total_refreshes, total_rows_updated, p99_duration_ms FROM pgtrickle.pg_stat_stream_tables WHERE pgt_name = 'top';

-- Old rows of the history go as new ones come, also of views that are always refreshed together.
UPDATE pgtrickle.pgt_refresh_history SET end_time = now() - interval '8 days';
DO $$ BEGIN
    FOR i IN 1 .. 150 LOOP
        UPDATE "Sales desk"."Order ""lines""" SET amount = amount + 1, customer = 5 - customer WHERE id = 1;
        REFRESH MATERIALIZED VIEW "left";
    END LOOP;
END $$;
SELECT pgt_relid::regclass, count(*) FILTER (WHERE end_time < now() - interval '7 days') AS old, count(*) AS "all"
  FROM pgtrickle.pgt_refresh_history WHERE pgt_relid IN ('"left"'::regclass, '"Sales desk"."Per customer"'::regclass) GROUP BY 1 ORDER BY 1;

-- Bad input.
\set SHOW_CONTEXT never
SELECT * FROM pgtrickle.refresh_timeline(-1);
\echo :SQLSTATE
SELECT * FROM pgtrickle.get_refresh_history('top', -1);
\echo :SQLSTATE
SELECT * FROM pgtrickle.get_refresh_history('"Sales desk"."No such"');
\echo :SQLSTATE
SELECT * FROM pgtrickle.get_refresh_history('a.b.c.d');
\echo :SQLSTATE
SELECT pgtrickle.get_staleness('parted');
\echo :SQLSTATE
SELECT pgtrickle.get_staleness('unquoted"');
\echo :SQLSTATE
SELECT count(*) FROM pgtrickle.get_refresh_history(NULL);
SELECT pgtrickle.get_staleness(NULL);

-- Triggers that are gone or do not fire would lose changes: said loudly.
BEGIN;
SET LOCAL allow_system_table_mods = on;
UPDATE pg_trigger SET tgenabled = 'D' WHERE tgrelid = 'parted_low'::regclass AND tgfoid = 'pgtrickle_internal.capture'::regproc;
SELECT source_table, triggers_missing, triggers_disabled, alert FROM pgtrickle.check_cdc_health() WHERE alert IS NOT NULL;
DELETE FROM pg_trigger WHERE tgrelid = '"Sales desk"."Order ""lines"""'::regclass AND tgfoid = 'pgtrickle_internal.capture'::regproc;
SELECT source_table, triggers_missing, triggers_disabled, alert FROM pgtrickle.check_cdc_health() WHERE alert IS NOT NULL;
SELECT * FROM pgtrickle.health_check() WHERE check_name = 'capture';
ROLLBACK;
SELECT * FROM pgtrickle.health_check() WHERE check_name = 'capture';

-- A buffer nobody empties.
CREATE TABLE wide (id int PRIMARY KEY, filler text);
INSERT INTO wide SELECT g, repeat('x', 1000) FROM generate_series(1, 1000) g;
CREATE MATERIALIZED VIEW narrow WITH (pg_trickle.incremental) AS SELECT id, length(filler) FROM wide;
DO $$ BEGIN FOR i IN 1 .. 6 LOOP UPDATE wide SET filler = repeat(i::text, 1000); END LOOP; END $$;
SELECT source_table, buffer_bytes > 8 << 20 AS large, buffer_bytes > source_bytes AS larger, alert FROM pgtrickle.check_cdc_health() WHERE alert IS NOT NULL;
SELECT check_name, severity, regexp_replace(detail, '\d+ [kM]B', 'N MB') AS detail FROM pgtrickle.health_check() WHERE check_name = 'change buffers';
DROP TABLE wide CASCADE;

-- Progress, seen by a function that the query calls.
CREATE FUNCTION peek(x int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    p record;
BEGIN
    IF x % 2000 = 0 THEN
        SELECT * INTO p FROM pgtrickle.pg_stat_progress_stream_table WHERE pid = pg_backend_pid();
        RAISE NOTICE '%: % of % by %: %, % rows, expected %, % of % views, started %', x, p.relid::regclass, p.datname, p.initiated_by,
            p.phase, p.rows_done, p.rows_expected > 0, p.views_done, p.views_total, p.start_time <= clock_timestamp();
    ELSIF x < 0 THEN
        RAISE 'refused: %', x;
    END IF;
    RETURN x;
END $$;
CREATE TABLE numbers (id int PRIMARY KEY, x int);
INSERT INTO numbers SELECT g, g FROM generate_series(1, 4000) g;
ANALYZE numbers;
-- With room for new versions: rows stay in their order.
CREATE MATERIALIZED VIEW below WITH (pg_trickle.incremental, fillfactor = 10) AS SELECT id, x FROM numbers;
CREATE MATERIALIZED VIEW peeks WITH (pg_trickle.incremental) AS SELECT id, peek(x) AS x FROM below;
SET pg_trickle.refresh_strategy = delta;
UPDATE numbers SET x = x + 1000;
REFRESH MATERIALIZED VIEW peeks;
SET pg_trickle.refresh_strategy = full;
UPDATE numbers SET x = x - 1 WHERE id = 1;
REFRESH MATERIALIZED VIEW peeks;
SELECT * FROM pgtrickle.pg_stat_progress_stream_table;
-- Writing, seen by a function that an index of the view calls.
CREATE FUNCTION peek_writing(x int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    p record;
BEGIN
    SELECT * INTO p FROM pgtrickle.pg_stat_progress_stream_table WHERE pid = pg_backend_pid();
    IF x % 4000 = 0 AND p.pid IS NOT NULL THEN
        RAISE NOTICE '%: % by %: %, % of % rows', x, p.relid::regclass, p.initiated_by, p.phase, p.rows_done, p.rows_expected;
    END IF;
    RETURN x;
END $$;
CREATE INDEX ON below (peek_writing(x));
SET pg_trickle.refresh_strategy = delta;
UPDATE numbers SET x = x + 1;
REFRESH MATERIALIZED VIEW below;
SET pg_trickle.refresh_strategy = full;
UPDATE numbers SET x = x - 1;
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF) REFRESH MATERIALIZED VIEW below;
EXPLAIN (COSTS OFF) REFRESH MATERIALIZED VIEW below;
SELECT * FROM pgtrickle.pg_stat_progress_stream_table;

-- An error ends it: at the top, and where it is caught. What goes wrong inside and is caught there does not.
UPDATE numbers SET x = -1 WHERE id = 2;
REFRESH MATERIALIZED VIEW peeks;
SELECT count(*) FROM pgtrickle.pg_stat_progress_stream_table;
DO $$ BEGIN
    REFRESH MATERIALIZED VIEW peeks;
EXCEPTION WHEN OTHERS THEN
    RAISE NOTICE 'caught: %, % in progress', SQLERRM, (SELECT count(*) FROM pgtrickle.pg_stat_progress_stream_table);
END $$;
CREATE FUNCTION catch(x int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN public.peek(x);
EXCEPTION WHEN OTHERS THEN
    RETURN public.peek(4000);
END $$;
CREATE MATERIALIZED VIEW catches WITH (pg_trickle.incremental) AS SELECT id, catch(x) AS x FROM numbers WHERE id <= 3;
SELECT count(*) FROM pgtrickle.pg_stat_progress_stream_table;
RESET pg_trickle.refresh_strategy;
DROP TABLE numbers CASCADE;

-- The processes.
ALTER SYSTEM SET pg_trickle.enabled = on;
SELECT pg_reload_conf();
CREATE FUNCTION becomes(query text, expected text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    found text;
BEGIN
    FOR i IN 1 .. 18000 LOOP
        EXECUTE query INTO found;
        EXIT WHEN found = expected;
        PERFORM pg_sleep(0.01);
    END LOOP;
    RETURN found;
END $$;
SELECT becomes('SELECT scheduler_running FROM pgtrickle.quick_health', 'true');
ALTER MATERIALIZED VIEW top SET (pg_trickle.schedule = '10ms');
SELECT pgtrickle.wait_until_fresh('top');
UPDATE "Sales desk"."Order ""lines""" SET amount = 3 WHERE id = 3;
SELECT pgtrickle.wait_until_fresh('top');
SELECT becomes($$SELECT string_agg(DISTINCT format('%s, %s, %s', backend_type, application_name, wait_event), '; ')
  FROM pg_stat_activity WHERE backend_type LIKE 'pg_trickle %' AND wait_event_type = 'Extension' AND coalesce(datname, current_database()) = current_database()$$,
  'pg_trickle launcher, pg_trickle launcher, PgTrickleLauncher; pg_trickle scheduler, pg_trickle scheduler, PgTrickleScheduler; pg_trickle worker, pg_trickle worker, PgTrickleWorker');
SELECT name FROM pg_wait_events WHERE type = 'Extension' AND name LIKE 'PgTrickle%' AND name <> 'PgTrickleLeave' ORDER BY 1;

-- From commit to visible: from the first commit that was not shown.
CREATE FUNCTION latest(view text) RETURNS TABLE (initiated_by text, ms double precision) LANGUAGE sql AS $$
    SELECT initiated_by, commit_to_visible_ms FROM pgtrickle.pgt_refresh_history WHERE pgt_relid = view::regclass ORDER BY refresh_id DESC LIMIT 1
$$;
CREATE TABLE events (id int);
CREATE MATERIALIZED VIEW recent WITH (pg_trickle.incremental, pg_trickle.schedule = '1ms') AS SELECT count(*) FROM events;
CREATE MATERIALIZED VIEW recent_above WITH (pg_trickle.incremental, pg_trickle.schedule = '1ms') AS SELECT count FROM recent;
SELECT pgtrickle.wait_until_fresh('recent_above');
SELECT pgtrickle.pause_all();
INSERT INTO events VALUES (1);
SELECT pg_sleep(0.3);
INSERT INTO events VALUES (2);
SELECT pg_sleep(0.1);
SELECT check_name, severity, regexp_replace(detail, 'since .*: ', 'since then: ') AS detail FROM pgtrickle.health_check() WHERE check_name = 'scheduler';
SELECT pgtrickle.resume_all();
SELECT pgtrickle.wait_until_fresh('recent_above');
SELECT v, initiated_by, ms >= 400 AS measured FROM unnest(ARRAY['recent', 'recent_above']) v, latest(v);
-- Nothing is counted that was before.
SELECT clock_timestamp() AS before \gset
INSERT INTO events VALUES (3);
SELECT pgtrickle.wait_until_fresh('recent_above');
SELECT v, initiated_by, ms BETWEEN 0.01 AND extract(epoch FROM clock_timestamp() - :'before') * 1000 AS measured FROM unnest(ARRAY['recent', 'recent_above']) v, latest(v);
-- A prepared transaction counts from COMMIT PREPARED.
BEGIN;
INSERT INTO events VALUES (4);
PREPARE TRANSACTION 'observability';
SELECT pg_sleep(0.5);
SELECT clock_timestamp() AS before \gset
COMMIT PREPARED 'observability';
SELECT pgtrickle.wait_until_fresh('recent_above');
SELECT v, initiated_by, ms BETWEEN 0.01 AND extract(epoch FROM clock_timestamp() - :'before') * 1000 AS measured FROM unnest(ARRAY['recent', 'recent_above']) v, latest(v);
-- What a refresh by hand has shown does not count, and nobody noted what came first after it.
SELECT pgtrickle.pause_all();
INSERT INTO events VALUES (5);
REFRESH MATERIALIZED VIEW recent;
SELECT * FROM latest('recent');
INSERT INTO events VALUES (6);
SELECT pgtrickle.resume_all();
SELECT pgtrickle.wait_until_fresh('recent_above');
SELECT v, initiated_by, ms IS NULL AS unknown FROM unnest(ARRAY['recent', 'recent_above']) v, latest(v);
SELECT p50_commit_to_visible_ms > 0 AND p50_commit_to_visible_ms <= p99_commit_to_visible_ms AND p99_commit_to_visible_ms > 300 AS measured
  FROM pgtrickle.st_refresh_stats() WHERE stream_table = 'public.recent';
-- A failure does not start the clock anew.
ALTER TABLE events ADD COLUMN x int NOT NULL DEFAULT 1;
CREATE MATERIALIZED VIEW shares WITH (pg_trickle.incremental, pg_trickle.schedule = '1ms') AS SELECT id, 100 / x AS share FROM events;
INSERT INTO events VALUES (7, 0);
SELECT becomes($$SELECT status FROM pgtrickle.pgt_stream_tables WHERE pgt_name = 'shares'$$, 'ERROR');
SELECT * FROM pgtrickle.health_check() WHERE severity <> 'OK';
SELECT pg_sleep(0.3);
DELETE FROM events WHERE x = 0;
SELECT pgtrickle.wait_until_fresh('shares');
SELECT initiated_by, ms >= 300 AS measured FROM latest('shares');
SELECT stream_table, failed_refreshes > 0 AS failed FROM pgtrickle.st_refresh_stats() WHERE stream_table = 'public.shares';
SELECT pgtrickle.alter_stream_table('shares', status => 'SUSPENDED');
SELECT * FROM pgtrickle.health_check() WHERE severity <> 'OK';

-- Progress of a worker, which ends with it.
CREATE FUNCTION slow(x int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
    -- As long as the test holds this lock.
    WHILE x = 777 AND NOT pg_try_advisory_xact_lock_shared(777) LOOP
        PERFORM pg_sleep(0.01);
    END LOOP;
    RETURN x;
END $$;
SELECT pg_advisory_lock(777);
CREATE MATERIALIZED VIEW slowly WITH (pg_trickle.incremental, pg_trickle.schedule = '1ms') AS SELECT slow(id) FROM events;
INSERT INTO events VALUES (777);
SELECT becomes($$SELECT format('%s %s %s', relid::regclass, initiated_by, phase) FROM pgtrickle.pg_stat_progress_stream_table WHERE relid = 'slowly'::regclass$$, 'slowly SCHEDULER computing rows');
SELECT a.backend_type, a.query FROM pgtrickle.pg_stat_progress_stream_table p JOIN pg_stat_activity a USING (pid) WHERE relid = 'slowly'::regclass;
SELECT pgtrickle.pause_all();
SELECT pid AS worker, pg_terminate_backend(pid, 30000) AS ended FROM pgtrickle.pg_stat_progress_stream_table WHERE relid = 'slowly'::regclass \gset
SELECT :'ended' AS ended, count(*) FROM pgtrickle.pg_stat_progress_stream_table WHERE pid = :worker;
SELECT pg_advisory_unlock(777);
SELECT pgtrickle.resume_all();
SELECT pgtrickle.wait_until_fresh('slowly');
-- And of one that waits for a lock.
SELECT pgtrickle.wait_until_fresh('recent_above');
BEGIN;
REFRESH MATERIALIZED VIEW recent;
PREPARE TRANSACTION 'observability';
INSERT INTO events VALUES (8);
SELECT becomes($$SELECT format('%s %s', initiated_by, phase) FROM pgtrickle.pg_stat_progress_stream_table WHERE relid = 'recent'::regclass$$, 'SCHEDULER waiting for locks');
ROLLBACK PREPARED 'observability';
SELECT pgtrickle.wait_until_fresh('recent_above');

-- Strangers see what there is; messages and history only who may refresh.
CREATE ROLE regress_observer;
SET ROLE regress_observer;
SELECT count(*) FROM pgtrickle.dependency_tree();
SELECT count(*) FROM pgtrickle.check_cdc_health();
SELECT count(*) FROM pgtrickle.health_check();
SELECT total_refreshes > 0 AS seen FROM pgtrickle.st_refresh_stats() WHERE stream_table = 'public.recent';
SELECT count(*) FROM pgtrickle.refresh_timeline();
SELECT count(*) FROM pgtrickle.get_refresh_history('recent');
SELECT count(*) FROM pgtrickle.pg_stat_progress_stream_table;
SELECT total_stream_tables FROM pgtrickle.quick_health;
SELECT * FROM pgtrickle_internal.refresh_progress();
RESET ROLE;
GRANT MAINTAIN ON recent TO regress_observer;
SET ROLE regress_observer;
SELECT DISTINCT stream_table FROM pgtrickle.refresh_timeline();
RESET ROLE;
DROP OWNED BY regress_observer;
DROP ROLE regress_observer;

ALTER SYSTEM RESET pg_trickle.enabled;
SELECT pg_reload_conf();
SELECT becomes('SELECT scheduler_running FROM pgtrickle.quick_health', 'false');
SELECT * FROM pgtrickle.health_check() WHERE check_name = 'scheduler';
SET client_min_messages = warning;
DROP TABLE events, parted CASCADE;
DROP MATERIALIZED VIEW alone, empty;
DROP SCHEMA "Sales desk" CASCADE;
DROP FUNCTION peek, peek_writing, catch, becomes, latest, slow;
SELECT * FROM pgtrickle.health_check() WHERE severity <> 'OK';
