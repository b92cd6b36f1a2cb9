\set ON_ERROR_STOP on
\pset border 2
SET client_min_messages = warning;
CREATE EXTENSION pg_trickle;
CREATE SCHEMA bench;
SET search_path = bench, public;
\echo The best of five, in milliseconds.

SELECT format('CREATE TABLE t%s (id int PRIMARY KEY, k int, v int); INSERT INTO t%1$s SELECT g, g %% 10, g FROM generate_series(1, 100) g', n)
  FROM generate_series(1, :sources) n \gexec
-- Every tenth reads another view, so there are chains.
SELECT format('CREATE MATERIALIZED VIEW v%s WITH (pg_trickle.incremental) AS SELECT k, sum(v) AS v FROM %s%s GROUP BY k',
              n, CASE WHEN n > 10 AND n % 10 = 0 THEN 'v' ELSE 't' END,
              CASE WHEN n > 10 AND n % 10 = 0 THEN n - 9 ELSE 1 + n % :sources END)
  FROM generate_series(1, :views) n \gexec
-- Views take turns, as in a history that scheduled refreshes wrote.
INSERT INTO pgtrickle_internal.refresh_history (pgt_relid, refresh_id, data_timestamp, start_time, end_time, action, status,
        initiated_by, rows_inserted, rows_updated, rows_deleted, duration_ms, commit_to_visible_ms)
    SELECT views[1 + n % cardinality(views)], nextval('pgtrickle_internal.refresh_id'), now(), now(), now(), 'DIFFERENTIAL',
           'COMPLETED', 'SCHEDULER', 1, 2, 3, n % 97, n % 89
      FROM (SELECT array_agg(relid) AS views FROM pgtrickle_internal.stream_table) v, generate_series(1, :rows) n;
VACUUM ANALYZE;
-- Some have changes to show.
SELECT format('UPDATE t%s SET v = v + 1', n) FROM generate_series(1, :sources, 5) n \gexec

CREATE TABLE result (number int GENERATED ALWAYS AS IDENTITY, what text, ms float8);
CREATE PROCEDURE measure(what text) LANGUAGE plpgsql AS $$
DECLARE
    began timestamptz;
    ms float8[];
BEGIN
    FOR i IN 1 .. 5 LOOP
        began := clock_timestamp();
        EXECUTE format('SELECT count(s::text) FROM (SELECT * FROM pgtrickle.%s) s', what);
        ms[i] := extract(epoch FROM clock_timestamp() - began) * 1000;
    END LOOP;
    INSERT INTO result (what, ms) SELECT measure.what, min(m) FROM unnest(ms) m;
END $$;
CALL measure('pgt_stream_tables');
CALL measure('stream_tables_info');
CALL measure('pg_stat_stream_tables');
CALL measure('st_refresh_stats()');
CALL measure('check_cdc_health()');
CALL measure('health_check()');
CALL measure('quick_health');
CALL measure('change_buffer_sizes()');
CALL measure('dependency_tree()');
CALL measure('pgt_dependencies');
CALL measure('pgt_cdc_status');
CALL measure('trigger_inventory()');
CALL measure('refresh_timeline()');
CALL measure($$get_refresh_history('bench.v7')$$);
INSERT INTO result (what, ms) SELECT 'all of it (reach: 200)', sum(ms) FROM result;
SELECT what, round(ms::numeric, 1) AS ms FROM result ORDER BY number;
