-- Refreshes that change many rows: rows to insert are stored in batches, and new versions that find no room on their page move to
-- pages that keep some.
CREATE SCHEMA apply_bulk;
SET search_path = apply_bulk, public;
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS amcheck WITH SCHEMA public;
RESET client_min_messages;

\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/data/apply.sql'
\i :helpers

CREATE FUNCTION heap_only(view regclass) RETURNS bigint LANGUAGE sql AS
    'SELECT pg_stat_get_tuples_hot_updated(view)';

CREATE TABLE customer (id int PRIMARY KEY, name text, n int DEFAULT 0);
CREATE TABLE orders (id int PRIMARY KEY, customer int, amount numeric);
INSERT INTO customer SELECT i, 'customer ' || i FROM generate_series(1, 40) i;
INSERT INTO orders SELECT i, 1 + i % 40, i / 4.0 FROM generate_series(1, 4000) i;
VACUUM ANALYZE customer, orders;

-- Every row changes, and again: full pages at first, then there is room for every new version, whether the changes come from a
-- delta or from a comparison.
CREATE MATERIALIZED VIEW by_delta WITH (pg_trickle.incremental) AS
    SELECT o.id, o.amount, c.name, c.n FROM orders o JOIN customer c ON c.id = o.customer;
CREATE MATERIALIZED VIEW by_comparison WITH (pg_trickle.incremental) AS
    SELECT o.id, o.amount, c.name, c.n FROM orders o JOIN customer c ON c.id = o.customer;
CREATE MATERIALIZED VIEW total WITH (pg_trickle.incremental) AS SELECT name, count(*), sum(n) FROM by_delta GROUP BY name;
UPDATE customer SET n = n + 1;
SET pg_trickle.refresh_strategy = delta;
SELECT refresh('by_delta');
SET pg_trickle.refresh_strategy = full;
SELECT refresh('by_comparison');
SELECT differences('by_delta'), check_storage('by_delta'), differences('by_comparison'), check_storage('by_comparison');
SELECT pg_stat_force_next_flush();
SELECT heap_only('by_delta') AS by_delta, heap_only('by_comparison') AS by_comparison \gset before_
UPDATE customer SET n = n + 1;
SET pg_trickle.refresh_strategy = delta;
SELECT refresh('by_delta');
SET pg_trickle.refresh_strategy = full;
SELECT refresh('by_comparison');
SELECT pg_stat_force_next_flush();
SELECT heap_only('by_delta') - :before_by_delta AS by_delta, heap_only('by_comparison') - :before_by_comparison AS by_comparison;
SELECT differences('by_delta'), check_storage('by_delta'), differences('by_comparison'), check_storage('by_comparison');

-- What is fed to the views that read this one fits.
SET pg_trickle.refresh_strategy = delta;
SELECT refresh('total');
SELECT differences('total');

-- A view has a limit to the pages it gets for the sake of room: an old snapshot keeps all versions. (Here it is the
-- transaction that makes them.)
CREATE MATERIALIZED VIEW kept WITH (pg_trickle.incremental) AS
    SELECT o.id, o.amount, c.name, c.n FROM orders o JOIN customer c ON c.id = o.customer;
SELECT pg_relation_size('kept') AS size \gset before_
BEGIN;
UPDATE customer SET n = n + 1;
SELECT refresh('kept');
UPDATE customer SET n = n + 1;
SELECT refresh('kept');
UPDATE customer SET n = n + 1;
SELECT refresh('kept');
UPDATE customer SET n = n + 1;
SELECT refresh('kept');
UPDATE customer SET n = n + 1;
SELECT refresh('kept');
COMMIT;
SELECT pg_relation_size('kept') < 7.5 * :before_size AS limited;
SELECT differences('kept'), check_storage('kept');

-- The view's own fillfactor makes room from the beginning.
CREATE MATERIALIZED VIEW roomy WITH (pg_trickle.incremental, fillfactor = 45) AS
    SELECT o.id, o.amount, c.name, c.n FROM orders o JOIN customer c ON c.id = o.customer;
UPDATE customer SET n = n + 1;
SELECT refresh('roomy');
SELECT pg_stat_force_next_flush();
SELECT heap_only('roomy');
SELECT differences('roomy'), check_storage('roomy');

-- A user's unique index whose values move from row to row, and indexes on what changes.
CREATE TABLE seat (id int PRIMARY KEY, place int, note text);
INSERT INTO seat SELECT i, i, 'n' || i FROM generate_series(1, 2000) i;
CREATE MATERIALIZED VIEW seats WITH (pg_trickle.incremental) AS SELECT id, place, note FROM seat;
CREATE UNIQUE INDEX ON seats (place);
CREATE INDEX ON seats (note) WHERE place % 2 = 0;
CREATE INDEX ON seats USING brin (place);
UPDATE seat SET place = 2001 - place, note = note || '+';
SELECT refresh('seats');
SELECT differences('seats'), check_storage('seats');
SET pg_trickle.refresh_strategy = full;
UPDATE seat SET place = 1 + place % 2000;
SELECT refresh('seats');
SELECT differences('seats'), check_storage('seats');
-- Beside rows that come and go, through an external sort.
SET work_mem = '64kB';
UPDATE seat SET note = note || '*';
DELETE FROM seat WHERE id % 10 = 0;
INSERT INTO seat SELECT i, i, 'new' FROM generate_series(2001, 3000) i;
SELECT refresh('seats');
SELECT differences('seats'), check_storage('seats');
SET pg_trickle.refresh_strategy = delta;
UPDATE seat SET note = note || '-' WHERE id % 3 <> 0;
DELETE FROM seat WHERE id % 10 = 1;
INSERT INTO seat SELECT i, i, 'new' FROM generate_series(3001, 3500) i;
SELECT refresh('seats');
SELECT differences('seats'), check_storage('seats');
RESET work_mem;

-- Copies of a row: as many go as the weight says. Equal values of different images are different rows.
CREATE TABLE item (id int PRIMARY KEY, price numeric, note text);
INSERT INTO item SELECT i, (i % 50)::numeric, 'n' || i % 7 FROM generate_series(1, 4000) i;
CREATE MATERIALIZED VIEW prices WITH (pg_trickle.incremental) AS SELECT price, note FROM item;
UPDATE item SET price = price + 0.0 WHERE id % 2 = 0;
DELETE FROM item WHERE id % 5 = 0;
SELECT refresh('prices');
SELECT differences('prices'), check_storage('prices');
SET pg_trickle.refresh_strategy = full;
UPDATE item SET price = price + 0.00 WHERE id % 3 = 0;
DELETE FROM item WHERE id % 7 = 0;
SELECT refresh('prices');
SELECT differences('prices'), check_storage('prices');

-- Long values are stored apart; long keys are found by their hash.
CREATE TABLE doc (name text PRIMARY KEY, body text, n int DEFAULT 0);
ALTER TABLE doc ALTER body SET STORAGE EXTERNAL;
INSERT INTO doc SELECT 'doc ' || i, repeat(md5(i::text), 20 * (i % 6)) FROM generate_series(1, 600) i;
CREATE MATERIALIZED VIEW docs WITH (pg_trickle.incremental) AS SELECT name, body, n FROM doc;
UPDATE doc SET n = n + 1;
SELECT refresh('docs');
SET pg_trickle.refresh_strategy = delta;
UPDATE doc SET n = n + 1, body = body || 'x';
SELECT refresh('docs');
SELECT differences('docs'), check_storage('docs');
UPDATE doc SET name = upper(name);
SELECT refresh('docs');
SELECT differences('docs'), check_storage('docs');

-- Contents that fit into memory, beside more changes of stored rows than do.
SET work_mem = '64kB';
SET pg_trickle.refresh_strategy = full;
CREATE TABLE part (id int PRIMARY KEY, place int, note text);
INSERT INTO part SELECT i, i, 'n' || i FROM generate_series(1, 4000) i;
CREATE MATERIALIZED VIEW parts WITH (pg_trickle.incremental) AS SELECT id, place, note FROM part;
CREATE MATERIALIZED VIEW notes WITH (pg_trickle.incremental) AS SELECT note, place FROM part;
CREATE MATERIALIZED VIEW part_count WITH (pg_trickle.incremental) AS SELECT place % 10 AS digit, count(*) FROM parts GROUP BY 1;
CREATE UNIQUE INDEX ON parts (place);
DELETE FROM part WHERE id % 20 <> 0;
UPDATE part SET place = 4001 - place;
INSERT INTO part SELECT 5000 + i, 5000 + i, 'n' || i % 3 FROM generate_series(1, 100) i;
SELECT refresh('parts'), refresh('notes');
SELECT differences('parts'), check_storage('parts'), differences('notes'), check_storage('notes');
SET pg_trickle.refresh_strategy = delta;
SELECT refresh('part_count');
SELECT differences('part_count');
-- Contents that do not fit: by parts, in several passes over the stored rows.
SET pg_trickle.refresh_strategy = full;
INSERT INTO part SELECT 6000 + i, 6000 + i, 'n' || i % 40 FROM generate_series(1, 1200) i;
SELECT refresh('parts'), refresh('notes');
SELECT differences('parts'), check_storage('parts'), differences('notes'), check_storage('notes');
UPDATE part SET place = 13201 - place WHERE id BETWEEN 6001 AND 7200;
UPDATE part SET note = note || '+' WHERE id % 5 = 0;
DELETE FROM part WHERE id % 7 = 0;
INSERT INTO part SELECT 8000 + i, 20000 + i, 'n' || i % 2 FROM generate_series(1, 300) i;
SELECT refresh('parts'), refresh('notes');
SELECT differences('parts'), check_storage('parts'), differences('notes'), check_storage('notes');
SET pg_trickle.refresh_strategy = delta;
SELECT refresh('part_count');
SELECT differences('part_count');
-- So few and wide that there are parts without any.
SET pg_trickle.refresh_strategy = full;
CREATE TABLE page (id int PRIMARY KEY, body text);
INSERT INTO page SELECT i, 'n' || i FROM generate_series(1, 500) i;
CREATE MATERIALIZED VIEW pages WITH (pg_trickle.incremental) AS SELECT id, repeat(body, 1) AS body FROM page;
DELETE FROM page WHERE id > 5;
UPDATE page SET body = repeat(body, 10000);
SELECT refresh('pages');
SELECT differences('pages'), check_storage('pages');
RESET work_mem;
-- Stored rows of equal keys that differ in their image, and rows that are there already.
SET pg_trickle.refresh_strategy = full;
CREATE TABLE rate (id numeric(6,2) PRIMARY KEY, code float8 NOT NULL UNIQUE, note text);
INSERT INTO rate SELECT i, i, 'n' || i FROM generate_series(0, 999) i;
CREATE MATERIALIZED VIEW rates WITH (pg_trickle.incremental) AS SELECT id, note FROM rate;
CREATE MATERIALIZED VIEW codes WITH (pg_trickle.incremental) AS SELECT code, note FROM rate;
UPDATE rate SET code = '-0' WHERE code = 0;
UPDATE rate SET note = note || '+' WHERE id % 2 = 0;
SELECT refresh('rates'), refresh('codes');
SELECT differences('rates'), check_storage('rates'), differences('codes'), check_storage('codes');

-- The state of groups: many made at once, whose index is built when all are there; few; none; many changed at once, in pages that
-- keep room. Keys that are found by their hash, and states that are stored apart.
CREATE FUNCTION state(view regclass) RETURNS regclass LANGUAGE sql AS
    'SELECT s.relid::regclass FROM pgtrickle_internal.state s WHERE s.view = $1';
CREATE TABLE entry (id int PRIMARY KEY, doc int, name text, amount int);
CREATE FUNCTION entries(first int, last int) RETURNS SETOF entry LANGUAGE sql AS
    'SELECT i, i / 2, ''name '' || i / 3, i FROM generate_series(first, last) i';
INSERT INTO entry SELECT * FROM entries(1, 6000);
CREATE MATERIALIZED VIEW by_doc WITH (pg_trickle.incremental) AS
    SELECT doc, count(*) AS n, sum(amount) AS total FROM entry GROUP BY doc;
CREATE MATERIALIZED VIEW by_name WITH (pg_trickle.incremental) AS
    SELECT name, count(*) AS n, array_agg(amount ORDER BY id) AS amounts, max(amount) AS biggest FROM entry GROUP BY name;
CREATE MATERIALIZED VIEW everything WITH (pg_trickle.incremental) AS
    SELECT count(*) AS n, string_agg(repeat(md5(id::text), 10), '' ORDER BY id) AS ids FROM entry;
CREATE VIEW wrong AS SELECT v, differences(v), check_storage(v), check_storage(state(v)) AS check_state
    FROM unnest('{by_doc,by_name,everything}'::regclass[]) v;
CREATE FUNCTION refresh_all() RETURNS text[] LANGUAGE sql AS
    'SELECT ARRAY[refresh(''by_doc''), refresh(''by_name''), refresh(''everything'')]';
TABLE wrong;
UPDATE entry SET amount = amount + 1;
SELECT refresh_all();
TABLE wrong;
SET pg_trickle.refresh_strategy = delta;
UPDATE entry SET amount = amount + 1;
SELECT refresh_all();
TABLE wrong;
UPDATE entry SET amount = amount + 1;
SELECT refresh_all();
SELECT pg_stat_force_next_flush();
SELECT heap_only(state('by_doc')) AS by_doc, heap_only(state('by_name')) AS by_name \gset before_
UPDATE entry SET amount = amount + 1;
SELECT refresh_all();
SELECT pg_stat_force_next_flush();
-- As good as all of the 3001 and 2001.
SELECT heap_only(state('by_doc')) - :before_by_doc > 2700 AS by_doc, heap_only(state('by_name')) - :before_by_name > 1800 AS by_name;
TABLE wrong;
-- In a transaction that takes part of it back, and more than once.
SET pg_trickle.refresh_strategy = full;
BEGIN;
INSERT INTO entry SELECT * FROM entries(6001, 9000);
SAVEPOINT before;
SELECT refresh_all();
ROLLBACK TO before;
DELETE FROM entry WHERE id % 4 = 0;
SELECT refresh_all();
DELETE FROM entry WHERE id % 8 = 1;
SELECT refresh_all();
SET LOCAL pg_trickle.refresh_strategy = delta;
UPDATE entry SET doc = doc + 1, amount = 0 WHERE id % 3 = 0;
SELECT refresh_all();
COMMIT;
TABLE wrong;
DELETE FROM entry WHERE id > 300;
SELECT refresh_all();
TABLE wrong;
DELETE FROM entry;
SELECT refresh_all();
TABLE wrong;
SET pg_trickle.refresh_strategy = delta;
INSERT INTO entry SELECT * FROM entries(1, 2000);
SELECT refresh_all();
TABLE wrong;

SET client_min_messages = warning;
DROP SCHEMA apply_bulk CASCADE;
