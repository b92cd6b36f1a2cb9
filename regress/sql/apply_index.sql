-- The life of the index that apply finds rows with.
CREATE SCHEMA apply_index;
SET search_path = apply_index, public;
CREATE FUNCTION refresh(view regclass) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    plan json;
BEGIN
    EXECUTE format('EXPLAIN (ANALYZE, FORMAT JSON) REFRESH MATERIALIZED VIEW %s', view) INTO plan;
    plan := plan->0->'Plan';
    RETURN format('+%s ~%s -%s', plan->>'Rows Inserted', plan->>'Rows Updated', plan->>'Rows Deleted');
END $$;
CREATE FUNCTION indexes(view regclass) RETURNS SETOF text LANGUAGE sql AS
    'SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = view ORDER BY 1';
SET pg_trickle.refresh_strategy = delta;
CREATE TABLE t (id int PRIMARY KEY, name text);
INSERT INTO t SELECT g, 'n' || g % 4 FROM generate_series(1, 12) g;

-- Its name gives way to one that is taken.
CREATE TABLE keyed_trickle_idx ();
CREATE MATERIALIZED VIEW keyed WITH (pg_trickle.incremental) AS SELECT id, name FROM t;
CREATE MATERIALIZED VIEW bag WITH (pg_trickle.incremental) AS SELECT name FROM t;
SELECT indexes('keyed');
SELECT indexes('bag');

-- Dropped by the user: made again by the next refresh.
DROP INDEX keyed_trickle_idx1, bag_trickle_idx;
DELETE FROM t WHERE id = 1;
UPDATE t SET name = 'new' WHERE id = 2;
SELECT refresh('keyed'), refresh('bag');
SELECT indexes('keyed');
SELECT indexes('bag');
TABLE keyed ORDER BY id LIMIT 2;

-- Not any index will do: not a partial one, nor one on other columns or with another equality.
DROP INDEX keyed_trickle_idx1;
CREATE UNIQUE INDEX partial ON keyed (id) WHERE id > 0;
CREATE UNIQUE INDEX larger ON keyed (id, name);
CREATE UNIQUE INDEX expression ON keyed ((id + 0));
UPDATE t SET name = 'newer' WHERE id = 2;
SELECT refresh('keyed');
SELECT indexes('keyed');
DROP INDEX keyed_trickle_idx1, partial, larger, expression;
-- This one does.
CREATE UNIQUE INDEX backwards ON keyed (id DESC) INCLUDE (name);
UPDATE t SET name = 'newest' WHERE id = 2;
SELECT refresh('keyed');
SELECT indexes('keyed');

-- Released, a view keeps its rows and loses the index that calls the extension.
ALTER MATERIALIZED VIEW keyed SET (pg_trickle.incremental = false);
ALTER MATERIALIZED VIEW bag SET (pg_trickle.incremental = false);
SELECT indexes('keyed');
SELECT indexes('bag');
SELECT count(*) FROM bag;
-- Adopted again: what a restored dump brings along is found, not made twice.
CREATE INDEX restored ON bag USING btree (pgtrickle.row_image_hash(name));
ALTER MATERIALIZED VIEW bag SET (pg_trickle.incremental = true);
SELECT indexes('bag');
INSERT INTO t VALUES (100, 'n1');
SELECT refresh('bag');

-- It does not keep the extension from being dropped.
SELECT deptype FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = 'restored'::regclass AND refclassid = 'pg_proc'::regclass;
-- Nor the view from being altered.
ALTER MATERIALIZED VIEW bag RENAME COLUMN name TO label;
ALTER MATERIALIZED VIEW bag RENAME TO sack;
DELETE FROM t WHERE id = 100;
SELECT refresh('sack');
SELECT indexes('sack');
DROP MATERIALIZED VIEW sack;
SELECT count(*) FROM pg_class WHERE relname = 'restored';

SET client_min_messages = warning;
DROP SCHEMA apply_index CASCADE;
