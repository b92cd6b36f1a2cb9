\set ON_ERROR_STOP on
\pset border 2
SET search_path = bench, public;
SET client_min_messages = warning;
-- Two tables alike; one of them is captured, by one view and then by three.
CREATE TABLE plain (id int PRIMARY KEY, k int NOT NULL, amount numeric NOT NULL, note text);
CREATE TABLE captured (LIKE plain INCLUDING ALL);
CREATE MATERIALIZED VIEW captured_by_k WITH (pg_trickle.incremental) AS
    SELECT k, count(*) AS n, sum(amount) AS total, max(note) AS note FROM captured GROUP BY k;

CREATE PROCEDURE pair(work text, statement text, undo text, reach text)
LANGUAGE plpgsql AS $$
DECLARE
    t0 timestamptz;
    plain float8;
    captured float8;
    ratios float8[] := '{}';
    plains float8[] := '{}';
BEGIN
    FOR i IN 1 .. 7 LOOP
        t0 := clock_timestamp();
        EXECUTE format(statement, 'plain');
        plain := extract(epoch FROM clock_timestamp() - t0);
        COMMIT;
        t0 := clock_timestamp();
        EXECUTE format(statement, 'captured');
        captured := extract(epoch FROM clock_timestamp() - t0);
        COMMIT;
        ratios := ratios || captured / plain;
        plains := plains || plain * 1e9 / 200000;
        EXECUTE format(undo, 'plain');
        EXECUTE format(undo, 'captured');
        COMMIT;
        PERFORM pgtrickle.refresh_stream_table('captured_by_k');
        COMMIT;
    END LOOP;
    INSERT INTO result (work, us, baseline, reach)
        SELECT work, percentile_cont(0.5) WITHIN GROUP (ORDER BY r), (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY p) FROM unnest(plains) p), reach
        FROM unnest(ratios) r;
    COMMIT;
END $$;

\set rows 'INSERT INTO %I SELECT i, i %% 1000, i / 7.0, md5(i::text) FROM generate_series(1, 200000) i'
CALL pair('INSERT 200k', :'rows', 'TRUNCATE %I', '1.25');
INSERT INTO plain SELECT i, i % 1000, i / 7.0, md5(i::text) FROM generate_series(1, 200000) i;
INSERT INTO captured TABLE plain;
VACUUM (ANALYZE) plain, captured;
CALL pair('UPDATE 200k', 'UPDATE %I SET amount = amount + 1', 'SELECT 1 FROM %I LIMIT 1', '1.3');
CALL pair('DELETE 200k', 'DELETE FROM %I', 'INSERT INTO %I SELECT i, i %% 1000, i / 7.0, md5(i::text) FROM generate_series(1, 200000) i', '1.9');
CREATE MATERIALIZED VIEW captured_2 WITH (pg_trickle.incremental) AS SELECT id, k FROM captured WHERE amount < 0;
CREATE MATERIALIZED VIEW captured_3 WITH (pg_trickle.incremental) AS SELECT max(amount) AS highest FROM captured;
CALL pair('UPDATE 200k, three views', 'UPDATE %I SET amount = amount + 1', 'SELECT 1 FROM %I LIMIT 1', '1.3');
SELECT work, round(baseline::numeric) AS "plain ns/row", round(us::numeric, 3) AS "captured / plain", reach FROM result ORDER BY number;
