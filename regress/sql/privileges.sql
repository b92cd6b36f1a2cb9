-- Who may do what: the owner's rights are those of the server's own statements.
CREATE ROLE regress_owner;
CREATE ROLE regress_writer;
CREATE ROLE regress_stranger;
CREATE SCHEMA desk AUTHORIZATION regress_owner;
CREATE TABLE desk_source (a int PRIMARY KEY, b text);
INSERT INTO desk_source VALUES (1, 'one');
SET search_path = desk, public;

-- Creating needs SELECT and TRIGGER on the sources.
SET ROLE regress_owner;
CREATE MATERIALIZED VIEW v WITH (pg_trickle.incremental) AS SELECT * FROM desk_source;
RESET ROLE;
GRANT SELECT ON desk_source TO regress_owner;
SET ROLE regress_owner;
CREATE MATERIALIZED VIEW v WITH (pg_trickle.incremental) AS SELECT * FROM desk_source;
CREATE MATERIALIZED VIEW v WITH (pg_trickle.incremental) AS SELECT * FROM desk_source WITH NO DATA;
SELECT pgtrickle.create_stream_table('v', 'SELECT * FROM desk_source');
RESET ROLE;
REVOKE SELECT ON desk_source FROM regress_owner;
GRANT TRIGGER ON desk_source TO regress_owner;
SET ROLE regress_owner;
CREATE MATERIALIZED VIEW v WITH (pg_trickle.incremental) AS SELECT * FROM desk_source;
RESET ROLE;
GRANT SELECT ON desk_source TO regress_owner;
SET ROLE regress_owner;
CREATE MATERIALIZED VIEW v WITH (pg_trickle.incremental) AS SELECT * FROM desk_source;
-- A view recomputed each time captures nothing and needs no TRIGGER.
RESET ROLE;
REVOKE TRIGGER ON desk_source FROM regress_owner;
SET ROLE regress_owner;
CREATE MATERIALIZED VIEW f WITH (pg_trickle.incremental, pg_trickle.refresh_mode = FULL) AS SELECT * FROM desk_source;
ALTER MATERIALIZED VIEW f SET (pg_trickle.refresh_mode = AUTO);
DROP MATERIALIZED VIEW f;

-- Writers need no rights on anything of ours.
RESET ROLE;
GRANT INSERT, UPDATE, DELETE, SELECT, TRUNCATE ON desk_source TO regress_writer;
SET ROLE regress_writer;
INSERT INTO public.desk_source VALUES (2, 'two'), (3, 'three');
UPDATE public.desk_source SET b = 'zwei' WHERE a = 2;
DELETE FROM public.desk_source WHERE a = 3;

-- Strangers may look at what there is, and at nothing else.
SET ROLE regress_stranger;
SELECT name, status FROM pgtrickle.pgt_status();
SELECT pgt_name, defining_query FROM pgtrickle.pgt_stream_tables;
SELECT count(*) FROM pgtrickle.pgt_refresh_history;
SELECT count(*) FROM pgtrickle.pgt_dependencies;
SELECT pending_rows FROM pgtrickle.change_buffer_sizes();
SELECT * FROM pgtrickle_internal.stream_table;
SELECT pgtrickle_internal.require_preload();
INSERT INTO pgtrickle.pgt_refresh_history DEFAULT VALUES;
DELETE FROM pgtrickle.pgt_stream_tables;
SET search_path = desk, public;
REFRESH MATERIALIZED VIEW desk.v;
RESET ROLE;
GRANT USAGE ON SCHEMA desk TO regress_stranger;
SET ROLE regress_stranger;
TABLE v;
REFRESH MATERIALIZED VIEW v;
REFRESH MATERIALIZED VIEW v WITH NO DATA;
EXPLAIN REFRESH MATERIALIZED VIEW v;
SELECT pgtrickle.refresh_stream_table('v');
SELECT pgtrickle.alter_stream_table('v', status => 'SUSPENDED');
SELECT pgtrickle.alter_stream_table('v', schedule => '1s');
ALTER MATERIALIZED VIEW v SET (pg_trickle.schedule = '1s');
ALTER MATERIALIZED VIEW v SET (fillfactor = 50);
ALTER MATERIALIZED VIEW v SET (pg_trickle.incremental = false);
SELECT pgtrickle.drop_stream_table('v');
DROP MATERIALIZED VIEW v;

-- MAINTAIN refreshes, and sees the history.
RESET ROLE;
GRANT MAINTAIN, SELECT ON v TO regress_stranger;
SET ROLE regress_stranger;
REFRESH MATERIALIZED VIEW v;
TABLE v ORDER BY a;
SELECT count(*) FROM pgtrickle.get_refresh_history('v');
ALTER MATERIALIZED VIEW v SET (pg_trickle.schedule = '1s');

-- Nobody but a superuser reads or writes what is internal, and only the extension's owner drops it.
RESET ROLE;
SET ROLE regress_owner;
SELECT count(*) FROM pg_class c WHERE relnamespace = 'pgtrickle_internal'::regnamespace
   AND relkind = 'r' AND has_table_privilege(oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE');
DROP EXTENSION pg_trickle;

-- The owner's rights count at refresh, whoever refreshes.
RESET ROLE;
REVOKE SELECT ON desk_source FROM regress_owner;
INSERT INTO desk_source VALUES (4, 'four');
REFRESH MATERIALIZED VIEW v;
GRANT SELECT ON desk_source TO regress_owner;
REFRESH MATERIALIZED VIEW v;
SELECT count(*) FROM v;

-- In read-only transactions nothing is refreshed, and nothing is set.
BEGIN READ ONLY;
REFRESH MATERIALIZED VIEW v;
ROLLBACK;
BEGIN READ ONLY;
SELECT pgtrickle.refresh_stream_table('v');
ROLLBACK;
BEGIN READ ONLY;
ALTER MATERIALIZED VIEW v SET (pg_trickle.schedule = '1s');
ROLLBACK;
BEGIN READ ONLY;
SELECT pgtrickle.pause_all();
ROLLBACK;
BEGIN READ ONLY;
SELECT pgtrickle.resume_all();
ROLLBACK;
BEGIN READ ONLY;
SELECT pgtrickle.resume_stream_table('v');
ROLLBACK;

SET client_min_messages = warning;
DROP TABLE desk_source CASCADE;
DROP SCHEMA desk CASCADE;
DROP ROLE regress_owner, regress_writer, regress_stranger;
