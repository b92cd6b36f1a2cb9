-- A bag: rows are found by the hash of their image, one copy per unit of weight.
CREATE SCHEMA apply_bag;
SET search_path = apply_bag, public;
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS amcheck WITH SCHEMA public;
RESET client_min_messages;

\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/data/apply.sql'
\i :helpers

SET pg_trickle.refresh_strategy = delta;

-- The hash stands in indexes on disk: it must never change.
SELECT pgtrickle.row_image_hash(1), pgtrickle.row_image_hash(1, 2), pgtrickle.row_image_hash(2, 1),
    pgtrickle.row_image_hash(NULL::int), pgtrickle.row_image_hash('a'::text, NULL::text, true, 1.5::float8);
SELECT pgtrickle.row_image_hash(1.0) = pgtrickle.row_image_hash(1.00) AS scale, pgtrickle.row_image_hash(0.0::float8) = pgtrickle.row_image_hash('-0'::float8) AS sign,
    pgtrickle.row_image_hash(1::smallint) = pgtrickle.row_image_hash(1::bigint) AS width;
SELECT pgtrickle.row_image_hash(VARIADIC ARRAY[1, 2]);

-- Duplicates, NULLs, and values that are equal but not identical.
CREATE TABLE item (id serial PRIMARY KEY, kind text, price numeric, size float8);
INSERT INTO item (kind, price, size) SELECT 'k' || g % 3, CASE WHEN g % 2 = 0 THEN 1.0 ELSE 1.00 END, 0 FROM generate_series(1, 12) g;
CREATE MATERIALIZED VIEW items WITH (pg_trickle.incremental) AS SELECT kind, price, size FROM item;
\d items
DELETE FROM item WHERE kind = 'k0' AND id < 9;
INSERT INTO item (kind, price, size) VALUES ('k1', 1.00, '-0'), ('k1', 1, 0), (NULL, NULL, NULL), (NULL, NULL, NULL), (NULL, NULL, NULL);
SELECT refresh('items');
SELECT *, count(*) FROM items GROUP BY kind, price, size, price::text, size::text ORDER BY kind, price::text, size::text;
UPDATE item SET price = price * 1.0 WHERE kind = 'k2';
DELETE FROM item WHERE ctid = (SELECT max(ctid) FROM item WHERE kind IS NULL);
SELECT refresh('items');
SELECT differences('items'), check_storage('items');
-- What cancels within the delta touches nothing.
UPDATE item SET kind = 'other' WHERE kind = 'k1';
UPDATE item SET kind = 'k1' WHERE kind = 'other';
SELECT refresh('items');

-- A unique index of the user's: removals first.
CREATE TABLE rank (name text, place int);
INSERT INTO rank SELECT 'n' || g, g FROM generate_series(1, 50) g;
CREATE MATERIALIZED VIEW ranks WITH (pg_trickle.incremental) AS SELECT name, place FROM rank;
CREATE UNIQUE INDEX ON ranks (place) WHERE place > 10;
UPDATE rank SET place = 51 - place;
SELECT refresh('ranks');
SELECT differences('ranks'), check_storage('ranks');

-- TOAST: the image is what the value is, not how it is stored.
CREATE TABLE doc (id int PRIMARY KEY, body text, copy text);
ALTER TABLE doc ALTER body SET STORAGE EXTERNAL;
INSERT INTO doc SELECT g, repeat(md5(g::text), 200), repeat('x', 5000) FROM generate_series(1, 6) g;
CREATE MATERIALIZED VIEW docs WITH (pg_trickle.incremental) AS SELECT body, copy, (doc.body, doc.copy)::text = '' AS never FROM doc;
UPDATE doc SET copy = copy || 'y' WHERE id = 1;
UPDATE doc SET copy = body WHERE id = 2;
DELETE FROM doc WHERE id IN (3, 4);
INSERT INTO doc SELECT 7, body, copy FROM doc WHERE id = 5;
SELECT refresh('docs');
SELECT differences('docs'), check_storage('docs');
DELETE FROM doc;
SELECT refresh('docs');
SELECT count(*) FROM docs;

-- Composite values are compared field by field, however their fields are stored.
INSERT INTO doc SELECT g, repeat(md5(g::text), 200), repeat('x', 5000) FROM generate_series(1, 4) g;
CREATE MATERIALIZED VIEW whole WITH (pg_trickle.incremental) AS SELECT doc AS d, ARRAY[id, length(body)] AS a FROM doc;
UPDATE doc SET copy = 'short' WHERE id = 1;
DELETE FROM doc WHERE id = 2;
SELECT refresh('whole');
SELECT differences('whole'), check_storage('whole');

-- No columns at all.
CREATE MATERIALIZED VIEW nothing WITH (pg_trickle.incremental) AS SELECT FROM doc;
DELETE FROM doc WHERE id = 3;
INSERT INTO doc VALUES (8), (9);
SELECT refresh('nothing');
SELECT count(*) FROM nothing;

-- More columns than a function takes arguments: calls are nested.
\set ECHO none
SELECT format('CREATE TABLE wide (%s)', string_agg(format('c%s int', n), ', ')) FROM generate_series(1, 250) n \gexec
SELECT format('INSERT INTO wide SELECT %s FROM generate_series(1, 20) g', string_agg(format('g %% %s', n), ', ')) FROM generate_series(1, 250) n \gexec
\set ECHO all
CREATE MATERIALIZED VIEW wides WITH (pg_trickle.incremental) AS SELECT * FROM wide;
SELECT length(pg_get_indexdef(indexrelid)) > 1000, left(pg_get_indexdef(indexrelid), 160) FROM pg_index WHERE indrelid = 'wides'::regclass;
UPDATE wide SET c250 = -c250 WHERE c250 > 10;
UPDATE wide SET c99 = NULL, c198 = NULL WHERE c250 = 3;
SELECT refresh('wides');
SELECT differences('wides'), check_storage('wides');

-- More changes than work_mem holds: sorted on disk.
SET work_mem = '64kB';
INSERT INTO rank SELECT 'same', g / 10 FROM generate_series(1000, 6000) g;
DROP INDEX ranks_place_idx;
SELECT refresh('ranks');
UPDATE rank SET place = place + 1 WHERE name = 'same' AND place % 3 = 0;
DELETE FROM rank WHERE place % 7 = 0;
SELECT refresh('ranks');
SELECT differences('ranks'), check_storage('ranks');

SET client_min_messages = warning;
DROP SCHEMA apply_bag CASCADE;
