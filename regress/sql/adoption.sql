-- Adopting a view that the application refreshes itself: its triggers find nothing to do and say so once, and whoever adopts
-- the view is told of them.
CREATE SCHEMA adoption;
SET search_path = adoption;
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/data/refresh.sql'
\i :helpers
CREATE TABLE notes (id int PRIMARY KEY, body text);
CREATE TABLE authors (id int PRIMARY KEY, name text);
CREATE MATERIALIZED VIEW "Notes" AS SELECT count(*) AS n FROM notes;
CREATE UNIQUE INDEX ON "Notes" (n);
CREATE MATERIALIZED VIEW both_tables AS SELECT n.id, a.name FROM notes n LEFT JOIN authors a USING (id);
CREATE FUNCTION refresh_notes() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN REFRESH MATERIALIZED VIEW CONCURRENTLY adoption."Notes"; REFRESH MATERIALIZED VIEW both_tables; RETURN NULL; END';
CREATE FUNCTION refresh_by_name() RETURNS void LANGUAGE plpgsql AS
    $$ BEGIN EXECUTE 'refresh materialized view "Notes"'; END $$;
CREATE TRIGGER "after" AFTER INSERT OR UPDATE OR DELETE ON notes EXECUTE FUNCTION refresh_notes();
CREATE TRIGGER authors_changed AFTER INSERT ON authors EXECUTE FUNCTION refresh_notes();
INSERT INTO notes VALUES (1, 'one');
TABLE "Notes";

ALTER MATERIALIZED VIEW "Notes" SET (pg_trickle.incremental = true);
ALTER MATERIALIZED VIEW both_tables SET (pg_trickle.incremental = true);
CREATE MATERIALIZED VIEW other AS SELECT 1 AS a FROM notes;
ALTER MATERIALIZED VIEW other SET (pg_trickle.incremental = true);

-- Every kind of statement.
INSERT INTO notes VALUES (2, 'two');
INSERT INTO notes VALUES (3, 'three');
UPDATE notes SET body = 'drei' WHERE id = 3;
DELETE FROM notes WHERE id = 3;
COPY notes FROM stdin;
4	four
\.
MERGE INTO notes USING (VALUES (5, 'five')) v (id, body) ON notes.id = v.id WHEN NOT MATCHED THEN INSERT VALUES (v.id, v.body);
SELECT count(*) FROM "Notes" WHERE n = 1;
SELECT refresh('"Notes"'), refresh('both_tables');
TABLE "Notes";
TABLE both_tables ORDER BY id;
-- A trigger of a table that a view does not read refreshes it as before, and the statement's own table is no obstacle then.
INSERT INTO authors VALUES (1, 'someone');
SELECT name FROM both_tables WHERE id = 1;
SELECT refresh('both_tables');
SELECT name FROM both_tables WHERE id = 1;

-- A deferred trigger, at COMMIT. A view of which nothing is said yet, for each reason.
DROP TRIGGER "after" ON notes;
DROP TRIGGER authors_changed ON authors;
CREATE MATERIALIZED VIEW d WITH (pg_trickle.incremental) AS SELECT max(id) AS id FROM notes;
CREATE FUNCTION refresh_d() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN PERFORM pgtrickle.refresh_stream_table(''adoption.d''); RETURN NULL; END';
CREATE CONSTRAINT TRIGGER later AFTER INSERT ON notes DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refresh_d();
BEGIN;
INSERT INTO notes VALUES (6, 'six');
SELECT 'the notice comes with COMMIT' AS now;
COMMIT;
SELECT refresh('d');
TABLE d;
DROP MATERIALIZED VIEW d;
CREATE MATERIALIZED VIEW d WITH (pg_trickle.incremental) AS SELECT max(id) AS id FROM notes;
SELECT pgtrickle.alter_stream_table('adoption.d', status => 'SUSPENDED');
INSERT INTO notes VALUES (7, 'seven');
DROP MATERIALIZED VIEW d;
CREATE MATERIALIZED VIEW d WITH (pg_trickle.incremental) AS SELECT max(id) AS id FROM notes;
SELECT pgtrickle.pause_all();
INSERT INTO notes VALUES (8, 'eight');
SELECT pgtrickle.resume_all();
DROP MATERIALIZED VIEW d;

-- Without rows it cannot be passed over, and EXPLAIN has to show a refresh.
CREATE MATERIALIZED VIEW d WITH (pg_trickle.incremental) AS SELECT max(id) AS id FROM notes WITH NO DATA;
INSERT INTO notes VALUES (9, 'nine');
REFRESH MATERIALIZED VIEW d;
CREATE OR REPLACE FUNCTION refresh_d() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN EXECUTE ''EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) REFRESH MATERIALIZED VIEW adoption.d''; RETURN NULL; END';
INSERT INTO notes VALUES (9, 'nine');
-- What would be refreshed with a view counts, as what it reads does.
CREATE OR REPLACE FUNCTION refresh_d() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN REFRESH MATERIALIZED VIEW adoption.reader; REFRESH MATERIALIZED VIEW adoption.base; RETURN NULL; END';
CREATE MATERIALIZED VIEW base WITH (pg_trickle.incremental) AS SELECT count(*) AS n FROM authors;
CREATE MATERIALIZED VIEW reader WITH (pg_trickle.incremental, pg_trickle.consistency = 'snapshot') AS
    SELECT base.n, d.id FROM base, d;
CREATE MATERIALIZED VIEW plain_reader WITH (pg_trickle.incremental) AS SELECT id FROM d;
INSERT INTO notes VALUES (9, 'nine');

SET client_min_messages = warning;
DROP SCHEMA adoption CASCADE;
