-- From a commit to its being visible in views that refresh themselves, one change at a time.
\set ON_ERROR_STOP on
\pset border 2
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_trickle;
DROP SCHEMA IF EXISTS runtime CASCADE;
CREATE SCHEMA runtime;
SET search_path = runtime, public;

CREATE TABLE result (number serial, work text, p50 float8, p99 float8, reach text);

-- Commits `change` (which may use $1, the number of the round) and looks at `probe`, which says whether round $1 is visible,
-- until it is; milliseconds from one to the other.
CREATE PROCEDURE visible(work text, change text, probe text, rounds int, reach text)
LANGUAGE plpgsql AS $$
DECLARE
    t0 timestamptz;
    seen bool;
    times float8[] := '{}';
BEGIN
    FOR i IN 1 .. rounds LOOP
        EXECUTE change USING i;
        COMMIT;
        t0 := clock_timestamp();
        LOOP
            EXECUTE probe INTO seen USING i;
            COMMIT;
            EXIT WHEN seen;
            PERFORM pg_sleep(0.0001);
        END LOOP;
        times := times || extract(epoch FROM clock_timestamp() - t0) * 1e3;
        PERFORM pg_sleep(0.01);
        COMMIT;
    END LOOP;
    INSERT INTO result (work, p50, p99, reach)
        SELECT work, percentile_cont(0.5) WITHIN GROUP (ORDER BY t), percentile_cont(0.99) WITHIN GROUP (ORDER BY t), reach
        FROM unnest(times) t;
    COMMIT;
END $$;

CREATE TABLE one (id int PRIMARY KEY, n int);
CREATE MATERIALIZED VIEW one_view WITH (pg_trickle.incremental, pg_trickle.schedule = '1ms') AS
    SELECT count(*) AS n FROM one;
CALL visible('one view', 'INSERT INTO one VALUES ($1, $1)', 'SELECT n >= $1 FROM one_view', 500, 'p50 2, p99 20');

CREATE TABLE chain_0 (id int PRIMARY KEY, n int);
INSERT INTO chain_0 SELECT i, 0 FROM generate_series(1, 100) i;
SELECT format('CREATE MATERIALIZED VIEW chain_%s WITH (pg_trickle.incremental, pg_trickle.schedule = %L) AS
    SELECT id, n FROM chain_%s WHERE n >= 0', i, CASE i WHEN 10 THEN '1ms' ELSE 'calculated' END, i - 1)
FROM generate_series(1, 10) i \gexec
CALL visible('chain of 10', 'UPDATE chain_0 SET n = $1 WHERE id = 7', 'SELECT n = $1 FROM chain_10 WHERE id = 7', 200, '10');

CREATE TABLE wide (id int PRIMARY KEY, n int);
INSERT INTO wide SELECT i, 0 FROM generate_series(1, 100) i;
SELECT format('CREATE MATERIALIZED VIEW wide_1_%s WITH (pg_trickle.incremental, pg_trickle.schedule = %L) AS
    SELECT id, n + %1$s AS n FROM wide', i, 'calculated') FROM generate_series(1, 20) i \gexec
SELECT format('CREATE MATERIALIZED VIEW wide_2_%s WITH (pg_trickle.incremental, pg_trickle.schedule = %L) AS
    SELECT id, n FROM wide_1_%1$s WHERE n >= 0', i, 'calculated') FROM generate_series(1, 20) i \gexec
SELECT format('CREATE MATERIALIZED VIEW wide_3_%s WITH (pg_trickle.incremental, pg_trickle.schedule = %L) AS
    SELECT max(n) AS n FROM wide_2_%1$s', i, '1ms') FROM generate_series(1, 20) i \gexec
SELECT 'SELECT ' || string_agg(format('(SELECT n >= $1 + %s FROM wide_3_%1$s)', i), ' AND ') AS wide_probe
FROM generate_series(1, 20) i \gset
CALL visible('3 layers of 20 views', 'UPDATE wide SET n = $1 WHERE id = 7', :'wide_probe', 100, '40');

CREATE TABLE diamond (id int PRIMARY KEY, n int);
INSERT INTO diamond SELECT i, 0 FROM generate_series(1, 100) i;
CREATE MATERIALIZED VIEW diamond_top WITH (pg_trickle.incremental, pg_trickle.schedule = 'calculated') AS
    SELECT id, n FROM diamond;
CREATE MATERIALIZED VIEW diamond_left WITH (pg_trickle.incremental, pg_trickle.schedule = 'calculated') AS
    SELECT max(n) AS n FROM diamond_top;
CREATE MATERIALIZED VIEW diamond_right WITH (pg_trickle.incremental, pg_trickle.schedule = 'calculated') AS
    SELECT sum(n) AS total FROM diamond_top;
CREATE MATERIALIZED VIEW diamond_end WITH (pg_trickle.incremental, pg_trickle.schedule = '1ms') AS
    SELECT l.n, r.total FROM diamond_left l, diamond_right r;
CALL visible('diamond of 4', 'UPDATE diamond SET n = $1 WHERE id = 7', 'SELECT n = $1 FROM diamond_end', 200, '5');

SELECT work, round(p50::numeric, 2) AS "p50 ms", round(p99::numeric, 2) AS "p99 ms", reach FROM result ORDER BY number;
DROP SCHEMA runtime CASCADE;
