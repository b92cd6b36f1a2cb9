-- Whole rows of tables with dropped columns: what is stored of such a column counts in nothing.
CREATE SCHEMA whole_rows;
SET search_path = whole_rows;
CREATE TABLE pair (a int, dead text, b int);
INSERT INTO pair VALUES (0, 'written before', 0), (NULL, 'written before', NULL);
ALTER TABLE pair DROP COLUMN dead;
CREATE TABLE empty (gone int);
ALTER TABLE empty DROP COLUMN gone;
INSERT INTO pair VALUES (1, 2), (3, NULL);
INSERT INTO empty DEFAULT VALUES;
-- Rows with virtual columns the server spells out itself; there a dropped column counts as NULL.
CREATE TABLE computed (gone int, a int, twice int GENERATED ALWAYS AS (a * 2) VIRTUAL);
ALTER TABLE computed DROP COLUMN gone;
INSERT INTO computed VALUES (1), (NULL);
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/data/refresh.sql'
\i :helpers
CREATE MATERIALIZED VIEW full_rows WITH (pg_trickle.incremental) AS SELECT a FROM pair WHERE pair IS NOT NULL;
CREATE MATERIALIZED VIEW null_rows WITH (pg_trickle.incremental) AS SELECT count(*) AS n FROM pair WHERE pair IS NULL;
CREATE MATERIALIZED VIEW nested WITH (pg_trickle.incremental) AS
    SELECT whole, whole IS NULL AS nothing, whole IS NOT NULL AS everything FROM (SELECT pair AS whole FROM pair) p;
CREATE MATERIALIZED VIEW counted WITH (pg_trickle.incremental) AS
    SELECT l.a, count(l) AS n, bool_or(l < r) AS less FROM pair l JOIN pair r ON l IS DISTINCT FROM r GROUP BY l.a;
CREATE MATERIALIZED VIEW nothing WITH (pg_trickle.incremental) AS SELECT empty IS NULL AS null, empty IS NOT NULL AS full FROM empty;
CREATE MATERIALIZED VIEW recomputed WITH (pg_trickle.incremental, pg_trickle.refresh_mode = 'FULL') AS SELECT pair AS whole FROM pair;
CREATE MATERIALIZED VIEW virtual WITH (pg_trickle.incremental) AS
    SELECT a, whole IS NULL AS nothing, whole IS NOT NULL AS everything, whole FROM (SELECT a, computed AS whole FROM computed) c;
CREATE MATERIALIZED VIEW adopted AS SELECT pair AS whole FROM pair;
INSERT INTO pair VALUES (5, 6);
ALTER MATERIALIZED VIEW adopted SET (pg_trickle.incremental = true);
SELECT v, refresh(v) FROM unnest('{full_rows, null_rows, nested, counted, nothing, virtual, recomputed, adopted}'::regclass[]) v;
SET pg_trickle.refresh_strategy = delta;
INSERT INTO pair VALUES (7, NULL), (8, 9), (NULL, NULL);
UPDATE pair SET b = 10 WHERE a = 3;
UPDATE pair SET a = NULL WHERE a = 1;
DELETE FROM pair WHERE a = 0;
INSERT INTO empty DEFAULT VALUES;
INSERT INTO computed VALUES (2), (NULL);
DELETE FROM computed WHERE a = 1;
SELECT v, refresh(v) FROM unnest('{full_rows, null_rows, nested, counted, nothing, virtual, recomputed, adopted}'::regclass[]) v;
-- Another column goes while changes are pending.
UPDATE pair SET b = 11 WHERE a = 3;
ALTER TABLE pair ADD COLUMN c int;
ALTER TABLE pair DROP COLUMN c;
UPDATE pair SET b = 12 WHERE a = 8;
SELECT v, refresh(v) FROM unnest('{full_rows, null_rows, nested, counted, nothing, virtual, recomputed, adopted}'::regclass[]) v;
-- One that is stored in the views.
CREATE MATERIALIZED VIEW grouped WITH (pg_trickle.incremental) AS SELECT pair AS whole, count(*) AS n FROM pair GROUP BY pair;
ALTER TABLE pair ADD COLUMN d int;
UPDATE pair SET d = a * 100 WHERE a > 5;
SELECT v, refresh(v) FROM unnest('{nested, recomputed, adopted, grouped}'::regclass[]) v;
ALTER TABLE pair DROP COLUMN d;
SELECT v, refresh(v) FROM unnest('{nested, recomputed, adopted, grouped}'::regclass[]) v;
DELETE FROM pair WHERE a IN (7, 8);
UPDATE pair SET b = 0 WHERE a = 3;
SELECT v, refresh(v) FROM unnest('{nested, recomputed, adopted, grouped}'::regclass[]) v;
SELECT * FROM nested ORDER BY whole;
DROP MATERIALIZED VIEW grouped;
RESET pg_trickle.refresh_strategy;

-- Whole rows of subqueries, CTEs and plain views, which gain a weight while changes are computed.
CREATE TABLE plain (id int, v int);
INSERT INTO plain VALUES (1, 1), (2, 2), (NULL, NULL);
CREATE VIEW through AS SELECT id, v FROM plain;
CREATE VIEW joined AS SELECT l.id, r.v FROM plain l JOIN plain r USING (id);
CREATE MATERIALIZED VIEW of_subquery WITH (pg_trickle.incremental) AS
    SELECT to_jsonb(s) AS object, s::text AS text FROM (SELECT id, v AS "Odd name" FROM plain) s;
CREATE MATERIALIZED VIEW of_union WITH (pg_trickle.incremental) AS
    SELECT jsonb_agg(s ORDER BY s) AS objects FROM (SELECT id, v FROM plain UNION ALL SELECT v, 7 FROM plain) s;
CREATE MATERIALIZED VIEW of_cte WITH (pg_trickle.incremental) AS
    WITH c AS MATERIALIZED (SELECT id, v FROM plain) SELECT a.id, to_jsonb(a) AS a, b::text AS b FROM c a JOIN c b ON a = b;
CREATE MATERIALIZED VIEW inside WITH (pg_trickle.incremental) AS
    SELECT id, to_jsonb(whole) AS object FROM (SELECT p.*, p AS whole FROM (SELECT v, id FROM plain) p) s;
CREATE MATERIALIZED VIEW tested WITH (pg_trickle.incremental) AS
    SELECT v, count(*) AS n, count(*) FILTER (WHERE s IS NULL) AS nulls, count(s) AS rows FROM (SELECT id, v FROM plain) s GROUP BY v;
CREATE MATERIALIZED VIEW filtered WITH (pg_trickle.incremental) AS SELECT id FROM (SELECT id, v FROM plain) s WHERE s IS NULL;
CREATE MATERIALIZED VIEW of_view WITH (pg_trickle.incremental) AS SELECT to_jsonb(through) AS object FROM through;
CREATE MATERIALIZED VIEW of_join WITH (pg_trickle.incremental) AS SELECT count(joined) AS rows FROM joined WHERE joined IS NOT NULL;
CREATE MATERIALIZED VIEW stored WITH (pg_trickle.incremental) AS SELECT through AS whole, count(*) AS n FROM through GROUP BY through;
CREATE MATERIALIZED VIEW texts WITH (pg_trickle.incremental) AS SELECT DISTINCT through::text AS text FROM through;
INSERT INTO plain VALUES (3, 3), (NULL, NULL), (4, NULL);
DELETE FROM plain WHERE id = 1;
SET pg_trickle.refresh_strategy = delta;
SELECT v, refresh(v) FROM unnest('{of_subquery, of_union, of_cte, inside, tested, filtered, of_view, of_join, stored, texts}'::regclass[]) v;
UPDATE plain SET v = 5 WHERE id = 3;
INSERT INTO plain VALUES (2, 2);
SELECT v, refresh(v) FROM unnest('{of_subquery, of_union, of_cte, inside, tested, filtered, of_view, of_join, stored, texts}'::regclass[]) v;
SELECT * FROM of_subquery ORDER BY text;
-- A column of a plain view is renamed: its rows show the name.
ALTER VIEW through RENAME COLUMN v TO value;
INSERT INTO plain VALUES (6, 6);
SELECT v, refresh(v) FROM unnest('{of_view, stored, texts}'::regclass[]) v;
SELECT * FROM of_view ORDER BY object::text LIMIT 2;

SET client_min_messages = warning;
DROP SCHEMA whole_rows CASCADE;
