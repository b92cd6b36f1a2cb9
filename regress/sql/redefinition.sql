-- What a stream table's query uses is changed in place: its contents follow at the next refresh.
CREATE TABLE t (a int PRIMARY KEY, b int);
INSERT INTO t SELECT g, g FROM generate_series(1, 3) g;
CREATE VIEW due AS SELECT pgt_name, needs_reinit FROM pgtrickle.pgt_stream_tables WHERE needs_reinit ORDER BY 1;

-- A function, called directly, in an operator, in an aggregate, in a generated column, under a plain view.
CREATE FUNCTION f(int) RETURNS int IMMUTABLE LANGUAGE sql RETURN $1 * 10;
CREATE OPERATOR *** (PROCEDURE = f, RIGHTARG = int);
CREATE FUNCTION step(int, int) RETURNS int IMMUTABLE LANGUAGE sql RETURN coalesce($1, 0) + f($2);
CREATE AGGREGATE total (int) (SFUNC = step, STYPE = int);
CREATE VIEW through AS SELECT a, f(b) FROM t;
CREATE MATERIALIZED VIEW direct WITH (pg_trickle.incremental) AS SELECT a, f(b) FROM t;
CREATE MATERIALIZED VIEW by_operator WITH (pg_trickle.incremental) AS SELECT a, *** b AS f FROM t;
CREATE MATERIALIZED VIEW by_aggregate WITH (pg_trickle.incremental) AS SELECT total(b) FROM t;
CREATE MATERIALIZED VIEW by_view WITH (pg_trickle.incremental) AS SELECT * FROM through;
CREATE MATERIALIZED VIEW unconcerned WITH (pg_trickle.incremental) AS SELECT a FROM t;
TABLE due;
CREATE OR REPLACE FUNCTION f(int) RETURNS int IMMUTABLE LANGUAGE sql RETURN $1 * 100;
TABLE due;
REFRESH MATERIALIZED VIEW direct;
REFRESH MATERIALIZED VIEW by_operator;
REFRESH MATERIALIZED VIEW by_view;
SELECT d.a, d.f, o.f, v.f FROM direct d JOIN by_operator o USING (a) JOIN by_view v USING (a) ORDER BY 1;
TABLE due;
SELECT action FROM pgtrickle.get_refresh_history('direct', 1);
CREATE OR REPLACE FUNCTION step(int, int) RETURNS int IMMUTABLE LANGUAGE sql RETURN coalesce($1, 0) + $2;
TABLE due;
REFRESH MATERIALIZED VIEW by_aggregate;
TABLE by_aggregate;
CREATE FUNCTION unrelated() RETURNS int LANGUAGE sql RETURN 1;
ALTER FUNCTION f(int) COST 1;
TABLE due;
REFRESH MATERIALIZED VIEW direct;
BEGIN;
CREATE OR REPLACE FUNCTION f(int) RETURNS int IMMUTABLE LANGUAGE sql RETURN 0;
ROLLBACK;
REFRESH MATERIALIZED VIEW by_operator;
REFRESH MATERIALIZED VIEW by_view;
TABLE due;

-- A plain view with another query, reading another table.
CREATE TABLE u (a int, b int);
INSERT INTO u VALUES (7, 7);
CREATE OR REPLACE VIEW through AS SELECT a, b AS f FROM u;
TABLE due;
REFRESH MATERIALIZED VIEW by_view;
TABLE by_view;
SELECT source_table FROM pgtrickle.list_sources('by_view');
INSERT INTO u VALUES (8, 8);
DELETE FROM t WHERE a = 3;
REFRESH MATERIALIZED VIEW by_view;
TABLE by_view ORDER BY a;
SELECT action FROM pgtrickle.get_refresh_history('by_view', 2);

-- Types: an enum label renamed under a text.
CREATE TYPE mood AS ENUM ('sad', 'happy');
CREATE TABLE m (a int PRIMARY KEY, mood mood);
INSERT INTO m VALUES (1, 'sad');
CREATE MATERIALIZED VIEW moods WITH (pg_trickle.incremental) AS SELECT a, mood::text FROM m;
ALTER TYPE mood RENAME VALUE 'sad' TO 'blue';
REFRESH MATERIALIZED VIEW moods;
TABLE moods;
TABLE due;
CREATE TEXT SEARCH CONFIGURATION conf (COPY = simple);
CREATE MATERIALIZED VIEW words WITH (pg_trickle.incremental) AS SELECT a, to_tsvector('conf', mood::text) FROM m;
ALTER TEXT SEARCH CONFIGURATION conf ALTER MAPPING FOR asciiword WITH english_stem;
TABLE due;

-- The table itself.
CREATE TABLE g (a int PRIMARY KEY, b int, c int GENERATED ALWAYS AS (b * 2) STORED, d int GENERATED ALWAYS AS (b * 3) VIRTUAL);
INSERT INTO g VALUES (1, 1);
CREATE MATERIALIZED VIEW gen WITH (pg_trickle.incremental) AS SELECT a, c, d FROM g;
ALTER TABLE g ALTER COLUMN c SET EXPRESSION AS (b * 20);
REFRESH MATERIALIZED VIEW gen;
TABLE gen;
ALTER TABLE g ALTER COLUMN d SET EXPRESSION AS (b * 30);
REFRESH MATERIALIZED VIEW gen;
TABLE gen;
CREATE MATERIALIZED VIEW whole WITH (pg_trickle.incremental) AS SELECT a, row_to_json(m)::text FROM m;
ALTER TABLE m ADD COLUMN more int DEFAULT 5;
REFRESH MATERIALIZED VIEW whole;
TABLE whole;
ALTER TABLE m RENAME COLUMN more TO less;
REFRESH MATERIALIZED VIEW whole;
TABLE whole;

-- The key by which stored rows are found goes with the constraint it came from: duplicates are welcome then.
CREATE TABLE k (a int PRIMARY KEY, b int);
INSERT INTO k VALUES (1, 1);
CREATE MATERIALIZED VIEW keyed WITH (pg_trickle.incremental) AS SELECT a, b FROM k;
\d keyed
ALTER TABLE k DROP CONSTRAINT k_pkey;
INSERT INTO k VALUES (1, 1), (1, 2);
REFRESH MATERIALIZED VIEW keyed;
TABLE keyed ORDER BY a, b;
DELETE FROM k WHERE ctid = (SELECT min(ctid) FROM k);
INSERT INTO k VALUES (2, 2);
REFRESH MATERIALIZED VIEW keyed;
TABLE keyed ORDER BY a, b;
SELECT action FROM pgtrickle.get_refresh_history('keyed', 2);
\d keyed
ALTER MATERIALIZED VIEW keyed RESET (pg_trickle.incremental);
\d keyed

-- Row types: of a type, of a table, behind a domain, an array, a function. Rows that differed may have become equal.
CREATE TYPE part AS (a int, b text);
CREATE DOMAIN part_domain AS part;
CREATE TABLE shape (x int, y text);
CREATE TABLE parts (id int PRIMARY KEY, k int, p part, s shape);
INSERT INTO parts SELECT i, i % 2, ROW(i, 'q')::part, ROW(i, 'r')::shape FROM generate_series(1, 4) i;
CREATE FUNCTION shaped(int) RETURNS shape IMMUTABLE LANGUAGE sql RETURN ROW($1, 'made')::shape;
CREATE MATERIALIZED VIEW part_texts WITH (pg_trickle.incremental) AS SELECT id, p::text AS p, to_jsonb(ARRAY[p::part_domain]) AS ps FROM parts;
CREATE MATERIALIZED VIEW part_groups WITH (pg_trickle.incremental) AS SELECT p, count(*) AS n FROM parts GROUP BY p;
CREATE MATERIALIZED VIEW part_lists WITH (pg_trickle.incremental) AS SELECT k, array_agg(p ORDER BY id) AS ps FROM parts GROUP BY k;
CREATE MATERIALIZED VIEW shape_texts WITH (pg_trickle.incremental) AS SELECT id, to_jsonb(s) AS s FROM parts;
CREATE MATERIALIZED VIEW shape_made WITH (pg_trickle.incremental) AS SELECT id, to_jsonb(shaped(id)) AS s FROM parts;
CREATE MATERIALIZED VIEW no_part WITH (pg_trickle.incremental) AS SELECT a FROM t;
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/data/refresh.sql'
\i :helpers
CREATE FUNCTION refresh_parts(OUT view regclass, OUT refreshed text) RETURNS SETOF record LANGUAGE sql
    AS $$ SELECT v, refresh(v) FROM unnest('{part_texts, part_groups, part_lists, shape_texts, shape_made}'::regclass[]) v $$;
ALTER TYPE part ADD ATTRIBUTE c numeric;
TABLE due;
SELECT * FROM refresh_parts();
UPDATE parts SET p = ROW(1, 'z', 1.5) WHERE id < 2;
SELECT * FROM refresh_parts();
ALTER TYPE part RENAME ATTRIBUTE b TO bb;
SELECT * FROM refresh_parts();
ALTER TYPE part DROP ATTRIBUTE a;
SELECT * FROM refresh_parts();
UPDATE parts SET p = ROW('p', 1.0) WHERE id = 3;
SELECT * FROM refresh_parts();
TABLE part_groups ORDER BY p;
ALTER TABLE shape RENAME y TO yy;
SELECT * FROM refresh_parts();
ALTER TABLE shape DROP x;
TABLE due;
INSERT INTO parts VALUES (5, 1, ROW('e', 5), ROW('f'));
SELECT * FROM refresh_parts();
TABLE shape_texts ORDER BY id;

-- Behind a materialized view the values are the same and mean something else.
CREATE TYPE state AS ENUM ('off', 'on');
CREATE TABLE switches (id int PRIMARY KEY, e state, p part);
INSERT INTO switches VALUES (1, 'on', ROW('s', 1)), (2, 'off', ROW('t', 2));
CREATE MATERIALIZED VIEW values_of WITH (pg_trickle.incremental) AS SELECT id, e, p FROM switches;
CREATE MATERIALIZED VIEW value_texts WITH (pg_trickle.incremental) AS SELECT id, e::text AS e FROM values_of WHERE e::text <> 'off';
CREATE MATERIALIZED VIEW value_rows WITH (pg_trickle.incremental) AS SELECT values_of AS row FROM values_of;
CREATE TABLE held (c values_of);
INSERT INTO held SELECT values_of FROM values_of;
CREATE MATERIALIZED VIEW held_texts WITH (pg_trickle.incremental) AS SELECT c::text AS c FROM held;
ALTER TYPE state RENAME VALUE 'on' TO 'lit';
ALTER TYPE part DROP ATTRIBUTE c;
SELECT v, refresh(v) FROM unnest('{value_texts, value_rows, held_texts}'::regclass[]) v;
DELETE FROM switches WHERE id = 1;
SELECT v, refresh(v) FROM unnest('{value_texts, value_rows, held_texts}'::regclass[]) v;

-- A conversion that only a set operation makes.
CREATE TYPE narrow AS (x int);
CREATE TYPE broad AS (x int, y text);
CREATE FUNCTION broaden(narrow) RETURNS broad VOLATILE LANGUAGE plpgsql AS 'BEGIN RETURN ROW(($1).x, ''first''::text); END';
CREATE CAST (narrow AS broad) WITH FUNCTION broaden AS IMPLICIT;
CREATE TABLE narrows (c narrow);
CREATE TABLE broads (c broad);
INSERT INTO narrows VALUES (ROW(1));
INSERT INTO broads VALUES (ROW(2, 'own'));
CREATE MATERIALIZED VIEW united WITH (pg_trickle.incremental, pg_trickle.refresh_mode = DIFFERENTIAL) AS SELECT c FROM broads UNION ALL SELECT c FROM narrows;
ALTER FUNCTION broaden IMMUTABLE;
CREATE MATERIALIZED VIEW united WITH (pg_trickle.incremental) AS SELECT c FROM broads UNION ALL SELECT c FROM narrows;
CREATE MATERIALIZED VIEW lacking WITH (pg_trickle.incremental) AS SELECT c FROM broads EXCEPT SELECT c FROM narrows;
CREATE OR REPLACE FUNCTION broaden(narrow) RETURNS broad IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN ROW(($1).x, ''second''::text); END';
INSERT INTO broads VALUES (ROW(1, 'first')), (ROW(1, 'second'));
SELECT v, refresh(v) FROM unnest('{united, lacking}'::regclass[]) v;
SELECT c FROM united ORDER BY c;

-- Nothing captured is lost by switching triggers off.
ALTER TABLE t DISABLE TRIGGER ALL;
INSERT INTO t VALUES (9, 9);
ALTER TABLE t ENABLE TRIGGER ALL;
REFRESH MATERIALIZED VIEW unconcerned;
SELECT count(*) FROM unconcerned WHERE a = 9;
SELECT DISTINCT enabled FROM pgtrickle.trigger_inventory();

SET client_min_messages = warning;
DROP TABLE t, u, m, g, k, parts, switches, held, narrows, broads CASCADE;
DROP FUNCTION refresh_parts, refresh;
DROP TABLE shape CASCADE;
DROP TYPE part, state, narrow, broad CASCADE;
DROP VIEW due;
DROP AGGREGATE total(int);
DROP OPERATOR *** (NONE, int);
DROP FUNCTION f, step, unrelated;
DROP TEXT SEARCH CONFIGURATION conf;
DROP TYPE mood;
