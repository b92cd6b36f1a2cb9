-- Values of every sort arrive as they are: toasted, compressed, generated, null, missing, in dropped columns' company.
CREATE SCHEMA capture_types;
SET search_path = capture_types;
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/data/refresh.sql'
\i :helpers
SET pg_trickle.refresh_strategy = delta; -- a recompute would hide what capture missed

CREATE TYPE pair AS (x int, y text);
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE DOMAIN positive AS int CHECK (value > 0);
CREATE TYPE span AS RANGE (subtype = float8);
CREATE TABLE thing (
    id int, gone1 text, big text, p pair, pairs pair[], numbers int[], words text[], r int4range, mr int4multirange, s span,
    j json, b jsonb, m mood, dom positive, domains positive[], n numeric, raw bytea, at timestamptz, took interval, f float8,
    padded char(10), name name, u uuid, ip inet, box box, flag bool, letter "char", bits varbit, search tsvector,
    doubled int GENERATED ALWAYS AS (id * 2) STORED, tripled int GENERATED ALWAYS AS (id * 3) VIRTUAL,
    serial int GENERATED ALWAYS AS IDENTITY, unread text
);
INSERT INTO thing (id, gone1) VALUES (0, 'written before the column was dropped');
ALTER TABLE thing DROP COLUMN gone1;
CREATE MATERIALIZED VIEW things WITH (pg_trickle.incremental) AS
    SELECT id, big, p, pairs, numbers, words, r, mr, s, j, b, m, dom, domains, n, raw, at, took, f, padded, name, u, ip, box, flag,
           letter, bits, search, doubled, tripled, serial FROM thing;

-- Long values that compress, and long values that do not (md5), on both sides of every limit.
CREATE FUNCTION add(k int) RETURNS void LANGUAGE sql AS $$
    INSERT INTO thing (id, big, p, pairs, numbers, words, r, mr, s, j, b, m, dom, domains, n, raw, at, took, f, padded, name, u, ip, box,
                       flag, letter, bits, search, unread)
    VALUES (k, (SELECT string_agg(md5((k * g)::text), '') FROM generate_series(1, k * k) g), (k, repeat('p', k * 100)),
            ARRAY[(k, 'a')::pair, NULL], ARRAY[1, NULL, k], ARRAY['', repeat('w', k * 300)], int4range(k, k + 5), int4multirange(int4range(1, k)),
            span(0::float8, k::float8), '{"a" : 1}', jsonb_build_object('k', repeat('j', k * 100)), 'ok', k, ARRAY[1, k]::positive[], k * 1.1,
            decode(repeat('ab', k * 50), 'hex'), timestamptz '2020-01-01 00:00+00' + k * interval '1 hour', k * interval '1 day', k / 7.0::float8,
            'c' || k, 'n' || k, md5(k::text)::uuid, '10.0.0.1', '(1,2),(3,4)', k % 2 = 0, 'x', B'101', to_tsvector('simple', 'a b'),
            repeat('unread', k * 1000)) $$;
SELECT count(add(g)) FROM generate_series(1, 40) g;
SELECT refresh('things');
SELECT count(*), max(octet_length(big)), sum(tripled) = 3 * sum(id) AS tripled FROM things;
UPDATE thing SET m = 'sad' WHERE id % 2 = 0;
SELECT refresh('things');
UPDATE thing SET unread = repeat('read', id) WHERE id < 30;
SELECT refresh('things');
UPDATE thing SET big = big || 'x', words = words || 'w'::text WHERE id % 10 < 2;
SELECT refresh('things');
UPDATE thing SET id = NULL, p = NULL, j = NULL, n = NULL, flag = NULL WHERE id % 10 = 0;
SELECT refresh('things');
DELETE FROM thing WHERE dom % 3 = 0;
SELECT refresh('things');

-- More than work_mem: transition tables on disk.
SET work_mem = '64kB';
UPDATE thing SET n = n + 1;
INSERT INTO thing (id, big) SELECT g, repeat(md5(g::text), 20) FROM generate_series(1000, 2000) g;
RESET work_mem;
SELECT refresh('things');
DELETE FROM thing WHERE id >= 1000;
SELECT refresh('things');

-- A column whose value stands in the catalog for the rows that were there before it, until a rewrite puts it into them.
CREATE TABLE old (id int, a text);
INSERT INTO old SELECT g, 'a' FROM generate_series(1, 6) g;
ALTER TABLE old ADD COLUMN late text DEFAULT 'missing', ADD COLUMN later int;
CREATE MATERIALIZED VIEW olds WITH (pg_trickle.incremental) AS SELECT id, a, late, later FROM old;
UPDATE old SET a = 'b' WHERE id = 1;
DELETE FROM old WHERE id = 2;
VACUUM FULL old;
SELECT refresh('olds');
UPDATE old SET late = 'there' WHERE id IN (1, 3);
DELETE FROM old WHERE id = 4;
SELECT refresh('olds');

-- No column read at all: an update says nothing, the rest counts.
CREATE MATERIALIZED VIEW counted WITH (pg_trickle.incremental) AS SELECT count(*) AS n FROM old;
DROP MATERIALIZED VIEW olds;
UPDATE old SET a = 'c';
SELECT refresh('counted');
INSERT INTO old SELECT FROM generate_series(1, 10000);
DELETE FROM old WHERE id = 1;
SELECT refresh('counted');
TABLE counted;

-- Whole rows, also of a table that gets another column.
CREATE MATERIALIZED VIEW wholes WITH (pg_trickle.incremental) AS SELECT id, old::text AS row FROM old WHERE id IS NOT NULL;
UPDATE old SET later = 5 WHERE id = 3;
SELECT refresh('wholes');
ALTER TABLE old ADD COLUMN latest int DEFAULT 9;
SELECT refresh('wholes');
UPDATE old SET latest = 10 WHERE id = 3;
SELECT refresh('wholes');
SELECT * FROM wholes ORDER BY id;

-- Only what some view reads is stored.
CREATE TABLE fat (id int PRIMARY KEY, read int, unread text);
CREATE MATERIALIZED VIEW thin WITH (pg_trickle.incremental) AS SELECT id, read FROM fat;
INSERT INTO fat SELECT g, g, repeat('fat', 1000) FROM generate_series(1, 100) g;
SELECT pending_rows, buffer_bytes < 40000 AS small FROM pgtrickle.change_buffer_sizes() WHERE source_table LIKE '%fat';
CREATE MATERIALIZED VIEW thick WITH (pg_trickle.incremental) AS SELECT id, left(unread, 3) AS start FROM fat;
UPDATE fat SET unread = 'new' WHERE id <= 10;
SELECT refresh('thin');
SELECT refresh('thick');
SELECT columns_used FROM pgtrickle.list_sources('thin') UNION ALL SELECT columns_used FROM pgtrickle.list_sources('thick');
SELECT captured_columns FROM pgtrickle.pgt_cdc_status WHERE source_relid = 'fat'::regclass;
DROP MATERIALIZED VIEW thick;
SELECT captured_columns FROM pgtrickle.pgt_cdc_status WHERE source_relid = 'fat'::regclass;

SET client_min_messages = warning;
DROP SCHEMA capture_types CASCADE;
