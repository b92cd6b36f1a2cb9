-- What goes with a stream table, with a source, and with the extension: everything, and nothing else.
CREATE VIEW leftovers AS
    SELECT (SELECT count(*) FROM pgtrickle.pgt_stream_tables) AS stream_tables,
           (SELECT count(*) FROM pgtrickle.pgt_dependencies) AS dependencies,
           (SELECT count(*) FROM pgtrickle.pgt_cdc_status) AS sources,
           (SELECT count(*) FROM pgtrickle.pgt_refresh_history) AS history,
           (SELECT count(*) FROM pgtrickle_internal.reinit) AS markers,
           (SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'pg_trickle%') AS triggers,
           (SELECT count(*) FROM pg_class WHERE relnamespace = 'pgtrickle_internal'::regnamespace AND relkind = 'r'
                                            AND relname ~ '[0-9]') AS tables;
CREATE TABLE c (id int PRIMARY KEY, name text);
CREATE TABLE o (id int PRIMARY KEY, c_id int REFERENCES c, amount numeric);
INSERT INTO c SELECT g, 'customer ' || g FROM generate_series(1, 3) g;
INSERT INTO o SELECT g, g % 3 + 1, g FROM generate_series(1, 9) g;
\set views 'CREATE MATERIALIZED VIEW per_c WITH (pg_trickle.incremental) AS SELECT c_id, sum(amount) FROM o GROUP BY c_id; CREATE MATERIALIZED VIEW named WITH (pg_trickle.incremental) AS SELECT name, sum FROM per_c JOIN c ON id = c_id;'
:views
TABLE leftovers;

-- One view of two; its upstream cannot go without it.
DROP MATERIALIZED VIEW per_c;
DROP MATERIALIZED VIEW named;
TABLE leftovers;
SELECT source_name FROM pgtrickle.pgt_cdc_status;
INSERT INTO o VALUES (10, 1, 10);
REFRESH MATERIALIZED VIEW per_c;
SELECT sum FROM per_c WHERE c_id = 1;
DROP MATERIALIZED VIEW IF EXISTS per_c, no_such;
TABLE leftovers;
INSERT INTO o VALUES (11, 1, 11);

-- Rolled back, the drop has not happened.
:views
BEGIN;
DROP TABLE o CASCADE;
TABLE leftovers;
ROLLBACK;
TABLE leftovers;
BEGIN;
SAVEPOINT s;
DROP MATERIALIZED VIEW named;
ROLLBACK TO s;
INSERT INTO o VALUES (12, 2, 12);
REFRESH MATERIALIZED VIEW named;
SELECT sum FROM named WHERE name = 'customer 2';
COMMIT;
SELECT sum FROM named WHERE name = 'customer 2';

-- A source, with what stands on it.
DROP TABLE o;
DROP TABLE o CASCADE;
TABLE leftovers;

-- A column some view reads, a schema, from within a function.
CREATE TABLE o (id int PRIMARY KEY, c_id int REFERENCES c, amount numeric, note text);
:views
ALTER TABLE o DROP COLUMN note;
INSERT INTO o VALUES (1, 1, 5);
REFRESH MATERIALIZED VIEW named;
TABLE named;
ALTER TABLE o DROP COLUMN amount CASCADE;
TABLE leftovers;
CREATE SCHEMA app;
CREATE TABLE app.t (a int);
CREATE MATERIALIZED VIEW app.v WITH (pg_trickle.incremental) AS SELECT count(*) FROM app.t;
CREATE MATERIALIZED VIEW outside WITH (pg_trickle.incremental) AS SELECT a + 1 FROM app.t;
DROP SCHEMA app CASCADE;
TABLE leftovers;
CREATE MATERIALIZED VIEW v WITH (pg_trickle.incremental) AS SELECT count(*) FROM c;
CREATE FUNCTION drop_it() RETURNS void LANGUAGE plpgsql AS 'BEGIN DROP MATERIALIZED VIEW v; END';
SELECT drop_it();
TABLE leftovers;
DROP FUNCTION drop_it;

-- What a role owns.
CREATE ROLE regress_drop_owner;
GRANT CREATE ON SCHEMA public TO regress_drop_owner;
GRANT SELECT, TRIGGER ON c TO regress_drop_owner;
SET ROLE regress_drop_owner;
CREATE MATERIALIZED VIEW v WITH (pg_trickle.incremental) AS SELECT count(*) FROM c;
RESET ROLE;
DROP OWNED BY regress_drop_owner;
DROP ROLE regress_drop_owner;
TABLE leftovers;

-- A partition, full and empty: what was in it leaves the view.
CREATE TABLE p (k int, v text) PARTITION BY LIST (k);
CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);
CREATE TABLE p2 PARTITION OF p FOR VALUES IN (2);
INSERT INTO p VALUES (1, 'one'), (2, 'two');
CREATE MATERIALIZED VIEW v WITH (pg_trickle.incremental) AS SELECT v FROM p;
DROP TABLE p2;
REFRESH MATERIALIZED VIEW v;
TABLE v;
CREATE TABLE p3 PARTITION OF p FOR VALUES IN (3);
INSERT INTO p3 VALUES (3, 'three');
INSERT INTO p VALUES (3, 'drei');
REFRESH MATERIALIZED VIEW v;
TABLE v ORDER BY v;
SELECT action FROM pgtrickle.get_refresh_history('v', 2);
DROP TABLE p CASCADE;
TABLE leftovers;
DROP VIEW leftovers;

-- Something else stops the drop of a source after it began: the transaction ends as it should, and all is as before.
CREATE TABLE kept (id int PRIMARY KEY, n int);
INSERT INTO kept VALUES (1, 1);
CREATE MATERIALIZED VIEW of_kept WITH (pg_trickle.incremental) AS SELECT id, n FROM kept;
CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not today'; END $$;
CREATE EVENT TRIGGER refuse ON sql_drop EXECUTE FUNCTION refuse();
BEGIN;
DROP TABLE kept CASCADE;
ROLLBACK;
BEGIN;
SAVEPOINT a;
DROP MATERIALIZED VIEW of_kept;
ROLLBACK TO a;
COMMIT;
DROP EVENT TRIGGER refuse;
INSERT INTO kept VALUES (2, 2);
REFRESH MATERIALIZED VIEW of_kept;
TABLE of_kept ORDER BY id;
DROP TABLE kept CASCADE;

-- The extension: stream tables become plain views and keep their rows.
DROP TABLE o;
CREATE TABLE o (id int PRIMARY KEY, c_id int REFERENCES c, amount numeric);
INSERT INTO o VALUES (1, 1, 5);
:views
CREATE MATERIALIZED VIEW bag WITH (pg_trickle.incremental, fillfactor = 50) AS SELECT name FROM c;
CREATE VIEW uses_it AS SELECT * FROM pgtrickle.pgt_status();
DROP EXTENSION pg_trickle;
DROP VIEW uses_it;
DROP EXTENSION pg_trickle;
SELECT relname, reloptions FROM pg_class WHERE relkind = 'm' ORDER BY 1;
TABLE named;
\d bag
SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'pg_trickle%';
SELECT nspname FROM pg_namespace WHERE nspname LIKE 'pgtrickle%';
INSERT INTO o VALUES (2, 1, 6);
REFRESH MATERIALIZED VIEW per_c;
TABLE per_c;
CREATE MATERIALIZED VIEW again WITH (pg_trickle.incremental) AS SELECT 1;

-- Back again, they can be adopted again.
CREATE EXTENSION pg_trickle;
ALTER MATERIALIZED VIEW per_c SET (pg_trickle.incremental);
INSERT INTO o VALUES (3, 2, 7);
REFRESH MATERIALIZED VIEW per_c;
TABLE per_c ORDER BY c_id;

SET client_min_messages = warning;
DROP TABLE o, c CASCADE;
