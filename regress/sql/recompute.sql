-- The groups of a recomputed view are made by the server's own aggregation where it can leave what the state table keeps,
-- else folded from sorted rows; and deltas go on from what it left. With and without parallel workers.
CREATE SCHEMA recompute;
SET search_path = recompute;
CREATE TABLE sales (id int PRIMARY KEY, region numeric, day int, units int, price numeric, item text, weight float8, ok bool);
INSERT INTO sales
    SELECT i, CASE WHEN i % 7 = 0 THEN NULL WHEN i % 2 = 0 THEN i % 5 + 0.0 ELSE i % 5 + 0.00 END, i % 3,
           CASE WHEN i % 4 <> 0 THEN i END, i / 3.0, 'item ' || i % 11, i % 64, i % 2 = 0
    FROM generate_series(1, 500) i;
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/data/wrong.sql'
\i :helpers
-- Partial states, some made by another aggregate than the view's (sum of int4); NULLs, FILTER, HAVING.
CREATE MATERIALIZED VIEW states WITH (pg_trickle.incremental) AS
    SELECT day + 1 AS day, count(*) AS n, count(units) AS units, count(price) FILTER (WHERE ok) AS ok_prices, sum(units) AS sum,
           sum(units) FILTER (WHERE units > 400) AS many, avg(price), variance(units), min(price), max(item),
           regr_count(weight, units), sum(weight) AS weight, bool_and(ok)
    FROM sales GROUP BY day + 1 HAVING count(*) > 1;
-- Keys that are equal but not identical.
CREATE MATERIALIZED VIEW regions WITH (pg_trickle.incremental) AS SELECT region, sum(units) AS units FROM sales GROUP BY region;
-- The result is what is stored.
CREATE MATERIALIZED VIEW results WITH (pg_trickle.incremental) AS
    SELECT day, count(*) AS n, max(price), array_agg(units ORDER BY id) AS units, string_agg(DISTINCT item, ',') AS items
    FROM sales GROUP BY day;
-- Both in one view, and ordered sets: sorted rows.
CREATE MATERIALIZED VIEW mixed WITH (pg_trickle.incremental) AS
    SELECT day, sum(units) AS sum, array_agg(item ORDER BY id) AS items FROM sales GROUP BY day;
CREATE MATERIALIZED VIEW medians WITH (pg_trickle.incremental) AS
    SELECT day, percentile_disc(0.5) WITHIN GROUP (ORDER BY price) AS median FROM sales GROUP BY day;
-- One group, which exists without rows; no aggregates at all; and no groups.
CREATE MATERIALIZED VIEW one WITH (pg_trickle.incremental) AS SELECT count(*) AS n, sum(units) AS sum, max(price) FROM sales WHERE id < 0;
CREATE MATERIALIZED VIEW days WITH (pg_trickle.incremental) AS SELECT day FROM sales GROUP BY day;
CREATE MATERIALIZED VIEW plain WITH (pg_trickle.incremental) AS SELECT id, price * units AS value FROM sales WHERE ok;
-- What reads a stream table takes its rows in the same transaction.
CREATE MATERIALIZED VIEW above WITH (pg_trickle.incremental) AS SELECT sum(n) AS n, avg(avg) AS average FROM states;

CREATE FUNCTION views() RETURNS SETOF regclass LANGUAGE sql STABLE AS $$
    SELECT pgt_relid FROM pgtrickle.pgt_stream_tables WHERE pgt_schema = 'recompute' ORDER BY pgt_id
$$;
-- Refreshes; what that did, and rows that then differ from the query.
CREATE FUNCTION refresh(view regclass, OUT action text, OUT wrong bigint) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pgtrickle.refresh_stream_table(view::text);
    action := (SELECT h.action FROM pgtrickle.get_refresh_history(view::text, 1) h);
    wrong := wrong(view, by_equality => view::text = 'regions');
END $$;
CREATE PROCEDURE change(step int) LANGUAGE plpgsql AS $$
BEGIN
    UPDATE sales SET units = units + step, price = price * 2, region = NULL WHERE id % (7 + step) = 0;
    DELETE FROM sales WHERE id % (11 + step) = 1;
    INSERT INTO sales SELECT 1000 * step + i, 1.000, i % 5, NULL, NULL, NULL, NULL, NULL FROM generate_series(1, 4) i;
    INSERT INTO sales VALUES (-step, step, 1, 10 * step, step, 'new', 1, true);
END $$;
-- By what a refresh would make the rows, and of which aggregates it keeps partial states.
CREATE FUNCTION how(view regclass, OUT rows text, OUT workers bool, OUT states text) LANGUAGE plpgsql AS $$
DECLARE
    plan json;
BEGIN
    EXECUTE format('EXPLAIN (COSTS OFF, VERBOSE, FORMAT JSON) REFRESH MATERIALIZED VIEW %s', view) INTO plan;
    rows := CASE WHEN plan::text ~ 'TrickleRebuild' THEN 'aggregated' WHEN plan::text ~ 'TrickleAccumulate' THEN 'folded' ELSE 'as they are' END;
    workers := plan::text ~ 'Gather';
    states := (SELECT string_agg(DISTINCT name[1], ' ') FROM regexp_matches(plan::text, 'PARTIAL (\w+)', 'g') name);
END $$;

UPDATE sales SET weight = weight + 1 WHERE id < 20;
SET pg_trickle.refresh_strategy = full;
EXPLAIN (COSTS OFF) REFRESH MATERIALIZED VIEW states;
SELECT view, how.* FROM views() view, how(view);

-- Recompute, delta, recompute, delta: each goes on from what the other has left.
CALL change(1);
SELECT view, action, wrong FROM views() view, refresh(view);
SET pg_trickle.refresh_strategy = delta;
CALL change(2);
SELECT view, action, wrong FROM views() view, refresh(view);
SET pg_trickle.refresh_strategy = full;
CALL change(3);
SELECT view, action, wrong FROM views() view, refresh(view);
SET pg_trickle.refresh_strategy = delta;
CALL change(4);
SELECT view, action, wrong FROM views() view, refresh(view);

-- In parallel workers, where REFRESH would use them.
SET min_parallel_table_scan_size = 0;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET max_parallel_workers_per_gather = 2;
SET pg_trickle.refresh_strategy = full;
CREATE MATERIALIZED VIEW scanned WITH (pg_trickle.incremental) AS SELECT id, day FROM sales WHERE units > 0;
CALL change(5);
EXPLAIN (COSTS OFF) REFRESH MATERIALIZED VIEW one;
SELECT view, how.* FROM views() view, how(view) WHERE view = 'scanned'::regclass;
SELECT view, action, wrong FROM views() view, refresh(view);
CREATE MATERIALIZED VIEW made WITH (pg_trickle.incremental) AS SELECT item, count(*) AS n, avg(price) FROM sales GROUP BY item;
-- A worker's error leaves everything as it was, and the session as well.
CREATE MATERIALIZED VIEW fragile WITH (pg_trickle.incremental) AS SELECT id, 100 / units AS quotient FROM sales WHERE units IS NOT NULL;
CREATE TABLE log (message text);
DO $$
BEGIN
    UPDATE sales SET units = 0 WHERE id = 100;
    INSERT INTO log VALUES ('before');
    BEGIN
        REFRESH MATERIALIZED VIEW fragile;
    EXCEPTION WHEN division_by_zero THEN
        INSERT INTO log VALUES ('after');
    END;
    UPDATE sales SET units = 1 WHERE id = 100;
END $$;
TABLE log;
CALL change(6);
SELECT view, action, wrong FROM views() view, refresh(view);
SET pg_trickle.refresh_strategy = delta;
CALL change(7);
SELECT view, action, wrong FROM views() view, refresh(view);

DROP SCHEMA recompute CASCADE;
