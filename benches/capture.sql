\set ON_ERROR_STOP on
\pset border 2
SET search_path = bench, public;
SET client_min_messages = warning;
-- Three tables alike: one of them is captured, by one view and then by three; another has triggers like those of capture
-- that find nothing to do, which shows how much of the cost is the server's own.
CREATE TABLE plain (id int PRIMARY KEY, k int NOT NULL, amount numeric NOT NULL, note text);
CREATE TABLE captured (LIKE plain INCLUDING ALL);
CREATE TABLE idle (LIKE plain INCLUDING ALL);
CREATE TRIGGER i AFTER INSERT ON idle REFERENCING NEW TABLE AS new
    FOR EACH STATEMENT EXECUTE FUNCTION pgtrickle_internal.capture();
CREATE TRIGGER u AFTER UPDATE ON idle REFERENCING OLD TABLE AS old NEW TABLE AS new
    FOR EACH STATEMENT EXECUTE FUNCTION pgtrickle_internal.capture();
CREATE TRIGGER d AFTER DELETE ON idle REFERENCING OLD TABLE AS old
    FOR EACH STATEMENT EXECUTE FUNCTION pgtrickle_internal.capture();
ALTER TABLE result ADD idle float8;
CREATE MATERIALIZED VIEW captured_by_k WITH (pg_trickle.incremental) AS
    SELECT k, count(*) AS n, sum(amount) AS total, max(note) AS note FROM captured GROUP BY k;

CREATE PROCEDURE pair(work text, statement text, undo text, reach text)
LANGUAGE plpgsql AS $$
DECLARE
    t0 timestamptz;
    plain float8;
    captured float8;
    idle float8;
    ratios float8[] := '{}';
    idles float8[] := '{}';
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
        t0 := clock_timestamp();
        EXECUTE format(statement, 'idle');
        idle := extract(epoch FROM clock_timestamp() - t0);
        COMMIT;
        idles := idles || idle / plain;
        ratios := ratios || captured / plain;
        plains := plains || plain * 1e9 / 200000;
        EXECUTE format(undo, 'plain');
        EXECUTE format(undo, 'captured');
        EXECUTE format(undo, 'idle');
        COMMIT;
        PERFORM pgtrickle.refresh_stream_table('captured_by_k');
        COMMIT;
    END LOOP;
    INSERT INTO result (work, us, idle, baseline, reach)
        SELECT work, percentile_cont(0.5) WITHIN GROUP (ORDER BY r), percentile_cont(0.5) WITHIN GROUP (ORDER BY i),
            percentile_cont(0.5) WITHIN GROUP (ORDER BY p), reach
        FROM unnest(ratios, idles, plains) AS runs (r, i, p);
    COMMIT;
END $$;

\set rows 'INSERT INTO %I SELECT i, i %% 1000, i / 7.0, md5(i::text) FROM generate_series(1, 200000) i'
CALL pair('INSERT 200k', :'rows', 'TRUNCATE %I', '1.25');
INSERT INTO plain SELECT i, i % 1000, i / 7.0, md5(i::text) FROM generate_series(1, 200000) i;
INSERT INTO captured TABLE plain;
INSERT INTO idle TABLE plain;
VACUUM (ANALYZE) plain, captured, idle;
CALL pair('UPDATE 200k', 'UPDATE %I SET amount = amount + 1', 'SELECT 1 FROM %I LIMIT 1', '1.3');
CALL pair('DELETE 200k', 'DELETE FROM %I', 'INSERT INTO %I SELECT i, i %% 1000, i / 7.0, md5(i::text) FROM generate_series(1, 200000) i', '1.9');
CREATE MATERIALIZED VIEW captured_2 WITH (pg_trickle.incremental) AS SELECT id, k FROM captured WHERE amount < 0;
CREATE MATERIALIZED VIEW captured_3 WITH (pg_trickle.incremental) AS SELECT max(amount) AS highest FROM captured;
CALL pair('UPDATE 200k, three views', 'UPDATE %I SET amount = amount + 1', 'SELECT 1 FROM %I LIMIT 1', '1.3');
SELECT work, round(baseline::numeric) AS "plain ns/row", round(us::numeric, 3) AS "captured / plain",
    round(idle::numeric, 3) AS "idle triggers / plain", reach FROM result ORDER BY number;

-- For single rows (tps.sh) also row triggers that find nothing to do, and what one would write by hand.
CREATE TABLE idle_rows (LIKE plain INCLUDING ALL);
INSERT INTO idle_rows TABLE plain;
CREATE TRIGGER i AFTER INSERT ON idle_rows FOR EACH ROW EXECUTE FUNCTION pgtrickle_internal.capture();
CREATE TRIGGER u AFTER UPDATE ON idle_rows FOR EACH ROW EXECUTE FUNCTION pgtrickle_internal.capture();
CREATE TABLE scripted (LIKE plain INCLUDING ALL);
INSERT INTO scripted TABLE plain;
CREATE TABLE scripted_changes (xid xid8, weight int, id int, k int, amount numeric, note text);
CREATE FUNCTION scripted_insert() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO bench.scripted_changes SELECT pg_current_xact_id(), 1, * FROM new;
    RETURN NULL;
END $$;
CREATE FUNCTION scripted_update() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO bench.scripted_changes SELECT pg_current_xact_id(), -1, * FROM old;
    INSERT INTO bench.scripted_changes SELECT pg_current_xact_id(), 1, * FROM new;
    RETURN NULL;
END $$;
CREATE TRIGGER i AFTER INSERT ON scripted REFERENCING NEW TABLE AS new
    FOR EACH STATEMENT EXECUTE FUNCTION scripted_insert();
CREATE TRIGGER u AFTER UPDATE ON scripted REFERENCING OLD TABLE AS old NEW TABLE AS new
    FOR EACH STATEMENT EXECUTE FUNCTION scripted_update();
VACUUM (ANALYZE) idle_rows, scripted;
