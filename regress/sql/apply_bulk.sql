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

SET client_min_messages = warning;
DROP SCHEMA apply_bulk CASCADE;
