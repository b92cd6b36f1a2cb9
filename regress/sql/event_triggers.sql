-- Event triggers of users, which run before a statement has ended and may refresh what it is about, or write to it.
CREATE SCHEMA event_triggers;
SET search_path = event_triggers;
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/data/refresh.sql'
\i :helpers
SET client_min_messages = error; -- capture is not complete in the middle of a statement, which refreshes say

CREATE TABLE parts (k int, v int) PARTITION BY LIST (k);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1);
CREATE TABLE parts_2 (v int, k int);
INSERT INTO parts SELECT 1, g FROM generate_series(1, 50) g;
INSERT INTO parts_2 SELECT g, 2 FROM generate_series(1, 5) g;
CREATE TABLE parent (v int);
CREATE TABLE child (v int, own int);
INSERT INTO parent SELECT generate_series(1, 50);
INSERT INTO child VALUES (100, 1), (101, 1);
CREATE MATERIALIZED VIEW bag WITH (pg_trickle.incremental) AS SELECT v FROM parts;
CREATE MATERIALIZED VIEW keyed WITH (pg_trickle.incremental) AS SELECT k, count(*), sum(v) FROM parts GROUP BY k;
CREATE MATERIALIZED VIEW above WITH (pg_trickle.incremental) AS SELECT sum FROM keyed WHERE k > 1;
CREATE MATERIALIZED VIEW later WITH (pg_trickle.incremental) AS SELECT v FROM parts WITH NO DATA;
CREATE MATERIALIZED VIEW family WITH (pg_trickle.incremental) AS SELECT v FROM parent;

-- What it does, by the table that says.
CREATE TABLE work (statement text);
CREATE FUNCTION at_end() RETURNS event_trigger LANGUAGE plpgsql AS $$
DECLARE
    statement text;
BEGIN
    FOR statement IN SELECT w.statement FROM event_triggers.work w LOOP
        EXECUTE statement;
    END LOOP;
END $$;
CREATE FUNCTION refreshed() RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(v || ': ' || event_triggers.refresh(v::regclass), ', ') FROM unnest('{bag,keyed,above,later,family}'::text[]) v $$;
INSERT INTO work VALUES ('REFRESH MATERIALIZED VIEW event_triggers.bag'), ('REFRESH MATERIALIZED VIEW event_triggers.above'),
    ('REFRESH MATERIALIZED VIEW event_triggers.later'), ('REFRESH MATERIALIZED VIEW event_triggers.family');
CREATE EVENT TRIGGER at_end ON ddl_command_end WHEN TAG IN ('ALTER TABLE', 'CREATE TABLE', 'CREATE INDEX') EXECUTE FUNCTION at_end();
CREATE EVENT TRIGGER at_drop ON sql_drop WHEN TAG IN ('DROP TABLE', 'DROP SCHEMA') EXECUTE FUNCTION at_end();

-- A table that has come with its rows is read by a refresh before they are counted.
ALTER TABLE parts ATTACH PARTITION parts_2 FOR VALUES IN (2);
SELECT refreshed();
ALTER TABLE child INHERIT parent;
SELECT refreshed();
-- Which are written there by the trigger.
INSERT INTO work VALUES ('INSERT INTO event_triggers.parts SELECT 3, 30 WHERE to_regclass(''event_triggers.parts_3'') IS NOT NULL'),
    ('REFRESH MATERIALIZED VIEW event_triggers.bag'), ('REFRESH MATERIALIZED VIEW event_triggers.above'),
    ('INSERT INTO event_triggers.child VALUES (200, 2)');
CREATE TABLE parts_3 PARTITION OF parts FOR VALUES IN (3);
SELECT refreshed();
CREATE TABLE child_2 () INHERITS (child);
SELECT refreshed();
-- One leaves.
ALTER TABLE parts DETACH PARTITION parts_2;
SELECT refreshed();
ALTER TABLE child NO INHERIT parent;
SELECT refreshed();
DROP TABLE parts_3;
SELECT refreshed();
-- Constraints do not hold for what is pending.
INSERT INTO parts VALUES (1, NULL), (1, NULL);
UPDATE parts SET v = 1000 WHERE v IS NULL;
ALTER TABLE parts ALTER v SET NOT NULL;
SELECT refreshed();
INSERT INTO parts VALUES (1, 7);
CREATE INDEX ON parts_1 (v);
SELECT refreshed();
-- In a transaction that is taken back.
ALTER TABLE parts_2 ALTER v SET NOT NULL;
BEGIN;
SAVEPOINT before;
ALTER TABLE parts ATTACH PARTITION parts_2 FOR VALUES IN (2);
ROLLBACK TO before;
SELECT refreshed();
COMMIT;
SELECT refreshed();
-- A trigger that fails takes the statement with it.
INSERT INTO work VALUES ('SELECT 1 / 0');
ALTER TABLE parts ATTACH PARTITION parts_2 FOR VALUES IN (2);
DROP TABLE parts_1;
DELETE FROM work;
SELECT refreshed();
ALTER TABLE parts ATTACH PARTITION parts_2 FOR VALUES IN (2);
SELECT refreshed();

DROP EVENT TRIGGER at_end;
DROP EVENT TRIGGER at_drop;
DROP SCHEMA event_triggers CASCADE;
