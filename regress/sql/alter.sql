-- ALTER MATERIALIZED VIEW: our options and the server's, becoming a stream table and ceasing to be one.
CREATE TABLE t (a int PRIMARY KEY, b text);
INSERT INTO t SELECT g, 'row ' || g FROM generate_series(1, 5) g;
CREATE MATERIALIZED VIEW v WITH (pg_trickle.incremental, fillfactor = 70) AS SELECT a, b FROM t;
CREATE FUNCTION options(relation regclass) RETURNS SETOF text LANGUAGE sql AS
    'SELECT unnest(reloptions) FROM pg_class WHERE oid = relation ORDER BY 1';

-- A core option alone, ours alone, both, in either spelling and through ALTER TABLE.
ALTER MATERIALIZED VIEW v SET (fillfactor = 60);
ALTER MATERIALIZED VIEW v SET (pg_trickle.schedule = '1m');
ALTER TABLE v SET ("pg_trickle.schedule" = '2m', autovacuum_enabled = false, pg_trickle.cdc_mode = TRIGGER);
SELECT * FROM options('v');
ALTER MATERIALIZED VIEW v RESET (fillfactor, pg_trickle.schedule), SET (toast.autovacuum_enabled = off), RESET ("pg_trickle.cdc_mode");
SELECT * FROM options('v');
ALTER MATERIALIZED VIEW IF EXISTS v RESET (autovacuum_enabled);
ALTER MATERIALIZED VIEW v ALTER COLUMN b SET STATISTICS 5;
SELECT * FROM options('v');

-- Errors leave everything as it was.
ALTER MATERIALIZED VIEW v SET (fillfactor = 1, pg_trickle.schedule = '3m');
ALTER MATERIALIZED VIEW v SET (fillfactor = 50, pg_trickle.schedule = 'soon');
ALTER MATERIALIZED VIEW v SET (pg_trickle.notify = off);
SELECT reloptions FROM pg_class WHERE oid = 'v'::regclass;
ALTER MATERIALIZED VIEW v RESET (pg_trickle.notify);
ALTER MATERIALIZED VIEW v SET (fillfactor = 50, pg_trickle.no_such = 1);
ALTER MATERIALIZED VIEW v SET (pg_trickle.schedule = '3m', pg_trickle.schedule = '4m');
ALTER MATERIALIZED VIEW v RESET (pg_trickle.no_such);
ALTER MATERIALIZED VIEW v RESET (pg_trickle.schedule = '3m');
ALTER MATERIALIZED VIEW v SET (no_such = 1);
ALTER MATERIALIZED VIEW no_such SET (pg_trickle.schedule = '1m');
ALTER MATERIALIZED VIEW IF EXISTS no_such SET (pg_trickle.schedule = '1m');
ALTER TABLE t SET (pg_trickle.incremental);
SELECT * FROM options('v');
INSERT INTO t VALUES (6, 'row 6');
REFRESH MATERIALIZED VIEW v;
SELECT count(*) FROM v;

-- Modes: FULL needs no capture; going back to it means a recompute, after which changes are followed again.
ALTER MATERIALIZED VIEW v SET (pg_trickle.refresh_mode = full);
SELECT * FROM pgtrickle.explain_refresh_mode('v');
SELECT count(*) FROM pgtrickle.trigger_inventory();
INSERT INTO t VALUES (7, 'row 7');
REFRESH MATERIALIZED VIEW v;
SELECT count(*) FROM v;
ALTER MATERIALIZED VIEW v SET (pg_trickle.refresh_mode = differential);
SELECT needs_reinit FROM pgtrickle.pgt_stream_tables WHERE pgt_name = 'v';
INSERT INTO t VALUES (8, 'row 8');
REFRESH MATERIALIZED VIEW v;
INSERT INTO t VALUES (9, 'row 9');
REFRESH MATERIALIZED VIEW v;
SELECT count(*) FROM v;
SELECT action, rows_inserted FROM pgtrickle.get_refresh_history('v', 4);

-- Release: a plain view with its rows, and nothing of ours left.
CREATE INDEX v_b ON v (b);
ALTER MATERIALIZED VIEW v SET (pg_trickle.incremental = false, fillfactor = 80);
\d+ v
SELECT count(*) FROM v;
SELECT count(*) FROM pgtrickle.pgt_stream_tables;
SELECT count(*) FROM pgtrickle.pgt_cdc_status;
SELECT count(*) FROM pg_class WHERE relnamespace = 'pgtrickle_internal'::regnamespace AND relname ~ '[0-9]';
SELECT count(*) FROM pg_trigger WHERE tgrelid = 't'::regclass;
INSERT INTO t VALUES (10, 'row 10');
REFRESH MATERIALIZED VIEW v;
SELECT count(*) FROM v;
ALTER MATERIALIZED VIEW v SET (pg_trickle.incremental = off);
ALTER MATERIALIZED VIEW v RESET (pg_trickle.incremental);
ALTER MATERIALIZED VIEW v SET (pg_trickle.schedule = '1m');
SELECT pgtrickle.refresh_stream_table('v');

-- Adopt: rows that are out of date are set right at once.
INSERT INTO t VALUES (11, 'row 11');
DELETE FROM t WHERE a = 1;
ALTER MATERIALIZED VIEW v SET (pg_trickle.incremental = true, pg_trickle.schedule = '1m');
SELECT min(a), max(a), count(*) FROM v;
UPDATE t SET b = 'changed' WHERE a = 11;
REFRESH MATERIALIZED VIEW v;
SELECT b FROM v WHERE a = 11;
SELECT action FROM pgtrickle.get_refresh_history('v', 1);
ALTER MATERIALIZED VIEW v RESET (pg_trickle.incremental);
SELECT * FROM options('v');

-- Adopting what cannot be a stream table fails and leaves a plain view; an unpopulated one stays so.
CREATE MATERIALIZED VIEW r AS SELECT 1 AS a FROM pg_am TABLESAMPLE system (100);
ALTER MATERIALIZED VIEW r SET (pg_trickle.incremental);
SELECT count(*) FROM options('r');
REFRESH MATERIALIZED VIEW v WITH NO DATA;
ALTER MATERIALIZED VIEW v SET (pg_trickle.incremental);
TABLE v;
SELECT count(*) FROM pgtrickle.trigger_inventory();
REFRESH MATERIALIZED VIEW v;
SELECT count(*) FROM v;

-- Those that read the view follow: without its deltas they are recomputed.
CREATE MATERIALIZED VIEW over_v WITH (pg_trickle.incremental) AS SELECT count(*) FROM v;
SELECT * FROM pgtrickle.explain_refresh_mode('over_v');
ALTER MATERIALIZED VIEW v SET (pg_trickle.incremental = false);
SELECT * FROM pgtrickle.explain_refresh_mode('over_v');
INSERT INTO t VALUES (12, 'row 12');
REFRESH MATERIALIZED VIEW v;
REFRESH MATERIALIZED VIEW over_v;
TABLE over_v;
ALTER MATERIALIZED VIEW v SET (pg_trickle.incremental = true);
SELECT * FROM pgtrickle.explain_refresh_mode('over_v');
INSERT INTO t VALUES (13, 'row 13');
REFRESH MATERIALIZED VIEW over_v;
TABLE over_v;
INSERT INTO t VALUES (14, 'row 14');
REFRESH MATERIALIZED VIEW over_v;
TABLE over_v;
SELECT action FROM pgtrickle.get_refresh_history('over_v', 2);

-- Other ALTERs are the server's and just work.
CREATE SCHEMA elsewhere;
CREATE ROLE regress_alter_owner;
GRANT SELECT, TRIGGER ON t TO regress_alter_owner;
ALTER MATERIALIZED VIEW v RENAME COLUMN b TO text;
ALTER TABLE t RENAME COLUMN b TO label;
ALTER MATERIALIZED VIEW v RENAME TO renamed;
ALTER MATERIALIZED VIEW renamed SET SCHEMA elsewhere;
ALTER MATERIALIZED VIEW elsewhere.renamed OWNER TO regress_alter_owner;
ALTER MATERIALIZED VIEW elsewhere.renamed SET ACCESS METHOD heap;
CLUSTER elsewhere.renamed USING v_b;
VACUUM FULL elsewhere.renamed;
ALTER TABLE t RENAME TO source;
COMMENT ON MATERIALIZED VIEW elsewhere.renamed IS 'still here';
INSERT INTO source VALUES (15, 'row 15');
REFRESH MATERIALIZED VIEW elsewhere.renamed;
SELECT text FROM elsewhere.renamed WHERE a = 15;
SELECT action FROM pgtrickle.get_refresh_history('elsewhere.renamed', 1);
SELECT name, status FROM pgtrickle.pgt_status() ORDER BY 1;

SET client_min_messages = warning;
DROP TABLE source CASCADE;
DROP MATERIALIZED VIEW r;
DROP SCHEMA elsewhere CASCADE;
DROP ROLE regress_alter_owner;
DROP FUNCTION options;
