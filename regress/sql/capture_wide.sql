-- Values that TOAST keeps out of line: versions refer to those that an update leaves alone, and have copies of the others.
CREATE SCHEMA capture_wide;
SET search_path = capture_wide;
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/data/refresh.sql'
\i :helpers
SET pg_trickle.refresh_strategy = delta; -- a recompute would hide what capture missed

-- Incompressible; compressed out of line; and compressed within the row.
CREATE FUNCTION wide(seed int, n int DEFAULT 600) RETURNS text LANGUAGE sql IMMUTABLE AS
    $$ SELECT string_agg(md5((i * 7919 + seed)::text), '') FROM generate_series(1, n) i $$;
CREATE FUNCTION dense(seed int) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT repeat(wide(seed, 100), 40) $$;
CREATE FUNCTION inside(seed int) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT repeat(md5(seed::text), 100) $$;
-- What a statement makes the change buffer of a table grow by: a few bytes a row, or values that are 13 kB and more.
CREATE FUNCTION stored(captured regclass) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    segment regclass;
    bytes bigint;
    total bigint := 0;
BEGIN
    FOREACH segment IN ARRAY (SELECT ARRAY[segment_a, segment_b] FROM pgtrickle_internal.source WHERE relid = captured) LOOP
        EXECUTE format('SELECT coalesce(sum(pg_column_size(rows) + coalesce(pg_column_size(wide), 0)), 0) FROM %s', segment) INTO bytes;
        total := total + bytes;
    END LOOP;
    RETURN total;
END $$;
CREATE FUNCTION grow(captured regclass, statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    before bigint := stored(captured);
    changed int;
BEGIN
    EXECUTE statement;
    GET DIAGNOSTICS changed = ROW_COUNT;
    RETURN format('%s rows, %s', changed,
        CASE WHEN stored(captured) - before < changed * 2000 THEN 'small' WHEN stored(captured) - before < changed * 25000 THEN 'once' ELSE 'twice' END);
END $$;

CREATE DOMAIN prose AS text;
CREATE TYPE page AS (number int, body text);
CREATE TABLE d (
    id int PRIMARY KEY, likes int DEFAULT 0, body text, dense text, inside text, external text, plain text, main text,
    words text[], page page, pages page[], prose prose, raw bytea
) WITH (fillfactor = 30);
ALTER TABLE d ALTER external SET STORAGE EXTERNAL, ALTER plain SET STORAGE PLAIN, ALTER main SET STORAGE MAIN,
    ALTER dense SET COMPRESSION pglz;
CREATE FUNCTION fill(first int, last int) RETURNS void LANGUAGE sql AS $$
    INSERT INTO d SELECT i, 0, wide(i), dense(i), inside(i), wide(i + 1), left(wide(i), 100), inside(i + 2), ARRAY[wide(i + 3), 'x'],
        ROW(i, wide(i + 4))::page, ARRAY[ROW(i, wide(i + 5))::page, NULL], wide(i + 6), decode(wide(i + 7), 'hex')
    FROM generate_series(first, last) i
$$;
SELECT fill(1, 10);
CREATE MATERIALIZED VIEW copies WITH (pg_trickle.incremental) AS TABLE d;
CREATE MATERIALIZED VIEW bodies WITH (pg_trickle.incremental) AS SELECT id, body FROM d;
CREATE MATERIALIZED VIEW lengths WITH (pg_trickle.incremental) AS
    SELECT id % 3 AS g, count(*) AS n, sum(likes) AS likes, sum(length(body)) AS length, max(body) AS last FROM d GROUP BY 1;
CREATE MATERIALIZED VIEW likes WITH (pg_trickle.incremental) AS SELECT id, likes FROM d;
CREATE MATERIALIZED VIEW wholes WITH (pg_trickle.incremental) AS SELECT id, md5(d::text) AS digest FROM d;
CREATE FUNCTION refresh_all() RETURNS TABLE (view regclass, done text) LANGUAGE plpgsql AS $$
BEGIN
    FOREACH view IN ARRAY '{copies, bodies, lengths, likes, wholes}'::regclass[] LOOP
        done := refresh(view);
        RETURN NEXT;
    END LOOP;
END $$;

-- An update beside the values stores none of them.
SELECT grow('d', 'UPDATE d SET likes = likes + 1');
SELECT * FROM refresh_all();

-- The values go before they are read: the rows do, or the values change, once or twice, and VACUUM takes what they were.
UPDATE d SET likes = likes + 1;
DELETE FROM d WHERE id = 1;
UPDATE d SET body = 'short' WHERE id = 2;
UPDATE d SET body = wide(33) WHERE id = 3;
UPDATE d SET likes = likes + 1 WHERE id = 3;
UPDATE d SET body = wide(34), dense = NULL WHERE id = 3;
UPDATE d SET words = NULL, page = NULL, pages = NULL, prose = NULL, raw = NULL WHERE id = 4;
UPDATE d SET likes = likes + 1, external = external || 'x' WHERE id = 5;
UPDATE d SET body = prose, prose = body WHERE id = 6;
UPDATE d SET body = (SELECT body FROM d WHERE id = 8) WHERE id = 7;
UPDATE d SET id = 100 + id WHERE id = 9;
UPDATE d SET inside = inside || 'x' WHERE id = 8;
VACUUM (INDEX_CLEANUP ON, TRUNCATE OFF) d;
SELECT count(fill(20, 21));
SELECT * FROM refresh_all();

-- In one transaction, with what is rolled back.
BEGIN;
UPDATE d SET likes = likes + 1;
SAVEPOINT a;
DELETE FROM d WHERE id < 5;
UPDATE d SET body = 'gone' WHERE id = 5;
ROLLBACK TO a;
UPDATE d SET likes = likes + 1 WHERE id < 5;
SAVEPOINT b;
UPDATE d SET body = 'kept' WHERE id = 6;
RELEASE b;
SELECT count(refresh('copies'));
DELETE FROM d WHERE id = 7;
COMMIT;
VACUUM d;
SELECT * FROM refresh_all();
BEGIN;
SELECT fill(30, 31);
UPDATE d SET likes = 5 WHERE id >= 30;
DELETE FROM d WHERE id = 30;
COMMIT;
SELECT * FROM refresh_all();

-- Statements within a statement: what the inner ones take away, the outer one refers to.
CREATE FUNCTION take() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.likes = 70 THEN DELETE FROM d WHERE id = NEW.id; END IF;
    IF NEW.likes = 71 THEN UPDATE d SET likes = 0, body = 'taken' WHERE id = NEW.id; END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER take AFTER UPDATE ON d FOR EACH ROW EXECUTE FUNCTION take();
UPDATE d SET likes = 65 + id WHERE id IN (5, 6, 8);
UPDATE d SET likes = 70 WHERE id = 31;
VACUUM d;
SELECT * FROM refresh_all();
DROP TRIGGER take ON d;
-- Triggers before the update put other forms of a value in its place.
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.words := NEW.words || 'y'::text;
    NEW.page := ROW(5, (NEW.page).body || 'z');
    NEW.raw := OLD.raw;
    NEW.body := NEW.body || '';
    RETURN NEW;
END $$;
CREATE TRIGGER touch BEFORE UPDATE ON d FOR EACH ROW EXECUTE FUNCTION touch();
UPDATE d SET likes = likes + 1;
VACUUM d;
SELECT * FROM refresh_all();
DROP TRIGGER touch ON d;

-- Two views, of which one lags; and one that no longer reads the column.
UPDATE d SET likes = likes + 1;
SELECT refresh('copies');
UPDATE d SET body = wide(id + 1000), likes = likes + 1;
SELECT refresh('copies');
UPDATE d SET likes = likes + 1;
VACUUM d;
SELECT * FROM refresh_all();

-- The values move to another file: what is pending is not looked for there.
UPDATE d SET likes = likes + 1;
VACUUM FULL d;
SELECT * FROM refresh_all();
SELECT DISTINCT ON (pgt_relid) pgt_relid::regclass, reason FROM pgtrickle.pgt_refresh_history ORDER BY pgt_relid, refresh_id DESC;
UPDATE d SET likes = likes + 1;
SELECT * FROM refresh_all();
UPDATE d SET likes = likes + 1;
ALTER TABLE d ALTER body SET STORAGE MAIN;
ALTER TABLE d SET (toast_tuple_target = 8000);
CLUSTER d USING d_pkey;
SELECT * FROM refresh_all();
UPDATE d SET likes = likes + 1;
TRUNCATE d;
SELECT fill(1, 3);
SELECT * FROM refresh_all();
ALTER TABLE d ALTER body SET STORAGE EXTENDED;

-- A column that nobody reads any more is not captured, and what pending versions refer to there may go.
UPDATE d SET likes = likes + 1;
DROP MATERIALIZED VIEW copies, bodies, wholes, lengths;
UPDATE d SET body = 'gone';
VACUUM d;
SELECT refresh('likes');
CREATE MATERIALIZED VIEW bodies WITH (pg_trickle.incremental) AS SELECT id, body FROM d;
UPDATE d SET body = wide(id);
UPDATE d SET likes = likes + 1;
SELECT refresh('likes'), refresh('bodies');

-- Copies are compressed at most once: what TOAST has compressed is kept so.
CREATE TABLE c (id int PRIMARY KEY, dense text COMPRESSION pglz);
INSERT INTO c SELECT i, dense(i) FROM generate_series(1, 50) i;
CREATE MATERIALIZED VIEW denses WITH (pg_trickle.incremental) AS TABLE c;
SELECT grow('c', 'DELETE FROM c WHERE id <= 20');
SELECT grow('c', 'INSERT INTO c SELECT i, dense(i) FROM generate_series(51, 70) i');
SELECT refresh('denses');
SELECT attstorage FROM pg_attribute a JOIN pgtrickle_internal.source s ON attrelid IN (segment_a, segment_b)
WHERE s.relid = 'c'::regclass AND attname = 'wide';

-- More copies may be pending than there is memory for.
CREATE TABLE many (id int PRIMARY KEY, body text STORAGE EXTERNAL);
INSERT INTO many SELECT i, repeat('x', 2100) FROM generate_series(1, 2000) i;
CREATE MATERIALIZED VIEW manies WITH (pg_trickle.incremental) AS TABLE many;
UPDATE many SET id = -id WHERE id <= 10;
DELETE FROM many WHERE id > 100;
SET work_mem = '64kB';
SET hash_mem_multiplier = 1;
SELECT refresh('manies');
RESET work_mem;
RESET hash_mem_multiplier;

-- What release 0.1.0 wrote: neither stamps nor notes, and wide versions alone in their rows.
CREATE PROCEDURE make_old(captured regclass) LANGUAGE plpgsql AS $$
DECLARE
    segment regclass;
BEGIN
    FOREACH segment IN ARRAY (SELECT ARRAY[segment_a, segment_b] FROM pgtrickle_internal.source WHERE relid = captured) LOOP
        EXECUTE format($sql$
            WITH known AS (DELETE FROM %1$s RETURNING *)
            INSERT INTO %1$s SELECT (xid::text::numeric - 2 ^ 56::numeric)::numeric(20)::text::xid8, cid,
                CASE WHEN wide IS NULL THEN substr(rows, 17) END, wide FROM known $sql$, segment);
    END LOOP;
END $$;
INSERT INTO c SELECT 5000 + i, repeat('x', i) FROM generate_series(1, 300) i;
INSERT INTO c SELECT 6000 + i, wide(i) FROM generate_series(1, 5) i;
UPDATE c SET dense = dense || 'y' WHERE id BETWEEN 5000 AND 5999;
CALL make_old('c');
INSERT INTO c SELECT 7000 + i, wide(i) FROM generate_series(1, 5) i;
UPDATE c SET id = -id WHERE id > 7000;
DELETE FROM c WHERE id < -7003;
VACUUM c;
SELECT refresh('denses');

-- Partitions: a row that moves takes no value along. Row triggers: a partition that a view reads by itself.
CREATE TABLE p (id int, part int, likes int, body text) PARTITION BY LIST (part);
CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);
CREATE TABLE p2 (part int, body text, likes int, id int);
ALTER TABLE p ATTACH PARTITION p2 FOR VALUES IN (2);
INSERT INTO p SELECT i, 1 + i % 2, 0, wide(i) FROM generate_series(1, 10) i;
CREATE MATERIALIZED VIEW ps WITH (pg_trickle.incremental) AS TABLE p;
UPDATE p SET likes = likes + 1;
UPDATE p SET part = 3 - part WHERE id < 6;
UPDATE p1 SET likes = likes + 1;
UPDATE p2 SET likes = likes + 1;
DELETE FROM p WHERE id = 1;
DELETE FROM p1 WHERE id IN (1, 2);
VACUUM p;
SELECT refresh('ps');
CREATE MATERIALIZED VIEW p2s WITH (pg_trickle.incremental) AS TABLE p2;
UPDATE p SET likes = likes + 1;
UPDATE p SET part = 3 - part WHERE id < 6;
UPDATE p2 SET likes = likes + 1;
DELETE FROM p WHERE id = 4;
VACUUM p;
SELECT refresh('ps'), refresh('p2s');
SELECT grow('p2', 'UPDATE p2 SET likes = likes + 1');
SELECT grow('p', 'UPDATE p1 SET likes = likes + 1');
SELECT refresh('ps'), refresh('p2s');

-- Children of a table.
CREATE TABLE parent (id int, likes int, body text);
CREATE TABLE child (extra int) INHERITS (parent);
INSERT INTO parent SELECT i, 0, wide(i) FROM generate_series(1, 5) i;
INSERT INTO child SELECT i, 0, wide(i) FROM generate_series(6, 10) i;
CREATE MATERIALIZED VIEW parents WITH (pg_trickle.incremental) AS TABLE parent;
UPDATE parent SET likes = likes + 1;
UPDATE child SET likes = likes + 1;
UPDATE ONLY parent SET likes = likes + 1;
DELETE FROM parent WHERE id IN (1, 6);
UPDATE child SET body = 'x' WHERE id = 7;
VACUUM parent, child;
SELECT refresh('parents');

-- A view over a view.
CREATE MATERIALIZED VIEW tops WITH (pg_trickle.incremental) AS SELECT id, body, likes FROM parents;
UPDATE parent SET likes = likes + 1;
DELETE FROM child WHERE id = 8;
SELECT refresh('parents'), refresh('tops');

SET client_min_messages = warning;
DROP SCHEMA capture_wide CASCADE;
