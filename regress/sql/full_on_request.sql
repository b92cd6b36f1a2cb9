-- refresh_strategy = full: REFRESH of a view recomputes it, also when nothing is pending.
CREATE TABLE src (a int PRIMARY KEY, word text);
INSERT INTO src SELECT g, 'word' || g FROM generate_series(1, 10) g;
-- What the view shows depends on something nobody tells us of.
CREATE TABLE truth (factor int);
INSERT INTO truth VALUES (1);
CREATE FUNCTION factor() RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT factor FROM public.truth); END';
CREATE MATERIALIZED VIEW scaled WITH (pg_trickle.incremental) AS SELECT a, a * factor() AS b FROM src;
CREATE MATERIALIZED VIEW total WITH (pg_trickle.incremental) AS SELECT sum(b) AS sum, count(*) AS n FROM scaled;
CREATE MATERIALIZED VIEW grouped WITH (pg_trickle.incremental) AS SELECT a % 2 AS odd, sum(a * factor()) AS sum FROM src GROUP BY 1;
CREATE FUNCTION actions() RETURNS TABLE (view text, action text, rows bigint) LANGUAGE sql AS $$
    SELECT v, h.action, h.rows_inserted FROM unnest('{scaled,total,grouped}'::text[]) v,
           LATERAL (SELECT * FROM pgtrickle.get_refresh_history(v) ORDER BY refresh_id DESC LIMIT 1) h ORDER BY h.refresh_id $$;
UPDATE truth SET factor = 10;

-- By default nothing is to be done.
REFRESH MATERIALIZED VIEW total;
TABLE total;
SELECT view, action FROM actions();
-- The view that is named; those it reads are not.
SET pg_trickle.refresh_strategy = full;
REFRESH MATERIALIZED VIEW total;
TABLE total;
SELECT view, action FROM actions();
REFRESH MATERIALIZED VIEW scaled;
SELECT sum(b) FROM scaled;
REFRESH MATERIALIZED VIEW total;
TABLE total;
SELECT * FROM actions();
SELECT pgtrickle.refresh_stream_table('grouped');
TABLE grouped ORDER BY odd;
-- Recomputing what is right changes nothing, and there is no end to it when it is asked for.
REFRESH MATERIALIZED VIEW CONCURRENTLY grouped;
SELECT * FROM actions();
SELECT count(*) FROM pgtrickle.get_refresh_history('grouped');
-- EXPLAIN shows the plan that would be run, and runs it.
CREATE FUNCTION plan_of(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE line text; plan text := '';
BEGIN
    FOR line IN EXECUTE statement LOOP
        plan := plan || line;
    END LOOP;
    RETURN CASE WHEN plan ~ 'NO_DATA' THEN 'nothing' WHEN plan ~ 'TrickleDelta' THEN 'delta' WHEN plan ~ 'TrickleApply' THEN 'recompute' END;
END $$;
SELECT plan_of('EXPLAIN (COSTS OFF) REFRESH MATERIALIZED VIEW scaled');
SELECT plan_of('EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) REFRESH MATERIALIZED VIEW scaled');
RESET pg_trickle.refresh_strategy;
SELECT plan_of('EXPLAIN (COSTS OFF) REFRESH MATERIALIZED VIEW scaled');
SELECT plan_of('EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) REFRESH MATERIALIZED VIEW scaled');

-- For the whole server: the scheduler recomputes what has changes, and rests otherwise.
ALTER SYSTEM SET pg_trickle.refresh_strategy = full;
ALTER SYSTEM SET pg_trickle.enabled = on;
SELECT pg_reload_conf();
INSERT INTO src VALUES (11, 'eleven');
SELECT pgtrickle.wait_until_fresh('total', '60s'), pgtrickle.wait_until_fresh('grouped', '60s');
TABLE total;
SELECT DISTINCT action FROM pgtrickle.get_refresh_history('grouped');
-- While another view is refreshed again and again, there is nothing for these to do.
SELECT count(*) AS refreshes FROM pgtrickle.get_refresh_history('grouped') \gset
CREATE TABLE tick (a int);
CREATE MATERIALIZED VIEW ticks WITH (pg_trickle.incremental, pg_trickle.schedule = '10ms') AS SELECT count(*) FROM tick;
INSERT INTO tick VALUES (1);
SELECT pgtrickle.wait_until_fresh('ticks', '60s');
SELECT pg_sleep(1);
INSERT INTO tick VALUES (2);
SELECT pgtrickle.wait_until_fresh('ticks', '60s');
SELECT pg_sleep(1);
INSERT INTO tick VALUES (3);
SELECT pgtrickle.wait_until_fresh('ticks', '60s');
SELECT count(*) - :refreshes AS further FROM pgtrickle.get_refresh_history('grouped');
ALTER SYSTEM RESET pg_trickle.refresh_strategy;
ALTER SYSTEM RESET pg_trickle.enabled;
SELECT pg_reload_conf();
SET client_min_messages = warning;
DROP TABLE src, truth, tick CASCADE;
DROP FUNCTION factor, actions, plan_of;
