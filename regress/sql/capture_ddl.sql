-- Changes of a captured table's definition: recomputed where contents or their meaning changed, otherwise not.
CREATE SCHEMA capture_ddl;
SET search_path = capture_ddl;
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/data/refresh.sql'
\i :helpers
SET pg_trickle.refresh_strategy = delta; -- a recompute would hide what capture missed

CREATE TABLE t (a int, b int, c text, d text DEFAULT 'd', e int);
INSERT INTO t SELECT g, g, 'c' || g FROM generate_series(1, 5) g;
CREATE MATERIALIZED VIEW v WITH (pg_trickle.incremental) AS SELECT b, c FROM t;

-- Columns the view does not read come, go and change while changes are pending.
INSERT INTO t VALUES (6, 6, 'c6');
ALTER TABLE t ADD COLUMN f int DEFAULT 1;
UPDATE t SET b = 7 WHERE a = 1;
ALTER TABLE t DROP COLUMN e;
DELETE FROM t WHERE a = 2;
ALTER TABLE t ALTER COLUMN d TYPE varchar(10), ADD COLUMN g timestamptz DEFAULT clock_timestamp();
UPDATE t SET c = 'changed' WHERE a = 3;
SELECT refresh('v');

-- Nor does it matter that rows were written with other columns in front of those that are read. (Here the layout of the
-- stored rows does change, which costs a recompute.)
INSERT INTO t VALUES (7, 7, 'c7');
ALTER TABLE t ALTER COLUMN a TYPE text;
INSERT INTO t VALUES ('eight', 8, 'c8');
SELECT refresh('v');
DELETE FROM t WHERE a = 'eight';
SELECT refresh('v');

-- Names.
INSERT INTO t VALUES ('nine', 9, 'c9');
ALTER TABLE t RENAME COLUMN c TO renamed;
ALTER TABLE t RENAME TO u;
INSERT INTO u (b, renamed) VALUES (10, 'c10');
SELECT refresh('v');
SELECT source_table FROM pgtrickle.list_sources('v');

-- Rewrites that change nothing.
INSERT INTO u (b, renamed) VALUES (11, 'c11');
VACUUM FULL u;
CREATE INDEX ON u (b);
CLUSTER u USING u_b_idx;
SELECT refresh('v');

-- A column whose values change although no statement touches the rows.
CREATE TABLE made (a int, s int GENERATED ALWAYS AS (a + 1) STORED, w int GENERATED ALWAYS AS (a + 2) VIRTUAL);
INSERT INTO made SELECT generate_series(1, 4);
CREATE MATERIALIZED VIEW stored WITH (pg_trickle.incremental) AS SELECT a, s FROM made;
CREATE MATERIALIZED VIEW virtual WITH (pg_trickle.incremental) AS SELECT w FROM made;
UPDATE made SET a = 10 WHERE a = 1;
SELECT refresh('stored'), refresh('virtual');
ALTER TABLE made ALTER COLUMN s SET EXPRESSION AS (a + 100);
SELECT refresh('stored'), refresh('virtual');
ALTER TABLE made ALTER COLUMN w SET EXPRESSION AS (a + 200);
SELECT refresh('stored'), refresh('virtual');
UPDATE made SET a = 11 WHERE a = 2;
SELECT refresh('stored'), refresh('virtual');

-- New constraints hold for the table now, not for what it contained when the view was refreshed last.
CREATE TABLE loose (id int, a int);
INSERT INTO loose VALUES (1, 1), (1, 2), (NULL, 3), (2, -4);
CREATE MATERIALIZED VIEW tight WITH (pg_trickle.incremental) AS
    SELECT l.id, l.a, r.a AS other FROM loose l JOIN loose r ON l.id = r.id WHERE l.a > 0;
ALTER TABLE loose ADD CHECK (a < 100);
SELECT refresh('tight');
DELETE FROM loose WHERE a > 1 OR a < 0;
ALTER TABLE loose ADD PRIMARY KEY (id), ADD CHECK (a > 0);
SELECT refresh('tight');
INSERT INTO loose VALUES (2, 2);
UPDATE loose SET a = 5 WHERE id = 1;
SELECT refresh('tight');
DELETE FROM loose WHERE id = 2;
CREATE UNIQUE INDEX ON loose (a);
SELECT refresh('tight');

-- Dropping what is captured.
DROP TABLE u;
DROP MATERIALIZED VIEW v;
DROP TABLE u;
SELECT refresh('stored');
ALTER TABLE made DROP COLUMN w CASCADE;
INSERT INTO made VALUES (20);
SELECT refresh('stored');
DROP MATERIALIZED VIEW stored;
SELECT count(*) AS triggers FROM pg_trigger WHERE tgrelid = 'made'::regclass;

SET client_min_messages = warning;
DROP SCHEMA capture_ddl CASCADE;
SELECT count(*) AS sources FROM pgtrickle_internal.source;
SELECT count(*) AS buffers FROM pg_class WHERE relname LIKE 'changes\_%' AND relnamespace = 'pgtrickle_internal'::regnamespace;
