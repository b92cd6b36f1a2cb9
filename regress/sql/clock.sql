-- The clock as an input: what is compared with it is maintained by the rows it passes. The clock is moved both ways by a setting that only
-- builds with assertions have.
CREATE SCHEMA clock;
SET search_path = clock, public;
SET client_min_messages = warning;
SET pg_trickle.rebuild_mismatched = off;
SET pg_trickle.refresh_strategy = delta;
SET timezone = 'Europe/Berlin';
SET pg_trickle.test_clock = '2024-03-30 12:00+00';

CREATE TABLE a (id int PRIMARY KEY, k int, ts timestamptz, d date, note text);
CREATE TABLE b (k int, v int);
INSERT INTO a SELECT i, nullif(i % 7, 6), timestamptz '2024-03-29 00:00+00' + i * interval '17 minutes', date '2024-03-25' + i % 12, to_char(timestamptz '2024-01-15 12:00+00' + i * interval '7 days', 'YYYY-MM')
  FROM generate_series(1, 300) i;
INSERT INTO a SELECT 1000 + i, i, NULL, NULL, NULL FROM generate_series(1, 5) i;
INSERT INTO b SELECT i % 5, i FROM generate_series(1, 12) i;
CREATE INDEX ON a (ts);
ANALYZE a;

-- The view's query at the time of the setting, in which it is written as a constant: how many rows differ.
CREATE FUNCTION wrong(view regclass) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    at text := format('%L::timestamptz', current_setting('pg_trickle.test_clock'));
    query text := rtrim(pg_get_viewdef(view), ';');
    n bigint;
BEGIN
    query := replace(replace(query, 'now()', at), 'CURRENT_TIMESTAMP', at);
    query := replace(replace(query, 'CURRENT_DATE', '(' || at || ')::date'), 'LOCALTIMESTAMP', '(' || at || ')::timestamp');
    EXECUTE format('SELECT count(*) FROM ((TABLE %1$s EXCEPT ALL (%2$s)) UNION ALL ((%2$s) EXCEPT ALL TABLE %1$s)) d', view, query) INTO n;
    RETURN n;
END $$;
CREATE FUNCTION made(name text, query text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE MATERIALIZED VIEW %I WITH (pg_trickle.incremental) AS %s', name, query);
    RETURN (SELECT effective_mode || coalesce(': ' || split_part(downgrade_reason, ':', 1), '') FROM pgtrickle_internal.stream_table WHERE relid = name::regclass);
END $$;
-- Refreshes every view; names those that are wrong.
CREATE FUNCTION refreshed(at timestamptz) RETURNS TABLE (view regclass, wrong bigint) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('pg_trickle.test_clock', at::text, false);
    FOR view IN SELECT relid FROM pgtrickle_internal.stream_table ORDER BY id LOOP
        EXECUTE format('REFRESH MATERIALIZED VIEW %s', view);
    END LOOP;
    RETURN QUERY SELECT relid::regclass, n FROM pgtrickle_internal.stream_table, LATERAL wrong(relid) n WHERE n > 0 ORDER BY id;
END $$;

-- Maintained.
SELECT made('last_hour', 'SELECT id, ts FROM a WHERE ts > now() - interval ''1 hour''');
SELECT made('day_window', 'SELECT k, ts FROM a WHERE ts > now() - interval ''1 day'' AND ts <= now()');
SELECT made('joined', 'SELECT b.k, count(*), sum(b.v) FROM a JOIN b ON a.k = b.k AND now() - interval ''1 day'' < a.ts GROUP BY b.k');
SELECT made('fresh', 'SELECT CASE WHEN ts > now() - interval ''1 hour'' THEN ''fresh'' ELSE ''stale'' END AS f, count(*), count(*) FILTER (WHERE ts > now() - interval ''1 day'') AS day, max(id), array_agg(id ORDER BY id) FROM a GROUP BY 1');
SELECT made('labelled', 'SELECT id, ts > now() AS future, note FROM a');
SELECT made('days', 'SELECT k, ts FROM a WHERE ts >= date_trunc(''day'', now()) AND ts::date <= CURRENT_DATE');
SELECT made('dates', 'SELECT id, d FROM a WHERE d BETWEEN CURRENT_DATE - 2 AND CURRENT_DATE AND d <> CURRENT_DATE - 1');
SELECT made('crossed', 'SELECT id FROM a WHERE d > now() - interval ''36 hours'' AND ts < LOCALTIMESTAMP');
SELECT made('deadline', 'SELECT id FROM a WHERE ts + make_interval(hours => k) > now()');
SELECT made('months', 'SELECT id, note FROM a WHERE note = to_char(now(), ''YYYY-MM'')');
SELECT made('legs', 'SELECT id, ts FROM a WHERE ts < now() UNION ALL SELECT k, NULL FROM b UNION ALL SELECT k, ts FROM a WHERE ts > now()');
SELECT made('inside', 'SELECT x.id, b.v FROM (SELECT id, k, ts FROM a WHERE ts < now()) x JOIN b ON b.k = x.k WHERE x.ts > now() - interval ''6 hours''');
SELECT made('nulls', 'SELECT id FROM a WHERE ts < nullif(date_trunc(''day'', now()), timestamptz ''2024-03-31 00:00+01'')');
SELECT made('silent', 'SELECT b.k, b.v, g.last FROM b JOIN (SELECT k, max(ts) AS last, count(*) AS n FROM a GROUP BY k) g ON g.k = b.k WHERE g.last < now() - interval ''2 days''');
SELECT made('nested', 'SELECT b.k, b.v, g.n FROM b JOIN (SELECT k, count(*) AS n, max(ts) AS last FROM a WHERE ts > now() - interval ''6 hours'' GROUP BY k) g ON g.k = b.k WHERE g.last < now() - interval ''1 hour''');
SELECT made('ranked', 'SELECT k, n, rank() OVER (ORDER BY n) AS r FROM (SELECT k, count(*) AS n FROM a WHERE ts <= now() GROUP BY k) g');
SELECT made('never', 'SELECT DISTINCT k FROM a WHERE NOT (ts > now() - interval ''3 hours'' OR k = 2)');
SELECT made('both', 'SELECT x.id, y.id AS other FROM a x, a y WHERE x.id = y.id - 1 AND x.ts < now() AND y.ts >= now()');
SELECT made('beside', 'SELECT b.k, b.v, x.id FROM b LEFT JOIN a x ON x.k = b.k AND x.id < 20 JOIN a y ON y.id = b.v WHERE y.ts < now() AND (x.ts > now() OR x.ts IS NULL OR y.id < 9)');
SELECT made('kept', 'SELECT id, k FROM a WHERE ts < now() AND NOT EXISTS (SELECT FROM b WHERE b.k = a.k AND b.v > 6)');
-- Recomputed at every refresh, as before.
SELECT made('shown', 'SELECT id, now() AS at FROM a');
SELECT made('arithmetic', 'SELECT id FROM a WHERE now() - ts < interval ''1 day''');
SELECT made('aggregated', 'SELECT k FROM a GROUP BY k HAVING max(ts) < now()');
SELECT made('sublink', 'SELECT k FROM b WHERE NOT EXISTS (SELECT FROM a WHERE a.k = b.k AND a.ts > now())');
SELECT made('outward', 'SELECT b.k, a.ts FROM b LEFT JOIN a ON a.k = b.k AND a.ts > now()');
SELECT made('alone', 'SELECT id FROM a WHERE now() > timestamptz ''2024-03-30 00:00+00''');
SELECT made('unsteady', 'SELECT id FROM a WHERE ts > clock_timestamp()');
SELECT made('in_case', 'SELECT id, CASE ts WHEN now() THEN 1 END AS c FROM a');
DROP MATERIALIZED VIEW shown, arithmetic, aggregated, sublink, outward, alone, unsteady, in_case;

-- What is read when the clock moves, and what when it does not.
SET enable_seqscan = off;
SET enable_bitmapscan = off;
EXPLAIN (COSTS off) REFRESH MATERIALIZED VIEW last_hour;
SET pg_trickle.test_clock = '2024-03-30 12:30+00';
EXPLAIN (COSTS off) REFRESH MATERIALIZED VIEW last_hour;
EXPLAIN (COSTS off) REFRESH MATERIALIZED VIEW legs;
RESET enable_seqscan;
RESET enable_bitmapscan;
SELECT * FROM refreshed('2024-03-30 12:30+00');

-- Forth, back, over the change to summer time at 01:00 UTC on the 31st, and not at all.
SELECT * FROM refreshed('2024-03-31 00:59+00');
SELECT * FROM refreshed('2024-03-31 01:00+00');
SELECT * FROM refreshed('2024-03-31 03:00+00');
SELECT * FROM refreshed('2024-03-31 00:30+00');
SELECT * FROM refreshed('2024-04-01 12:00+00');
SELECT * FROM refreshed('2024-04-01 12:00+00');
SELECT * FROM refreshed('2024-03-29 00:00+00');
-- Beyond all rows, and before them.
SELECT * FROM refreshed('infinity');
SELECT * FROM refreshed('2030-01-01 00:00+00');
SELECT * FROM refreshed('2000-01-01 00:00+00');

-- Tables and the clock change together.
SELECT setseed(0.25);
CREATE PROCEDURE changed() LANGUAGE plpgsql AS $$
DECLARE
    base timestamptz := '2024-03-29 00:00+00';
BEGIN
    FOR i IN 1 .. 3 + (random() * 5)::int LOOP
        CASE (random() * 5)::int
        WHEN 0 THEN DELETE FROM a WHERE id = (random() * 300)::int;
        WHEN 1 THEN UPDATE a SET ts = base + (random() * 5000)::int * interval '1 minute' WHERE id = (random() * 300)::int;
        WHEN 2 THEN UPDATE a SET ts = NULL, d = d + 1 WHERE id = (random() * 300)::int;
        WHEN 3 THEN INSERT INTO b SELECT (random() * 6)::int, (random() * 9)::int;
        WHEN 4 THEN DELETE FROM b WHERE ctid IN (SELECT ctid FROM b ORDER BY random() LIMIT 1);
        ELSE INSERT INTO a SELECT coalesce(max(id), 0) + 1, (random() * 6)::int, base + (random() * 300)::int * interval '15 minutes', date '2024-03-27' + (random() * 6)::int, '2024-03' FROM a;
        END CASE;
    END LOOP;
END $$;
CREATE FUNCTION walk(rounds int) RETURNS TABLE (view regclass, wrong bigint) LANGUAGE plpgsql AS $$
DECLARE
    base timestamptz := '2024-03-29 00:00+00';
    minutes int := 1000;
BEGIN
    FOR i IN 1 .. rounds LOOP
        CALL changed();
        minutes := CASE WHEN random() < 0.4 THEN (random() * 5000)::int
                        ELSE greatest(0, minutes + (ARRAY[0, 1, 30, 60, 600, 1440, -30, -600])[1 + (random() * 7)::int]) END;
        RETURN QUERY SELECT * FROM refreshed(base + minutes * interval '1 minute');
    END LOOP;
END $$;
SELECT * FROM walk(25);

-- Everything above was maintained by delta.
SELECT pgt_relid::regclass AS view, array_agg(DISTINCT action ORDER BY action) AS actions FROM pgtrickle.pgt_refresh_history
 WHERE initiated_by = 'MANUAL' AND pgt_relid::regclass::text IN (SELECT relid::regclass::text FROM pgtrickle_internal.stream_table) GROUP BY pgt_relid ORDER BY pgt_relid;

-- A schema of another zone: its views are pinned to that, whatever the session's is, and the values that were stored are those compared.
DO $$
DECLARE
    name text;
BEGIN
    FOR name IN SELECT relid::regclass::text FROM pgtrickle_internal.stream_table LOOP
        EXECUTE format('DROP MATERIALIZED VIEW %s', name);
    END LOOP;
END $$;
SET timezone = 'America/New_York';
SELECT made('ny', 'SELECT id, ts FROM a WHERE ts >= date_trunc(''day'', now())');
SET timezone = 'Asia/Tokyo';
SELECT made('tokyo', 'SELECT id, ts FROM a WHERE ts >= date_trunc(''day'', now()) AND d >= CURRENT_DATE');
SET pg_trickle.test_clock = '2024-03-30 23:30+00';
REFRESH MATERIALIZED VIEW ny;
REFRESH MATERIALIZED VIEW tokyo;
SELECT wrong('tokyo');
SET timezone = 'America/New_York';
SELECT wrong('ny');
SET pg_trickle.test_clock = '2024-03-31 04:30+00';
REFRESH MATERIALIZED VIEW ny;
REFRESH MATERIALIZED VIEW tokyo;
SELECT wrong('ny');
SET timezone = 'Asia/Tokyo';
SELECT wrong('tokyo');

-- Nothing to do while no value has moved, though time has passed.
SELECT made('today', 'SELECT id FROM a WHERE d >= CURRENT_DATE');
SET pg_trickle.test_clock = '2024-03-31 04:45+00';
SELECT updated_at AS before FROM pgtrickle_internal.stream_table WHERE relid = 'today'::regclass \gset
REFRESH MATERIALIZED VIEW today;
SELECT updated_at = :'before' AS untouched FROM pgtrickle_internal.stream_table WHERE relid = 'today'::regclass;

-- Stored values that cannot be read: computed anew.
UPDATE pgtrickle_internal.stream_table SET clock = '\x00' WHERE relid = 'today'::regclass;
REFRESH MATERIALIZED VIEW today;
SELECT wrong('today');
SELECT action, reason FROM pgtrickle.pgt_refresh_history WHERE pgt_relid = 'today'::regclass ORDER BY refresh_id DESC LIMIT 1;
UPDATE pgtrickle_internal.stream_table SET clock = NULL WHERE relid = 'today'::regclass;
SET pg_trickle.test_clock = '2024-04-02 04:45+00';
REFRESH MATERIALIZED VIEW today;
SELECT wrong('today');

-- Without rows, with them again, and in a transaction that is rolled back.
REFRESH MATERIALIZED VIEW today WITH NO DATA;
REFRESH MATERIALIZED VIEW today;
SELECT wrong('today');
BEGIN;
SET LOCAL pg_trickle.test_clock = '2024-03-28 04:45+00';
REFRESH MATERIALIZED VIEW today;
SELECT wrong('today');
ROLLBACK;
REFRESH MATERIALIZED VIEW today;
SELECT wrong('today');

-- What it says.
SELECT * FROM pgtrickle.validate_query('SELECT id FROM a WHERE ts > now() AND d < CURRENT_DATE') WHERE check_name IN ('maintenance', 'clock', 'index');
SELECT result FROM pgtrickle.validate_query('SELECT id, now() AS at FROM a') WHERE check_name = 'reason';
DROP SCHEMA clock CASCADE;
