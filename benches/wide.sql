\set ON_ERROR_STOP on
\pset border 2
\pset footer off
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_trickle;
-- Two tables alike, of which one is captured: 1,000 rows beside values of 19 kB that TOAST keeps out of line.
CREATE TABLE plain (id int PRIMARY KEY, likes int NOT NULL, body text) WITH (fillfactor = 50);
CREATE TABLE captured (LIKE plain INCLUDING ALL) WITH (fillfactor = 50);
CREATE TABLE result (number int GENERATED ALWAYS AS IDENTITY, work text, plain_ms float8, captured_ms float8,
    plain_wal float8, captured_wal float8, buffer float8, refresh_ms float8);
CREATE FUNCTION wide(seed int) RETURNS text LANGUAGE sql AS
    $$ SELECT string_agg(md5((i * 7919 + seed)::text), '') FROM generate_series(1, 600) i $$;
INSERT INTO plain SELECT i, 0, wide(i) FROM generate_series(1, 1000) i;
INSERT INTO captured TABLE plain;
VACUUM (ANALYZE) plain, captured;
CREATE MATERIALIZED VIEW documents WITH (pg_trickle.incremental) AS SELECT id, likes, body FROM captured;
CREATE MATERIALIZED VIEW lengths WITH (pg_trickle.incremental) AS SELECT id, length(body) AS length FROM captured WHERE id < 10;

-- The best of several runs; UNDO restores the tables before the next one.
CREATE PROCEDURE pair(work text, statement text, undo text) LANGUAGE plpgsql AS $$
DECLARE
    t0 timestamptz;
    lsn pg_lsn;
    names text[] := '{plain, captured}';
    ms float8[];
    wal float8[];
    bytes float8;
    runs result[] := '{}';
    refreshed float8;
BEGIN
    FOR i IN 1 .. 7 LOOP
        FOR k IN 1 .. 2 LOOP
            lsn := pg_current_wal_insert_lsn();
            t0 := clock_timestamp();
            EXECUTE format(statement, names[k]);
            ms[k] := extract(epoch FROM clock_timestamp() - t0) * 1000;
            COMMIT;
            wal[k] := pg_current_wal_insert_lsn() - lsn;
        END LOOP;
        SELECT buffer_bytes INTO bytes FROM pgtrickle.change_buffer_sizes() WHERE stream_table LIKE '%documents';
        COMMIT;
        t0 := clock_timestamp();
        PERFORM pgtrickle.refresh_stream_table('documents');
        refreshed := extract(epoch FROM clock_timestamp() - t0) * 1000;
        COMMIT;
        PERFORM pgtrickle.refresh_stream_table('lengths');
        COMMIT;
        runs := runs || ROW(0, work, ms[1], ms[2], wal[1], wal[2], bytes, refreshed)::result;
        FOR k IN 1 .. 2 LOOP
            EXECUTE format(undo, names[k]);
            COMMIT;
        END LOOP;
        PERFORM pgtrickle.refresh_stream_table('documents'), pgtrickle.refresh_stream_table('lengths');
        COMMIT;
    END LOOP;
    INSERT INTO result (work, plain_ms, captured_ms, plain_wal, captured_wal, buffer, refresh_ms)
        SELECT pair.work, min(r.plain_ms), min(r.captured_ms), min(r.plain_wal), min(r.captured_wal), min(r.buffer), min(r.refresh_ms)
        FROM unnest(runs) r;
    COMMIT;
END $$;

CALL pair('UPDATE beside the value', 'UPDATE %I SET likes = likes + 1', 'SELECT 1 FROM %I LIMIT 1');
CALL pair('UPDATE of the value', 'UPDATE %I SET body = ''x'' || body', 'UPDATE %I SET body = substr(body, 2)');
CALL pair('DELETE', 'DELETE FROM %I', 'INSERT INTO %I SELECT i, 0, wide(i) FROM generate_series(1, 1000) i');
CALL pair('INSERT', 'INSERT INTO %I SELECT i, 0, wide(i) FROM generate_series(1001, 2000) i', 'DELETE FROM %I WHERE id > 1000');
SELECT work, round(plain_ms::numeric, 1) AS "plain ms", round(captured_ms::numeric, 1) AS "captured ms",
    round((captured_ms / plain_ms)::numeric, 2) AS ratio, pg_size_pretty(plain_wal::bigint) AS "plain WAL",
    pg_size_pretty(captured_wal::bigint) AS "captured WAL", pg_size_pretty(buffer::bigint) AS buffer,
    round(refresh_ms::numeric, 1) AS "refresh ms" FROM result ORDER BY number;
